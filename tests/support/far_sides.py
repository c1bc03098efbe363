"""Both ends of a delivery in memory, for virtual time: an outbox that remembers, a far side that follows a script."""

from __future__ import annotations

import asyncio
from collections import defaultdict, deque
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, ClassVar

import batches
import pyarrow as pa
from batches import Notes
from virtual_time import VirtualRuntime

from firehose.conditions.judging import AskedCondition, Condition
from firehose.config import DeliveryOptions
from firehose.contracts import Hook, Memo, Retry, Transform
from firehose.delivery.loop import Deliveries
from firehose.delivery.pipeline import Line, Pipeline
from firehose.delivery.slots import Slots
from firehose.model import Batch, Outcome, Receipt, Segment, SegmentKey, Totals
from firehose.stream_config import RetryOptions

Scripted = Exception | float | Receipt | None


class MemoryOutbox:
    """Segments with their records. What ended is in `committed` and `held`; `fails` makes calls so named fail."""

    def __init__(self) -> None:
        self.records: dict[SegmentKey, pa.RecordBatch] = {}
        self.committed: dict[SegmentKey, Totals] = {}
        self.held: dict[SegmentKey, str] = {}
        self.outcomes: dict[SegmentKey, list[Outcome]] = {}
        self.died: dict[SegmentKey, int] = {}
        self.trying: set[SegmentKey] = set()
        self.fails: dict[str, list[Exception]] = defaultdict(list)
        self.notes: dict[SegmentKey, Notes] = defaultdict(Notes)
        self.rows_per_slice = 2
        self._offered: deque[Segment] = deque()
        self._more = asyncio.Event()
        self._closed = False

    def add(self, *records: bytes, first: int = 0, refused: Sequence[str | None] = (), lost: int = 0) -> Segment:
        """Seals a segment of these records, of which the last `lost` are damaged."""
        segment = batches.segment(records, first=first)
        rows = batches.rows(records)
        if refused:
            rows = rows.append_column("refused", pa.array(refused, pa.string()))
        self.records[segment.key] = rows.slice(0, rows.num_rows - lost)
        self.offer(segment)
        return segment

    def offer(self, segment: Segment) -> None:
        self._offered.append(segment)
        self._more.set()

    def close(self) -> None:
        self._closed = True
        self._more.set()

    @property
    def waiting(self) -> int:
        return len(self._offered)

    async def sealed(self) -> AsyncIterator[Segment]:
        while not self._closed or self._offered:
            while self._offered:
                yield self._offered.popleft()
            self._more.clear()
            if not self._closed:
                await self._more.wait()

    async def open(self, segment: Segment) -> Batch:
        await self._step("open")
        self.trying.add(segment.key)
        return await self.read(segment)

    async def read(self, segment: Segment) -> Batch:
        rows = self.records[segment.key]
        starts = range(0, rows.num_rows, self.rows_per_slice)
        return Batch(segment, lambda: (rows.slice(start, self.rows_per_slice) for start in starts))

    async def kept(self, segment: Segment) -> Iterable[Outcome] | None:
        return self.outcomes.get(segment.key)

    async def keep(self, segment: Segment, outcomes: AsyncIterator[Outcome]) -> None:
        await self._step("keep")
        if segment.key not in self.outcomes:
            self.outcomes[segment.key] = [one async for one in outcomes]

    async def commit(self, segment: Segment, totals: Totals) -> None:
        assert totals.records == segment.count, "a commit accounts for every record"
        await self._step("commit")
        self.trying.discard(segment.key)
        self.committed[segment.key] = totals

    async def hold(self, segment: Segment, reason: str) -> None:
        await self._step("hold")
        self.trying.discard(segment.key)
        self.held[segment.key] = reason

    async def rest(self, segment: Segment) -> None:
        self.trying.discard(segment.key)
        self.died.pop(segment.key, None)
        await self._step("rest")

    def deaths(self, segment: Segment) -> int:
        return self.died.get(segment.key, 0)

    def memo(self, segment: Segment) -> Memo:
        return self.notes[segment.key]

    async def _step(self, name: str) -> None:
        await asyncio.sleep(0)
        if self.fails[name]:
            raise self.fails[name].pop(0)


@dataclass
class FarSide:
    """A destination whose next deliveries go as `script` says: an error, a receipt, or seconds that one takes.

    What fails has been read, unless `reads` is off. `always` is what happens when the script has ended.
    """

    error_type: ClassVar[str] = "delivery-failed"
    script: list[Scripted] = field(default_factory=list)
    always: Scripted = None
    reads: bool = True
    attempts: list[tuple[float, Segment]] = field(default_factory=list)  # when, and what
    names: list[str] = field(default_factory=list)  # of every attempt's object
    stored: dict[str, list[bytes]] = field(default_factory=dict)
    working: int = 0
    together: int = 0  # at most
    closed: int = 0

    async def check(self) -> None:
        """Always fine."""

    async def close(self) -> None:
        self.closed += 1

    async def deliver(self, batch: Batch, memo: Memo) -> Receipt:
        self.attempts.append((asyncio.get_running_loop().time(), batch.segment))
        name = f"{batch.segment}{batch.partition}"
        self.names.append(name)
        self.working += 1
        self.together = max(self.together, self.working)
        try:
            return await self._follow_script(name, batch)
        finally:
            self.working -= 1

    async def _follow_script(self, name: str, batch: Batch) -> Receipt:
        said = self.script.pop(0) if self.script else self.always
        records = [bytes(one) for one in _records(batch)] if self.reads else []
        if isinstance(said, Exception):
            raise said
        if isinstance(said, float):
            await asyncio.sleep(said)
        self.stored[name] = records
        return said if isinstance(said, Receipt) else Receipt((name,), sum(map(len, records)))

    @property
    def times(self) -> list[float]:
        return [round(time, 3) for time, _ in self.attempts]


def _records(batch: Batch) -> Iterator[bytes]:
    for rows in batch.slices():
        yield from rows.column("record").to_pylist()


class NoJitter(VirtualRuntime):
    """Virtual time in which blocking calls take none of it, and waits are as long as they may be."""

    def __init__(self) -> None:
        super().__init__(disk_seconds=0.0)

    def jitter(self) -> float:
        return 0.0


class Bench:
    """One stream at one destination, put together as the delivery half does, over ends in memory."""

    def __init__(
        self, *transforms: Transform | Hook, slots: Slots | None = None, stream: str = "app", **options: Any
    ) -> None:
        self.outbox = MemoryOutbox()
        self.far, self.errors = FarSide(), FarSide()
        self.transforms = list(transforms)
        self.where: Condition | AskedCondition | None = None
        self.own_errors: FarSide | None = None
        self.name = ""
        self.is_wanted = True
        self.converts = False
        self.deadline_seconds: float | None = None
        self.ended = 0
        self.runtime = NoJitter()
        self.options = DeliveryOptions.model_validate({"workers": 4, "segments_per_stream": 4, **options})
        threads = self.runtime.threads("deliver", 4)
        self.pipeline = Pipeline(self.outbox, self._line, threads, threads, self.runtime)
        self.deliveries = Deliveries(
            stream,
            "far",
            self.outbox,
            self.pipeline,
            slots or Slots(4, 1 << 30),
            self.options,
            lambda: RetryOptions(deadline_seconds=self.deadline_seconds),
            self.runtime,
            self._count,
            lambda _: self.is_wanted,
            lambda: self.converts,
        )

    @asynccontextmanager
    async def _line(self, segment: Segment) -> AsyncIterator[Line]:
        yield Line(self.transforms, self.far, self.errors, where=self.where, own_errors=self.own_errors, name=self.name)

    def _count(self) -> None:
        self.ended += 1

    async def work_off(self) -> None:
        """Until everything that is there has found its end."""
        self.outbox.close()
        await self.deliveries.run()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        task = asyncio.create_task(self.deliveries.run())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            await self.deliveries.cancel()


def retries(count: int, reason: str = "busy") -> list[Scripted]:
    return [Retry(reason) for _ in range(count)]
