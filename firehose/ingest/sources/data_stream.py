"""A data stream of this very service, read in its own process: no HTTP, nothing encoded, no limits.

A cursor is the position behind the last record. Records that expired before they were read, because the buffer was full
or the service stood still, are counted by the gap they leave.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from typing import Annotated, ClassVar, Literal

import pyarrow as pa
from pydantic import Field

from firehose.blocks import MIB
from firehose.datastream import sequence
from firehose.datastream.contracts import DataStream, ShardLog
from firehose.datastream.model import GENERATION_BITS, Definition, Run, Shard
from firehose.ingest.sources.rows import Rows
from firehose.ingest.sources.shards import NO_RECORDS, PAGES, Found, Listing, Missing, Page, ShardedSource, Trouble
from firehose.ingest.sources.site import SourceSite
from firehose.ingest.sources.start import Start, begin_ms
from firehose.stream_config import SourceBlock

PAGE_RECORDS, PAGE_BYTES = 10_000, 4 * MIB
PACE_SECONDS = 0.1  # how often a tip that moves is looked at; of all shards at once, so that one commit takes them


class DataStreamOptions(SourceBlock):
    """`type: data_stream`."""

    type: Literal["data_stream"] = "data_stream"
    stream: Annotated[str, Field(pattern=r"^[a-zA-Z0-9_.-]{1,128}$")]
    start: Start = "LATEST"


class DataStreamSource(ShardedSource):
    """Reads one of the service's own data streams."""

    Options: ClassVar[type[SourceBlock]] = DataStreamOptions

    def __init__(self, options: DataStreamOptions, site: SourceSite) -> None:
        super().__init__(OwnStream(options.stream, site), begin_ms(options.start, site.runtime), site)


class OwnStream:
    """An `Upstream` over what `DataStreams` knows."""

    def __init__(self, name: str, site: SourceSite) -> None:
        self._name = name
        self._site = site
        self._room = asyncio.Semaphore(PAGES)
        self._arn = f"arn:aws:kinesis:{site.region}:{site.account_id}:stream/{name}"

    async def listing(self) -> Listing:
        definition = self._stream().definition
        return Listing(self._lasting(definition), tuple(_found(one) for one in definition.shards))

    def _lasting(self, definition: Definition) -> str:
        return f"data_stream:{self._name}#{definition.id}"

    async def pages(self, name: str, shard: Found, cursor: str | None, since_ms: int) -> AsyncGenerator[Page, None]:
        stream = self._stream()
        if self._lasting(stream.definition) != name:
            raise Trouble(f"the data stream '{self._name}' was deleted, and created again")
        number = _number(shard)
        log = _log(stream, number)
        position = log.since(since_ms) if cursor is None else int(cursor)
        rows = Rows(shard, self._arn, self._site.placed)
        while True:
            if self._stream() is not stream:
                raise Trouble(f"the data stream '{self._name}' was deleted")
            seen = stream.definition
            known = _shard(seen, number)
            first = max(position, log.since(stream.horizon_ms()))
            async with self._room:
                run = await log.read(first, PAGE_RECORDS, PAGE_BYTES) if known else Run((), first)
                ended = not run.count and run.waiting_ms is None and (known is None or not known.open)
                if ended or (run.count and known):
                    into = rows.of_any_key() if seen.distribution == "AUTO" else rows
                    yield self._page(into, known, run, _gap(position, first), ended)
            if ended:
                return
            if not run.count:
                await _something_new(stream, log, run.next, seen)
            elif run.waiting_ms is None and known and known.open:
                await asyncio.sleep(PACE_SECONDS - self._site.runtime.monotonic() % PACE_SECONDS)
            position = run.next

    async def close(self) -> None:
        pass

    def _stream(self) -> DataStream:
        try:
            return self._site.data_streams.named[self._name]
        except KeyError:
            hint = f"declare it under data_streams, or create it: aws kinesis create-stream --stream-name {self._name}"
            raise Trouble(f"there is no data stream '{self._name}'", hint) from None

    def _page(self, rows: Rows, shard: Shard | None, run: Run, expired: int, ended: bool) -> Page:
        made = [rows.of(piece, _numbers(shard, counter, piece)) for counter, piece in run.pieces if shard]
        records = NO_RECORDS if not made else made[0] if len(made) == 1 else pa.Table.from_batches(made)
        behind = 0 if run.waiting_ms is None else max(0, self._site.runtime.now_ms() - run.waiting_ms)
        return Page(records, str(run.next), ended, behind, expired)


def _numbers(shard: Shard, counter: int, piece: pa.RecordBatch) -> Callable[[int], str]:
    """Says each row's sequence number."""
    arrivals = piece.column("arrival_ms")
    return lambda row: sequence.number(shard.base, counter + row, arrivals[row].as_py() // 1000)


def _gap(position: int, first: int) -> int:
    """How many records, at least, lay between the two: lanes that went whole are not counted."""
    same_lane = position >> GENERATION_BITS == first >> GENERATION_BITS
    return max(0, first - position) if same_lane else first & ((1 << GENERATION_BITS) - 1)


def _found(shard: Shard) -> Found:
    return Found(shard.id, tuple(sequence.shard_id(parent) for parent in shard.parents), shard.start, shard.end)


def _number(shard: Found) -> int:
    number = sequence.shard_number(shard.id)
    assert number is not None, "the listing made it of a number"
    return number


def _shard(definition: Definition, number: int) -> Shard | None:
    """None where it has expired and is forgotten."""
    return next((one for one in definition.shards if one.number == number), None)


def _log(stream: DataStream, number: int) -> ShardLog:
    try:
        return stream.log(number)
    except KeyError:
        raise Missing(f"shard {number} has expired") from None


async def _something_new(stream: DataStream, log: ShardLog, position: int, seen: Definition) -> None:
    """Waits for a record at the tip, or for the stream to change: a shard that is resharded or deleted is closed, and
    its stream another before that or soon.
    """
    await log.beyond(position)
    if log.tip <= position:
        await stream.changed(seen)
