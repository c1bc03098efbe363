"""A buffer without a disk: the laws of `Appender` and `Outbox`, minus every durability.

`restarted` shows to those who use it what a start after a crash would show, were memory durable: a new lane, and
everything that is not committed once more.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import pyarrow as pa

from firehose.buffer.lane import joined
from firehose.buffer.offered import Offered
from firehose.buffer.reading import rows_of
from firehose.contracts import Full
from firehose.model import Batch, Origin, Outcome, Position, Records, Segment, SegmentKey, Totals
from firehose.rows import pieces, values_bytes
from firehose.runtime import utc

Place = tuple[SegmentKey, str]


@dataclass(slots=True)
class Held:
    """What the delivery half has said of segments, each at a destination."""

    done: dict[Place, Totals] = field(default_factory=dict)
    held: dict[Place, str] = field(default_factory=dict)
    trying: set[Place] = field(default_factory=set)
    deaths: dict[Place, int] = field(default_factory=dict)
    notes: dict[Place, list[str]] = field(default_factory=dict)
    outcomes: dict[SegmentKey, list[Outcome]] = field(default_factory=dict)
    sealed: dict[Segment, pa.RecordBatch] = field(default_factory=dict)  # until done at every destination


class MemoryBuffer:
    """One stream's `Appender`, and its outboxes by destination. Seals at `size_bytes` and when it is told to."""

    def __init__(
        self,
        stream: str,
        lane_name: Callable[[], str],
        now_ms: Callable[[], int],
        destinations: Sequence[str] = ("far",),
        size_bytes: int = 1 << 20,
        limit_bytes: int = 1 << 30,
        version: int = 1,
    ) -> None:
        self.stream = stream
        self.limit_bytes = limit_bytes
        self._lane_name = lane_name
        self._now_ms = now_ms
        self._size_bytes = size_bytes
        self._version = version
        self._lane = lane_name()
        self._next = 0
        self._open: list[pa.RecordBatch] = []
        self._opened_ms = 0
        self._origins: dict[str, Origin] = {}
        self._said = Held()
        self._destinations = tuple(destinations)
        self.outboxes = {name: MemoryOutbox(name, self._said, self._finished) for name in destinations}

    async def append(self, records: Records, origin: Origin | None = None) -> Position:
        if self.buffered_bytes + values_bytes(records.column("record")) > self.limit_bytes:
            raise Full(f"the buffer of '{self.stream}' is at its limit")
        position = Position(self._lane, self._next, records.num_rows)
        if records.num_rows and not self._open:
            self._opened_ms = self._now_ms()
        self._open += pieces(records)
        self._next += records.num_rows
        if origin is not None:
            self._origins[origin.partition] = origin
        if sum(map(_bytes, self._open)) >= self._size_bytes:
            await self.seal()
        return position

    def origins(self) -> Mapping[str, Origin]:
        return self._origins

    @property
    def buffered_bytes(self) -> int:
        return sum(map(_bytes, self._open)) + sum(segment.size_bytes for segment in self._said.sealed)

    async def seal(self) -> None:
        """Makes a segment of what has been appended so far, if anything."""
        if not self._open:
            return
        records, self._open = joined(self._open), []
        first, size = self._next - records.num_rows, _bytes(records)
        opened = utc(self._opened_ms)
        segment = Segment(self.stream, self._lane, first, records.num_rows, size, opened, self._version)
        self._said.sealed[segment] = records
        for outbox in self.outboxes.values():
            outbox.offer(segment)

    def release(self, segment: Segment) -> None:
        """Offers a held segment again to whom it was held for."""
        for name, outbox in self.outboxes.items():
            if self._said.held.pop((segment.key, name), None) is not None:
                outbox.offer(segment)

    async def restarted(self) -> MemoryBuffer:
        """As the next process would find it. What this one was trying counts as its death."""
        await self.seal()
        again = MemoryBuffer(
            self.stream,
            self._lane_name,
            self._now_ms,
            self._destinations,
            self._size_bytes,
            self.limit_bytes,
            self._version,
        )
        again._origins = dict(self._origins)
        again._said = self._said
        for place in self._said.trying:
            self._said.deaths[place] = self._said.deaths.get(place, 0) + 1
        self._said.trying.clear()
        for name in self._destinations:
            outbox = again.outboxes[name] = MemoryOutbox(name, again._said, again._finished)
            for segment in again._said.sealed:
                if not {(segment.key, name)} & {*again._said.done, *again._said.held}:
                    outbox.offer(segment)
        return again

    def _finished(self, segment: Segment) -> None:
        """Lets a segment go when it is done everywhere."""
        if all((segment.key, name) in self._said.done for name in self._destinations):
            self._said.sealed.pop(segment, None)
            self._said.outcomes.pop(segment.key, None)


class MemoryOutbox(Offered):
    """The `Outbox` of one destination."""

    def __init__(self, destination: str, said: Held, finished: Callable[[Segment], None]) -> None:
        super().__init__()
        self.destination = destination
        self._said = said
        self._finished = finished

    async def open(self, segment: Segment) -> Batch:
        self._said.trying.add(self._place(segment))
        return await self.read(segment)

    async def read(self, segment: Segment) -> Batch:
        records = self._said.sealed[segment]
        count = records.num_rows
        arrivals = pa.repeat(pa.scalar(segment.opened_ms, pa.int64()), count)
        return Batch(segment, lambda: iter([rows_of(records, pa.arange(0, count), arrivals)]))

    async def kept(self, segment: Segment) -> Iterable[Outcome] | None:
        return self._said.outcomes.get(segment.key)

    async def keep(self, segment: Segment, outcomes: AsyncIterator[Outcome]) -> None:
        if segment.key not in self._said.outcomes:
            self._said.outcomes[segment.key] = [one async for one in outcomes]

    async def commit(self, segment: Segment, totals: Totals) -> None:
        assert totals.records == segment.count, f"{totals} do not account for the {segment.count} records of {segment}"
        place = self._place(segment)
        self._said.done.setdefault(place, totals)
        for of_it in (self._said.held, self._said.deaths, self._said.notes):
            of_it.pop(place, None)
        self._said.trying.discard(place)
        self._finished(segment)

    async def hold(self, segment: Segment, reason: str) -> None:
        self._said.held[self._place(segment)] = reason
        self._said.trying.discard(self._place(segment))

    async def rest(self, segment: Segment) -> None:
        self._said.trying.discard(self._place(segment))
        self._said.deaths.pop(self._place(segment), None)

    def deaths(self, segment: Segment) -> int:
        return self._said.deaths.get(self._place(segment), 0)

    def memo(self, segment: Segment) -> MemoryMemo:
        return MemoryMemo(self._said.notes, self._place(segment))

    def _place(self, segment: Segment) -> Place:
        return segment.key, self.destination


@dataclass(frozen=True, slots=True)
class MemoryMemo:
    """A `Memo` that outlives nothing but a `restarted`."""

    _notes: dict[Place, list[str]]
    _place: Place

    def read(self) -> tuple[str, ...]:
        return tuple(self._notes.get(self._place, ()))

    def write(self, note: str) -> None:
        self._notes.setdefault(self._place, []).append(note)

    def forget(self, note: str) -> None:
        if note in (notes := self._notes.get(self._place, [])):
            notes.remove(note)


def _bytes(records: pa.RecordBatch) -> int:
    return values_bytes(records.column("record"))
