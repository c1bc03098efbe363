"""The AWS JSON 1.1 protocol: what a client is told, as botocore's own parser reads it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest
from botocore.parsers import create_parser
from botocore.session import Session
from hypothesis import given
from hypothesis import strategies as st

from firehose.http import aws_json
from firehose.http.aws_json import ApiError, AwsJson, Operation
from firehose.http.wire import Head, Reply

SHAPE = aws_json.structure(
    StreamName=aws_json.required(aws_json.text(1, 8, "[a-z]+")),
    Limit=aws_json.integer(1, 10),
    Enabled=aws_json.boolean(),
    At=aws_json.timestamp(),
    Mode=aws_json.choice("On", "Off"),
    S3Target=aws_json.structure(
        RoleARN=aws_json.required(aws_json.text(1, 20, "arn:.*")), Format=aws_json.choice("GZIP", "Snappy")
    ),
    Records=aws_json.list_of(aws_json.structure(Data=aws_json.required(aws_json.blob(0, 4))), 1, 3),
)
GOOD: Mapping[str, Any] = {"StreamName": "app"}


async def echo(body: bytes) -> bytes:
    return body


async def refuse(body: bytes) -> bytes:
    raise ApiError("LimitExceededException", 'Too "many".', 400, ((b"x-extra", b"1"),))


async def stumble(body: bytes) -> bytes:
    raise ZeroDivisionError


OPERATIONS: Mapping[str, Operation] = {
    "Firehose_20150804.Echo": echo,
    "Kinesis_20131202.Refuse": refuse,
    "X.Bug": stumble,
}
ROUTE = AwsJson(OPERATIONS, lambda: "request-1").route()


def head(target: str | None) -> Head:
    return Head("POST", "/", b"", {} if target is None else {b"x-amz-target": target.encode()})


def as_client(reply: Reply) -> dict[str, Any]:
    """The reply as botocore tells it to its user."""
    headers = {name.decode(): value.decode() for name, value in reply.headers}
    response = {"status_code": reply.status, "headers": headers, "body": reply.body}
    shape = Session().get_service_model("firehose").operation_model("DeleteDeliveryStream").output_shape
    assert shape is not None
    parsed: dict[str, Any] = create_parser("json").parse(response, shape)
    return parsed


def read(**members: Any) -> dict[str, Any]:
    return aws_json.read(json.dumps(members).encode(), SHAPE)


def violations(**members: Any) -> str:
    with pytest.raises(ApiError) as caught:
        read(**members)
    assert (caught.value.code, caught.value.status) == ("ValidationException", 400)
    return caught.value.message


async def test_answer() -> None:
    """An operation's answer goes out as it is, with 200, the request's id and the protocol's content type."""
    asked = head("Firehose_20150804.Echo")
    assert ROUTE.begin(asked) is None
    reply = await ROUTE.finish(asked, b'{"a":1}')
    assert (reply.status, reply.body) == (200, b'{"a":1}')
    assert reply.headers == (
        (b"x-amzn-requestid", b"request-1"),
        (b"content-type", b"application/x-amz-json-1.1"),
    )
    assert as_client(reply)["ResponseMetadata"]["RequestId"] == "request-1"


async def test_error() -> None:
    """An error has its code in body and header, its message, its own headers, and the request's id."""
    reply = await ROUTE.finish(head("Kinesis_20131202.Refuse"), b"")
    assert reply.body == b'{"__type":"LimitExceededException","message":"Too \\"many\\"."}'
    assert dict(reply.headers) == {
        b"x-amzn-requestid": b"request-1",
        b"content-type": b"application/x-amz-json-1.1",
        b"x-amzn-errortype": b"LimitExceededException",
        b"x-extra": b"1",
    }
    told = as_client(reply)
    assert told["Error"] == {"Code": "LimitExceededException", "Message": 'Too "many".'}
    assert told["ResponseMetadata"]["RequestId"] == "request-1"


async def test_bugs_are_not_hidden() -> None:
    """An exception that is no answer reaches the carrier, which can report it."""
    with pytest.raises(ZeroDivisionError):
        await ROUTE.finish(head("X.Bug"), b"")


@pytest.mark.parametrize("target", [None, "", "Firehose_20150804.Nothing", "firehose_20150804.echo", "x" * 50_000])
def test_unknown_operation(target: str | None) -> None:
    """A target that no operation has is refused before the body is read, in a bounded answer."""
    reply = ROUTE.begin(head(target))
    assert reply is not None
    assert reply.status == 400
    assert len(reply.body) < 500
    assert as_client(reply)["Error"]["Code"] == "UnknownOperationException"


@pytest.mark.parametrize(
    ("status", "code", "message"),
    [
        (503, "ServiceUnavailableException", "Slow down."),
        (413, "RequestEntityTooLargeException", "why"),
        (408, "RequestTimeoutException", "why"),
        (400, "SerializationException", "why"),
        (500, "InternalFailure", "why"),
    ],
)
def test_carrier_refuses(status: int, code: str, message: str) -> None:
    """What the carrier refuses is said in the API's words, with the carrier's status."""
    reply = ROUTE.refuse(status, "why", 0)
    assert reply.status == status
    assert as_client(reply)["Error"] == {"Code": code, "Message": message}


@pytest.mark.parametrize(("seconds", "header"), [(0, b"1"), (0.2, b"1"), (1, b"1"), (2.1, b"3")])
def test_retry_after(seconds: float, header: bytes) -> None:
    """Overload names whole seconds to wait, at least one; nothing else does."""
    assert dict(ROUTE.refuse(503, "why", seconds).headers)[b"retry-after"] == header
    assert b"retry-after" not in dict(ROUTE.refuse(413, "why", seconds).headers)


def test_read_gives_typed_members() -> None:
    """Blobs are decoded, numbers and booleans kept, and members that the model does not know left out."""
    read_back = read(**GOOD, Limit=3, Enabled=True, At=1.5, Records=[{"Data": "QUI=", "x": 1}], Unknown={"y": 2})
    assert read_back == {**GOOD, "Limit": 3, "Enabled": True, "At": 1.5, "Records": [{"Data": b"AB"}]}


def test_null_is_absent() -> None:
    """A null member is as good as none."""
    assert read(**GOOD, Limit=None, Records=None) == GOOD


@pytest.mark.parametrize(
    ("members", "where", "constraint"),
    [
        ({}, "null at 'streamName'", "Member must not be null"),
        (
            {"StreamName": "abcdefghi"},
            "'abcdefghi' at 'streamName'",
            "Member must have length less than or equal to 8",
        ),
        (
            {"StreamName": "a1"},
            "'a1' at 'streamName'",
            "Member must satisfy regular expression pattern: [a-z]+",
        ),
        (
            {"StreamName": "a\n"},
            "'a\n' at 'streamName'",
            "Member must satisfy regular expression pattern: [a-z]+",
        ),
        (
            {**GOOD, "Limit": 0},
            "'0' at 'limit'",
            "Member must have value greater than or equal to 1",
        ),
        (
            {**GOOD, "Limit": 11},
            "'11' at 'limit'",
            "Member must have value less than or equal to 10",
        ),
        (
            {**GOOD, "Mode": "on"},
            "'on' at 'mode'",
            "Member must satisfy enum value set: [On, Off]",
        ),
        (
            {**GOOD, "S3Target": {"RoleARN": "arn:", "Format": "SNAPPY"}},
            "at 's3Target.format'",
            "Member must satisfy enum value set: [GZIP, Snappy]",
        ),
        (
            {**GOOD, "S3Target": {}},
            "at 's3Target.roleARN'",
            "Member must not be null",
        ),
        (
            {**GOOD, "Records": []},
            "at 'records'",
            "Member must have length greater than or equal to 1",
        ),
        (
            {**GOOD, "Records": [{}] * 4},
            "at 'records'",
            "Member must have length less than or equal to 3",
        ),
        (
            {**GOOD, "Records": [{"Data": ""}, {"Data": "QUJDREU="}]},
            "at 'records.2.member.data'",
            "Member must have length less than or equal to 4",
        ),
        (
            {**GOOD, "Records": [None]},
            "at 'records.1.member'",
            "Member must not be null",
        ),
    ],
)
def test_one_violation(members: Mapping[str, Any], where: str, constraint: str) -> None:
    """Each kind of constraint is reported in AWS's words, at its lowerCamel path, list positions from one."""
    violation = f"Value {where} failed to satisfy constraint: {constraint}"
    assert violations(**members) == f"1 validation error detected: {violation}"


def test_violations_are_collected() -> None:
    """One answer names every violated constraint of the request, wherever it is."""
    message = violations(StreamName="", Limit=99, S3Target={"RoleARN": "x"}, Records=[{}, {"Data": ""}, {}])
    assert message.startswith("6 validation errors detected: ")
    for part in (
        "length greater",
        "[a-z]+",
        "'99'",
        "'s3Target.roleARN'",
        "records.1.member",
        "records.3.member",
    ):
        assert message.count(part) == 1


def test_long_lists_are_not_looked_through() -> None:
    """Of a list too long only the length is told, whatever is in it: what a request costs is bounded."""
    said = violations(StreamName="app", Records=[{}, {"Data": 5}, "x", None])
    assert said.startswith("1 validation error detected: Value at 'records' ")
    assert said.endswith("length less than or equal to 3")


def test_long_values_are_cut() -> None:
    """A refused value is repeated in part only, however long it was."""
    assert len(violations(StreamName="x" * 100_000)) < 1_000


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"3",
        b'"a"',
        b'{"StreamName":"\xff"}',
        b"[" * 100_000,
        b"{}x",
        b'{"Limit":1e999}',
    ],
)
def test_not_a_request(body: bytes) -> None:
    """A body that is no JSON object, or is nested beyond reason, is a SerializationException."""
    with pytest.raises(ApiError) as caught:
        aws_json.read(body, SHAPE)
    assert (caught.value.code, caught.value.status) == ("SerializationException", 400)


@pytest.mark.parametrize(
    "members",
    [
        {"StreamName": 1},
        {"StreamName": ["a"]},
        {"Limit": "1"},
        {"Limit": 1.5},
        {"Limit": True},
        {"Enabled": 1},
        {"At": "2020"},
        {"Records": {}},
        {"Records": ["QQ=="]},
        {"Records": [{"Data": 1}]},
        {"Records": [{"Data": "QQ"}]},
        {"Records": [{"Data": "Q Q="}]},
        {"Records": [{"Data": "é==="}]},
        {"S3Target": []},
    ],
)
def test_wrong_types(members: Mapping[str, Any]) -> None:
    """A member of the wrong JSON type, or a blob that is no base64, is a SerializationException."""
    with pytest.raises(ApiError) as caught:
        read(**{**GOOD, **members})
    assert caught.value.code == "SerializationException"


def outcome(body: bytes) -> str:
    try:
        return "read" if "StreamName" in aws_json.read(body, SHAPE) else "read without a required member"
    except ApiError as error:
        return error.code


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(sorted([*SHAPE.members, "Data"])), inner),
    max_leaves=20,
)


@given(st.binary() | JSON.map(lambda value: json.dumps(value).encode()))
def test_whatever_is_sent(body: bytes) -> None:
    """Any body at all is read or refused in the API's words, and what is read keeps the required members."""
    assert outcome(body) in ("read", "SerializationException", "ValidationException")
