"""What is put into a shard, gathered into one append for each turn of the event loop.

An append has a price that is paid once, however many records it carries: by whoever writes it, and again by all who
read it. Where many producers put, their requests are read in bursts, and a burst is one append. Nothing waits for more
to come.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

import pyarrow as pa

from firehose.datastream.contracts import DataStream
from firehose.datastream.model import SHARD_SCHEMA, Placed
from firehose.model import Records

SINGLE_BYTES = 16 * 1024  # a larger record is no single one among others, but a batch of its own
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


class Gathering:
    """The bursts of all streams. Lives in the event loop. What `DataStream.append` raises, all of a burst are told."""

    def __init__(self) -> None:
        self._bursts: dict[tuple[str, int], Burst] = {}
        self._appends: set[asyncio.Task[None]] = set()

    def append(self, stream: DataStream, shard: int, records: pa.RecordBatch) -> asyncio.Future[Placed]:
        done: asyncio.Future[Placed] = asyncio.get_running_loop().create_future()
        self._burst(stream, shard).add(records, done)
        return done

    def append_single(self, stream: DataStream, shard: int, data: bytes, key: str | None) -> asyncio.Future[Placed]:
        done: asyncio.Future[Placed] = asyncio.get_running_loop().create_future()
        self._burst(stream, shard).add_single(data, key, done)
        return done

    def _burst(self, stream: DataStream, shard: int) -> Burst:
        """The one that grows."""
        place = (stream.definition.id, shard)
        burst = self._bursts.get(place)
        if burst is None:
            burst = self._bursts[place] = Burst()
            task = asyncio.get_running_loop().create_task(self._append_all(stream, place))
            self._appends.add(task)
            task.add_done_callback(self._appends.discard)
        return burst

    async def _append_all(self, stream: DataStream, place: tuple[str, int]) -> None:
        burst = self._bursts.pop(place)
        try:
            burst.placed(await stream.append(place[1], burst.records()))
        except Exception as error:
            burst.failed(error)
        except asyncio.CancelledError:  # by a service that ends: nobody is left waiting
            burst.cancelled()
            raise


def batch_of(data: list[bytes], keys: list[str | None]) -> pa.RecordBatch:
    """Records as a log takes them."""
    return pa.RecordBatch.from_arrays([pa.array(data, pa.binary()), pa.array(keys, pa.string())], schema=COLUMNS)
