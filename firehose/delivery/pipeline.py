"""One attempt at one segment for one destination: read, transform, deliver, account, commit.

Repeating an attempt from any point is harmless: names derive from the segment, outcomes that cannot be repeated are
durable before anything is sent, and the commit comes last.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial

import pyarrow as pa
import pyarrow.compute as pc

from firehose.contracts import Destination, Outbox, Refused, Retry, Transform
from firehose.delivery import dead_letters
from firehose.model import Batch, Outcome, Receipt, Rejections, Segment, Totals
from firehose.runtime import Runtime, Threads


class ErrorOutputFailed(Retry):
    """The rows that cannot be delivered cannot be set down either: the stream pauses, nothing is skipped."""


@dataclass(frozen=True, slots=True)
class Line:
    """What a segment runs through: the transforms of its version, its destination, the error output."""

    transforms: Sequence[Transform]
    destination: Destination
    errors: Destination


@dataclass(slots=True)
class Tally:
    """What one complete pass over a batch found. Every input row is counted exactly once."""

    rows: int = 0
    delivered: int = 0
    split: int = 0
    dropped: int = 0
    rejected: Rejections = field(default_factory=Rejections)

    def add(self, given: pa.RecordBatch, outcome: Outcome) -> None:
        if outcome.rows is given:
            self.rows += given.num_rows
            self.delivered += given.num_rows
            return
        records = pc.count_distinct(outcome.rows.column("row")).as_py()
        ended = records + len(outcome.dropped) + len(outcome.refused)
        assert ended == given.num_rows, f"a transform made {ended} ends of {given.num_rows} rows"
        self.rows += given.num_rows
        self.delivered += outcome.rows.num_rows
        self.split += outcome.rows.num_rows - records
        self.dropped += len(outcome.dropped)
        self.rejected += outcome.refused


@dataclass(frozen=True, slots=True)
class Pipeline:
    """Attempts segments. `line` answers what a segment of a version runs through, as things stand now."""

    outbox: Outbox
    line: Callable[[Segment], Line]
    threads: Threads
    runtime: Runtime

    async def attempt(self, segment: Segment, attempts: int) -> Totals:
        """Sees the segment to its end, or raises `Retry` or `Refused`, with nothing committed."""
        line = self.line(segment)
        tally = Tally()
        batch = await self._transformed(segment, line, tally)
        receipt = await line.destination.deliver(batch, self.outbox.memo(segment))
        return await self._conclude(segment, line, tally, receipt, attempts)

    async def give_up(self, segment: Segment, reason: str, code: str, attempts: int) -> Totals:
        """Sends every row that would have been delivered to the error output instead."""
        line = self.line(segment)
        tally = Tally()
        batch = await self._transformed(segment, line, tally)

        def refuse_all() -> Rejections:
            parts = [
                Rejections.of(rows, dead_letters.DELIVERY, code, reason, attempts).table for rows in batch.slices()
            ]
            return Rejections(pa.concat_tables([Rejections().table, *parts]))

        refused = await self.threads.run(refuse_all)
        return await self._conclude(segment, line, tally, Receipt(refused=refused), attempts)

    async def _transformed(self, segment: Segment, line: Line, tally: Tally) -> Batch:
        """The batch to deliver. Each pass over its slices writes the tally anew."""
        given = await self.outbox.open(segment)
        if all(transform.repeatable for transform in line.transforms):
            return Batch(segment, partial(_pass, given, _once(line.transforms), tally))
        kept = await self.outbox.kept(segment)
        if kept is None:
            run = _once(line.transforms)
            outcomes = await self.threads.run(lambda: [run(rows) for rows in given.slices()])
            await self.outbox.keep(segment, outcomes)
            kept = await self.outbox.kept(segment)
        if kept is None:
            raise Retry("the durable outcome of the transforms cannot be read back")
        recorded = list(kept)
        return Batch(segment, lambda: _pass(given, _replay(recorded), tally))

    async def _conclude(self, segment: Segment, line: Line, tally: Tally, receipt: Receipt, attempts: int) -> Totals:
        """Writes what was rejected to the error output, then commits how everything ended."""
        rejected = tally.rejected + receipt.refused
        ended_ms = self.runtime.now_ms()
        for letters in await self.threads.run(lambda: list(dead_letters.batches(segment, rejected, ended_ms))):
            try:
                await line.errors.deliver(letters, self.outbox.memo(segment))
            except (Retry, Refused) as failure:
                raise ErrorOutputFailed(f"the error output fails: {failure.reason}") from failure
        refused_rows = len(receipt.refused)
        totals = Totals(
            delivered=tally.delivered - refused_rows,
            dropped=tally.dropped,
            dead=len(rejected),
            damaged=segment.count - tally.rows,
            split=tally.split,
            sent_bytes=receipt.sent_bytes,
            objects=len(receipt.objects),
        )
        await self.outbox.commit(segment, totals)
        return totals


def _pass(given: Batch, run: Callable[[pa.RecordBatch], Outcome], tally: Tally) -> Iterator[pa.RecordBatch]:
    """The rows to deliver, slice by slice, tallied from zero."""
    tally.rows = tally.delivered = tally.split = tally.dropped = 0
    tally.rejected = Rejections()
    for rows in given.slices():
        outcome = run(rows)
        tally.add(rows, outcome)
        if outcome.rows.num_rows:
            yield outcome.rows


def _once(transforms: Sequence[Transform]) -> Callable[[pa.RecordBatch], Outcome]:
    """What intake refused goes to the error output; the rest runs through the transforms, one after the other."""

    def run(rows: pa.RecordBatch) -> Outcome:
        refused = Rejections()
        if "refused" in rows.schema.names:
            good = pc.is_null(rows.column("refused"))
            refused = dead_letters.refused_by_intake(rows.filter(pc.invert(good)))
            rows = rows.filter(good).drop_columns(["refused"])
        dropped = []
        for transform in transforms:
            outcome = transform(rows)
            rows, refused = outcome.rows, refused + outcome.refused
            dropped.append(outcome.dropped)
        return Outcome(rows, refused, pa.concat_arrays(dropped)) if dropped else Outcome(rows, refused)

    return run


def _replay(outcomes: Sequence[Outcome]) -> Callable[[pa.RecordBatch], Outcome]:
    """Answers the recorded outcomes, one for each slice of a pass."""
    following = iter(outcomes)
    return lambda rows: next(following)
