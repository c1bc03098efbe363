"""The first stage of a stream with dynamic partitions: a segment's outcome, in the order of partitions, and its totals.

What is refused or dropped ends here; every other row goes on in the cut of its partition (`buffer.cuts`).
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterable
from functools import partial

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from firehose.delivery.outcomes import BrokenLaw, Counted
from firehose.model import Outcome, Rejections, Totals
from firehose.partitions import COLUMN
from firehose.runtime import Threads

SLICE_BYTES = 8 * 1024 * 1024  # that go through the steps together: a partition's rows of it are one range


async def in_order(outcomes: AsyncGenerator[Outcome, None], threads: Threads) -> AsyncGenerator[Outcome, None]:
    """Each with its rows sorted by partition, those of one partition as they came."""
    async for outcome in outcomes:
        yield await threads.run(partial(_sorted, outcome))


def _sorted(outcome: Outcome) -> Outcome:
    rows = outcome.rows
    if not rows.num_rows:
        return outcome
    if COLUMN not in rows.schema.names or rows.column(COLUMN).null_count:
        raise BrokenLaw(f"the last step before partitions left rows without a '{COLUMN}'")
    names = rows.column(COLUMN).cast(pa.string()).dictionary_encode()  # anew: only what occurs, each once
    codes = names.indices.to_numpy()
    rows = rows.set_column(rows.schema.get_field_index(COLUMN), COLUMN, names)
    if (np.diff(codes) < 0).any():
        rows = rows.take(pa.array(np.argsort(codes, kind="stable")))
    return Outcome(rows, outcome.refused, outcome.dropped)


def ended(outcomes: Iterable[Counted], count: int) -> tuple[Totals, Rejections]:
    """How those of a segment's `count` records ended of which no row goes on; and the rows that were refused."""
    records = going = dropped = 0
    refused = [Rejections().table]
    for came, outcome in outcomes:
        records += came
        going += pc.count_distinct(outcome.rows.column("row")).as_py()
        dropped += len(outcome.dropped)
        refused += [outcome.refused.table] if len(outcome.refused) else []
    rejected = Rejections(pa.concat_tables(refused))
    damaged = count - records
    if damaged < 0:
        raise BrokenLaw(f"{records} records read of a segment of {count}")
    split = dropped + len(rejected) - (records - going)
    return Totals(dropped=dropped, dead=len(rejected), damaged=damaged, split=split), rejected
