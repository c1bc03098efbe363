"""ARNs of streams and consumers, and which stream a request means."""

from __future__ import annotations

import pytest

from firehose.datastream import arns
from firehose.datastream.arns import Account
from firehose.datastream.model import Consumer
from firehose.http.aws_json import ApiError

OURS = Account("us-east-1", "123456789012")
CLICKS = "arn:aws:kinesis:us-east-1:123456789012:stream/clicks"
READER = Consumer("reader", 1_700_000_000_999)


def test_arns_are_read_as_they_are_written() -> None:
    """The ARN of a stream, and of a consumer, is understood again."""
    assert str(OURS.stream_arn("clicks")) == CLICKS
    assert arns.stream_arn(CLICKS) == OURS.stream_arn("clicks")
    written = str(OURS.consumer_arn("clicks", READER))
    assert written == CLICKS + "/consumer/reader:1700000000"
    found = arns.consumer_arn(written)
    assert found == OURS.consumer_arn("clicks", READER)
    assert found.names(READER)
    assert not found.names(Consumer("reader", 1_700_000_001_000)), "registered anew, it is another"
    assert not found.names(Consumer("other", READER.created_ms))


@pytest.mark.parametrize(
    "text",
    ["", "clicks", CLICKS + "/", CLICKS + "\n", CLICKS.replace("kinesis", "firehose"), CLICKS.replace("1234", "x234")],
)
def test_what_is_no_arn_is_told(text: str) -> None:
    """Nothing else is taken for an ARN."""
    assert arns.stream_arn(text) is None
    assert arns.consumer_arn(text) is None
    assert arns.consumer_arn(text + "/consumer/reader:x") is None


@pytest.mark.parametrize(
    "request_",
    [{"StreamName": "clicks"}, {"StreamARN": CLICKS}, {"StreamARN": CLICKS, "StreamName": "clicks"}],
)
def test_a_stream_is_named_by_name_or_arn(request_: dict[str, str]) -> None:
    """Either is enough, and both may stand together."""
    assert OURS.stream_named(request_) == "clicks"


@pytest.mark.parametrize(
    ("request_", "code", "message"),
    [
        ({}, "InvalidArgumentException", "Either StreamName or StreamARN"),
        ({"StreamARN": CLICKS, "StreamName": "other"}, "InvalidArgumentException", "do not name the same stream"),
        ({"StreamARN": "arn:aws:s3:::bucket"}, "InvalidArgumentException", "not the ARN of a stream"),
        (
            {"StreamARN": CLICKS.replace("us-east-1", "eu-west-1")},
            "ResourceNotFoundException",
            "Stream clicks under account 123456789012 not found.",
        ),
        (
            {"StreamARN": CLICKS.replace("123456789012", "999999999999")},
            "ResourceNotFoundException",
            "Stream clicks under account 999999999999 not found.",
        ),
    ],
)
def test_a_request_that_names_no_stream_of_ours_is_refused(request_: dict[str, str], code: str, message: str) -> None:
    """No name, two names, no ARN at all, another's account or region: each in AWS's terms."""
    with pytest.raises(ApiError, match=message) as refused:
        OURS.stream_named(request_)
    assert refused.value.code == code
