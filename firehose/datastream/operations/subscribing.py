"""SubscribeToShard: records pushed to a consumer as they come, as frames of an event stream.

Source: data-streams.md section 2.5. An event is made when the carrier asks for it and not before, so that a slow
client holds up nobody and fills no memory; while there is nothing to say, waiting costs nothing. Each event says where
to go on from, or, at the end of a closed shard, with which shards: always one of the two.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Coroutine, Iterable
from typing import Any

from firehose.blocks import MIB
from firehose.datastream import event_stream, sequence, shapes
from firehose.datastream.arns import Account, ConsumerArn, consumer_arn
from firehose.datastream.contracts import DataStream, DataStreams, ShardLog
from firehose.datastream.encoding import JSON, children
from firehose.datastream.limits import Meter
from firehose.datastream.model import Definition, Shard
from firehose.datastream.operations.resources import consumer_in
from firehose.datastream.pages import Found, Page, Pages, Wanted
from firehose.datastream.positions import Start, no_shard, shard_named, shard_of
from firehose.datastream.refusals import check_dry_run, in_use, invalid, no_consumer, over_limit
from firehose.http.aws_json import ApiError
from firehose.http.codec import JsonCodec, StreamingOperation
from firehose.http.shared import Piece, in_memory
from firehose.runtime import Runtime

EVENT_BYTES = 768 * 1024  # of records: 1 MiB in base64
EVENT_RECORDS = 10_000
QUIET_SECONDS = 4.0  # clients give up on a stream of events that is silent for long
TAKE_OVER_SECONDS = 5.0
SUBSCRIPTION_SECONDS = 300.0
BYTES_PER_SECOND = 2 * MIB  # of a consumer's shard, where AWS's limits are kept

Key = tuple[ConsumerArn, int]  # a consumer and a shard have one subscription


class Subscribing:
    """The operation, and which subscriptions there are."""

    def __init__(
        self,
        streams: DataStreams,
        runtime: Runtime,
        region: str,
        account_id: str,
        *,
        pages: Pages | None = None,
        subscription_seconds: float = SUBSCRIPTION_SECONDS,
    ) -> None:
        self.streams = streams
        self.runtime = runtime
        self.account = Account(region, account_id)
        self.pages = pages or Pages()
        self.subscription_seconds = subscription_seconds
        self._calls = Meter(1, runtime.monotonic)
        self._active: dict[Key, Subscription] = {}

    def streaming(self) -> dict[str, StreamingOperation]:
        return {"SubscribeToShard": self.subscribe_to_shard}

    async def subscribe_to_shard(self, body: bytes) -> AsyncIterator[bytes]:
        request = JsonCodec().read(body, shapes.request("SubscribeToShard"))
        arn, said = self._arn(request["ConsumerARN"]), request["StartingPosition"]
        number = shard_named(request["ShardId"], arn.stream.stream, self.account)
        start = Start(said["Type"], said.get("SequenceNumber"), said.get("Timestamp"), "SubscribeToShard")
        start.check(self.runtime.now_ms())
        stream = self._stream(arn)
        self._check_consumer(stream, arn)
        shard, log = shard_of(stream, number, self.account)
        position = start.position(stream, shard, log, self.account)
        key = arn, number
        self._check_rate(key, stream)
        check_dry_run(request.get("DryRun"))
        subscription = Subscription(self, key, stream, shard, log, position)
        if key in self._active:
            self._active[key].take_over()
        self._active[key] = subscription
        return subscription

    def exists(self, stream: DataStream) -> bool:
        """Whether it is not on its way out, and none that has its name by now."""
        now = self.streams.named.get(stream.definition.name)
        return now is not None and now.definition.id == stream.definition.id and now.definition.status != "DELETING"

    def another(self, key: Key) -> str:
        arn, shard = key
        return (
            f"Another active subscription exists for this consumer: {self.account.account_id}:{arn.stream.stream}:"
            f"{sequence.shard_id(shard)}:{arn.consumer}"
        )

    def ended(self, subscription: Subscription) -> None:
        if self._active.get(subscription.key) is subscription:
            del self._active[subscription.key]

    def _arn(self, text: str) -> ConsumerArn:
        arn = consumer_arn(text)
        if arn is None:
            raise invalid(f"ConsumerARN {text} is not the ARN of a consumer.")
        self.account.own(arn.stream)
        return arn

    def _stream(self, arn: ConsumerArn) -> DataStream:
        stream = self.streams.named.get(arn.stream.stream)
        if stream is None or stream.definition.status not in ("ACTIVE", "UPDATING"):
            raise self.account.no_stream(arn.stream.stream)
        return stream

    def _check_consumer(self, stream: DataStream, arn: ConsumerArn) -> None:
        if consumer_in(stream.definition, arn).status != "ACTIVE":
            raise in_use(
                f"Consumer {arn.consumer} with creation timestamp {arn.created_s} under stream: {arn.stream.stream} , "
                f"account {self.account.account_id} is not in ACTIVE status."
            )

    def _check_rate(self, key: Key, stream: DataStream) -> None:
        if stream.definition.limits == "aws" and not self._calls.call(key):
            raise over_limit(f"Rate exceeded for consumer {key[0]}.")
        active = self._active.get(key)
        if active is not None and self.runtime.monotonic() < active.began + TAKE_OVER_SECONDS:
            raise in_use(self.another(key))


class Subscription:
    """One consumer's reading of one shard: frames, each made when it is asked for. To be closed."""

    def __init__(
        self, room: Subscribing, key: Key, stream: DataStream, shard: Shard, log: ShardLog, position: int
    ) -> None:
        self.key = key
        self.began = room.runtime.monotonic()
        self._room = room
        self._stream = stream
        self._shard = shard
        self._log = log
        self._position = position
        self._log_closed = False
        self._taken_over = asyncio.Event()
        self._frames = self._run()

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        return await anext(self._frames)

    async def aclose(self) -> None:
        self._room.ended(self)
        await self._frames.aclose()

    def take_over(self) -> None:
        """A newer subscription is the consumer's from now on."""
        self._taken_over.set()

    async def _run(self) -> AsyncGenerator[bytes, None]:
        runtime, room = self._room.runtime, self._room
        end, due = self.began + room.subscription_seconds, self.began  # when the next event is due, records or not
        yield event_stream.initial_response()
        while runtime.monotonic() < end:
            seen = self._stream.definition
            if (trouble := self._trouble(seen)) is not None:
                yield event_stream.exception(trouble.code, trouble.message)
                break
            page, pieces = await self._read(seen)
            ended = self._ended()
            if pieces or ended or runtime.monotonic() >= due:
                due = runtime.monotonic() + QUIET_SECONDS
                yield self._event(page, pieces, ended)
            if ended:
                break
            await self._pause(seen, page, min(due, end) - runtime.monotonic())
        room.ended(self)

    def _trouble(self, definition: Definition) -> ApiError | None:
        """Why it must not go on."""
        arn, number = self.key
        if self._taken_over.is_set():
            return in_use(self._room.another(self.key))
        if not self._room.exists(self._stream):
            return self._room.account.no_stream(arn.stream.stream)
        if not any(arn.names(one) and one.status != "DELETING" for one in definition.consumers):
            return no_consumer(arn.consumer, arn.stream.stream)
        if not any(shard.number == number for shard in definition.shards):
            return no_shard(number, definition.name, self._room.account)
        return None

    async def _read(self, definition: Definition) -> Found:
        self._position = max(self._position, self._log.since(self._stream.horizon_ms()))
        wanted = Wanted(self._position, EVENT_RECORDS, EVENT_BYTES)
        page, pieces = await self._room.pages.find(definition, self._shard, self._log, wanted, JSON)
        self._position = max(self._position, page.next)
        return page, pieces

    def _ended(self) -> bool:
        """Whether the shard is closed, and all of it was read."""
        shards = self._stream.definition.shards
        closed = any(shard.number == self._shard.number and not shard.open for shard in shards)
        return closed and self._position >= self._log.tip

    def _event(self, page: Page, pieces: list[Piece], ended: bool) -> bytes:
        definition, now = self._stream.definition, self._room.runtime.now_ms()
        said: dict[str, Any] = {"MillisBehindLatest": 0 if page.waiting_ms is None else max(1, now - page.waiting_ms)}
        if ended:
            said["ChildShards"] = children(definition, self._shard)
        else:
            said["ContinuationSequenceNumber"] = self._continuation(page)
        answer = JSON.answer(pieces, JsonCodec().write(said))
        return event_stream.event("SubscribeToShardEvent", b"".join(map(in_memory, answer)))

    def _continuation(self, page: Page) -> str:
        """The number of the last record; without one, a number just before the position, which no record need have."""
        second = self._shard.created_s if page.last_ms is None else page.last_ms // 1000
        return sequence.number(self._shard.base, max(0, self._position - 1), second)

    async def _pause(self, seen: Definition, page: Page, seconds: float) -> None:
        """Until there is something to say, or it is time to say something."""
        paced = self._stream.definition.limits == "aws" and bool(page.names)
        if paced:
            await self._woken([], page.size_bytes / BYTES_PER_SECOND)
        if page.waiting_ms is None:
            changed = self._stream.changed(seen)
            grown = [] if self._log_closed else [self._grown()]
            await self._woken([changed, *grown], seconds)

    async def _grown(self) -> None:
        """A log that is closed without having grown says nothing more: what follows is a change of the stream."""
        await self._log.beyond(self._position)
        self._log_closed = self._log.tip <= self._position

    async def _woken(self, signs: Iterable[Coroutine[Any, Any, None]], seconds: float) -> None:
        """Returns at the first of the signs, when another takes over, or after so long."""
        waits = [asyncio.ensure_future(sign) for sign in (self._taken_over.wait(), *signs)]
        try:
            await asyncio.wait(waits, timeout=max(0.0, seconds), return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
            await asyncio.gather(*waits, return_exceptions=True)
