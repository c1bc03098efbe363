"""The buffer of one stream over a faulty disk in virtual time: both halves in one hand, through any crashes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from random import Random

import pyarrow as pa
from faulty_disk import FaultyDisk
from virtual_time import VirtualRuntime

from firehose.buffer import layout, recovery
from firehose.buffer.appender import DiskAppender
from firehose.buffer.cuts import CutOutbox, Gathering, Thresholds
from firehose.buffer.ledger import read_book
from firehose.buffer.outbox import DiskOutbox, Shelf
from firehose.buffer.state import Limits, State, Workplace
from firehose.contracts import Disk, Outbox
from firehose.model import INTAKE_SCHEMA, Segment, SegmentKey, Totals
from firehose.partitions import ActivePartitions

STREAM, ROOT, LEDGER = "app", "/data", "/data/ledger"
SIZE, INTERVAL, LIMIT, RESERVE = 1000, 60.0, 1 << 30, 1 << 20


def batch(*records: bytes, **columns: list[object]) -> pa.RecordBatch:
    """Records as intake hands them over; `columns` are optional ones."""
    names = ["record", *(name for name in INTAKE_SCHEMA.names if name in columns)]
    values = {"record": list(records), **columns}
    schema = pa.schema([INTAKE_SCHEMA.field(name) for name in names])
    return pa.record_batch([pa.array(values[field.name], field.type) for field in schema], schema=schema)


class DiskBuffer:
    """`start` is a process's start, `crash` its end without leave."""

    def __init__(
        self,
        disk: FaultyDisk | None = None,
        runtime: VirtualRuntime | None = None,
        destinations: tuple[str, ...] = ("far",),
        limits: Limits | None = None,
    ) -> None:
        self.disk = disk or FaultyDisk()
        self.runtime = runtime or VirtualRuntime()
        self.destinations = destinations
        self.limits = limits or Limits(SIZE, INTERVAL, LIMIT, RESERVE)
        self.thresholds = Thresholds(SIZE, INTERVAL, LIMIT)
        self.version = 1
        self.sealed: list[Segment] = []
        self.failures: list[str] = []
        self.reports: list[str] = []
        self.gone: list[SegmentKey] = []

    async def start(self, died: bool = True) -> None:
        self.disk.make_folder(layout.buffer_folder(ROOT))
        self.found = recovery.recover(self.door(), ROOT, STREAM, self.version)
        self.state = self.recovered(self.found)
        self.appender: DiskAppender = self.make_appender()
        self.start_delivery(died)

    def start_delivery(self, died: bool = True) -> None:
        self.shelf = Shelf(
            self.door(),
            ROOT,
            self.runtime.threads("ledger", 1),
            self.reports.append,
            lambda stream, version: self.destinations,
            self.opened,
            self._removed,
            lambda: None,
            Gathering(self.runtime, lambda stream: self.thresholds, ActivePartitions()),
        )
        self.shelf.start(died)

    def opened(self, stream: str, destination: str, outbox: DiskOutbox | CutOutbox) -> None:
        """Nobody works it off."""

    async def crash(self, power: bool = True, dice: Random | None = None) -> None:
        """Ends everything as a power cut does, or a kill, and starts anew."""
        await self._end_tasks()
        self.disk = self.disk.after_power_cut(dice) if power else self.disk.after_kill()
        await self.start()

    async def stop(self) -> None:
        await self.appender.close()
        self.shelf.close()

    def outbox(self, destination: str = "far") -> Outbox:
        return self.shelf.outbox(STREAM, destination)

    def paths(self, suffix: str) -> list[str]:
        """Files of the stream's lanes that end so."""
        folders = [layout.lane_folder(ROOT, STREAM, lane) for lane in layout.lanes(self.disk, ROOT, STREAM)]
        return [f"{folder}/{name}" for folder in folders for name in self.disk.list(folder) if name.endswith(suffix)]

    # What a wrong implementation does otherwise.

    def door(self) -> Disk:
        return self.disk

    def recovered(self, found: recovery.Recovered) -> State:
        state = State(found.accepted, found.accepted)
        for segment, file_bytes in found.segments.items():
            state.sealed(segment, file_bytes)
        book, _ = read_book(self.door(), LEDGER)
        state.remember(book.origins.get(STREAM, {}), found.origins)
        return state

    def make_appender(self) -> DiskAppender:
        syncing = self.runtime.threads("sync", 1)
        at = Workplace(STREAM, ROOT, self.door(), syncing, self.runtime, lambda: self.version, self.failures.append)
        return DiskAppender(at, self.limits, self._sealed, self.state)

    def _sealed(self, segment: Segment) -> None:
        self.sealed.append(segment)
        self.shelf.announce(segment.key)

    def _removed(self, key: SegmentKey) -> None:
        self.gone.append(key)
        self.appender.removed(key)

    async def _end_tasks(self) -> None:
        tasks = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def offered(outbox: Outbox) -> list[Segment]:
    """Segments that the outbox yields without waiting."""
    found: list[Segment] = []
    waiting: AsyncIterator[Segment] = outbox.sealed()
    while outbox.waiting:
        found.append(await anext(waiting))
    return found


async def read(outbox: Outbox, segment: Segment) -> list[bytes]:
    """All records of a segment."""
    batch_of_it = await outbox.open(segment)
    return [record for piece in batch_of_it.slices() for record in piece.column("record").to_pylist()]


async def delivered(outbox: Outbox, segment: Segment) -> list[bytes]:
    """Reads a segment and commits it, its lost records as damaged."""
    records = await read(outbox, segment)
    await outbox.commit(segment, Totals(delivered=len(records), damaged=segment.count - len(records)))
    return records


async def drained(outbox: Outbox) -> list[bytes]:
    """Delivers everything that is offered now: the records in order."""
    return [record for segment in await offered(outbox) for record in await delivered(outbox, segment)]


def totals(segment: Segment) -> Totals:
    return Totals(delivered=segment.count)


def origins_of(appender: DiskAppender) -> Mapping[str, str]:
    return {partition: origin.cursor for partition, origin in appender.origins().items()}
