"""One data stream that exists: its definition, its shards' logs, and the changes that it goes through.

Every change is a new definition, durable before anybody is told of it, in one of two ways. With `transition_seconds`
the stream is first in an intermediate state (CREATING, UPDATING, DELETING) with what is to come of it kept beside, and
`settled` later, or at the next start; without, it is settled at once and that state is never seen.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_right
from collections.abc import AsyncIterator, Callable, Container, Coroutine, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from firehose import observe
from firehose.contracts import Full
from firehose.datastream import lineage
from firehose.datastream.contracts import KeptLog
from firehose.datastream.definitions import Definitions, Kept
from firehose.datastream.gate import Gate
from firehose.datastream.model import Definition, Placed, Shard, bytes_of
from firehose.model import Records
from firehose.runtime import Runtime, Threads

HOUR_MS = 3_600_000
ROW_BYTES = 8  # that a record takes on disk beside itself and its key
RETRY_SECONDS = 1.0  # after a disk that failed in the middle of a transition
Change = Callable[[Kept], Kept]
OpenLog = Callable[[str, Shard], KeptLog]  # a stream's folder, and a shard of it


@dataclass(frozen=True, slots=True)
class Site:
    """What all streams of a service share."""

    definitions: Definitions
    runtime: Runtime
    threads: Threads
    open_log: OpenLog
    transition_seconds: float
    gone: Callable[[str], None]


class Gone(Exception):
    """The stream was deleted meanwhile."""


class LiveStream:
    """`limit_bytes` bounds what is stored of it."""

    def __init__(self, site: Site, kept: Kept, limit_bytes: int) -> None:
        self.limit_bytes = limit_bytes
        self.gone = False
        self._site = site
        self._kept = kept
        self._gates: dict[int, Gate] = {}
        self._open: list[Shard] = []  # by start
        self._starts: list[int] = []
        self._room_bytes = 0
        self._gone_records = 0  # taken by shards that were forgotten
        self._gone_bytes = 0
        self._changing = asyncio.Lock()
        self._changed = asyncio.Event()
        self._timer: asyncio.TimerHandle | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    # What readers and writers see.

    @property
    def definition(self) -> Definition:
        return self._kept.definition

    def shard_for(self, hash_key: int) -> Shard:
        if not self._open:
            raise LookupError(hash_key)
        return self._open[bisect_right(self._starts, hash_key) - 1]

    def log(self, shard: int) -> KeptLog:
        return self._gates[shard].log

    async def append(self, shard: int, records: Records) -> Placed:
        gate, size_bytes = self._gates[shard], bytes_of(records)
        needed_bytes = size_bytes + records.num_rows * ROW_BYTES
        if needed_bytes > self._room_bytes:
            self._room_bytes = self.limit_bytes - self.stored_bytes
            if needed_bytes > self._room_bytes:
                raise Full(f"the data stream '{self.definition.name}' is at its limit_gib", 5.0)
        self._room_bytes -= needed_bytes
        return await gate.append(records, size_bytes)

    def horizon_ms(self) -> int:
        return max(self._site.runtime.now_ms() - self.definition.retention_hours * HOUR_MS, self._kept.trimmed_ms)

    async def changed(self, seen: Definition) -> None:
        while self.definition is seen and not self.gone:
            await self._changed.wait()

    @property
    def shards_to_come(self) -> int:
        """How many shards it has open once nothing is under way."""
        steps = sum(len(step.starts) - len(step.parents) for step in self._kept.steps)
        return len(self._open) + steps

    @property
    def stored_bytes(self) -> int:
        return sum(gate.log.stored_bytes for gate in self._gates.values())

    @property
    def incoming_records(self) -> int:
        """Records taken since the process began."""
        return self._gone_records + sum(gate.records for gate in self._gates.values())

    @property
    def incoming_bytes(self) -> int:
        return self._gone_bytes + sum(gate.size_bytes for gate in self._gates.values())

    @property
    def gates(self) -> dict[int, Gate]:
        """The ways into its shards, by number."""
        return self._gates

    # How it changes.

    async def begin(self) -> None:
        """Opens the logs of a stream that was found so at a start, and completes what was under way."""
        async with self._changing:
            self._open_logs(self.definition.shards)
            self._route()
            await self._close_logs()
        await self.settle()

    async def create(self) -> None:
        """Makes a new stream durable. Raises OSError."""
        async with self._changing:
            await self._follow(self._kept)

    async def change(self, change: Change) -> None:
        """Makes `change` of what is kept, which may refuse by raising. Raises OSError, too; then all is as before; and
        `Gone`. It goes on where its caller gives up: what is durable and what is told are one.
        """
        await asyncio.shield(self._begun(self._changed_by(change)))

    async def settle(self) -> None:
        """Completes now what is under way. Raises OSError."""
        async with self._changing:
            if under_way(self._kept) and not self.gone:
                await self._settle(self._kept)

    async def sweep(self) -> None:
        """Frees what has expired, and forgets closed shards of which nothing is left. Raises OSError."""
        horizon_ms = self.horizon_ms()
        for gate in list(self._gates.values()):
            await gate.log.expire(horizon_ms)
        self._room_bytes = 0
        expired = [shard.number for shard in self.definition.shards if self._is_expired(shard, horizon_ms)]
        if expired:
            await self._forget(expired)

    async def close(self) -> None:
        """Takes nothing more; a transition under way is left to the next start."""
        if self._timer is not None:
            self._timer.cancel()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        async with self._changing:
            await asyncio.gather(*(gate.log.close() for gate in self._gates.values()))

    async def _changed_by(self, change: Change) -> None:
        async with self._changing:
            if self.gone:
                raise Gone(self.definition.name)
            kept = change(self._kept)
            if kept != self._kept:
                await self._follow(kept)

    async def _follow(self, kept: Kept) -> None:
        later = self._site.transition_seconds
        if not under_way(kept):
            await self._put(kept)
        elif later or kept.definition.status == "DELETING":
            await self._put(kept)
            self._settle_after(later)
        else:
            await self._settle(kept)

    def _settle_after(self, seconds: float) -> None:
        if self._timer is None:
            self._timer = self._site.runtime.after(seconds, self._settle_now)

    def _settle_now(self) -> None:
        self._timer = None
        self._begun(self._settle_kept())

    def _begun(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _settle_kept(self) -> None:
        try:
            await self.settle()
        except OSError as error:
            observe.disk_failed(f"data stream {self.definition.name}: {error}")
            self._settle_after(RETRY_SECONDS)

    async def _settle(self, kept: Kept) -> None:
        """Brings `kept` to its end. Raises OSError; then all is as before, or is when it is tried again."""
        if kept.definition.status == "DELETING":
            await self._delete()
            return
        async with self._held(lineage.touched(kept.steps)):
            await self._put(settled(kept, self._site.runtime.now_ms()))
        await self._close_logs()

    @asynccontextmanager
    async def _held(self, shards: Iterable[int]) -> AsyncIterator[None]:
        """Appends to these shards wait meanwhile, and none is under way."""
        gates = [self._gates[shard] for shard in shards if shard in self._gates]
        try:
            for gate in gates:
                await gate.hold()
            yield
        finally:
            for gate in gates:
                gate.release()

    async def _put(self, kept: Kept) -> None:
        """Makes `kept` durable, then the stream what it says."""
        self._open_logs(kept.definition.shards)
        await self._site.threads.run(partial(self._site.definitions.write, kept))
        self._kept = kept
        self._route()
        self._tell()

    def _open_logs(self, shards: Iterable[Shard]) -> None:
        folder = self._site.definitions.folder(self.definition.id)
        for shard in shards:
            if shard.number not in self._gates:
                self._gates[shard.number] = Gate(self._site.open_log(folder, shard))

    def _route(self) -> None:
        self._open = sorted((shard for shard in self.definition.shards if shard.open), key=lambda shard: shard.start)
        self._starts = [shard.start for shard in self._open]
        for shard in self.definition.shards:
            self._gates[shard.number].closed = not shard.open

    def _tell(self) -> None:
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    async def _close_logs(self) -> None:
        """Behind the definition that closes the shards: until that is durable they may still take records."""
        await asyncio.gather(*(gate.log.close() for gate in self._gates.values() if gate.closed))

    async def _delete(self) -> None:
        """Of a stream that is durably DELETING: a later start goes on, if need be. Readers keep what they have."""
        async with self._held(self._gates):
            for gate in self._gates.values():
                gate.closed = True
            await self._close_logs()
        for gate in self._gates.values():
            await gate.log.delete()
        await self._site.threads.run(partial(self._site.definitions.remove, self.definition.id))
        self.gone = True
        self._open, self._starts = [], []
        self._gates.clear()
        self._site.gone(self.definition.name)
        self._tell()

    async def _forget(self, shards: list[int]) -> None:
        """The logs first: a shard whose log is missing has no records, one that nobody knows would never be freed."""
        for shard in shards:
            await self._gates[shard].log.delete()
        await self.change(partial(without_shards, shards))
        for gate in [self._gates.pop(shard) for shard in shards if shard in self._gates]:
            self._gone_records += gate.records
            self._gone_bytes += gate.size_bytes

    def _is_expired(self, shard: Shard, horizon_ms: int) -> bool:
        log = self._gates[shard.number].log
        return shard.closed_ms is not None and shard.closed_ms <= horizon_ms and log.oldest() == log.tip


def without_shards(numbers: Container[int], kept: Kept) -> Kept:
    left = tuple(shard for shard in kept.definition.shards if shard.number not in numbers)
    return replace(kept, definition=replace(kept.definition, shards=left))


def under_way(kept: Kept) -> bool:
    """Whether something is to come of it that is not there yet."""
    consumers = any(consumer.status != "ACTIVE" for consumer in kept.definition.consumers)
    return kept.definition.status != "ACTIVE" or consumers


def settled(kept: Kept, now_ms: int) -> Kept:
    """What becomes of it: shards are as the steps have them, and all is ACTIVE or gone."""
    now = lineage.taken(kept.definition, kept.steps, now_ms)
    consumers = (replace(one, status="ACTIVE") for one in now.consumers if one.status != "DELETING")
    return Kept(replace(now, status="ACTIVE", consumers=tuple(consumers)), (), kept.trimmed_ms)
