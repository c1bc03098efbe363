"""A disk in memory that knows what a power cut would leave, records every step, and fails when it is told to.

It follows the rules that the real one only hints at: what a file holds is durable after `sync` of the file, a name
after `sync_folder` of its folder; the changes of one folder become durable in their order, a rename whole or not at
all; what a failed sync did not write is never written by a later one. `Disk` in `firehose.contracts` is the door.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from random import Random

import pyarrow as pa
from replacing import replace_by_steps

from firehose.contracts import Lock, Writer
from firehose.model import Stored

FREE = 1 << 40


@dataclass(eq=False, slots=True)
class File:
    content: bytearray = field(default_factory=bytearray)  # as everyone sees it
    durable: bytes = b""  # as a power cut leaves it
    clean: int = 0  # bytes that the system takes for written
    lost: list[tuple[int, int]] = field(default_factory=list)  # ranges that a failed sync gave up

    def sync(self) -> None:
        content = bytearray(self.content)
        for start, end in self.lost:
            content[start:end] = bytes(len(content[start:end]))
        self.durable = bytes(content)
        self.clean = len(content)

    def give_up(self) -> None:
        self.lost.append((self.clean, len(self.content)))
        self.clean = len(self.content)

    def cut(self, size: int) -> None:
        del self.content[size:]
        self.clean = min(self.clean, size)
        self.lost = [(start, min(end, size)) for start, end in self.lost if start < size]

    def after_power_cut(self, dice: Random | None) -> File:
        """The durable bytes; by chance a part of what was written behind them, some of it zeros."""
        content = self.durable
        if dice and bytes(self.content) != content and dice.random() < 0.7:
            content = bytes(self.content[: dice.randint(0, len(self.content))])
            content = content if len(content) >= len(self.durable) else self.durable
            if dice.random() < 0.3 and len(content) > len(self.durable):
                hole = dice.randint(len(self.durable), len(content) - 1)
                content = content[:hole] + bytes(len(content) - hole)
        return File(bytearray(content), content, len(content))


@dataclass(eq=False, slots=True)
class Folder:
    names: dict[str, File | Folder] = field(default_factory=dict)
    durable: dict[str, File | Folder] = field(default_factory=dict)
    pending: list[dict[str, File | Folder | None]] = field(default_factory=list)  # changes, each whole or not at all

    def change(self, names: dict[str, File | Folder | None]) -> None:
        self.pending.append(names)
        _change(self.names, names)

    def sync(self) -> None:
        self.durable, self.pending = dict(self.names), []

    def after_power_cut(self, dice: Random | None) -> Folder:
        """The durable names; by chance some of the changes that were made first since."""
        left = dict(self.durable)
        for names in self.pending[: dice.randint(0, len(self.pending))] if dice else []:
            _change(left, names)
        copies = {name: node.after_power_cut(dice) for name, node in left.items()}
        return Folder(copies, dict(copies))


def _change(target: dict[str, File | Folder], names: dict[str, File | Folder | None]) -> None:
    for name, node in names.items():
        if node is None:
            target.pop(name, None)
        else:
            target[name] = node


def _bytes(node: File | Folder) -> int:
    return len(node.content) if isinstance(node, File) else sum(map(_bytes, node.names.values()))


def _files(folder: Folder, below: str) -> Iterator[Stored]:
    """Those of the folder itself first, as the real disk has it."""
    nodes = sorted(folder.names.items())
    for name, node in nodes:
        if isinstance(node, File):
            yield Stored(below + name, len(node.content), 0)
    for name, node in nodes:
        if isinstance(node, Folder):
            yield from _files(node, f"{below}{name}/")


@dataclass(slots=True)
class Fault:
    """The next `times` steps of this kind, on a path with this ending, fail. A failing write writes half."""

    step: str
    number: int = errno.EIO
    ending: str = ""
    times: int = 1


class FaultyDisk:
    """`steps` says what was done, as (step, path).

    A step is one of mkdir, rmdir, create, write, sync, cut, rename, remove, sync_folder.
    """

    def __init__(self, root: Folder | None = None) -> None:
        self.steps: list[tuple[str, str]] = []
        self.faults: list[Fault] = []
        self.fail_at: dict[int, int] = {}  # number of a step, from 0: errno
        self.blind = ("", "")  # of exists, size and view one, and an ending: so such files cannot be looked at
        self.stop_at: int | None = None  # from this step on nothing happens any more: the moment of a crash
        self.free = FREE
        self.locks: set[str] = set()
        self._root = root or Folder()

    def after_kill(self) -> FaultyDisk:
        """The disk as the next process finds it when this one is killed: nothing is lost but the locks."""
        return FaultyDisk(self._root)

    def after_power_cut(self, dice: Random | None = None) -> FaultyDisk:
        """The disk as it is found after a power cut. Without dice, everything that was not synced is lost."""
        return FaultyDisk(self._root.after_power_cut(dice))

    def flip(self, path: str, offset: int, mask: int = 0xFF) -> None:
        """Damages one byte, durably."""
        file = self._file(path)
        file.content[offset] ^= mask
        file.durable = bytes(file.content)

    def put(self, path: str, content: bytes) -> None:
        """Leaves a durable file there, without a step."""
        folder, name = self._at(path)
        folder.names[name] = folder.durable[name] = File(bytearray(content), content, len(content))

    # The door.

    def make_folder(self, path: str) -> None:
        if path in ("", "/") or isinstance(self._find(path), Folder):
            return
        parent = os.path.dirname(path)
        self.make_folder(parent)
        self._step("mkdir", path)
        folder, name = self._at(path)
        if name in folder.names:
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), path)
        folder.change({name: Folder()})
        self.sync_folder(parent)

    def remove_folder(self, path: str) -> None:
        self._step("rmdir", path)
        if self._folder(path).names:
            raise OSError(errno.ENOTEMPTY, os.strerror(errno.ENOTEMPTY), path)
        folder, name = self._at(path)
        folder.change({name: None})

    def list(self, path: str) -> list[str]:
        found = self._find(path)
        return sorted(found.names) if isinstance(found, Folder) else []

    def size(self, path: str) -> int:
        self._look("size", path)
        return len(self._file(path).content)

    def exists(self, path: str) -> bool:
        self._look("exists", path)
        return self._find(path) is not None

    def read(self, path: str) -> bytes:
        return bytes(self._file(path).content)

    def view(self, path: str) -> MemoryView:
        self._look("view", path)
        return MemoryView(pa.py_buffer(self.read(path)))

    def create(self, path: str) -> Writer:
        self._step("create", path)
        folder, name = self._at(path)
        if name in folder.names:
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), path)
        file = File()
        folder.change({name: file})
        return MemoryWriter(self, path, file)

    def reopen(self, path: str, size_bytes: int) -> Writer:
        self._step("cut", path)
        file = self._file(path)
        file.cut(size_bytes)
        file.content.extend(bytes(size_bytes - len(file.content)))
        return MemoryWriter(self, path, file)

    def replace(self, path: str, content: bytes) -> None:
        replace_by_steps(self, path, content)

    def rename(self, source: str, target: str) -> None:
        self._step("rename", target)
        file = self._file(source)
        folder, old = self._at(source)
        assert folder is self._at(target)[0], "nothing here is ever moved to another folder"
        folder.change({old: None, os.path.basename(target): file})

    def remove(self, path: str) -> None:
        self._step("remove", path)
        self._file(path)
        folder, name = self._at(path)
        folder.change({name: None})

    def sync_folder(self, path: str) -> None:
        self._step("sync_folder", path)
        self._folder(path).sync()

    def free_bytes(self, path: str) -> int:
        return self.free

    def tree_bytes(self, path: str) -> int:
        found = self._find(path)
        return _bytes(found) if found else 0

    def tree(self, path: str) -> Iterator[Stored]:
        """Of no use to whoever asks for times: a file here has none."""
        found = self._find(path)
        return _files(found, "") if isinstance(found, Folder) else iter(())

    def lock(self, path: str) -> Lock | None:
        if path in self.locks:
            return None
        self.locks.add(path)
        return MemoryLock(self, path)

    # Below the door.

    def _step(self, step: str, path: str) -> None:
        number = len(self.steps)
        self.steps.append((step, path))
        if self.stop_at is not None and number >= self.stop_at:
            raise OSError(errno.EIO, "the power is cut", path)
        code = self.fail_at.get(number, 0)
        for fault in self.faults:
            if not code and fault.times and fault.step == step and path.endswith(fault.ending):
                fault.times -= 1
                code = fault.number
        if code:
            raise OSError(code, os.strerror(code), path)

    def _look(self, how: str, path: str) -> None:
        if self.blind[0] == how and path.endswith(self.blind[1]):
            raise OSError(errno.EIO, os.strerror(errno.EIO), path)

    def _find(self, path: str) -> File | Folder | None:
        node: File | Folder | None = self._root
        for name in filter(None, path.split("/")):
            node = node.names.get(name) if isinstance(node, Folder) else None
        return node

    def _file(self, path: str) -> File:
        found = self._find(path)
        if not isinstance(found, File):
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
        return found

    def _folder(self, path: str) -> Folder:
        found = self._find(path)
        if not isinstance(found, Folder):
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
        return found

    def _at(self, path: str) -> tuple[Folder, str]:
        return self._folder(os.path.dirname(path)), os.path.basename(path)


class MemoryWriter:
    def __init__(self, disk: FaultyDisk, path: str, file: File) -> None:
        self._disk = disk
        self._path = path
        self._file = file
        self._closed = False

    def write(self, *chunks: bytes | memoryview | pa.Buffer) -> int:
        data = b"".join(bytes(chunk) for chunk in chunks)
        try:
            self._step("write")
        except OSError:
            if self._disk.stop_at is None:
                self._file.content += data[: len(data) // 2]
            raise
        self._file.content += data
        return len(data)

    def sync(self) -> None:
        try:
            self._step("sync")
        except OSError:
            self._file.give_up()
            raise
        self._file.sync()

    def close(self) -> None:
        self._closed = True

    def _step(self, step: str) -> None:
        if self._closed:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF), self._path)
        self._disk._step(step, self._path)


@dataclass(slots=True)
class MemoryView:
    buffer: pa.Buffer

    def release(self, start: int, end: int) -> None:
        pass

    def close(self) -> None:
        pass


@dataclass(frozen=True, slots=True)
class MemoryLock:
    disk: FaultyDisk
    path: str

    def close(self) -> None:
        self.disk.locks.discard(self.path)
