"""Rows that a batch's format refuses, on the disk once they are many: however much of a batch is bad, the memory that
this takes has a bound.

A file has its name only until it is mapped: nothing looks for it later, and none is left behind. Where the disk is
nearly full, or fails, the rows stay in memory.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from hashlib import blake2b

import pyarrow as pa

from firehose.contracts import Disk
from firehose.model import Rejections, SegmentKey

HELD_BYTES = 8 << 20  # in memory, before they go to the disk
ROOM_BYTES = 1 << 30  # that are to be free on the disk


@dataclass(frozen=True, slots=True)
class Scratch:
    """Where files may be that nothing rests on. `whose` tells writers of the same segment apart."""

    disk: Disk
    folder: str
    whose: str

    def mapped(self, table: pa.Table, key: SegmentKey) -> pa.Table:
        """The same rows, in a file. Raises OSError."""
        self.disk.make_folder(self.folder)
        if self.disk.free_bytes(self.folder) < ROOM_BYTES:
            return table
        path = f"{self.folder}/refused-{blake2b(repr((key, self.whose)).encode(), digest_size=16).hexdigest()}"
        if self.disk.exists(path):  # of a process that was killed
            self.disk.remove(path)
        writer = self.disk.create(path)
        try:
            writer.write(_encoded(table))
            view = self.disk.view(path)
        finally:
            writer.close()
            self.disk.remove(path)
        try:
            return pa.ipc.open_stream(view.buffer).read_all()
        finally:
            view.close()  # the rows keep what they need of it


@dataclass(slots=True)
class SetAside:
    """The refused rows of one batch, in their order."""

    scratch: Scratch | None
    key: SegmentKey
    _away: Rejections = field(default_factory=Rejections)
    _held: Rejections = field(default_factory=Rejections)

    def add(self, refused: Rejections) -> None:
        self._held += refused
        if self.scratch is None or self._held.table.nbytes < HELD_BYTES:
            return
        try:
            held = Rejections(self.scratch.mapped(self._held.table, self.key))
        except OSError:
            held = self._held
        self._away, self._held = self._away + held, Rejections()

    def all(self) -> Rejections:
        return self._away + self._held


def _encoded(table: pa.Table) -> pa.Buffer:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as stream:
        stream.write_table(table)
    return sink.getvalue()
