"""The control operations: what each does and answers."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from live_streams import (
    ARN,
    COUNT,
    IN_USE,
    INVALID,
    KEY,
    LIMIT,
    NOT_FOUND,
    STREAM,
    TRANSITION,
    StreamSite,
    open_shards,
    reshaped,
    whole,
)
from stream_calls import ACCOUNT, stream_arn
from virtual_time import passed, run

from firehose.data_stream_config import DataStreamConfig
from firehose.datastream.operations.settings import METRICS
from firehose.http.aws_json import ApiError


def test_descriptions() -> None:
    """DescribeStream and DescribeStreamSummary tell all there is, and leave out what does not apply."""

    async def main() -> None:
        site = await reshaped()
        told = (await site.call("DescribeStream", **STREAM))["StreamDescription"]
        shards = told.pop("Shards")
        created = site.streams.named["clicks"].definition.created_ms / 1000
        common = {
            "StreamName": "clicks",
            "StreamARN": stream_arn("clicks"),
            "StreamStatus": "ACTIVE",
            "StreamModeDetails": {"StreamMode": "PROVISIONED"},
            "StreamCreationTimestamp": created,
            "RetentionPeriodHours": 24,
            "EnhancedMonitoring": [{"ShardLevelMetrics": []}],
            "EncryptionType": "NONE",
        }
        assert told == {**common, "HasMoreShards": False}
        assert [one["ShardId"] for one in shards] == [f"shardId-{n:012d}" for n in range(4)]
        assert "EndingSequenceNumber" in shards[0]["SequenceNumberRange"]
        assert "EndingSequenceNumber" not in shards[1]["SequenceNumberRange"]
        assert shards[2] == {
            "ShardId": "shardId-000000000002",
            "ParentShardId": "shardId-000000000000",
            "HashKeyRange": {"StartingHashKey": "0", "EndingHashKey": "999"},
            "SequenceNumberRange": shards[2]["SequenceNumberRange"],
        }
        summary = (await site.call("DescribeStreamSummary", **ARN))["StreamDescriptionSummary"]
        counts = {"OpenShardCount": 3, "ConsumerCount": 0, "ChannelCount": 0, "QueueCount": 0}
        assert summary == {**common, **counts, "MaxRecordSizeInKiB": 1024}
        many = (await site.call("DescribeStreamSummary", StreamName="many"))["StreamDescriptionSummary"]
        assert many["WarmThroughput"] == {"TargetMiBps": 0, "CurrentMiBps": 0}
        assert many["RecordDistributionStrategy"] == "USER_PARTITION_KEY"

    run(main())


def test_pages() -> None:
    """Streams, shards, tags and consumers come in pages that hold each of them once, in order."""

    async def main() -> None:
        site = StreamSite(transition_seconds=0)
        await site.start()
        for number in range(5):
            await site.create(f"s{number}", 120 if number == 0 else 1)
        arn, name = stream_arn("s0"), "s0"
        first = await site.call("ListStreams", Limit=2)
        assert (first["StreamNames"], first["HasMoreStreams"]) == (["s0", "s1"], True)
        assert [one["StreamARN"] for one in first["StreamSummaries"]] == [stream_arn("s0"), stream_arn("s1")]
        rest = await site.call("ListStreams", NextToken=first["NextToken"])
        assert (rest["StreamNames"], rest["HasMoreStreams"], "NextToken" in rest) == (["s2", "s3", "s4"], False, False)
        assert (await site.call("ListStreams", ExclusiveStartStreamName="s3"))["StreamNames"] == ["s4"]

        page = (await site.call("DescribeStream", StreamName=name))["StreamDescription"]
        assert (len(page["Shards"]), page["HasMoreShards"]) == (100, True)
        last = page["Shards"][-1]["ShardId"]
        page = (await site.call("DescribeStream", StreamName=name, ExclusiveStartShardId=last))["StreamDescription"]
        assert (len(page["Shards"]), page["HasMoreShards"]) == (20, False)

        found: list[str] = []
        answer = await site.call("ListShards", StreamName=name, MaxResults=50, ShardFilter={"Type": "AT_LATEST"})
        while True:
            found += [one["ShardId"] for one in answer["Shards"]]
            if "NextToken" not in answer:
                break
            answer = await site.call("ListShards", NextToken=answer["NextToken"], MaxResults=50)
        assert found == [f"shardId-{n:012d}" for n in range(120)]

        await site.call("AddTagsToStream", StreamName=name, Tags={"c": "3", "a": "1", "b": "2"})
        tags = await site.call("ListTagsForStream", StreamName=name, Limit=2)
        assert tags == {"Tags": [{"Key": "a", "Value": "1"}, {"Key": "b", "Value": "2"}], "HasMoreTags": True}
        tags = await site.call("ListTagsForStream", StreamName=name, ExclusiveStartTagKey="b")
        assert tags == {"Tags": [{"Key": "c", "Value": "3"}], "HasMoreTags": False}

        for consumer in ("z", "y", "x"):
            await site.call("RegisterStreamConsumer", StreamARN=arn, ConsumerName=consumer)
        page = await site.call("ListStreamConsumers", StreamARN=arn, MaxResults=2)
        assert [one["ConsumerName"] for one in page["Consumers"]] == ["x", "y"]
        page = await site.call("ListStreamConsumers", StreamARN=arn, NextToken=page["NextToken"])
        assert [one["ConsumerName"] for one in page["Consumers"]] == ["z"]
        assert "NextToken" not in page

    run(main())


def test_tokens_grow_old() -> None:
    """A token is good for 300 seconds, and for the listing that gave it only."""

    async def main() -> None:
        site = StreamSite(transition_seconds=0)
        await site.start()
        await site.create("s0", 3)
        await site.create("s1", 1)
        streams = (await site.call("ListStreams", Limit=1))["NextToken"]
        shards = (await site.call("ListShards", StreamName="s0", MaxResults=1))["NextToken"]
        assert (await site.refused("ListStreams", NextToken=shards)).message == "Invalid NextToken."
        assert (await site.refused("ListShards", NextToken=streams[:-2])).message == "Invalid NextToken."
        await passed(299)
        await site.call("ListShards", NextToken=shards)
        await passed(2)
        assert (await site.refused("ListShards", NextToken=shards)).code == "ExpiredNextTokenException"
        assert (await site.refused("ListStreams", NextToken=streams)).code == "ExpiredNextTokenException"

    run(main())


def test_shard_filters() -> None:
    """Each filter lists what the reference says; the three that ask for an instant always cover the key space."""

    async def main() -> None:
        site = await reshaped()
        stream = site.streams.named["clicks"]
        split_ms = stream.definition.shards[0].closed_ms
        assert split_ms is not None

        async def listed(type: str, **more: Any) -> list[int]:
            answer = await site.call("ListShards", **STREAM, ShardFilter={"Type": type, **more})
            return [int(one["ShardId"][-12:]) for one in answer["Shards"]]

        created_s = stream.definition.created_ms / 1000
        assert await listed("FROM_TRIM_HORIZON") == [0, 1, 2, 3]
        assert await listed("AT_TRIM_HORIZON") == [0, 1], "parents only"
        assert await listed("AT_LATEST") == [1, 2, 3]
        assert await listed("AT_TIMESTAMP", Timestamp=created_s) == [0, 1]
        assert await listed("AT_TIMESTAMP", Timestamp=(split_ms - 1) / 1000) == [0, 1]
        assert await listed("AT_TIMESTAMP", Timestamp=split_ms / 1000) == [1, 2, 3]
        assert await listed("FROM_TIMESTAMP", Timestamp=split_ms / 1000) == [0, 1, 2, 3]
        assert await listed("FROM_TIMESTAMP", Timestamp=split_ms / 1000 + 1) == [1, 2, 3]
        assert await listed("AFTER_SHARD_ID", ShardId="shardId-000000000001") == [2, 3]
        await passed(30 * 3600)
        assert await listed("FROM_TIMESTAMP", Timestamp=0) == [1, 2, 3], "an instant before the horizon is the horizon"
        assert await listed("AT_TRIM_HORIZON") == [1, 2, 3]

    run(main())


def test_listing_shards_waits_for_the_stream() -> None:
    """ListShards of a stream that is CREATING or DELETING says so: clients try again."""

    async def main() -> None:
        site = StreamSite()
        await site.start()
        await site.call("CreateStream", **STREAM, ShardCount=2)
        assert (await site.refused("ListShards", **STREAM)).code == IN_USE
        await passed(1)
        await site.call("DeleteStream", **STREAM)
        assert (await site.refused("ListShards", **STREAM)).code == IN_USE

    run(main())


def test_counts() -> None:
    """UpdateShardCount answers both counts, and ends with that many equal shards that have parents; the count that
    there is already is taken and changes nothing."""

    async def main() -> None:
        site = await reshaped()
        answer = await site.call("UpdateShardCount", **ARN, TargetShardCount=6, **COUNT)
        assert answer == {**STREAM, **ARN, "CurrentShardCount": 3, "TargetShardCount": 6}
        await passed(1)
        stream = site.streams.named["clicks"]
        assert len(open_shards(stream.definition)) == 6
        assert whole(open_shards(stream.definition))
        assert all(shard.parents for shard in stream.definition.shards[2:])
        before = stream.definition
        await site.call("UpdateShardCount", **STREAM, TargetShardCount=6, **COUNT)
        assert stream.definition is before

    run(main())


def test_settings() -> None:
    """Mode, size, encryption, monitoring and retention are set, told, and survive a restart."""

    async def main() -> None:
        site = await reshaped()
        on_demand = {"StreamModeDetails": {"StreamMode": "ON_DEMAND"}}
        changes: list[tuple[str, dict[str, Any]]] = [
            ("UpdateStreamMode", {**ARN, **on_demand}),
            ("UpdateMaxRecordSize", {**ARN, "MaxRecordSizeInKiB": 10240}),
            ("StartStreamEncryption", {**STREAM, **KEY}),
            ("UpdateStreamRecordDistributionStrategy", {**ARN, "RecordDistributionStrategy": "AUTO"}),
            ("IncreaseStreamRetentionPeriod", {**STREAM, "RetentionPeriodHours": 24}),
            ("IncreaseStreamRetentionPeriod", {**STREAM, "RetentionPeriodHours": 48}),
        ]
        for operation, request in changes:
            assert await site.call(operation, **request) is None
            await passed(1)
        metrics = await site.call("EnableEnhancedMonitoring", **STREAM, ShardLevelMetrics=["ALL"])
        assert (metrics["CurrentShardLevelMetrics"], metrics["DesiredShardLevelMetrics"]) == ([], list(METRICS))
        off = await site.call("DisableEnhancedMonitoring", **STREAM, ShardLevelMetrics=list(METRICS[2:]))
        assert off["CurrentShardLevelMetrics"] == list(METRICS)
        assert off["DesiredShardLevelMetrics"] == list(METRICS[:2])
        await site.crash()
        told = (await site.call("DescribeStreamSummary", **STREAM))["StreamDescriptionSummary"]
        assert told["StreamModeDetails"] == on_demand["StreamModeDetails"]
        assert (told["MaxRecordSizeInKiB"], told["EncryptionType"], told["KeyId"]) == (10240, "KMS", KEY["KeyId"])
        assert (told["RecordDistributionStrategy"], told["RetentionPeriodHours"]) == ("AUTO", 48)
        assert told["OpenShardCount"] == 3, "a change of mode leaves the shards alone"
        provisioned = {"StreamMode": "PROVISIONED"}
        refused = await site.refused("UpdateStreamMode", **ARN, StreamModeDetails=provisioned)
        assert refused.code == INVALID
        await site.call("StopStreamEncryption", **STREAM, **KEY)
        told = (await site.call("DescribeStream", **STREAM))["StreamDescription"]
        assert (told["EncryptionType"], "KeyId" in told) == ("NONE", False)

    run(main())


def test_consumers() -> None:
    """A consumer is CREATING, ACTIVE, DELETING and gone; it is found by name and by ARN; its stream is not deleted
    under it unless that is asked for."""

    async def main() -> None:
        site = await reshaped()
        made = (await site.call("RegisterStreamConsumer", **ARN, ConsumerName="app", Tags={"a:b": "c"}))["Consumer"]
        assert made["ConsumerStatus"] == "CREATING"
        created_s = int(made["ConsumerCreationTimestamp"])
        assert made["ConsumerARN"] == f"{stream_arn('clicks')}/consumer/app:{created_s}"
        by_arn = {"ConsumerARN": made["ConsumerARN"]}
        assert (await site.refused("RegisterStreamConsumer", **ARN, ConsumerName="app")).code == IN_USE
        policy = {"ResourceARN": made["ConsumerARN"], "Policy": "{}"}
        assert (await site.refused("PutResourcePolicy", **policy)).code == IN_USE
        await passed(1)
        told = (await site.call("DescribeStreamConsumer", **ARN, ConsumerName="app", **by_arn))["ConsumerDescription"]
        assert told == {**made, "ConsumerStatus": "ACTIVE", **ARN}
        tags = await site.call("ListTagsForResource", ResourceARN=made["ConsumerARN"])
        assert tags == {"Tags": [{"Key": "a:b", "Value": "c"}]}
        assert "consumers associated" in (await site.refused("DeleteStream", **STREAM)).message
        await site.crash()
        await site.call("DeregisterStreamConsumer", **by_arn)
        told = (await site.call("DescribeStreamConsumer", **by_arn))["ConsumerDescription"]
        assert told["ConsumerStatus"] == "DELETING"
        await passed(1)
        assert (await site.refused("DescribeStreamConsumer", **by_arn)).code == NOT_FOUND
        again = (await site.call("RegisterStreamConsumer", **ARN, ConsumerName="app"))["Consumer"]
        assert again["ConsumerARN"] != made["ConsumerARN"]
        await site.call("DeleteStream", **STREAM, EnforceConsumerDeletion=True)
        await passed(1)
        assert list(site.streams.named) == ["many"]

    run(main())


def test_a_stream_has_twenty_consumers() -> None:
    """The twenty-first is refused."""

    async def main() -> None:
        site = await reshaped()
        for number in range(20):
            await site.call("RegisterStreamConsumer", **ARN, ConsumerName=f"app{number}")
        assert (await site.refused("RegisterStreamConsumer", **ARN, ConsumerName="app20")).code == LIMIT

    run(main())


def test_tags() -> None:
    """Tags are added, overwritten and removed in both ways; keys that are not there are no matter; they survive."""

    async def main() -> None:
        site = await reshaped()
        resource = {"ResourceARN": stream_arn("clicks")}
        await site.call("AddTagsToStream", **STREAM, Tags={"a": "1", "ü _./=+-@": ""})
        await site.call("TagResource", **resource, Tags={"a": "2", "c:d": "3"})
        await site.call("RemoveTagsFromStream", **STREAM, TagKeys=["ü _./=+-@", "nothing"])
        await site.crash()
        tags = [{"Key": "a", "Value": "2"}, {"Key": "c:d", "Value": "3"}]
        assert await site.call("ListTagsForResource", **resource) == {"Tags": tags}
        await site.call("UntagResource", **resource, TagKeys=["a"])
        assert await site.call("ListTagsForStream", **ARN) == {"Tags": tags[1:], "HasMoreTags": False}

    run(main())


def test_policies() -> None:
    """A policy is returned as it was put, an empty object where there is none."""

    async def main() -> None:
        site = await reshaped()
        resource, policy = {"ResourceARN": stream_arn("clicks")}, '{"Version": "2012-10-17", "Statement": []}'
        assert await site.call("GetResourcePolicy", **resource) == {"Policy": "{}"}
        await site.call("PutResourcePolicy", **resource, Policy=policy)
        assert await site.call("GetResourcePolicy", **resource) == {"Policy": policy}
        await site.call("DeleteResourcePolicy", **resource)
        assert await site.call("GetResourcePolicy", **resource) == {"Policy": "{}"}

    run(main())


def test_account() -> None:
    """Limits count what there is; the billing commitment stays for a day, over restarts, and allows warm throughput."""

    async def main() -> None:
        site = await reshaped()
        limits = await site.call("DescribeLimits")
        assert limits == {
            "ShardLimit": 1000,
            "OpenShardCount": 7,
            "OnDemandStreamCount": 1,
            "OnDemandStreamCountLimit": 50,
            "ChannelCount": 0,
            "ChannelCountLimit": 0,
        }
        commitment, enabled = "MinimumThroughputBillingCommitment", {"Status": "ENABLED"}
        assert await site.call("DescribeAccountSettings") == {commitment: {"Status": "DISABLED"}}
        told = (await site.call("UpdateAccountSettings", **{commitment: enabled}))[commitment]
        assert told["EarliestAllowedEndAt"] == pytest.approx(told["StartedAt"] + 86_400)
        await site.crash()
        assert await site.call("DescribeAccountSettings") == {commitment: told}
        warm = await site.call("UpdateStreamWarmThroughput", StreamName="many", WarmThroughputMiBps=50)
        assert warm["WarmThroughput"]["TargetMiBps"] == 50
        off = {commitment: {"Status": "DISABLED"}}
        assert (await site.refused("UpdateAccountSettings", **off)).code == INVALID
        await passed(86_400)
        assert (await site.call("UpdateAccountSettings", **off))[commitment]["Status"] == "DISABLED"

    run(main())


def test_rates_only_where_they_are_asked_for() -> None:
    """With limits: aws the sixth call within a second is refused, and goes through a second later; without, none is."""

    async def main() -> None:
        for limits, refused in (("aws", 1), ("none", 0)):
            site = StreamSite(limits=limits, transition_seconds=0)
            await site.start()
            await site.create()
            codes = []
            for _ in range(6):
                try:
                    await site.call("ListTagsForStream", **STREAM)
                except ApiError as error:
                    codes.append((error.code, error.message))
            assert codes == [(LIMIT, f"Rate exceeded for stream clicks under account {ACCOUNT}.")] * refused
            await passed(1.1)
            await site.call("ListTagsForStream", **STREAM)

    run(main())


def test_ten_counts_a_day_where_limits_are_asked_for() -> None:
    """With limits: aws the eleventh UpdateShardCount of a day is refused."""

    async def main() -> None:
        site = StreamSite(limits="aws", transition_seconds=0)
        await site.start()
        await site.create()
        for number in range(10):
            await site.call("UpdateShardCount", **STREAM, TargetShardCount=3 + number % 2, **COUNT)
            await passed(60)
        assert (await site.refused("UpdateShardCount", **STREAM, TargetShardCount=3, **COUNT)).code == LIMIT
        await passed(86_400)
        await site.call("UpdateShardCount", **STREAM, TargetShardCount=3, **COUNT)

    run(main())


FILE = DataStreamConfig("filed", "PROVISIONED", 2, 24, "none", 1, 1024, {"team": "web"})


def test_a_stream_of_the_file_is_the_files() -> None:
    """The API does not change what the file says of a stream, and says where to; taken out of the file it stays, with
    its records, and is the API's."""

    async def main() -> None:
        site = StreamSite()
        await site.start()
        await site.streams.follow({"filed": FILE})
        assert site.streams.named["filed"].definition.status == "ACTIVE"
        await site.put("filed", 0, b"kept")
        name, arn = {"StreamName": "filed"}, {"StreamARN": stream_arn("filed")}
        refused: list[tuple[str, dict[str, Any]]] = [
            ("DeleteStream", name),
            ("SplitShard", {**name, "ShardToSplit": "0", "NewStartingHashKey": "5"}),
            ("UpdateShardCount", {**name, "TargetShardCount": 3, **COUNT}),
            ("IncreaseStreamRetentionPeriod", {**name, "RetentionPeriodHours": 48}),
            ("AddTagsToStream", {**name, "Tags": {"a": "b"}}),
            ("UpdateMaxRecordSize", {**arn, "MaxRecordSizeInKiB": 2048}),
            ("UpdateStreamMode", {**arn, "StreamModeDetails": {"StreamMode": "ON_DEMAND"}}),
        ]
        for operation, request in refused:
            error = await site.refused(operation, **request)
            assert error.code == IN_USE
            assert "change data_streams.filed there" in error.message
        await site.call("IncreaseStreamRetentionPeriod", **name, RetentionPeriodHours=24)
        await site.call("RegisterStreamConsumer", **arn, ConsumerName="app")
        await site.call("DeregisterStreamConsumer", **arn, ConsumerName="app")
        await site.crash()
        await site.streams.follow({})
        assert await site.everything("filed", 0) == [b"kept"]
        await site.call("DeleteStream", **name)
        await passed(1)
        assert site.streams.named == {}

    run(main())


def test_the_file_changes_its_streams() -> None:
    """Another shard count, retention or tags in the file are followed, keeping the records; a stream of the API that
    the file names becomes the file's; one that is being deleted is waited for and made anew."""

    async def main() -> None:
        site = StreamSite()
        await site.start()
        await site.create("filed", 2)
        await site.put("filed", 0, b"kept")
        await site.streams.follow(
            {"filed": DataStreamConfig("filed", "PROVISIONED", 5, 48, "aws", 2, 2048, {"a": "b"})}
        )
        definition = site.streams.named["filed"].definition
        assert (definition.status, definition.declared, len(open_shards(definition))) == ("ACTIVE", True, 5)
        assert (definition.retention_hours, definition.limits, definition.max_record_kib) == (48, "aws", 2048)
        assert definition.tags == {"a": "b"}
        assert site.streams.named["filed"].limit_bytes == 2 << 30
        assert await site.everything("filed", 0) == [b"kept"]
        await site.streams.follow({})
        await site.call("DeleteStream", StreamName="filed")
        await site.streams.follow({"filed": FILE})
        assert site.streams.named["filed"].definition.id != definition.id
        assert await site.everything("filed", 0) == []

    run(main())


@settings(max_examples=30)
@given(st.lists(st.sampled_from(["split", "merge", "count", "crash", "wait"]), max_size=8), st.randoms())
def test_any_session(actions: list[str], dice: Any) -> None:
    """Whatever is done to a stream's shards, with crashes in between: at rest it is ACTIVE, and its open shards are the
    key space."""

    async def main() -> None:
        site = StreamSite()
        await site.start()
        stream = await site.create()
        for action in actions:
            stream = site.streams.named["clicks"]
            shards = open_shards(stream.definition)
            chosen = dice.randrange(len(shards))
            requests = {
                "split": (
                    "SplitShard",
                    {"ShardToSplit": shards[chosen].id, "NewStartingHashKey": str(dice.getrandbits(128))},
                ),
                "merge": (
                    "MergeShards",
                    {"ShardToMerge": shards[chosen].id, "AdjacentShardToMerge": shards[chosen - 1].id},
                ),
                "count": ("UpdateShardCount", {"TargetShardCount": dice.randint(1, 6), **COUNT}),
            }
            if action == "crash":
                await site.crash(power=dice.random() < 0.5)
            elif action == "wait":
                await passed(1)
            else:
                operation, request = requests[action]
                await asyncio.gather(site.call(operation, **STREAM, **request), return_exceptions=True)
        await passed(1)
        definition = site.streams.named["clicks"].definition
        assert definition.status == "ACTIVE"
        assert whole(open_shards(definition))

    run(main())


def test_transitions_take_their_time() -> None:
    """A stream is CREATING for transition_seconds, by the monotonic clock, whatever the wall clock says."""

    async def main() -> None:
        site = StreamSite()
        await site.start()
        await site.call("CreateStream", **STREAM, ShardCount=1)
        site.runtime.wall_ms += 3_600_000
        seen = []
        for seconds in (TRANSITION * 0.9, TRANSITION * 0.5):
            await passed(seconds)
            seen.append(site.streams.named["clicks"].definition.status)
        assert seen == ["CREATING", "ACTIVE"]

    run(main())


def test_a_split_after_the_clock_went_back() -> None:
    """At the trim horizon the parents are open still: a consumer that begins there misses none of their records."""

    async def main() -> None:
        site = StreamSite(transition_seconds=0)
        await site.start()
        await site.call("CreateStream", **STREAM, ShardCount=1)
        site.runtime.wall_ms -= 3_600_000
        await site.call("SplitShard", **STREAM, ShardToSplit="0", NewStartingHashKey="1000")
        await site.call("SplitShard", **STREAM, ShardToSplit="2", NewStartingHashKey="5000")
        listed = await site.call("ListShards", **STREAM, ShardFilter={"Type": "AT_TRIM_HORIZON"})
        assert [shard["ShardId"] for shard in listed["Shards"]] == ["shardId-000000000000"]

    run(main())
