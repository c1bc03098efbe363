"""Rejected rows as the error output keeps them: one JSON document a line, in AWS's members and order.

firehose.md sections 5.2 and 8.4. The documents of a segment that share an error-output-type are one batch, whose
`partition` is that type: the errors destination names its object from segment, type and destination, so that a
repeat overwrites it.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import msgspec
import pyarrow as pa
import pyarrow.compute as pc
from pybase64 import b64encode

from firehose.model import Batch, Rejections, Segment

INTAKE = "ingest-failed"  # error-output-type of what intake refused: ours, AWS refuses such a request instead
DELIVERY = "delivery-failed"  # of what a destination did not take in time, where AWS has no name for it
_encode = msgspec.json.Encoder().encode


def refused_by_intake(rows: pa.RecordBatch) -> Rejections:
    """Rows whose `refused` column holds "<Code>: <message>"."""
    said = rows.column("refused")
    codes = pc.utf8_replace_slice(pc.replace_substring_regex(said, r"(?s):.*$", ""), 0, 0, "Ingest.")
    messages = pc.replace_substring_regex(said, r"(?s)^[^:]*: ?", "")
    whole = Rejections.of(rows, INTAKE, "", "").table
    table = whole.set_column(4, whole.schema.field("code"), codes)
    return Rejections(table.set_column(5, whole.schema.field("message"), messages))


def batches(segment: Segment, rejections: Rejections, ended_ms: int) -> Iterator[Batch]:
    """One batch of error documents for each error-output-type, in the order of their names."""
    for error_type in sorted(set(rejections.table.column("error_type").to_pylist())):
        mask = pc.equal(rejections.table.column("error_type"), error_type)
        documents = _documents_record_by_record(rejections.table.filter(mask), ended_ms)
        yield Batch(segment, partial(iter, (documents,)), error_type)


def _documents_record_by_record(table: pa.Table, ended_ms: int) -> pa.RecordBatch:
    lines = [
        _encode(
            {
                "rawData": b64encode(row["record"]).decode(),
                "errorCode": row["code"],
                "errorMessage": row["message"],
                "attemptsMade": row["attempts"],
                "arrivalTimestamp": row["arrival_ms"],
                "attemptEndingTimestamp": ended_ms,
            }
        )
        + b"\n"
        for row in table.to_pylist()
    ]
    count = len(lines)
    return pa.record_batch(
        {
            "record": pa.array(lines, pa.binary()),
            "row": table.column("row").combine_chunks(),
            "part": pa.repeat(pa.scalar(0, pa.int32()), count),
            "arrival_ms": table.column("arrival_ms").combine_chunks(),
        }
    )
