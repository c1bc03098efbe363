"""Streams and shards as the API shows them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from firehose.datastream import sequence
from firehose.datastream.arns import Account
from firehose.datastream.live import LiveStream
from firehose.datastream.model import Consumer, Definition, Shard
from firehose.http.codec import Millis


def listed(stream: LiveStream) -> list[Shard]:
    """The shards that have not expired, by number; none before the stream is there."""
    horizon_ms = stream.horizon_ms()
    return [one for one in stream.definition.shards if one.closed_ms is None or one.closed_ms > horizon_ms]


def shard(one: Shard) -> dict[str, Any]:
    """Parents stay named when they have expired."""
    parents = [sequence.shard_id(number) for number in one.parents]
    return {
        "ShardId": one.id,
        "ParentShardId": parents[0] if parents else None,
        "AdjacentParentShardId": parents[1] if len(parents) > 1 else None,
        "HashKeyRange": {"StartingHashKey": str(one.start), "EndingHashKey": str(one.end)},
        "SequenceNumberRange": {
            "StartingSequenceNumber": one.starting_number,
            "EndingSequenceNumber": one.ending_number,
        },
    }


def names(stream: str, account: Account) -> dict[str, str]:
    return {"StreamName": stream, "StreamARN": str(account.stream_arn(stream))}


def summary(definition: Definition, account: Account) -> dict[str, Any]:
    """As in a list of streams."""
    return {
        **names(definition.name, account),
        "StreamStatus": definition.status,
        "StreamModeDetails": {"StreamMode": definition.mode},
        "StreamCreationTimestamp": Millis(definition.created_ms),
    }


def description(definition: Definition, account: Account) -> dict[str, Any]:
    """What DescribeStream and DescribeStreamSummary have in common."""
    return {
        **summary(definition, account),
        "RetentionPeriodHours": definition.retention_hours,
        "EnhancedMonitoring": [{"ShardLevelMetrics": list(definition.metrics)}],
        "EncryptionType": "NONE" if definition.key_id is None else "KMS",
        "KeyId": definition.key_id,
    }


def warm_throughput(definition: Definition) -> dict[str, int]:
    return {"TargetMiBps": definition.warm_mib_per_second, "CurrentMiBps": definition.warm_mib_per_second}


def consumer(one: Consumer, stream: str, account: Account) -> dict[str, Any]:
    return {
        "ConsumerName": one.name,
        "ConsumerARN": str(account.consumer_arn(stream, one)),
        "ConsumerStatus": one.status,
        "ConsumerCreationTimestamp": Millis(one.created_ms),
    }


def open_shards(shards: Sequence[Shard]) -> int:
    return sum(one.open for one in shards)
