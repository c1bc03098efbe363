"""New rows made of given ones: what every transform has to get right about ordinals, parts and arrival times.

Pure, and column by column. A transform must never number rows by itself: an earlier one may have split them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa

from firehose.model import NO_ROWS, REJECTION_SCHEMA, ROW_SCHEMA, Outcome, Rejections

Ordinals = np.ndarray[tuple[int], np.dtype[np.int32]]


def replaced(given: pa.RecordBatch, records: pa.BinaryArray) -> pa.RecordBatch:
    """The given rows with other bytes: one record for each row, in order, none of them null."""
    assert len(records) == given.num_rows
    return given.set_column(0, ROW_SCHEMA.field("record"), records)


def spread(given: pa.RecordBatch, came: Sequence[int] | pa.Int32Array, records: pa.BinaryArray) -> pa.RecordBatch:
    """Any number of rows for each given one: the record at `n` comes from the given row at index `came[n]`.

    `came` ascends. Rows that came from one record are numbered anew, so that each has a part of its own; a slice
    that ends between two parts of one row must therefore never be handed over (see `cut`).
    """
    # Without the records, of which each part would be given a copy.
    taken = given.drop_columns(["record"]).take(pa.array(came, pa.int32()))
    parts = pa.array(_places_within_runs(taken.column("row").to_numpy()), pa.int32())
    made = taken.add_column(0, ROW_SCHEMA.field("record"), records)
    return made.set_column(2, ROW_SCHEMA.field("part"), parts)


def parted(
    given: pa.RecordBatch, flaws: Mapping[int, str], error_type: str, code: str
) -> tuple[pa.RecordBatch, Rejections]:
    """The rows without a flaw, and the others refused. `flaws` says by index, ascending, what is wrong with a row."""
    if not flaws:
        return given, Rejections()
    flawed = np.zeros(given.num_rows, bool)
    flawed[list(flaws)] = True
    refused = refused_each(given.filter(pa.array(flawed)), error_type, [(code, message) for message in flaws.values()])
    return given.filter(pa.array(~flawed)), refused


def refused_each(given: pa.RecordBatch, error_type: str, reasons: Sequence[tuple[str, str]]) -> Rejections:
    """The given rows refused, each for a reason of its own: a code and a message, in the rows' order."""
    table = Rejections.of(given, error_type, "", "").table
    for place, name in enumerate(("code", "message")):
        field = REJECTION_SCHEMA.field(name)
        said = pa.array([reason[place] for reason in reasons], field.type)
        table = table.set_column(REJECTION_SCHEMA.get_field_index(name), field, said)
    return Rejections(table)


def cut(given: pa.RecordBatch, at: int) -> int:
    """The index nearest to `at`, not before it, where the rows can be cut in two without cutting a record's parts."""
    ordinals = given.column("row")
    while 0 < at < given.num_rows and ordinals[at] == ordinals[at - 1]:
        at += 1
    return at


def joined(given: pa.RecordBatch, outcomes: Sequence[Outcome]) -> Outcome:
    """What became of the given rows, of what became of the pieces that they were cut into, in order.

    A piece may have a column that its neighbours lack, such as `meta` where only its rows were given any.
    """
    if len(outcomes) == 1:
        return outcomes[0]
    pieces = [given.slice(0, 0), *(outcome.rows for outcome in outcomes)]
    left = pa.concat_tables([pa.Table.from_batches([piece]) for piece in pieces], promote_options="default")
    refused = pa.concat_tables([Rejections().table, *(outcome.refused.table for outcome in outcomes)])
    return Outcome(
        pa.record_batch([column.combine_chunks() for column in left.columns], schema=left.schema),
        Rejections(refused),
        pa.concat_arrays([NO_ROWS, *(outcome.dropped for outcome in outcomes)]),
    )


def _places_within_runs(
    values: np.ndarray[tuple[int], np.dtype[np.int32]],
) -> np.ndarray[tuple[int], np.dtype[np.int32]]:
    """0, 1, 2, ... within each run of equal values."""
    places = np.arange(len(values), dtype=np.int32)
    begins = np.flatnonzero(np.diff(values, prepend=-1))
    lengths = np.diff(begins, append=len(values))
    return places - np.repeat(begins, lengths).astype(np.int32)
