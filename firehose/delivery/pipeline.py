"""One attempt at one segment for one destination: read, transform, deliver, account, commit.

Repeating an attempt from any point is harmless: names derive from the segment, outcomes that cannot be repeated are
durable before anything is sent, and the commit comes last.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, aclosing, contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import chain
from weakref import WeakValueDictionary

import pyarrow as pa
import pyarrow.compute as pc

from firehose import observe
from firehose.conditions.judging import AskedCondition, Condition, Judgement, gathered
from firehose.contracts import Destination, GivesUp, Hook, Outbox, Parts, Refused, Retry, Transform
from firehose.delivery import dead_letters, outcomes, parting
from firehose.delivery.outcomes import BrokenLaw, Counted
from firehose.delivery.watch import Watch
from firehose.model import ROW_SCHEMA, Batch, Outcome, Receipt, Rejections, Segment, SegmentKey, Totals
from firehose.runtime import Runtime, Threads

DEADLINE_CODE = "Delivery.DeadlineExceeded"  # where AWS has no name for the failure


class Obstructed(Retry):
    """A failure on our side of the destination's door: its deadline does not run for it."""


class ErrorOutputFailed(Obstructed):
    """The rows that cannot be delivered cannot be set down either: the stream pauses, nothing is skipped."""


@dataclass(frozen=True, slots=True)
class Line:
    """What a segment runs through: the transforms of its version, which rows its destination wants, the destination,
    and the error outputs: the stream's, and that of what this destination did not take.
    """

    transforms: Sequence[Transform | Hook]
    destination: Destination
    errors: Destination
    source: bool = False  # records go as they came, those that intake refused too: a backup
    partitioned: bool = False  # the transforms' rows go on by partition, and arrive in cuts
    gathered: bool = False  # at some destination they do: their outcome, which is one for all, lies in that order
    unchanged: bool = False  # none of the transforms changes a record, or makes several of one
    where: Condition | AskedCondition | None = None
    own_errors: Destination | None = None  # the stream's, where nothing is said
    name: str = ""  # of the destination, where letters must say whose they are


@dataclass(slots=True)
class Tally:
    """What a pass over a batch found. Every record is counted exactly once."""

    records: int = 0
    delivered: int = 0  # those included that cannot be judged: they find their end with what the destination refuses
    split: int = 0
    dropped: int = 0
    filtered: int = 0
    rejected: Rejections = field(default_factory=Rejections)
    unjudged: Rejections = field(default_factory=Rejections)

    def add(self, records: int, outcome: Outcome) -> None:
        delivered, dropped, refused = outcome.rows.num_rows, len(outcome.dropped), len(outcome.refused)
        self.records += records
        self.delivered += delivered
        self.split += delivered + dropped + refused - records
        self.dropped += dropped
        if refused:
            self.rejected += outcome.refused

    def sift(self, rows: pa.RecordBatch, judgement: Judgement) -> pa.RecordBatch:
        """The rows that the destination wants."""
        wanted, unjudged = judgement.split(rows)
        filtered = rows.num_rows - wanted.num_rows - len(unjudged)
        self.delivered -= filtered
        self.filtered += filtered
        if unjudged:
            self.unjudged += unjudged
        return wanted


Judge = Callable[[int, pa.RecordBatch], Judgement]  # of a slice: its place among all, and its rows


@dataclass(slots=True)
class Passes:
    """The rows to deliver, pass by pass, and what the last complete pass found."""

    again: Callable[[], Iterator[Counted]]
    judge: Judge | None = None
    tally: Tally | None = None

    def slices(self) -> Iterator[pa.RecordBatch]:
        tally = Tally()
        with _our_side():  # also where a destination is in the middle of reading them
            for place, (records, outcome) in enumerate(self.again()):
                tally.add(records, outcome)
                rows = outcome.rows
                if rows.num_rows and self.judge is not None:
                    rows = tally.sift(rows, self.judge(place, rows))
                if rows.num_rows:
                    yield rows
        self.tally = tally

    def rows(self) -> Iterator[pa.RecordBatch]:
        """All rows, wanted or not."""
        return (outcome.rows for _, outcome in self.again())

    def begun(self, given: Batch) -> Batch | None:
        """The given batch with these rows, the first pass begun already; None where no row is to be delivered."""
        first_pass = self.slices()
        first = next(first_pass, None)
        if first is None:
            return None
        ready = [chain((first,), first_pass)]
        return replace(given, read=lambda: ready.pop() if ready else self.slices())

    def complete(self) -> Tally:
        """What is known once a destination is done, however much of the batch it had to read."""
        while self.tally is None:
            for _ in self.slices():
                pass
        return self.tally


class OneByOne:
    """Lets one at a time work on a segment: its outcome is one for all of the stream's destinations."""

    def __init__(self) -> None:
        self._locks: WeakValueDictionary[SegmentKey, asyncio.Lock] = WeakValueDictionary()

    def turn(self, segment: Segment) -> asyncio.Lock:
        return self._locks.setdefault(segment.key, asyncio.Lock())


@dataclass(frozen=True, slots=True)
class Pipeline:
    """Attempts segments. `line` lends what a segment of a version runs through, as things stand now.

    `parts` is where segments are parted; where the outbox yields cuts, whose outcomes are there, `cuts` is said.
    `threads` are for attempts; `transform_threads` for what is made durable before, which must not wait for far sides.
    """

    outbox: Outbox
    line: Callable[[Segment], AbstractAsyncContextManager[Line]]
    threads: Threads
    transform_threads: Threads
    runtime: Runtime
    outcomes: OneByOne = field(default_factory=OneByOne)
    watch: Watch = field(default_factory=Watch)
    prepared: set[SegmentKey] = field(default_factory=set)
    parts: Parts | None = None
    cuts: bool = False

    async def prepare(self, segment: Segment, aside: Callable[[], AbstractAsyncContextManager[None]]) -> None:
        """Sees to it that the outcome of transforms that cannot be repeated is durable. `aside` is entered for as long
        as that takes, which is up to the user's code; not at all where there is nothing to do.
        """
        if segment.key in self.prepared or self._is_over(segment):
            return
        async with self.line(segment) as line:
            if not self.cuts and not _repeatable(line):
                async with aside():
                    with _our_side():
                        await self._keep(segment, line)
        self.prepared.add(segment.key)

    async def attempt(self, segment: Segment, attempts: int) -> Totals:
        """Sees the segment to its end, or raises `Retry` or `Refused`, with nothing committed."""
        if self._is_over(segment):
            self.prepared.discard(segment.key)
            return Totals()
        async with self.line(segment) as line:
            if (parts := self._parts(line)) is not None:
                with _our_side():
                    return await self._part(segment, line, parts)
            with _our_side():
                given, passes = await self._passes(segment, line)
                batch = await self.threads.run(partial(passes.begun, given))
            receipt = await line.destination.deliver(batch, self.outbox.memo(segment)) if batch else Receipt()
            return await self._arrived(given, line, passes, receipt, attempts)

    def _is_over(self, segment: Segment) -> bool:
        """A parted one ends with its last cut, also while it waits for its outcome to be made anew."""
        return self.parts is not None and not self.parts.owed(segment)

    async def give_up(self, segment: Segment, failure: Retry, attempts: int) -> Totals:
        """Sends every row that would have been delivered, and has not arrived, to the error output instead."""
        async with self.line(segment) as line:
            with _our_side():
                given, passes = await self._passes(segment, line)
            receipt = await self._last_word(given, line, passes)
            if receipt is not None:
                return await self._arrived(given, line, passes, receipt, attempts)
            with _our_side():
                refused = await self.threads.run(partial(_all_refused, passes, line.destination, failure, attempts))
                tally = passes.complete()
                receipt = Receipt(refused=refused + tally.unjudged)
                receipt = await self._with_letters(line, given, passes, tally, receipt)
                return await self._conclude(given, line, tally, receipt, attempts)

    async def _last_word(self, given: Batch, line: Line, passes: Passes) -> Receipt | None:
        """What the destination has to say of a batch that it is to be relieved of."""
        if not isinstance(line.destination, GivesUp):
            return None
        with _our_side():
            batch = await self.threads.run(partial(passes.begun, given))
        try:
            return await line.destination.give_up(batch, self.outbox.memo(given.segment)) if batch else Receipt()
        except Obstructed:
            raise  # it has not been asked
        except (Retry, Refused) as failure:
            observe.log.warning("delivery.given_up", segment=str(given.segment), reason=failure.reason)
            return None

    async def _arrived(self, given: Batch, line: Line, passes: Passes, receipt: Receipt, attempts: int) -> Totals:
        with _our_side():
            if (tally := passes.tally) is None:
                tally = await self.threads.run(passes.complete)
            receipt = replace(receipt, refused=receipt.refused + tally.unjudged)
            receipt = await self._with_letters(line, given, passes, tally, receipt)
            return await self._conclude(given, line, tally, receipt, attempts)

    async def let_go(self, segment: Segment) -> Totals:
        """Its records end here, with nothing sent. Not once they go on in cuts, each of which is let go by itself."""
        if self._is_over(segment):
            self.prepared.discard(segment.key)
            return Totals()
        if self.parts is not None and self.parts.parted(segment):
            raise Retry("it is parted already")
        totals = Totals(dropped=segment.count)
        await self.outbox.commit(segment, totals)
        self.prepared.discard(segment.key)
        return totals

    async def _with_letters(self, line: Line, given: Batch, passes: Passes, tally: Tally, receipt: Receipt) -> Receipt:
        """What the destination refused, as the user sent it: what transforms made of it cannot be sent again."""
        if not line.transforms or not len(receipt.refused) or len(receipt.refused) > tally.delivered:
            return receipt
        return await self.threads.run(partial(_as_they_came, given, passes, tally, receipt))

    def _parts(self, line: Line) -> Parts | None:
        """There where rows are still to be parted; not where they come in the cuts of their partitions."""
        return self.parts if line.partitioned else None

    async def _part(self, segment: Segment, line: Line, parts: Parts) -> Totals:
        """Stage one: what goes on is gathered by partition, the rest ends here. Once parted, nothing is sent again."""
        given, passes = await self._passes(segment, line)
        totals, rejected = Totals(), Rejections()
        if not parts.parted(segment):
            totals, rejected = await self.threads.run(lambda: parting.ended(passes.again(), segment.count))
            self._tell_of_damage(segment, totals.damaged)
        await parts.part(segment, totals, partial(self._set_down, given, line.errors, rejected))
        self.prepared.discard(segment.key)
        return totals

    async def _passes(self, segment: Segment, line: Line) -> tuple[Batch, Passes]:
        """The rows that the destination wants; of those on their way into partitions all, since it gets their cuts."""
        given, passes = await self._whole(segment, line)
        if line.where is not None and self._parts(line) is None:
            passes.judge = await self._judge(line.where, passes)
        return given, passes

    async def _judge(self, where: Condition | AskedCondition, passes: Passes) -> Judge:
        """One that a worker is asked for has been told of all rows before."""
        if not isinstance(where, AskedCondition):
            return lambda _, rows: where.judge(rows)
        said: list[Judgement] = []
        groups = gathered(passes.rows())
        while (group := await self.threads.run(partial(next, groups, None))) is not None:
            said += (await where.ask(pa.concat_batches(group))).each([rows.num_rows for rows in group])
        return lambda place, _: said[place]

    async def _whole(self, segment: Segment, line: Line) -> tuple[Batch, Passes]:
        given = await self.outbox.open(segment)
        if line.source:
            return given, Passes(partial(outcomes.untouched, given))
        parts = self._parts(line)
        if _repeatable(line) and parts is None and not self.cuts:
            steps = [step for step in line.transforms if not isinstance(step, Hook)]
            return given, Passes(partial(outcomes.computed, given, steps))
        read = self.outbox.kept if parts is None else parts.bare
        kept = await read(segment)
        if kept is None:
            await self._keep(segment, line)
            kept = await read(segment)
        if kept is None:
            raise Retry("the durable outcome of the transforms cannot be read back")
        return given, Passes(partial(outcomes.recorded, kept))

    async def _keep(self, segment: Segment, line: Line) -> None:
        async with self.outcomes.turn(segment):
            if await self.outbox.kept(segment) is None:
                elsewhere = all(isinstance(step, Hook) for step in line.transforms)
                given = await (self.outbox.read(segment) if elsewhere else self.outbox.open(segment))

                def ask(hook: Hook, rows: pa.RecordBatch) -> Awaitable[Outcome]:
                    return self.watch.ask(segment.stream, hook, rows, self.runtime.monotonic)

                bare = self._parts(line) if line.unchanged else None
                given = bare.placed(given) if bare else given
                step = line.transforms[-1] if bare else None
                if isinstance(step, parting.Baring):
                    made = parting.bare(given, step, self.transform_threads)
                else:
                    slice_bytes = parting.SLICE_BYTES if line.gathered else 0
                    made = outcomes.awaited(given, line.transforms, self.transform_threads, ask, slice_bytes)
                in_order = parting.in_order_bare if bare else parting.in_order
                ready = in_order(made, self.transform_threads) if line.gathered else made
                async with aclosing(made), aclosing(ready):
                    await self.outbox.keep(segment, ready)

    async def _conclude(self, given: Batch, line: Line, tally: Tally, receipt: Receipt, attempts: int) -> Totals:
        """Writes what was rejected to the error output, then commits how everything ended."""
        segment = given.segment
        # Of an outcome that was lost, and that the user's code made otherwise.
        if self.cuts and tally.records > segment.count:
            tally.split += tally.records - segment.count
            tally.records = segment.count
        damaged = segment.count - tally.records
        if damaged < 0 or len(receipt.refused) > tally.delivered:
            raise BrokenLaw(f"{segment}: {tally.records} records read, {len(receipt.refused)} rows refused of {tally}")
        self._tell_of_damage(segment, damaged)
        if tally.rejected:
            await self._set_down(given, line.errors, tally.rejected)
        if receipt.refused:
            refused = _attempted(receipt.refused, attempts)
            await self._set_down(given, line.own_errors or line.errors, refused, common=False, whose=line.name)
        totals = Totals(
            delivered=tally.delivered - len(receipt.refused),
            dropped=tally.dropped,
            filtered=tally.filtered,
            dead=len(tally.rejected) + len(receipt.refused),
            damaged=damaged,
            split=tally.split,
            sent_bytes=receipt.sent_bytes,
            objects=len(receipt.objects),
        )
        await self.outbox.commit(segment, totals)
        self.prepared.discard(segment.key)
        return totals

    def _tell_of_damage(self, segment: Segment, damaged: int) -> None:
        if damaged:
            observe.damaged(f"{segment}: {damaged} of {segment.count} records are lost; what is damaged is kept")

    async def _set_down(
        self, given: Batch, errors: Destination, rejected: Rejections, *, common: bool = True, whose: str = ""
    ) -> None:
        ended_ms = self.runtime.now_ms()
        for letters in dead_letters.batches(given, rejected, ended_ms, common=common, whose=whose):
            try:
                await errors.deliver(letters, self.outbox.memo(given.segment))
            except (Retry, Refused) as failure:
                raise ErrorOutputFailed(f"the error output fails: {failure.reason}") from failure


@contextmanager
def _our_side() -> Iterator[None]:
    """Whatever asks for a retry in here is no failure of the destination's."""
    try:
        yield
    except Obstructed:
        raise
    except Retry as failure:
        raise Obstructed(failure.reason, failure.after_seconds) from failure


def _repeatable(line: Line) -> bool:
    return all(not isinstance(step, Hook) and step.repeatable for step in line.transforms)


def _all_refused(passes: Passes, destination: Destination, failure: Retry, attempts: int) -> Rejections:
    code = failure.code or DEADLINE_CODE

    def refused(rows: pa.RecordBatch) -> Rejections:
        letters = Rejections.of(rows, destination.error_type, code, failure.reason, attempts)
        return letters.with_extra(failure.extra(rows)) if failure.extra is not None else letters

    parts = [refused(_not_arrived(rows, failure.done_rows)).table for rows in passes.slices()]
    return Rejections(pa.concat_tables([Rejections().table, *parts]))


def _not_arrived(rows: pa.RecordBatch, done_rows: pa.Int32Array | None) -> pa.RecordBatch:
    return rows if done_rows is None else rows.filter(pc.invert(pc.is_in(rows.column("row"), done_rows)))


def _as_they_came(given: Batch, passes: Passes, tally: Tally, receipt: Receipt) -> Receipt:
    """The records that the refused rows were made of, one letter each; the tally follows. Where some rows of a record
    were refused before, are delivered or in other cuts, each row is a letter of its own: the record would bring these
    again.
    """
    refused = receipt.refused
    numbers = pc.unique(refused.table.column("row").combine_chunks())
    ended = numbers.filter(pc.invert(pc.is_in(numbers, tally.rejected.table.column("row").combine_chunks())))
    if tally.split:
        ended = ended.filter(pc.invert(pc.is_in(ended, _partly(refused, passes))))
    columns = [ROW_SCHEMA.field("row"), ROW_SCHEMA.field("record")]
    came = [rows.select(["row", "record"]).filter(pc.is_in(rows.column("row"), ended)) for rows in given.slices()]
    whole = pa.Table.from_batches(came, pa.schema(columns)).combine_chunks()
    letters = outcomes.as_they_came(refused, whole.column("row").combine_chunks(), whole)
    fewer = len(refused) - len(letters)
    tally.delivered -= fewer
    tally.split -= fewer
    return replace(receipt, refused=letters)


def _partly(refused: Rejections, passes: Passes) -> pa.Int32Array:
    """The records of which some rows were refused, not all."""
    ends = refused.table.column("row").combine_chunks()
    rows = [part.column("row").filter(pc.is_in(part.column("row"), ends)) for part in passes.rows()]
    sent = pa.chunked_array(rows, pa.int32()).value_counts()
    counts = pa.table({"row": ends}).group_by("row").aggregate([("row", "count")])
    told = counts.column("row_count").take(pc.index_in(sent.field(0), counts.column("row")))
    return sent.field(0).filter(pc.greater(sent.field(1), told))


def _attempted(refused: Rejections, attempts: int) -> Rejections:
    """A destination sees one attempt; how many there were is known here."""
    table = refused.table
    index = table.schema.get_field_index("attempts")
    counts = pa.repeat(pa.scalar(attempts, pa.int32()), table.num_rows)
    return Rejections(table.set_column(index, table.schema.field(index), counts))
