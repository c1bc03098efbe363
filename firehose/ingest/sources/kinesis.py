"""A Kinesis data stream elsewhere: AWS's, another instance of this service, or any endpoint that speaks the API.

Source: firehose.md section 16, data-streams.md sections 2.4, 2.5 and 6. By default shards are polled, as AWS's own
delivery streams do; with `mode: fan_out` a consumer of our own is registered and the far side pushes. A cursor is the
sequence number of the last record read. Iterators are the far side's short-lived affair and never stored.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Annotated, Any, ClassVar, Literal

import pyarrow as pa
from pydantic import Field

from firehose import aws
from firehose.aws import AwsOptions, Client, Failed
from firehose.datastream import sequence
from firehose.datastream.model import SHARD_SCHEMA
from firehose.ingest.sources.rows import Rows
from firehose.ingest.sources.shards import NO_RECORDS, PAGES, Found, Listing, Missing, Page, ShardedSource, Trouble
from firehose.ingest.sources.site import SourceSite
from firehose.ingest.sources.start import Start, begin_ms
from firehose.stream_config import SourceBlock

STREAM_ARN = r"arn:aws[a-z-]*:kinesis:[a-z0-9-]+:\d{12}:stream/[a-zA-Z0-9_.-]{1,128}"
SUBSCRIPTIONS = 512  # shards that are read by fan-out at once
CONSUMER_POLLS, CONSUMER_POLL_SECONDS = 60, 1.0
BUSY_SECONDS = 0.25  # between two reads of a shard that has more to give: AWS allows five in a second
SLOW_DOWN = ("ProvisionedThroughputExceededException", "LimitExceededException", "ThrottlingException")


class KinesisOptions(SourceBlock, AwsOptions):
    """`type: kinesis`."""

    type: Literal["kinesis"] = "kinesis"
    stream: Annotated[str, Field(pattern=rf"^([a-zA-Z0-9_.-]{{1,128}}|{STREAM_ARN})$")]
    start: Start = "LATEST"
    mode: Literal["polling", "fan_out"] = "polling"
    poll_seconds: Annotated[float, Field(ge=0.2, le=60)] = 1.0
    consumer: Annotated[str, Field(pattern=r"^[a-zA-Z0-9_.-]{1,128}$")] | None = None  # the delivery stream's name

    @property
    def named(self) -> dict[str, str]:
        """The stream as requests name it."""
        return {"StreamARN" if self.stream.startswith("arn:") else "StreamName": self.stream}


class KinesisSource(ShardedSource):
    """Reads a Kinesis data stream."""

    Options: ClassVar[type[SourceBlock]] = KinesisOptions

    def __init__(self, options: KinesisOptions, site: SourceSite) -> None:
        region = options.stream.split(":")[3] if options.stream.startswith("arn:") else site.region
        client = Client(site.shared.of(aws.Clients), "kinesis", options, region)
        upstream = FannedOut(client, options, site) if options.mode == "fan_out" else Polled(client, options, site)
        super().__init__(upstream, begin_ms(options.start, site.runtime), site)


@dataclass(slots=True)
class Far:
    """What the last listing said of the stream."""

    arn: str = ""
    retention_ms: int = 0
    dealt: bool = False  # its records, to shards in turn, whatever their keys


class KinesisUpstream:
    """What both ways of reading have in common."""

    def __init__(self, client: Client, options: KinesisOptions, site: SourceSite) -> None:
        self._client = client
        self._options = options
        self._site = site
        self._far = Far()
        self._room = asyncio.Semaphore(PAGES)
        self._seen_ms: dict[str, int] = {}  # by shard: when nothing was unread that had come until then

    async def listing(self) -> Listing:
        said = (await self._call("describe_stream_summary", **self._options.named))["StreamDescriptionSummary"]
        dealt = said.get("RecordDistributionStrategy") == "AUTO"
        self._far = Far(said["StreamARN"], said["RetentionPeriodHours"] * 3_600_000, dealt)
        created_ms = _ms(said["StreamCreationTimestamp"])
        shards = [_found(shard) for shard in await self._shards()]
        return Listing(f"kinesis:{self._far.arn}#{created_ms}", tuple(shards))

    async def _shards(self) -> list[dict[str, Any]]:
        answer = await self._call("list_shards", **self._options.named)
        shards = list(answer["Shards"])
        while token := answer.get("NextToken"):
            answer = await self._call("list_shards", NextToken=token)
            shards += answer["Shards"]
        return shards

    def _page(self, rows: Rows, said: dict[str, Any], cursor: str | None, ended: bool) -> Page:
        """Of an answer's or an event's members. `cursor` is the one before it."""
        found = said["Records"]
        expired = self._expired(rows.shard, cursor, said)
        numbers = [record["SequenceNumber"] for record in found]
        columns = [
            [record["Data"] for record in found],
            [_ms(record["ApproximateArrivalTimestamp"]) for record in found],
            [record.get("PartitionKey") for record in found],  # with AUTO distribution few have one
        ]
        arrays = [pa.array(column, field.type) for column, field in zip(columns, SHARD_SCHEMA, strict=True)]
        rows = rows.of_any_key() if self._far.dealt else rows
        records = rows.of(pa.RecordBatch.from_arrays(arrays, schema=SHARD_SCHEMA), numbers.__getitem__)
        behind = numbers[-1] if found else cursor or ""
        return Page(records if found else NO_RECORDS, behind, ended, said["MillisBehindLatest"], expired)

    def _rows(self, shard: Found) -> Rows:
        return Rows(shard, self._far.arn, self._site.placed)

    def _expired(self, shard: Found, cursor: str | None, said: dict[str, Any]) -> int:
        """1 where records may have expired between the cursor and these: it lies before the retention's horizon, and
        other numbers fit in between. Nobody can say how many.
        """
        now_ms, found = self._site.runtime.now_ms(), said["Records"]
        last = sequence.parse(cursor) if cursor else None
        seen_ms = max(last.arrival_s * 1000 if last else 0, self._seen_ms.get(shard.id, 0))
        if not said["MillisBehindLatest"]:
            self._seen_ms[shard.id] = now_ms
        if not found or last is None or seen_ms >= now_ms - self._far.retention_ms:
            return 0
        first = sequence.parse(found[0]["SequenceNumber"])
        return int(first is None or first.counter != last.counter + 1)

    async def _call(self, operation: str, **arguments: Any) -> dict[str, Any]:
        """Raises `Trouble`."""
        try:
            return await self._site.threads.run(partial(self._client.call, operation, **arguments))
        except Failed as failed:
            raise _kind(failed)(f"{operation} of {self._options.stream}: {failed}") from failed

    async def close(self) -> None:
        self._client.close()


class Polled(KinesisUpstream):
    """GetRecords again and again: at once while there is more, else every `poll_seconds`."""

    async def pages(self, name: str, shard: Found, cursor: str | None, since_ms: int) -> AsyncGenerator[Page, None]:
        rows = self._rows(shard)
        iterator: str | None = await self._iterator(shard, cursor, since_ms)
        while iterator:
            seconds = self._options.poll_seconds
            async with self._room:
                answer = await self._read(iterator)
                if answer is not None:
                    iterator = answer.get("NextShardIterator")
                    page = self._page(rows, answer, cursor, not iterator)
                    yield page
                    cursor = page.cursor or None
                    seconds = BUSY_SECONDS if answer["MillisBehindLatest"] else seconds
                    del answer, page  # which are large
            await asyncio.sleep(seconds)

    async def _iterator(self, shard: Found, cursor: str | None, since_ms: int) -> str:
        answer = await self._call(
            "get_shard_iterator",
            **self._options.named,
            ShardId=shard.id,
            **_position(cursor, since_ms, "ShardIteratorType", "StartingSequenceNumber"),
        )
        return str(answer["ShardIterator"])

    async def _read(self, iterator: str) -> dict[str, Any] | None:
        """None where the same is to be tried after a while."""
        try:
            return await self._site.threads.run(partial(self._client.call, "get_records", ShardIterator=iterator))
        except Failed as failed:
            if failed.code in SLOW_DOWN:
                return None
            raise _kind(failed)(f"get_records of {self._options.stream}: {failed}") from failed


class FannedOut(KinesisUpstream):
    """SubscribeToShard, as a consumer of our own. Each subscription holds a thread while it lasts."""

    def __init__(self, client: Client, options: KinesisOptions, site: SourceSite) -> None:
        super().__init__(client, options, site)
        self._subscribers = site.runtime.threads(f"fan_out {site.stream}", SUBSCRIPTIONS)
        self._consumer = ""

    async def listing(self) -> Listing:
        listing = await super().listing()
        self._consumer = await self._registered()
        return listing

    async def pages(self, name: str, shard: Found, cursor: str | None, since_ms: int) -> AsyncGenerator[Page, None]:
        rows = self._rows(shard)
        while True:
            position = _position(cursor, since_ms, "Type", "SequenceNumber")
            subscribe = partial(
                self._client.events,
                "subscribe_to_shard",
                "EventStream",
                ConsumerARN=self._consumer,
                ShardId=shard.id,
                StartingPosition=position,
            )
            events = await self._run(subscribe)
            try:
                while event := await self._run(events.next):
                    said = event["SubscribeToShardEvent"]
                    page = self._page(rows, said, cursor, bool(said.get("ChildShards")))
                    yield page
                    if page.ended:
                        return
                    cursor = page.cursor or None
            finally:
                events.close()

    async def _registered(self) -> str:
        """The consumer's ARN, once it is active."""
        name = self._options.consumer or self._site.stream
        for _ in range(CONSUMER_POLLS):
            try:
                said = await self._run(
                    partial(self._client.call, "describe_stream_consumer", StreamARN=self._far.arn, ConsumerName=name)
                )
            except Missing:
                await self._call("register_stream_consumer", StreamARN=self._far.arn, ConsumerName=name)
            else:
                if said["ConsumerDescription"]["ConsumerStatus"] == "ACTIVE":
                    return str(said["ConsumerDescription"]["ConsumerARN"])
            await asyncio.sleep(CONSUMER_POLL_SECONDS)
        raise Trouble(f"the consumer '{name}' does not become active")

    async def _run(self, call: Any) -> Any:
        """Raises `Trouble`; `Missing` where the far side has no such thing."""
        try:
            return await self._subscribers.run(call)
        except Failed as failed:
            raise _kind(failed)(f"fan-out from {self._options.stream}: {failed}") from failed

    async def close(self) -> None:
        await super().close()
        self._subscribers.leave()


def _kind(failed: Failed) -> type[Trouble]:
    return Missing if failed.code == "ResourceNotFoundException" else Trouble


def _ms(instant: datetime) -> int:
    return round(instant.timestamp() * 1000)


def _found(shard: dict[str, Any]) -> Found:
    keys = shard["HashKeyRange"]
    parents = tuple(shard[name] for name in ("ParentShardId", "AdjacentParentShardId") if shard.get(name))
    return Found(shard["ShardId"], parents, int(keys["StartingHashKey"]), int(keys["EndingHashKey"]))


def _position(cursor: str | None, since_ms: int, type_name: str, number_name: str) -> dict[str, Any]:
    """Behind the cursor; without one, at the instant, or where that is 0 at the oldest record."""
    if cursor is not None:
        return {type_name: "AFTER_SEQUENCE_NUMBER", number_name: cursor}
    if since_ms:
        return {type_name: "AT_TIMESTAMP", "Timestamp": since_ms / 1000}
    return {type_name: "TRIM_HORIZON"}
