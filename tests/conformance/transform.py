"""The laws of a transform (`firehose.contracts.Transform`), to be run over every implementation.

A law is a function of a harness. Test modules parametrize over `LAWS`, and prove with canaries that each of them can
fail. The suite counts for itself: it shares nothing with the pipeline's own check of outcomes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

import pyarrow as pa
from batches import rows

from firehose.contracts import Transform
from firehose.model import REJECTION_SCHEMA, ROW_SCHEMA, Outcome


class Harness(Protocol):
    """How the suite handles one transform."""

    def make(self) -> Transform:
        """A new instance with the same options, as after a restart."""
        ...

    def records(self) -> Sequence[bytes]:
        """At least four records, among them each kind that the transform treats in a way of its own, and bad ones."""
        ...


Law = Callable[[Harness], None]


def every_row_ends_once(harness: Harness) -> None:
    """Each given row is delivered, refused or dropped: in exactly one of these ways, and refused or dropped once."""
    for given in slices(harness):
        delivered, refused, dropped = ends(harness.make()(given))
        ways = Counter([*set(delivered), *refused, *dropped])
        assert ways == Counter(given.column("row").to_pylist())


def parts_are_told_apart(harness: Harness) -> None:
    """Rows made of one row have different parts, and rows and parts ascend as those given do."""
    for given in slices(harness):
        outcome = harness.make()(given)
        places = list(zip(ends(outcome)[0], outcome.rows.column("part").to_pylist(), strict=True))
        assert places == sorted(set(places))


def rejections_keep_the_order(harness: Harness) -> None:
    """Refused and dropped rows are told in the order in which they came."""
    for given in slices(harness):
        _, refused, dropped = ends(harness.make()(given))
        assert refused == sorted(refused)
        assert dropped == sorted(dropped)


def rejections_hold_the_record(harness: Harness) -> None:
    """What is refused can be replayed: the rejection holds the record as it came, with a reason and its arrival."""
    for given in slices(harness):
        came = {row: (record, at) for record, row, _, at in values(given)}
        for said in harness.make()(given).refused.table.to_pylist():
            assert (said["record"], said["arrival_ms"]) == came[said["row"]]
            assert said["error_type"]
            assert said["code"]


def columns_are_as_agreed(harness: Harness) -> None:
    """Rows keep the agreed columns and types, none of them null; rejections and dropped rows theirs."""
    for given in slices(harness):
        outcome = harness.make()(given)
        assert outcome.rows.schema.names[: len(ROW_SCHEMA)] == ROW_SCHEMA.names
        assert [outcome.rows.schema.field(name).type for name in ROW_SCHEMA.names] == ROW_SCHEMA.types
        assert all(outcome.rows.column(name).null_count == 0 for name in ROW_SCHEMA.names)
        assert outcome.refused.table.schema == REJECTION_SCHEMA
        assert outcome.dropped.type == pa.int32()


def arrival_is_kept(harness: Harness) -> None:
    """A row keeps the time at which its record arrived."""
    for given in slices(harness):
        came = {row: at for _, row, _, at in values(given)}
        assert all(came[row] == at for _, row, _, at in values(harness.make()(given).rows))


def a_bad_row_spoils_no_other(harness: Harness) -> None:
    """A record ends the same way alone as in company: it is refused, never the batch."""
    records = harness.records()
    whole = rows(records)
    together = fates(harness.make()(whole), len(records))
    alone = [fates(harness.make()(whole.slice(n, 1)), len(records))[n] for n in range(len(records))]
    assert together == alone


def repeatable_means_equal(harness: Harness) -> None:
    """Where a transform says that it is repeatable, another instance makes the same outcome of the same slice."""
    if not harness.make().repeatable:
        return
    one, other = harness.make(), harness.make()
    for given in slices(harness):
        first, *again = (told(transform(given)) for transform in (one, one, other))
        assert again == [first, first]


def an_empty_slice_is_fine(harness: Harness) -> None:
    """No rows in, no rows out."""
    assert ends(harness.make()(rows([]))) == ([], [], [])


LAWS: tuple[Law, ...] = (
    every_row_ends_once,
    parts_are_told_apart,
    rejections_keep_the_order,
    rejections_hold_the_record,
    columns_are_as_agreed,
    arrival_is_kept,
    a_bad_row_spoils_no_other,
    repeatable_means_equal,
    an_empty_slice_is_fine,
)


def slices(harness: Harness) -> Iterator[pa.RecordBatch]:
    """The records whole, from the middle on (so that ordinals do not begin with 0), and one by one."""
    whole = rows(harness.records())
    yield whole
    yield whole.slice(whole.num_rows // 2)
    yield from (whole.slice(number, 1) for number in range(whole.num_rows))


def ends(outcome: Outcome) -> tuple[list[int], list[int], list[int]]:
    """Ordinals of the rows delivered, refused and dropped."""
    refused = outcome.refused.table.column("row").to_pylist()
    return outcome.rows.column("row").to_pylist(), refused, outcome.dropped.to_pylist()


def values(given: pa.RecordBatch) -> list[tuple[bytes, int, int, int]]:
    columns = [given.column(name).to_pylist() for name in ROW_SCHEMA.names]
    return list(zip(*columns, strict=True))


def fates(outcome: Outcome, count: int) -> list[object]:
    """For each ordinal what became of its row."""
    _, refused, dropped = ends(outcome)
    made = values(outcome.rows)
    return [([one for one in made if one[1] == n], n in refused, n in dropped) for n in range(count)]


def told(outcome: Outcome) -> object:
    return outcome.rows.to_pylist(), outcome.refused.table.to_pylist(), outcome.dropped.to_pylist()
