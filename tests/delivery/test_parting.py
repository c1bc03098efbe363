"""Rows that go on by partition without their records: what becomes of them is what becomes of whole rows."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterable

import pyarrow as pa
import pytest
from batches import rows, segment
from key_steps import working
from sites import site
from virtual_time import Inline, run

from firehose.delivery import parting
from firehose.delivery.outcomes import BrokenLaw, Passage, transformed
from firehose.model import Batch, Outcome
from firehose.partitioning.step import Partition
from firehose.partitions import COLUMN, decode
from firehose.rows import bare, joined

RECORDS = [b'{"c":"b"}', b"refused by intake", b'{"c":"a"}\n', b"no JSON", b'{"c":"b", "d":1}', b'{"c":"c"}']
REFUSED = pa.array([None, "Code: too large", None, None, None, None])


def step(**options: int) -> Partition:
    made = working("c=!{partitionKeyFromQuery:c}/", site(Inline()), queries={"c": ".c"}, **options)
    assert isinstance(made, Partition)
    return made


def letter(partition: str) -> str:
    return decode(partition)["partitionKeyFromQuery"]["c"]


def batch(whole: pa.RecordBatch, rows_per_slice: int) -> Batch:
    starts = range(0, whole.num_rows, rows_per_slice)
    return Batch(segment(RECORDS), lambda: (whole.slice(start, rows_per_slice) for start in starts))


async def all_of(outcomes: AsyncGenerator[Outcome, None]) -> list[Outcome]:
    return [outcome async for outcome in outcomes]


@pytest.mark.parametrize("rows_per_slice", [1, 2, 4, 10])
@pytest.mark.parametrize("slice_bytes", [1, 60, 1 << 20])
def test_whatever_the_slices(rows_per_slice: int, slice_bytes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """However slices fall, and however many are looked at together: the same rows, and the same are refused; and in
    order, those of one partition lie side by side as they came.
    """
    monkeypatch.setattr(parting, "SLICE_BYTES", slice_bytes)
    whole = rows(RECORDS).append_column("refused", REFUSED)
    expected = transformed(whole, [step()])
    given = batch(whole, rows_per_slice)
    made = joined(bare(expected.rows), run(all_of(parting.bare(given, step(), Inline()))))
    assert made.rows.to_pylist() == bare(expected.rows).to_pylist()
    order = [("row", "ascending")]
    assert made.refused.table.sort_by(order).equals(expected.refused.table.sort_by(order))
    (ordered,) = run(all_of(parting.in_order_bare(parting.bare(given, step(), Inline()), Inline())))
    assert ordered.rows.column("row").to_pylist() == [0, 4, 2, 5]
    assert list(map(letter, ordered.rows.column(COLUMN).dictionary.to_pylist())) == ["b", "a", "c"]


def test_only_partitions_that_occur_are_named() -> None:
    """What looks for groups takes each name for one: a partition past the limit has no row, and leaves no name."""
    ended = parting.in_order_bare(parting.bare(batch(rows(RECORDS), 2), step(limit=2), Inline()), Inline())
    (ordered,) = run(all_of(ended))
    assert ordered.rows.column("row").to_pylist() == [0, 4, 2]
    assert list(map(letter, ordered.rows.column(COLUMN).dictionary.to_pylist())) == ["b", "a"]
    assert len(ordered.refused) == 3


def test_nothing_to_part() -> None:
    """A segment none of whose records can be read has no outcomes, and that is no error."""
    nothing = rows([]).append_column("refused", pa.array([], pa.string()))
    assert run(all_of(parting.bare(batch(nothing, 1), step(), Inline()))) == []


class Loses:
    """Lets a row vanish."""

    def bare_outcome(self, slices: Iterable[pa.RecordBatch]) -> Outcome:
        return Outcome(bare(pa.concat_batches([Passage.of(one).rows for one in slices]).slice(1)))


def test_a_lost_row_is_a_bug() -> None:
    """The law that no row is lost holds for these steps too."""
    with pytest.raises(BrokenLaw, match="Loses loses rows: 0"):
        run(all_of(parting.bare(batch(rows(RECORDS), 2), Loses(), Inline())))
