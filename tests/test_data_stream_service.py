"""Data streams of a whole service, as a client meets them over its port."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config
from programs import PATIENCE_SECONDS, Programs, wait_for
from whole_service import WholeService


@pytest.fixture
def programs(tmp_path: Path) -> Iterator[Programs]:
    with Programs(tmp_path) as running:
        yield running


def client(service: WholeService) -> Any:
    session = boto3.Session("a", "b", region_name="us-east-1")
    config = Config(read_timeout=PATIENCE_SECONDS, retries={"total_max_attempts": 1})
    return session.client("kinesis", endpoint_url=service.url, config=config)


def test_subscriptions_are_as_long_as_the_file_says(programs: Programs, tmp_path: Path) -> None:
    """With `subscription_seconds` a subscription ends by itself, without an error, and can be gone on with where its
    last event says."""
    service = WholeService(programs, tmp_path / "own", {}, data_stream_defaults={"subscription_seconds": 1})
    service.start()
    kinesis = client(service)
    kinesis.create_stream(StreamName="clicks", ShardCount=1)
    kinesis.get_waiter("stream_exists").wait(StreamName="clicks", WaiterConfig={"Delay": 1, "MaxAttempts": 300})
    arn = kinesis.describe_stream_summary(StreamName="clicks")["StreamDescriptionSummary"]["StreamARN"]
    consumer = kinesis.register_stream_consumer(StreamARN=arn, ConsumerName="app")["Consumer"]["ConsumerARN"]

    def active() -> bool:
        told = kinesis.describe_stream_consumer(ConsumerARN=consumer)["ConsumerDescription"]
        return bool(told["ConsumerStatus"] == "ACTIVE")

    wait_for(active, "the consumer to be active")
    put = kinesis.put_record(StreamName="clicks", Data=b"0", PartitionKey="a")
    shard = {"ConsumerARN": consumer, "ShardId": put["ShardId"]}
    said: list[dict[str, Any]] = []

    def brought() -> bool:
        """A subscription to its end; on a busy machine that may come before its first event."""
        events = kinesis.subscribe_to_shard(**shard, StartingPosition={"Type": "TRIM_HORIZON"})["EventStream"]
        said[:] = [event["SubscribeToShardEvent"] for event in events]
        return bool(said)

    wait_for(brought, "a subscription that comes to say something")
    assert [record["Data"] for one in said for record in one["Records"]] == [b"0"]
    assert said[-1]["ContinuationSequenceNumber"] == put["SequenceNumber"]
