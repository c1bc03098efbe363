"""Thirteen bugs of the classic kinds, planted by what the service is given: each must be found.

Every one of them is a door of the service (a disk, a runtime, a destination) or one of its parts, with the bug and
nothing else. `CANARIES` says which invariants may complain: the proof is only as good as what it would not miss.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any
from unittest import mock

import pyarrow as pa
from simulation import witness
from simulation.halves import Doors
from simulation.machine import Door, DoorWriter, MachineRuntime
from simulation.small_s3 import SmallS3, SmallS3Options
from simulation.world import Process

from firehose.buffer import frame, layout
from firehose.buffer.cuts import CutOutbox
from firehose.buffer.lane import Group, Lane
from firehose.buffer.ledger import Book
from firehose.buffer.outbox import DiskOutbox
from firehose.contracts import Disk, Memo, Retry, View, Writer
from firehose.http.admission import Admission
from firehose.model import Batch, Receipt, Segment, SegmentKey, Totals
from firehose.registry import Site
from firehose.runtime import Runtime


@dataclass(frozen=True, slots=True)
class Canary:
    """`doors` or `parts` carry the bug; `found_by` are the invariants that it breaks, `under` some kinds of trouble."""

    found_by: tuple[str, ...]
    under: tuple[str, ...] = ()
    doors: type[Doors] = Doors
    parts: Mapping[str, Any] = field(default_factory=dict)  # by dotted name


# Acknowledge before sync.


class Unsynced(DoorWriter):
    def sync(self) -> None:
        if not self._path.endswith(".open"):
            super().sync()


class LazyDisk(Door):
    def writer(self, path: str, writer: Writer) -> Writer:
        return Unsynced(self, path, writer)


class LazyDoors(Doors):
    def disk(self, process: Process) -> Disk:
        return LazyDisk(self.machine, process)


# Forget the directory sync.


class ForgetfulDisk(Door):
    def sync_folder(self, path: str) -> None:
        if "/buffer" not in path:
            super().sync_folder(path)


class ForgetfulDoors(Doors):
    def disk(self, process: Process) -> Disk:
        return ForgetfulDisk(self.machine, process)


# Reuse a lane name.


class Unimaginative(MachineRuntime):
    """Draws the names of each process from the same hat."""

    def __init__(self, machine: Any, process: Process) -> None:
        super().__init__(machine, process)
        self._names = 0

    def lane_name(self) -> str:
        self._names += 1
        return f"20260301T120000-{self._names:016x}"


class UnimaginativeDoors(Doors):
    def runtime(self, process: Process) -> Runtime:
        return Unimaginative(self.machine, process)


# Delete before the receipt.


class Hasty(SmallS3):
    def __init__(self, options: SmallS3Options, site: Site) -> None:
        super().__init__(options, site)
        self._disk = site.disk

    async def deliver(self, batch: Batch, memo: Memo) -> Receipt:
        path = layout.file_of("/data", batch.segment)
        if self._disk.exists(path):
            self._disk.remove(path)
        return await super().deliver(batch, memo)


# Retry under a new name.


class Renaming(SmallS3):
    def __init__(self, options: SmallS3Options, site: Site) -> None:
        super().__init__(options, site)
        self._tried: set[Segment] = set()

    async def deliver(self, batch: Batch, memo: Memo) -> Receipt:
        segment = batch.segment
        if segment in self._tried:
            batch = replace(batch, segment=replace(segment, opened_at=segment.opened_at + timedelta(seconds=1)))
        self._tried.add(segment)
        return await self._encoded_and_sent(batch, memo)

    async def _encoded_and_sent(self, batch: Batch, memo: Memo) -> Receipt:
        return await super(SmallS3, self).deliver(batch, memo)


# Swallow a failed fsync.


class Brave(DoorWriter):
    def sync(self) -> None:
        try:
            super().sync()
        except OSError:
            pass


class BraveDisk(Door):
    def writer(self, path: str, writer: Writer) -> Writer:
        return Brave(self, path, writer)


class BraveDoors(Doors):
    def disk(self, process: Process) -> Disk:
        return BraveDisk(self.machine, process)


# Count a retry twice.


class TwiceCounting(Book):
    def apply(self, entry: dict[str, Any]) -> None:
        known = entry["t"] == "delivered" and entry["d"] in self.delivered.get(_key(entry), {})
        super().apply(entry)
        if known:
            self.totals[entry["s"][0], entry["d"]] += Totals.from_json(entry["n"])


def _key(entry: dict[str, Any]) -> tuple[str, str, int]:
    stream, lane, first = entry["s"]
    return (stream, lane, int(first))


# Lose the remainder at a threshold.


class Overflowing(Lane):
    """Has no room behind 600 bytes for the last append of a group."""

    def append(self, group: Group) -> tuple[int, pa.RecordBatch]:
        if self.open and self.open.size_bytes + group.size_bytes > 600 and len(group.records) > 1:
            left = group.records[:-1]
            group = replace(group, records=left, count=sum(rows.num_rows for rows in left))
        return super().append(group)


# Resume at the wrong frame.


class ShortView:
    """A file without its last frame."""

    def __init__(self, view: View) -> None:
        self._view = view
        at = bytes(view.buffer).rfind(frame.FRAME_MAGIC)
        self.buffer: pa.Buffer = view.buffer.slice(0, at) if at > 0 else view.buffer

    def release(self, start: int, end: int) -> None:
        self._view.release(start, end)

    def close(self) -> None:
        self._view.close()


class ShortSighted(Door):
    def view(self, path: str) -> View:
        view = super().view(path)
        return ShortView(view) if path.endswith(".open") else view


class ShortSightedDoors(Doors):
    def disk(self, process: Process) -> Disk:
        return ShortSighted(self.machine, process)


# Forget a cursor when its segment is deleted.


class Uprooted(DiskOutbox):
    def _origins(self, segment: Segment) -> frame.Origins:
        return {}


# Let a parted segment go while rows of it are gathered.


class Careless(CutOutbox):
    async def finish(self, keys: Iterable[SegmentKey]) -> None:
        for key in keys:
            await self._shelf.finish(key, self.destination)


# Remember a failure for good.


class Sulking(SmallS3):
    def __init__(self, options: SmallS3Options, site: Site) -> None:
        super().__init__(options, site)
        self._has_failed = False

    async def deliver(self, batch: Batch, memo: Memo) -> Receipt:
        if self._has_failed:
            raise Retry("it has failed before")
        try:
            return await self._sent(batch, memo)
        except Retry:
            self._has_failed = True
            raise

    async def _sent(self, batch: Batch, memo: Memo) -> Receipt:
        return await super(SmallS3, self).deliver(batch, memo)


# Give no room back.


class Leaking(Admission):
    def release(self, size_bytes: int) -> None:
        """The next request finds less."""


DESTINATION = "simulation.small_s3.SmallS3"
CRASHES = ("cut power", "kill front", "kill both")
CANARIES: Mapping[str, Canary] = {
    "acknowledge before sync": Canary((witness.ACKNOWLEDGED,), CRASHES, LazyDoors),
    "forget the directory sync": Canary((witness.ACKNOWLEDGED,), CRASHES, ForgetfulDoors),
    "reuse a lane name": Canary((witness.GONE, witness.IDENTITY, witness.ACKNOWLEDGED), CRASHES, UnimaginativeDoors),
    "delete before the receipt": Canary((witness.GONE,), parts={DESTINATION: Hasty}),
    "retry under a new name": Canary((witness.ONCE,), ("upset store",), parts={DESTINATION: Renaming}),
    "swallow a failed fsync": Canary((witness.ACKNOWLEDGED,), ("break disk",), BraveDoors),
    "count a retry twice": Canary(
        (witness.CONSERVATION,), ("break disk",), parts={"firehose.buffer.ledger.Book": TwiceCounting}
    ),
    "lose the remainder at a threshold": Canary(
        (witness.ACKNOWLEDGED,), ("slow disk",), parts={"firehose.buffer.appender.Lane": Overflowing}
    ),
    "resume at the wrong frame": Canary((witness.ACKNOWLEDGED,), CRASHES, ShortSightedDoors),
    "forget a cursor when its segment is deleted": Canary(
        (witness.ONCE,), (*CRASHES, "leave"), parts={"firehose.buffer.outbox.DiskOutbox": Uprooted}
    ),
    "remember a failure for good": Canary((witness.PROGRESS,), ("upset store",), parts={DESTINATION: Sulking}),
    "give no room back": Canary((witness.PROGRESS,), ("seal",), parts={"firehose.service.Admission": Leaking}),
    "let a parted segment go": Canary(
        (witness.GONE, witness.CONSERVATION), ("seal",), parts={"firehose.buffer.outbox.CutOutbox": Careless}
    ),
}


@contextmanager
def planted(canary: Canary) -> Iterator[Callable[..., Doors]]:
    """The bug in its place; yields the doors for a simulation."""
    with ExitStack() as stack:
        for name, part in canary.parts.items():
            stack.enter_context(mock.patch(name, part))
        yield canary.doors
