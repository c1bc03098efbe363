"""Bytes that several destinations want alike: encoded once, read by each, and never a reason to wait or to fail."""

from __future__ import annotations

import errno
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from sites import FlakyDisk

from firehose.buffer.disk import LocalDisk
from firehose.delivery.workshop import alike_at
from firehose.encoded_once import EncodedOnce, Key, clear
from firehose.formats import Encoded
from firehose.model import Rejections

BOTH = frozenset({"a", "b"})


def key(first: int = 0) -> Key:
    return (("app", "lane", first), BOTH)


@dataclass
class Encoding:
    """Gives these chunks, once; `begun` is waited for before the first."""

    given: tuple[bytes, ...] = (b"one", b"two")
    begun: Callable[[], object] = lambda: None
    companions: Mapping[str, bytes] = field(default_factory=dict)
    refused: Rejections = field(default_factory=Rejections)
    times: int = 0

    def __call__(self) -> Encoded:
        self.times += 1
        return self

    @property
    def chunks(self) -> Iterator[bytes]:
        self.begun()
        yield from self.given


def read(once: EncodedOnce, folder: Path, encode: Callable[[], Encoded], first: int = 0) -> bytes | None:
    kept = once.kept(key(first), LocalDisk(), str(folder), encode)
    if kept is None:
        return None
    try:
        return b"" if kept.view is None else b"".join(bytes(memoryview(piece)) for piece in kept.pieces())
    finally:
        kept.close()


def test_encoded_once_for_all(tmp_path: Path) -> None:
    """Whoever comes second reads what the first has encoded; the file goes when the last one has it."""
    once, encode = EncodedOnce(), Encoding()
    assert [read(once, tmp_path, encode) for _ in BOTH] == [b"onetwo", b"onetwo"]
    assert encode.times == 1
    once.taken(key(), "a", LocalDisk())
    assert len(list(tmp_path.iterdir())) == 1
    once.taken(key(), "b", LocalDisk())
    assert list(tmp_path.iterdir()) == []
    assert read(once, tmp_path, encode) == b"onetwo", "a repeat encodes anew"
    assert encode.times == 2


def test_who_comes_meanwhile_waits(tmp_path: Path) -> None:
    """Two at the same time encode once: the second waits for the first, and only for it."""
    once, begun, go_on = EncodedOnce(), threading.Event(), threading.Event()

    def begin() -> None:
        begun.set()
        go_on.wait(300)

    encode = Encoding(begun=begin)
    found: list[bytes | None] = []
    threads = [threading.Thread(target=lambda: found.append(read(once, tmp_path, encode))) for _ in BOTH]
    for thread in threads:
        thread.start()
    assert begun.wait(300)
    assert read(once, tmp_path, Encoding((b"other",)), first=1) == b"other", "another segment waits for nobody"
    go_on.set()
    for thread in threads:
        thread.join(300)
    assert (found, encode.times) == ([b"onetwo", b"onetwo"], 1)


def test_nothing_left_to_encode(tmp_path: Path) -> None:
    """Where every row is refused there is no object, for any of them."""
    once, encode = EncodedOnce(), Encoding(())
    assert [read(once, tmp_path, encode) for _ in BOTH] == [b"", b""]
    assert (encode.times, list(tmp_path.iterdir())) == (1, [])


@pytest.mark.parametrize("step", ["make_folder", "create", "write"])
def test_failing_disk(step: str, tmp_path: Path) -> None:
    """Where the disk fails each encodes for itself, and nothing half made is ever read."""
    once, disk, encode = EncodedOnce(), FlakyDisk(), Encoding()
    disk.faults = [(step, errno.ENOSPC)]  # type: ignore[list-item]
    assert once.kept(key(), disk, str(tmp_path), encode) is None
    assert list(tmp_path.iterdir()) == []
    assert read(once, tmp_path, encode) == b"onetwo"


def test_what_encoding_says_is_told(tmp_path: Path) -> None:
    """A failure of the encoding itself is not taken for one of the disk."""

    def fail() -> None:
        raise ValueError("a bug")

    with pytest.raises(ValueError, match="a bug"):
        read(EncodedOnce(), tmp_path, Encoding(begun=fail))
    assert list(tmp_path.iterdir()) == []


def test_nearly_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where little room is left nothing is kept."""
    monkeypatch.setattr(LocalDisk, "free_bytes", lambda self, path: 1000)
    assert read(EncodedOnce(), tmp_path, Encoding()) is None
    assert list(tmp_path.iterdir()) == []


def test_bound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Past the bound the oldest goes, also where a destination that is away has not taken it."""
    monkeypatch.setattr("firehose.encoded_once.LIMIT_BYTES", 10)
    once, encode = EncodedOnce(), Encoding()
    for first in range(4):
        assert read(once, tmp_path, encode, first) == b"onetwo"
        assert len(list(tmp_path.iterdir())) == 1
    assert read(once, tmp_path, encode, 0) == b"onetwo"
    assert encode.times == 5


def test_leftovers(tmp_path: Path) -> None:
    """A start clears what a kill has left, and does without a folder that nobody has made."""
    (tmp_path / "left").write_bytes(b"half")
    clear(LocalDisk(), str(tmp_path))
    clear(LocalDisk(), str(tmp_path / "none"))
    assert list(tmp_path.iterdir()) == []


PARQUET = {"type": "parquet", "schema": {"columns": {"n": "int"}}}


@pytest.mark.parametrize(
    ("others", "alike"),
    [
        ({"format": PARQUET}, {"a", "b"}),
        ({"format": PARQUET, "prefix": "x/", "retry": {"deadline_seconds": 3}}, {"a", "b"}),
        ({"format": {**PARQUET, "compression": "zstd"}}, set()),
        ({"format": PARQUET, "where": ".n > 1"}, set()),
        ({"format": {"type": "parquet", "schema": "infer"}}, set()),
        ({"type": "http", "url": "http://far/"}, set()),
    ],
)
def test_who_wants_the_same(others: dict[str, object], alike: set[str]) -> None:
    """Only what shapes the bytes counts, and only columns that are given have the same shape everywhere."""
    mine = {"name": "a", "type": "folder", "path": "a", "format": PARQUET}
    definition = {"destinations": [mine, {"type": "s3", "bucket": "b", **others, "name": "b"}]}
    assert alike_at(definition, "a") == alike
    assert alike_at({**definition, "dynamic_partitioning": {"columns": ["n"]}}, "a") == set()
    backup = {"type": "folder", "path": "c", "format": PARQUET}
    assert alike_at({"destination": mine, "backup": backup}, "a") == set()
