"""Requests of puts: JSON and CBOR ask for the same, and are refused in the same words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from stream_shop import Shop

from firehose.datastream.arns import Account
from firehose.datastream.operations.puts import Put, PutRequests
from firehose.http.aws_json import ApiError
from firehose.http.cbor import CborCodec, dumps
from firehose.http.codec import Codec, JsonCodec, Millis

ACCOUNT = Account("us-east-1", "000000000000")
RECORD = {"Data": b"\x00\xff", "PartitionKey": "k"}
GOOD: list[Mapping[str, Any]] = [
    {"StreamName": "clicks", "Records": [RECORD, {"Data": b"", "PartitionKey": "é", "ExplicitHashKey": "7"}]},
    {"StreamName": "clicks", "Records": [RECORD], "DryRun": True, "Unknown": [1, {"a": None}]},
    {"StreamName": "clicks", "Records": [{**RECORD, "ExplicitHashKey": None, "More": 1.5}]},
]
BAD: list[Mapping[str, Any]] = [
    {"StreamName": "clicks"},
    {"StreamName": "clicks", "Records": []},
    {"StreamName": "clicks", "Records": [RECORD] * 501},
    {"StreamName": "clicks", "Records": [{"PartitionKey": "k"}]},
    {"StreamName": "clicks", "Records": [{**RECORD, "PartitionKey": ""}]},
    {"StreamName": "clicks", "Records": [{**RECORD, "PartitionKey": 7}]},
    {"StreamName": "clicks", "Records": [{**RECORD, "ExplicitHashKey": "x"}]},
    {"StreamName": "clicks", "Records": [{**RECORD, "ExplicitHashKey": str(1 << 128)}]},
    {"StreamName": "clicks", "Records": [RECORD, None]},
    {"Records": [RECORD]},
]


def requests() -> PutRequests:
    return PutRequests(Shop().streams, ACCOUNT)


def outcome(body: bytes, codec: Codec) -> Put | tuple[str, str]:
    try:
        return requests().put_records(body, codec)
    except ApiError as error:
        return error.code, error.message


@pytest.mark.parametrize("request_", GOOD, ids=range(len(GOOD)))
async def test_good(request_: Mapping[str, Any]) -> None:
    """A request in order asks for the same in both codecs."""
    in_json, in_cbor = (outcome(codec.write(request_), codec) for codec in (JsonCodec(), CborCodec()))
    assert isinstance(in_cbor, Put)
    assert in_json == in_cbor
    assert in_cbor.data == [record["Data"] for record in request_["Records"]]


@pytest.mark.parametrize("request_", BAD, ids=range(len(BAD)))
async def test_bad(request_: Mapping[str, Any]) -> None:
    """A request that breaks a rule is refused in both codecs, in the same words."""
    in_json, in_cbor = (outcome(codec.write(request_), codec) for codec in (JsonCodec(), CborCodec()))
    assert not isinstance(in_cbor, Put)
    assert in_json == in_cbor


@pytest.mark.parametrize("data", ["AAA=", 7, Millis(7), [], None], ids=repr)
async def test_data_in_cbor(data: Any) -> None:
    """Data is a byte string in CBOR and nothing else: no base64, which the fast way could take for bytes."""
    body = dumps({"StreamName": "clicks", "Records": [{"Data": data, "PartitionKey": "k"}]})
    refused = outcome(body, CborCodec())
    assert not isinstance(refused, Put)
    assert refused[0] == ("ValidationException" if data is None else "SerializationException")
