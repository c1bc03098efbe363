"""The first stage of a stream with dynamic partitions: a segment's outcome, in the order of partitions, and its totals.

What is refused or dropped ends here; every other row goes on in the cut of its partition (`buffer.cuts`).
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from itertools import chain
from typing import Protocol, runtime_checkable

import numpy as np
import pyarrow as pa

from firehose import rows as of_rows
from firehose.delivery.outcomes import BrokenLaw, Counted, Passage, verify
from firehose.model import Batch, Outcome, Rejections, Totals
from firehose.partitions import COLUMN, COLUMNS
from firehose.runtime import Threads

Codes = np.ndarray[tuple[int], np.dtype[np.int32]]
SLICE_BYTES = 4 * 1024 * 1024  # that go through the steps together: what they have in common is looked at once
BARE_ROWS = 64 * 1024  # that are sorted together where they go on without their records: a few megabytes


@runtime_checkable
class Baring(Protocol):
    """A step that needs rows with their records only one slice after the other."""

    def bare_outcome(self, slices: Iterable[pa.RecordBatch]) -> Outcome:
        """What becomes of the rows of several slices, at least one: those that go on go without their records. It may
        go through the slices more than once, each time to their end.
        """
        ...


async def in_order(outcomes: AsyncGenerator[Outcome, None], threads: Threads) -> AsyncGenerator[Outcome, None]:
    """Each with its rows sorted by partition, those of one partition as they came."""
    async for outcome in outcomes:
        yield await threads.run(partial(_sorted, outcome))


async def bare(batch: Batch, step: Baring, threads: Threads) -> AsyncGenerator[Outcome, None]:
    """What the step makes of a segment whose rows go on as they came, without their records: these are found by their
    places.
    """
    slices = batch.slices()
    while (outcome := await threads.run(partial(_bare, slices, step))) is not None:
        yield outcome


def _bare(slices: Iterator[pa.RecordBatch], step: Baring) -> Outcome | None:
    """The outcome of the next few slices; None behind the last."""
    first = next(slices, None)
    if first is None:
        return None
    few = _Few(chain([first], slices))
    outcome = step.bare_outcome(few)
    verify(of_rows.together(rows.select(["row", "part"]) for rows in few), outcome, type(step).__name__)
    refused = pa.concat_tables([*(passage.refused.table for passage in few.came), outcome.refused.table])
    return replace(outcome, refused=Rejections(refused))


class _Few:
    """The rows that intake did not refuse, of so many slices that they are `SLICE_BYTES` together. The slices are read
    while these are gone through for the first time.
    """

    def __init__(self, slices: Iterator[pa.RecordBatch]) -> None:
        self.came: list[Passage] = []
        self._slices = slices

    def __iter__(self) -> Iterator[pa.RecordBatch]:
        return (passage.rows for passage in self.came) if self.came else self._coming()

    def _coming(self) -> Iterator[pa.RecordBatch]:
        size_bytes = 0
        for rows in self._slices:
            self.came.append(Passage.of(rows))
            yield self.came[-1].rows
            size_bytes += rows.nbytes
            if size_bytes >= SLICE_BYTES:
                return


async def in_order_bare(outcomes: AsyncGenerator[Outcome, None], threads: Threads) -> AsyncGenerator[Outcome, None]:
    """The rows sorted by partition, without their records. Small as they are, many are sorted together, so that a
    partition's rows are few ranges.
    """
    held: list[Outcome] = []
    count = 0
    async for outcome in outcomes:
        held.append(outcome if of_rows.is_bare(outcome.rows) else replace(outcome, rows=of_rows.bare(outcome.rows)))
        count += outcome.rows.num_rows
        if count >= BARE_ROWS:
            yield await threads.run(partial(_sorted_together, held))
            held, count = [], 0
    if held:
        yield await threads.run(partial(_sorted_together, held))


def _sorted_together(outcomes: Sequence[Outcome]) -> Outcome:
    with_rows = [outcome.rows for outcome in outcomes if outcome.rows.num_rows] or [outcomes[0].rows]
    rows = of_rows.together(with_rows)
    refused = pa.concat_tables([outcome.refused.table for outcome in outcomes])
    dropped = pa.concat_arrays([outcome.dropped for outcome in outcomes])
    return _sorted(Outcome(rows, Rejections(refused), dropped))


def _sorted(outcome: Outcome) -> Outcome:
    rows = outcome.rows
    if not rows.num_rows:
        return outcome
    if COLUMN not in rows.schema.names or rows.column(COLUMN).null_count:
        raise BrokenLaw(f"the last step before partitions left rows without a '{COLUMN}'")
    codes, names = _numbered(rows.column(COLUMN))
    rows = _known(rows)
    rows = rows.set_column(rows.schema.get_field_index(COLUMN), COLUMN, pa.DictionaryArray.from_arrays(codes, names))
    if (np.diff(codes) < 0).any():
        # Numbers of 16 bits are sorted by their digits.
        keys = codes.astype(np.uint16) if len(names) <= 1 << 16 else codes
        rows = rows.take(pa.array(np.argsort(keys, kind="stable")))
    return Outcome(rows, outcome.refused, outcome.dropped)


def _known(rows: pa.RecordBatch) -> pa.RecordBatch:
    """The rows without what a step may have added, other columns and notes, and in the types that rows have."""
    rows = rows.select([name for name in rows.schema.names if name in COLUMNS]).replace_schema_metadata()
    for place, field in enumerate(rows.schema):
        if field.name != COLUMN and field.type != COLUMNS[field.name]:
            try:
                column = rows.column(place).cast(COLUMNS[field.name])
            except pa.ArrowException as error:
                raise BrokenLaw(f"a step before partitions left rows with a column {field}: {error}") from error
            rows = rows.set_column(place, field.name, column)
    return rows


def _numbered(partitions: pa.Array) -> tuple[Codes, pa.StringArray]:
    """A number for each row, and the names by number: only what occurs, each once."""
    if not pa.types.is_dictionary(partitions.type):
        partitions = partitions.cast(pa.string()).dictionary_encode()
    codes, names = partitions.indices.to_numpy(), partitions.dictionary
    occurs = np.bincount(codes, minlength=len(names)) > 0
    places = np.cumsum(occurs, dtype=np.int32) - np.int32(1)
    return places[codes], names.filter(pa.array(occurs))


def ended(outcomes: Iterable[Counted], count: int) -> tuple[Totals, Rejections]:
    """How those of a segment's `count` records ended of which no row goes on; and the rows that were refused."""
    records = going = dropped = 0
    refused = [Rejections().table]
    for came, outcome in outcomes:
        records += came
        going += of_rows.distinct([outcome.rows.column("row")])
        dropped += len(outcome.dropped)
        refused += [outcome.refused.table] if len(outcome.refused) else []
    rejected = Rejections(pa.concat_tables(refused))
    damaged = count - records
    if damaged < 0:
        raise BrokenLaw(f"{records} records read of a segment of {count}")
    split = dropped + len(rejected) - (records - going)
    return Totals(dropped=dropped, dead=len(rejected), damaged=damaged, split=split), rejected
