"""The event of a transformation Lambda, and what each answer to it makes of its records."""

from __future__ import annotations

import json
from base64 import b64decode, b64encode
from collections.abc import Callable, Sequence
from typing import Any

import pyarrow as pa
import pytest
from batches import rows
from hypothesis import given
from hypothesis import strategies as st

from firehose.hooks.lambda_style import answered, cuts, event, record_ids
from firehose.model import Outcome
from firehose.rows import spread

ARN = "arn:aws:firehose:us-east-1:000000000000:deliverystream/app"
FUNCTION = "arn:aws:lambda:us-east-1:123456789012:function:clean"
NOON_MS = 1772366407000
STREAM = "arn:aws:kinesis:us-east-1:000000000000:stream/clicks"
IN_A_STREAM = {
    "shardId": "shardId-000000000000",
    "partitionKey": "k",
    "sequenceNumber": "4954",
    "subsequenceNumber": 3,
    "streamArn": STREAM,
}
THREE = [b"one", b"two", b"three"]


def told(slice: pa.RecordBatch) -> dict[str, Any]:
    return event(slice, invocation_id="first", stream_arn=ARN, region="us-east-1")


def with_meta(slice: pa.RecordBatch, *meta: object) -> pa.RecordBatch:
    texts = [None if one is None else json.dumps(one) for one in meta]
    return slice.append_column("meta", pa.array(texts, pa.string()))


def answer(slice: pa.RecordBatch, **members: Any) -> list[dict[str, Any]]:
    """Ok for each record, its bytes in capitals."""
    return [
        {"recordId": one["recordId"], "result": "Ok", "data": encoded(b64decode(one["data"]).upper()), **members}
        for one in told(slice)["records"]
    ]


def encoded(data: bytes) -> str:
    return b64encode(data).decode()


def left(outcome: Outcome) -> list[tuple[int, int, bytes]]:
    return list(zip(*(outcome.rows.column(name).to_pylist() for name in ("row", "part", "record")), strict=True))


def refused(outcome: Outcome) -> list[tuple[int, bytes, str]]:
    return [(one["row"], one["record"], one["code"]) for one in outcome.refused.table.to_pylist()]


def message(outcome: Outcome) -> str:
    (said,) = set(outcome.refused.table.column("message").to_pylist())
    return str(said)


# The event


def test_an_event_is_awss() -> None:
    """Members, their names and their order are AWS's; an empty record has empty data."""
    slice = rows([b"hello", b""])
    assert list(told(slice).items()) == [
        ("invocationId", "first"),
        ("deliveryStreamArn", ARN),
        ("region", "us-east-1"),
        (
            "records",
            [
                {"recordId": "0" * 28, "approximateArrivalTimestamp": NOON_MS, "data": "aGVsbG8="},
                {"recordId": "0" * 19 + "1" + "0" * 8, "approximateArrivalTimestamp": NOON_MS, "data": ""},
            ],
        ),
    ]


def test_ids_are_stable_and_differ() -> None:
    """A record keeps its id wherever the slices are cut; the parts of a split one have ids of their own."""
    slice = spread(rows(THREE), [0, 1, 1, 2], pa.array([b"a", b"b", b"c", b"d"], pa.binary()))
    ids = record_ids(slice)
    assert len(set(ids)) == 4
    assert record_ids(slice.slice(2)) == ids[2:]
    assert all(one.isdigit() for one in ids)


def test_records_of_a_data_stream() -> None:
    """Where the source is a data stream, each record says where in it, and the event which stream."""
    made = told(with_meta(rows([b"a", b"b"]), IN_A_STREAM, {**IN_A_STREAM, "subsequenceNumber": 4}))
    assert made["sourceKinesisStreamArn"] == STREAM
    assert made["records"][0]["kinesisRecordMetadata"] == {
        "shardId": "shardId-000000000000",
        "partitionKey": "k",
        "approximateArrivalTimestamp": NOON_MS,
        "sequenceNumber": "4954",
        "subsequenceNumber": 3,
    }
    assert made["records"][1]["kinesisRecordMetadata"]["subsequenceNumber"] == 4


@pytest.mark.parametrize("meta", [None, {}, {"source": "agent"}, {"shardId": "s"}, [], 5, "x"], ids=str)
def test_meta_of_other_sources(meta: object) -> None:
    """A row whose `meta` is of no data stream has an event as if it had none."""
    slice = rows([b"a"])
    assert told(with_meta(slice, meta)) == told(slice)


# The answer


def test_ok_dropped_and_failed() -> None:
    """Each record ends as the answer says; a failed one is refused as it came."""
    slice = rows([*THREE, b"four"])
    said = answer(slice)
    said[1] = {"recordId": said[1]["recordId"], "result": "Dropped"}
    said[2] |= {"result": "ProcessingFailed"}
    outcome = answered(slice, {"records": said}, FUNCTION)
    assert left(outcome) == [(0, 0, b"ONE"), (3, 0, b"FOUR")]
    assert outcome.dropped.to_pylist() == [1]
    assert outcome.refused.table.to_pylist() == [
        {
            "row": 2,
            "record": b"three",
            "arrival_ms": NOON_MS,
            "error_type": "processing-failed",
            "code": "Lambda.ProcessingFailedStatus",
            "message": "ProcessingFailed status set for record",
            "attempts": 1,
            "function": FUNCTION,
            "part": 0,
            "extra": None,
        }
    ]


@given(st.permutations(range(5)))
def test_order_is_that_of_the_event(order: list[int]) -> None:
    """Rows come out as they came, in whatever order the answer has them."""
    slice = rows([b"a", b"b", b"c", b"d", b"e"])
    said = answer(slice)
    outcome = answered(slice, {"records": [said[n] for n in order]}, FUNCTION)
    assert outcome.rows.equals(answered(slice, {"records": said}, FUNCTION).rows)
    assert [record for *_, record in left(outcome)] == [b"A", b"B", b"C", b"D", b"E"]


def test_parts_end_on_their_own() -> None:
    """Parts of one record are records of the event: one is delivered, one dropped, one refused."""
    slice = spread(rows([b"x"]), [0, 0, 0], pa.array([b"a", b"b", b"c"], pa.binary()))
    said = answer(slice)
    said[0]["result"], said[2]["result"] = "Dropped", "ProcessingFailed"
    outcome = answered(slice, {"records": said}, FUNCTION)
    assert left(outcome) == [(0, 1, b"B")]
    assert outcome.dropped.to_pylist() == [0]
    assert refused(outcome) == [(0, b"c", "Lambda.ProcessingFailedStatus")]


def test_a_missing_id_fails_alone() -> None:
    """A record that the answer leaves out is refused, and no other."""
    slice = rows(THREE)
    outcome = answered(slice, {"records": answer(slice)[1:]}, FUNCTION)
    assert left(outcome) == [(1, 0, b"TWO"), (2, 0, b"THREE")]
    assert refused(outcome) == [(0, b"one", "Lambda.MissingRecordId")]
    assert message(outcome).startswith("the answer does not have this recordId; answer every record")


@pytest.mark.parametrize(("name", "shown"), [("mine", "mine"), ("\ud800", "?"), ("x" * 10_000, "x" * 300)])
def test_an_unknown_id_answers_nothing(name: str, shown: str) -> None:
    """An id that was not in the event makes no row; the record it was meant for is missing, and told why."""
    slice = rows(THREE)
    said = answer(slice)
    said[1]["recordId"] = name
    outcome = answered(slice, {"records": said}, FUNCTION)
    assert left(outcome) == [(0, 0, b"ONE"), (2, 0, b"THREE")]
    assert refused(outcome) == [(1, b"two", "Lambda.MissingRecordId")]
    assert f"and has {shown}, which was not in the event" in message(outcome)


def test_records_beyond_those_of_the_event() -> None:
    """A function cannot add records: what it answers beside those of the event is left out."""
    slice = rows(THREE)
    said = [*answer(slice), {"recordId": "more", "result": "Ok", "data": ""}]
    assert left(answered(slice, {"records": said}, FUNCTION)) == [(0, 0, b"ONE"), (1, 0, b"TWO"), (2, 0, b"THREE")]


def test_missing_and_failed_are_told_in_order() -> None:
    """Refused rows of several kinds are told in the order in which they came."""
    slice = rows(THREE)
    said = answer(slice, result="ProcessingFailed")[::2]
    codes = [(row, code.removeprefix("Lambda.")) for row, _, code in refused(answered(slice, {"records": said}, "f"))]
    assert codes == [(0, "ProcessingFailedStatus"), (1, "MissingRecordId"), (2, "ProcessingFailedStatus")]


@pytest.mark.parametrize("data", [None, "", "ignored", "=not base64="])
@pytest.mark.parametrize("result", ["Dropped", "ProcessingFailed"])
def test_data_of_what_is_not_delivered(result: str, data: str | None) -> None:
    """Nobody looks at the data of a record that is dropped or failed: functions often leave it out."""
    slice = rows([b"x"])
    said = {"recordId": record_ids(slice)[0], "result": result, "data": data}
    outcome = answered(slice, {"records": [said]}, FUNCTION)
    assert len(outcome.dropped) == (result == "Dropped")
    assert len(outcome.refused) == (result == "ProcessingFailed")


def test_unlisted_members_are_ignored() -> None:
    """What AWS does not know is no error."""
    slice = rows([b"x"])
    said = {"records": answer(slice, note="hi", metadata={"otherKeys": [1]}), "version": 3}
    assert left(answered(slice, said, FUNCTION)) == [(0, 0, b"X")]


WRONG, TWICE = "Lambda.FunctionError", "Lambda.DuplicatedRecordId"
Change = Callable[[list[dict[str, Any]]], object]
WHOLE: Sequence[tuple[str, Change, str, str]] = [
    ("nothing", lambda said: None, WRONG, "Expected `object`, got `null`"),
    ("a list", lambda said: said, WRONG, "Expected `object`, got `array`"),
    ("text", lambda said: "records", WRONG, "Expected `object`, got `str`"),
    ("no records", lambda said: {"Records": said}, WRONG, "missing required field `records`"),
    ("records null", lambda said: {"records": None}, WRONG, "got `null` - at `$.records`"),
    ("records an object", lambda said: {"records": {}}, WRONG, "at `$.records`"),
    ("a record of text", lambda said: {"records": [*said, "x"]}, WRONG, "at `$.records[3]`"),
    ("no id", lambda said: {"records": [{"result": "Ok"}]}, WRONG, "missing required field `recordId`"),
    ("id a number", lambda said: changed(said, recordId=5), WRONG, "at `$.records[1].recordId`"),
    ("no result", lambda said: changed(said, result=None), WRONG, "at `$.records[1].result`"),
    ("result ok", lambda said: changed(said, result="ok"), WRONG, "Invalid enum value 'ok'"),
    ("result failed", lambda said: changed(said, result="Failed"), WRONG, "'Failed' - at `$.records[1]"),
    ("no data", lambda said: changed(said, data=None), WRONG, "00000100000000 is Ok, and has no data"),
    ("bytes", lambda said: changed(said, data=b"eA=="), WRONG, "got `bytes` - at `$.records[1].data`"),
    ("data 5", lambda said: changed(said, data=5), WRONG, "got `int` - at `$.records[1].data`"),
    ("not base64", lambda said: changed(said, data="a?=="), WRONG, "00000100000000 is not base64: "),
    ("unpadded", lambda said: changed(said, data="eA"), WRONG, "is not base64: "),
    ("with newlines", lambda said: changed(said, data="eA==\n"), WRONG, "is not base64: "),
    ("no text", lambda said: changed(said, data="\u00e9===\ud800"), WRONG, "is not base64: "),
    ("metadata 5", lambda said: changed(said, metadata=5), WRONG, "at `$.records[1].metadata`"),
    ("keys 5", lambda said: changed(said, metadata={"partitionKeys": 5}), WRONG, "partitionKeys`"),
    ("key null", lambda said: keyed(said, None), WRONG, "at `$.records[1].metadata.partitionKeys"),
    ("key nested", lambda said: keyed(said, {}), WRONG, "at `$.records[1].metadata.partitionKeys"),
    ("key no text", lambda said: keyed(said, "\ud800"), WRONG, "are not Unicode text"),
    ("result no text", lambda said: changed(said, result="\ud800"), WRONG, "can't encode character '\\ud800'"),
    ("duplicate", lambda said: {"records": [*said, said[1]]}, TWICE, "00000100000000 more than once"),
    ("all one id", lambda said: {"records": [said[0]] * 3}, TWICE, "more than once"),
]  # fmt: skip


def changed(said: list[dict[str, Any]], **members: Any) -> object:
    return {"records": [said[0], {**said[1], **members}, said[2]]}


def keyed(said: list[dict[str, Any]], value: Any) -> object:
    return changed(said, metadata={"partitionKeys": {"k": value}})


@pytest.mark.parametrize(("change", "code", "words"), [case[1:] for case in WHOLE], ids=[case[0] for case in WHOLE])
def test_what_fails_the_whole_slice(change: Change, code: str, words: str) -> None:
    """An answer of another shape refuses all of its records as they came, in one call, and says what is wrong where."""
    slice = rows(THREE)
    outcome = answered(slice, change(answer(slice)), FUNCTION)
    assert (left(outcome), outcome.dropped.to_pylist()) == ([], [])
    assert refused(outcome) == [(0, b"one", code), (1, b"two", code), (2, b"three", code)]
    assert words in message(outcome)
    said = outcome.refused.table.select(["error_type", "attempts", "function"]).to_pylist()
    assert said == [{"error_type": "processing-failed", "attempts": 1, "function": FUNCTION}] * 3


def test_attempts_are_told() -> None:
    """A record that is refused after several calls says how many there were."""
    slice = rows([b"a", b"b", b"c"])
    said = answer(slice, result="ProcessingFailed")[1:]
    outcome = answered(slice, {"records": said}, FUNCTION, attempts=3)
    assert outcome.refused.table.column("attempts").to_pylist() == [3, 3, 3]


def test_a_long_answer_is_not_repeated() -> None:
    """However long what a function answers, the message stays short."""
    slice = rows([b"x"])
    for said in ({"result": "y" * 5_000_000}, {"recordId": "z" * 5_000_000, "data": "?"}):
        outcome = answered(slice, {"records": [{**answer(slice)[0], **said}]}, FUNCTION)
        assert len(message(outcome)) < 1000


# Partition keys


def test_partition_keys_are_kept() -> None:
    """What the function says a record is to be partitioned by stands in its row's `meta`, as text, and only there."""
    slice = rows(THREE)
    said = answer(slice)
    said[1]["metadata"] = {"partitionKeys": {"year": 2026, "name": "\u00e9", "new": True, "share": 0.5}}
    outcome = answered(slice, {"records": said}, FUNCTION)
    keys = {"year": "2026", "name": "\u00e9", "new": "true", "share": "0.5"}
    metas = outcome.rows.column("meta").to_pylist()
    assert [meta and json.loads(meta) for meta in metas] == [None, {"partitionKeys": keys}, None]


def test_partition_keys_join_what_was_there() -> None:
    """Other members of `meta` stay as they are, and so do partition keys that an earlier step has given."""
    before = {"big": 12345678901234567890, "partitionKeys": {"a": "1", "b": "2"}}
    slice = with_meta(rows(THREE), IN_A_STREAM, before, None)
    said = answer(slice, metadata={"partitionKeys": {"b": "3"}})
    said[0]["metadata"] = None
    metas = answered(slice, {"records": said}, FUNCTION).rows.column("meta").to_pylist()
    assert [json.loads(meta) for meta in metas] == [
        IN_A_STREAM,
        {**before, "partitionKeys": {"a": "1", "b": "3"}},
        {"partitionKeys": {"b": "3"}},
    ]


@pytest.mark.parametrize("metadata", [None, {}, {"partitionKeys": None}, {"partitionKeys": {}}], ids=str)
def test_no_partition_keys(metadata: object) -> None:
    """Where the function gives no partition keys, a row keeps the columns that it had."""
    slice = rows(THREE)
    outcome = answered(slice, {"records": answer(slice, metadata=metadata)}, FUNCTION)
    assert outcome.rows.schema == slice.schema


# Cuts


def size(slice: pa.RecordBatch) -> int:
    made = event(slice, invocation_id="x" * 36, stream_arn=ARN, region="us-east-1")
    return len(json.dumps(made, ensure_ascii=False).encode())


@given(
    st.lists(st.tuples(st.integers(1, 3), st.integers(0, 9000), st.booleans()), max_size=30),
    st.integers(5000, 40_000),
)
def test_cuts(records: list[tuple[int, int, bool]], limit_bytes: int) -> None:
    """The pieces are the rows; each one's event stays below the limit, unless it is of one record alone."""
    index = [n for n, (parts, *_) in enumerate(records) for _ in range(parts)]
    data = pa.array([b"x" * records[n][1] for n in index], pa.binary())
    slice = spread(rows([b""] * len(records)), index, data)
    slice = with_meta(slice, *(IN_A_STREAM if records[n][2] else None for n in index))
    pieces = cuts(slice, limit_bytes)
    assert pa.Table.from_batches(pieces, slice.schema).equals(pa.Table.from_batches([slice]))
    for piece in pieces:
        one = len(set(piece.column("row").to_pylist())) == 1
        assert one or size(piece) <= limit_bytes
    ordinals = [set(piece.column("row").to_pylist()) for piece in pieces]
    assert sum(map(len, ordinals)) == len(set().union(*ordinals))


def test_cuts_are_few() -> None:
    """A slice whose event fits stays whole, and a larger one is cut into hardly more pieces than its size asks for."""
    slice = rows([b"x" * 512] * 3000)
    assert [piece.num_rows for piece in cuts(slice, 6 * 1024 * 1024)] == [3000]
    pieces = cuts(slice, 1024 * 1024)
    assert len(pieces) == -(-size(slice) // (1024 * 1024))


def test_a_large_record_goes_alone() -> None:
    """A record that is larger than the limit spoils the call of no other."""
    slice = rows([b"a", b"x" * 20_000, b"b"])
    assert [piece.num_rows for piece in cuts(slice, 10_000)] == [1, 1, 1]
