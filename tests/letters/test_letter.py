"""A letter is read from every form of document that is known of."""

from __future__ import annotations

import json
from typing import Any

import pytest

from firehose.letters.letter import Letter, NoLetter, Spot, letter

SPOT = Spot("x/processing-failed/one", 3, "app", "processing-failed")
OURS = {
    "rawData": "aGVsbG8K",
    "errorCode": "Lambda.ProcessingFailedStatus",
    "errorMessage": "ProcessingFailed status set for record",
    "attemptsMade": 1,
    "arrivalTimestamp": 1789014240448,
    "attemptEndingTimestamp": 1789014301529,
    "lambdaARN": "arn:aws:lambda:us-east-1:000000000000:function:clean",
}
GUIDE = {
    "attemptsMade": "1",
    "arrivalTimestamp": "1789014240448",
    "errorCode": "Lambda.ProcessingFailedStatus",
    "errorMessage": "ProcessingFailed status set for record",
    "attemptEndingTimestamp": "1789014301529",
    "rawData": "aGVsbG8K",
    "lambdaArn": "arn:aws:lambda:us-east-1:000000000000:function:clean",
}
READ = Letter(
    "x/processing-failed/one",
    3,
    "app",
    "processing-failed",
    "Lambda.ProcessingFailedStatus",
    "ProcessingFailed status set for record",
    1,
    1789014240448,
    1789014301529,
    "arn:aws:lambda:us-east-1:000000000000:function:clean",
    b"hello\n",
    None,
)


@pytest.mark.parametrize("members", [OURS, GUIDE], ids=["ours", "the guide's"])
def test_processing_failed(members: dict[str, Any]) -> None:
    """Numbers may be strings, and the function's name may be written either way."""
    assert letter(SPOT, members) == READ


@pytest.mark.parametrize(
    "more",
    [
        {"esDocumentId": "4957.0", "esIndexName": "logs-2016-02-25", "esTypeName": "_doc"},
        {"osDocumentId": "4957.0", "osIndexName": "logs"},
        {"subsequenceNumber": 0, "dataId": "49607.0"},
        {"EventId": "49577193928114147339600778471082492393164139877200035842.0"},
    ],
)
def test_what_only_one_destination_tells(more: dict[str, Any]) -> None:
    """It is kept as it is."""
    found = letter(SPOT, {**OURS, **more})
    assert found.details is not None
    assert json.loads(found.details) == more
    assert found.data == b"hello\n"


def test_format_conversion_failed() -> None:
    """Its code and message have names of their own."""
    members = {"lastErrorCode": "DataFormatConversion.MalformedData", "lastErrorMessage": "no JSON", "rawData": ""}
    found = letter(SPOT, members)
    assert (found.code, found.message, found.data) == ("DataFormatConversion.MalformedData", "no JSON", b"")


@pytest.mark.parametrize(
    ("value", "read"),
    [("12", 12), (12.0, 12), (None, None), ("soon", None), (-1, None), ("9" * 19, None), (1e300, None), ([1], None)],
)
def test_times(value: object, read: int | None) -> None:
    """What is no time is no reason to lose the letter."""
    assert letter(SPOT, {**OURS, "arrivalTimestamp": value}).arrived_ms == read


@pytest.mark.parametrize(("code", "read"), [(400, "400"), ("400", "400"), (None, ""), ({"a": 1}, '{"a": 1}')])
def test_codes(code: object, read: str) -> None:
    """A code may be a number, as OpenSearch's are."""
    assert letter(SPOT, {**OURS, "errorCode": code}).code == read


def test_text_that_is_no_unicode() -> None:
    """Half a character in a message is replaced: text can be stored and printed."""
    assert letter(SPOT, {**OURS, "errorMessage": "bad \udcff \ud800"}).message == "bad ? ?"


@pytest.mark.parametrize("raw", [None, 5, "%%%", "abc", "aGVsbG8", "aGVs bG8K"])
def test_no_letter(raw: object) -> None:
    """A document without raw data, or whose raw data is no base64, is none."""
    with pytest.raises(NoLetter, match="rawData"):
        letter(SPOT, {**OURS, "rawData": raw})
