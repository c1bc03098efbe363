"""A delivery stream fed by a data stream of the same service, in virtual time."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import replace
from datetime import UTC, datetime
from itertools import chain
from random import Random
from types import SimpleNamespace
from typing import Any, Literal

import msgspec
import pyarrow as pa
import pytest
from disk_buffer import delivered, offered
from fed_buffer import FedBuffer
from memory_streams import HOUR_MS, MemoryLog
from virtual_time import START_MS, VirtualRuntime, passed, run

from firehose.contracts import Source
from firehose.datastream import sequence
from firehose.datastream.model import Run, Shard
from firehose.ingest.sources.data_stream import DataStreamOptions, DataStreamSource, OwnStream
from firehose.ingest.sources.running import Sources
from firehose.ingest.sources.shards import PAGES, Listing, ShardedSource
from firehose.ingest.sources.site import SourceSite
from firehose.ingest.sources.start import Start
from firehose.model import Origin, Position, Records
from firehose.stream_config import StreamConfig

Scenario = Callable[[FedBuffer], Awaitable[None]]
# The records x and y of the key a, packed.
VECTOR = bytes.fromhex("f3899ac20a01611a0508001a01781a0508001a01794ce17b1ac841e7ccc082e6c0e097f7f6")


def source(start: Start = "TRIM_HORIZON") -> Callable[[SourceSite], Source]:
    return lambda site: DataStreamSource(DataStreamOptions(stream="clicks", start=start), site)


def fed(scenario: Scenario, start: Start = "TRIM_HORIZON", shards: int = 1, placed: bool = False) -> None:
    async def whole() -> None:
        buffer = FedBuffer(source(start), shards, placed)
        await buffer.start()
        await scenario(buffer)

    run(whole())


def progress(buffer: FedBuffer):  # type: ignore[no-untyped-def]
    assert isinstance(buffer.source, ShardedSource)
    return buffer.source.progress


def test_latest_begins_when_it_first_began() -> None:
    """LATEST leaves out what was there before the first start, and nothing after it, whatever happened between."""

    async def scenario(buffer: FedBuffer) -> None:
        await buffer.put(b"before")
        await passed(1)
        await buffer.begin()
        await passed(1)
        await buffer.crash()
        await buffer.put(b"while it was down")
        await buffer.begin()
        assert await buffer.settled() == [b"while it was down"]

    fed(scenario, start="LATEST")


def test_an_instant_begins_there() -> None:
    """Reading from an instant takes what arrived at it or later."""

    async def scenario(buffer: FedBuffer) -> None:
        await buffer.put(b"1")
        await passed(10)
        await buffer.put(b"2")
        await buffer.begin()
        assert await buffer.settled() == [b"2"]

    fed(scenario, start=datetime.fromtimestamp(START_MS / 1000 + 5, UTC))


def test_an_instant_without_a_zone_is_utc() -> None:
    """As everywhere in a configuration."""
    assert DataStreamOptions(stream="s", start="2026-01-02T03:04:05").start == datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def test_records_say_where_they_came_from() -> None:
    """Where user code asks, each record has its stream, shard, partition key and sequence number; a packed one's parts
    share the number and are counted.
    """

    async def scenario(buffer: FedBuffer) -> None:
        await buffer.put(b"plain", key='quo"ted')
        await buffer.put(VECTOR, key="a")
        keyless = pa.record_batch({"record": pa.array([b"keyless"]), "meta": pa.array([None], pa.string())})
        await buffer.stream.append(0, keyless)
        await buffer.begin()
        await passed(10)
        await buffer.appender.seal()
        (segment,) = await offered(buffer.outbox())
        rows = pa.Table.from_batches(list((await buffer.outbox().open(segment)).slices())).to_pylist()
        places = [msgspec.json.decode(row["meta"]) for row in rows]
        assert [row["record"] for row in rows] == [b"plain", b"x", b"y", b"keyless"]
        assert [place["partitionKey"] for place in places] == ['quo"ted', "a", "a", ""]
        assert [place.get("subsequenceNumber") for place in places] == [None, 0, 1, None]
        assert places[1]["sequenceNumber"] == places[2]["sequenceNumber"]
        assert {place["shardId"] for place in places} == {"shardId-000000000000"}
        assert {place["streamArn"] for place in places} == {"arn:aws:kinesis:us-east-1:000000000000:stream/clicks"}
        numbers = [sequence.parse(place["sequenceNumber"]) for place in places]
        assert [number and number.arrival_s for number in numbers] == [START_MS // 1000] * 4

    fed(scenario, placed=True)


@pytest.mark.parametrize(("distribution", "taken"), [("USER_PARTITION_KEY", []), ("AUTO", [b"x", b"y"])])
def test_packed_records_in_any_shard(distribution: Literal["USER_PARTITION_KEY", "AUTO"], taken: list[bytes]) -> None:
    """Where keys say the shard, an aggregate in another one is passed over; where records are dealt, none is."""

    async def scenario(buffer: FedBuffer) -> None:
        buffer.stream.change(distribution=distribution)
        right = buffer.stream.shard_for(sequence.hash_key("a")).number
        packed = pa.record_batch({"record": pa.array([VECTOR]), "meta": pa.array(["a"])})
        await buffer.stream.append(1 - right, packed)
        await buffer.begin()
        assert await buffer.settled() == taken

    fed(scenario, shards=2)


def test_what_many_puts_bring_is_read_together(monkeypatch: pytest.MonkeyPatch) -> None:
    """A tip that moves is looked at ten times a second, that of every shard at the same instant, so that what a hundred
    puts a second bring is few commits; what comes behind a pause is taken at once.
    """

    async def scenario(buffer: FedBuffer) -> None:
        looks: list[tuple[float, int]] = []
        append, now = buffer.appender.append, buffer.runtime.monotonic

        def counted(records: Records, origin: Origin | None = None) -> Coroutine[Any, Any, Position]:
            if records.num_rows:
                looks.append((now(), records.num_rows))
            return append(records, origin)

        monkeypatch.setattr(buffer.appender, "append", counted)
        await buffer.begin()
        await passed(1)
        began = now()
        for number in range(100):
            await buffer.put(b"%d" % number, key="a")
            await buffer.put(b"%d" % number, key="partitionKey")  # which falls into the other shard
            await passed(0.01)
        await passed(1)
        paused = now()
        await buffer.put(b"late", key="a")
        await passed(1)
        assert [looks[0][0], looks[-1][0]] == [began, paused]
        assert len({instant for instant, _ in looks[:-1]}) <= 12
        assert sum(count for _, count in looks) == 201

    fed(scenario, shards=2)


def test_packed_records_are_unpacked_where_nobody_asks_for_places() -> None:
    """Unpacking is no matter of places; an aggregate that landed in the wrong shard is left to the one sent again."""

    async def scenario(buffer: FedBuffer) -> None:
        await buffer.put(b"1", VECTOR, b"2", key="a")  # in the shard that "a" falls into
        await buffer.put(VECTOR, key="partitionKey")  # which falls into the other one
        await buffer.begin()
        assert await buffer.settled() == [b"1", b"x", b"y", b"2"]

    fed(scenario, shards=2)


def test_a_full_buffer_waits_and_loses_nothing() -> None:
    """While the buffer takes nothing the source waits; what expires meanwhile is counted, the rest arrives."""

    async def scenario(buffer: FedBuffer) -> None:
        await buffer.put(b"1")
        await buffer.begin()
        assert await buffer.settled() == [b"1"]
        free, buffer.disk.free = buffer.disk.free, 0
        await buffer.put(b"2", b"3", b"4")
        await passed(60)
        buffer.disk.free = free
        assert await buffer.settled() == [b"1", b"2", b"3", b"4"]
        assert progress(buffer).expired == 0

    fed(scenario)


def test_what_expires_unread_is_counted() -> None:
    """Records that went away while nobody could read them are told of, by their number."""

    async def scenario(buffer: FedBuffer) -> None:
        await buffer.put(b"1")
        await buffer.begin()
        assert await buffer.settled() == [b"1"]
        await buffer.crash()
        await buffer.put(b"2", b"3")
        buffer.runtime.wall_ms += 25 * HOUR_MS
        await buffer.put(b"4")
        buffer.stream.expire()
        await buffer.begin()
        assert await buffer.settled() == [b"1", b"4"]
        assert progress(buffer).expired == 2

    fed(scenario)


def test_a_forgotten_parent_holds_nobody_up() -> None:
    """A closed shard that expired unread is passed over; its children are read."""

    async def scenario(buffer: FedBuffer) -> None:
        await buffer.put(b"1")
        await buffer.reshard()
        await buffer.put(b"2")
        buffer.stream.forget(0)
        await buffer.begin()
        assert await buffer.settled() == [b"2"]

    fed(scenario)


def test_a_stream_that_is_not_there_yet_is_waited_for() -> None:
    """A missing data stream is told of, and read once it is created; so is one created again in its place."""

    async def scenario(buffer: FedBuffer) -> None:
        buffer.streams.delete("clicks")
        await buffer.begin()
        await passed(5)
        assert "no data stream 'clicks'" in progress(buffer).trouble[""]
        buffer.stream = buffer.streams.create("clicks")
        await buffer.put(b"1")
        assert await buffer.settled() == [b"1"]
        assert progress(buffer).trouble == {}
        buffer.streams.delete("clicks")
        buffer.stream = buffer.streams.create("clicks")
        await buffer.put(b"2")
        assert await buffer.settled() == [b"1", b"2"]
        assert progress(buffer).trouble == {}

    fed(scenario, start="LATEST")


def test_the_lag_is_told() -> None:
    """How far reading is behind is known by shard while it is read."""

    async def scenario(buffer: FedBuffer) -> None:
        await buffer.put(b"x" * 100)
        await buffer.begin()
        await passed(10)
        assert progress(buffer).behind_ms == {"shardId-000000000000": 0}
        assert progress(buffer).records == 1

    fed(scenario)


def test_a_lag_grows_while_nothing_is_taken() -> None:
    """A full buffer holds reading up: what waits there counts as behind, and no longer once it is stored."""

    async def scenario(buffer: FedBuffer) -> None:
        await buffer.begin()
        await passed(1)
        free, buffer.disk.free = buffer.disk.free, 0
        await buffer.put(b"1")
        await passed(600)
        assert 590 < progress(buffer).lag_seconds < 610
        buffer.disk.free = free
        await passed(60)
        assert progress(buffer).lag_seconds == 0

    fed(scenario)


def test_few_pages_are_in_memory() -> None:
    """However many shards have something to give, no more pages than the bound are read before one is stored; and all
    arrive.
    """

    async def scenario(buffer: FedBuffer) -> None:
        await buffer.begin()
        await passed(1)
        free, buffer.disk.free = buffer.disk.free, 0
        for shard in buffer.stream.definition.shards:
            await buffer.stream.append(shard.number, rows(b"%d" % shard.number))
        taken = [counted(buffer.stream.log(shard.number)) for shard in buffer.stream.definition.shards]
        await passed(60)
        assert sum(map(len, taken)) == PAGES
        buffer.disk.free = free
        assert sorted(await buffer.settled()) == sorted(b"%d" % number for number in range(100))

    fed(scenario, shards=100)


def rows(*records: bytes) -> pa.RecordBatch:
    return pa.record_batch({"record": pa.array(records, pa.binary()), "meta": pa.array(["key"] * len(records))})


def counted(log: MemoryLog) -> list[Run]:
    """What is read of the log from now on, where there was something."""
    read, runs = log.read, list[Run]()

    async def counting(position: int, most_records: int, most_bytes: int) -> Run:
        run = await read(position, most_records, most_bytes)
        runs.extend([run] if run.count else [])
        return run

    log.read = counting  # type: ignore[method-assign]
    return runs


def test_one_created_again_is_never_taken_for_the_old_one() -> None:
    """A data stream that is deleted, created again and filled within a moment is read once, from its beginning."""

    async def scenario(buffer: FedBuffer) -> None:
        await buffer.put(b"1")
        await buffer.begin()
        assert await buffer.settled() == [b"1"]
        buffer.streams.delete("clicks")
        buffer.stream = buffer.streams.create("clicks")
        await buffer.put(b"2", b"3", b"4")
        assert await buffer.settled() == [b"1", b"2", b"3", b"4"]

    fed(scenario)


def test_a_shard_that_vanishes_is_given_up() -> None:
    """A shard that expired, closed, before its reader came to it is told of as lost, and is no trouble any more."""

    async def scenario(buffer: FedBuffer) -> None:
        upstream = OwnStream("clicks", buffer.site)
        listing = await upstream.listing()
        await buffer.put(b"1")
        await buffer.reshard()
        await buffer.put(b"2")
        source = ShardedSource(Behind(upstream, listing), 0, buffer.site)
        buffer.stream.forget(0)
        task = asyncio.get_running_loop().create_task(source.run(buffer.appender))
        assert await buffer.settled() == [b"2"]
        assert (source.progress.trouble, source.progress.expired) == ({}, 1)
        task.cancel()

    fed(scenario)


class Behind:
    """An upstream whose first listing is an old one."""

    def __init__(self, upstream: OwnStream, listing: Listing) -> None:
        self._upstream = upstream
        self._old: Listing | None = listing
        self.pages = upstream.pages
        self.close = upstream.close

    async def listing(self) -> Listing:
        old, self._old = self._old, None
        return old or await self._upstream.listing()


@pytest.mark.parametrize("seconds", [0, 1, 4, 6])
def test_a_successor_finds_what_was_under_way(seconds: float) -> None:
    """A source whose options change goes on behind the append that its predecessor was cancelled in, however slow the
    disk is.
    """

    async def whole() -> None:
        buffer = FedBuffer(source())
        buffer.runtime = VirtualRuntime(disk_seconds=5)
        await buffer.start()
        site, intake = buffer.site, SimpleNamespace(appender=buffer.appender)
        sources = Sources({"app": intake}, lambda stream: site)  # type: ignore[dict-item]
        sources.follow({"app": reading("TRIM_HORIZON")})
        await passed(30)
        await buffer.put(b"1", b"2")
        await passed(seconds)
        sources.follow({"app": reading("LATEST")})
        sources.follow({"app": reading("TRIM_HORIZON")})
        await buffer.put(b"3")
        await passed(60)
        assert await buffer.settled() == [b"1", b"2", b"3"]
        await sources.close()

    run(whole())


def test_a_source_follows_its_site() -> None:
    """Where user code begins to ask for records' places, the source is put to work anew."""

    async def scenario(buffer: FedBuffer) -> None:
        sites = [buffer.site]
        made = Sources({"app": SimpleNamespace(appender=buffer.appender)}, lambda stream: sites[-1])  # type: ignore[dict-item]
        made.follow({"app": reading("TRIM_HORIZON")})
        await buffer.put(b"1")
        await passed(10)
        sites.append(replace(sites[0], placed=True))
        made.follow({"app": reading("TRIM_HORIZON")})
        await buffer.put(b"2")
        await passed(10)
        await buffer.appender.seal()
        (segment,) = await offered(buffer.outbox())
        batch = await buffer.outbox().open(segment)
        places = [place for piece in batch.slices() for place in piece.column("meta").to_pylist()]
        assert [place is not None for place in places] == [False, True]
        await made.close()

    fed(scenario)


def reading(start: Start) -> StreamConfig:
    return SimpleNamespace(name="app", source=DataStreamOptions(stream="clicks", start=start))  # type: ignore[return-value]


@pytest.mark.parametrize("seed", range(30))
def test_once_through_kills_and_reshards(seed: int) -> None:
    """Whatever is put, split, merged or killed, each record is stored once; in a segment, a key's are in order."""

    async def whole() -> None:
        dice = Random(seed)
        buffer = FedBuffer(source(), shards=2)
        await buffer.start()
        await buffer.begin()
        sent: defaultdict[str, list[bytes]] = defaultdict(list)
        found: list[list[bytes]] = []  # by segment
        for turn in range(60):
            match dice.choice(("put", "put", "put", "split", "merge", "kill", "power", "drain", "wait")):
                case "put":
                    key = f"key-{dice.randrange(8)}"
                    records = [b"%s:%d:%d" % (key.encode(), turn, n) for n in range(dice.randrange(1, 6))]
                    await buffer.put(*records, key=key)
                    sent[key] += records
                case "split" if len(buffer.stream.definition.shards) < 30:
                    buffer.stream.split(dice.choice(opened(buffer)).number)
                case "merge" if len(opened(buffer)) > 1:
                    left = dice.randrange(len(opened(buffer)) - 1)
                    pair = sorted(opened(buffer), key=lambda shard: shard.start)[left : left + 2]
                    buffer.stream.merge(pair[0].number, pair[1].number)
                case "kill" | "power" as how:
                    await buffer.crash(power=how == "power", dice=dice)
                    await buffer.begin()
                case "drain":
                    found += await segments(buffer)
                case "wait":
                    await passed(dice.uniform(0, 2))
        await passed(3600)
        found += await segments(buffer)
        assert sorted(chain(*found)) == sorted(chain(*sent.values()))
        for key, records in sent.items():
            for segment in found:
                places = [records.index(record) for record in segment if record.startswith(key.encode() + b":")]
                assert places == sorted(places)

    run(whole())


async def segments(buffer: FedBuffer) -> list[list[bytes]]:
    """The records of each segment that was not looked at yet."""
    await buffer.appender.seal()
    return [await delivered(buffer.outbox(), segment) for segment in await offered(buffer.outbox())]


def opened(buffer: FedBuffer) -> list[Shard]:
    return [shard for shard in buffer.stream.definition.shards if shard.open]


def test_a_bug_in_the_far_side_ends_the_run() -> None:
    """Anything but trouble is a bug: it comes out, for the log, and whoever runs the source starts it anew."""

    async def scenario(buffer: FedBuffer) -> None:
        await buffer.begin()
        await passed(1)
        buffer.stream.log(0).read = lambda *_: 1 / 0  # type: ignore[method-assign, assignment]
        await buffer.put(b"1")
        await passed(1)
        assert isinstance(buffer._task.exception(), ExceptionGroup)

    fed(scenario)
