"""Delivered objects for tests, named and packed as destinations do it, and queries over them."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.orc
import pyarrow.parquet as pq
from batches import segment

from firehose import config
from firehose.aws import Clients
from firehose.buffer.disk import LocalDisk
from firehose.compression import codec
from firehose.config import Config
from firehose.lake import places
from firehose.lake.engine import Bounds, tables
from firehose.lake.places import Place
from firehose.lake.views import Answer, Views
from firehose.objects import ObjectOptions

LINES = [b'{"status":200,"ms":1.5}\n', b'{"status":404}\n']


def parsed(**streams: Mapping[str, Any]) -> Config:
    """A configuration of these streams (`_` stands for `-`), each with a destination."""
    definitions = {name.replace("_", "-"): {"destination": block} for name, block in streams.items()}
    return config.parse("firehose.yaml", str({"delivery_streams": definitions}))


def place(configured: Config, stream: str, destination: str | None = None) -> Place:
    return places.of_stream(configured, stream, destination, LocalDisk(), Clients())


def name(configured: Config, stream: str, first: int = 0, destination: str | None = None, extension: str = "") -> str:
    """The name of the stream's object that begins with record `first`."""
    block = place(configured, stream, destination).block
    assert isinstance(block, ObjectOptions)
    names = block.names() if not extension else replace(block.names(), extension=extension)
    return names.data(segment(stream=stream, first=first))


def packed(records: Iterable[bytes], compression: str) -> bytes:
    return b"".join(codec(compression).compress(records, "entry"))


def parquet(rows: list[dict[str, Any]], **options: Any) -> bytes:
    sink = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows), sink, **options)
    return sink.getvalue()


def orc(rows: list[dict[str, Any]]) -> bytes:
    sink = io.BytesIO()
    pyarrow.orc.write_table(pa.Table.from_pylist(rows), sink)
    return sink.getvalue()


def write(path: Path, content: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


@contextmanager
def closing(of: Place) -> Iterator[Place]:
    try:
        yield of
    finally:
        of.shelf.close()


@contextmanager
def opened(
    folder: Path,
    *of: Place,
    skip_damaged: bool = False,
    memory_mib: float = 256,
    report: Callable[[int], object] = lambda size_bytes: None,
) -> Iterator[Views]:
    """Views of these places, each under its stream's name as a word."""
    spill = folder / "spill"
    spill.mkdir(exist_ok=True)
    views = Views(Bounds(memory_mib, 64, str(spill)), report, skip_damaged)
    try:
        for one in of:
            views.add(one, one.objects()[0], [places.plain(one.stream.name)])
        yield views
    finally:
        views.close()


def asked(folder: Path, text: str, *of: Place, **how: Any) -> Answer:
    """What the query comes to, put as the command puts it."""
    assert tables(text) <= {places.plain(one.stream.name) for one in of}
    with opened(folder, *of, **how) as views:
        return views.ask(text, 10_000)
