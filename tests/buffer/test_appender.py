"""Group commit, seals and bounds, in virtual time over a disk that fails when it is told to."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Awaitable, Callable
from dataclasses import replace

import pytest
from disk_buffer import INTERVAL, RESERVE, ROOT, STREAM, DiskBuffer, batch, drained, offered, origins_of
from faulty_disk import Fault
from virtual_time import START_MS, VirtualRuntime, passed, run

from firehose.buffer import appender as module
from firehose.buffer import frame, layout, mending
from firehose.contracts import Full, Unavailable, Unsure
from firehose.model import Origin

Scenario = Callable[[DiskBuffer], Awaitable[None]]


def in_buffer(scenario: Scenario, buffer: DiskBuffer | None = None) -> None:
    """Runs the scenario over a started buffer."""

    async def whole() -> None:
        made = buffer or DiskBuffer()
        await made.start()
        await scenario(made)

    run(whole())


def frames(buffer: DiskBuffer, suffix: str = layout.OPEN) -> list[frame.Frame]:
    (path,) = buffer.paths(suffix)
    lane, first = path.split("/")[-2], int(path.split("/")[-1][:20])
    items = frame.scan(buffer.disk.view(path).buffer, frame.seed(lane), first)
    return [item for item in items if isinstance(item, frame.Frame)]


async def many(buffer: DiskBuffer, *records: bytes) -> list[object]:
    appends = (buffer.appender.append(batch(record)) for record in records)
    return await asyncio.gather(*appends, return_exceptions=True)


def test_slow_disk_is_not_queued_for() -> None:
    """Behind a commit that takes too long nothing more is let wait; what waits already is told how it ends."""

    async def scenario(buffer: DiskBuffer) -> None:
        under_way = asyncio.ensure_future(buffer.appender.append(batch(b"1")))
        await passed(9)
        waiting = asyncio.ensure_future(buffer.appender.append(batch(b"2")))
        await passed(2)
        with pytest.raises(Full, match="commit_seconds"):
            await buffer.appender.append(batch(b"3"))
        assert [(await one).first for one in (under_way, waiting)] == [0, 1]
        assert (await buffer.appender.append(batch(b"4"))).first == 2

    in_buffer(scenario, DiskBuffer(runtime=VirtualRuntime(disk_seconds=15)))


def test_many_appends_few_frames() -> None:
    """Appends that meet at the disk share a frame, in their order; a lone one waits for nobody."""

    async def scenario(buffer: DiskBuffer) -> None:
        await many(buffer, *[b"%d" % n for n in range(100)])
        assert [item.count for item in frames(buffer)] == [100]
        first = asyncio.ensure_future(buffer.appender.append(batch(b"first")))
        await passed(0)
        await many(buffer, b"x", b"y", b"z")
        assert (await first).first == 100
        assert [item.count for item in frames(buffer)] == [100, 1, 3]

    in_buffer(scenario)


def test_cancelled_waiter() -> None:
    """Who stops waiting for an append disturbs neither its records nor the others' positions."""

    async def scenario(buffer: DiskBuffer) -> None:
        tasks = [asyncio.ensure_future(buffer.appender.append(batch(b"%d" % n, b"+"))) for n in range(3)]
        await passed(0)
        tasks[1].cancel()
        answers = await asyncio.gather(*tasks, return_exceptions=True)
        assert isinstance(answers[1], asyncio.CancelledError)
        assert [(await task).first for task in (tasks[0], tasks[2])] == [0, 4]
        await buffer.appender.seal()
        assert await drained(buffer.outbox()) == [b"0", b"+", b"1", b"+", b"2", b"+"]

    in_buffer(scenario)


async def behind_the_seal() -> None:
    """Returns when a seal that nobody waits for has ended."""
    await passed(0.01)


def test_seal_by_size() -> None:
    """Behind the append that reaches the size the segment is sealed at once: no further frame, no interval."""

    async def scenario(buffer: DiskBuffer) -> None:
        await many(buffer, b"x" * 999)
        assert not buffer.sealed
        await many(buffer, b"y")
        await behind_the_seal()
        assert [(s.count, s.size_bytes) for s in buffer.sealed] == [(2, 1000)]
        assert not buffer.paths(layout.OPEN)

    in_buffer(scenario)


@pytest.mark.parametrize(("interval", "after"), [(60.0, 60.0), (0.0, module.ZERO_INTERVAL_SECONDS)])
def test_seal_by_age(interval: float, after: float) -> None:
    """A segment is sealed an interval after its first record, later ones notwithstanding; zero means very soon."""

    async def scenario(buffer: DiskBuffer) -> None:
        buffer.appender.limits = replace(buffer.limits, interval_seconds=interval)
        await many(buffer, b"first")
        await passed(after * 0.9)
        await many(buffer, b"late")
        assert not buffer.sealed
        await passed(after * 0.11)
        assert [segment.count for segment in buffer.sealed] == [2]

    in_buffer(scenario)


@pytest.mark.parametrize(
    ("interval", "left"), [(INTERVAL / 2, INTERVAL / 4), (INTERVAL / 8, 0), (2 * INTERVAL, INTERVAL * 1.75)]
)
def test_a_new_interval_holds_for_what_is_open(interval: float, left: float) -> None:
    """After a reload the open segment's age is measured by the new interval, from its first record on."""

    async def scenario(buffer: DiskBuffer) -> None:
        await many(buffer, b"first")
        await asyncio.sleep(INTERVAL / 4)
        buffer.appender.limits = replace(buffer.limits, interval_seconds=interval)
        await asyncio.sleep(left * 0.99)
        assert not buffer.sealed or not left
        await asyncio.sleep(left * 0.02 + 0.1)
        assert [segment.count for segment in buffer.sealed] == [1]

    in_buffer(scenario)


@pytest.mark.parametrize("jump_ms", [3_600_000, -3_600_000])
def test_wall_clock_jumps(jump_ms: int) -> None:
    """The wall clock moves by an hour: the age of a segment does not, and it is named by its first record."""

    async def scenario(buffer: DiskBuffer) -> None:
        await many(buffer, b"first")
        buffer.runtime.wall_ms += jump_ms
        await many(buffer, b"second")
        await passed(INTERVAL - 1)
        assert not buffer.sealed
        await passed(2)
        (segment,) = buffer.sealed
        assert segment.opened_at.timestamp() * 1000 == START_MS
        path = layout.file_of(ROOT, segment)
        buffer.disk.flip(path, buffer.disk.size(path) - 1)
        await buffer.crash()
        assert [(s.opened_at, s.count, s.size_bytes) for s in buffer.found.segments] == [(segment.opened_at, 2, 11)]

    in_buffer(scenario)


def test_idle_stream_writes_nothing() -> None:
    """Without records nothing is written, however long; after a seal neither."""

    async def scenario(buffer: DiskBuffer) -> None:
        before = len(buffer.disk.steps)
        await passed(10 * INTERVAL)
        await buffer.appender.seal()
        assert len(buffer.disk.steps) == before
        await many(buffer, b"x")
        await passed(2 * INTERVAL)
        before = len(buffer.disk.steps)
        await passed(10 * INTERVAL)
        assert len(buffer.disk.steps) == before

    in_buffer(scenario)


def test_origins_alone_open_nothing() -> None:
    """An origin without records starts no interval and lends the later records no earlier instant."""

    async def scenario(buffer: DiskBuffer) -> None:
        await buffer.appender.append(batch(), Origin("p", "1"))
        await passed(10 * INTERVAL)
        await buffer.appender.seal()
        assert not buffer.sealed
        await many(buffer, b"x")
        await passed(2 * INTERVAL)
        (segment,) = buffer.sealed
        assert segment.opened_at.timestamp() * 1000 >= START_MS + 10 * INTERVAL * 1000

    in_buffer(scenario)


def test_segments_grow_while_delivery_is_behind() -> None:
    """Hints grow with what waits, up to a bound, and shrink when it is delivered."""

    async def scenario(buffer: DiskBuffer) -> None:
        for _ in range(400):
            await many(buffer, b"x" * 500)
        sizes = [segment.size_bytes for segment in buffer.sealed]
        assert sizes[0] == 1000
        assert max(sizes) == module.GROWTH_LIMIT * 1000
        await drained(buffer.outbox())
        await buffer.appender.seal()
        await drained(buffer.outbox())
        buffer.sealed.clear()
        await many(buffer, b"x" * 1000)
        await behind_the_seal()
        assert [segment.size_bytes for segment in buffer.sealed] == [1000]

    in_buffer(scenario)


@pytest.mark.parametrize("why", ["limit", "reserve", "closed"])
def test_full_takes_nothing(why: str) -> None:
    """At limit_gib, at reserve_mib and when stopping an append is refused and not one of its records written."""

    async def scenario(buffer: DiskBuffer) -> None:
        await many(buffer, b"kept")
        match why:
            case "limit":
                buffer.appender.limits = replace(buffer.limits, limit_bytes=buffer.appender.buffered_bytes + 5)
            case "reserve":
                buffer.disk.free = RESERVE + 5
            case "closed":
                await buffer.appender.close()
        (answer,) = await many(buffer, b"too much")
        assert isinstance(answer, Full)
        await buffer.crash(power=False)
        assert await drained(buffer.outbox()) == [b"kept"]

    in_buffer(scenario)


def test_room_comes_back_with_delivery() -> None:
    """A buffer at its limit takes records again when segments have been delivered."""

    async def scenario(buffer: DiskBuffer) -> None:
        buffer.appender.limits = replace(buffer.limits, limit_bytes=2500)
        await many(buffer, b"x" * 1500)
        await behind_the_seal()
        assert isinstance((await many(buffer, b"y" * 1000))[0], Full)
        await drained(buffer.outbox())
        assert not isinstance((await many(buffer, b"y" * 1000))[0], Exception)

    in_buffer(scenario)


STEPS = ["create", "write", "sync", "sync_folder", "mkdir"]


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO])
@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("before", [0, 1])
def test_disk_fails_under_an_append(step: str, code: int, before: int) -> None:
    """Whatever step fails: its waiters hear Unsure, what went before and comes after is kept once, counts agree."""

    async def scenario(buffer: DiskBuffer) -> None:
        good = [b"before"] * before
        await many(buffer, *good)
        touched = not before or step in ("write", "sync")  # the steps of an open segment's next frame
        buffer.disk.faults.append(Fault(step, code))
        answers = await many(buffer, b"unsure1", b"unsure2")
        assert all(isinstance(answer, Unsure) == touched for answer in answers)
        buffer.disk.faults.clear()
        good += [b"after"] + ([] if touched else [b"unsure1", b"unsure2"])
        await many(buffer, b"after")
        await passed(2 * mending.MEND_SECONDS)
        await buffer.appender.seal()
        assert buffer.appender.accepted == buffer.appender.sealed_records == len(good)
        accepted = buffer.appender.accepted
        await buffer.crash()
        assert buffer.appender.accepted == accepted
        assert sorted(await drained(buffer.outbox())) == sorted(good)

    in_buffer(scenario)


@pytest.mark.parametrize("step", ["write", "sync", "create", "rename", "sync_folder", "remove"])
def test_seal_fails_after_a_good_append(step: str) -> None:
    """Where only the seal fails the append is acknowledged, and the segment is mended and offered once. An old head
    that cannot be removed behind a good seal fails nothing.
    """

    async def scenario(buffer: DiskBuffer) -> None:
        await many(buffer, b"x" * 1000)
        await many(buffer, b"one")
        number = len(buffer.disk.steps)
        await buffer.appender.seal()
        seal_steps = [name for name, _ in buffer.disk.steps[number:]]
        await many(buffer, b"two")
        buffer.disk.fail_at = {len(buffer.disk.steps) + seal_steps.index(step): errno.EIO}
        await buffer.appender.seal()
        assert bool(buffer.failures) == (step != "remove")
        await passed(2 * mending.MEND_SECONDS)
        assert [segment.count for segment in buffer.sealed] == [1, 1, 1]
        assert buffer.appender.accepted == buffer.appender.sealed_records == 3
        assert await drained(buffer.outbox()) == [b"x" * 1000, b"one", b"two"]
        await buffer.crash()
        assert (await offered(buffer.outbox()), buffer.appender.accepted) == ([], 3)

    in_buffer(scenario)


def test_delivered_before_it_is_mended() -> None:
    """A segment whose name the disk took, but would not sync, may be found and delivered by a new delivery half before
    we mend it: it counts as sealed all the same.
    """

    async def scenario(buffer: DiskBuffer) -> None:
        await many(buffer, b"one")
        buffer.disk.faults.append(Fault("sync_folder"))
        await buffer.appender.seal()
        buffer.shelf.close()
        buffer.start_delivery()
        assert await drained(buffer.outbox()) == [b"one"]
        await passed(2 * mending.MEND_SECONDS)
        assert buffer.appender.accepted == buffer.appender.sealed_records == 1
        assert buffer.appender.buffered_bytes == 0

    in_buffer(scenario)


@pytest.mark.parametrize("steps", [("sync", "write"), ("create",)])
def test_failing_disk_is_bounded(steps: tuple[str, ...]) -> None:
    """A disk that keeps failing is tried now and then and leaves few lanes behind; it is used when it recovers."""

    async def scenario(buffer: DiskBuffer) -> None:
        await many(buffer, b"x" * 1000)
        buffer.disk.faults += [Fault(step, times=10**6) for step in steps]
        seconds = 10
        for _ in range(20 * seconds):
            (answer,) = await many(buffer, b"bad")
            assert isinstance(answer, Unavailable)
            await passed(0.05)
        to_mend = mending.ABANDONED_LIMIT if "sync" in steps else seconds + module.FAILURES_IN_ROW
        assert len(layout.lanes(buffer.disk, ROOT, STREAM)) <= to_mend + 1
        buffer.disk.faults.clear()
        await passed(5)
        (answer,) = await many(buffer, b"again")
        assert not isinstance(answer, Exception)
        await buffer.appender.seal()
        stored = await drained(buffer.outbox())
        assert (stored.count(b"x" * 1000), stored.count(b"again"), stored.count(b"bad")) == (1, 1, 0)

    in_buffer(scenario)


def test_close_with_an_abandoned_lane() -> None:
    """A close while a lane waits to be mended leaves nothing waiting; the next start has its records."""

    async def scenario(buffer: DiskBuffer) -> None:
        await many(buffer, b"good")
        buffer.disk.faults.append(Fault("sync"))
        await many(buffer, b"unsure")
        await many(buffer, b"later")
        await buffer.stop()
        await passed(10)
        await buffer.crash(power=False)
        stored = await drained(buffer.outbox())
        assert {b"good", b"later"} <= set(stored)
        assert buffer.appender.accepted == len(stored)

    in_buffer(scenario)


def test_close_waits_for_what_is_under_way() -> None:
    """Closing while an append is in the disk's hands seals that append too."""

    async def scenario(buffer: DiskBuffer) -> None:
        append = asyncio.ensure_future(buffer.appender.append(batch(b"x")))
        await passed(0)
        await passed(0)
        await buffer.appender.close()
        assert (await append).count == 1
        assert [segment.count for segment in buffer.sealed] == [1]

    in_buffer(scenario)


def test_seal_returns_under_steady_load() -> None:
    """A seal ends with what was appended so far, though others never stop appending."""

    async def scenario(buffer: DiskBuffer) -> None:
        async def load() -> None:
            while True:
                await buffer.appender.append(batch(b"x"))

        tasks = [asyncio.ensure_future(load()) for _ in range(3)]
        await passed(1)
        before = buffer.appender.accepted
        async with asyncio.timeout(1):
            await buffer.appender.seal()
        assert buffer.appender.sealed_records >= before
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    in_buffer(scenario)


def test_an_empty_append_is_nothing() -> None:
    """An append without records and origin is answered and leaves nothing."""

    async def scenario(buffer: DiskBuffer) -> None:
        assert (await buffer.appender.append(batch())).count == 0
        assert layout.lanes(buffer.disk, ROOT, STREAM) == []

    in_buffer(scenario)


def test_disk_that_does_not_answer() -> None:
    """Where even the free space cannot be asked, nothing is taken."""

    async def scenario(buffer: DiskBuffer) -> None:
        def unknown(path: str) -> int:
            raise OSError(errno.EIO, "no answer")

        buffer.disk.free_bytes = unknown  # type: ignore[method-assign]
        assert isinstance((await many(buffer, b"x"))[0], Full)

    in_buffer(scenario)


def test_turns_go_on_after_a_start() -> None:
    """Origins given after a restart are newer than all before, whatever the wall clock says of their lanes."""

    async def scenario(buffer: DiskBuffer) -> None:
        for cursor in ("1", "2", "3"):
            await buffer.appender.append(batch(b"x"), Origin("p", cursor))
            buffer.runtime.wall_ms -= 3_600_000
            await buffer.crash()
        assert origins_of(buffer.appender) == {"p": "3"}

    in_buffer(scenario)


def test_check_removed_finds_what_nobody_told() -> None:
    """Room is given back for files that went while nobody could tell of it."""

    async def scenario(buffer: DiskBuffer) -> None:
        await many(buffer, b"x" * 2000)
        await behind_the_seal()
        assert buffer.appender.buffered_bytes > 2000
        assert buffer.appender.versions == {1}
        (path,) = buffer.paths(layout.SEALED)
        buffer.disk.remove(path)
        buffer.appender.check_removed()
        assert (buffer.appender.buffered_bytes, buffer.appender.versions) == (0, set())

    in_buffer(scenario)


def test_more_than_a_frame_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """What waits while the disk is slow is bounded."""
    monkeypatch.setattr(module, "FRAME_BYTES", 1000)

    async def scenario(buffer: DiskBuffer) -> None:
        answers = await many(buffer, *[b"x" * 400] * 10)
        assert [isinstance(answer, Full) for answer in answers] == [False] * 3 + [True] * 7

    in_buffer(scenario, DiskBuffer(runtime=VirtualRuntime(disk_seconds=1.0)))
