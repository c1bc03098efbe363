"""Rows, column by column: how large they are, and new ones made of given ones.

The latter is what every transform has to get right about ordinals, parts and arrival times: it must never number rows
by itself, for an earlier one may have split them. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from firehose.model import NO_ROWS, REJECTION_SCHEMA, ROW_SCHEMA, SIZE, Outcome, Records, Rejections

Ordinals = np.ndarray[tuple[int], np.dtype[np.int32]]


def values_bytes(column: pa.Array | pa.ChunkedArray) -> int:
    """Of bytes or texts alone. Arrow's own `nbytes` lets another thread have the interpreter meanwhile."""
    if isinstance(column, pa.ChunkedArray):
        return sum(map(values_bytes, column.chunks))
    if not len(column):
        return 0
    ends = memoryview(column.buffers()[1]).cast("i")
    size: int = ends[column.offset + len(column)] - ends[column.offset]
    return size


def pieces(records: Records) -> list[pa.RecordBatch]:
    """Those that have rows, in order."""
    found = records.to_batches() if isinstance(records, pa.Table) else [records]
    return [piece for piece in found if piece.num_rows]


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


def distinct(columns: Sequence[pa.Int32Array]) -> int:
    """How many different ordinals there are, of rows near each other: it takes a byte for each from the first to the
    last, and a tenth of the time of a table of hashes.
    """
    held = [column.to_numpy() for column in columns if len(column)]
    first = min((int(ordinals.min()) for ordinals in held), default=0)
    last = max((int(ordinals.max()) for ordinals in held), default=-1)
    seen = np.zeros(last + 1 - first, bool)
    for ordinals in held:
        seen[ordinals - first] = True
    return int(np.count_nonzero(seen))


def bare(given: pa.RecordBatch) -> pa.RecordBatch:
    """The rows without their records, of which the sizes stay: for rows that are found again by their places."""
    return given.drop_columns(["record"]).append_column(SIZE, pc.binary_length(given.column("record")))


def is_bare(rows: pa.RecordBatch) -> bool:
    """Whether the rows go without their records."""
    return SIZE in rows.schema.names


def together(pieces: Iterable[pa.RecordBatch]) -> pa.RecordBatch:
    """All rows of the pieces, of which there is at least one. One may have a column that others lack, such as `meta`
    where only its rows were given any.
    """
    table = pa.concat_tables([pa.Table.from_batches([piece]) for piece in pieces], promote_options="default")
    return pa.record_batch([column.combine_chunks() for column in table.columns], schema=table.schema)


def joined(given: pa.RecordBatch, outcomes: Sequence[Outcome]) -> Outcome:
    """What became of the given rows, of what became of the pieces that they were cut into, in order."""
    if len(outcomes) == 1:
        return outcomes[0]
    refused = pa.concat_tables([Rejections().table, *(outcome.refused.table for outcome in outcomes)])
    return Outcome(
        together([given.slice(0, 0), *(outcome.rows for outcome in outcomes)]),
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
