"""Rejected rows as the error output keeps them: one JSON document a line, in AWS's members and order.

firehose.md sections 5.2, 7 and 8.4. The documents of a segment that share an error-output-type are one batch, whose
`partition` is that type: the errors destination names its object from segment, type and destination, so that a
repeat overwrites it. What failed before any destination saw it is `common`, and named without the destination: each of
a stream's destinations sets it down, one over the other, and a record is one letter however many there are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from hashlib import blake2b
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.compute as pc
from pybase64 import b64encode

from firehose.model import ROW_SCHEMA, Batch, Rejections, Segment

INTAKE = "ingest-failed"  # error-output-type of what intake refused: ours, AWS refuses such a request instead
CONVERSION = "format-conversion-failed"  # of what is not as the schema of a Parquet or ORC file has it
SLICE_ROWS = 1024
IDS = {"http-endpoint-failed": "dataId", "splunk-failed": "EventId"}  # what AWS calls a record's own id, by error type
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


def batches(
    given: Batch, rejections: Rejections, ended_ms: int, *, common: bool = False, whose: str = ""
) -> Iterator[Batch]:
    """One batch of error documents for each error-output-type of a batch's rows, in the order of their names. `whose`
    is the destination that did not take them, where that must be said.
    """
    types = rejections.table.column("error_type")
    for error_type in sorted(types.unique().to_pylist()):
        chosen = partial(_documents, given, rejections.table, error_type, ended_ms, whose)
        yield Batch(given.segment, chosen, error_type, common)


Row = Mapping[str, Any]  # of `REJECTION_SCHEMA`


def _writing(given: Batch, error_type: str) -> Callable[..., Mapping[str, object]]:
    """How AWS writes documents of that type."""
    if error_type == CONVERSION:
        return partial(_conversion, _sequence_numbers(given))
    return partial(_identified, given.segment, IDS[error_type]) if error_type in IDS else _usual


def _sequence_numbers(given: Batch) -> Callable[[int], int]:
    """That of a record, by its row."""
    first = given.segment.first
    return given.numbers().__getitem__ if given.numbers is not None else lambda row: first + row


def _documents(given: Batch, table: pa.Table, error_type: str, ended_ms: int, whose: str) -> Iterator[pa.RecordBatch]:
    """A few at a time: each record becomes Python objects, and a segment has many."""
    written = partial(_signed, _writing(given, error_type), {"destination": whose} if whose else {}, ended_ms)
    for rows in table.to_batches(max_chunksize=SLICE_ROWS):
        chosen = rows.filter(pc.equal(rows.column("error_type"), error_type))
        if chosen.num_rows:
            yield _documents_record_by_record(chosen, written)


def _documents_record_by_record(rows: pa.RecordBatch, written: Callable[[Row], Mapping[str, object]]) -> pa.RecordBatch:
    lines = [_encode(written(row)) + b"\n" for row in rows.to_pylist()]
    parts = pa.repeat(pa.scalar(0, pa.int32()), len(lines))
    columns = [pa.array(lines, pa.binary()), rows.column("row"), parts, rows.column("arrival_ms")]
    return pa.record_batch(columns, schema=ROW_SCHEMA)


def _signed(
    write: Callable[..., Mapping[str, object]], more: Mapping[str, object], ended_ms: int, row: Row
) -> Mapping[str, object]:
    return {**write(row, ended_ms=ended_ms), **more}


def _identified(segment: Segment, member: str, row: Row, ended_ms: int) -> dict[str, object]:
    """With an id of 56 digits, unique for all time. The lane is hashed in it, as everywhere that strangers see."""
    lane = int.from_bytes(blake2b(segment.lane.encode(), digest_size=15).digest())
    id = f"{lane:038d}{segment.first + row['row']:018d}.0"
    return {**_usual(row, ended_ms), "subsequenceNumber": 0, member: id}


def _usual(row: Row, ended_ms: int) -> dict[str, object]:
    return {
        "rawData": b64encode(row["record"]).decode(),
        "errorCode": row["code"],
        "errorMessage": row["message"],
        "attemptsMade": row["attempts"],
        "arrivalTimestamp": row["arrival_ms"],
        "attemptEndingTimestamp": ended_ms,
        **({"lambdaARN": row["function"]} if row["function"] is not None else {}),
        **_extra(row),
    }


def _conversion(number: Callable[[int], int], row: Row, ended_ms: int) -> dict[str, object]:
    return {
        "attemptsMade": row["attempts"],
        "arrivalTimestamp": row["arrival_ms"],
        "lastErrorCode": row["code"],
        "lastErrorMessage": row["message"],
        "attemptEndingTimestamp": ended_ms,
        "rawData": b64encode(row["record"]).decode(),
        "sequenceNumber": str(number(row["row"])),
        "subSequenceNumber": row["part"] or 0,
        **_extra(row),
    }


def _extra(row: Row) -> dict[str, msgspec.Raw]:
    return _decode(row["extra"]) if row["extra"] is not None else {}
