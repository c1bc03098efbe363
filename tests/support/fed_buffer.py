"""A buffer that a source feeds from data streams in memory, in virtual time: the streams outlive every crash."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

import pyarrow as pa
from disk_buffer import DiskBuffer, drained
from faulty_disk import Fault
from memory_streams import MemoryStream, MemoryStreams
from virtual_time import VirtualRuntime, passed

from firehose.contracts import Source
from firehose.datastream import sequence
from firehose.ingest.sources.site import SourceSite
from firehose.registry import Shared

LONG_SECONDS = 120.0  # until a source has done all it would


class FedBuffer(DiskBuffer):
    """`make` puts the source to work, at each start anew. Records of `put` have the keys that they are given."""

    def __init__(self, make: Callable[[SourceSite], Source], shards: int = 1, placed: bool = False) -> None:
        super().__init__(runtime=VirtualRuntime())
        self.streams = MemoryStreams(self.runtime)
        self.stream: MemoryStream = self.streams.create("clicks", shards)
        self.placed = placed
        self.source: Source | None = None
        self._make = make
        self._seen: list[bytes] = []

    @property
    def site(self) -> SourceSite:
        threads = self.runtime.threads("source", 1)
        return SourceSite(
            "app", self.placed, "us-east-1", "000000000000", self.streams, threads, self.runtime, Shared()
        )

    async def put(self, *records: bytes, key: str = "key") -> None:
        table = pa.record_batch({"record": pa.array(records, pa.binary()), "meta": pa.array([key] * len(records))})
        await self.stream.append(self.stream.shard_for(sequence.hash_key(key)).number, table)

    async def reshard(self) -> None:
        for shard in [one for one in self.stream.definition.shards if one.open]:
            self.stream.split(shard.number)

    async def begin(self) -> None:
        self.source = self._make(self.site)
        self._task = asyncio.get_running_loop().create_task(self.source.run(self.appender))

    async def stored(self, count: int) -> Sequence[bytes]:
        while len(await self._look()) < count:
            await passed(1)
        return self._seen

    async def settled(self) -> Sequence[bytes]:
        await passed(LONG_SECONDS)
        return await self._look()

    async def _look(self) -> Sequence[bytes]:
        await self.appender.seal()
        self._seen += await drained(self.outbox())
        return self._seen

    def fail_next_append(self) -> None:
        self.disk.faults.append(Fault("sync", ending=".open"))
