"""What becomes of a slice's rows, transform by transform, each held to its law: no row is lost, doubled or invented.

Law 4 of DESIGN 3. A transform that breaks it is a bug, found before anything of its outcome is sent or kept. Rows are
counted by their ordinal in the segment. Where an earlier transform split a row, a later one may end each of its parts
in its own way: of the parts that came, those not refused or dropped must each leave at least one row.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from firehose.contracts import Hook, Transform
from firehose.delivery import dead_letters
from firehose.model import NO_ROWS, REJECTION_SCHEMA, Batch, Outcome, Rejections
from firehose.rows import distinct
from firehose.runtime import Threads

Counted = tuple[int, Outcome]  # how many of a slice's records came, and what became of them
SHOWN = 5  # rows that a complaint names


class BrokenLaw(Exception):
    """A plug-in did what its door's law forbids: a bug."""


def computed(batch: Batch, transforms: Sequence[Transform]) -> Iterator[Counted]:
    """Runs the transforms, slice by slice."""
    for rows in batch.slices():
        yield rows.num_rows, transformed(rows, transforms)


def untouched(batch: Batch) -> Iterator[Counted]:
    """All rows as they came, whatever intake thought of them."""
    for rows in batch.slices():
        yield rows.num_rows, Outcome(rows)


def recorded(outcomes: Iterable[Outcome]) -> Iterator[Counted]:
    """Outcomes that were kept, counted by themselves: whatever has happened to the segment's file since."""
    for outcome in outcomes:
        ends = [outcome.rows.column("row"), *outcome.refused.table.column("row").chunks, outcome.dropped]
        yield distinct(ends), outcome


def transformed(rows: pa.RecordBatch, transforms: Sequence[Transform]) -> Outcome:
    """What intake refused goes to the error output; the rest runs through the transforms, one after the other."""
    passage = Passage.of(rows)
    for transform in transforms:
        if passage.rows.num_rows:
            passage.take(transform, transform(passage.rows))
    return passage.outcome()


Ask = Callable[[Hook, pa.RecordBatch], Awaitable[Outcome]]


async def awaited(
    batch: Batch, steps: Sequence[Transform | Hook], threads: Threads, ask: Ask, slice_bytes: int = 0
) -> AsyncGenerator[Outcome, None]:
    """Runs transforms among which there may be hooks: as many slices side by side as these can take, yielded in order.
    Where there are none, slices are gathered to `slice_bytes`.
    """
    hooks = [step for step in steps if isinstance(step, Hook)]
    at_once = 1 + max((hook.at_once for hook in hooks), default=1)
    slices = _gathered(batch.slices(), max((hook.payload_bytes for hook in hooks), default=slice_bytes))
    under_way: deque[asyncio.Task[Outcome]] = deque()
    try:
        while (rows := await threads.run(partial(next, slices, None))) is not None:
            under_way.append(asyncio.create_task(_hooked(rows, steps, threads, ask)))
            if len(under_way) >= at_once:
                yield await under_way.popleft()
        while under_way:
            yield await under_way.popleft()
    finally:
        for task in under_way:
            task.cancel()
        await asyncio.gather(*under_way, return_exceptions=True)


async def _hooked(rows: pa.RecordBatch, steps: Sequence[Transform | Hook], threads: Threads, ask: Ask) -> Outcome:
    passage = Passage.of(rows)
    for step in steps:
        if passage.rows.num_rows:
            waiting = ask(step, passage.rows) if isinstance(step, Hook) else threads.run(partial(step, passage.rows))
            passage.take(step, await waiting)
    return passage.outcome()


def _gathered(slices: Iterator[pa.RecordBatch], wanted_bytes: int) -> Iterator[pa.RecordBatch]:
    """Slices joined, where they are of one kind, for as long as they have together no more than `wanted_bytes`."""
    held: list[pa.RecordBatch] = []
    held_bytes = 0
    for rows in slices:
        size_bytes = rows.nbytes
        if held and (held_bytes + size_bytes > wanted_bytes or rows.schema != held[0].schema):
            yield pa.concat_batches(held)
            held, held_bytes = [], 0
        held.append(rows)
        held_bytes += size_bytes
    if held:
        yield pa.concat_batches(held)


@dataclass(slots=True)
class Passage:
    """A slice on its way through the transforms, and what has left it so far."""

    given: pa.RecordBatch
    rows: pa.RecordBatch
    refused: Rejections
    dropped: pa.Int32Array = field(default_factory=lambda: NO_ROWS)
    split: set[int] = field(default_factory=set)  # records that a transform has made several rows of

    @staticmethod
    def of(rows: pa.RecordBatch) -> Passage:
        if "refused" not in rows.schema.names:
            return Passage(rows, rows, Rejections())
        good = pc.is_null(rows.column("refused"))
        refused = dead_letters.refused_by_intake(rows.filter(pc.invert(good)))
        rows = rows.filter(good).drop_columns(["refused"])
        return Passage(rows, rows, refused)

    def take(self, step: Transform | Hook, outcome: Outcome) -> None:
        """One more transform has had its say."""
        verify(self.rows, outcome, type(step).__name__)
        if len(outcome.refused):
            self.refused += self._as_they_came(outcome.refused)
        self.rows = outcome.rows
        self.dropped = pa.concat_arrays([self.dropped, outcome.dropped])
        self.split.update(self.rows.column("row").filter(pc.greater(self.rows.column("part"), 0)).to_pylist())

    def outcome(self) -> Outcome:
        if not self.split or not len(self.refused):
            return Outcome(self.rows, self.refused, self.dropped)
        going = set(self.rows.column("row").to_pylist())
        ended = pa.array(sorted(self.split - going), pa.int32())
        return Outcome(self.rows, as_they_came(self.refused, ended, self.given), self.dropped)

    def _as_they_came(self, refused: Rejections) -> Rejections:
        """With the user's own bytes, whatever earlier transforms made of them: that is what can be sent again. Only of
        a record that was split, whose other rows may have gone their way, the row is all there is to send.
        """
        if self.rows is self.given:
            return refused
        table = refused.table
        numbers = table.column("row")
        whole = self.given.take(pc.index_in(numbers, self.given.column("row")).combine_chunks()).column("record")
        if self.split:
            is_part = pc.is_in(numbers, pa.array(sorted(self.split), pa.int32())).combine_chunks()
            whole = pc.if_else(is_part, table.column("record").combine_chunks(), whole)
        return Rejections(table.set_column(1, REJECTION_SCHEMA.field("record"), whole))


def as_they_came(refused: Rejections, ended: pa.Int32Array, given: pa.RecordBatch | pa.Table) -> Rejections:
    """One letter for each record of `given` that `ended` names, none of which goes its way, with the user's own bytes:
    what transforms made of a record cannot be sent through them again. The others' rows stay letters of their own.
    """
    numbers = refused.table.column("row").combine_chunks()
    firsts = np.zeros(len(numbers), bool)
    firsts[np.unique(numbers, return_index=True)[1]] = True
    table = refused.table.filter(pc.or_(pa.array(firsts), pc.invert(pc.is_in(numbers, ended))))
    numbers = table.column("row").combine_chunks()
    places = pc.if_else(pc.is_in(numbers, ended), pc.index_in(numbers, given.column("row")), None)
    whole = pc.coalesce(given.column("record").take(places), table.column("record"))
    return Rejections(table.set_column(1, REJECTION_SCHEMA.field("record"), whole))


def verify(given: pa.RecordBatch, outcome: Outcome, who: str) -> None:
    """Raises `BrokenLaw` unless the outcome names every given row exactly once, in order."""
    came, left = given.column("row"), outcome.rows.column("row")
    ended = pa.concat_arrays([*outcome.refused.table.column("row").chunks, outcome.dropped])
    if not len(ended) and left.equals(came) and outcome.rows.column("part").equals(given.column("part")):
        return
    _complain(who, "reorders or repeats", left.filter(_misplaced(left, outcome.rows.column("part"))))
    if not len(ended) and left.equals(came):
        return
    rows = _by_row(came=came, left=left, ended=ended)
    going = pc.subtract(rows["came"], rows["ended"])
    _complain(who, "invents", rows["row"].filter(pc.equal(rows["came"], 0)))
    _complain(who, "ends more than once", rows["row"].filter(pc.less(going, 0)))
    both = pc.and_(pc.equal(going, 0), pc.greater(rows["left"], 0))
    _complain(who, "both delivers and ends", rows["row"].filter(both))
    _complain(who, "loses", rows["row"].filter(pc.less(rows["left"], going)))


def _misplaced(rows: pa.Int32Array, parts: pa.Int32Array) -> pa.BooleanArray:
    """Which rows do not stand behind the one before them, by row and part."""
    place = pc.add(pc.multiply(rows.cast(pa.int64()), 1 << 32), parts.cast(pa.int64()))
    return pc.fill_null(pc.less_equal(pc.pairwise_diff(place), 0), False)


def _by_row(**columns: pa.Int32Array) -> pa.Table:
    """How often each row stands in each of the columns."""
    tables = [
        pa.table({"row": rows, **{other: pa.repeat(int(other == name), len(rows)) for other in columns}})
        for name, rows in columns.items()
    ]
    counts = pa.concat_tables(tables).group_by("row").aggregate([(name, "sum") for name in columns])
    return counts.select(["row", *(f"{name}_sum" for name in columns)]).rename_columns(["row", *columns])


def _complain(who: str, does: str, rows: pa.Array | pa.ChunkedArray) -> None:
    if len(rows):
        shown = ", ".join(str(row) for row in sorted(rows.unique().to_pylist())[:SHOWN])
        raise BrokenLaw(f"the transform {who} {does} rows: {shown}")
