"""Splunk, by its HTTP Event Collector, with indexer acknowledgement: firehose.md section 12.5.

A batch goes as one request or several, cut at places that follow from the rows alone. A request has arrived only when
Splunk says that it is indexed; which ones have is noted, so that a repeat sends the others alone. Splunk knows no ids:
what it stored without saying so in time is stored twice, there and in AWS's own service. It must never take for
arrived what was not acknowledged, nor tell the token.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Annotated, ClassVar, Literal
from uuid import UUID, uuid5

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field, SecretStr, field_validator

from firehose import hec
from firehose.blocks import MIB
from firehose.contracts import Memo, Retry
from firehose.formats import contents
from firehose.hec_acks import Open, asked, former, note
from firehose.hec_channel import Channel, Collector, NotTaken
from firehose.hidden import Hidden
from firehose.model import Batch, Receipt, Rejections
from firehose.parcels import Arrived, Bounds, Parcel, Sizes, parcels
from firehose.posting import Posting, PostingOptions, Url, shown
from firehose.registry import Site
from firehose.stream_config import DestinationBlock

NAMESPACE = UUID("3a5e7a52-6f0b-5b0c-8d6e-0f0f3c1d9b7e")
REQUEST_RECORDS = 100_000
OPEN_REQUESTS = 16  # of one batch: sent, and not yet acknowledged
HALVINGS = 64  # in one attempt, to find the records that Splunk does not take; from then on larger pieces are refused
NO_EVENT = "the record is not one HEC event or several, JSON objects with an event that is not blank"


class SplunkOptions(DestinationBlock, PostingOptions):
    """`type: splunk`."""

    LETTERS: ClassVar[bool] = False
    RETRY_SECONDS: ClassVar[float | None] = 300
    INTERVAL_SECONDS: ClassVar[float] = 60

    type: Literal["splunk"] = "splunk"
    hec_endpoint: Url
    hec_endpoint_type: Literal["raw", "event"] = "raw"
    hec_token: Annotated[SecretStr, Field(min_length=1, max_length=2048)]
    request_mib: Annotated[float, Field(gt=0, le=64)] = 5
    ack_timeout_seconds: Annotated[float, Field(ge=180, le=600)] = 180
    ack_poll_seconds: Annotated[float, Field(ge=0.1, le=60)] = 2

    @field_validator("hec_token")
    @classmethod
    def _sendable(cls, given: SecretStr) -> SecretStr:
        token = given.get_secret_value()
        if not (token.isascii() and token.isprintable()) or " " in token:
            raise ValueError("goes into a header: give the token alone, in printable ASCII")
        return given

    @field_validator("hec_endpoint")
    @classmethod
    def _without_path(cls, given: str) -> str:
        if "?" in given or hec.COLLECTOR in given:
            raise ValueError(f"ends before {hec.COLLECTOR}, as in https://splunk.example:8088")
        return given.rstrip("/")

    def place(self) -> tuple[str, ...]:
        return (self.type, shown(self.hec_endpoint))


@dataclass(frozen=True, slots=True)
class Load:
    """A piece of the batch, made ready: the rows that can be sent, those that never will be, and the request's body."""

    piece: Parcel
    parcel: Parcel
    wrong: Rejections
    body: bytes

    @property
    def divisible(self) -> bool:
        return self.piece.end - self.piece.first > 1


@dataclass(slots=True)
class Attempt:
    """What one delivery of a batch has come to so far."""

    arrived: Arrived
    open: list[Open] = field(default_factory=list)
    refused: Rejections = field(default_factory=Rejections)
    ids: list[str] = field(default_factory=list)
    sent_bytes: int = 0
    waited_seconds: float = 0.0
    halvings: int = 0
    failure: Retry | None = None

    def fail(self, failure: Retry) -> None:
        """Nothing more is sent; the first failure is the one that is told."""
        self.failure = self.failure or failure


class Splunk:
    """Delivers to an HTTP Event Collector."""

    Options: ClassVar[type[DestinationBlock]] = SplunkOptions
    error_type: ClassVar[str] = "splunk-failed"

    def __init__(self, options: SplunkOptions, site: Site) -> None:
        self._options = options
        self._runtime = site.runtime
        self._threads = site.threads
        self._posting = Posting(options)
        token = options.hec_token.get_secret_value()
        self._collector = Collector(self._posting, options.hec_endpoint, token, Hidden(options))
        self._events = options.hec_endpoint_type == "event"
        self._bounds = Bounds(REQUEST_RECORDS, int(options.request_mib * MIB), _sizes)
        self._life = uuid5(NAMESPACE, f"{site.stream}\n{site.destination}\n{site.runtime.request_id()}")
        self._made = 0
        self._idle: list[Channel] = []
        self._acknowledges = False  # as far as is known
        self._too_large_bytes = float("inf")

    async def check(self) -> None:
        channel = self._new_channel()
        await channel.probe_health()
        await channel.probe_token()
        await channel.probe_acks()

    async def deliver(self, batch: Batch, memo: Memo) -> Receipt:
        attempt = Attempt(await self._threads.run(partial(Arrived, memo, batch)))
        try:
            await self._ask_for_former(attempt)
            await self._send(attempt)
        except Retry as of_the_memo:
            attempt.fail(of_the_memo)
        if attempt.failure is None:
            return Receipt(tuple(attempt.ids), attempt.sent_bytes, attempt.refused)
        for request in attempt.open:
            attempt.arrived.leave(request.parcel.rows)
        failure, done = attempt.failure, attempt.arrived.done_rows()
        raise Retry(failure.reason, failure.after_seconds, done, failure.code, attempt.waited_seconds) from failure

    async def close(self) -> None:
        await self._posting.close()

    async def _send(self, attempt: Attempt) -> None:
        """All of the batch that has not arrived; acknowledgements are waited for when an attempt has failed, too."""
        sending = parcels(attempt.arrived.batch, self._bounds)
        while (parcel := await self._threads.run(partial(next, sending, None))) is not None:
            for piece in list(attempt.arrived.pieces(parcel)):
                await self._one(piece, attempt)
        while attempt.open:
            await self._wait(attempt)

    async def _one(self, piece: Parcel, attempt: Attempt) -> None:
        """One request, unless it has arrived before, or there is nothing to send."""
        arrived = attempt.arrived
        has = arrived.has(piece)
        load = await self._threads.run(partial(self._load, piece, has))
        arrived.leave(load.wrong.table)
        if not load.body:
            attempt.refused += load.wrong
            attempt.ids += [piece.id] if has else []
            arrived.add(load.parcel)
        elif load.divisible and len(load.body) >= self._too_large_bytes:
            await self._halves(piece, attempt)
        else:
            await self._request(load, attempt)

    async def _request(self, load: Load, attempt: Attempt) -> None:
        while len(attempt.open) >= OPEN_REQUESTS:
            await self._wait(attempt)
        if attempt.failure is not None:
            attempt.arrived.leave(load.parcel.rows)
            return
        channel = self._idle.pop() if self._idle else self._new_channel()
        try:
            await self._know_that_it_acknowledges(channel)
            number = await channel.send(hec.EVENT if self._events else hec.RAW, load.body, load.parcel.id)
        except NotTaken as told:
            await self._not_taken(load, told, attempt)
        except Retry as failure:
            self._acknowledges = False
            attempt.arrived.leave(load.parcel.rows)
            attempt.fail(failure)
        else:
            attempt.refused += load.wrong
            attempt.ids.append(load.parcel.id)
            attempt.sent_bytes += len(load.body)
            await self._opened(channel, number, load.parcel, attempt)

    async def _opened(self, channel: Channel, number: int, parcel: Parcel, attempt: Attempt) -> None:
        seconds = self._options.ack_timeout_seconds
        request = Open.of(channel, number, parcel, self._runtime.monotonic() + seconds)
        attempt.open.append(request)
        until_ms = self._runtime.now_ms() + int(seconds * 1000)
        await self._threads.run(partial(note, attempt.arrived.memo, attempt.arrived, request, until_ms))

    async def _not_taken(self, load: Load, told: NotTaken, attempt: Attempt) -> None:
        """Where the records are to blame: by halves, until those are found that are."""
        blame = told.trouble.blame
        if blame == "size":
            self._too_large_bytes = min(self._too_large_bytes, len(load.body))
        attempt.halvings += blame == "records"
        if blame == "far":
            attempt.arrived.leave(load.parcel.rows)
            attempt.fail(told.failure)
        elif load.divisible and (blame == "size" or attempt.halvings <= HALVINGS):
            await self._halves(load.piece, attempt)
        else:
            reason, code = told.failure.reason, f"Splunk.{told.trouble.code}"
            bad = Rejections.of(load.parcel.rows, self.error_type, code, reason)
            attempt.refused += load.wrong + bad
            attempt.arrived.leave(load.parcel.rows)

    async def _halves(self, piece: Parcel, attempt: Attempt) -> None:
        for half in piece.cut([(piece.first + piece.end) // 2]):
            await self._one(half, attempt)

    async def _wait(self, attempt: Attempt) -> None:
        """Asks for everything open once more, in a while."""
        began = self._runtime.monotonic()
        await asyncio.sleep(self._options.ack_poll_seconds)
        asked_at = self._runtime.monotonic()
        told, settled = await asked(attempt.open), []
        attempt.open = []
        for request, indexed in told:
            if indexed is True:
                self._idle.append(request.channel)
                settled.append(request.parcel)
            elif request.until <= asked_at or _hopeless(indexed):
                attempt.arrived.leave(request.parcel.rows)
                attempt.fail(self._unacknowledged(indexed))
            else:
                attempt.open.append(request)
        await self._threads.run(partial(_arrived, settled, attempt.arrived))
        attempt.waited_seconds += self._runtime.monotonic() - began

    async def _ask_for_former(self, attempt: Attempt) -> None:
        """What an attempt before this one, or a process before this one, has sent may have arrived meanwhile."""
        began = self._runtime.monotonic()
        seconds = self._options.ack_timeout_seconds
        times = (began, self._runtime.now_ms(), seconds)
        requests = await self._threads.run(partial(former, attempt.arrived, self._collector, *times))
        while requests:
            asked_at = self._runtime.monotonic()
            told = await asked(requests)
            for request in [request for request, indexed in told if indexed is True]:
                await self._threads.run(partial(attempt.arrived.know, request.parcel.first, request.parcel.end))
            requests = [request for request, indexed in told if indexed is not True and request.until > asked_at]
            if requests:
                await asyncio.sleep(self._options.ack_poll_seconds)
        attempt.waited_seconds += self._runtime.monotonic() - began

    async def _know_that_it_acknowledges(self, channel: Channel) -> None:
        if not self._acknowledges:
            await channel.probe_acks()
            self._acknowledges = True

    def _new_channel(self) -> Channel:
        """Of this life of the destination alone: what a former one left open cannot be mistaken for ours."""
        self._made += 1
        return Channel(self._collector, str(uuid5(self._life, str(self._made))))

    def _load(self, piece: Parcel, arrived: bool) -> Load:
        rows, bad = piece.rows, Rejections()
        if self._events:
            wrong = hec.no_events_record_by_record(rows.column("record"))
            bad = Rejections.of(rows.filter(wrong), self.error_type, "Splunk.InvalidDataFormat", NO_EVENT)
            rows = rows.filter(pc.invert(wrong))
        parcel = replace(piece, rows=rows)
        body = b"" if arrived else b"".join(memoryview(contents(chunk)) for chunk in parcel.chunks())
        return Load(piece, parcel, bad, body)

    def _unacknowledged(self, told: bool | Retry) -> Retry:
        if isinstance(told, Retry) and _hopeless(told):
            return told
        after = f"no acknowledgement within {self._options.ack_timeout_seconds:g} seconds"
        more = f"; when last asked: {told.reason}" if isinstance(told, Retry) else ""
        strange = isinstance(told, Retry) and told.code == f"Splunk.{hec.OTHER_NODE.code}"
        return self._collector.retry(f"{after}{more}", hec.OTHER_NODE if strange else hec.ACK_TIMEOUT)


def _arrived(settled: list[Parcel], arrived: Arrived) -> None:
    for parcel in settled:
        arrived.add(parcel)
        arrived.note()


def _hopeless(told: bool | Retry) -> bool:
    """Where nothing will ever be acknowledged, waiting is no use."""
    return isinstance(told, Retry) and told.code == f"Splunk.{hec.NO_ACKS.code}"


def _sizes(records: pa.BinaryArray) -> Sizes:
    sizes: Sizes = pc.binary_length(records).to_numpy(zero_copy_only=False).astype(np.int64)
    return sizes
