"""GetShardIterator and GetRecords over streams in memory: what is read from where, and each way to be refused."""

from __future__ import annotations

import json
from typing import Any

import pytest
import virtual_time
from hypothesis import given, settings
from hypothesis import strategies as st
from stream_calls import ACCOUNT, stream_arn
from stream_shop import INVALID, NOT_FOUND, THROTTLED, VALIDATION, Shop, record
from virtual_time import START_MS, passed

from firehose.datastream import sequence
from firehose.http.aws_json import ApiError

HOUR = 3600
MIB = 1024 * 1024


def data(answer: Any) -> list[bytes]:
    return [one["Data"] for one in answer["Records"]]


def numbers(answer: Any) -> list[str]:
    return [one["SequenceNumber"] for one in answer["Records"]]


def test_records_are_read_as_they_were_put() -> None:
    """Number, data, key and arrival, in order, and where to go on."""

    async def main() -> None:
        shop = Shop()
        put = await shop.put(b"\x00\xff", b"", b"x" * 1000, key='"é\\\n')
        answer = await shop.get(await shop.iterator())
        assert data(answer) == [b"\x00\xff", b"", b"x" * 1000]
        assert numbers(answer) == numbers(put)
        assert {one["PartitionKey"] for one in answer["Records"]} == {'"é\\\n'}
        assert {one["ApproximateArrivalTimestamp"].timestamp() for one in answer["Records"]} == {START_MS / 1000}
        assert answer["MillisBehindLatest"] == 0
        assert "ChildShards" not in answer
        assert "EncryptionType" not in answer["Records"][0]
        again = await shop.get(answer["NextShardIterator"])
        assert again["Records"] == []
        assert again["NextShardIterator"] not in (answer["NextShardIterator"], None)

    virtual_time.run(main())


async def test_large_records_are_the_same_for_all() -> None:
    """For the first reader, whose answer is its own, and for the others, who share what they are sent."""
    shop = Shop()
    put = [b"x" * 400_000, b"y", b"z" * 300_000]
    for one in put:
        await shop.put(one)
    token = await shop.iterator()
    assert [data(await shop.get(token)) for _ in range(4)] == [put] * 4


@pytest.mark.parametrize("kind", ["AT_SEQUENCE_NUMBER", "AFTER_SEQUENCE_NUMBER"])
async def test_a_number_from_the_future_skips_nothing(kind: str) -> None:
    """A number of the shard that no record has yet is the tip: whatever comes next is read."""
    shop = Shop()
    (number,) = numbers(await shop.put(b"0"))
    token = await shop.iterator(kind, StartingSequenceNumber=str(int(number) + (1000 << 80)))
    await shop.put(b"1", b"2")
    assert data(await shop.get(token)) == [b"1", b"2"]


async def test_an_encrypted_stream_says_so() -> None:
    """Each record does."""
    shop = Shop(key_id="alias/aws/kinesis")
    await shop.put(b"x", b"y")
    answer = await shop.get(await shop.iterator())
    assert [one["EncryptionType"] for one in answer["Records"]] == ["KMS", "KMS"]
    assert [one["PartitionKey"] for one in answer["Records"]] == ["a", "a"]


async def test_a_record_without_a_key_has_none() -> None:
    """One that was dealt by turn, beside one that gave a key."""
    shop = Shop(distribution="AUTO")
    await shop.call("PutRecords", StreamName="clicks", Records=[{"Data": b"x"}, record()])
    answer = await shop.get(await shop.iterator())
    assert [one.get("PartitionKey") for one in answer["Records"]] == [None, "k"]


def test_the_five_ways_to_begin() -> None:
    """Each iterator type stands where the reference says it does."""

    async def main() -> None:
        shop = Shop()
        put = [numbers(await shop.put(b"%d" % number))[0] for number in range(2)]
        await passed(10)
        put += [numbers(await shop.put(b"%d" % number))[0] for number in (2, 3)]
        first = START_MS / 1000
        cases: list[tuple[str, dict[str, Any], list[bytes]]] = [
            ("TRIM_HORIZON", {}, [b"0", b"1", b"2", b"3"]),
            ("LATEST", {}, []),
            ("AT_SEQUENCE_NUMBER", {"StartingSequenceNumber": put[1]}, [b"1", b"2", b"3"]),
            ("AFTER_SEQUENCE_NUMBER", {"StartingSequenceNumber": put[1]}, [b"2", b"3"]),
            ("AFTER_SEQUENCE_NUMBER", {"StartingSequenceNumber": put[3]}, []),
            (
                "AT_SEQUENCE_NUMBER",
                {"StartingSequenceNumber": shop.stream.definition.shards[0].starting_number},
                [b"0", b"1", b"2", b"3"],
            ),
            ("AT_TIMESTAMP", {"Timestamp": 0}, [b"0", b"1", b"2", b"3"]),
            ("AT_TIMESTAMP", {"Timestamp": first}, [b"0", b"1", b"2", b"3"]),
            ("AT_TIMESTAMP", {"Timestamp": first + 0.001}, [b"2", b"3"]),
            ("AT_TIMESTAMP", {"Timestamp": first + 10}, [b"2", b"3"]),
        ]
        tokens = [await shop.iterator(kind, **more) for kind, more, _ in cases]
        await shop.put(b"later")
        for token, (kind, more, expected) in zip(tokens, cases, strict=True):
            assert data(await shop.get(token)) == [*expected, b"later"], (kind, more)

    virtual_time.run(main())


def test_an_instant_behind_all_records_is_the_tip() -> None:
    """What comes later is read from there."""

    async def main() -> None:
        shop = Shop()
        await shop.put(b"0")
        await passed(10)
        token = await shop.iterator("AT_TIMESTAMP", Timestamp=START_MS / 1000 + 5)
        assert data(await shop.get(token)) == []
        await shop.put(b"1")
        assert data(await shop.get(token)) == [b"1"], "a token is good several times"

    virtual_time.run(main())


def test_what_has_expired_is_not_shown() -> None:
    """Neither by old tokens nor by new ones, whether or not it was swept away."""

    async def main() -> None:
        shop = Shop()
        old = numbers(await shop.put(b"old"))[0]
        await passed(23 * HOUR)
        token = await shop.iterator("AT_SEQUENCE_NUMBER", StartingSequenceNumber=old)
        await passed(60)
        await shop.put(b"new")
        assert data(await shop.get(token)) == [b"old", b"new"]
        await passed(HOUR)
        for begin in (
            {"kind": "TRIM_HORIZON"},
            {"kind": "AT_SEQUENCE_NUMBER", "StartingSequenceNumber": old},
            {"kind": "AT_TIMESTAMP", "Timestamp": 0},
        ):
            assert data(await shop.get(await shop.iterator(**begin))) == [b"new"]
        shop.stream.expire()
        answer = await shop.get(await shop.iterator("AT_SEQUENCE_NUMBER", StartingSequenceNumber=old))
        assert data(answer) == [b"new"]

    virtual_time.run(main())


def test_how_far_behind_a_reader_is() -> None:
    """The age of the next record that waits for him; nothing at the tip, and never nothing before it."""

    async def main() -> None:
        shop = Shop()
        await shop.put(b"0")
        await passed(2)
        await shop.put(b"1")
        await passed(3)
        answer = await shop.get(await shop.iterator(), Limit=1)
        assert answer["MillisBehindLatest"] == 3000
        answer = await shop.get(answer["NextShardIterator"], Limit=1)
        assert (data(answer), answer["MillisBehindLatest"]) == ([b"1"], 0)
        await shop.put(b"2", b"3")
        answer = await shop.get(answer["NextShardIterator"], Limit=1)
        assert answer["MillisBehindLatest"] == 1

    virtual_time.run(main())


async def test_an_answer_has_its_bounds() -> None:
    """As many records as were asked for, 10,000 without, and 10 MiB; one that is larger than what is left waits."""
    shop = Shop(max_record_kib=10240)
    for _ in range(21):
        await shop.put(*[b"x"] * 500)
    token = await shop.iterator()
    assert len((await shop.get(token, Limit=3))["Records"]) == 3
    answer = await shop.get(token)
    assert len(answer["Records"]) == 10_000
    assert len((await shop.get(answer["NextShardIterator"]))["Records"]) == 500
    token = await shop.iterator("LATEST")
    for size in (6 * MIB, 5 * MIB, 10 * MIB - 1):
        await shop.put(b"x" * size)
    for size in (6 * MIB, 5 * MIB, 10 * MIB - 1):
        answer = await shop.get(token)
        assert [len(one) for one in data(answer)] == [size]
        token = answer["NextShardIterator"]


# Closed shards.


def test_a_closed_shard_ends_with_its_children() -> None:
    """All that it has first; then no iterator, and the shards to go on with, also for who begins at its end."""

    async def main() -> None:
        shop = Shop()
        await shop.put(b"0", b"1")
        open_token = await shop.iterator("LATEST")
        children = shop.stream.split(0)
        await passed(5)
        answer = await shop.get(await shop.iterator(), Limit=1)
        assert "ChildShards" not in answer
        answer = await shop.get(answer["NextShardIterator"])
        assert data(answer) == [b"1"]
        ends = [answer, *[await shop.get(token) for token in (open_token, await shop.iterator("LATEST"))]]
        ending = shop.stream.definition.shards[0].ending_number
        for kind in ("AT_SEQUENCE_NUMBER", "AFTER_SEQUENCE_NUMBER"):
            token = await shop.iterator(kind, StartingSequenceNumber=ending)
            ends += [await shop.get(token)]
        for end in ends:
            assert "NextShardIterator" not in end
            assert end["MillisBehindLatest"] == 5000
            assert end["ChildShards"] == [
                {
                    "ShardId": child.id,
                    "ParentShards": ["shardId-000000000000"],
                    "HashKeyRange": {"StartingHashKey": str(child.start), "EndingHashKey": str(child.end)},
                }
                for child in children
            ]

    virtual_time.run(main())


async def test_a_merged_shard_names_both_parents() -> None:
    """Each of them ends with the same child."""
    shop = Shop(2)
    shop.stream.merge(1, 0)
    for shard in (0, 1):
        answer = await shop.get(await shop.iterator(shard=shard))
        assert answer["ChildShards"] == [
            {
                "ShardId": "shardId-000000000002",
                "ParentShards": ["shardId-000000000001", "shardId-000000000000"],
                "HashKeyRange": {"StartingHashKey": "0", "EndingHashKey": str(2**128 - 1)},
            }
        ]


# What is refused.

MUST = (
    "Must either specify (1) AT_SEQUENCE_NUMBER or AFTER_SEQUENCE_NUMBER and StartingSequenceNumber or (2) "
    "TRIM_HORIZON or LATEST and no StartingSequenceNumber. Request specified "
)
BEGIN = {"StreamName": "clicks", "ShardId": "shardId-000000000000"}
ITERATORS: list[tuple[dict[str, Any], str, str]] = [
    (
        {"ShardIteratorType": None},
        VALIDATION,
        "at 'shardIteratorType' failed to satisfy constraint: Member must not be",
    ),
    ({"ShardIteratorType": "NOW"}, VALIDATION, "Member must satisfy enum value set: [AT_SEQUENCE_NUMBER, AFTER_SEQ"),
    ({"ShardIteratorType": 1}, "SerializationException", "shardIteratorType"),
    ({"ShardId": None}, VALIDATION, "at 'shardId' failed to satisfy constraint: Member must not be null"),
    ({"ShardId": ""}, VALIDATION, "at 'shardId' failed to satisfy constraint: Member must have length"),
    ({"ShardId": "x" * 129}, VALIDATION, "less than or equal to 128"),
    ({"ShardId": "a b"}, VALIDATION, "regular expression pattern"),
    ({"ShardId": "x"}, NOT_FOUND, f"Could not find shard x in stream clicks under account {ACCOUNT}."),
    ({"ShardId": "shardId-2147483648"}, NOT_FOUND, "Could not find shard shardId-2147483648 in stream clicks"),
    (
        {"ShardId": "shardId-000000000007"},
        NOT_FOUND,
        f"Shard shardId-000000000007 in stream clicks under account {ACCOUNT} does not exist",
    ),
    ({"ShardIteratorType": "AT_SEQUENCE_NUMBER"}, INVALID, MUST + "AT_SEQUENCE_NUMBER and no StartingSequenceNumber."),
    (
        {"ShardIteratorType": "AFTER_SEQUENCE_NUMBER"},
        INVALID,
        MUST + "AFTER_SEQUENCE_NUMBER and no StartingSequenceNum",
    ),
    ({"StartingSequenceNumber": "5"}, INVALID, MUST + "TRIM_HORIZON and also a StartingSequenceNumber."),
    (
        {"ShardIteratorType": "LATEST", "StartingSequenceNumber": "5"},
        INVALID,
        MUST + "LATEST and also a StartingSequenceNumber.",
    ),
    (
        {"ShardIteratorType": "AT_TIMESTAMP"},
        INVALID,
        "Must specify timestampInMillis parameter for iterator of type AT_TIMESTAMP. Current request has no timestamp "
        "parameter.",
    ),
    (
        {"ShardIteratorType": "AT_TIMESTAMP", "Timestamp": START_MS / 1000 + 1},
        INVALID,
        "The timestampInMillis parameter cannot be greater than the currentTimestampInMillis. timestampInMillis: "
        f"{START_MS + 1000}, currentTimestampInMillis: {START_MS}",
    ),
    ({"ShardIteratorType": "AT_TIMESTAMP", "Timestamp": "now"}, "SerializationException", "timestamp"),
    (
        {"ShardIteratorType": "AT_SEQUENCE_NUMBER", "StartingSequenceNumber": "5"},
        INVALID,
        "StartingSequenceNumber 5 used in GetShardIterator on shard shardId-000000000000 in stream clicks "
        f"under account {ACCOUNT} is invalid.",
    ),
    (
        {
            "ShardIteratorType": "AT_SEQUENCE_NUMBER",
            "StartingSequenceNumber": sequence.number(sequence.base(START_MS // 1000, 7), 5, START_MS // 1000),
        },
        INVALID,
        "Invalid StartingSequenceNumber. It encodes shardId-000000000007, while it was used in a call to a shard "
        "with shardId-000000000000",
    ),
    (
        {
            "ShardIteratorType": "AT_SEQUENCE_NUMBER",
            "StartingSequenceNumber": sequence.number(sequence.base(START_MS // 1000 - 1, 0), 5, START_MS // 1000),
        },
        INVALID,
        f"in stream clicks under account {ACCOUNT} is invalid because it did not come from this stream.",
    ),
    ({"ShardIteratorType": "AT_SEQUENCE_NUMBER", "StartingSequenceNumber": "x"}, VALIDATION, "regular expression"),
    ({"StreamName": "other"}, NOT_FOUND, f"Stream other under account {ACCOUNT} not found."),
    ({"StreamName": None}, INVALID, "Either StreamName or StreamARN"),
    ({"StreamARN": stream_arn("other")}, INVALID, "do not name the same stream"),
    ({"DryRun": True}, "DryRunOperationException", "would have succeeded"),
]


@pytest.mark.parametrize(("members", "code", "message"), ITERATORS)
def test_an_iterator_that_cannot_be_is_refused(members: dict[str, Any], code: str, message: str) -> None:
    """In AWS's words."""

    async def main() -> None:
        shop = Shop()
        error = await shop.call.refusal("GetShardIterator", **{"ShardIteratorType": "TRIM_HORIZON", **BEGIN, **members})
        assert (error.code, error.status) == (code, 400)
        assert message in error.message

    virtual_time.run(main())


@pytest.mark.parametrize("shard", ["0", "shard-0", "shardId-000000000000", "shardId-0"])
async def test_a_shard_is_named_as_leniently_as_with_aws(shard: str) -> None:
    """The number is what counts."""
    shop = Shop()
    await shop.put(b"x")
    begin = {"StreamName": "clicks", "ShardId": shard, "ShardIteratorType": "TRIM_HORIZON"}
    token = (await shop.call("GetShardIterator", **begin))["ShardIterator"]
    assert data(await shop.get(token)) == [b"x"]


async def test_a_read_that_cannot_be_is_refused() -> None:
    """Each member at and past its limits, and of a wrong type."""
    shop = Shop()
    token = await shop.iterator()
    cases: list[tuple[dict[str, Any], str, str]] = [
        ({}, VALIDATION, "at 'shardIterator' failed to satisfy constraint: Member must not be null"),
        ({"ShardIterator": ""}, VALIDATION, "Member must have length greater than or equal to 1"),
        ({"ShardIterator": "x" * 513}, VALIDATION, "Member must have length less than or equal to 512"),
        ({"ShardIterator": 5}, "SerializationException", "shardIterator"),
        ({"ShardIterator": "x" * 512}, INVALID, "Invalid ShardIterator."),
        ({"ShardIterator": token[:-8]}, INVALID, "Invalid ShardIterator."),
        ({"ShardIterator": token, "Limit": 0}, VALIDATION, "greater than or equal to 1"),
        ({"ShardIterator": token, "Limit": 10_001}, VALIDATION, "less than or equal to 10000"),
        ({"ShardIterator": token, "Limit": "1"}, "SerializationException", "limit"),
        ({"ShardIterator": token, "Limit": 1.5}, "SerializationException", "limit"),
        ({"ShardIterator": token, "StreamARN": stream_arn("other")}, INVALID, "does not name the stream"),
        ({"ShardIterator": token, "StreamARN": "x"}, VALIDATION, "streamARN"),
        ({"ShardIterator": token, "DryRun": True}, "DryRunOperationException", "would have succeeded"),
    ]
    for members, code, message in cases:
        error = await shop.call.refusal("GetRecords", **members)
        assert (error.code, error.status) == (code, 400), members
        assert message in error.message
    for members in ({"Limit": 1}, {"Limit": 10_000}, {"Limit": None}, {"StreamARN": stream_arn("clicks")}, {"X": 1}):
        await shop.call.post("GetRecords", json.dumps({"ShardIterator": token, **members}).encode())
    await shop.get(f'"{token}"')


@pytest.mark.parametrize("text", [b"", b"{", b"[]", b"null", b'"x"', b"\xff", b"[" * 10_000])
async def test_garbage_is_refused(text: bytes) -> None:
    """What is no JSON object is answered as a serialization error."""
    shop = Shop()
    for name in ("GetRecords", "GetShardIterator"):
        with pytest.raises(ApiError) as refused:
            await shop.call.post(name, text)
        assert refused.value.code == "SerializationException"


async def test_a_stream_that_was_made_anew_is_another() -> None:
    """Tokens of the one before are not good for it, nor for one that is gone or on its way."""
    shop = Shop()
    token = await shop.iterator()
    shop.stream.change(status="DELETING")
    assert (await shop.call.refusal("GetRecords", ShardIterator=token)).code == NOT_FOUND
    shop.streams.delete("clicks")
    assert (await shop.call.refusal("GetRecords", ShardIterator=token)).code == NOT_FOUND
    shop.stream = shop.streams.create("clicks")
    error = await shop.call.refusal("GetRecords", ShardIterator=token)
    assert (error.code, error.message) == (NOT_FOUND, f"Stream clicks under account {ACCOUNT} not found.")
    await shop.get(await shop.iterator())


async def test_a_shard_that_is_forgotten_under_its_reader() -> None:
    """Closed and expired, it is not there any more."""
    shop = Shop()
    token = await shop.iterator()
    shop.stream.split(0)
    shop.stream.forget(0)
    error = await shop.call.refusal("GetRecords", ShardIterator=token)
    assert error.code == NOT_FOUND
    begin = {**BEGIN, "ShardIteratorType": "LATEST"}
    assert (await shop.call.refusal("GetShardIterator", **begin)).code == NOT_FOUND


async def test_tokens_outlive_the_process() -> None:
    """A new one that knows the key goes on where they stand; one with another key knows none of them."""
    shop = Shop()
    await shop.put(b"0", b"1")
    token = (await shop.get(await shop.iterator(), Limit=1))["NextShardIterator"]
    shop.start()
    assert data(await shop.get(token)) == [b"1"]
    shop.start(secret=b"some other data folder's")
    assert (await shop.call.refusal("GetRecords", ShardIterator=token)).message == "Invalid ShardIterator."


# AWS's limits, where they are asked for.


def test_five_reads_a_second() -> None:
    """Of GetRecords and of iterators, for each shard by itself."""

    async def main() -> None:
        shop = Shop(2, limits="aws")
        tokens = [await shop.iterator() for _ in range(5)]
        error = await shop.call.refusal("GetShardIterator", **BEGIN, ShardIteratorType="LATEST")
        assert (error.code, error.status) == (THROTTLED, 400)
        for token in tokens:
            await shop.get(token)
        error = await shop.call.refusal("GetRecords", ShardIterator=tokens[0])
        assert (
            error.message == f"Rate exceeded for shard shardId-000000000000 in stream clicks under account {ACCOUNT}."
        )
        await shop.get(await shop.iterator(shard=1))
        await passed(0.2)
        await shop.get(tokens[0])
        assert (await shop.call.refusal("GetRecords", ShardIterator=tokens[0])).code == THROTTLED

    virtual_time.run(main())


def test_two_mebibytes_a_second() -> None:
    """A read of ten is let through, and those after it wait until it is paid off, which takes no five seconds."""

    async def main() -> None:
        shop = Shop(limits="none")
        for _ in range(11):
            await shop.put(b"x" * (1024 * 1024 - 1))
        shop.stream.change(limits="aws")
        token = await shop.iterator()
        answer = await shop.get(token)
        assert sum(map(len, data(answer))) > 9 * MIB
        await passed(3.5)
        assert (await shop.call.refusal("GetRecords", ShardIterator=token)).code == THROTTLED
        await passed(1)
        await shop.get(token)

    virtual_time.run(main())


# Everything at once.


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_each_record_is_read_once_and_in_order(data: st.DataObject) -> None:
    """Whatever puts, splits, merges, expiry and time come between: who reads parents before children has each record
    that is kept exactly once, and those of one key in the order in which they were put.
    """

    async def main() -> None:
        shop = Shop(data.draw(st.integers(1, 3)))
        put: list[tuple[str, bytes, int]] = []
        for step in range(data.draw(st.integers(1, 12))):
            await _step(shop, data, step, put)
        horizon = shop.stream.horizon_ms()
        kept = {one[:2] for one in put if one[2] >= horizon}
        read = await drained(shop, data)
        assert len(read) == len(set(read)) == len(kept)
        assert set(read) == kept
        for key in {key for key, _ in kept}:
            mine = [content for name, content in read if name == key]
            assert mine == sorted(mine, key=lambda content: int(content))

    virtual_time.run(main())


async def _step(shop: Shop, data: st.DataObject, step: int, put: list[tuple[str, bytes, int]]) -> None:
    """One thing that happens to the stream."""
    shards = sorted((one for one in shop.stream.definition.shards if one.open), key=lambda one: one.start)
    what = data.draw(st.sampled_from(["put", "put", "put", "split", "merge", "pass", "expire"]))
    if what == "put":
        keys = data.draw(st.lists(st.sampled_from("abcdefg"), min_size=1, max_size=5))
        sent = [(key, b"%d" % (step * 1000 + number)) for number, key in enumerate(keys)]
        records = [{"Data": content, "PartitionKey": key} for key, content in sent]
        answer = await shop.call("PutRecords", StreamName="clicks", Records=records)
        assert answer["FailedRecordCount"] == 0
        put += [(key, content, shop.runtime.now_ms()) for key, content in sent]
    elif what == "split":
        shop.stream.split(data.draw(st.sampled_from(shards)).number)
    elif what == "merge" and len(shards) > 1:
        place = data.draw(st.integers(0, len(shards) - 2))
        shop.stream.merge(shards[place].number, shards[place + 1].number)
    elif what == "expire":
        shop.stream.expire()
    else:
        await passed(data.draw(st.sampled_from([0.001, 1, 8 * HOUR])))


async def drained(shop: Shop, data: st.DataObject) -> list[tuple[str, bytes]]:
    """All records, shard by shard, none before its parents; an open shard until there is nothing more."""
    found: list[tuple[str, bytes]] = []
    for shard in shop.stream.definition.shards:  # numbers rise from parent to child
        token: str | None = await shop.iterator(shard=shard.number)
        while token:
            answer = await shop.get(token, Limit=data.draw(st.integers(1, 4)))
            found += [(one["PartitionKey"], one["Data"]) for one in answer["Records"]]
            token = answer.get("NextShardIterator")
            assert (token is None) == bool(answer.get("ChildShards"))
            if answer["MillisBehindLatest"] == 0 and shard.open:
                break
    return found
