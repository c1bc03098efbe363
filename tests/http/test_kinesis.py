"""The data stream's API on the wire: AWS's order of checks, both codecs, and what a client is told of a refusal."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from typing import Any

import pytest
from botocore.parsers import create_parser
from botocore.session import Session

from firehose.http import cbor
from firehose.http.aws_json import ApiError
from firehose.http.codec import Codec, CodedOperation, JsonCodec, Millis, StreamingOperation
from firehose.http.kinesis import KinesisApi, is_kinesis
from firehose.http.wire import Head, Reply

JSON = b"application/x-amz-json-1.1"
CBOR = b"application/x-amz-cbor-1.1"
TYPES = pytest.mark.parametrize("kind", [JSON, CBOR], ids=["json", "cbor"])


async def tell(body: bytes, codec: Codec) -> bytes:
    return codec.write({"Data": b"hi", "At": Millis(1500), "Left": None})


async def nothing(body: bytes, codec: Codec) -> bytes:
    return b""


async def refuse(body: bytes, codec: Codec) -> bytes:
    raise ApiError("ResourceNotFoundException", "Stream s under account 0 not found.")


async def unreadable(body: bytes, codec: Codec) -> bytes:
    raise ApiError("SerializationException", "No.")


async def subscribe(body: bytes) -> AsyncIterator[bytes]:
    if body == b"{}":
        raise ApiError("ResourceInUseException", "Another active subscription exists.")

    async def frames() -> AsyncIterator[bytes]:
        yield b"first"
        yield body

    return frames()


OPERATIONS: Mapping[str, CodedOperation] = {
    "Tell": tell, "Nothing": nothing, "DeleteStream": refuse, "Unreadable": unreadable,
}  # fmt: skip
STREAMING: Mapping[str, StreamingOperation] = {"SubscribeToShard": subscribe}
API = KinesisApi(OPERATIONS, STREAMING, lambda: "0123", 1024)


def asked(operation: str | None = "Tell", kind: bytes | None = JSON, method: str = "POST", **more: bytes) -> Head:
    headers = {name.replace("_", "-").encode(): value for name, value in more.items()}
    if operation is not None:
        headers[b"x-amz-target"] = b"Kinesis_20131202." + operation.encode()
    if kind is not None:
        headers[b"content-type"] = kind
    return Head(method, "/", b"", headers)


async def answered(head: Head, body: bytes = b"{}") -> Reply:
    route = API.route(head.headers)
    return route.begin(head) or await route.finish(head, body)


def body_of(reply: Reply) -> Any:
    kinds = dict(reply.headers)[b"content-type"]
    return cbor.loads(reply.body) if kinds == CBOR else json.loads(reply.body)


def empty(kind: bytes) -> bytes:
    return b"\xa0" if kind == CBOR else b"{}"


@TYPES
async def test_answer(kind: bytes) -> None:
    """An answer has the request's codec and Content-Type, and the ids that AWS's support asks for."""
    reply = await answered(asked(kind=kind), empty(kind))
    headers = dict(reply.headers)
    assert reply.status == 200
    assert headers[b"content-type"] == kind
    assert headers[b"x-amzn-requestid"] == b"0123"
    assert len(headers[b"x-amz-id-2"]) >= 80
    assert body_of(reply) == ({"Data": b"hi", "At": 1500} if kind == CBOR else {"Data": "aGk=", "At": 1.5})


@pytest.mark.parametrize("kind", [JSON + b"; charset=utf-8", b" Application/X-Amz-Json-1.1 ", CBOR + b" ; a=b"])
async def test_content_type_parameters(kind: bytes) -> None:
    """Spaces, parameters and capitals of a Content-Type do not matter."""
    reply = await answered(asked(kind=kind), empty(CBOR if b"cbor" in kind else JSON))
    assert (reply.status, dict(reply.headers)[b"content-type"]) == (200, CBOR if b"cbor" in kind else JSON)


@TYPES
async def test_empty_output(kind: bytes) -> None:
    """An operation without output answers an empty body, with a Content-Type all the same."""
    reply = await answered(asked("Nothing", kind), empty(kind))
    assert (reply.status, reply.body, dict(reply.headers)[b"content-type"]) == (200, b"", kind)


@TYPES
async def test_error(kind: bytes) -> None:
    """An error is told in the request's codec, its code in a header too."""
    reply = await answered(asked("DeleteStream", kind), empty(kind))
    told = {"__type": "ResourceNotFoundException", "message": "Stream s under account 0 not found."}
    assert (reply.status, body_of(reply)) == (400, told)
    assert dict(reply.headers)[b"x-amzn-errortype"] == b"ResourceNotFoundException"


async def test_error_as_botocore_reads_it() -> None:
    """The AWS SDK for Python finds code and message, also of the error that writes Message with a capital."""
    shape = Session().get_service_model("kinesis").operation_model("PutRecord").output_shape
    assert shape is not None
    for operation, code in (("DeleteStream", "ResourceNotFoundException"), ("Unreadable", "SerializationException")):
        reply = await answered(asked(operation))
        headers = {name.decode(): value.decode() for name, value in reply.headers}
        response = {"status_code": reply.status, "headers": headers, "body": reply.body}
        parsed = create_parser("json").parse(response, shape)
        assert (parsed["Error"]["Code"], parsed["Error"]["Message"] != "") == (code, True)


@pytest.mark.parametrize(
    ("head", "body", "status", "code"),
    [
        (asked("Tell"), b"", 400, "SerializationException"),
        (asked("SubscribeToShard"), b"", 400, "SerializationException"),
        (asked("Nowhere"), b"", 400, "UnknownOperationException"),
        (asked("Nowhere", None), b"", 400, "UnknownOperationException"),
        (asked("Nowhere"), b"{", 400, "SerializationException"),
        (asked("Nowhere", CBOR), b"{}", 400, "SerializationException"),
        (asked("Nowhere"), b"{}", 400, "UnknownOperationException"),
        (asked("Nowhere", CBOR), b"\xa0", 400, "UnknownOperationException"),
        (asked("SubscribeToShard", CBOR), b"\xa0", 500, "InternalFailure"),
        (asked("SubscribeToShard"), b"{}", 400, "ResourceInUseException"),
    ],
)
async def test_order_of_checks(head: Head, body: bytes, status: int, code: str) -> None:
    """What is wrong first in AWS's order is what is told."""
    reply = await answered(head, body)
    said = body_of(reply)
    assert (reply.status, said["__type"]) == (status, code)
    assert said["Message" if code == "SerializationException" else "message"]


@pytest.mark.parametrize("kind", [None, b"text/plain", b"application/x-amz-json-1.0"])
async def test_other_content_types(kind: bytes | None) -> None:
    """A body of another type is answered in XML, 404."""
    reply = await answered(asked(kind=kind))
    assert (reply.status, reply.body.strip()) == (404, b"<UnknownOperationException/>")


async def test_plain_json() -> None:
    """Plain application/json is answered as AWS's common front answers it."""
    reply = await answered(asked(kind=b"application/json"))
    assert (reply.status, body_of(reply)["Output"]["__type"]) == (
        404,
        "com.amazon.coral.service#UnknownOperationException",
    )


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "OPTIONS"])
async def test_other_methods(method: str) -> None:
    """Whatever is no POST is denied, 403 in XML, before its body is read."""
    head = asked(method=method)
    reply = API.route(head.headers).begin(head)
    assert reply is not None
    assert (reply.status, b"Unable to determine service/operation name" in reply.body) == (403, True)


@TYPES
@pytest.mark.parametrize(("status", "code"), [(503, "ServiceUnavailableException"), (500, "InternalFailure")])
def test_refusals_of_the_carrier(kind: bytes, status: int, code: str) -> None:
    """What the carrier refuses is told in the request's codec too."""
    reply = API.route(asked(kind=kind).headers).refuse(status, "reason", 1.0)
    assert (reply.status, body_of(reply)["__type"]) == (status, code)


async def test_browsers() -> None:
    """A page of any origin may ask: the preflight grants what it asks for, and the answer may be read."""
    asks = asked(None, None, "OPTIONS", origin=b"http://x", access_control_request_headers=b"x-amz-target",
                 access_control_request_method=b"POST")  # fmt: skip
    assert is_kinesis(asks.method, asks.path, asks.headers)
    assert not is_kinesis(asks.method, "/ingest/app", asks.headers), "there other origins may not ask"
    granted = dict((await answered(asks)).headers)
    assert granted[b"access-control-allow-headers"] == b"x-amz-target"
    assert granted[b"access-control-allow-methods"] == b"POST"
    assert granted[b"access-control-max-age"] == b"172800"
    headers = dict((await answered(asked(origin=b"http://x"))).headers)
    assert headers[b"access-control-allow-origin"] == b"*"
    assert b"x-amzn-RequestId" in headers[b"access-control-expose-headers"]
    assert b"access-control-allow-origin" not in dict((await answered(asked())).headers)


async def test_streaming() -> None:
    """A streaming operation answers in chunks, as an event stream; only such a request may be answered so."""
    reply = await answered(asked("SubscribeToShard"), b'{"a":1}')
    assert reply.chunks is not None
    assert dict(reply.headers)[b"content-type"] == b"application/vnd.amazon.eventstream"
    assert [chunk async for chunk in reply.chunks] == [b"first", b'{"a":1}']
    assert [API.route({}).streamed(asked(name)) for name in ("SubscribeToShard", "Tell", None)] == [True, False, False]


@pytest.mark.parametrize("name", ["s", "a-stream.of_23_bytes..", "x" * 128])
@pytest.mark.parametrize("before", [{}, {"Records": [{"Data": b"x" * 900, "PartitionKey": "k"}]}])
@TYPES
def test_turns(kind: bytes, before: dict[str, Any], name: str) -> None:
    """A request takes its turn among those of the stream that it names, first or last, in either codec."""
    codec = cbor.CborCodec() if kind == CBOR else JsonCodec()
    head = asked(kind=kind)
    assert API.route(head.headers).stream(head, codec.write({**before, "StreamName": name})) == name.encode()
