"""What the folder promises beyond the laws of every destination."""

from __future__ import annotations

import asyncio
import errno
import gzip
import os
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from batches import Notes, batch, rows
from pydantic import ValidationError
from sites import FlakyDisk, Step, site

from destinations.folder import Folder, FolderOptions
from firehose.contracts import Refused, Retry
from firehose.model import Batch
from firehose.runtime import Runtime, Threads


@pytest.fixture
def threads() -> Iterator[Threads]:
    pool = Runtime().threads("test", 2)
    yield pool
    pool.close()


@pytest.fixture
def disk() -> FlakyDisk:
    return FlakyDisk()


class Lake:
    """A folder under test and what a reader finds in it."""

    def __init__(self, root: Path, threads: Threads, disk: FlakyDisk) -> None:
        self.root = root
        self._threads = threads
        self._disk = disk

    def folder(self, **keys: Any) -> Folder:
        return Folder(FolderOptions.model_validate({"path": str(self.root), **keys}), site(self._threads, self._disk))

    def files(self) -> list[str]:
        """Every file there is, leftovers too."""
        return sorted(str(path.relative_to(self.root)) for path in self.root.rglob("*") if path.is_file())


@pytest.fixture
def lake(tmp_path: Path, threads: Threads, disk: FlakyDisk) -> Lake:
    return Lake(tmp_path / "not" / "yet" / "there", threads, disk)


async def test_writes_the_named_file(lake: Lake) -> None:
    """The object is a file under the name of the receipt, and nothing else is left in the folder."""
    receipt = await lake.folder(prefix="logs/", compression="gzip").deliver(batch([b"a", b"b"]), Notes())
    assert lake.files() == list(receipt.objects)
    stored = (lake.root / receipt.objects[0]).read_bytes()
    assert gzip.decompress(stored) == b"ab"
    assert receipt.sent_bytes == len(stored)


@pytest.mark.parametrize(
    ("step", "number"),
    [
        ("make_folder", errno.EACCES),
        ("create", errno.EACCES),
        ("write", errno.ENOSPC),
        ("sync", errno.EIO),
        ("rename", errno.EROFS),
    ],
)
async def test_disk_trouble_is_a_retry(lake: Lake, disk: FlakyDisk, step: Step, number: int) -> None:
    """Whatever step fails, the reason names the path, nothing stays behind, and a repeat succeeds."""
    folder = lake.folder()
    disk.faults.append((step, number))
    with pytest.raises(Retry) as told:
        await folder.deliver(batch([b"a"]), Notes())
    assert str(lake.root) in told.value.reason
    assert os.strerror(number) in told.value.reason
    assert lake.files() == []
    receipt = await folder.deliver(batch([b"a"]), Notes())
    assert lake.files() == list(receipt.objects)


async def test_sync_comes_before_the_name(lake: Lake, disk: FlakyDisk) -> None:
    """A file that could not be synced never gets its name, and an older object under it stays as it was."""
    folder = lake.folder()
    receipt = await folder.deliver(batch([b"old"]), Notes())
    disk.faults.append(("sync", errno.EIO))
    with pytest.raises(Retry):
        await folder.deliver(batch([b"new"]), Notes())
    assert (lake.root / receipt.objects[0]).read_bytes() == b"old"


async def test_a_repeat_clears_what_a_kill_left(lake: Lake, disk: FlakyDisk) -> None:
    """A half-written file of a killed attempt is gone once its segment is delivered."""
    folder = lake.folder()
    beside = killed_half_way(lake, folder)
    receipt = await folder.deliver(batch([b"whole"]), Notes())
    assert not beside.exists()
    assert lake.files() == list(receipt.objects)
    assert (lake.root / receipt.objects[0]).read_bytes() == b"whole"


def killed_half_way(lake: Lake, folder: Folder) -> Path:
    """Leaves the file that an attempt at the batch would have been writing to."""
    beside = Path(folder._beside(folder._encoder.name(batch([b"whole"]))))
    beside.parent.mkdir(parents=True)
    beside.write_bytes(b"who")
    return beside


async def test_an_abandoned_attempt_is_left_alone(lake: Lake, threads: Threads) -> None:
    """While an earlier attempt still writes an object, a second steps back instead of sharing its file."""
    folder = lake.folder()
    begun, go_on = threading.Event(), threading.Event()
    whole = batch([b"a"])

    def read() -> Iterator[pa.RecordBatch]:
        begun.set()
        go_on.wait(300)
        yield rows([b"a"])

    async def second() -> None:
        await threads.run(lambda: begun.wait(300))
        try:
            with pytest.raises(Retry, match="an earlier attempt still writes"):
                await folder.deliver(whole, Notes())
        finally:
            go_on.set()

    first, _ = await asyncio.gather(folder.deliver(Batch(whole.segment, read), Notes()), second())
    assert (lake.root / first.objects[0]).read_bytes() == b"a"
    await folder.deliver(whole, Notes())


async def test_names_never_lead_out(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    """A name that would leave the folder is refused, even if naming should ever make one."""
    folder = lake.folder()
    for name in ("../up", "a/../../up", "/etc/up", "a/./b"):
        monkeypatch.setattr("firehose.objects.ObjectEncoder.name", lambda _, __, name=name: name)
        with pytest.raises(Refused, match="leads out of the folder"):
            await folder.deliver(batch([b"a"]), Notes())
    assert not lake.root.exists()


async def test_a_name_too_long_for_the_file_system_is_refused(lake: Lake) -> None:
    """No repeat makes a name fit that the file system does not take."""
    with pytest.raises(Refused, match="shorten the prefix"):
        await lake.folder(prefix="x" * 300 + "/").deliver(batch([b"a"]), Notes())


async def test_new_folders_are_durable(lake: Lake, disk: FlakyDisk, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every folder that gained a name is synced, up to the one that was there before."""
    synced: list[str] = []
    monkeypatch.setattr(FlakyDisk, "sync_folder", lambda _, path: synced.append(path))
    receipt = await lake.folder(prefix="p/").deliver(batch([b"a"]), Notes())
    holders = (lake.root / receipt.objects[0]).parents
    wanted = [str(holder) for holder in holders if holder.is_relative_to(lake.root.parent.parent.parent)]
    assert set(wanted) <= set(synced)
    assert synced[-1] == wanted[0]


async def test_streams_and_versions_live_together(lake: Lake) -> None:
    """Objects of several streams and versions share a folder without touching each other."""
    folder = lake.folder()
    one = batch([b"a"])
    for of in (one.segment, replace(one.segment, stream="b"), replace(one.segment, version=2)):
        await folder.deliver(batch([b"a"], of=of), Notes())
    assert len(lake.files()) == 3


async def test_limit_is_a_retry_until_room_is_made(lake: Lake) -> None:
    """A folder at its limit takes nothing more, says so, and goes on once files are gone."""
    folder = lake.folder(limit_gib=64 / 2**30)
    await folder.deliver(batch([b"x" * 64]), Notes())
    with pytest.raises(Retry, match="at its limit_gib; move files away"):
        await folder.deliver(batch([b"y"], first=1), Notes())
    (lake.root / lake.files()[0]).unlink()
    await folder.deliver(batch([b"y"], first=1), Notes())
    assert len(lake.files()) == 1


async def test_check_says_what_to_mend(tmp_path: Path, threads: Threads, disk: FlakyDisk) -> None:
    """A check of a folder that cannot be says where and why."""
    (tmp_path / "file").touch()
    with pytest.raises(Retry) as told:
        await Lake(tmp_path / "file" / "lake", threads, disk).folder().check()
    assert str(tmp_path / "file") in told.value.reason


@pytest.mark.parametrize("path", ["", "a\0b"])
def test_path_must_be_one(path: str) -> None:
    """A path is not empty and holds no NUL."""
    with pytest.raises(ValidationError):
        FolderOptions(path=path)
