"""Reading a sharded stream to its end, exactly once: what every source of shards does alike.

Source: firehose.md section 16, data-streams.md sections 3 and 6. A shard is read from the cursor that is durable in the
buffer, in the same frame as the last records that came from it. Parents are read to their end before their children,
so that the records of one partition key stay in order. Where reading begins is an instant that is made durable before
the first record is read: every shard that has no cursor yet begins there, whenever it is found.

A source partition is `<stream>` for that instant and `<stream>/<shard>` for a shard's cursor. Cursors begin with `1:`,
their format; behind it stands what the upstream gave, or `end` once the shard has been read to its end.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Collection, Coroutine, Iterable, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any, Protocol

import pyarrow as pa

from firehose import observe
from firehose.contracts import Appender, Unavailable
from firehose.ingest.sources.site import SourceSite
from firehose.model import INTAKE_SCHEMA, NewerFormat, Origin, Records
from firehose.rows import values_bytes

FORMAT = "1:"
END = "end"
RETRY_SECONDS, RETRY_LIMIT_SECONDS = 1.0, 30.0
PAGES = 16  # of one source in memory at a time, from before they are read until they are stored
LISTING_SECONDS = 30.0  # new shards are found when a parent ends; this finds whatever that misses
NO_RECORDS = pa.RecordBatch.from_pylist([], schema=pa.schema([INTAKE_SCHEMA.field("record")]))


class Trouble(Exception):
    """The far side does not let us read now; it is tried again. `hint` says what may mend it."""

    def __init__(self, reason: str, hint: str = "") -> None:
        super().__init__(reason)
        self.hint = hint


class Missing(Trouble):
    """The far side has no such thing."""


@dataclass(frozen=True, slots=True)
class Found:
    """A shard as the far side lists it. `start` and `end` are its hash keys, both inclusive."""

    id: str
    parents: tuple[str, ...]
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Listing:
    """The stream as it is now. `stream` names it for all time: one deleted and created again is another."""

    stream: str
    shards: tuple[Found, ...]


@dataclass(frozen=True, slots=True)
class Page:
    """Records of `INTAKE_SCHEMA` as they follow each other in a shard, and the cursor just behind them."""

    records: Records
    cursor: str
    ended: bool = False  # nothing will ever follow
    behind_ms: int = 0  # how far the reading lags; 0 at the tip
    expired: int = 0  # records, at least, that went away unread before these


class Upstream(Protocol):
    """The far side. What it raises beside `Trouble` is a bug."""

    async def listing(self) -> Listing: ...

    def pages(self, stream: str, shard: Found, cursor: str | None, since_ms: int) -> AsyncGenerator[Page, None]:
        """What follows the cursor, or where that is None, what arrived since. Waits for more at the tip; ends behind
        the page that ended, when it is closed, or when it wants to be begun anew. Raises `Trouble`, also where the
        stream of that name is another by now; `Missing` where the shard is gone. The caller is done with a page when
        it asks for the next: of no more than `PAGES` that is not so.
        """
        ...

    async def close(self) -> None: ...


@dataclass(slots=True)
class Progress:
    """What people and metrics are told of a source. `now` is monotonic, in seconds."""

    now: Callable[[], float]
    records: int = 0
    size_bytes: int = 0
    expired: int = 0
    behind_ms: dict[str, int] = field(default_factory=dict)  # by shard that is being read
    held_since: dict[str, float] = field(default_factory=dict)  # by shard that cannot be read on: when that began
    trouble: dict[str, str] = field(default_factory=dict)  # by shard, or '' for the stream

    @property
    def lag_seconds(self) -> float:
        """Of the shard that lags most. It grows while nothing can be read, or nothing stored."""
        now = self.now()
        shards = self.behind_ms.keys() | self.held_since.keys()
        return max(
            (self.behind_ms.get(one, 0) / 1000 + now - self.held_since.get(one, now) for one in shards), default=0
        )

    def held(self, shard: str) -> None:
        self.held_since.setdefault(shard, self.now())

    def forget(self, shard: str) -> None:
        self.behind_ms.pop(shard, None)
        self.held_since.pop(shard, None)
        self.trouble.pop(shard, None)

    def took(self, page: Page) -> None:
        self.records += page.records.num_rows
        self.size_bytes += values_bytes(page.records.column(0))
        self.expired += page.expired


class ShardedSource:
    """A `Source` over an upstream of shards. `begin_ms` is where reading begins if it never has."""

    def __init__(self, upstream: Upstream, begin_ms: int, site: SourceSite) -> None:
        self.progress = Progress(site.runtime.monotonic)
        self._upstream = upstream
        self._begin_ms = begin_ms
        self._stream = site.stream  # the delivery stream, for people
        self._ids: frozenset[str] = frozenset()  # of the shards that were listed last
        self._look = asyncio.Event()  # somebody wants to know what is there now
        self._looked = asyncio.Event()  # that was seen, by the next look to begin

    async def run(self, into: Appender) -> None:
        """Reads until it is cancelled; then it ends when what it has appended is settled."""
        readers: dict[str, asyncio.Task[None]] = {}
        stream = ""
        try:
            async with asyncio.TaskGroup() as group:
                while True:
                    self._look.clear()
                    looked, self._looked = self._looked, asyncio.Event()
                    listing = await self._listed()
                    if listing.stream != stream:  # deleted, and created again under the same name
                        self._leave(readers)
                        stream = listing.stream
                    since_ms = await self._begun(into, listing.stream)
                    for shard in ready(listing, into.origins(), readers):
                        readers[shard.id] = group.create_task(self._read(into, listing.stream, shard, since_ms))
                    self._ids = frozenset(shard.id for shard in listing.shards)
                    looked.set()
                    await self._until_looked_again(LISTING_SECONDS if listing.shards else RETRY_SECONDS)
        finally:
            await self._upstream.close()

    def _leave(self, readers: dict[str, asyncio.Task[None]]) -> None:
        for shard, reader in readers.items():
            reader.cancel()
            self.progress.forget(shard)
        readers.clear()

    async def _listed(self) -> Listing:
        wait = RETRY_SECONDS
        while True:
            try:
                listing = await self._upstream.listing()
            except Trouble as trouble:
                self._tell("", trouble)
                await asyncio.sleep(wait)
                wait = min(2 * wait, RETRY_LIMIT_SECONDS)
            else:
                self.progress.trouble.pop("", None)
                return listing

    async def _until_looked_again(self, seconds: float) -> None:
        """Until somebody asks, or that long: a stream without shards is being created."""
        try:
            async with asyncio.timeout(seconds):
                await self._look.wait()
        except TimeoutError:
            pass

    async def _begun(self, into: Appender, stream: str) -> int:
        """The instant that reading began at, durable."""
        known = into.origins().get(stream)
        if known is None:
            # A stream of that name was read before: this one was created in its place, and all of it is new.
            name = stream.partition("#")[0] + "#"
            again = any(partition.startswith(name) for partition in into.origins())
            known = Origin(stream, f"{FORMAT}{0 if again else self._begin_ms}")
            await store(into, NO_RECORDS, known)
        return int(_said(known))

    async def _read(self, into: Appender, stream: str, shard: Found, since_ms: int) -> None:
        """Reads one shard to its end."""
        partition, wait = f"{stream}/{shard.id}", RETRY_SECONDS
        while True:
            known, missing = into.origins().get(partition), False
            try:
                cursor = _said(known) if known else None
                async with aclosing(self._upstream.pages(stream, shard, cursor, since_ms)) as pages:
                    async for page in pages:
                        await self._take(into, partition, shard.id, page)
                        wait = RETRY_SECONDS
                        if page.ended:
                            self._look.set()
                            return
            except Trouble as trouble:
                self._tell(shard.id, trouble)
                missing = isinstance(trouble, Missing)
            await asyncio.sleep(wait)
            wait = min(2 * wait, RETRY_LIMIT_SECONDS)
            await self._looked_again()
            if missing and shard.id not in self._ids:
                await self._take(into, partition, shard.id, self._vanished(shard.id))
                self._look.set()
                return

    async def _looked_again(self) -> None:
        """What is there now is known. A reader of a stream that is there no more does not come out of this: nothing of
        the one in its place is taken for it.
        """
        looked = self._looked
        self._look.set()
        await looked.wait()

    def _vanished(self, shard: str) -> Page:
        """The end of a shard that expired before its end was read."""
        return Page(NO_RECORDS, "", ended=True, expired=int(self.progress.behind_ms.get(shard, 1) > 0))

    async def _take(self, into: Appender, partition: str, shard: str, page: Page) -> None:
        self.progress.trouble.pop(shard, None)
        self.progress.held_since.pop(shard, None)
        self.progress.behind_ms[shard] = page.behind_ms
        self.progress.held(shard)
        if page.expired:
            observe.log.error("source.expired", stream=self._stream, shard=shard, at_least=page.expired)
        if page.records.num_rows or page.ended:
            await store(into, page.records, Origin(partition, FORMAT + (END if page.ended else page.cursor)))
        self.progress.held_since.pop(shard, None)
        if page.ended:
            self.progress.forget(shard)
        self.progress.took(page)

    def _tell(self, shard: str, trouble: Trouble) -> None:
        """Once for each trouble, not for each try."""
        if shard:
            self.progress.held(shard)
        if self.progress.trouble.get(shard) != str(trouble):
            observe.log.warning(
                "source.trouble", stream=self._stream, shard=shard, reason=str(trouble), hint=trouble.hint
            )
        self.progress.trouble[shard] = str(trouble)


async def store(into: Appender, records: Records, origin: Origin) -> None:
    """Appends until it is durable, and not twice: the origin says what became of an append that failed midway."""
    while True:
        try:
            await _settled(into.append(records, origin))
        except Unavailable as unavailable:
            await asyncio.sleep(unavailable.after_seconds)
            if into.origins().get(origin.partition) == origin:
                return
        else:
            return


async def _settled(append: Coroutine[Any, Any, object]) -> None:
    """Cancelled, it ends when the append has, all the same: whoever reads on next must find the origin that it left."""
    task = asyncio.ensure_future(append)
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait([task])
        if not task.cancelled():
            task.exception()  # nobody is left to hear of it
        raise


def ready(listing: Listing, origins: Mapping[str, Origin], begun: Collection[str]) -> Iterable[Found]:
    """Shards that can be read now and are not: those whose parents, as far as they are still listed, have ended."""
    listed = {shard.id for shard in listing.shards}
    ended = {one for one in listed if (known := origins.get(f"{listing.stream}/{one}")) and _said(known) == END}
    return [
        shard
        for shard in listing.shards
        if shard.id not in ended and shard.id not in begun and listed.intersection(shard.parents) <= ended
    ]


def _said(known: Origin) -> str:
    """What stands behind a cursor's format. Raises `NewerFormat`."""
    if not known.cursor.startswith(FORMAT):
        raise NewerFormat("a source's cursor", int(known.cursor.partition(":")[0]), 1)
    return known.cursor.removeprefix(FORMAT)
