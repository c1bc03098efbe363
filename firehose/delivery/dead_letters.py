"""Rejected rows as the error output keeps them: one JSON document a line, in AWS's members and order.

firehose.md sections 5.2 and 8.4. The documents of a segment that share an error-output-type are one batch, whose
`partition` is that type: the errors destination names its object from segment, type and destination, so that a
repeat overwrites it. What failed before any destination saw it is `common`, and named without the destination: each of
a stream's destinations sets it down, one over the other, and a record is one letter however many there are.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import msgspec
import pyarrow as pa
import pyarrow.compute as pc
from pybase64 import b64encode

from firehose.model import ROW_SCHEMA, Batch, Rejections, Segment

INTAKE = "ingest-failed"  # error-output-type of what intake refused: ours, AWS refuses such a request instead
SLICE_ROWS = 1024
_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


def refused_by_intake(rows: pa.RecordBatch) -> Rejections:
    """Rows whose `refused` column holds "<Code>: <message>"."""
    said = rows.column("refused")
    codes = pc.utf8_replace_slice(pc.replace_substring_regex(said, r"(?s):.*$", ""), 0, 0, "Ingest.")
    messages = pc.replace_substring_regex(said, r"(?s)^[^:]*: ?", "")
    whole = Rejections.of(rows, INTAKE, "", "").table
    table = whole.set_column(4, whole.schema.field("code"), codes)
    return Rejections(table.set_column(5, whole.schema.field("message"), messages))


def batches(segment: Segment, rejections: Rejections, ended_ms: int, *, common: bool = False) -> Iterator[Batch]:
    """One batch of error documents for each error-output-type, in the order of their names."""
    types = rejections.table.column("error_type")
    for error_type in sorted(types.unique().to_pylist()):
        chosen = partial(_documents, rejections.table, error_type, ended_ms)
        yield Batch(segment, chosen, error_type, common)


def _documents(table: pa.Table, error_type: str, ended_ms: int) -> Iterator[pa.RecordBatch]:
    """A few at a time: each record becomes Python objects, and a segment has many."""
    for rows in table.to_batches(max_chunksize=SLICE_ROWS):
        chosen = rows.filter(pc.equal(rows.column("error_type"), error_type))
        if chosen.num_rows:
            yield _documents_record_by_record(chosen, ended_ms)


def _documents_record_by_record(rows: pa.RecordBatch, ended_ms: int) -> pa.RecordBatch:
    lines = [
        _encode(
            {
                "rawData": b64encode(row["record"]).decode(),
                "errorCode": row["code"],
                "errorMessage": row["message"],
                "attemptsMade": row["attempts"],
                "arrivalTimestamp": row["arrival_ms"],
                "attemptEndingTimestamp": ended_ms,
                **({"lambdaARN": row["function"]} if row["function"] is not None else {}),
                **(_decode(row["extra"]) if row["extra"] is not None else {}),
            }
        )
        + b"\n"
        for row in rows.to_pylist()
    ]
    parts = pa.repeat(pa.scalar(0, pa.int32()), len(lines))
    columns = [pa.array(lines, pa.binary()), rows.column("row"), parts, rows.column("arrival_ms")]
    return pa.record_batch(columns, schema=ROW_SCHEMA)
