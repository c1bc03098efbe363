"""The event that a transformation Lambda gets, and what its answer means: firehose.md sections 8.2 to 8.4.

Pure functions, shared by the real Lambda and by Python handlers written as one. Whatever a function answers, each of
the rows ends in exactly one way: an answer that breaks the contract refuses rows, and never raises.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pybase64 import b64decode, b64encode_as_string

from firehose.hooks.program import PROCESSING_FAILED
from firehose.model import Outcome, Rejections
from firehose.rows import replaced

ENVELOPE_BYTES = 4096  # more than an event's own members take, ARNs of any length that AWS allows included
RECORD_BYTES = 128  # more than a record's members take beside its data
METADATA_BYTES = 160  # more than kinesisRecordMetadata takes beside what `meta` says
TEXT_LIMIT = 300  # characters of a function's answer that a message may repeat
FAILED = "ProcessingFailed status set for record"  # AWS's own words
Sizes = np.ndarray[tuple[int], np.dtype[np.int64]]
SHAPE = (
    "answer {'records': [{'recordId': <as given>, 'result': 'Ok', 'Dropped' or 'ProcessingFailed',"
    " 'data': <text in base64>}, ...]}"
)


class Metadata(msgspec.Struct, gc=False):
    """What an answer may say about a record beside its data."""

    partitionKeys: dict[str, str | int | float | bool] | None = None


class Answered(msgspec.Struct, gc=False):
    """What a function says about one record. Members that AWS does not know are ignored."""

    recordId: str
    result: Literal["Ok", "Dropped", "ProcessingFailed"]
    data: str | None = None
    metadata: Metadata | None = None


class Answer(msgspec.Struct):
    """The whole answer."""

    records: list[Answered]


class Place(msgspec.Struct):
    """Where in a data stream a record was: the members of a row's `meta` that its source wrote."""

    shardId: str
    partitionKey: str
    sequenceNumber: str
    subsequenceNumber: int = 0
    streamArn: str = ""


class Broken(Exception):
    """The answer refuses all of its event's records."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


def event(rows: pa.RecordBatch, *, invocation_id: str, stream_arn: str, region: str) -> dict[str, Any]:
    """The event for these rows, record by record. Calling for the same rows again changes the invocation's id alone."""
    made: dict[str, Any] = {"invocationId": invocation_id, "deliveryStreamArn": stream_arn, "region": region}
    data, arrivals = rows.column("record").to_pylist(), rows.column("arrival_ms").to_pylist()
    records = [
        {"recordId": name, "approximateArrivalTimestamp": arrival, "data": b64encode_as_string(record)}
        for name, arrival, record in zip(record_ids(rows), arrivals, data, strict=True)
    ]
    for record, place in zip(records, _places(rows), strict=False):
        if place is not None:
            record["kinesisRecordMetadata"] = _kinesis(place, record["approximateArrivalTimestamp"])
            if place.streamArn:
                made["sourceKinesisStreamArn"] = place.streamArn
    made["records"] = records
    return made


def record_ids(rows: pa.RecordBatch) -> list[str]:
    """Opaque digits, each unique within the segment: a record that is asked for again has the id that it had."""
    ordinals, parts = rows.column("row").to_pylist(), rows.column("part").to_pylist()
    return [f"{row:020d}{part:08d}" for row, part in zip(ordinals, parts, strict=True)]


def answered(rows: pa.RecordBatch, response: object, function: str, attempts: int = 1) -> Outcome:
    """What a function's answer makes of the rows that its event held. `attempts` is how many calls it took."""
    try:
        answers = _by_id(response)
        return _outcome(rows, answers, function, attempts)
    except Broken as broken:
        return all_refused(rows, broken.code, broken.message, function, attempts)


def all_refused(rows: pa.RecordBatch, code: str, message: str, function: str, attempts: int = 1) -> Outcome:
    """No row of them is processed, for one and the same reason."""
    why = Rejections.of(rows, PROCESSING_FAILED, code, message, attempts, function)
    return Outcome(rows.slice(0, 0), why)


def cuts(rows: pa.RecordBatch, limit_bytes: int) -> list[pa.RecordBatch]:
    """The rows cut so that the event of each piece, as JSON, has at most `limit_bytes`.

    What was one record stays together: a piece is larger than the limit where a single record is.
    """
    if _at_most(rows) <= limit_bytes:
        return [rows] if rows.num_rows else []
    ordinals = rows.column("row").to_numpy()
    ends = np.append(np.flatnonzero(np.diff(ordinals)) + 1, len(ordinals))
    behind = np.cumsum(_event_sizes(rows))[ends - 1] if len(ordinals) else np.zeros(0, np.int64)
    pieces, start, before = [], 0, 0
    while start < len(ordinals):
        fitting = int(np.searchsorted(behind, before + limit_bytes - ENVELOPE_BYTES, side="right")) - 1
        last = max(fitting, int(np.searchsorted(ends, start, side="right")))
        pieces.append(rows.slice(start, ends[last] - start))
        start, before = int(ends[last]), int(behind[last])
    return pieces


def _at_most(rows: pa.RecordBatch) -> int:
    """More bytes than their event has, told at a glance."""
    return int(2 * rows.nbytes + rows.num_rows * (RECORD_BYTES + METADATA_BYTES) + ENVELOPE_BYTES)


def _event_sizes(rows: pa.RecordBatch) -> Sizes:
    """At most how many bytes each row takes in its event."""
    sizes = (_lengths(rows, "record") + 2) // 3 * 4 + RECORD_BYTES
    if "meta" in rows.schema.names:
        meta = _lengths(rows, "meta")
        sizes += np.where(meta > 0, meta + METADATA_BYTES, 0)
    return sizes


def _lengths(rows: pa.RecordBatch, column: str) -> Sizes:
    lengths = pc.fill_null(pc.binary_length(rows.column(column)), 0)
    return np.asarray(lengths, np.int64)


def _places(rows: pa.RecordBatch) -> list[Place | None]:
    """Where each row was in a data stream; None for one that came from elsewhere, nothing where all did."""
    if "meta" not in rows.schema.names:
        return []
    decoder = msgspec.json.Decoder(Place)
    return [_place(meta, decoder) for meta in rows.column("meta").to_pylist()]


def _place(meta: str | None, decoder: msgspec.json.Decoder[Place]) -> Place | None:
    try:
        return decoder.decode(meta) if meta else None
    except (msgspec.DecodeError, RecursionError):
        return None  # another source's meta


def _kinesis(place: Place, arrival_ms: int) -> dict[str, Any]:
    return {
        "shardId": place.shardId,
        "partitionKey": place.partitionKey,
        "approximateArrivalTimestamp": arrival_ms,
        "sequenceNumber": place.sequenceNumber,
        "subsequenceNumber": place.subsequenceNumber,
    }


def _by_id(response: object) -> Mapping[str, Answered]:
    """What is said of each id. Raises `Broken` where the answer has not the shape that was agreed on."""
    try:
        said = msgspec.convert(response, Answer).records
    except Exception as error:  # not only msgspec's: a Python handler may answer with mappings of its own making
        raise Broken("Lambda.FunctionError", f"{shortened(str(error))}; {SHAPE}") from None
    answers = {one.recordId: one for one in said}
    if len(answers) < len(said):
        raise Broken("Lambda.DuplicatedRecordId", f"the answer has the recordId {_repeated(said)} more than once")
    return answers


def _repeated(said: Sequence[Answered]) -> str:
    ((name, _),) = Counter(one.recordId for one in said).most_common(1)
    return shortened(name)


def _outcome(rows: pa.RecordBatch, answers: Mapping[str, Answered], function: str, attempts: int) -> Outcome:
    """Walks over the records. An id that was not in the event answers nothing; the records it leaves out are told."""
    kept: list[int] = []
    dropped: list[int] = []
    failed: list[int] = []
    missing: list[int] = []
    made: list[bytes] = []
    keys: dict[int, Mapping[str, Any]] = {}
    ids = record_ids(rows)
    for index, name in enumerate(ids):
        answer = answers.get(name)
        if answer is None:
            missing.append(index)
        elif answer.result == "Ok":
            if answer.metadata is not None and answer.metadata.partitionKeys:
                keys[len(kept)] = answer.metadata.partitionKeys
            kept.append(index)
            made.append(_bytes(answer))
        elif answer.result == "Dropped":
            dropped.append(index)
        else:
            failed.append(index)
    whole = len(kept) == rows.num_rows
    left = replaced(rows if whole else rows.take(pa.array(kept, pa.int32())), pa.array(made, pa.binary()))
    refused = Rejections()
    if missing or failed:
        strange = sorted(answers.keys() - set(ids))[:1] if missing else []
        refused = _refused(rows, missing, "Lambda.MissingRecordId", _missing(strange), attempts, function)
        refused += _refused(rows, failed, "Lambda.ProcessingFailedStatus", FAILED, attempts, function)
        refused = Rejections(refused.table.sort_by("row"))
    return Outcome(_partitioned(left, keys), refused, rows.column("row").take(pa.array(dropped, pa.int32())))


def _bytes(answer: Answered) -> bytes:
    """The record that the function made. Raises `Broken`: AWS then refuses the whole batch."""
    if answer.data is None:
        raise Broken("Lambda.FunctionError", f"the record {shortened(answer.recordId)} is Ok, and has no data; {SHAPE}")
    try:
        return b64decode(answer.data, None, True)
    except ValueError as error:
        message = f"the data of the record {shortened(answer.recordId)} is not base64: {error}; {SHAPE}"
        raise Broken("Lambda.FunctionError", message) from None


def _missing(strange: Sequence[str]) -> str:
    other = f", and has {shortened(strange[0])}, which was not in the event" if strange else ""
    return f"the answer does not have this recordId{other}; answer every record of the event once, under its own id"


def _refused(
    rows: pa.RecordBatch, index: Sequence[int], code: str, message: str, attempts: int, function: str
) -> Rejections:
    chosen = rows.take(pa.array(index, pa.int32()))
    return Rejections.of(chosen, PROCESSING_FAILED, code, message, attempts, function)


def _partitioned(rows: pa.RecordBatch, keys: Mapping[int, Mapping[str, Any]]) -> pa.RecordBatch:
    """The rows with the partition keys that were given to some of them (by index) in their `meta`."""
    if not keys:
        return rows
    given = "meta" in rows.schema.names
    meta = rows.column("meta").to_pylist() if given else [None] * rows.num_rows
    for index, said in keys.items():
        meta[index] = _merged(meta[index], said)
    column = pa.array(meta, pa.string())
    if given:
        return rows.set_column(rows.schema.get_field_index("meta"), "meta", column)
    return rows.append_column("meta", column)


def _merged(meta: str | None, keys: Mapping[str, Any]) -> str:
    """The members that were there, and among its partition keys the new ones."""
    there: dict[str, Any] = msgspec.json.decode(meta, type=dict[str, msgspec.Raw]) if meta else {}
    before: dict[str, Any] = msgspec.json.decode(there.get("partitionKeys", b"{}"))
    there["partitionKeys"] = {**before, **{key: _text(value) for key, value in keys.items()}}
    try:
        return msgspec.json.encode(there).decode()
    except UnicodeEncodeError as error:
        raise Broken("Lambda.FunctionError", f"metadata.partitionKeys are not Unicode text: {error}; {SHAPE}") from None


def _text(value: str | float | bool) -> str:
    """AWS keeps partition keys as text, and takes any plain value for one."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def shortened(text: str) -> str:
    """The beginning of a far side's text, fit for a message. Half a surrogate pair is text in JSON and Python only."""
    return text[:TEXT_LIMIT].encode("utf-8", "replace").decode()
