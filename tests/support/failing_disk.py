"""The real disk, on which something fails, or takes its time, for as long as a test wants it to.

`FlakyDisk` (sites) fails once and `FaultyDisk` forgets; here a fault lasts, on the paths that it is meant for, and the
files are real, so that a second service can be started on what there is.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatchcase

import pyarrow as pa
from replacing import replace_by_steps

from firehose.buffer.disk import LocalDisk
from firehose.contracts import Writer

# What a read-only file system refuses.
CHANGES = frozenset({"mkdir", "rmdir", "create", "write", "cut", "rename", "remove"})
PATIENCE_SECONDS = 300


@dataclass(frozen=True, slots=True)
class Fault:
    """These steps fail on paths that match. `sync` and `sync_folder` are steps too; a failing write writes half."""

    steps: frozenset[str]
    number: int
    pattern: str = "*"


class FailingDisk(LocalDisk):
    """Shared by all threads of a service."""

    def __init__(self) -> None:
        self.full = False  # no byte is free
        self.met = 0  # faults that were run into
        self.waiting = 0  # syncs that are held up
        self._faults: tuple[Fault, ...] = ()
        self._slow = ""
        self._changed = threading.Condition()

    async def until(self, condition: Callable[[], bool]) -> None:
        """Waits while the service's threads run into faults, or are held up."""

        def wait() -> None:
            with self._changed:
                assert self._changed.wait_for(condition, PATIENCE_SECONDS), "the service does not touch the disk"

        await asyncio.to_thread(wait)

    @contextmanager
    def failing(self, *faults: Fault) -> Iterator[None]:
        self._faults = faults
        try:
            yield
        finally:
            self._faults = ()

    @contextmanager
    def holding_up(self, pattern: str) -> Iterator[None]:
        """No sync of a file that matches ends before this does."""
        self._slow = pattern
        try:
            yield
        finally:
            with self._changed:
                self._slow = ""
                self._changed.notify_all()

    def step(self, name: str, path: str) -> None:
        for fault in self._faults:
            if name in fault.steps and fnmatchcase(path, fault.pattern):
                with self._changed:
                    self.met += 1
                    self._changed.notify_all()
                raise OSError(fault.number, os.strerror(fault.number), path)

    def hold_up(self, path: str) -> None:
        with self._changed:
            self.waiting += 1
            self._changed.notify_all()
            self._changed.wait_for(lambda: not (self._slow and fnmatchcase(path, self._slow)), PATIENCE_SECONDS)
            self.waiting -= 1

    # The door.

    def make_folder(self, path: str) -> None:
        if not os.path.isdir(path):
            self.step("mkdir", path)
        super().make_folder(path)

    def remove_folder(self, path: str) -> None:
        self.step("rmdir", path)
        super().remove_folder(path)

    def create(self, path: str) -> Writer:
        self.step("create", path)
        return FailingWriter(super().create(path), self, path)

    def reopen(self, path: str, size_bytes: int) -> Writer:
        self.step("cut", path)
        return FailingWriter(super().reopen(path, size_bytes), self, path)

    def replace(self, path: str, content: bytes) -> None:
        replace_by_steps(self, path, content)

    def rename(self, source: str, target: str) -> None:
        self.step("rename", target)
        super().rename(source, target)

    def remove(self, path: str) -> None:
        self.step("remove", path)
        super().remove(path)

    def sync_folder(self, path: str) -> None:
        self.step("sync_folder", path)
        super().sync_folder(path)

    def free_bytes(self, path: str) -> int:
        return 0 if self.full else super().free_bytes(path)


@dataclass(frozen=True, slots=True)
class FailingWriter:
    writer: Writer
    disk: FailingDisk
    path: str

    def write(self, *chunks: bytes | memoryview | pa.Buffer) -> int:
        try:
            self.disk.step("write", self.path)
        except OSError:
            data = b"".join(bytes(chunk) for chunk in chunks)
            self.writer.write(data[: len(data) // 2])
            raise
        return self.writer.write(*chunks)

    def sync(self) -> None:
        self.disk.step("sync", self.path)
        self.disk.hold_up(self.path)
        self.writer.sync()

    def close(self) -> None:
        self.writer.close()
