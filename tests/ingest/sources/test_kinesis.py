"""Pages of a Kinesis endpoint, whose answers are made up here."""

from __future__ import annotations

from contextlib import aclosing
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

    def __init__(self, *records: dict[str, Any]) -> None:
        arrived = utc(START_MS)
        self._records = [
            {"SequenceNumber": str(number), "ApproximateArrivalTimestamp": arrived, **record}
            for number, record in enumerate(records)
        ]

    def call(self, operation: str, **arguments: Any) -> dict[str, Any]:
        if operation == "get_shard_iterator":
            return {"ShardIterator": "any"}
        return {"Records": self._records, "MillisBehindLatest": 0}


@pytest.mark.parametrize("placed", [False, True])
def test_a_record_without_a_partition_key(placed: bool) -> None:
    """A stream whose distribution is AUTO has them; where places are asked for, the key is empty."""
    far = FarSide({"Data": b"keyless"}, {"Data": b"keyed", "PartitionKey": "key"})

    async def whole() -> None:
        runtime = VirtualRuntime()
        threads = runtime.threads("source", 1)
        site = SourceSite("app", placed, "us-east-1", "0" * 12, MemoryStreams(runtime), threads, runtime, Shared())
        polled = Polled(cast(Client, far), KinesisOptions(stream="clicks"), site)
        async with aclosing(polled.pages("any", SHARD, None, 0)) as pages:
            page = await anext(pages)
        rows = page.records.to_pylist()
        assert [row["record"] for row in rows] == [b"keyless", b"keyed"]
        if placed:
            assert [msgspec.json.decode(row["meta"])["partitionKey"] for row in rows] == ["", "key"]

    run(whole())
