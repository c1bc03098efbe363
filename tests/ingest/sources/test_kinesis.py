"""Pages of a Kinesis endpoint, whose answers are made up here."""

from __future__ import annotations

from contextlib import aclosing
from dataclasses import replace
from typing import Any, cast

import msgspec
import pytest
from memory_streams import MemoryStreams
from virtual_time import START_MS, VirtualRuntime, run

from firehose.aws import Client
from firehose.ingest.sources.kinesis import KinesisOptions, Polled
from firehose.ingest.sources.shards import Found
from firehose.ingest.sources.site import SourceSite
from firehose.registry import Shared
from firehose.runtime import utc

SHARD = Found("shardId-000000000000", (), 0, 2**128 - 1)


class FarSide:
    """A client whose only shard holds these records."""

    def __init__(self, *records: dict[str, Any], distribution: str = "USER_PARTITION_KEY") -> None:
        self.distribution = distribution
        arrived = utc(START_MS)
        self._records = [
            {"SequenceNumber": str(number), "ApproximateArrivalTimestamp": arrived, **record}
            for number, record in enumerate(records)
        ]

    def call(self, operation: str, **arguments: Any) -> dict[str, Any]:
        if operation == "get_shard_iterator":
            return {"ShardIterator": "any"}
        if operation == "describe_stream_summary":
            said = {"StreamARN": "arn", "RetentionPeriodHours": 24, "StreamCreationTimestamp": utc(START_MS)}
            return {"StreamDescriptionSummary": {**said, "RecordDistributionStrategy": self.distribution}}
        if operation == "list_shards":
            return {"Shards": []}
        return {"Records": self._records, "MillisBehindLatest": 0}


@pytest.mark.parametrize("placed", [False, True])
def test_a_record_without_a_partition_key(placed: bool) -> None:
    """A stream whose distribution is AUTO has them; where places are asked for, the key is empty."""
    far = FarSide({"Data": b"keyless"}, {"Data": b"keyed", "PartitionKey": "key"})

    async def whole() -> None:
        async with aclosing(_polled(far, placed).pages("any", SHARD, None, 0)) as pages:
            page = await anext(pages)
        rows = page.records.to_pylist()
        assert [row["record"] for row in rows] == [b"keyless", b"keyed"]
        if placed:
            assert [msgspec.json.decode(row["meta"])["partitionKey"] for row in rows] == ["", "key"]

    run(whole())


@pytest.mark.parametrize(("distribution", "taken"), [("USER_PARTITION_KEY", []), ("AUTO", [b"x", b"y"])])
def test_packed_records_in_any_shard(distribution: str, taken: list[bytes]) -> None:
    """Where keys say the shard, an aggregate in another one is passed over; where records are dealt, none is."""
    packed = bytes.fromhex("f3899ac20a01611a0508001a01781a0508001a01794ce17b1ac841e7ccc082e6c0e097f7f6")
    far = FarSide({"Data": packed, "PartitionKey": "a"}, distribution=distribution)

    async def whole() -> None:
        polled = _polled(far)
        await polled.listing()
        async with aclosing(polled.pages("any", replace(SHARD, end=0), None, 0)) as pages:
            page = await anext(pages)
        assert page.records.column("record").to_pylist() == taken

    run(whole())


def _polled(far: FarSide, placed: bool = False) -> Polled:
    runtime = VirtualRuntime()
    threads = runtime.threads("source", 1)
    site = SourceSite("app", placed, "us-east-1", "0" * 12, MemoryStreams(runtime), threads, runtime, Shared())
    return Polled(cast(Client, far), KinesisOptions(stream="clicks"), site)
