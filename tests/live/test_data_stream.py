"""A data stream, as its clients use it: the AWS CLI, boto3 and the SDK for JavaScript, against the whole service."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import boto3
import pytest
from oracle import access_log
from programs import Command, wait_for
from whole_service import StartService, WholeService

pytestmark = pytest.mark.live
SCRIPT = Path(__file__).with_name("data_stream.cjs")
FAILED = 255  # what the CLI ends with where a call failed


@pytest.fixture
def served(start_service: StartService, tmp_path: Path) -> WholeService:
    """A service without any data stream."""
    return start_service({"app": {"destination": {"type": "folder", "path": str(tmp_path / "out")}}})


@pytest.fixture
def kinesis(served: WholeService, aws_cli: Command) -> Callable[..., Any]:
    """`aws kinesis`, for what it prints."""

    def run(*words: str) -> Any:
        done = aws_cli("kinesis", *words, "--endpoint-url", served.url)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout) if done.stdout.startswith("{") else done.stdout.strip()

    return run


def test_aws_cli(served: WholeService, aws_cli: Command, kinesis: Callable[..., Any]) -> None:
    """The session of AWS's own tutorial, command by command, with the fields that it prints there."""
    foo = ("--stream-name", "Foo")
    assert kinesis("create-stream", *foo, "--shard-count", "1") == ""
    kinesis("wait", "stream-exists", *foo)
    summary = kinesis("describe-stream-summary", *foo)["StreamDescriptionSummary"]
    arn = "arn:aws:kinesis:us-east-1:000000000000:stream/Foo"
    wanted = {"StreamName": "Foo", "StreamARN": arn, "StreamStatus": "ACTIVE", "RetentionPeriodHours": 24,
              "EncryptionType": "NONE", "OpenShardCount": 1, "ConsumerCount": 0}  # fmt: skip
    assert wanted.items() <= summary.items()
    assert summary["EnhancedMonitoring"] == [{"ShardLevelMetrics": []}]
    assert kinesis("list-streams")["StreamNames"] == ["Foo"]
    put = kinesis("put-record", *foo, "--partition-key", "123", "--data", "testdata")
    assert put.keys() == {"ShardId", "SequenceNumber"}
    shard = ("--shard-id", "shardId-000000000000")
    asked = ("--shard-iterator-type", "TRIM_HORIZON", "--query", "ShardIterator")  # printed with quotes, and taken so
    iterator = kinesis("get-shard-iterator", *shard, *foo, *asked)
    got = kinesis("get-records", "--shard-iterator", iterator)
    assert (got.keys(), got["MillisBehindLatest"]) == ({"Records", "NextShardIterator", "MillisBehindLatest"}, 0)
    (record,) = got["Records"]
    assert record.keys() == {"SequenceNumber", "ApproximateArrivalTimestamp", "Data", "PartitionKey"}
    assert (record["Data"], record["PartitionKey"]) == ("dGVzdGRhdGE=", "123")
    assert record["SequenceNumber"] == put["SequenceNumber"]
    (described,) = kinesis("describe-stream", *foo)["StreamDescription"]["Shards"]
    assert described["HashKeyRange"] == {"StartingHashKey": "0", "EndingHashKey": str((1 << 128) - 1)}
    assert described["SequenceNumberRange"].keys() == {"StartingSequenceNumber"}
    assert kinesis("delete-stream", *foo) == ""
    kinesis("wait", "stream-not-exists", *foo)
    refused = aws_cli("kinesis", "describe-stream", *foo, "--endpoint-url", served.url)
    assert refused.returncode == FAILED
    assert "(ResourceNotFoundException)" in refused.stderr
    assert "Stream Foo under account 000000000000 not found." in refused.stderr


def test_boto3_subscription(served: WholeService) -> None:
    """boto3 subscribes over HTTP/1.1, and gets what is put meanwhile; the shard's end and its children too."""
    session = boto3.Session("any", "credentials", region_name="us-east-1")
    with closing(session.client("kinesis", endpoint_url=served.url)) as client:
        client.create_stream(StreamName="s", ShardCount=1)
        client.get_waiter("stream_exists").wait(StreamName="s", WaiterConfig={"Delay": 1, "MaxAttempts": 300})
        arn = client.describe_stream_summary(StreamName="s")["StreamDescriptionSummary"]["StreamARN"]
        consumer = client.register_stream_consumer(StreamARN=arn, ConsumerName="c")["Consumer"]["ConsumerARN"]
        describe = client.describe_stream_consumer
        status = "ConsumerStatus"
        wait_for(lambda: describe(ConsumerARN=consumer)["ConsumerDescription"][status] == "ACTIVE", "the consumer")
        start = {"Type": "TRIM_HORIZON"}
        with closing(session.client("kinesis", endpoint_url=served.url)) as reader:
            asked: Any = {"ConsumerARN": consumer, "ShardId": "shardId-000000000000", "StartingPosition": start}
            stream = reader.subscribe_to_shard(**asked)
            events = (event["SubscribeToShardEvent"] for event in stream["EventStream"])
            assert next(events)["Records"] == []
            client.put_record(StreamName="s", Data=b"\x00\xff", PartitionKey="k")
            read = (record["Data"] for event in events for record in event["Records"])  # of some events none
            assert next(read) == b"\x00\xff"
            client.split_shard(StreamName="s", ShardToSplit="shardId-000000000000", NewStartingHashKey="1000")
            *_, last = events
            children = [child["ShardId"] for child in last["ChildShards"]]
            assert children == ["shardId-000000000001", "shardId-000000000002"]


def test_javascript(served: WholeService, node: Command, tmp_path: Path) -> None:
    """The SDK for JavaScript over HTTP/2, its default: written, polled, and fifty shards subscribed to at once."""
    file = tmp_path / "lines"
    file.write_text("\n".join(access_log(3001)))
    done = node(SCRIPT, served.url, "js", "50", file)
    assert done.returncode == 0, done.stderr
    said = {"failed": 0, "shards": 50, "polled": True, "subscribed": True, "refusal": "ResourceNotFoundException"}
    assert json.loads(done.stdout) == said
