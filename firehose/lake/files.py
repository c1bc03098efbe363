"""Delivered objects as files for DuckDB, which has no other way to data: it opens `lake://STREAM/KIND/NAME` here alone.

Columnar objects are read in ranges. Those of JSON are decompressed here, whatever packed them, and handed on as gzip
without compression: a stream that needs neither its size nor more than a few blocks of memory.
"""

from __future__ import annotations

import io
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from threading import get_ident
from typing import Any, NoReturn
from urllib.parse import quote

from fsspec import AbstractFileSystem

from firehose.lake.places import Object
from firehose.letters.shelf import Gone, Shelf, Unreadable, Withheld
from firehose.letters.unpacking import Damaged, unpacked

PROTOCOL = "lake"
READ_AHEAD_BYTES = 256 * 1024  # of a columnar object: footers and small columns come in one request
HIVE_NULL = "__HIVE_DEFAULT_PARTITION__"  # Hive's and Spark's word for a key that a row does not have
STORED_GZIP = 31
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Item:
    """An object, and the shelf that it lies on."""

    shelf: Shelf
    object: Object

    @property
    def address(self) -> str:
        return self.shelf.address(self.object.stored.name)


class Lake(AbstractFileSystem):  # type: ignore[misc]  # fsspec has no types
    """All files that a query may open, by path. DuckDB's threads call it."""

    protocol = PROTOCOL
    cachable = False

    def __init__(self, report: Callable[[int], object] = lambda size_bytes: None) -> None:
        super().__init__()
        self._items: dict[str, Item] = {}
        self._report = report
        self.damaged: dict[str, str] = {}  # what could not be read, by path, and why
        self.unreachable: Unreadable | None = None  # the store's failure, which is no object's

    def add(self, folder: str, shelf: Shelf, objects: Iterable[Object], keys: Iterable[str]) -> None:
        """Files of these objects in `folder`, which ends in a slash. All their paths have the same keys, as DuckDB
        wants them, and nothing in them means anything else to it: an object's name is for people.
        """
        for number, one in enumerate(objects):
            values = {key: quote(one.keys.get(key, HIVE_NULL), safe="") for key in keys}
            self._items[f"{folder}{''.join(f'{key}={value}/' for key, value in values.items())}{number}"] = Item(
                shelf, one
            )

    def remove(self, path: str) -> None:
        del self._items[path]

    def paths(self, folder: str = "") -> list[str]:
        return [path for path in self._items if path.startswith(folder)]

    def item(self, path: str) -> Item:
        return self._items[path]

    # What DuckDB asks.

    def glob(self, path: str, **_: Any) -> list[str]:
        below = self._strip_protocol(path)
        if below.endswith("/**"):
            return self.paths(below[:-2])
        return [below] if below in self._items else []

    def open(self, path: str, mode: str = "rb", **_: Any) -> io.RawIOBase:
        if mode != "rb":
            raise PermissionError("delivered objects are never changed")
        path = self._strip_protocol(path)
        found = self._known(path)
        read = Reading(found, path, self)
        return Ranged(read, found.object.stored.size_bytes) if found.object.kind != "json" else Unpacked(read)

    def exists(self, path: str, **_: Any) -> bool:
        return self._strip_protocol(path) in self._items

    def info(self, path: str, **_: Any) -> dict[str, Any]:
        stored = self._known(self._strip_protocol(path)).object.stored
        return {"name": path, "size": stored.size_bytes, "type": "file"}

    def modified(self, path: str) -> datetime:
        return EPOCH + timedelta(milliseconds=self._known(self._strip_protocol(path)).object.stored.written_ms)

    def _known(self, path: str) -> Item:
        try:
            return self._items[path]
        except KeyError:
            raise FileNotFoundError(f"{PROTOCOL}://{path}: there is no such object") from None

    # What files tell.

    def failed(self, path: str, error: Exception) -> NoReturn:
        """Remembers why: DuckDB repeats no more than a part of it."""
        if isinstance(error, Damaged | Withheld | Gone):
            self.damaged.setdefault(path, str(error))
        elif isinstance(error, Unreadable) and self.unreachable is None:
            self.unreachable = error
        raise OSError(str(error)) from None

    def came(self, size_bytes: int) -> None:
        self._report(size_bytes)


@dataclass(frozen=True, slots=True)
class Reading:
    """The bytes of one file as they are stored."""

    item: Item
    path: str
    lake: Lake

    def part(self, start: int, size_bytes: int) -> bytes:
        try:
            got = self.item.shelf.part(self.item.object.stored.name, start, size_bytes)
        except Unreadable as error:
            self.lake.failed(self.path, error)
        self.lake.came(len(got))
        return got

    def content(self) -> Iterator[bytes]:
        """Piece by piece, unpacked."""
        try:
            yield from unpacked(self._pieces())
        except (Unreadable, Damaged) as error:
            self.lake.failed(self.path, error)

    def _pieces(self) -> Iterator[bytes]:
        for piece in self.item.shelf.pieces(self.item.object.stored.name):
            self.lake.came(len(piece))
            yield piece


class Ranged(io.RawIOBase):
    """A file of known size, read wherever one likes; what lies behind the last place is fetched with it.

    Several of DuckDB's threads seek and read in one and the same file: each has a place of its own.
    """

    def __init__(self, reading: Reading, size_bytes: int) -> None:
        self._reading = reading
        self._size = size_bytes
        self._places: dict[int, int] = {}
        self._held = (0, b"")  # where they begin, and bytes: replaced together

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._places.get(get_ident(), 0)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        place = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self.tell(), io.SEEK_END: self._size}[whence]
        self._places[get_ident()] = place
        return place

    def read(self, size: int = -1) -> bytes:
        at = self.tell()
        end = self._size if size < 0 else min(at + size, self._size)
        if at >= end:
            return b""
        begin, held = self._held
        if not begin <= at <= end <= begin + len(held):
            begin, held = self._held = self._fetched(at, end)
        self._places[get_ident()] = end
        return held[at - begin : end - begin]

    def _fetched(self, begin: int, end: int) -> tuple[int, bytes]:
        end = min(max(end, begin + READ_AHEAD_BYTES), self._size)
        begin = max(0, min(begin, end - READ_AHEAD_BYTES))  # at the end of a file, the footer lies before it
        return begin, self._reading.part(begin, end - begin)


class Unpacked(io.RawIOBase):
    """A file that is read from its start, and from its start again."""

    def __init__(self, reading: Reading) -> None:
        self._reading = reading
        self._at = 0
        self._held = bytearray()  # read, and not asked for yet
        self._source: Iterator[bytes] | None = _stored(reading.content())

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        target = offset + (self._at if whence == io.SEEK_CUR else 0)
        if target < self._at:
            self._rewind()
        while self._at < target and self.read(min(target - self._at, READ_AHEAD_BYTES)):
            pass
        return self._at

    def read(self, size: int = -1) -> bytes:
        while self._source is not None and (size < 0 or len(self._held) < size):
            if piece := next(self._source, b""):
                self._held += piece
            else:
                self._source = None
        size = len(self._held) if size < 0 else size
        got = bytes(self._held[:size])
        del self._held[:size]
        self._at += len(got)
        return got

    def _rewind(self) -> None:
        self._at = 0
        self._held.clear()
        self._source = _stored(self._reading.content())


def _stored(content: Iterator[bytes]) -> Iterator[bytes]:
    """A gzip member whose blocks are as they came. Its header is there before anything is read."""
    member = zlib.compressobj(0, wbits=STORED_GZIP)
    yield member.compress(b"")
    for piece in content:
        if packed := member.compress(piece):
            yield packed
    yield member.flush()
