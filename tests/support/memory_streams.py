"""Data streams without a disk: the laws of `DataStreams`, `DataStream` and `ShardLog`, minus every durability.

What a test wants to happen to a stream (a split, a merge, expiry, deletion) it says to the stream itself; everything
takes effect at once. Time is that of the runtime.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_left
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pyarrow as pa

from firehose.datastream import sequence
from firehose.datastream.contracts import Moved
from firehose.datastream.model import SHARD_SCHEMA, Consumer, Definition, Placed, Run, Shard
from firehose.model import Records
from firehose.rows import pieces
from firehose.runtime import Runtime

GENERATION = 1 << 40  # counters of one life of a shard's writer
HOUR_MS = 3_600_000


class Wakening:
    """Wakes all who wait for the next time that something is another than it was."""

    def __init__(self) -> None:
        self._waiting: list[asyncio.Future[None]] = []

    async def wait_until(self, holds: Callable[[], bool]) -> None:
        while not holds():
            woken: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiting.append(woken)
            await woken

    def wake(self) -> None:
        waiting, self._waiting = self._waiting, []
        for woken in waiting:
            if not woken.done():
                woken.set_result(None)


class MemoryLog:
    """One shard's records. `failing` is raised by the next appends, until it is taken back."""

    def __init__(self, now_ms: Callable[[], int]) -> None:
        self.failing: Exception | None = None
        self.closed = False
        self._now_ms = now_ms
        self._pieces: list[tuple[int, pa.RecordBatch]] = []
        self._arrivals: list[int] = []  # of each piece
        self._last_ms = 0
        self._next = GENERATION
        self._grown = Wakening()

    async def append(self, records: Records) -> Placed:
        if self.failing is not None:
            raise self.failing
        assert not self.closed, "a closed log takes nothing"
        assert records.num_rows > 0
        first, self._next = self._next, self._next + records.num_rows
        self._last_ms = max(self._last_ms, self._now_ms())
        self._pieces.append((first, _arrived(records, self._last_ms)))
        self._arrivals.append(self._last_ms)
        self._grown.wake()
        return Placed(first, self._last_ms)

    @property
    def tip(self) -> int:
        return self._next

    def oldest(self) -> int:
        return self._pieces[0][0] if self._pieces else self._next

    def since(self, ms: int) -> int:
        place = bisect_left(self._arrivals, ms)
        return self._pieces[place][0] if place < len(self._pieces) else self._next

    async def read(self, position: int, most_records: int, most_bytes: int) -> Run:
        found: list[tuple[int, pa.RecordBatch]] = []
        for first, piece in self._pieces:
            if first + piece.num_rows <= position:
                continue
            begin = max(0, position - first)
            fitting = _fitting(piece.slice(begin), most_records, most_bytes, at_least=0 if found else 1)
            if fitting:
                found.append((first + begin, piece.slice(begin, fitting)))
                most_records -= fitting
                most_bytes -= sum(_sizes(piece.slice(begin, fitting)))
            if fitting < piece.num_rows - begin:
                return Run(tuple(found), first + begin + fitting, piece.column("arrival_ms")[0].as_py())
        return Run(tuple(found), max(position, self._next))

    async def beyond(self, position: int) -> None:
        await self._grown.wait_until(lambda: self.closed or self._next > position)

    # What a test, or the stream, does to it.

    def close(self) -> None:
        self.closed = True
        self._grown.wake()

    def expire(self, before_ms: int) -> None:
        """Drops what arrived before."""
        kept = bisect_left(self._arrivals, before_ms)
        del self._pieces[:kept], self._arrivals[:kept]

    def restart(self) -> None:
        """As a new process goes on: above all counters there ever were, with a gap."""
        self._next = (self._next // GENERATION + 1) * GENERATION


class MemoryStream:
    """One stream. While `gate` is not set, appends wait, as they do in the middle of a split."""

    def __init__(self, definition: Definition, runtime: Runtime) -> None:
        self.gate = asyncio.Event()
        self.gate.set()
        self._definition = definition
        self._runtime = runtime
        self._gone = False
        self._logs = {shard.number: MemoryLog(runtime.now_ms) for shard in definition.shards}
        self._changes = Wakening()

    @property
    def definition(self) -> Definition:
        return self._definition

    def shard_for(self, hash_key: int) -> Shard:
        for shard in self._definition.shards:
            if shard.open and shard.start <= hash_key <= shard.end:
                return shard
        raise LookupError(hash_key)

    def log(self, shard: int) -> MemoryLog:
        return self._logs[shard]

    async def append(self, shard: int, records: Records) -> Placed:
        await self.gate.wait()
        log = self._logs[shard]
        if log.closed:
            raise Moved
        return await log.append(records)

    def horizon_ms(self) -> int:
        return self._runtime.now_ms() - self._definition.retention_hours * HOUR_MS

    async def changed(self, seen: Definition) -> None:
        await self._changes.wait_until(lambda: self._gone or self._definition is not seen)

    # What a test does to it.

    def change(self, **members: Any) -> None:
        self._definition = replace(self._definition, **members)
        self._changes.wake()

    def split(self, number: int, at: int | None = None) -> tuple[Shard, Shard]:
        shard = self._shard(number)
        at = (shard.start + shard.end + 1) // 2 if at is None else at
        first, second = self._replaced((number,), [(shard.start, at - 1), (at, shard.end)])
        return first, second

    def merge(self, number: int, neighbour: int) -> Shard:
        ends = sorted((self._shard(one).start, self._shard(one).end) for one in (number, neighbour))
        return self._replaced((number, neighbour), [(ends[0][0], ends[1][1])])[0]

    def forget(self, number: int) -> None:
        """A closed shard whose records have all expired."""
        self._logs.pop(number).close()
        self.change(shards=tuple(one for one in self._definition.shards if one.number != number))

    def expire(self) -> None:
        """What the retention no longer keeps."""
        for log in self._logs.values():
            log.expire(self.horizon_ms())

    def register(self, name: str, **members: Any) -> Consumer:
        consumer = Consumer(name, self._runtime.now_ms(), **{"status": "ACTIVE", **members})
        self.change(consumers=(*self._definition.consumers, consumer))
        return consumer

    def deregister(self, name: str) -> None:
        self.change(consumers=tuple(one for one in self._definition.consumers if one.name != name))

    def end(self) -> None:
        """It is deleted."""
        self._gone = True
        for log in self._logs.values():
            log.close()
        self._changes.wake()

    def _shard(self, number: int) -> Shard:
        return next(one for one in self._definition.shards if one.number == number)

    def _replaced(self, parents: tuple[int, ...], ranges: list[tuple[int, int]]) -> tuple[Shard, ...]:
        """Closes the parents, and opens a child for each range."""
        now = self._runtime.now_ms()
        created = max(now // 1000, *(self._shard(one).created_s for one in parents)) + 1
        first = self._definition.next_shard
        children = tuple(
            Shard(first + place, start, end, created, now, parents) for place, (start, end) in enumerate(ranges)
        )
        for parent in parents:
            self._logs[parent].close()
        self._logs.update({child.number: MemoryLog(self._runtime.now_ms) for child in children})
        closed = (replace(one, closed_ms=now) if one.number in parents else one for one in self._definition.shards)
        self.change(shards=(*closed, *children), next_shard=first + len(ranges))
        return children


class MemoryStreams:
    """Which streams exist."""

    def __init__(self, runtime: Runtime) -> None:
        self.named: dict[str, MemoryStream] = {}
        self._runtime = runtime
        self._made = 0

    def create(self, name: str, shards: int = 1, **members: Any) -> MemoryStream:
        now = self._runtime.now_ms()
        ranges = sequence.even_ranges(shards)
        made = tuple(Shard(number, start, end, now // 1000, now) for number, (start, end) in enumerate(ranges))
        self._made += 1
        said = {"status": "ACTIVE", "mode": "PROVISIONED", "shards": made, "next_shard": shards, **members}
        self.named[name] = MemoryStream(Definition(name, f"{name}-{self._made}", now, **said), self._runtime)
        return self.named[name]

    def delete(self, name: str) -> None:
        self.named.pop(name).end()


def _arrived(records: Records, ms: int) -> pa.RecordBatch:
    """The same records in the log's own columns."""
    records = pa.concat_batches(pieces(records))
    columns = [records.column("record"), pa.repeat(pa.scalar(ms, pa.int64()), records.num_rows), records.column("meta")]
    return pa.RecordBatch.from_arrays(columns, schema=SHARD_SCHEMA)


def _fitting(records: pa.RecordBatch, most_records: int, most_bytes: int, at_least: int) -> int:
    """How many of the first records are within both bounds, in a run that needs so many more."""
    taken = 0
    for size in _sizes(records):
        most_bytes -= size
        if taken >= at_least and (taken >= most_records or most_bytes < 0):
            return taken
        taken += 1
    return taken


def _sizes(records: pa.RecordBatch) -> list[int]:
    """Bytes of each record and its partition key."""
    rows = zip(records.column("record").to_pylist(), records.column("meta").to_pylist(), strict=True)
    return [len(data) + len((key or "").encode()) for data, key in rows]
