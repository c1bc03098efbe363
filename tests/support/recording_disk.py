"""A disk in memory that keeps a record of every change, from which every state that a power cut may leave is made.

The record knows files and folders by number, not by name: a file that is renamed while somebody writes it stays the
same file. What the test itself must know of a moment (acknowledged, stored at the far side) is noted in between.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
from faulty_disk import FaultyDisk, File, Folder, MemoryWriter

from firehose.contracts import Writer


@dataclass(frozen=True, slots=True)
class Wrote:
    file: int
    offset: int
    data: bytes


@dataclass(frozen=True, slots=True)
class Cut:
    file: int
    size: int


@dataclass(frozen=True, slots=True)
class Named:
    """Names of a folder that now mean another file or folder, or none: a create, a removal, a rename in its place."""

    folder: int
    names: Mapping[str, int | None]
    left: tuple[int, str] | None = None  # of a rename from elsewhere: the folder and name it was under


@dataclass(frozen=True, slots=True)
class Synced:
    node: int


@dataclass(frozen=True, slots=True)
class Noted:
    """What the test must know: `kind` says what `what` is."""

    kind: str
    what: Any


Step = Wrote | Cut | Named | Synced | Noted


class RecordingDisk(FaultyDisk):
    """The record begins with what is there already, durable; number 0 is the top folder."""

    def __init__(self, root: Folder | None = None) -> None:
        super().__init__(root)
        self.record: list[Step] = []
        self._numbers: dict[File | Folder, int] = {}
        self._found(self._root)
        self.begins = len(self.record)

    def note(self, kind: str, what: Any) -> None:
        self.record.append(Noted(kind, what))

    def restarted(self) -> None:
        """The process is gone, and its locks with it: the next one finds the same disk."""
        self.locks.clear()

    # The door.

    def make_folder(self, path: str) -> None:
        if path in ("", "/") or isinstance(self._find(path), Folder):
            return
        parent = os.path.dirname(path)
        self.make_folder(parent)
        folder, name = self._at(path)
        folder.change({name: Folder()})
        self._named(folder, name)
        self.sync_folder(parent)

    def remove_folder(self, path: str) -> None:
        super().remove_folder(path)
        self._named(*self._at(path))

    def create(self, path: str) -> Writer:
        super().create(path)
        self._named(*self._at(path))
        self.wrote(self._file(path), 0)  # nothing yet, which tells it from a folder
        return RecordingWriter(self, path, self._file(path))

    def reopen(self, path: str, size_bytes: int) -> Writer:
        super().reopen(path, size_bytes)
        file = self._file(path)
        self.record.append(Cut(self._number(file), size_bytes))
        return RecordingWriter(self, path, file)

    def rename(self, source: str, target: str) -> None:
        self._step("rename", target)
        file = self._file(source)
        (folder, old), (onto, new) = self._at(source), self._at(target)
        folder.change({old: None})
        onto.change({new: file})
        if folder is onto:
            self._named(folder, old, new)
        else:
            self._named(onto, new, left=(self._number(folder), old))

    def remove(self, path: str) -> None:
        super().remove(path)
        self._named(*self._at(path))

    def sync_folder(self, path: str) -> None:
        super().sync_folder(path)
        self.record.append(Synced(self._number(self._folder(path))))

    # Below the door.

    def wrote(self, file: File, offset: int) -> None:
        self.record.append(Wrote(self._number(file), offset, bytes(file.content[offset:])))

    def synced(self, file: File) -> None:
        self.record.append(Synced(self._number(file)))

    def _named(self, folder: Folder, *names: str, left: tuple[int, str] | None = None) -> None:
        """Records what the names mean now."""
        nodes = {name: folder.names.get(name) for name in names}
        numbers = {name: None if node is None else self._number(node) for name, node in nodes.items()}
        self.record.append(Named(self._number(folder), numbers, left))

    def _found(self, node: File | Folder) -> None:
        """Records as durable what was there before."""
        number = self._number(node)
        if isinstance(node, File):
            self.wrote(node, 0)
        else:
            for name, below in node.names.items():
                self._found(below)
                self._named(node, name)
        self.record.append(Synced(number))

    def _number(self, node: File | Folder) -> int:
        return self._numbers.setdefault(node, len(self._numbers))


class RecordingWriter(MemoryWriter):
    def __init__(self, disk: RecordingDisk, path: str, file: File) -> None:
        super().__init__(disk, path, file)
        self._record = disk

    def write(self, *chunks: bytes | memoryview | pa.Buffer) -> int:
        offset = len(self._file.content)
        written = super().write(*chunks)
        self._record.wrote(self._file, offset)
        return written

    def sync(self) -> None:
        super().sync()
        self._record.synced(self._file)
