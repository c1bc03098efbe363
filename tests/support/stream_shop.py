"""The operations that move data, over streams in memory, and a client of theirs."""

from __future__ import annotations

from typing import Any

from memory_streams import MemoryStream, MemoryStreams
from stream_calls import ACCOUNT, REGION, Calls
from virtual_time import VirtualRuntime

from firehose.datastream import sequence
from firehose.datastream.operations.reading import Reading
from firehose.datastream.operations.subscribing import Subscribing
from firehose.datastream.operations.writing import Writing

INVALID, VALIDATION = "InvalidArgumentException", "ValidationException"
NOT_FOUND, THROTTLED = "ResourceNotFoundException", "ProvisionedThroughputExceededException"
SECRET = b"of these tests only, and long enough"


class Shop:
    """The operations, over a stream `clicks` of so many shards."""

    def __init__(self, shards: int = 1, **members: Any) -> None:
        self.runtime = VirtualRuntime()
        self.streams = MemoryStreams(self.runtime)
        self.stream: MemoryStream = self.streams.create("clicks", shards, **members)
        self.start()

    def start(self, secret: bytes = SECRET) -> None:
        """A process that begins, over the same streams."""
        here = self.streams, self.runtime, REGION, ACCOUNT
        reading = Reading(*here, secret=lambda: secret)
        self.call = Calls(Writing(*here).operations() | reading.operations())
        self.subscribing = Subscribing(*here)

    async def put(self, *data: bytes, key: str = "a", **more: Any) -> Any:
        records = [{"Data": one, "PartitionKey": key, **more} for one in data]
        return await self.call("PutRecords", StreamName="clicks", Records=records)

    async def iterator(self, kind: str = "TRIM_HORIZON", shard: int = 0, **more: Any) -> str:
        request = {"StreamName": "clicks", "ShardId": sequence.shard_id(shard), "ShardIteratorType": kind, **more}
        token: str = (await self.call("GetShardIterator", **request))["ShardIterator"]
        return token

    async def get(self, token: str, **more: Any) -> Any:
        return await self.call("GetRecords", ShardIterator=token, **more)

    async def stored(self, shard: int = 0) -> list[tuple[str, bytes, str | None]]:
        """Each record of the shard with its number."""
        run = await self.stream.log(shard).read(0, 10**6, 10**9)
        base = next(one.base for one in self.stream.definition.shards if one.number == shard)
        return [
            (sequence.number(base, first + row, said["arrival_ms"] // 1000), said["record"], said["meta"])
            for first, piece in run.pieces
            for row, said in enumerate(piece.to_pylist())
        ]


def record(**members: Any) -> dict[str, Any]:
    return {"Data": b"x", "PartitionKey": "k", **members}
