"""Refused rows on the disk: none is lost, whatever the disk does, and memory has a bound."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

import pyarrow as pa
import pytest
from batches import rows, segment

from firehose import set_aside
from firehose.buffer.disk import LocalDisk
from firehose.contracts import Disk, Writer
from firehose.model import Rejections
from firehose.set_aside import Scratch, SetAside

KEY = segment([b"x"]).key
RECORD_BYTES, ROWS = 1000, 100


class FullDisk(LocalDisk):
    def free_bytes(self, path: str) -> int:
        return 1 << 20


class BrokenDisk(LocalDisk):
    def create(self, path: str) -> Writer:
        raise OSError(errno.EIO, "Input/output error")


class TornDisk(LocalDisk):
    """Lets a file be made, and nothing be written into it."""

    def create(self, path: str) -> Writer:
        writer = super().create(path)
        writer.close()
        return writer


@pytest.fixture(autouse=True)
def little(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(set_aside, "HELD_BYTES", 3 * ROWS * RECORD_BYTES)
    monkeypatch.setattr(set_aside, "ROOM_BYTES", 2 << 20)


def refused(times: int) -> Iterator[Rejections]:
    for number in range(times):
        given = rows([b"%d" % number + bytes(RECORD_BYTES)] * ROWS)
        yield Rejections.of(given, "format-conversion-failed", "Code", f"message {number}")


def added(disk: Disk | None, folder: Path, times: int) -> SetAside:
    made = SetAside(Scratch(disk, str(folder), "lake") if disk else None, KEY)
    for one in refused(times):
        made.add(one)
    return made


def whole(times: int) -> pa.Table:
    return pa.concat_tables([one.table for one in refused(times)])


def test_memory_has_a_bound(tmp_path: Path) -> None:
    """All rows come back in their order, most of them from files that have no name any more."""
    before = pa.total_allocated_bytes()
    made = added(LocalDisk(), tmp_path, 40)
    assert pa.total_allocated_bytes() - before < 8 * ROWS * RECORD_BYTES
    assert not list(tmp_path.iterdir())
    assert made.all().table.equals(whole(40))


@pytest.mark.parametrize("disk", [None, FullDisk(), BrokenDisk(), TornDisk()], ids=lambda disk: type(disk).__name__)
def test_without_a_disk(tmp_path: Path, disk: Disk | None) -> None:
    """Where the disk has no room, fails, or is not there, rows stay in memory, and no file stays behind."""
    assert added(disk, tmp_path / "scratch", 10).all().table.equals(whole(10))
    assert not [one for one in tmp_path.rglob("*") if one.is_file()]


def test_what_a_kill_has_left(tmp_path: Path) -> None:
    """A file of that name is no hindrance."""

    class Killed(LocalDisk):
        def view(self, path: str) -> NoReturn:
            raise KeyboardInterrupt

        def remove(self, path: str) -> None:
            pass

    with pytest.raises(KeyboardInterrupt):
        added(Killed(), tmp_path, 4)
    assert len(list(tmp_path.iterdir())) == 1
    assert added(LocalDisk(), tmp_path, 10).all().table.equals(whole(10))
    assert not list(tmp_path.iterdir())


def test_few_stay_in_memory(tmp_path: Path) -> None:
    """The usual batch has no or few bad rows, and makes no file."""
    assert added(BrokenDisk(), tmp_path, 2).all().table.equals(whole(2))
    assert len(added(None, tmp_path, 0).all()) == 0
