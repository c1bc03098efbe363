"""Several lanes of a stream written side by side: when, and that it costs no promise."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from random import Random
from typing import TypeVar

import pytest
from disk_buffer import INTERVAL, ROOT, STREAM, DiskBuffer, batch, drained, offered, origins_of, read
from faulty_disk import Fault, FaultyDisk, MemoryWriter
from side_by_side import PACE
from virtual_time import Inline, VirtualRuntime, passed, run

from firehose.buffer import appender, layout, mending, writing
from firehose.buffer.state import Limits
from firehose.contracts import Unavailable, Unsure, Writer
from firehose.model import Origin

T = TypeVar("T")
DISK_SECONDS = 0.01
Scenario = Callable[[DiskBuffer], Awaitable[None]]


def in_buffer(scenario: Scenario, disk_seconds: float = DISK_SECONDS, warm: bool = True) -> None:
    """Runs the scenario over a buffer whose disk takes so long for each call; a warm one has filled some segments."""

    async def whole() -> None:
        buffer = DiskBuffer(runtime=VirtualRuntime(disk_seconds=disk_seconds))
        await buffer.start()
        if warm:
            await warmed(buffer)
        await scenario(buffer)

    run(whole())


@dataclass(frozen=True, slots=True)
class Uneven:
    """Threads whose calls take now longer, now shorter."""

    dice: Random

    async def run(self, call: Callable[[], T]) -> T:
        return await Inline(self.dice.uniform(DISK_SECONDS / 4, DISK_SECONDS * 2)).run(call)

    def close(self) -> None:
        pass

    def leave(self) -> None:
        pass


async def warmed(buffer: DiskBuffer) -> None:
    """Lets the appender see what kind of disk and load it has, and delivers that."""
    for _ in range(writing.PACE_SYNCS):
        await buffer.appender.append(batch(b"w" * 1000))
    await passed(1)
    await drained(buffer.outbox())
    buffer.sealed.clear()


async def answers(buffer: DiskBuffer, many: int, every: float, size: int = 10) -> list[float]:
    """How long each of so many appends waited, one begun after the other without regard to their answers."""

    async def one(number: int) -> float:
        await passed(number * every)
        began = buffer.runtime.monotonic()
        await buffer.appender.append(batch(b"%d" % number * size))
        return buffer.runtime.monotonic() - began

    return await asyncio.gather(*(one(number) for number in range(many)))


def lanes(buffer: DiskBuffer) -> int:
    return len(buffer.paths(layout.OPEN))


def test_groups_go_side_by_side_on_a_slow_disk() -> None:
    """Where the disk is slow and segments fill early, a group waits for no other while a lane is free."""

    async def scenario(buffer: DiskBuffer) -> None:
        waited = await answers(buffer, 3 * writing.LANES, DISK_SECONDS / writing.LANES * 1.01)
        assert max(waited) == pytest.approx(DISK_SECONDS)
        assert lanes(buffer) == writing.LANES

    in_buffer(scenario)


def test_lanes_begin_evenly() -> None:
    """So many groups begin in the time of a sync as there are lanes, at even distances: nobody waits longer than one of
    these, however much comes, where lanes that began together would all be busy together.
    """

    async def scenario(buffer: DiskBuffer) -> None:
        many = 10 * writing.LANES
        waited = await answers(buffer, many, DISK_SECONDS / many, size=2)
        assert max(waited) == pytest.approx(DISK_SECONDS * (1 + 1 / writing.LANES), rel=0.01)
        assert lanes(buffer) == writing.LANES

    in_buffer(scenario)


def test_a_seal_takes_what_waits_for_its_time() -> None:
    """A group that no lane may begin yet is sealed at once where that is asked for."""

    async def scenario(buffer: DiskBuffer) -> None:
        for record in (b"1", b"2"):
            buffer.appender._pace.begun(buffer.runtime.monotonic())
            append = asyncio.ensure_future(buffer.appender.append(batch(record)))
            await passed(0)
            began = buffer.runtime.monotonic()
            await buffer.appender.seal()
            assert append.done()
            assert buffer.runtime.monotonic() - began == pytest.approx(2 * DISK_SECONDS)
        assert await drained(buffer.outbox()) == [b"1", b"2"]

    in_buffer(scenario)


@pytest.mark.parametrize("why", ["quick disk", "slow filling", "told one lane"])
def test_one_lane_otherwise(why: str) -> None:
    """A quick disk needs no second lane, a stream whose segments fill late would get several small ones for one large
    one, and a shard's counters follow one another.
    """

    async def scenario(buffer: DiskBuffer) -> None:
        if why == "slow filling":
            await buffer.appender.append(batch(b"x" * 500))
            await passed(INTERVAL / 2)
            await buffer.appender.append(batch(b"x" * 500))
            await passed(1)
        if why == "told one lane":
            buffer.appender._pace = writing.Pace(1)
            await warmed(buffer)
        await answers(buffer, 20, DISK_SECONDS / 8)
        assert lanes(buffer) == 1

    in_buffer(scenario, DISK_SECONDS if why != "quick disk" else writing.SLOW_SECONDS * 0.9)


def test_a_segment_sealed_for_its_age_ends_it() -> None:
    """When the load ends, what each lane has open is sealed by its own age, and then one lane is enough."""

    async def scenario(buffer: DiskBuffer) -> None:
        await answers(buffer, 4 * writing.LANES, DISK_SECONDS / 8, size=2)
        assert lanes(buffer) == writing.LANES
        opened = buffer.appender.open_since_ms
        await passed(INTERVAL * 1.01)
        assert (lanes(buffer), len(buffer.sealed)) == (0, writing.LANES)
        assert min(segment.opened_at for segment in buffer.sealed).timestamp() * 1000 == opened
        await answers(buffer, 10, DISK_SECONDS / 8)
        assert lanes(buffer) == 1

    in_buffer(scenario)


def test_lanes_fill_slower_the_more_there_are() -> None:
    """What counts is how fast the stream fills segments, not how long one lane takes with its share: the lanes stay."""

    async def scenario(buffer: DiskBuffer) -> None:
        for _ in range(1000 // 40 + 1):
            await answers(buffer, writing.LANES, DISK_SECONDS / writing.LANES * 1.01, size=40)
            await passed(INTERVAL / 60)
        assert len(buffer.sealed) == writing.LANES
        assert buffer.runtime.now_ms() / 1000 - buffer.sealed[0].opened_at.timestamp() > INTERVAL / writing.LANES
        waited = await answers(buffer, writing.LANES, DISK_SECONDS / writing.LANES * 1.01)
        assert max(waited) == pytest.approx(DISK_SECONDS)

    in_buffer(scenario)


def test_a_lane_that_had_little_ends_no_other() -> None:
    """One that few groups went to is sealed for its age; the others stay, while the stream fills segments early."""

    async def scenario(buffer: DiskBuffer) -> None:
        await answers(buffer, writing.LANES, DISK_SECONDS / writing.LANES * 1.01)
        for _ in range(int(INTERVAL * 1.1)):
            await buffer.appender.append(batch(b"x" * 200))
            await passed(1)
        assert len({segment.lane for segment in buffer.sealed}) == writing.LANES
        waited = await answers(buffer, writing.LANES, DISK_SECONDS / writing.LANES * 1.01)
        assert max(waited) == pytest.approx(DISK_SECONDS)

    in_buffer(scenario)


def test_nobody_waits_for_a_seal() -> None:
    """The append that fills a segment is answered before that is sealed; with one lane the next waits for it."""

    async def scenario(buffer: DiskBuffer) -> None:
        began = buffer.runtime.monotonic()
        await buffer.appender.append(batch(b"x" * 1000))
        assert buffer.runtime.monotonic() - began == pytest.approx(DISK_SECONDS)
        assert not buffer.sealed
        await buffer.appender.append(batch(b"y"))
        assert buffer.runtime.monotonic() - began == pytest.approx(3 * DISK_SECONDS)
        assert len(buffer.sealed) == 1

    in_buffer(scenario, warm=False)


def test_each_segment_keeps_its_order() -> None:
    """Within each segment records stand as they were accepted, and numbers are dense in each lane."""

    async def scenario(buffer: DiskBuffer) -> None:
        await answers(buffer, 300, DISK_SECONDS / 20, size=9)
        await buffer.appender.seal()
        found, next_of = list[list[int]](), dict[str, int]()
        for segment in await offered(buffer.outbox()):
            assert segment.first == next_of.get(segment.lane, segment.first)
            next_of[segment.lane] = segment.end
            found.append([int(record[: len(record) // 9]) for record in await read(buffer.outbox(), segment)])
        assert len(next_of) == writing.LANES
        assert all(numbers == sorted(numbers) for numbers in found)
        assert sorted(number for numbers in found for number in numbers) == list(range(300))

    in_buffer(scenario)


def test_a_seal_ends_every_lane() -> None:
    """A seal asked for takes what is under way and what waits, in every lane."""

    async def scenario(buffer: DiskBuffer) -> None:
        tasks = [asyncio.ensure_future(answers(buffer, 50, DISK_SECONDS / 20))]
        await passed(DISK_SECONDS * 1.3)
        before = buffer.appender.accepted
        under_way = asyncio.ensure_future(buffer.appender.append(batch(b"last")))
        await passed(0)
        await buffer.appender.seal()
        assert under_way.done()
        assert buffer.appender.sealed_records >= before + 1
        await asyncio.gather(*tasks)
        await buffer.appender.close()
        assert buffer.appender.accepted == buffer.appender.sealed_records
        assert (lanes(buffer), len(await drained(buffer.outbox()))) == (0, 51)

    in_buffer(scenario)


@pytest.mark.parametrize("step", ["write", "sync", "create"])
def test_a_failure_is_one_lanes(step: str) -> None:
    """Where the disk fails under one lane its group alone is in doubt; what the others hold is stored, once."""

    async def scenario(buffer: DiskBuffer) -> None:
        await answers(buffer, 4 * writing.LANES, DISK_SECONDS / 8, size=2)
        if step == "create":  # of a segment
            await buffer.appender.seal()
        buffer.disk.faults.append(Fault(step, errno.EIO))
        appends = []
        for number in range(10 * writing.LANES):
            appends.append(asyncio.ensure_future(buffer.appender.append(batch(b"new-%d" % number * 5))))
            await passed(DISK_SECONDS / 10)
        said = await asyncio.gather(*appends, return_exceptions=True)
        unsure = {number for number, one in enumerate(said) if isinstance(one, Unsure)}
        assert unsure
        assert not [one for one in said if isinstance(one, Exception) and not isinstance(one, Unsure)]
        await passed(2 * mending.MEND_SECONDS)
        await buffer.appender.seal()
        assert buffer.appender.accepted == buffer.appender.sealed_records
        accepted = buffer.appender.accepted
        await buffer.crash()
        assert buffer.appender.accepted == accepted
        stored = await drained(buffer.outbox())
        for number in range(10 * writing.LANES):
            assert stored.count(b"new-%d" % number * 5) == (number not in unsure)

    in_buffer(scenario)


def test_a_hanging_lane_stops_the_queue() -> None:
    """Behind a commit that takes too long nothing more is let wait, though other lanes are quick."""

    async def scenario(buffer: DiskBuffer) -> None:
        buffer.appender._writing[0].since = buffer.runtime.monotonic() - buffer.limits.commit_seconds - 1
        buffer.appender._writing.append(writing.Writing(1))
        with pytest.raises(Unavailable, match="commit_seconds"):
            await buffer.appender.append(batch(b"x"))

    in_buffer(scenario)


def test_room_counts_what_is_under_way() -> None:
    """What lies in the disk's hands in other lanes counts towards the buffer's limit."""

    async def scenario(buffer: DiskBuffer) -> None:
        buffer.appender.limits = replace(buffer.limits, limit_bytes=buffer.appender.buffered_bytes + 1000)
        buffer.appender._writing[0].group_bytes = 900
        with pytest.raises(Unavailable, match="limit_gib"):
            await buffer.appender.append(batch(b"x" * 200))
        buffer.appender._writing[0].group_bytes = 0
        assert (await buffer.appender.append(batch(b"x" * 200))).count == 1

    in_buffer(scenario)


def test_origins_follow_one_another() -> None:
    """Of appends with origins the one before is durable before the next begins: no older cursor comes last."""

    async def scenario(buffer: DiskBuffer) -> None:
        buffer.appender._threads = Uneven(Random(1))

        async def one(cursor: int) -> None:
            await passed(cursor * DISK_SECONDS / 8)
            await buffer.appender.append(batch(b"x"), Origin("p", f"{cursor:02d}"))
            known.append(buffer.appender.origins()["p"].cursor)

        known: list[str] = []
        others = asyncio.ensure_future(answers(buffer, 60, DISK_SECONDS / 20))
        await asyncio.gather(*(one(cursor) for cursor in range(20)))
        await others
        assert known == sorted(known)
        await buffer.crash()
        assert origins_of(buffer.appender) == {"p": "19"}

    in_buffer(scenario)


@pytest.mark.parametrize("sealed", [True, False])
def test_what_waits_for_an_origin_is_taken(sealed: bool) -> None:
    """An append whose origin has to wait for another's is taken behind that, and sealed where that is asked for, though
    the lane that has the other is one too many by then.
    """

    async def scenario(buffer: DiskBuffer) -> None:
        appends = [asyncio.ensure_future(buffer.appender.append(batch(b"0")))]
        await passed(DISK_SECONDS / 2)
        appends.append(asyncio.ensure_future(buffer.appender.append(batch(b"1"), Origin("p", "1"))))
        await passed(DISK_SECONDS * 0.8)
        assert [append.done() for append in appends] == [True, False]
        buffer.appender._pace = writing.Pace(1)
        appends.append(asyncio.ensure_future(buffer.appender.append(batch(b"2"), Origin("p", "2"))))
        await passed(0)
        if sealed:
            await buffer.appender.seal()
        await passed(DISK_SECONDS * 3)
        assert all(append.done() for append in appends)
        assert (lanes(buffer) == 0) == sealed
        await buffer.appender.seal()
        assert sorted(await drained(buffer.outbox())) == [b"0", b"1", b"2"]

    in_buffer(scenario)


def test_lanes_end_under_a_steady_load() -> None:
    """Where one lane is enough again the others take nothing more, however much comes."""

    async def scenario(buffer: DiskBuffer) -> None:
        load = asyncio.ensure_future(answers(buffer, 300, DISK_SECONDS / 20, size=1))
        await passed(DISK_SECONDS * 5)
        buffer.appender._pace = writing.Pace(1)
        await passed(DISK_SECONDS * 1.1)
        before = {path: buffer.disk.size(path) for path in buffer.paths(layout.OPEN)}
        await load
        grown = [path for path, size in before.items() if not buffer.disk.exists(path) or buffer.disk.size(path) > size]
        assert (len(before), len(grown)) == (writing.LANES, 1)

    in_buffer(scenario)


# What it is for: clients that wait for their answers, one processor, and a disk that takes its time for each sync.


CLIENTS, REQUEST_SECONDS, REQUEST_BYTES, REQUESTS_IN_SEGMENT = 64, 0.00022, 512, 100


class CountedWriter(MemoryWriter):
    def sync(self) -> None:
        assert isinstance(self._disk, CountingDisk)
        self._disk.syncs += 1
        super().sync()


class CountingDisk(FaultyDisk):
    """Knows how often something was synced."""

    syncs = 0

    def create(self, path: str) -> Writer:
        super().create(path)
        return CountedWriter(self, path, self._file(path))

    def sync_folder(self, path: str) -> None:
        self.syncs += 1
        super().sync_folder(path)


@dataclass(frozen=True, slots=True)
class PerSync:
    """Threads whose calls take so long for each sync in them."""

    disk: CountingDisk
    seconds: float

    async def run(self, call: Callable[[], T]) -> T:
        before = self.disk.syncs
        try:
            return call()
        finally:
            await passed(self.seconds * (self.disk.syncs - before))

    def close(self) -> None:
        pass

    def leave(self) -> None:
        pass


def rate(sync_seconds: float, seconds: float = 2.0) -> float:
    """Requests a second."""
    disk, answered = CountingDisk(), list[float]()

    async def whole() -> None:
        limits = Limits(REQUESTS_IN_SEGMENT * REQUEST_BYTES, INTERVAL, 1 << 40, 0)
        buffer = DiskBuffer(disk, VirtualRuntime(disk_seconds=sync_seconds), limits=limits)
        await buffer.start()
        buffer.appender._threads = PerSync(disk, sync_seconds)
        processor, request = asyncio.Lock(), batch(b"x" * REQUEST_BYTES)

        async def client() -> None:
            while buffer.runtime.monotonic() < 1 + seconds:
                async with processor:
                    await passed(REQUEST_SECONDS)
                await buffer.appender.append(request)
                answered.append(buffer.runtime.monotonic())

        await asyncio.gather(*(client() for _ in range(CLIENTS)))

    run(whole())
    return sum(1 <= instant < 1 + seconds for instant in answered) / seconds


def test_a_slow_disk_costs_little_of_the_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    """With 10 ms for each sync one stream takes 80 % of what it does on a quick disk; on one lane not half of it."""
    monkeypatch.setattr(appender, "GROWTH_LIMIT", 1)  # as if all were delivered at once
    quick = rate(0.0002)
    slow = rate(0.01)
    monkeypatch.setattr(PACE, lambda lanes: writing.Pace(1))
    narrow = rate(0.01)
    print(f"{slow / quick:.0%} of the quick disk's rate; on one lane {narrow / quick:.0%}")
    assert slow > 0.8 * quick
    assert narrow < 0.5 * quick


async def life(buffer: DiskBuffer, sent: list[bytes], acknowledged: list[bytes]) -> None:
    """Appends that overlap, in every lane; a delivery in between. Ends where the disk does."""

    async def one(word: str, number: int) -> None:
        await passed(number * DISK_SECONDS / 8)
        record = f"{word}{number}".encode() * 40
        sent.append(record)
        await buffer.appender.append(batch(record), None if number % 4 else Origin("p", f"{word}{number:03d}"))
        acknowledged.append(record)

    for word in ("a", "b"):
        told = await asyncio.gather(*(one(word, number) for number in range(12)), return_exceptions=True)
        for failure in told:
            if isinstance(failure, BaseException):
                raise failure
        await passed(1)


@pytest.mark.parametrize("how", ["kill", "power", "dice"])
def test_every_crash_point_of_several_lanes(how: str) -> None:
    """Whatever step a crash comes before: nothing acknowledged is lost or doubled, nothing damaged, counts agree."""

    async def whole(stop_at: int) -> int:
        sent, acknowledged = list[bytes](), list[bytes]()
        buffer = DiskBuffer(runtime=VirtualRuntime(disk_seconds=DISK_SECONDS))
        await buffer.start()
        await warmed(buffer)
        before = len(buffer.disk.steps)
        buffer.disk.stop_at = before + stop_at
        try:
            await life(buffer, sent, acknowledged)
        except (OSError, Unavailable):
            assert len(buffer.disk.steps) > before + stop_at
        steps = len(buffer.disk.steps) - before
        many = len({path.rpartition("/")[0] for path in buffer.paths("")})
        buffer.disk.stop_at = None
        await buffer.crash(how != "kill", Random(stop_at) if how == "dice" else None)
        assert (buffer.found.damage, buffer.appender.accepted) == ([], buffer.found.accepted)
        left = await drained(buffer.outbox())
        assert not [record for record in acknowledged if left.count(record) != 1]
        assert not [record for record in left if record not in sent or left.count(record) > 1]
        accepted = buffer.appender.accepted
        await buffer.crash(power=False)
        assert (buffer.appender.accepted, await offered(buffer.outbox())) == (accepted, [])
        return steps if many > 2 else 0

    steps = run(whole(1 << 30))
    assert steps, "the life has several lanes"
    for stop_at in range(steps):
        run(whole(stop_at))


def test_lanes_are_in_their_streams_folder() -> None:
    """Each lane has a name and a folder of its own; a start folds those that are empty."""

    async def scenario(buffer: DiskBuffer) -> None:
        await answers(buffer, 4 * writing.LANES, DISK_SECONDS / 8, size=2)
        assert len(layout.lanes(buffer.disk, ROOT, STREAM)) == writing.LANES
        await buffer.appender.seal()
        await drained(buffer.outbox())
        await buffer.crash(power=False)
        await buffer.crash(power=False)
        assert layout.lanes(buffer.disk, ROOT, STREAM) == []

    in_buffer(scenario)
