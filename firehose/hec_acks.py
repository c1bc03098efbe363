"""Requests that Splunk has taken and not yet indexed: how it is asked about them, and what a memo holds of them.

A process that takes over asks for what its predecessor sent instead of sending it again, and what was not acknowledged
in time is asked for once more before it is repeated. Notes are bounded: what goes beyond is sent again, no more.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice

import msgspec

from firehose.contracts import Memo, Retry
from firehose.hec import Cookies
from firehose.hec_channel import Channel, Collector
from firehose.model import ROW_SCHEMA
from firehose.parcels import Arrived, Parcel

NOTES = 1024  # of a segment
FORMER = 16  # requests of former attempts that are asked about, the newest ones

_NO_ROWS = ROW_SCHEMA.empty_table()


@dataclass(frozen=True, slots=True)
class Open:
    """A request that waits for acknowledgement until then, on the monotonic clock."""

    channel: Channel
    number: int
    parcel: Parcel  # without the records themselves
    until: float

    @staticmethod
    def of(channel: Channel, number: int, parcel: Parcel, until: float) -> Open:
        rows = parcel.rows.select(["row"])
        return Open(channel, number, replace(parcel, rows=rows), until)

    async def indexed(self) -> bool | Retry:
        try:
            return await self.channel.indexed(self.number)
        except Retry as failure:
            return failure


async def asked(requests: Sequence[Open]) -> list[tuple[Open, bool | Retry]]:
    """Whether each of them is indexed by now; a question that fails may be asked again."""
    return list(zip(requests, await asyncio.gather(*(one.indexed() for one in requests)), strict=True))


class Note(msgspec.Struct, frozen=True):
    """What a memo holds of a request that was sent."""

    sent: tuple[int, int]  # its rows, counted from the batch's beginning
    of: str  # the batch's partition
    channel: str
    number: int
    until_ms: int  # on the wall clock
    cookies: dict[str, str]


def note(memo: Memo, arrived: Arrived, request: Open, until_ms: int) -> None:
    """Raises `Retry`."""
    parcel, channel = request.parcel, request.channel
    if arrived.worth_a_note(parcel.first, parcel.end) and len(memo.read()) < NOTES:
        rows = (parcel.first, parcel.end)
        one = Note(rows, parcel.partition, channel.id, request.number, until_ms, channel.cookies.held)
        memo.write(msgspec.json.encode(one).decode())


def former(arrived: Arrived, collector: Collector, now: float, now_ms: int, limit_seconds: float) -> list[Open]:
    """What former attempts sent of this batch and never heard of again. However the wall clock jumped, none of it is
    waited for longer than the limit.
    """

    def opened(one: Note) -> Open:
        left = min(max(0.0, (one.until_ms - now_ms) / 1000), limit_seconds)
        parcel = Parcel(arrived.batch.segment, one.of, *one.sent, _NO_ROWS)
        return Open(Channel(collector, one.channel, Cookies(dict(one.cookies))), one.number, parcel, now + left)

    return [opened(one) for one in islice(_sent(arrived), FORMER)]


def _sent(arrived: Arrived) -> Iterator[Note]:
    """The newest first."""
    for text in reversed(arrived.memo.read()):
        if "sent" in json.loads(text):
            one = msgspec.json.decode(text, type=Note)
            if one.of == arrived.batch.partition and not arrived.covers(*one.sent):
                yield one
