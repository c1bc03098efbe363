"""PutRecord and PutRecordBatch: requests as botocore writes them, answers as botocore reads them."""

from __future__ import annotations

import asyncio
import base64
import json
import re
from collections.abc import Mapping
from typing import Any

import pyarrow as pa
import pytest
from botocore.model import OperationModel
from botocore.parsers import create_parser
from botocore.serialize import create_serializer
from botocore.session import Session
from hypothesis import given
from hypothesis import strategies as st

from firehose.contracts import Full, Unsure
from firehose.http import aws_json
from firehose.http.aws_json import ApiError, AwsJson
from firehose.http.wire import Head, Reply
from firehose.ingest.dialects.firehose_api import PUT_RECORD, PUT_RECORD_BATCH, TARGET, FirehosePuts
from firehose.ingest.intake import Intake
from firehose.ingest.splitting import SplitOptions
from firehose.model import Origin, Position

ACCOUNT = "123456789012"
LANE = "20260102T030405-0123456789abcdef"
SERVICE = Session().get_service_model("firehose")


class Shelf:
    """An appender in memory."""

    def __init__(self, lane: str = LANE, first: int = 0, failure: Exception | None = None) -> None:
        self.lane = lane
        self.first = first
        self.failure = failure
        self.batches: list[pa.RecordBatch] = []

    async def append(self, records: pa.RecordBatch, origin: Origin | None = None) -> Position:
        if self.failure is not None:
            raise self.failure
        position = Position(self.lane, self.first, records.num_rows)
        self.first += records.num_rows
        self.batches.append(records)
        return position

    def origins(self) -> Mapping[str, Origin]:
        return {}

    @property
    def records(self) -> list[bytes]:
        return [record for batch in self.batches for record in batch.column("record").to_pylist()]


class Slow(Shelf):
    """An appender that is at work until it is let go."""

    def __init__(self) -> None:
        super().__init__()
        self.started = asyncio.Event()
        self.release = asyncio.Event()

    async def append(self, records: pa.RecordBatch, origin: Origin | None = None) -> Position:
        self.started.set()
        await self.release.wait()
        return await super().append(records, origin)


def puts(shelf: Shelf, source: str = "direct_put") -> FirehosePuts:
    return FirehosePuts({"logs": Intake("logs", shelf, SplitOptions(), source=source)}, ACCOUNT)


def operation(name: str) -> OperationModel:
    model: OperationModel = SERVICE.operation_model(name)
    return model


async def call(shelf: Shelf, name: str, parameters: Mapping[str, Any], source: str = "direct_put") -> Any:
    """What botocore would return for the call, or its error's members."""
    request = create_serializer("json", include_validation=False).serialize_to_request(
        dict(parameters), operation(name)
    )
    return as_client(name, await post(shelf, name, request["body"], source))


async def post(shelf: Shelf, name: str, body: bytes, source: str = "direct_put") -> Reply:
    route = AwsJson(puts(shelf, source).operations(), lambda: "request-1").route()
    head = Head("POST", "/", b"", {b"x-amz-target": (TARGET + name).encode()})
    assert route.begin(head) is None
    return await route.finish(head, body)


def as_client(name: str, reply: Reply) -> Any:
    headers = {key.decode(): value.decode() for key, value in reply.headers}
    response = {"status_code": reply.status, "headers": headers, "body": reply.body}
    shape = operation(name).output_shape
    assert shape is not None
    parsed = create_parser("json").parse(response, shape)
    assert parsed.pop("ResponseMetadata")["HTTPStatusCode"] == reply.status
    return parsed


def batch_of(*records: bytes) -> dict[str, Any]:
    return {"DeliveryStreamName": "logs", "Records": [{"Data": record} for record in records]}


def record_of(data: bytes) -> dict[str, Any]:
    return {"DeliveryStreamName": "logs", "Record": {"Data": data}}


async def test_put_record() -> None:
    """A record is stored byte for byte, and answered with its id and no encryption."""
    shelf = Shelf()
    answer = await call(shelf, "PutRecord", record_of(b"\x00\xffno newline"))
    assert shelf.records == [b"\x00\xffno newline"]
    assert answer == {"RecordId": answer["RecordId"], "Encrypted": False}


async def test_put_record_batch() -> None:
    """A batch is stored in one append, in order, and answered entry by entry with nothing failed."""
    shelf = Shelf()
    answer = await call(shelf, "PutRecordBatch", batch_of(b"a", b"", b"c\n"))
    assert [batch.num_rows for batch in shelf.batches] == [3]
    assert shelf.records == [b"a", b"", b"c\n"]
    assert shelf.batches[0].schema == pa.schema([pa.field("record", pa.binary(), nullable=False)])
    assert (answer["FailedPutCount"], answer["Encrypted"]) == (0, False)
    assert [list(entry) for entry in answer["RequestResponses"]] == [["RecordId"]] * 3


async def test_replies_are_compact() -> None:
    """The bytes of a reply are compact JSON: agents look for literal text in it."""
    one = b'{"DeliveryStreamName":"logs","Record":{"Data":""}}'
    two = b'{"DeliveryStreamName":"logs","Records":[{"Data":""},{"Data":""}]}'
    answer = (await post(Shelf(), "PutRecord", one)).body
    assert re.fullmatch(rb'{"RecordId":"[0-9a-f]+","Encrypted":false}', answer)
    entry = rb'{"RecordId":"[0-9a-f]+"}'
    head = rb'{"FailedPutCount":0,"Encrypted":false,"RequestResponses":\['
    answer = (await post(Shelf(), "PutRecordBatch", two)).body
    assert re.fullmatch(head + entry + b"," + entry + rb"\]}", answer)


async def test_record_ids_are_those_of_the_position() -> None:
    """The same position gives the same ids, whichever operation and however many records came with it."""
    whole = await call(Shelf(first=98), "PutRecordBatch", batch_of(b"a", b"b", b"c"))
    ids = [entry["RecordId"] for entry in whole["RequestResponses"]]
    for number, expected in enumerate(ids, 98):
        assert (await call(Shelf(first=number), "PutRecord", record_of(b"")))["RecordId"] == expected


@given(st.sets(st.tuples(st.text("abcdef0123456789-T", min_size=1, max_size=40), st.integers(0, 2**59)), min_size=2))
async def test_record_ids_are_unique(places: set[tuple[str, int]]) -> None:
    """No two places in any lanes have one id, and each is long and of the base64 alphabet, as AWS's are."""
    answers = [await call(Shelf(*place), "PutRecord", record_of(b"")) for place in places]
    ids = {answer["RecordId"] for answer in answers}
    assert len(ids) == len(places)
    assert all(re.fullmatch("[A-Za-z0-9+/=]{40,}", record_id) for record_id in ids)


async def test_record_ids_tell_no_lane() -> None:
    """An id does not give away the lane's name, which its checksums start from."""
    answer = await call(Shelf("20260301T120000-0123456789abcdef", 5), "PutRecord", record_of(b""))
    assert "0123456789abcdef" not in answer["RecordId"]
    assert b"20260301".hex() not in answer["RecordId"]


async def test_no_answer_before_the_append() -> None:
    """An answer waits for the append: 200 means durable."""
    shelf = Slow()
    asked = asyncio.create_task(call(shelf, "PutRecord", record_of(b"a")))
    await shelf.started.wait()
    for _ in range(10):  # whatever could run without the append has run
        await asyncio.sleep(0)
    assert not asked.done()
    shelf.release.set()
    assert "RecordId" in await asked


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("PutRecord", record_of(b"")),
        ("PutRecord", record_of(b"x" * 1_024_000)),
        ("PutRecordBatch", batch_of(*[b"x"] * 500)),
        ("PutRecordBatch", batch_of(*[b"x" * 1_024_000] * 4, b"x" * 98_304)),
    ],
    ids=["empty", "largest record", "most records", "largest batch"],
)
async def test_at_the_limits(name: str, parameters: Mapping[str, Any]) -> None:
    """What just reaches a limit is stored."""
    shelf = Shelf()
    answer = await call(shelf, name, parameters)
    assert "Error" not in answer
    sent = parameters.get("Records") or [parameters["Record"]]
    assert shelf.records == [record["Data"] for record in sent]


@pytest.mark.parametrize(
    ("name", "parameters", "code", "message"),
    [
        (
            "PutRecord",
            record_of(b"x" * 1_024_001),
            "ValidationException",
            "1 validation error detected: Value at 'record.data' failed to satisfy constraint: "
            "Member must have length less than or equal to 1024000",
        ),
        (
            "PutRecordBatch",
            batch_of(b"", b"x" * 1_024_001),
            "ValidationException",
            "1 validation error detected: Value at 'records.2.member.data' failed to satisfy constraint: "
            "Member must have length less than or equal to 1024000",
        ),
        (
            "PutRecordBatch",
            batch_of(*[b"x"] * 501),
            "ValidationException",
            "1 validation error detected: Value at 'records' failed to satisfy constraint: "
            "Member must have length less than or equal to 500",
        ),
        (
            "PutRecordBatch",
            batch_of(),
            "ValidationException",
            "1 validation error detected: Value at 'records' failed to satisfy constraint: "
            "Member must have length greater than or equal to 1",
        ),
        (
            "PutRecordBatch",
            batch_of(*[b"x" * 1_024_000] * 4, b"x" * 98_305),
            "InvalidArgumentException",
            "Records size exceeds 4 MB limit",
        ),
        (
            "PutRecord",
            {**record_of(b""), "DeliveryStreamName": "other"},
            "ResourceNotFoundException",
            f"Firehose other under account {ACCOUNT} not found.",
        ),
        (
            "PutRecordBatch",
            {**batch_of(b""), "DeliveryStreamName": "other"},
            "ResourceNotFoundException",
            f"Firehose other under account {ACCOUNT} not found.",
        ),
        (
            "PutRecord",
            {**record_of(b""), "DeliveryStreamName": "no spaces"},
            "ValidationException",
            "1 validation error detected: Value 'no spaces' at 'deliveryStreamName' failed to satisfy "
            "constraint: Member must satisfy regular expression pattern: [a-zA-Z0-9_.-]+",
        ),
    ],
    ids=["record", "record in batch", "501", "none", "4 MiB", "unknown", "unknown, batch", "name"],
)
async def test_beyond_the_limits(name: str, parameters: Mapping[str, Any], code: str, message: str) -> None:
    """What passes a limit is refused whole, in AWS's words, and nothing of it is stored."""
    shelf = Shelf()
    answer = await call(shelf, name, parameters)
    assert answer["Error"] == {"Code": code, "Message": message}
    assert shelf.batches == []


@pytest.mark.parametrize(
    ("name", "body", "code", "count"),
    [
        ("PutRecord", b"{}", "ValidationException", 2),
        ("PutRecord", b'{"DeliveryStreamName":"logs","Record":{}}', "ValidationException", 1),
        ("PutRecord", b'{"DeliveryStreamName":"logs","Record":{"Data":null}}', "ValidationException", 1),
        (
            "PutRecordBatch",
            b'{"DeliveryStreamName":"","Records":[{},{"Data":""},{}]}',
            "ValidationException",
            4,
        ),
        ("PutRecordBatch", b'{"DeliveryStreamName":"logs","Records":[null]}', "ValidationException", 1),
        ("PutRecordBatch", b'{"DeliveryStreamName":"other","Records":null}', "ValidationException", 1),
        ("PutRecord", b"", "SerializationException", 0),
        ("PutRecord", b"\xff\xfe", "SerializationException", 0),
        ("PutRecord", b'{"a":' + b"[" * 100_000, "SerializationException", 0),
        ("PutRecord", b'{"DeliveryStreamName":1,"Record":{"Data":""}}', "SerializationException", 0),
        ("PutRecord", b'{"DeliveryStreamName":"logs","Record":{"Data":"%%%%"}}', "SerializationException", 0),
        ("PutRecord", b'{"DeliveryStreamName":"logs","Record":{"Data":"QQ"}}', "SerializationException", 0),
        ("PutRecordBatch", b'{"DeliveryStreamName":"logs","Records":{}}', "SerializationException", 0),
        ("PutRecordBatch", b'{"DeliveryStreamName":"logs","Records":[1]}', "SerializationException", 0),
    ],
)
async def test_malformed(name: str, body: bytes, code: str, count: int) -> None:
    """A malformed request is refused with its code, and with all violations in one answer."""
    shelf = Shelf()
    reply = await post(shelf, name, body)
    error = as_client(name, reply)["Error"]
    assert (reply.status, error["Code"]) == (400, code)
    assert error["Message"].count("failed to satisfy constraint") == count
    assert shelf.batches == []


async def test_unusual_but_valid() -> None:
    """Blanks, escapes, any order, nulls and unknown members do not keep a record from being stored."""
    shelf = Shelf()
    body = b' { "Record" : {"Data":"\\/\\u002f8=", "y":[{}]}, "x": null, "DeliveryStreamName" : "l\\u006fgs" }\n'
    assert (await post(shelf, "PutRecord", body)).status == 200
    assert shelf.records == [b"\xff\xff"]


@pytest.mark.parametrize(
    ("source", "kind"),
    [
        ("data_stream", "KinesisStreamAsSource"),
        ("kinesis", "KinesisStreamAsSource"),
        ("kafka", "MSKAsSource"),
    ],
)
async def test_other_sources(source: str, kind: str) -> None:
    """A stream that reads from elsewhere takes no records over HTTP."""
    shelf = Shelf()
    error = (await call(shelf, "PutRecordBatch", batch_of(b"a"), source))["Error"]
    message = f"This operation is not permitted on {kind} delivery stream type."
    assert error == {"Code": "InvalidArgumentException", "Message": message}
    assert shelf.batches == []


@pytest.mark.parametrize("failure", [Full("the buffer is full", 2.5), Unsure("the disk failed", 2.5)])
@pytest.mark.parametrize("name", ["PutRecord", "PutRecordBatch"])
async def test_overload(name: str, failure: Exception) -> None:
    """A buffer that cannot take a request answers all of it with 503, saying when to come again."""
    body = b'{"DeliveryStreamName":"logs","Record":{"Data":""},"Records":[{"Data":""}]}'
    reply = await post(Shelf(failure=failure), name, body)
    assert (reply.status, dict(reply.headers)[b"retry-after"]) == (503, b"3")
    error = as_client(name, reply)["Error"]
    assert error == {"Code": "ServiceUnavailableException", "Message": "Slow down."}


async def test_a_broken_buffer_is_no_overload() -> None:
    """A bug behind the append is not dressed up as an answer."""
    with pytest.raises(ZeroDivisionError):
        await call(Shelf(failure=ZeroDivisionError()), "PutRecord", record_of(b""))


DATA: st.SearchStrategy[Any] = st.one_of(
    st.binary(max_size=20).map(lambda data: base64.b64encode(data).decode()),
    st.sampled_from([None, 1, "%", "QQ", "QR==", "é", [], {}]),
)
RECORD: st.SearchStrategy[Any] = st.one_of(
    st.fixed_dictionaries({}, optional={"Data": DATA, "x": DATA}), st.sampled_from([None, 1, "a"])
)
REQUEST = st.fixed_dictionaries(
    {},
    optional={
        "DeliveryStreamName": st.sampled_from(["logs", "logs", "logs", "", "!", None, 1]),
        "Record": RECORD,
        "Records": st.one_of(st.lists(RECORD, max_size=4), st.sampled_from([None, "a"])),
    },
)


@given(REQUEST, st.sampled_from(["PutRecord", "PutRecordBatch"]))
async def test_fast_and_slow_agree(request_members: Mapping[str, Any], name: str) -> None:
    """The fast way stores just what the examination of each member would, and refuses in its words."""
    body = json.dumps(request_members).encode()
    shelf = Shelf()
    answer = as_client(name, await post(shelf, name, body))
    try:
        request = aws_json.read(body, PUT_RECORD if name == "PutRecord" else PUT_RECORD_BATCH)
        records = request["Records"] if name == "PutRecordBatch" else [request["Record"]]
        expected: tuple[object, list[bytes]] = (None, [record["Data"] for record in records])
    except ApiError as error:
        expected = ({"Code": error.code, "Message": error.message}, [])
    assert (answer.get("Error"), shelf.records) == expected
