"""Any body at all to the AWS API: an answer in its words, everything or nothing stored, in bounded time."""

from __future__ import annotations

import asyncio
import base64
import json
import time
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from firehose.http.aws_json import AwsJson
from firehose.http.control import Control
from firehose.http.wire import Head, Reply
from firehose.ingest.dialects.firehose_api import TARGET, FirehosePuts
from firehose.ingest.intake import Intake
from firehose.ingest.splitting import SplitOptions
from firehose.model import Origin, Position

CODES = {"SerializationException", "ValidationException", "InvalidArgumentException", "ResourceNotFoundException"}


class Kept:
    """An appender in memory."""

    def __init__(self) -> None:
        self.records: list[bytes] = []

    async def append(self, records: pa.RecordBatch, origin: Origin | None = None) -> Position:
        self.records += records.column("record").to_pylist()
        return Position("lane", 0, records.num_rows)

    def origins(self) -> dict[str, Origin]:
        return {}


def asked(operation: str, body: bytes) -> tuple[Reply, dict[str, Any], list[bytes]]:
    """The answer, its JSON, and what was stored."""
    kept = Kept()
    puts = FirehosePuts({"app": Intake("app", kept, SplitOptions())}, "000000000000")
    control = Control({}, {}, region="us-east-1", account_id="000000000000")
    route = AwsJson({**puts.operations(), **control.operations()}, lambda: "id").route()
    head = Head("POST", "/", b"", {b"x-amz-target": (TARGET + operation).encode()})
    reply = asyncio.run(run(route.finish(head, body)))
    return reply, json.loads(reply.body), kept.records


async def run(answer: Any) -> Reply:
    reply: Reply = await answer
    return reply


OPERATIONS = st.sampled_from(["PutRecord", "PutRecordBatch", "DescribeDeliveryStream", "ListDeliveryStreams"])
TEXTS = st.sampled_from(["app", "none", "", "a/b", "eA==", "eA", "=", "x" * 70, "\ud800", "\0"]) | st.text(max_size=4)
NAMES = st.sampled_from(
    ["DeliveryStreamName", "Record", "Records", "Data", "Limit", "ExclusiveStartDestinationId", "x"]
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=4),
    max_leaves=10,
)
RECORD = st.fixed_dictionaries({"Data": st.binary(max_size=9).map(lambda data: base64.b64encode(data).decode())})
REQUEST = st.fixed_dictionaries(
    {"DeliveryStreamName": st.just("app") | JSON},
    optional={"Record": RECORD | JSON, "Records": st.lists(RECORD | JSON, max_size=4) | JSON, "Limit": JSON},
)
BODIES = st.one_of(
    (REQUEST | JSON).map(lambda value: json.dumps(value).encode()),
    (REQUEST | JSON).map(lambda value: json.dumps(value, ensure_ascii=False).encode("utf-8", "surrogatepass")),
    st.binary(max_size=30),
)


@given(OPERATIONS, BODIES)
@example("PutRecord", b'{"DeliveryStreamName":"app","DeliveryStreamName":"none","Record":{"Data":"eA=="}}')
@example("PutRecord", b'{"DeliveryStreamName":"app","Record":{"Data":"eA==","Data":5}}')
@example("PutRecord", b'{"DeliveryStreamName":"app","Record":NaN}')
@example("ListDeliveryStreams", b'{"Limit":1e400}')
@example("ListDeliveryStreams", b'{"ExclusiveStartDeliveryStreamName":"\\ud800"}')
def test_any_body(operation: str, body: bytes) -> None:
    """Every body is answered 200, or refused by one of the API's own codes; what is refused is not stored in part."""
    reply, said, stored = asked(operation, body)
    if reply.status == 200:
        entries = said.get("RequestResponses", [said] if "RecordId" in said else [])
        assert len(stored) == len(entries)
        assert len({entry["RecordId"] for entry in entries}) == len(entries)
        return
    assert (reply.status, stored) == (400, [])
    assert said["__type"] in CODES
    assert said["message"]


@given(st.lists(RECORD, min_size=1, max_size=5))
def test_records_are_stored_byte_for_byte(records: list[dict[str, str]]) -> None:
    """What is put is what is stored, in order."""
    body = json.dumps({"DeliveryStreamName": "app", "Records": records}).encode()
    _, _, stored = asked("PutRecordBatch", body)
    assert stored == [base64.b64decode(record["Data"]) for record in records]


DEEP = 200_000
HOSTILE = {
    "deep arrays": b"[" * DEEP + b"]" * DEEP,
    "open arrays": b"[" * DEEP,
    "deep objects": b'{"DeliveryStreamName":' * DEEP,
    "deep in an unknown member": b'{"DeliveryStreamName":"app","x":' + b"[" * DEEP + b"]" * DEEP + b"}",
    "a long number": b'{"Limit":' + b"9" * DEEP + b"}",
    "many members": b'{"x":1' + b',"x":1' * DEEP + b"}",
    "many records": b'{"DeliveryStreamName":"app","Records":[' + b"{}," * DEEP + b"{}]}",
    "a long name": b'{"DeliveryStreamName":"' + b"a" * DEEP + b'"}',
}


@pytest.mark.parametrize("operation", ["PutRecord", "PutRecordBatch", "ListDeliveryStreams"])
@pytest.mark.parametrize("body", HOSTILE.values(), ids=list(HOSTILE))
def test_hostile_bodies(operation: str, body: bytes) -> None:
    """Bodies made to exhaust are answered shortly and soon."""
    before = time.process_time()
    reply, _, stored = asked(operation, body)
    assert time.process_time() - before < 2
    assert (len(reply.body) < 2000, stored) == (True, [])
