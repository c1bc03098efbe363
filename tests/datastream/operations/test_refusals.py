"""What the control operations refuse: each case of the reference, with its code and its text."""

from __future__ import annotations

from typing import Any

import pytest
from live_streams import (
    ARN,
    COUNT,
    IN_USE,
    INVALID,
    KEY,
    LIMIT,
    NOT_FOUND,
    STREAM,
    VALIDATION,
    StreamSite,
    reshaped,
)
from stream_calls import ACCOUNT, REGION, stream_arn
from virtual_time import passed, run

from firehose.datastream.sequence import KEY_SPACE

HALF = KEY_SPACE // 2
WHERE = f"in stream clicks under account {ACCOUNT}"
NO_STREAM = f"Stream nothing under account {ACCOUNT} not found."
Refusal = tuple[str, dict[str, Any], str, str]
REFUSALS: list[Refusal] = [
    ("CreateStream", {**STREAM, "ShardCount": 1}, IN_USE, f"Stream clicks under account {ACCOUNT} already exists."),
    (
        "CreateStream",
        {"StreamName": "x", "ShardCount": 998},
        LIMIT,
        f"This request would exceed the shard limit for the account {ACCOUNT} in {REGION}. Current shard count for the "
        "account: 7. Limit: 1000. Number of additional shards that would have resulted from this request: 998. ",
    ),
    (
        "CreateStream",
        {"StreamName": "x", "ShardCount": 100_001},
        VALIDATION,
        "1 validation error detected: Value '100001' at 'shardCount' failed to satisfy constraint: Member must have "
        "value less than or equal to 100000",
    ),
    (
        "CreateStream",
        {"StreamName": "x", "ShardCount": 0},
        VALIDATION,
        "1 validation error detected: Value '0' at 'shardCount' failed to satisfy constraint: Member must have value "
        "greater than or equal to 1",
    ),
    ("CreateStream", {"StreamName": "x", "StreamModeDetails": {"StreamMode": "PROVISIONED"}}, INVALID, "ShardCount"),
    (
        "CreateStream",
        {"StreamName": "x", "ShardCount": 2, "StreamModeDetails": {"StreamMode": "ON_DEMAND"}},
        INVALID,
        "ShardCount must not be given",
    ),
    ("CreateStream", {"StreamName": "x", "ShardCount": 2, "WarmThroughputMiBps": 5}, INVALID, "WarmThroughputMiBps"),
    ("CreateStream", {"StreamName": "x", "ShardCount": 2, "RecordDistributionStrategy": "AUTO"}, INVALID, "Warm"),
    ("CreateStream", {"StreamName": "x", "ShardCount": 2, "Tags": {"a%": "b"}}, INVALID, "Some tags contain invalid"),
    ("CreateStream", {"StreamName": "no good", "ShardCount": 2}, VALIDATION, "1 validation error detected: Value 'no"),
    ("DeleteStream", {"StreamName": "nothing"}, NOT_FOUND, NO_STREAM),
    ("DeleteStream", {}, INVALID, "Either StreamName or StreamARN should be provided."),
    ("DescribeStream", {"StreamName": "nothing"}, NOT_FOUND, NO_STREAM),
    ("DescribeStream", {"StreamARN": stream_arn("nothing")}, NOT_FOUND, NO_STREAM),
    ("DescribeStream", {"StreamName": "many", **ARN}, INVALID, "StreamARN"),
    (
        "DescribeStream",
        {**STREAM, "Limit": 10_001},
        VALIDATION,
        "1 validation error detected: Value '10001' at 'limit'",
    ),
    (
        "DescribeStream",
        {"StreamARN": f"arn:aws:kinesis:eu-west-1:{ACCOUNT}:stream/clicks"},
        NOT_FOUND,
        f"Stream clicks under account {ACCOUNT} not found.",
    ),
    (
        "DescribeStreamSummary",
        {"StreamARN": f"arn:aws:kinesis:{REGION}:999999999999:stream/clicks"},
        NOT_FOUND,
        "Stream clicks under account 999999999999 not found.",
    ),
    ("ListStreams", {"NextToken": "forged"}, INVALID, "Invalid NextToken."),
    ("ListShards", {}, INVALID, "Either NextToken or StreamName should be provided."),
    ("ListShards", {**STREAM, "NextToken": "x"}, INVALID, "NextToken and StreamName cannot be provided together."),
    (
        "ListShards",
        {"NextToken": "x", "ExclusiveStartShardId": "0"},
        INVALID,
        "NextToken and ExclusiveStartShardId cannot be provided together.",
    ),
    ("ListShards", {**STREAM, "StreamCreationTimestamp": 5}, NOT_FOUND, "Stream clicks under account"),
    ("ListShards", {**STREAM, "ShardFilter": {"Type": "AT_TIMESTAMP"}}, INVALID, "Must specify Timestamp"),
    ("ListShards", {**STREAM, "ShardFilter": {"Type": "AFTER_SHARD_ID"}}, INVALID, "Must specify ShardId"),
    ("ListShards", {**STREAM, "ExclusiveStartShardId": "what"}, INVALID, "'what' is not the id of a shard"),
    (
        "SplitShard",
        {**STREAM, "ShardToSplit": "shardId-000000000009", "NewStartingHashKey": "5"},
        NOT_FOUND,
        f"Could not find shard shardId-000000000009 {WHERE}.",
    ),
    (
        "SplitShard",
        {**STREAM, "ShardToSplit": "0", "NewStartingHashKey": "5"},
        INVALID,
        f"Shard shardId-000000000000 {WHERE} has already been merged or split, and thus is not eligible for merging or "
        "splitting.",
    ),
    *(
        (
            "SplitShard",
            {**STREAM, "ShardToSplit": "shard-1", "NewStartingHashKey": str(key)},
            INVALID,
            f"NewStartingHashKey {key} used in SplitShard() on shard shardId-000000000001 {WHERE} is not both greater "
            f"than one plus the shard's StartingHashKey {HALF} and less than the shard's EndingHashKey "
            f"{KEY_SPACE - 1}.",
        )
        for key in (0, HALF, HALF + 1, KEY_SPACE - 1, KEY_SPACE)
    ),
    (
        "SplitShard",
        {"StreamName": "many", "ShardToSplit": "0", "NewStartingHashKey": "5"},
        VALIDATION,
        f"Request is invalid. Stream many under account {ACCOUNT} is in On-Demand mode.",
    ),
    (
        "MergeShards",
        {**STREAM, "ShardToMerge": "1", "AdjacentShardToMerge": "2"},
        INVALID,
        f"Shards shardId-000000000001 and shardId-000000000002 {WHERE} are not an adjacent pair of shards eligible for "
        "merging",
    ),
    (
        "MergeShards",
        {**STREAM, "ShardToMerge": "1", "AdjacentShardToMerge": "1"},
        INVALID,
        "Shards shardId-000000000001",
    ),
    (
        "MergeShards",
        {**STREAM, "ShardToMerge": "0", "AdjacentShardToMerge": "1"},
        INVALID,
        "Shard shardId-000000000000",
    ),
    ("MergeShards", {**STREAM, "ShardToMerge": "7", "AdjacentShardToMerge": "1"}, NOT_FOUND, "Could not find shard"),
    (
        "MergeShards",
        {"StreamName": "many", "ShardToMerge": "0", "AdjacentShardToMerge": "1"},
        VALIDATION,
        "Request is invalid.",
    ),
    (
        "UpdateShardCount",
        {**STREAM, "TargetShardCount": 7, **COUNT},
        LIMIT,
        "UpdateShardCount cannot scale up over double your current open shard count. Current open shard count: 3, "
        "Target shard count: 7",
    ),
    (
        "UpdateShardCount",
        {**STREAM, "TargetShardCount": 1, **COUNT},
        LIMIT,
        "UpdateShardCount cannot scale down below half your current open shard count. Current open shard count: 3, "
        "Target shard count: 1",
    ),
    ("UpdateShardCount", {"StreamName": "many", "TargetShardCount": 5, **COUNT}, VALIDATION, "Request is invalid."),
    (
        "IncreaseStreamRetentionPeriod",
        {**STREAM, "RetentionPeriodHours": 23},
        INVALID,
        "Minimum allowed retention period is 24 hours. Requested retention period (23 hours) is too short.",
    ),
    (
        "IncreaseStreamRetentionPeriod",
        {**STREAM, "RetentionPeriodHours": 8761},
        INVALID,
        "Maximum allowed retention period is 8760 hours. Requested retention period (8761 hours) is too long.",
    ),
    (
        "DecreaseStreamRetentionPeriod",
        {**STREAM, "RetentionPeriodHours": 25},
        INVALID,
        "Requested retention period (25 hours) for stream clicks can not be longer than existing retention period (24 "
        "hours). Use IncreaseRetentionPeriod API.",
    ),
    ("StartStreamEncryption", {**STREAM, **KEY, "EncryptionType": "NONE"}, INVALID, "EncryptionType must be KMS."),
    ("StartStreamEncryption", {**STREAM, **KEY, "KeyId": "what?"}, "KMSNotFoundException", "Invalid keyId 'what?'"),
    ("UpdateMaxRecordSize", {"MaxRecordSizeInKiB": 2048}, INVALID, "Either StreamName or StreamARN"),
    ("UpdateMaxRecordSize", {**ARN, "MaxRecordSizeInKiB": 1023}, VALIDATION, "1 validation error detected"),
    (
        "UpdateStreamMode",
        {**ARN, "StreamModeDetails": {"StreamMode": "PROVISIONED"}, "WarmThroughputMiBps": 3},
        INVALID,
        "WarmThroughputMiBps",
    ),
    ("UpdateStreamRecordDistributionStrategy", {**ARN, "RecordDistributionStrategy": "AUTO"}, INVALID, "Record"),
    ("UpdateStreamWarmThroughput", {**STREAM, "WarmThroughputMiBps": 5}, VALIDATION, "Request is invalid."),
    ("UpdateStreamWarmThroughput", {"StreamName": "many", "WarmThroughputMiBps": 5}, INVALID, "Warm throughput needs"),
    ("AddTagsToStream", {**STREAM, "Tags": {"a:b": "c"}}, INVALID, "Some tags contain invalid characters. Valid"),
    ("AddTagsToStream", {**STREAM, "Tags": {f"k{n}": "" for n in range(51)}}, INVALID, "Failed to add tags"),
    ("TagResource", {"ResourceARN": stream_arn("nothing"), "Tags": {"a": "b"}}, NOT_FOUND, NO_STREAM),
    (
        "TagResource",
        {"ResourceARN": f"{stream_arn('clicks')}/consumer/app:5", "Tags": {"a": "b"}},
        NOT_FOUND,
        "Consumer app under stream clicks not found.",
    ),
    (
        "ListTagsForResource",
        {"ResourceARN": f"arn:aws:kinesis:{REGION}:{ACCOUNT}:channel/x"},
        NOT_FOUND,
        f"Resource arn:aws:kinesis:{REGION}:{ACCOUNT}:channel/x not found.",
    ),
    ("PutResourcePolicy", {"ResourceARN": stream_arn("clicks"), "Policy": "[]"}, INVALID, "The policy is not a JSON"),
    (
        "DeleteResourcePolicy",
        {"ResourceARN": stream_arn("clicks")},
        NOT_FOUND,
        f"No resource policy found for resource ARN {stream_arn('clicks')}.",
    ),
    ("DescribeStreamConsumer", {}, INVALID, "Either ConsumerARN, or both StreamARN and ConsumerName"),
    ("DescribeStreamConsumer", {**ARN}, INVALID, "Either ConsumerARN, or both StreamARN and ConsumerName"),
    (
        "DescribeStreamConsumer",
        {**ARN, "ConsumerName": "app"},
        NOT_FOUND,
        "Consumer app under stream clicks not found.",
    ),
    ("DeregisterStreamConsumer", {"ConsumerARN": f"{stream_arn('clicks')}/consumer/a:1"}, NOT_FOUND, "Consumer a"),
    ("RegisterStreamConsumer", {"StreamARN": stream_arn("nothing"), "ConsumerName": "a"}, NOT_FOUND, NO_STREAM),
    ("ListStreamConsumers", {**ARN, "NextToken": "x", "StreamCreationTimestamp": 5}, INVALID, "NextToken and Stream"),
]


@pytest.mark.parametrize(
    ("operation", "request_", "code", "message"), REFUSALS, ids=[f"{r[0]}-{r[2]}" for r in REFUSALS]
)
def test_refusals(operation: str, request_: dict[str, Any], code: str, message: str) -> None:
    """Each case of the reference is refused with its code and its text, and changes nothing."""

    async def main() -> None:
        site = await reshaped()
        before = {name: stream.definition for name, stream in site.streams.named.items()}
        error = await site.refused(operation, **request_)
        assert (error.code, error.status) == (code, 400)
        assert error.message.startswith(message)
        assert {name: stream.definition for name, stream in site.streams.named.items()} == before

    run(main())


NEEDS_ACTIVE: list[tuple[str, dict[str, Any]]] = [
    ("SplitShard", {**STREAM, "ShardToSplit": "1", "NewStartingHashKey": "5"}),
    ("MergeShards", {**STREAM, "ShardToMerge": "0", "AdjacentShardToMerge": "1"}),
    ("UpdateShardCount", {**STREAM, "TargetShardCount": 3, **COUNT}),
    ("UpdateStreamMode", {**ARN, "StreamModeDetails": {"StreamMode": "ON_DEMAND"}}),
    ("UpdateMaxRecordSize", {**ARN, "MaxRecordSizeInKiB": 2048}),
    ("IncreaseStreamRetentionPeriod", {**STREAM, "RetentionPeriodHours": 48}),
    ("StartStreamEncryption", {**STREAM, **KEY}),
    ("EnableEnhancedMonitoring", {**STREAM, "ShardLevelMetrics": ["ALL"]}),
    ("AddTagsToStream", {**STREAM, "Tags": {"a": "b"}}),
    ("TagResource", {"ResourceARN": stream_arn("clicks"), "Tags": {"a": "b"}}),
]


@pytest.mark.parametrize(("operation", "request_"), NEEDS_ACTIVE, ids=[one for one, _ in NEEDS_ACTIVE])
@pytest.mark.parametrize("state", ["CREATING", "UPDATING", "DELETING"])
def test_a_stream_that_is_not_active(operation: str, request_: dict[str, Any], state: str) -> None:
    """What needs an ACTIVE stream is refused in each other state, which is told."""

    async def main() -> None:
        site = StreamSite()
        await site.start()
        await site.call("CreateStream", **STREAM, ShardCount=2)
        if state != "CREATING":
            await passed(1)
            await site.call(
                *{"UPDATING": "UpdateShardCount", "DELETING": "DeleteStream"}[state].split(),
                **({**STREAM, "TargetShardCount": 4, **COUNT} if state == "UPDATING" else STREAM),
            )
        error = await site.refused(operation, **request_)
        assert error.code == IN_USE
        assert error.message == f"Stream clicks under account {ACCOUNT} not ACTIVE, instead in state {state}"

    run(main())
