"""What becomes of a slice's rows, transform by transform, each held to its law: no row is lost, doubled or invented.

Law 4 of DESIGN 3. A transform that breaks it is a bug, found before anything of its outcome is sent or kept. Rows are
counted by their ordinal in the segment. Where an earlier transform split a row, a later one may end each of its parts
in its own way: of the parts that came, those not refused or dropped must each leave at least one row.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pyarrow as pa
import pyarrow.compute as pc

from firehose.contracts import Transform
from firehose.delivery import dead_letters
from firehose.model import NO_ROWS, Batch, Outcome, Rejections

Counted = tuple[int, Outcome]  # how many of a slice's records came, and what became of them
SHOWN = 5  # rows that a complaint names


class BrokenLaw(Exception):
    """A plug-in did what its door's law forbids: a bug."""


def computed(batch: Batch, transforms: Sequence[Transform]) -> Iterator[Counted]:
    """Runs the transforms, slice by slice."""
    for rows in batch.slices():
        yield rows.num_rows, transformed(rows, transforms)


def recorded(outcomes: Sequence[Outcome]) -> Iterator[Counted]:
    """Outcomes that were kept, counted by themselves: whatever has happened to the segment's file since."""
    for outcome in outcomes:
        ends = [outcome.rows.column("row"), *outcome.refused.table.column("row").chunks, outcome.dropped]
        yield pc.count_distinct(pa.chunked_array(ends, pa.int32())).as_py(), outcome


def transformed(rows: pa.RecordBatch, transforms: Sequence[Transform]) -> Outcome:
    """What intake refused goes to the error output; the rest runs through the transforms, one after the other."""
    refused, dropped = Rejections(), NO_ROWS
    if "refused" in rows.schema.names:
        good = pc.is_null(rows.column("refused"))
        refused = dead_letters.refused_by_intake(rows.filter(pc.invert(good)))
        rows = rows.filter(good).drop_columns(["refused"])
    for transform in transforms:
        if not rows.num_rows:
            break
        outcome = transform(rows)
        verify(rows, outcome, type(transform).__name__)
        rows, refused = outcome.rows, refused + outcome.refused
        dropped = pa.concat_arrays([dropped, outcome.dropped])
    return Outcome(rows, refused, dropped)


def verify(given: pa.RecordBatch, outcome: Outcome, who: str) -> None:
    """Raises `BrokenLaw` unless the outcome names every given row exactly once, in order."""
    came, left = given.column("row"), outcome.rows.column("row")
    _complain(who, "reorders or repeats", left.filter(_misplaced(left, outcome.rows.column("part"))))
    ended = pa.concat_arrays([*outcome.refused.table.column("row").chunks, outcome.dropped])
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
