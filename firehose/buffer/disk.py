"""The one door to the file system. Nothing else in the project opens, renames or removes a file.

Kept so narrow that a recorded, failing or simulated disk can stand in its place (`firehose.contracts.Disk`).
"""

from __future__ import annotations

import errno
import fcntl
import mmap
import os
import stat
from collections.abc import Iterator, Sequence

import pyarrow as pa

from firehose.contracts import Lock, View, Writer
from firehose.model import Stored

PAGE = mmap.PAGESIZE
NOT_THERE = (errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG)  # of all refusals, those that say so
CHUNKS_PER_CALL = 512  # under every system's IOV_MAX
_sync_data = getattr(os, "fdatasync", os.fsync)


class LocalDisk:
    """The real file system."""

    def make_folder(self, path: str) -> None:
        path = os.path.abspath(path)
        if os.path.isdir(path):
            return
        parent = os.path.dirname(path)
        self.make_folder(parent)
        try:
            os.mkdir(path)
        except FileExistsError:
            if not os.path.isdir(path):
                raise
        self.sync_folder(parent)

    def remove_folder(self, path: str) -> None:
        os.rmdir(path)

    def list(self, path: str) -> list[str]:
        try:
            return sorted(os.listdir(path))
        except FileNotFoundError:
            return []

    def size(self, path: str) -> int:
        return os.stat(path).st_size

    def exists(self, path: str) -> bool:
        try:
            os.stat(path)
        except ValueError:  # a name that no file can have
            return False
        except OSError as error:
            if error.errno in NOT_THERE:
                return False
            raise
        return True

    def read(self, path: str) -> bytes:
        with open(path, "rb") as file:
            return file.read()

    def view(self, path: str) -> View:
        return LocalView(path)

    def create(self, path: str) -> Writer:
        return LocalWriter(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, 0o640))

    def reopen(self, path: str, size_bytes: int) -> Writer:
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
        try:
            os.ftruncate(descriptor, size_bytes)
        except OSError:
            os.close(descriptor)
            raise
        return LocalWriter(descriptor)

    def replace(self, path: str, content: bytes) -> None:
        beside = f"{path}.new"
        if os.path.exists(beside):
            os.unlink(beside)
        writer = self.create(beside)
        try:
            writer.write(content)
            writer.sync()
        finally:
            writer.close()
        os.rename(beside, path)
        self.sync_folder(os.path.dirname(os.path.abspath(path)))

    def rename(self, source: str, target: str) -> None:
        os.rename(source, target)

    def remove(self, path: str) -> None:
        os.unlink(path)

    def sync_folder(self, path: str) -> None:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def free_bytes(self, path: str) -> int:
        space = os.statvfs(path)
        return space.f_bavail * space.f_frsize

    def tree_bytes(self, path: str) -> int:
        return sum(file.size_bytes for file in self.tree(path))

    def tree(self, path: str) -> Iterator[Stored]:
        for folder, folders, names in os.walk(path, onerror=_unless_gone):
            folders.sort()
            below = os.path.relpath(folder, path)
            for name in sorted(names):
                try:
                    found = os.lstat(os.path.join(folder, name))
                except FileNotFoundError:
                    continue  # taken away while we looked
                if not (stat.S_ISREG(found.st_mode) or stat.S_ISLNK(found.st_mode)):
                    continue  # a socket or a pipe, of which nobody should read
                shown = name if below == "." else f"{below}/{name}"
                yield Stored(shown, found.st_size, found.st_mtime_ns // 1_000_000)

    def lock(self, path: str) -> Lock | None:
        flags = os.O_RDONLY if os.path.isdir(path) else os.O_RDWR | os.O_CREAT
        descriptor = os.open(path, flags | os.O_CLOEXEC, 0o640)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return None
        except BaseException:
            os.close(descriptor)
            raise
        return LocalLock(descriptor)


def _unless_gone(error: OSError) -> None:
    """A folder that cannot be read must not pass for an empty one; one that was taken away is none."""
    if not isinstance(error, FileNotFoundError):
        raise error


class LocalWriter:
    """A file descriptor that appends."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def write(self, *chunks: bytes | memoryview | pa.Buffer) -> int:
        views = [view for chunk in chunks if len(view := memoryview(chunk).cast("B"))]
        total = sum(map(len, views))
        while views:
            written = os.writev(self._descriptor, views[:CHUNKS_PER_CALL])
            views = _rest(views, written)
        return total

    def sync(self) -> None:
        if self._descriptor < 0:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        _sync_data(self._descriptor)

    def close(self) -> None:
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)


def _rest(views: Sequence[memoryview], written: int) -> list[memoryview]:
    """What a write that took `written` bytes left over."""
    for index, view in enumerate(views):
        if written < len(view):
            return [view[written:], *views[index + 1 :]]
        written -= len(view)
    return []


class LocalView:
    """A mapped file. Arrow arrays that point into it keep the mapping alive after `close`."""

    def __init__(self, path: str) -> None:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            size = os.fstat(descriptor).st_size
            self._map = mmap.mmap(descriptor, size, prot=mmap.PROT_READ) if size else None
        finally:
            os.close(descriptor)
        self.buffer: pa.Buffer = pa.py_buffer(self._map if self._map is not None else b"")

    def release(self, start: int, end: int) -> None:
        start, end = start // PAGE * PAGE, end // PAGE * PAGE
        if self._map is not None and end > start:
            self._map.madvise(mmap.MADV_DONTNEED, start, end - start)

    def close(self) -> None:
        self._map = None
        self.buffer = pa.py_buffer(b"")


class LocalLock:
    """A held flock; the kernel releases it when the process ends."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def close(self) -> None:
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)
