"""Every record of every acknowledged request is in the objects, once: no figure counts without it."""

from __future__ import annotations

import re
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from bench import corpus, load
from bench.corpus import Shape
from isal import isal_zlib
from pyarrow import parquet

_NUMBER = re.compile(rb'"number": "(\d{12})"')
_ID = re.compile(rb'"id": "(\d{4}-\d{4})"')
GZIP = 16 + zlib.MAX_WBITS
PLAIN = ".ndjson"  # the name of what is not compressed
READ_BYTES = 1 << 20
CLOSED_WITHOUT_ANSWER = (load.UNKNOWN,)  # such a request may or may not have been stored
Found = tuple[list[bytes], list[bytes]]  # numbers of requests, ids of records


class Wrong(Exception):
    """Records are missing, doubled or invented."""


@dataclass(frozen=True, slots=True)
class Sent:
    """What one load sent: the number of its first request, and the fate of each."""

    shape: Shape
    first: int
    flags: bytes
    bodies: int = corpus.BODIES  # request n sent body n % bodies


def check(folder: Path, sent: Iterable[Sent]) -> None:
    """Raises `Wrong` unless exactly the acknowledged requests were delivered, each record of them once."""
    check_found((found for path in folder.iterdir() for found in _delivered(path)), sent)


def found_in(text: bytes) -> Found:
    """Of JSON lines that are whole."""
    return _NUMBER.findall(text), _ID.findall(text)


def check_found(found: Iterable[Found], sent: Iterable[Sent]) -> None:
    """The same of whatever was found elsewhere."""
    numbers, ids = Counter[int](), Counter[bytes]()
    for some_numbers, some_ids in found:
        numbers.update(map(int, some_numbers))
        ids.update(some_ids)
    delivered = Counter[bytes]()
    for one in sent:
        bodies = Counter[int]()
        for index, flag in enumerate(one.flags):
            times = numbers.pop(one.first + index, 0)
            allowed = (0, 1) if flag in CLOSED_WITHOUT_ANSWER else (int(flag == load.ACCEPTED),)
            if times not in allowed:
                raise Wrong(f"request {one.first + index} (fate {flag}) was delivered {times} times")
            if times:
                bodies[(one.first + index) % one.bodies] += 1
        for body, times in bodies.items():
            delivered.update({f"{body:04d}-{row:04d}".encode(): times for row in range(one.shape.records)})
    if numbers:
        raise Wrong(f"requests were delivered that were never sent: {list(numbers)[:5]}")
    if ids != delivered:
        raise Wrong(f"records differ: missing {(delivered - ids).total()}, too many {(ids - delivered).total()}")


def _delivered(path: Path) -> Iterator[Found]:
    return _columns(path) if path.suffix == ".parquet" else _lines(path)


def _columns(path: Path) -> Iterator[Found]:
    """Numbers and ids of a Parquet file's rows, row group by row group."""
    with parquet.ParquetFile(path) as file:
        for batch in file.iter_batches(columns=["number", "id"]):
            numbers, ids = (batch.column(name).cast("binary").to_pylist() for name in ("number", "id"))
            yield [number for number in numbers if number.isdigit()], ids


def _lines(path: Path) -> Iterator[Found]:
    """Those of JSON lines; a schema beside the data has none."""
    for text in _texts(path):
        yield found_in(text)


def _texts(path: Path) -> Iterator[bytes]:
    """An object's lines, many at once, none cut."""
    if path.suffix == ".json":
        return
    rest = b""
    for piece in _pieces(path):
        text = rest + piece
        cut = text.rfind(b"\n") + 1
        yield text[:cut]
        rest = text[cut:]
    if rest:
        yield rest


def _pieces(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        if path.suffix == PLAIN:
            yield from iter(lambda: file.read(READ_BYTES), b"")
            return
        unpacked = isal_zlib.decompressobj(GZIP)
        while data := file.read(READ_BYTES):
            while data:
                yield unpacked.decompress(data)
                data = unpacked.unused_data
                if unpacked.eof:
                    unpacked = isal_zlib.decompressobj(GZIP)
