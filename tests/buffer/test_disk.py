"""The real disk keeps what its door promises; the faulty one agrees with it on everything that can be seen."""

from __future__ import annotations

import errno
import fcntl
import mmap
import os
from pathlib import Path

import pyarrow as pa
import pytest
from faulty_disk import Fault, FaultyDisk

from firehose.buffer import disk as module
from firehose.buffer.disk import LocalDisk
from firehose.contracts import Disk


@pytest.fixture(params=["local", "faulty"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Disk, str]:
    """A disk of either kind and an empty folder on it."""
    disk: Disk = LocalDisk() if request.param == "local" else FaultyDisk()
    root = str(tmp_path / "root")
    disk.make_folder(root)
    return disk, root


def write(disk: Disk, path: str, *chunks: bytes | memoryview | pa.Buffer) -> int:
    writer = disk.create(path)
    size = writer.write(*chunks)
    writer.sync()
    writer.close()
    return size


def test_files(place: tuple[Disk, str]) -> None:
    """Files are written in chunks, read, measured, listed in order, renamed and removed."""
    disk, root = place
    assert write(disk, f"{root}/b", b"one", b"", memoryview(b"two"), pa.py_buffer(b"three")) == 11
    write(disk, f"{root}/a")
    assert (disk.read(f"{root}/b"), disk.size(f"{root}/b"), disk.list(root)) == (b"onetwothree", 11, ["a", "b"])
    disk.rename(f"{root}/b", f"{root}/c")
    disk.sync_folder(root)
    disk.remove(f"{root}/a")
    assert (disk.list(root), disk.exists(f"{root}/a"), disk.exists(f"{root}/c")) == (["c"], False, True)
    assert disk.free_bytes(root) > 0


def test_tree(place: tuple[Disk, str]) -> None:
    """All files below a folder are told by their names from there; a folder that is not there has none."""
    disk, root = place
    disk.make_folder(f"{root}/b/c")
    for name in ("z", "b/two", "b/c/three", "a"):
        write(disk, f"{root}/{name}", name.encode())
    found = [(file.name, file.size_bytes) for file in disk.tree(root)]
    assert found == [("a", 1), ("z", 1), ("b/two", 5), ("b/c/three", 9)]
    assert list(disk.tree(f"{root}/none")) == []


def test_tree_of_the_real_disk(tmp_path: Path) -> None:
    """Files have the time of their last change; neither links to folders nor pipes are looked into."""
    (tmp_path / "file").write_bytes(b"x")
    os.utime(tmp_path / "file", ns=(0, 1_772_366_400_123_000_000))
    (tmp_path / "again").symlink_to(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    assert [(file.name, file.written_ms) for file in LocalDisk().tree(str(tmp_path))] == [("file", 1_772_366_400_123)]
    with pytest.raises(NotADirectoryError):
        list(LocalDisk().tree(str(tmp_path / "file")))


def test_create_only_what_is_not_there(place: tuple[Disk, str]) -> None:
    """A file is never created over another."""
    disk, root = place
    write(disk, f"{root}/a", b"kept")
    with pytest.raises(FileExistsError):
        disk.create(f"{root}/a")
    assert disk.read(f"{root}/a") == b"kept"


def test_missing_things(place: tuple[Disk, str]) -> None:
    """What is not there lists as empty, and is FileNotFoundError to all else."""
    disk, root = place
    assert disk.list(f"{root}/none") == []
    for call in (disk.read, disk.size, disk.view, disk.remove):
        with pytest.raises(FileNotFoundError):
            call(f"{root}/none")


def test_what_cannot_be_looked_at_is_not_called_gone(tmp_path: Path) -> None:
    """A name that nothing can have is not there; where the disk refuses the look, that is an error and not a no: a
    start that took a ledger for gone would write an empty one over it.
    """
    disk, root = LocalDisk(), str(tmp_path)
    write(disk, f"{root}/file")
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "dangling").symlink_to("none")
    for name in ("none", "file/below", "dangling", "a" * 300, "nul\0"):
        assert not disk.exists(f"{root}/{name}")
    with pytest.raises(OSError, match="symbolic links"):
        disk.exists(f"{root}/loop")


def test_reopen_cuts_and_appends(place: tuple[Disk, str]) -> None:
    """A file reopened is cut where it was told and grows from there."""
    disk, root = place
    write(disk, f"{root}/a", b"kept, torn")
    writer = disk.reopen(f"{root}/a", 4)
    writer.write(b"!")
    writer.sync()
    writer.close()
    assert disk.read(f"{root}/a") == b"kept!"


def test_a_closed_writer_fails(place: tuple[Disk, str]) -> None:
    """Writing to or syncing a closed file is an OSError, never another file's success."""
    disk, root = place
    writer = disk.create(f"{root}/a")
    writer.close()
    writer.close()
    for call in (lambda: writer.write(b"x"), writer.sync):
        with pytest.raises(OSError, match="Bad file descriptor"):
            call()


def test_replace(place: tuple[Disk, str]) -> None:
    """A file is replaced whole, also where a crash left the new one half written."""
    disk, root = place
    write(disk, f"{root}/a.new", b"half")
    for content in (b"one", b"two"):
        disk.replace(f"{root}/a", content)
        assert (disk.read(f"{root}/a"), disk.list(root)) == (content, ["a"])


def test_views(place: tuple[Disk, str]) -> None:
    """A mapped file reads the same after its pages are let go, and outlives removal and close; empty files map too."""
    disk, root = place
    content = os.urandom(3 * mmap.PAGESIZE + 5)
    write(disk, f"{root}/a", content)
    write(disk, f"{root}/empty")
    view = disk.view(f"{root}/a")
    array = view.buffer.slice(10)
    view.release(0, 2 * mmap.PAGESIZE + 1)
    disk.remove(f"{root}/a")
    assert bytes(view.buffer) == content
    view.close()
    assert bytes(array) == content[10:]
    assert len(disk.view(f"{root}/empty").buffer) == 0


def test_folders(place: tuple[Disk, str]) -> None:
    """Folders are made with all that is missing above them; only an empty one is removed."""
    disk, root = place
    disk.make_folder(f"{root}/a/b")
    disk.make_folder(f"{root}/a/b")
    with pytest.raises(OSError, match="not empty"):
        disk.remove_folder(f"{root}/a")
    disk.remove_folder(f"{root}/a/b")
    assert disk.list(f"{root}/a") == []


def test_locks(place: tuple[Disk, str]) -> None:
    """One holder at a time, of a folder or a file, until it is closed."""
    disk, root = place
    for path in (root, f"{root}/lock"):
        held = disk.lock(path)
        assert held is not None
        assert disk.lock(path) is None
        held.close()
        again = disk.lock(path)
        assert again is not None
        again.close()


def test_lock_that_cannot_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file system without locks is an OSError, not a lock that another has."""

    def refuse(descriptor: int, flags: int) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", refuse)
    with pytest.raises(OSError, match="No locks available"):
        LocalDisk().lock(str(tmp_path))


def test_short_writes_go_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A system that takes a few bytes at a time, or few chunks, still gets every byte in order."""
    whole = os.writev

    def few(descriptor: int, views: list[memoryview]) -> int:
        assert len(views) <= 2
        return whole(descriptor, [memoryview(b"".join(views))[:3]])

    monkeypatch.setattr(os, "writev", few)
    monkeypatch.setattr(module, "CHUNKS_PER_CALL", 2)
    chunks = [b"%d" % number * number for number in range(12)]
    path = str(tmp_path / "a")
    write(LocalDisk(), path, *chunks)
    assert LocalDisk().read(path) == b"".join(chunks)


def test_make_folder_syncs_each_parent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each folder that was missing is made durable in the one above it."""
    synced: list[str] = []
    monkeypatch.setattr(LocalDisk, "sync_folder", lambda self, path: synced.append(path))
    LocalDisk().make_folder(str(tmp_path / "a" / "b"))
    assert synced == [str(tmp_path), str(tmp_path / "a")]


def test_replace_syncs_before_the_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A replaced file is synced before it takes the name, and its folder after."""
    steps: list[str] = []
    rename = os.rename

    def renaming(source: str, target: str) -> None:
        steps.append("rename")
        rename(source, target)

    monkeypatch.setattr(module, "_sync_data", lambda descriptor: steps.append("sync"))
    monkeypatch.setattr(os, "rename", renaming)
    monkeypatch.setattr(LocalDisk, "sync_folder", lambda self, path: steps.append("sync_folder"))
    LocalDisk().replace(str(tmp_path / "a"), b"x")
    assert steps == ["sync", "rename", "sync_folder"]


# What only the faulty disk can show.


def test_power_cut() -> None:
    """Names without a folder sync and bytes without a file sync are gone; what was synced is there."""
    disk = FaultyDisk()
    disk.make_folder("/d")
    writer = disk.create("/d/a")
    writer.write(b"synced")
    writer.sync()
    writer.write(b" not")
    assert disk.after_power_cut().list("/d") == []
    disk.sync_folder("/d")
    disk.rename("/d/a", "/d/b")
    assert disk.after_power_cut().read("/d/a") == b"synced"
    assert disk.after_kill().read("/d/b") == b"synced not"


def test_failed_sync_loses_for_good() -> None:
    """What a failed sync did not write, no later sync of the file writes."""
    disk = FaultyDisk()
    writer = disk.create("/a")
    disk.sync_folder("/")
    disk.faults.append(Fault("sync"))
    writer.write(b"lost")
    with pytest.raises(OSError, match="error"):
        writer.sync()
    writer.write(b"kept")
    writer.sync()
    assert disk.read("/a") == b"lostkept"
    assert disk.after_power_cut().read("/a") == bytes(4) + b"kept"


@pytest.mark.parametrize("number", [errno.EIO, errno.ENOSPC])
def test_a_sync_that_fails_says_so(number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the system says against a sync of a file or of a folder is heard, by a replacement too."""

    def fails(descriptor: int) -> None:
        raise OSError(number, os.strerror(number))

    disk, path = LocalDisk(), str(tmp_path / "a")
    writer = disk.create(path)
    monkeypatch.setattr(module, "_sync_data", fails)
    for step in (writer.sync, lambda: disk.replace(path, b"new")):
        with pytest.raises(OSError, match=os.strerror(number)):
            step()
    writer.close()
    monkeypatch.undo()
    monkeypatch.setattr(os, "fsync", fails)
    for step in (lambda: disk.sync_folder(str(tmp_path)), lambda: disk.make_folder(str(tmp_path / "b"))):
        with pytest.raises(OSError, match=os.strerror(number)):
            step()


def test_syncs_reach_the_system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A sync is one of this very file, or folder."""
    synced = list[str]()

    def sync(descriptor: int) -> None:
        synced.append(os.readlink(f"/proc/self/fd/{descriptor}"))

    monkeypatch.setattr(module, "_sync_data", sync)
    monkeypatch.setattr(os, "fsync", sync)
    disk, path = LocalDisk(), str(tmp_path / "a")
    writer = disk.create(path)
    writer.sync()
    writer.close()
    disk.sync_folder(str(tmp_path))
    assert synced == [path, str(tmp_path)]
