"""PutRecord and PutRecords over streams in memory: what is stored, what is told, and each way to be refused."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from hashlib import md5
from typing import Any

import pytest
import virtual_time
from stream_calls import ACCOUNT, body, stream_arn
from stream_shop import INVALID, NOT_FOUND, THROTTLED, VALIDATION, Shop, record
from virtual_time import passed

from firehose.contracts import Full, Unsure
from firehose.datastream import sequence
from firehose.datastream.gathering import CONVOY_SECONDS
from firehose.datastream.model import Placed
from firehose.http.aws_json import ApiError
from firehose.model import Records

KIB = 1024
MIB = 1024 * KIB


async def test_put_record() -> None:
    """A record is stored byte for byte with its key, and answered with its shard and the number it is read by."""
    shop = Shop()
    answer = await shop.call("PutRecord", StreamName="clicks", Data=b"\x00\xff", PartitionKey="é")
    assert answer == {"ShardId": "shardId-000000000000", "SequenceNumber": answer["SequenceNumber"]}
    assert await shop.stored() == [(answer["SequenceNumber"], b"\x00\xff", "é")]


async def test_put_records() -> None:
    """Many records are stored in their order, each answered with its own number, in the order of the request."""
    shop = Shop()
    answer = await shop.put(b"a", b"", b"c")
    assert answer["FailedRecordCount"] == 0
    told = [one["SequenceNumber"] for one in answer["Records"]]
    assert {one["ShardId"] for one in answer["Records"]} == {"shardId-000000000000"}
    assert await shop.stored() == [(told[0], b"a", "a"), (told[1], b"", "a"), (told[2], b"c", "a")]
    assert sorted(map(int, told)) == list(map(int, told))


@pytest.mark.parametrize("shards", [2, 3, 4, 7])
async def test_keys_find_their_shards(shards: int) -> None:
    """Each record lies in the shard whose hash keys hold the MD5 of its key, in the order of the request."""
    shop = Shop(shards)
    keys = [f"key {number % 40}" for number in range(200)]
    records = [{"Data": b"%d" % number, "PartitionKey": key} for number, key in enumerate(keys)]
    answer = await shop.call("PutRecords", StreamName="clicks", Records=records)
    for shard in shop.stream.definition.shards:
        wanted = [
            (said["SequenceNumber"], record["Data"], record["PartitionKey"])
            for said, record in zip(answer["Records"], records, strict=True)
            if said["ShardId"] == shard.id
        ]
        assert await shop.stored(shard.number) == wanted
        for _, _, key in wanted:
            assert shard.start <= int(md5(str(key).encode()).hexdigest(), 16) <= shard.end


@pytest.mark.parametrize(
    ("hash_key", "shard"), [("0", 0), (str(2**127 - 1), 0), (str(2**127), 1), (str(2**128 - 1), 1)]
)
async def test_an_explicit_hash_key_goes_before_the_partition_key(hash_key: str, shard: int) -> None:
    """It alone decides, both ends of a range included; the partition key is stored all the same."""
    shop = Shop(2)
    answer = await shop.call("PutRecord", StreamName="clicks", Data=b"x", PartitionKey="k", ExplicitHashKey=hash_key)
    assert answer["ShardId"] == sequence.shard_id(shard)
    assert [(data, key) for _, data, key in await shop.stored(shard)] == [(b"x", "k")]
    many = await shop.put(b"y", ExplicitHashKey=hash_key)
    assert many["Records"][0]["ShardId"] == sequence.shard_id(shard)


async def test_a_stream_is_named_by_its_arn() -> None:
    """The ARN does, alone or with the name."""
    shop = Shop()
    for names in ({"StreamARN": stream_arn("clicks")}, {"StreamARN": stream_arn("clicks"), "StreamName": "clicks"}):
        await shop.call("PutRecord", Data=b"x", PartitionKey="k", **names)
        await shop.call("PutRecords", Records=[{"Data": b"x", "PartitionKey": "k"}], **names)
    assert len(await shop.stored()) == 4


async def test_unknown_members_and_nulls_are_as_if_absent() -> None:
    """What the model does not have, and null where a member may be absent, changes nothing."""
    shop = Shop()
    record = {"Data": "eA==", "PartitionKey": "k", "ExplicitHashKey": None, "More": [1]}
    for name, request in {
        "PutRecord": {**record, "StreamName": "clicks", "SequenceNumberForOrdering": None, "DryRun": None},
        "PutRecords": {"Records": [record], "StreamName": "clicks", "StreamARN": None, "Else": {}},
    }.items():
        await shop.call.post(name, json.dumps(request).encode())
    assert [data for _, data, _ in await shop.stored()] == [b"x", b"x"]


SINGLE: list[tuple[dict[str, Any], str, str]] = [
    ({"Data": None}, VALIDATION, "Value null at 'data' failed to satisfy constraint: Member must not be null"),
    ({"PartitionKey": None}, VALIDATION, "Value null at 'partitionKey' failed to satisfy constraint: Member must not"),
    ({"PartitionKey": ""}, VALIDATION, "at 'partitionKey' failed to satisfy constraint: Member must have length great"),
    ({"PartitionKey": "é" * 257}, VALIDATION, "Member must have length less than or equal to 256"),
    ({"PartitionKey": 7}, "SerializationException", "partitionKey"),
    ({"Data": b"x" * (MIB - 1), "PartitionKey": "kk"}, VALIDATION, "'data' failed .* less than or equal to 1048576"),
    ({"Data": b"x" * (10 * MIB + 1)}, VALIDATION, "less than or equal to 10485760"),
    ({"ExplicitHashKey": "-1"}, VALIDATION, "regular expression pattern"),
    ({"ExplicitHashKey": "01"}, VALIDATION, "regular expression pattern"),
    ({"ExplicitHashKey": "9" * 40}, VALIDATION, "regular expression pattern"),
    (
        {"ExplicitHashKey": str(2**128)},
        INVALID,
        r"Invalid ExplicitHashKey. ExplicitHashKey must be in the range: \[0, 2\^128-1\]. "
        r"Specified value was 340282366920938463463374607431768211456",
    ),
]


@pytest.mark.parametrize(("members", "code", "message"), SINGLE)
async def test_a_record_that_breaks_a_rule_is_refused(members: dict[str, Any], code: str, message: str) -> None:
    """By both operations, in AWS's words; and of a call of many nothing is stored then."""
    shop = Shop()
    alone = await shop.call.refusal("PutRecord", StreamName="clicks", **record(**members))
    with pytest.raises(ApiError, match=message):
        raise alone
    among = await shop.call.refusal("PutRecords", StreamName="clicks", Records=[record(), record(**members)])
    assert alone.code == among.code == code
    assert await shop.stored() == []
    if code == VALIDATION:
        assert "'records.2.member." in among.message


CALLS: list[tuple[dict[str, Any], str, str]] = [
    ({"StreamName": "other"}, NOT_FOUND, f"Stream other under account {ACCOUNT} not found."),
    ({"StreamName": "bad name"}, VALIDATION, "at 'streamName' failed to satisfy constraint"),
    ({"StreamName": ""}, VALIDATION, "at 'streamName' failed to satisfy constraint"),
    ({"StreamName": "x" * 129}, VALIDATION, "less than or equal to 128"),
    ({"StreamName": 1}, "SerializationException", "streamName"),
    ({"StreamName": None}, INVALID, "Either StreamName or StreamARN"),
    ({"StreamName": "clicks", "StreamARN": stream_arn("other")}, INVALID, "do not name the same stream"),
    ({"StreamARN": "arn:aws:s3:::x"}, VALIDATION, "streamARN"),
    ({"StreamName": "clicks", "DryRun": "yes"}, "SerializationException", "dryRun"),
    ({"StreamName": "clicks", "DryRun": True}, "DryRunOperationException", "would have succeeded"),
]


@pytest.mark.parametrize(("members", "code", "message"), CALLS)
async def test_a_call_that_breaks_a_rule_is_refused(members: dict[str, Any], code: str, message: str) -> None:
    """Whatever is wrong with its stream or its flags, by both operations alike; nothing is stored."""
    shop = Shop()
    for name, content in {"PutRecord": record(), "PutRecords": {"Records": [record()]}}.items():
        error = await shop.call.refusal(name, **content, **members)
        assert (error.code, error.status) == (code, 400)
        assert message in error.message
    assert await shop.stored() == []


@pytest.mark.parametrize(
    ("records", "code", "message"),
    [
        (None, VALIDATION, "Value null at 'records' failed to satisfy constraint: Member must not be null"),
        (
            [],
            VALIDATION,
            "at 'records' failed to satisfy constraint: Member must have length greater than or equal to 1",
        ),
        ([record()] * 501, VALIDATION, "Member must have length less than or equal to 500"),
        ("x", "SerializationException", "records"),
        ([None], VALIDATION, "at 'records.1.member' failed"),
        (["x"], "SerializationException", "records.1.member"),
        ([record(Data=b"x" * MIB, PartitionKey="k")], VALIDATION, "'records.1.member.data'"),
        ([record(Data=b"x" * (MIB - 1))] * 11, INVALID, "Records size exceeds 10 MB limit"),
    ],
)
async def test_records_that_are_no_list_of_records_are_refused(records: Any, code: str, message: str) -> None:
    """Too few, too many, too large together, or none at all."""
    shop = Shop()
    error = await shop.call.refusal("PutRecords", StreamName="clicks", Records=records)
    assert error.code == code
    assert message in error.message
    assert await shop.stored() == []


@pytest.mark.parametrize("text", [b"", b"{", b"[]", b"null", b'"x"', b"\xff", b"[" * 10_000])
async def test_garbage_is_refused(text: bytes) -> None:
    """What is no JSON object is answered as a serialization error."""
    shop = Shop()
    for name in ("PutRecord", "PutRecords"):
        with pytest.raises(ApiError) as refused:
            await shop.call.post(name, text)
        assert refused.value.code == "SerializationException"


async def test_data_that_is_no_base64_is_refused() -> None:
    """Nothing is stored of it."""
    shop = Shop()
    request = b'{"StreamName":"clicks","Data":"not base64!","PartitionKey":"k"}'
    with pytest.raises(ApiError, match="base64"):
        await shop.call.post("PutRecord", request)


async def test_records_at_each_limit_are_taken() -> None:
    """500 records, 256 characters of key, the stream's whole record size, 10 MiB in a call."""
    shop = Shop(max_record_kib=10240)
    assert (await shop.put(*[b"x"] * 500))["FailedRecordCount"] == 0
    assert (await shop.put(b"x", key="é" * 256))["FailedRecordCount"] == 0
    await shop.call("PutRecord", StreamName="clicks", Data=b"x" * (10 * MIB - 1), PartitionKey="k")
    assert (await shop.put(b"x" * (10 * MIB - 1)))["FailedRecordCount"] == 0
    error = await shop.call.refusal("PutRecord", StreamName="clicks", Data=b"x" * (10 * MIB), PartitionKey="k")
    assert error.code == VALIDATION
    error = await shop.call.refusal(
        "PutRecords", StreamName="clicks", Records=[record(Data=b"x" * (5 * MIB)), record(Data=b"x" * (5 * MIB - 1))]
    )
    assert error.code == INVALID


@pytest.mark.parametrize("status", ["CREATING", "DELETING"])
async def test_a_stream_that_is_not_there_yet_or_no_more_is_not_found(status: str) -> None:
    """Only an active stream, or one that is being changed, takes records."""
    shop = Shop()
    shop.stream.change(status=status)
    assert (await shop.call.refusal("PutRecord", StreamName="clicks", **record())).code == NOT_FOUND
    shop.stream.change(status="UPDATING")
    await shop.call("PutRecord", StreamName="clicks", **record())


async def test_an_encrypted_stream_says_so() -> None:
    """Both answers carry the kind of encryption, and only then."""
    shop = Shop(key_id="alias/aws/kinesis")
    assert (await shop.put(b"x"))["EncryptionType"] == "KMS"
    alone = await shop.call("PutRecord", StreamName="clicks", **record())
    assert alone["EncryptionType"] == "KMS"


async def test_a_later_number_than_the_one_for_ordering() -> None:
    """What this stream gave out may stand there, and the new number is above it; anything else may not."""
    shop = Shop()
    first = await shop.call("PutRecord", StreamName="clicks", **record())
    put = {"StreamName": "clicks", **record()}
    second = await shop.call("PutRecord", **put, SequenceNumberForOrdering=first["SequenceNumber"])
    assert int(second["SequenceNumber"]) > int(first["SequenceNumber"])
    future = sequence.parse(second["SequenceNumber"])
    assert future is not None
    ahead = sequence.number(shop.stream.definition.shards[0].base, future.counter + 1, future.arrival_s)
    elsewhere = sequence.number(sequence.base(1, 7), 5, 1)
    for text in ("1", "123456789", ahead, elsewhere):
        error = await shop.call.refusal("PutRecord", **put, SequenceNumberForOrdering=text)
        assert (error.code, error.message) == (
            INVALID,
            f"ExclusiveMinimumSequenceNumber {text} used in PutRecord on stream clicks "
            f"under account {ACCOUNT} is invalid.",
        )
    error = await shop.call.refusal("PutRecord", **put, SequenceNumberForOrdering="x")
    assert error.code == VALIDATION


# Streams that change meanwhile.


async def test_records_of_a_shard_that_is_split_meanwhile_go_to_its_children() -> None:
    """A put that waited for the split is stored whole, in order, where its keys belong now."""
    shop = Shop()
    shop.stream.gate.clear()
    records = [{"Data": b"%d" % number, "PartitionKey": f"key {number % 7}"} for number in range(50)]
    putting = asyncio.create_task(shop.call("PutRecords", StreamName="clicks", Records=records))
    await asyncio.sleep(0)
    children = shop.stream.split(0)
    shop.stream.gate.set()
    answer = await putting
    assert answer["FailedRecordCount"] == 0
    assert await shop.stored(0) == []
    for child in children:
        wanted = [
            (said["SequenceNumber"], one["Data"])
            for said, one in zip(answer["Records"], records, strict=True)
            if said["ShardId"] == child.id
        ]
        assert [(number, data) for number, data, _ in await shop.stored(child.number)] == wanted


async def test_a_stream_that_is_deleted_meanwhile_is_not_found() -> None:
    """A put that waited for it ends as if it had come later."""
    shop = Shop()
    shop.stream.gate.clear()
    putting = asyncio.create_task(shop.call.refusal("PutRecord", StreamName="clicks", **record()))
    await asyncio.sleep(0)
    shop.stream.forget(0)
    shop.stream.gate.set()
    assert (await putting).code == NOT_FOUND


@pytest.mark.parametrize("failure", [Full("no room", 3.0), Unsure("the disk failed", 3.0)])
async def test_a_shard_that_fails_does_not_fail_the_others(failure: Exception) -> None:
    """Its records say so one by one, without a number; those of other shards are stored."""
    shop = Shop(2)
    shop.stream.log(1).failing = failure
    records = [record(ExplicitHashKey=str(number % 2 * 2**127)) for number in range(6)]
    answer = await shop.call("PutRecords", StreamName="clicks", Records=records)
    assert answer["FailedRecordCount"] == 3
    for number, said in enumerate(answer["Records"]):
        if number % 2:
            assert said == {"ErrorCode": "InternalFailure", "ErrorMessage": "Internal Service Failure"}
        else:
            assert said["ShardId"] == "shardId-000000000000"
    assert len(await shop.stored(0)) == 3


@pytest.mark.parametrize("failure", [Full("no room", 3.0), Unsure("the disk failed", 3.0)])
async def test_where_nothing_could_be_stored_the_whole_call_is_to_be_retried(failure: Exception) -> None:
    """503 is what every SDK tries again by itself."""
    shop = Shop(2)
    for shard in (0, 1):
        shop.stream.log(shard).failing = failure
    alone = await shop.call.refusal("PutRecord", StreamName="clicks", **record())
    many = await shop.call.refusal(
        "PutRecords", StreamName="clicks", Records=[record(PartitionKey=f"{number}") for number in range(9)]
    )
    for error in (alone, many):
        assert (error.code, error.status) == ("ServiceUnavailableException", 503)
        assert (b"retry-after", b"3") in error.headers


async def test_an_even_distribution_needs_no_keys() -> None:
    """With AUTO records are dealt to the shards in turn, whatever their keys, which are stored where they are given."""
    shop = Shop(4, distribution="AUTO", mode="ON_DEMAND")
    records = [{"Data": b"x"} for _ in range(40)] + [record(ExplicitHashKey="0") for _ in range(40)]
    answer = await shop.call("PutRecords", StreamName="clicks", Records=records)
    counted = Counter(said["ShardId"] for said in answer["Records"])
    assert set(counted.values()) == {20}
    keys = [key for shard in range(4) for _, _, key in await shop.stored(shard)]
    assert Counter(keys) == {None: 40, "k": 40}


# Requests that come together.


def appends_of(shop: Shop) -> list[tuple[int, int]]:
    """Of each append from now on: the shard, and how many records."""
    appends: list[tuple[int, int]] = []
    append = shop.stream.append

    async def counted(shard: int, records: Records) -> Placed:
        appends.append((shard, records.num_rows))
        return await append(shard, records)

    shop.stream.append = counted  # type: ignore[method-assign]
    return appends


async def test_singles_that_come_together_are_one_append() -> None:
    """In the order in which they came, large ones too, each with its own number; other shards have their own."""
    shop = Shop(2)
    appends = appends_of(shop)
    sent = [record(Data=b"%d" % number, ExplicitHashKey="0") for number in range(10)]
    sent += [record(Data=b"x" * 20 * KIB, ExplicitHashKey="0"), record(ExplicitHashKey=str(2**127))]
    answers = await asyncio.gather(*(shop.call("PutRecord", StreamName="clicks", **one) for one in sent))
    assert sorted(appends) == [(0, 11), (1, 1)]
    there = {number: data for shard in (0, 1) for number, data, _ in await shop.stored(shard)}
    assert [there[answer["SequenceNumber"]] for answer in answers] == [one["Data"] for one in sent]
    assert len(there) == len(sent)
    numbers = [int(answer["SequenceNumber"]) for answer in answers[:10]]
    assert numbers == sorted(numbers)


async def test_batches_that_come_together_are_one_append() -> None:
    """With what comes alone between them, each record answered with the number that it is read by."""
    shop = Shop()
    appends = appends_of(shop)
    puts = [shop.put(b"a", b"b"), shop.put(b"c"), shop.call("PutRecord", StreamName="clicks", **record(Data=b"d"))]
    first, second, single, last = await asyncio.gather(*puts, shop.put(b"e"))
    told = [one["SequenceNumber"] for one in (*first["Records"], *second["Records"], single, *last["Records"])]
    assert appends == [(0, 5)]
    stored = await shop.stored()
    assert [number for number, _, _ in stored] == told
    assert [data for _, data, _ in stored] == [b"a", b"b", b"c", b"d", b"e"]


async def test_singles_that_could_not_be_stored_are_all_told() -> None:
    """A request that was given up meanwhile changes nothing for the others."""
    shop = Shop()
    shop.stream.gate.clear()
    shop.stream.log(0).failing = Full("no room")
    puts = [asyncio.create_task(shop.call.refusal("PutRecord", StreamName="clicks", **record())) for _ in range(3)]
    await asyncio.sleep(0)
    puts[1].cancel()
    shop.stream.gate.set()
    ended = await asyncio.gather(*puts, return_exceptions=True)
    assert [getattr(one, "status", None) for one in ended] == [503, None, 503]
    assert isinstance(ended[1], asyncio.CancelledError)


async def test_singles_of_a_shard_that_is_split_meanwhile_go_to_its_children() -> None:
    """Each to its own."""
    shop = Shop()
    shop.stream.gate.clear()
    sent = [record(Data=b"%d" % number, PartitionKey=f"{number}") for number in range(9)]
    putting = [asyncio.create_task(shop.call("PutRecord", StreamName="clicks", **one)) for one in sent]
    await asyncio.sleep(0)
    children = shop.stream.split(0)
    shop.stream.gate.set()
    answers = await asyncio.gather(*putting)
    there = {number: data for child in children for number, data, _ in await shop.stored(child.number)}
    assert [there[answer["SequenceNumber"]] for answer in answers] == [one["Data"] for one in sent]


# AWS's limits, where they are asked for.


def throttled(answer: Any) -> list[int]:
    return [number for number, said in enumerate(answer["Records"]) if said.get("ErrorCode") == THROTTLED]


def test_a_thousand_records_a_second() -> None:
    """What is beyond is refused record by record, and taken a second later; another shard is not disturbed."""

    async def main() -> None:
        shop = Shop(2, limits="aws")
        for _ in range(2):
            assert throttled(await shop.put(*[b"x"] * 500, ExplicitHashKey="0")) == []
        answer = await shop.put(b"x", ExplicitHashKey="0")
        assert answer["Records"] == [
            {
                "ErrorCode": THROTTLED,
                "ErrorMessage": "Rate exceeded for shard shardId-000000000000 in stream clicks under account "
                "123456789012.",
            }
        ]
        assert answer["FailedRecordCount"] == 1
        assert throttled(await shop.put(b"x", ExplicitHashKey=str(2**127))) == []
        error = await shop.call.refusal("PutRecord", StreamName="clicks", **record(ExplicitHashKey="0"))
        assert (error.code, error.status) == (THROTTLED, 400)
        await passed(0.1)
        answer = await shop.put(*[b"x"] * 300, ExplicitHashKey="0")
        assert throttled(answer) == list(range(100, 300)), "a tenth of a second has paid for a hundred"
        await passed(10)
        assert throttled(await shop.put(*[b"x"] * 500, ExplicitHashKey="0")) == []

    virtual_time.run(main())


def test_what_is_refused_whole_lets_nobody_past() -> None:
    """A request for several shards still waits for the one before, where another came between of which nothing was
    taken.
    """

    async def main() -> None:
        shop, landing, appends = Shop(3, limits="aws", max_record_kib=10240), asyncio.Event(), list[int]()
        keys = [str(shard.start) for shard in shop.stream.definition.shards]
        await shop.put(b"x" * (2 * MIB), ExplicitHashKey=keys[0])  # overdrawn for a second
        append = shop.stream.append

        async def waiting(shard: int, records: Records) -> Placed:
            appends.append(shard)
            await landing.wait()
            return await append(shard, records)

        shop.stream.append = waiting  # type: ignore[method-assign]
        async with asyncio.TaskGroup() as group:
            for wanted in keys[1:], keys[:1], keys[1:]:
                records = [record(ExplicitHashKey=key) for key in wanted]
                group.create_task(shop.call("PutRecords", StreamName="clicks", Records=records))
                await passed(CONVOY_SECONDS / 10)
            assert appends == [1, 2]
            landing.set()
        assert appends == [1, 2, 1, 2]

    virtual_time.run(main())


def test_a_mebibyte_a_second() -> None:
    """PutRecord rounds each record up to a KB, PutRecords only their sum; a small one may fit where a large did not."""

    async def main() -> None:
        shop = Shop(limits="aws")
        answer = await shop.put(*[b"x" * (100 * KIB - 1)] * 10, b"x" * (100 * KIB - 1), b"x" * (24 * KIB - 1))
        assert throttled(answer) == [10]
        await passed(60)
        for _ in range(1000):
            await shop.call("PutRecord", StreamName="clicks", **record(Data=b"x" * 1023))
        await passed(60)
        for _ in range(512):
            await shop.call("PutRecord", StreamName="clicks", **record(Data=b"x" * 1024))
        error = await shop.call.refusal("PutRecord", StreamName="clicks", **record(Data=b"x" * 1024))
        assert error.code == THROTTLED

    virtual_time.run(main())


def test_a_large_record_is_paid_off() -> None:
    """A rested shard takes one of 10 MiB, and nothing else until its average is 1 MiB a second again."""

    async def main() -> None:
        shop = Shop(limits="aws", max_record_kib=10240)
        large = record(Data=b"x" * (10 * MIB - 1))
        await shop.call("PutRecord", StreamName="clicks", **large)
        await passed(8.9)
        assert (await shop.call.refusal("PutRecord", StreamName="clicks", **record())).code == THROTTLED
        await passed(0.2)
        await shop.call("PutRecord", StreamName="clicks", **record())

    virtual_time.run(main())


async def test_without_limits_nothing_is_refused() -> None:
    """A stream is limited only where it says so."""
    shop = Shop()
    for _ in range(5):
        assert throttled(await shop.put(*[b"x" * 1000] * 500)) == []


def test_requests_are_written_as_the_sdk_does() -> None:
    """The calls of these tests are what a client sends: the stand-in for one is no kinder."""
    assert json.loads(body("PutRecord", {"StreamName": "s", "Data": b"hi", "PartitionKey": "a"})) == {
        "StreamName": "s",
        "Data": "aGk=",
        "PartitionKey": "a",
    }
