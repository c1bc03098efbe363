"""Objects as files: whatever is read, wherever, is what the object holds, and no more is fetched than is near it."""

from __future__ import annotations

import gzip
import io
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lake import packed

from firehose.buffer.disk import LocalDisk
from firehose.lake.files import READ_AHEAD_BYTES, Lake
from firehose.lake.places import Object
from firehose.letters.shelf import FolderShelf, Withheld
from firehose.model import Stored

CONTENT = bytes(range(255, -1, -1)) * 4096  # four times what is read ahead


def opened(folder: Path, content: bytes, kind: str, read: list[int] | None = None) -> io.RawIOBase:
    (folder / "object").write_bytes(content)
    lake = Lake((read if read is not None else []).append)
    lake.add(
        "app/", FolderShelf(LocalDisk(), str(folder)), [Object(Stored("object", len(content), 0), kind, {})], ["k"]
    )
    (path,) = lake.glob("lake://app/**")
    assert path == "app/k=__HIVE_DEFAULT_PARTITION__/0"
    return lake.open(f"lake://{path}")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("files")


PLACES = st.lists(st.tuples(st.integers(0, len(CONTENT) + 5), st.integers(-1, 2 * READ_AHEAD_BYTES)), max_size=8)


@pytest.mark.parametrize("kind", ["parquet", "json"])
@given(places=PLACES)
def test_any_places(folder: Path, kind: str, places: list[tuple[int, int]]) -> None:
    """Reading here and there is as reading in the object, or in what it was packed from."""
    file = opened(folder, CONTENT, kind)
    expected = io.BytesIO(CONTENT if kind == "parquet" else opened(folder, CONTENT, kind).readall())
    for at, size in places:
        file.seek(at)
        expected.seek(min(at, len(expected.getvalue())))
        assert file.read(size) == expected.read(size)


def test_what_is_fetched(folder: Path) -> None:
    """A footer comes with what lies before it, in one request; so does what follows a first small read."""
    read: list[int] = []
    file = opened(folder, CONTENT, "parquet", read)
    file.seek(-8, io.SEEK_END)
    assert file.read(8) == CONTENT[-8:]
    file.seek(-5000, io.SEEK_END)
    assert file.read(4992) == CONTENT[-5000:-8]
    assert read == [READ_AHEAD_BYTES]


def test_every_thread_has_its_place(folder: Path) -> None:
    """What one thread seeks is not what another reads: DuckDB's threads share a file."""
    file = opened(folder, CONTENT, "parquet")
    file.seek(100)
    with ThreadPoolExecutor(1) as other:
        other.submit(file.seek, 7).result()
        assert file.read(3) == CONTENT[100:103]
        assert other.submit(file.read, 2).result() == CONTENT[7:9]


def test_packed_content_is_gzip(folder: Path) -> None:
    """Whatever an object was packed with comes as one gzip stream; its header is there before anything is read."""
    for compression in ("none", "gzip", "zip", "snappy", "hadoop_snappy", "zstd"):
        read: list[int] = []
        file = opened(folder, packed([b"line\n"] * 1000, compression), "json", read)
        assert len(file.read(10)) == 10
        assert read == []
        file.seek(0)
        assert gzip.decompress(file.readall()) == b"line\n" * 1000


def test_no_ranges(folder: Path) -> None:
    """A store that gives other bytes than were asked for is not believed."""
    (folder / "short").write_bytes(b"abc")
    with pytest.raises(Withheld, match="4 bytes were asked for, and 2 came"):
        FolderShelf(LocalDisk(), str(folder)).part("short", 1, 4)


def test_nothing_is_written(folder: Path) -> None:
    """A file of the lake cannot be opened for writing, and one that nobody added does not exist."""
    lake = Lake()
    with pytest.raises(PermissionError):
        lake.open("lake://app/x", "wb")
    with pytest.raises(FileNotFoundError):
        lake.open("lake://app/x")
    assert lake.glob("lake://../../etc/passwd") == []
    assert not lake.exists("lake://etc/passwd")
