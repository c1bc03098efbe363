"""What requests to an HTTP endpoint carry, and which answers mean that it was taken: one `Body` for each kind.

Amazon Data Firehose's delivery protocol (firehose.md sections 12.1 and 12.2, to the letter), a JSON array, or NDJSON.
Pure: nothing here talks to anybody.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pybase64 import b64encode

from firehose.formats import contents, delimited
from firehose.parcels import Parcel, Sizes
from firehose.posting import Answer

RECORD_BYTES = 1_024_000  # of a record in the protocol
BETWEEN_BYTES = len('{"data":""},')
MESSAGE_CHARACTERS = 8192


@dataclass(frozen=True, slots=True)
class Body:
    """A kind of body. `encode` takes the records of a request, its id and the time in milliseconds."""

    content_type: str
    encode: Callable[[Parcel, int], bytes]
    sizes: Callable[[pa.BinaryArray], Sizes]
    wrong: Callable[[pa.Table], tuple[pa.BooleanArray, str, str]]  # which rows cannot be sent; code and message
    accepted: Callable[[Answer, str], str]  # what is wrong with an answer; nothing: it is a success


# The delivery protocol.


def _enveloped_record_by_record(parcel: Parcel, now_ms: int) -> bytes:
    head = b'{"requestId":"%b","timestamp":%d,"records":[{"data":"' % (parcel.id.encode(), now_ms)
    said = (b64encode(one) for chunk in parcel.chunks() for one in chunk.to_pylist())
    return head + b'"},{"data":"'.join(said) + b'"}]}'


def _enveloped_sizes(records: pa.BinaryArray) -> Sizes:
    sizes: Sizes = (_sizes(records) + 2) // 3 * 4 + BETWEEN_BYTES
    return sizes


def _too_large_a_record(rows: pa.Table) -> tuple[pa.BooleanArray, str, str]:
    wrong = pc.greater(pc.binary_length(rows.column("record")), RECORD_BYTES)
    return wrong, "RecordTooLarge", f"a record of more than {RECORD_BYTES} bytes does not go by this protocol"


def _acknowledged(answer: Answer, id: str) -> str:
    """firehose.md section 12.2."""
    if answer.status != 200:
        return f"answers {answer.status}"
    kind = answer.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        return "answers 200 without Content-Type: application/json"
    if "content-encoding" in answer.headers:
        return "answers 200 with a Content-Encoding"
    if "content-length" not in answer.headers:
        return "answers 200 without a Content-Length"
    try:
        said = msgspec.json.decode(answer.body, type=Acknowledgement)
    except (ValueError, RecursionError) as error:
        return f"answers 200 with a body that is not of the protocol: {error}"
    if said.request_id != id:
        return "answers 200 for another requestId"
    return ""


class Acknowledgement(msgspec.Struct, rename="camel", forbid_unknown_fields=True):
    request_id: str
    timestamp: int
    error_message: Annotated[str, msgspec.Meta(max_length=MESSAGE_CHARACTERS)] | None = None


# JSON and NDJSON.


def _array_record_by_record(parcel: Parcel, now_ms: int) -> bytes:
    return b"[%b]" % b",".join(one.strip() for chunk in parcel.chunks() for one in chunk.to_pylist())


def _no_json_record_by_record(rows: pa.Table) -> tuple[pa.BooleanArray, str, str]:
    """One record that is no JSON would make all of the request none."""
    wrong = [not _is_json(record) for record in rows.column("record").to_pylist()]
    return pa.array(wrong, pa.bool_()), "InvalidJson", "the record is not one JSON value; use body ndjson or firehose"


def _is_json(record: bytes) -> bool:
    try:
        msgspec.json.decode(record)
    except (ValueError, RecursionError):
        return False
    return True


def _lines(parcel: Parcel, now_ms: int) -> bytes:
    return b"".join(memoryview(contents(delimited(chunk, b"\n"))) for chunk in parcel.chunks())


def _sizes(records: pa.BinaryArray) -> Sizes:
    sizes: Sizes = pc.binary_length(records).to_numpy(zero_copy_only=False).astype(np.int64)
    return sizes


def _plain_sizes(records: pa.BinaryArray) -> Sizes:
    sizes: Sizes = _sizes(records) + 1
    return sizes


def _nothing_wrong(rows: pa.Table) -> tuple[pa.BooleanArray, str, str]:
    return pa.repeat(pa.scalar(False), rows.num_rows), "", ""


def _welcome(answer: Answer, id: str) -> str:
    return "" if 200 <= answer.status < 300 else f"answers {answer.status}"


BODIES: Mapping[str, Body] = {
    "firehose": Body(
        "application/json", _enveloped_record_by_record, _enveloped_sizes, _too_large_a_record, _acknowledged
    ),
    "json": Body("application/json", _array_record_by_record, _plain_sizes, _no_json_record_by_record, _welcome),
    "ndjson": Body("application/x-ndjson", _lines, _plain_sizes, _nothing_wrong, _welcome),
}
