"""Every shipped source keeps the law of its door, and the law is not so weak that a wrong one keeps it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from itertools import count
from typing import Any, Literal, cast

import boto3
import pytest
from botocore.config import Config
from conformance.source import LAWS, Law, a_failed_append_is_settled, a_restart_repeats_nothing, successors_come_after
from disk_buffer import DiskBuffer, drained
from faulty_disk import Fault
from fed_buffer import FedBuffer
from memory_streams import MemoryStreams
from programs import PATIENCE_SECONDS, Programs
from pydantic import SecretStr
from virtual_time import VirtualRuntime, run
from whole_service import WholeService

from firehose.contracts import Appender, Source, Unavailable
from firehose.ingest.sources import shards
from firehose.ingest.sources.data_stream import DataStreamOptions, DataStreamSource
from firehose.ingest.sources.direct_put import DirectPut
from firehose.ingest.sources.kinesis import KinesisOptions, KinesisSource
from firehose.ingest.sources.shards import Found, Listing
from firehose.ingest.sources.site import SourceSite
from firehose.model import Origin
from firehose.registry import Shared
from firehose.runtime import Runtime

FOUND = (AssertionError, ExceptionGroup, TimeoutError)
NUMBERS = count()
SENTINEL = b"last"
OPTIONS = DataStreamOptions(stream="clicks", start="TRIM_HORIZON")


def own(site: SourceSite) -> Source:
    return DataStreamSource(OPTIONS, site)


async def kept(law: Law, make: Callable[[SourceSite], Source]) -> None:
    harness = FedBuffer(make)
    await harness.start()
    await law(harness)


@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.__name__)
def test_law_of_own_streams(law: Law) -> None:
    """A source over the service's own streams keeps the law."""
    run(kept(law, own))


class FarHarness:
    """A data stream of another service, over the wire and in real time; what it feeds can be crashed all the same."""

    def __init__(self, upstream: WholeService, mode: Literal["polling", "fan_out"]) -> None:
        self._upstream = upstream
        self._name = f"clicks-{next(NUMBERS)}"
        session = boto3.Session("a", "b", region_name="us-east-1")
        once = Config(retries={"total_max_attempts": 1}, read_timeout=PATIENCE_SECONDS)  # nothing is put twice
        self._kinesis: Any = session.client("kinesis", endpoint_url=upstream.url, config=once)
        self._options = KinesisOptions(
            stream=self._name,
            start="TRIM_HORIZON",
            mode=mode,
            poll_seconds=0.2,
            endpoint_url=upstream.url,
            access_key_id="a",
            secret_access_key=SecretStr("b"),
        )
        self._buffer = DiskBuffer(runtime=cast(VirtualRuntime, Runtime()))
        self._seen: list[bytes] = []
        self._sentinels = 0

    async def start(self) -> None:
        await self._call("create_stream", ShardCount=1)
        await self._active()
        await self._buffer.start()

    async def put(self, *records: bytes) -> None:
        for record in records:
            await self._call("put_record", Data=record, PartitionKey="key")

    async def reshard(self) -> None:
        shards = (await self._call("list_shards", ShardFilter={"Type": "AT_LATEST"}))["Shards"]
        middles = {one["ShardId"]: sum(map(int, one["HashKeyRange"].values())) // 2 for one in shards}
        for shard, middle in middles.items():
            await self._call("split_shard", ShardToSplit=shard, NewStartingHashKey=str(middle))
            await self._active()

    async def begin(self) -> None:
        runtime = self._buffer.runtime
        own = MemoryStreams(runtime)  # it has none of its own
        site = SourceSite(
            "app", False, "us-east-1", "000000000000", own, runtime.threads("source", 4), runtime, Shared()
        )
        self._task = asyncio.get_running_loop().create_task(
            KinesisSource(self._options, site).run(self._buffer.appender)
        )

    async def stored(self, count: int) -> list[bytes]:
        async with asyncio.timeout(PATIENCE_SECONDS):
            while len(self._seen) < count:
                await self._buffer.appender.seal()
                self._seen += await drained(self._buffer.outbox())
                await asyncio.sleep(0.02)  # what we wait for happens in another process
        return [record for record in self._seen if not record.startswith(SENTINEL)]

    async def settled(self) -> list[bytes]:
        """A shard is read in order: what comes behind a last record of each is all there is."""
        count = len(await self.stored(0)) + self._sentinels
        self._sentinels += 1
        await self.put(b"%s %d" % (SENTINEL, self._sentinels))
        return await self.stored(count + 1)

    async def crash(self) -> None:
        await self._buffer.crash()

    def fail_next_append(self) -> None:
        self._buffer.disk.faults.append(Fault("sync", ending=".open"))

    async def _active(self) -> None:
        async with asyncio.timeout(PATIENCE_SECONDS):
            while (await self._call("describe_stream_summary"))["StreamDescriptionSummary"]["StreamStatus"] != "ACTIVE":
                pass

    async def _call(self, operation: str, **arguments: Any) -> Any:
        return await asyncio.to_thread(getattr(self._kinesis, operation), StreamName=self._name, **arguments)


@pytest.fixture(scope="module")
def upstream(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WholeService]:
    folder = tmp_path_factory.mktemp("upstream")
    with Programs(folder) as running:
        service = WholeService(running, folder, {}, data_stream_defaults={"transition_seconds": 0})
        service.start()
        yield service


@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.__name__)
@pytest.mark.parametrize("mode", ["polling", "fan_out"])
def test_law_of_streams_elsewhere(upstream: WholeService, mode: Literal["polling", "fan_out"], law: Law) -> None:
    """A source over a Kinesis endpoint keeps the law, polled and by enhanced fan-out."""

    async def whole() -> None:
        harness = FarHarness(upstream, mode)
        await harness.start()
        await law(harness)

    asyncio.run(whole())


class Forgetful(DataStreamSource):
    """Hands over records without their origin."""

    async def run(self, into: Appender) -> None:
        class Forgetting:
            async def append(self, records, origin=None):  # type: ignore[no-untyped-def]
                return await into.append(records) if records.num_rows else None

            def origins(self):  # type: ignore[no-untyped-def]
                return {}

        await super().run(Forgetting())


def test_a_source_without_origins_is_found() -> None:
    """A source that does not store where it is with the records is found by the suite."""
    with pytest.raises(FOUND):
        run(kept(a_restart_repeats_nothing, lambda site: Forgetful(OPTIONS, site)))


def test_a_source_that_does_not_ask_again_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that goes on after an append that failed, as if it had not, is found."""

    async def store(into: Appender, records: object, origin: Origin) -> None:
        try:
            await into.append(records, origin)
        except Unavailable as unavailable:
            await asyncio.sleep(unavailable.after_seconds)

    monkeypatch.setattr(shards, "store", store)
    with pytest.raises(FOUND):
        run(asyncio.wait_for(kept(a_failed_append_is_settled, own), 3600))


def test_a_source_that_reads_children_early_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that does not wait for the parents' end is found."""

    def ready(listing: Listing, origins: object, begun: object) -> list[Found]:
        return [shard for shard in reversed(listing.shards) if shard.id not in begun]  # type: ignore[operator]

    monkeypatch.setattr(shards, "ready", ready)
    with pytest.raises(FOUND):
        run(asyncio.wait_for(kept(successors_come_after, own), 3600))


def test_direct_put_reads_from_nowhere() -> None:
    """The source that is none has no law to keep: there is nothing to run."""
    assert not hasattr(DirectPut, "run")
    assert not DirectPut.Options().reads  # type: ignore[call-arg]
