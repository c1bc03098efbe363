"""What is put into a stream, gathered into one append a shard for each turn of the event loop.

An append has a price that is paid once, however many records it carries: by whoever writes it, and again by all who
read it. Where many producers put, their requests are read in bursts, and a burst is one append. A lone request waits
for nothing more to come.

Where each shard took what is for several as soon as it could, they would fall out of step: many small commits, and each
request answered with the last of its own. So a burst for several shards is a convoy. It waits until the one before has
a shard's part durable, and grows meanwhile, as long as it is small and the wait short.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass, field

import pyarrow as pa

from firehose.datastream.contracts import DataStream
from firehose.datastream.model import SHARD_SCHEMA, Placed
from firehose.model import Records

SINGLE_BYTES = 16 * 1024  # a larger record is no single one among others, but a batch of its own
CONVOY_BYTES = 16 * 1024 * 1024  # of requests: a larger one waits for no other
CONVOY_SECONDS = 0.05  # and none for longer
COLUMNS = pa.schema([SHARD_SCHEMA.field("record"), SHARD_SCHEMA.field("meta")])  # the log knows the arrival


@dataclass(slots=True)
class Burst:
    """Records of one shard in the order they came, and who waits for how many of them."""

    batches: list[pa.RecordBatch] = field(default_factory=list)
    data: list[bytes] = field(default_factory=list)  # of single records behind the batches
    keys: list[str | None] = field(default_factory=list)
    waiting: list[tuple[int, asyncio.Future[Placed]]] = field(default_factory=list)

    def add(self, records: pa.RecordBatch, done: asyncio.Future[Placed]) -> None:
        self._end_singles()
        self.batches.append(records)
        self.waiting.append((records.num_rows, done))

    def add_single(self, data: bytes, key: str | None, done: asyncio.Future[Placed]) -> None:
        """They become Arrow together."""
        self.data.append(data)
        self.keys.append(key)
        self.waiting.append((1, done))

    def records(self) -> Records:
        self._end_singles()
        return self.batches[0] if len(self.batches) == 1 else pa.Table.from_batches(self.batches)

    def _end_singles(self) -> None:
        if self.data:
            self.batches.append(batch_of(self.data, self.keys))
            self.data, self.keys = [], []

    def placed(self, whole: Placed) -> None:
        first = whole.first
        for count, done in self.waiting:
            if not done.done():  # its request may have been given up meanwhile
                done.set_result(Placed(first, whole.arrival_ms))
            first += count

    def failed(self, error: Exception) -> None:
        for _, done in self.waiting:
            if not done.done():
                done.set_exception(error)
                done.exception()  # it is no news to the loop where nobody asks any more

    def cancelled(self) -> None:
        for _, done in self.waiting:
            done.cancel()


@dataclass(eq=False, slots=True)
class Convoy:
    """What goes to the shards of one stream together."""

    full: asyncio.Future[None]
    landed: asyncio.Future[None]  # the first of its bursts is durable, or failed
    bursts: dict[int, Burst] = field(default_factory=dict)  # by shard
    size_bytes: int = 0

    def burst(self, shard: int) -> Burst:
        return self.bursts.setdefault(shard, Burst())

    def grown(self, size_bytes: int) -> None:
        self.size_bytes += size_bytes
        if self.size_bytes > CONVOY_BYTES and not self.full.done():
            self.full.set_result(None)

    async def follow(self, before: Convoy) -> None:
        """Lets the one before land, where they would meet. What is for one shard alone waits there anyway."""
        if len(self.bursts) > 1 and not self.bursts.keys().isdisjoint(before.bursts):
            waited = self.full, before.landed
            await asyncio.wait(waited, timeout=CONVOY_SECONDS, return_when=asyncio.FIRST_COMPLETED)

    async def append(self, stream: DataStream) -> None:
        """Each shard's burst, side by side."""
        appends = [self._append(stream, shard, burst) for shard, burst in self.bursts.items()]
        await (appends[0] if len(appends) == 1 else asyncio.gather(*appends))

    async def _append(self, stream: DataStream, shard: int, burst: Burst) -> None:
        try:
            burst.placed(await stream.append(shard, burst.records()))
        except Exception as error:
            burst.failed(error)
        except asyncio.CancelledError:
            burst.cancelled()
            raise
        finally:
            if not self.landed.done():
                self.landed.set_result(None)

    def cancelled(self) -> None:
        """By a service that ends: nobody is left waiting."""
        for burst in self.bursts.values():
            burst.cancelled()


class Gathering:
    """What all streams are put. Lives in the event loop. What `DataStream.append` raises, all of a burst are told."""

    def __init__(self) -> None:
        self._growing: dict[str, Convoy] = {}
        self._under_way: dict[str, Convoy] = {}  # of each stream, the last that set out
        self._tasks: set[asyncio.Task[None]] = set()

    def append(
        self, stream: DataStream, parts: Iterable[tuple[int, pa.RecordBatch]], size_bytes: int
    ) -> list[asyncio.Future[Placed]]:
        """Appends to each shard its records, which came in a request of that size."""
        loop = asyncio.get_running_loop()
        convoy, appends = self._convoy(stream, loop), list[asyncio.Future[Placed]]()
        for shard, records in parts:
            appends.append(loop.create_future())
            convoy.burst(shard).add(records, appends[-1])
        convoy.grown(size_bytes)
        return appends

    def append_single(self, stream: DataStream, shard: int, data: bytes, key: str | None) -> asyncio.Future[Placed]:
        loop = asyncio.get_running_loop()
        done: asyncio.Future[Placed] = loop.create_future()
        convoy = self._convoy(stream, loop)
        convoy.burst(shard).add_single(data, key, done)
        convoy.grown(len(data))
        return done

    def _convoy(self, stream: DataStream, loop: asyncio.AbstractEventLoop) -> Convoy:
        """The one that grows."""
        name = stream.definition.id
        convoy = self._growing.get(name)
        if convoy is None:
            convoy = self._growing[name] = Convoy(loop.create_future(), loop.create_future())
            task = loop.create_task(self._travel(stream, name, convoy))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        return convoy

    async def _travel(self, stream: DataStream, name: str, convoy: Convoy) -> None:
        try:
            if (before := self._under_way.get(name)) is not None:
                await convoy.follow(before)
            del self._growing[name]
            self._under_way[name] = convoy
            await convoy.append(stream)
        except asyncio.CancelledError:
            convoy.cancelled()
            raise
        finally:
            for convoys in (self._growing, self._under_way):
                if convoys.get(name) is convoy:
                    del convoys[name]


def batch_of(data: list[bytes], keys: list[str | None]) -> pa.RecordBatch:
    """Records as a log takes them."""
    return pa.RecordBatch.from_arrays([pa.array(data, pa.binary()), pa.array(keys, pa.string())], schema=COLUMNS)
