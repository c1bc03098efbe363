"""A stream with dynamic partitions over a faulty disk in virtual time: intake, stage one, cuts and both far sides."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pyarrow as pa
import pyarrow.compute as pc
from disk_buffer import STREAM, DiskBuffer, batch
from far_sides import FarSide
from virtual_time import VirtualRuntime, passed

from firehose import partitions
from firehose.blocks import MIB
from firehose.buffer.cuts import CutOutbox, Thresholds
from firehose.buffer.outbox import DiskOutbox
from firehose.config import DeliveryOptions
from firehose.contracts import Memo, Transform
from firehose.delivery.loop import Deliveries
from firehose.delivery.pipeline import Line, OneByOne, Pipeline
from firehose.delivery.slots import Slots
from firehose.model import Batch, Outcome, Receipt, Rejections, Segment
from firehose.rows import spread
from firehose.stream_config import RetryOptions

REFUSED, DROPPED, SPLIT = b"!", b"~", b"|"


def name_of(letter: bytes) -> str:
    """The text of the partition of rows that begin so."""
    return partitions.encode([("partitionKeyFromQuery", "letter", letter.decode())])


class Split:
    """Makes several rows of a record, at each `|`."""

    repeatable = True

    def __call__(self, rows: pa.RecordBatch, /) -> Outcome:
        pieces = [bytes(record).split(SPLIT) for record in rows.column("record").to_pylist()]
        came = [index for index, parts in enumerate(pieces) for _ in parts]
        return Outcome(spread(rows, came, pa.array([part for parts in pieces for part in parts], pa.binary())))


class OnePartition:
    """All rows have the same."""

    repeatable = True

    def __call__(self, rows: pa.RecordBatch, /) -> Outcome:
        names = pa.array([name_of(b"x")] * rows.num_rows).dictionary_encode()
        return Outcome(rows.append_column(partitions.COLUMN, names))


class FirstByte:
    """A row's partition is its first byte. What begins with `!` is refused, what begins with `~` is dropped."""

    repeatable = True

    def __call__(self, rows: pa.RecordBatch, /) -> Outcome:
        firsts = [bytes(record)[:1] for record in rows.column("record").to_pylist()]
        names = pa.array([name_of(first) for first in firsts]).dictionary_encode()
        refused, dropped = (pa.array([first == kind for first in firsts]) for kind in (REFUSED, DROPPED))
        going = pc.invert(pc.or_(refused, dropped))
        return Outcome(
            rows.append_column(partitions.COLUMN, names).filter(going),
            Rejections.of(rows.filter(refused), "metadata-extraction-failed", "NoKey", "it has no key"),
            rows.filter(dropped).column("row"),
        )


class Objects(FarSide):
    """Remembers every object; one that is written again must be what it was."""

    async def deliver(self, batch: Batch, memo: Memo) -> Receipt:
        before = dict(self.stored)
        receipt = await FarSide.deliver(self, batch, memo)
        name = self.names[-1]
        assert before.get(name, self.stored[name]) == self.stored[name], f"{name} changed"
        return receipt

    def rows(self, partition: str | None = None) -> Counter[bytes]:
        """All rows, or those of one partition's objects."""
        chosen = (rows for name, rows in self.stored.items() if partition is None or name.endswith(partition))
        return Counter(row for rows in chosen for row in rows)


class PartedBuffer(DiskBuffer):
    """Everything is delivered as in the service; what the far sides have outlives every crash."""

    def __init__(
        self, destinations: tuple[str, ...] = ("far",), workers: int = 4, runtime: VirtualRuntime | None = None
    ) -> None:
        super().__init__(destinations=destinations, runtime=runtime)
        self.far = {name: Objects() for name in destinations}
        self.errors = FarSide()
        self.steps: tuple[Transform, ...] = (Split(), FirstByte())
        self.unchanged = False  # whether the steps leave records as they came
        self.deadline_seconds: float | None = None
        self.options = DeliveryOptions.model_validate({"workers": workers, "segments_per_stream": 2})
        self.thresholds = Thresholds(100 * MIB, 600, self.limits.limit_bytes)

    def start_delivery(self, died: bool = True) -> None:
        self.deliveries: list[Deliveries] = []
        self.pipelines: list[Pipeline] = []
        self.tasks: list[asyncio.Task[None]] = []
        self.changed = asyncio.Event()
        self._outcomes = OneByOne()
        self._slots = Slots(self.options.workers, 1 << 30)
        super().start_delivery(died)

    def work_off(self, stream: str, destination: str, outbox: DiskOutbox | CutOutbox) -> bool:
        """Whether what this outbox yields is delivered."""
        return True

    def opened(self, stream: str, destination: str, outbox: DiskOutbox | CutOutbox) -> None:
        if not self.work_off(stream, destination, outbox):
            return

        @asynccontextmanager
        async def line(segment: Segment) -> AsyncIterator[Line]:
            yield Line(
                self.steps,
                self.far[destination],
                self.errors,
                partitioned=True,
                gathered=True,
                unchanged=self.unchanged,
            )

        threads = self.runtime.threads("deliver", 4)
        parts = None if isinstance(outbox, CutOutbox) else outbox
        cuts = isinstance(outbox, CutOutbox)
        pipeline = Pipeline(outbox, line, threads, threads, self.runtime, self._outcomes, parts=parts, cuts=cuts)
        self.pipelines.append(pipeline)
        deliveries = Deliveries(
            stream,
            destination,
            outbox,
            pipeline,
            self._slots,
            self.options,
            lambda: RetryOptions(deadline_seconds=self.deadline_seconds),
            self.runtime,
            self.changed.set,
        )
        self.deliveries.append(deliveries)
        self.tasks.append(asyncio.get_running_loop().create_task(deliveries.run()))

    def leave_records_as_they_come(self) -> None:
        """Rows go on without their records then, which are in the segment alone."""
        self.steps, self.unchanged = (FirstByte(),), True

    async def put(self, *records: bytes) -> Segment:
        """A sealed segment of these."""
        await self.appender.append(batch(*records))
        await self.appender.seal()
        return self.sealed[-1]

    async def idle(self) -> None:
        """Until nothing is under way, and nothing waits but open partitions."""
        while any(one.under_way or one.waiting for one in self.deliveries):
            self.changed.clear()
            await self.changed.wait()
        await passed(0.01)

    async def flush(self) -> None:
        self.shelf.flush(STREAM)
        await passed(0.01)
        await self.idle()

    def cuts(self, destination: str = "far") -> CutOutbox:
        return self.shelf.cuts(STREAM, destination)

    def check_sums(self) -> None:
        """Conservation, at this very moment, as the books have it and as the ledger has it."""
        sealed = sum(segment.count for segment in self.sealed)
        for destination in self.destinations:
            standing = self.shelf.standings().get((STREAM, destination))
            if standing is not None:
                assert standing.totals.records + standing.pending == sealed, standing

    def letters(self) -> int:
        return sum(map(len, self.errors.stored.values()))
