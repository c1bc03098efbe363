"""SubscribeToShard over streams in memory, in virtual time, its frames read by botocore."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any

import pytest
import virtual_time
from botocore.eventstream import EventStreamBuffer
from stream_calls import ACCOUNT, REGION, bare, parsed, stream_arn
from stream_shop import INVALID, NOT_FOUND, VALIDATION, Shop
from virtual_time import START_MS, passed

from firehose.datastream import sequence
from firehose.datastream.model import Consumer, Run
from firehose.datastream.operations.subscribing import Subscribing, Subscription
from firehose.http.aws_json import ApiError

KIB = 1024
IN_USE = "ResourceInUseException"
SHARD = "shardId-000000000000"


def consumer_arn(consumer: Consumer, stream: str = "clicks") -> str:
    return f"{stream_arn(stream)}/consumer/{consumer.name}:{consumer.created_ms // 1000}"


@dataclass
class Reader:
    """A consumer that reads one shard."""

    shop: Shop
    name: str = "reader"

    def __post_init__(self) -> None:
        self.consumer = self.shop.stream.register(self.name)

    async def subscribe(self, kind: str = "TRIM_HORIZON", shard: str = SHARD, **more: Any) -> Events:
        position = {"Type": kind, **more}
        request = {"ConsumerARN": consumer_arn(self.consumer), "ShardId": shard, "StartingPosition": position}
        subscription = await self.shop.subscribing.subscribe_to_shard(bare(request))
        assert isinstance(subscription, Subscription)
        events = Events(subscription)
        first = await events.frame()
        assert first.headers[":event-type"] == "initial-response"
        return events

    async def refusal(self, **members: Any) -> ApiError:
        request = {
            "ConsumerARN": consumer_arn(self.consumer),
            "ShardId": SHARD,
            "StartingPosition": {"Type": "LATEST"},
            **members,
        }
        try:
            await self.shop.subscribing.subscribe_to_shard(bare(request))
        except ApiError as error:
            return error
        raise AssertionError("not refused")


class Events:
    """A subscription as a client sees it."""

    def __init__(self, subscription: Subscription) -> None:
        self.subscription = subscription
        self.frame_bytes = 0

    async def frame(self) -> Any:
        buffer = EventStreamBuffer()
        said = await anext(self.subscription)
        self.frame_bytes = len(said)
        buffer.add_data(said)
        (found,) = list(buffer)
        return found

    async def event(self) -> dict[str, Any]:
        """The next one; the rules that hold for each are looked at."""
        frame = await self.frame()
        assert frame.headers == {
            ":event-type": "SubscribeToShardEvent",
            ":content-type": "application/json",
            ":message-type": "event",
        }
        said: dict[str, Any] = json.loads(frame.payload)
        assert (said.get("ContinuationSequenceNumber") is None) == bool(said.get("ChildShards")), (
            "always one of the two"
        )
        assert said["MillisBehindLatest"] >= 0
        as_records = {name: said[name] for name in ("Records", "MillisBehindLatest")}
        said["Records"] = parsed("GetRecords", json.dumps(as_records).encode())["Records"]
        return said

    async def data(self, count: int) -> list[bytes]:
        """So many records, from as many events as that takes."""
        found: list[bytes] = []
        while len(found) < count:
            found += [one["Data"] for one in (await self.event())["Records"]]
        return found

    async def trouble(self) -> tuple[str, str]:
        """The error that it ends with, sooner or later."""
        while (frame := await self.frame()).headers[":message-type"] == "event":
            pass
        await self.over()
        return frame.headers[":exception-type"], json.loads(frame.payload)["message"]

    async def over(self) -> None:
        with pytest.raises(StopAsyncIteration):
            await anext(self.subscription)


def run(main: Coroutine[Any, Any, None]) -> None:
    virtual_time.run(main)


async def test_large_records_are_the_same_for_all() -> None:
    """However many subscribe to them."""
    shop = Shop()
    put = [b"x" * 400_000, b"y", b"z" * 300_000]
    for one in put:
        await shop.put(one)
    for name in ("first", "second", "third"):
        events = await Reader(shop, name).subscribe()
        assert await events.data(len(put)) == put


def test_records_are_pushed_as_they_come() -> None:
    """Those that are there, those that come, each once, with all that GetRecords tells of them."""

    async def main() -> None:
        shop = Shop()
        await shop.put(b"0", b"1")
        events = await Reader(shop).subscribe()
        first = await events.event()
        by_get = await shop.get(await shop.iterator())
        assert first["Records"] == by_get["Records"]
        assert first["MillisBehindLatest"] == 0
        assert first["ContinuationSequenceNumber"] == by_get["Records"][-1]["SequenceNumber"]
        waiting = asyncio.create_task(events.event())
        await passed(1)
        put = await shop.put(b"2")
        second = await waiting
        assert [one["SequenceNumber"] for one in second["Records"]] == [put["Records"][0]["SequenceNumber"]]
        assert shop.runtime.now_ms() == START_MS + 1000, "at once"
        await events.subscription.aclose()

    run(main())


def test_a_silent_shard_still_says_something() -> None:
    """At least every five seconds, with a number to go on from that is as good at as after."""

    async def main() -> None:
        shop = Shop()
        reader = Reader(shop)
        events = await reader.subscribe("LATEST")
        for _ in range(10):
            before = shop.runtime.now_ms()
            said = await events.event()
            assert shop.runtime.now_ms() - before <= 5000
            assert (said["Records"], said["MillisBehindLatest"]) == ([], 0)
        await events.subscription.aclose()
        await shop.put(b"0")
        for kind in ("AT_SEQUENCE_NUMBER", "AFTER_SEQUENCE_NUMBER"):
            events = await reader.subscribe(kind, SequenceNumber=said["ContinuationSequenceNumber"])
            assert await events.data(1) == [b"0"]
            await events.subscription.aclose()

    run(main())


def test_a_new_shard_can_be_gone_on_from_before_its_first_record() -> None:
    """The number that stands for nothing misses nothing."""

    async def main() -> None:
        shop = Shop()
        reader = Reader(shop)
        events = await reader.subscribe()
        number = (await events.event())["ContinuationSequenceNumber"]
        await events.subscription.aclose()
        await shop.put(b"0")
        events = await reader.subscribe("AFTER_SEQUENCE_NUMBER", SequenceNumber=number)
        assert await events.data(1) == [b"0"]

    run(main())


def test_a_reader_goes_on_where_it_was() -> None:
    """Over many subscriptions each record is had once, whatever was put between them."""

    async def main() -> None:
        shop = Shop()
        reader = Reader(shop)
        found: list[bytes] = []
        position: dict[str, Any] = {"kind": "TRIM_HORIZON"}
        for turn in range(6):
            await shop.put(*[b"%d" % (turn * 10 + number) for number in range(10)])
            events = await reader.subscribe(**position)
            said = await events.event()
            found += [one["Data"] for one in said["Records"]]
            position = {"kind": "AFTER_SEQUENCE_NUMBER", "SequenceNumber": said["ContinuationSequenceNumber"]}
            await events.subscription.aclose()
        assert found == [b"%d" % number for number in range(60)]

    run(main())


@pytest.mark.parametrize("kind", ["TRIM_HORIZON", "LATEST", "AT_TIMESTAMP"])
def test_where_it_begins(kind: str) -> None:
    """The five ways are those of iterators."""

    async def main() -> None:
        shop = Shop()
        await shop.put(b"0")
        await passed(10)
        at: dict[str, Any] = {"Timestamp": START_MS / 1000 + 5} if kind == "AT_TIMESTAMP" else {}
        events = await Reader(shop).subscribe(kind, **at)
        await shop.put(b"1")
        assert await events.data(1) == ([b"0", b"1"] if kind == "TRIM_HORIZON" else [b"1"])

    run(main())


def test_how_far_behind_a_reader_is() -> None:
    """The age of what waits; an event is no larger than about 1 MiB."""

    async def main() -> None:
        shop = Shop()
        for _ in range(3):
            await shop.put(*[b"x" * (100 * KIB)] * 5)
        await passed(7)
        events = await Reader(shop).subscribe()
        seen: list[tuple[int, int]] = []
        while sum(count for count, _ in seen) < 15:
            said = await events.event()
            assert events.frame_bytes <= 1.1 * KIB * KIB
            seen.append((len(said["Records"]), said["MillisBehindLatest"]))
        assert [behind for _, behind in seen] == [7000] * (len(seen) - 1) + [0]

    run(main())


def test_a_record_that_is_larger_than_an_event_comes_alone() -> None:
    """As it does from GetRecords."""

    async def main() -> None:
        shop = Shop(max_record_kib=10240)
        await shop.put(b"x")
        await shop.put(b"y" * (9 * KIB * KIB))
        events = await Reader(shop).subscribe()
        assert [[len(one["Data"]) for one in (await events.event())["Records"]] for _ in range(2)] == [
            [1],
            [9 * KIB * KIB],
        ]

    run(main())


def test_five_minutes_end_it_without_an_error() -> None:
    """Exactly then, also while nothing happens."""

    async def main() -> None:
        shop = Shop()
        events = await Reader(shop).subscribe()
        while shop.runtime.now_ms() < START_MS + 296_000:
            await events.event()
        await events.over()
        assert shop.runtime.now_ms() == START_MS + 300_000

    run(main())


def test_how_long_it_lasts_can_be_said() -> None:
    """Tests of clients need not wait for five minutes."""

    async def main() -> None:
        shop = Shop()
        shop.subscribing = Subscribing(shop.streams, shop.runtime, REGION, ACCOUNT, subscription_seconds=3)
        events = await Reader(shop).subscribe()
        await events.event()
        await events.over()
        assert shop.runtime.now_ms() == START_MS + 3000

    run(main())


@pytest.mark.parametrize("before", [True, False])
def test_the_end_of_a_shard(before: bool) -> None:
    """Its last records, then its children and no number, then no more; whether it was closed before or is meanwhile."""

    async def main() -> None:
        shop = Shop()
        await shop.put(b"0")
        reader = Reader(shop)
        children = shop.stream.split(0) if before else ()
        events = await reader.subscribe()
        found = []
        while not (said := await asyncio.ensure_future(events.event())).get("ChildShards"):
            found += said["Records"]
            children = children or shop.stream.split(0)
        assert [one["Data"] for one in [*found, *said["Records"]]] == [b"0"]
        assert said["MillisBehindLatest"] == 0
        assert [(one["ShardId"], one["ParentShards"]) for one in said["ChildShards"]] == [
            (child.id, [SHARD]) for child in children
        ]
        await events.over()
        again = await reader.subscribe("LATEST")
        assert (await again.event())["ChildShards"] == said["ChildShards"]

    run(main())


# Who may read.


def test_one_subscription_for_each_consumer_and_shard() -> None:
    """Within five seconds a second one is refused; after that it takes over, and the first is told."""

    async def main() -> None:
        shop = Shop(2)
        reader = Reader(shop)
        first = await reader.subscribe()
        await first.event()
        another = f"Another active subscription exists for this consumer: {ACCOUNT}:clicks:{SHARD}:reader"
        error = await reader.refusal()
        assert (error.code, error.status, error.message) == (IN_USE, 400, another)
        await reader.subscribe(shard="shardId-000000000001")
        await Reader(shop, "other").subscribe()
        waiting = asyncio.create_task(first.trouble())
        await passed(2)
        error = await reader.refusal()
        assert error.code == IN_USE
        await passed(3)
        second = await reader.subscribe()
        assert await waiting == (IN_USE, another)
        await shop.put(b"0", ExplicitHashKey="0")
        assert await second.data(1) == [b"0"]

    run(main())


def test_who_hangs_up_may_come_back_at_once() -> None:
    """The carrier closes what nobody reads; an old subscription that is closed late ends no newer one."""

    async def main() -> None:
        shop = Shop()
        reader = Reader(shop)
        for _ in range(3):
            events = await reader.subscribe()
            await events.event()
            await events.subscription.aclose()
        old = await reader.subscribe()
        await passed(6)
        new = await reader.subscribe()
        await old.subscription.aclose()
        assert (await reader.refusal()).code == IN_USE
        await new.subscription.aclose()
        await reader.subscribe()

    run(main())


def test_one_that_ended_is_in_nobodys_way() -> None:
    """Neither at its end in time nor at its shard's."""

    async def main() -> None:
        shop = Shop()
        shop.subscribing = Subscribing(shop.streams, shop.runtime, REGION, ACCOUNT, subscription_seconds=2)
        reader = Reader(shop)
        for _ in range(2):
            events = await reader.subscribe()
            await events.event()
            await events.over()
        shop.stream.split(0)
        for _ in range(2):
            events = await reader.subscribe()
            await events.event()
            await events.over()

    run(main())


def test_a_consumer_that_goes_takes_its_subscription_along() -> None:
    """Deregistered, or registered anew, it reads no more."""

    async def main() -> None:
        shop = Shop()
        reader = Reader(shop)
        events = await reader.subscribe()
        await events.event()
        waiting = asyncio.create_task(events.trouble())
        await passed(1)
        shop.stream.deregister("reader")
        assert (await waiting)[0] == NOT_FOUND
        assert (await reader.refusal()).code == NOT_FOUND
        await passed(1)
        shop.stream.register("reader")
        assert (await reader.refusal()).code == NOT_FOUND, "another registration has another ARN"

    run(main())


@pytest.mark.parametrize("anew", [True, False])
def test_a_stream_that_goes_takes_its_subscriptions_along(anew: bool) -> None:
    """Also where another is made under its name at once."""

    async def main() -> None:
        shop = Shop()
        events = await Reader(shop).subscribe()
        await events.event()
        waiting = asyncio.create_task(events.trouble())
        await passed(1)
        shop.streams.delete("clicks")
        if anew:
            shop.streams.create("clicks")
        assert await waiting == (NOT_FOUND, f"Stream clicks under account {ACCOUNT} not found.")

    run(main())


def test_a_shard_that_is_forgotten_ends_its_subscription() -> None:
    """Its records have expired, and so has it."""

    async def main() -> None:
        shop = Shop()
        events = await Reader(shop).subscribe()
        shop.stream.split(0)
        shop.stream.forget(0)
        assert (await events.trouble())[0] == NOT_FOUND

    run(main())


def test_a_slow_client_holds_up_nobody() -> None:
    """Nothing is read ahead of it, and what expires before it asks is not shown to it."""

    async def main() -> None:
        shop = Shop()
        events = await Reader(shop).subscribe()
        await events.event()
        reads = 0
        read = shop.stream.log(0).read

        async def counted(position: int, most_records: int, most_bytes: int) -> Run:
            nonlocal reads
            reads += 1
            return await read(position, most_records, most_bytes)

        shop.stream.log(0).read = counted  # type: ignore[method-assign]
        for _ in range(20):
            await shop.put(b"old" * 100)
        await passed(100)
        assert reads == 0
        assert len(await events.data(20)) == 20

    run(main())


def test_a_consumer_is_active_first() -> None:
    """Right after its registration it is not."""

    async def main() -> None:
        shop = Shop()
        reader = Reader(shop)
        shop.stream.change(consumers=(Consumer("reader", reader.consumer.created_ms),))
        error = await reader.refusal()
        assert (error.code, error.message) == (
            IN_USE,
            f"Consumer reader with creation timestamp {START_MS // 1000} under stream: clicks , account {ACCOUNT} "
            "is not in ACTIVE status.",
        )

    run(main())


ELSEWHERE = sequence.number(sequence.base(START_MS // 1000, 7), 5, START_MS // 1000)
REFUSED: list[tuple[dict[str, Any], str, str]] = [
    ({"ConsumerARN": None}, VALIDATION, "'consumerARN' failed to satisfy constraint: Member must not be null"),
    ({"ConsumerARN": stream_arn("clicks")}, VALIDATION, "consumerARN"),
    ({"ConsumerARN": 1}, "SerializationException", "consumerARN"),
    (
        {"ConsumerARN": stream_arn("clicks") + "/consumer/who:1"},
        NOT_FOUND,
        "Consumer who under stream clicks not found.",
    ),
    ({"ConsumerARN": stream_arn("other") + "/consumer/reader:1"}, NOT_FOUND, "Stream other under account"),
    (
        {"ConsumerARN": stream_arn("clicks").replace(REGION, "eu-west-1") + "/consumer/reader:1"},
        NOT_FOUND,
        "Stream clicks under account",
    ),
    ({"ConsumerARN": "arn:aws:kinesis::123456789012:xstream/clicks/consumer/reader:1"}, INVALID, "not the ARN"),
    ({"ShardId": None}, VALIDATION, "'shardId' failed to satisfy constraint: Member must not be null"),
    ({"ShardId": "x"}, NOT_FOUND, "Could not find shard x in stream clicks"),
    ({"ShardId": "shardId-000000000007"}, NOT_FOUND, "Shard shardId-000000000007 in stream clicks under account"),
    (
        {"StartingPosition": None},
        VALIDATION,
        "'startingPosition' failed to satisfy constraint: Member must not",
    ),
    ({"StartingPosition": {}}, VALIDATION, "'startingPosition.type' failed to satisfy constraint: Member must not be"),
    ({"StartingPosition": {"Type": "NOW"}}, VALIDATION, "'startingPosition.type' failed to satisfy constraint"),
    (
        {"StartingPosition": {"Type": "AT_SEQUENCE_NUMBER"}},
        INVALID,
        "AT_SEQUENCE_NUMBER and no StartingSequenceNumber.",
    ),
    ({"StartingPosition": {"Type": "LATEST", "SequenceNumber": "5"}}, INVALID, "LATEST and also a StartingSequenceNum"),
    ({"StartingPosition": {"Type": "AT_TIMESTAMP"}}, INVALID, "Must specify timestampInMillis parameter"),
    (
        {"StartingPosition": {"Type": "AT_TIMESTAMP", "Timestamp": START_MS / 1000 + 1}},
        INVALID,
        "The timestampInMillis parameter cannot be greater than",
    ),
    ({"StartingPosition": {"Type": "AT_SEQUENCE_NUMBER", "SequenceNumber": "5"}}, INVALID, "is invalid."),
    (
        {"StartingPosition": {"Type": "AT_SEQUENCE_NUMBER", "SequenceNumber": ELSEWHERE}},
        INVALID,
        "It encodes shardId-0",
    ),
    ({"DryRun": True}, "DryRunOperationException", "would have succeeded"),
]


@pytest.mark.parametrize(("members", "code", "message"), REFUSED)
def test_what_cannot_be_is_refused_before_the_first_frame(members: dict[str, Any], code: str, message: str) -> None:
    """As an ordinary error."""

    async def main() -> None:
        error = await Reader(Shop()).refusal(**members)
        assert (error.code, error.status) == (code, 400)
        assert message in error.message

    run(main())


@pytest.mark.parametrize("status", ["CREATING", "DELETING"])
def test_a_stream_that_is_not_there_yet_or_no_more_is_not_found(status: str) -> None:
    """As for all who read."""

    async def main() -> None:
        shop = Shop()
        reader = Reader(shop)
        shop.stream.change(status=status)
        assert (await reader.refusal()).code == NOT_FOUND

    run(main())


# AWS's limits, where they are asked for.


def test_one_call_a_second() -> None:
    """For each consumer and shard; then those that are too early for a take-over."""

    async def main() -> None:
        shop = Shop(2, limits="aws")
        reader = Reader(shop)
        await reader.subscribe()
        assert (await reader.refusal()).code == "LimitExceededException"
        await reader.subscribe(shard="shardId-000000000001")
        await passed(1)
        assert (await reader.refusal()).code == IN_USE

    run(main())


def test_two_mebibytes_a_second() -> None:
    """A consumer's shard gives no more, and no less."""

    async def main() -> None:
        shop = Shop()
        for _ in range(40):
            await shop.put(*[b"x" * (256 * KIB)] * 2)
        shop.stream.change(limits="aws")
        events = await Reader(shop).subscribe()
        await events.data(80)
        assert 9_000 <= shop.runtime.now_ms() - START_MS <= 10_500

    run(main())
