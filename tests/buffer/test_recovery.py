"""What a start finds: orphans sealed, damage counted, dead lanes folded, at whatever step the last process ended."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from random import Random

import pytest
from disk_buffer import ROOT, STREAM, DiskBuffer, batch, delivered, drained, offered, origins_of, read
from virtual_time import run

from firehose import checked_json
from firehose.buffer import frame, layout, recovery
from firehose.contracts import Retry, Unavailable
from firehose.model import NewerFormat, Origin, Segment, Totals

LANES_FILE = f"{layout.stream_folder(ROOT, STREAM)}/{layout.LANES}"


def in_buffer(scenario: Callable[[DiskBuffer], Awaitable[None]]) -> None:
    async def whole() -> None:
        buffer = DiskBuffer()
        await buffer.start()
        await scenario(buffer)

    run(whole())


async def append(buffer: DiskBuffer, *records: bytes, origin: str = "") -> None:
    await buffer.appender.append(batch(*records), Origin("p", origin) if origin else None)


async def commit(buffer: DiskBuffer, segment: Segment) -> None:
    await buffer.outbox().commit(segment, Totals(delivered=segment.count))


async def life(buffer: DiskBuffer, acknowledged: list[bytes], committed: list[bytes], committing: list[bytes]) -> None:
    """A little of everything: appends, origins, seals, deliveries. Notes what was promised, until the disk fails."""
    for number in range(3):
        for half in (b"a", b"b"):
            record = half + b"%d" % number
            await buffer.appender.append(batch(record, record), Origin("p", f"{number}"))
            acknowledged += [record, record]
        await buffer.appender.seal()
        for segment in (await offered(buffer.outbox()))[:1]:
            committing[:] = await read(buffer.outbox(), segment)
            await commit(buffer, segment)
            committed += committing
            committing.clear()
    await buffer.appender.append(batch(b"last"))
    acknowledged.append(b"last")


def steps_of_a_life() -> int:
    async def whole() -> int:
        buffer = DiskBuffer()
        await buffer.start()
        await life(buffer, [], [], [])
        return len(buffer.disk.steps)

    return run(whole())


@pytest.mark.parametrize("how", ["kill", "power", "dice"])
def test_every_crash_point(how: str) -> None:
    """Whatever step a crash comes before: nothing acknowledged is lost or doubled, nothing committed comes back."""

    async def whole(stop_at: int) -> None:
        buffer, acknowledged, committed, committing = DiskBuffer(), list[bytes](), list[bytes](), list[bytes]()
        buffer.disk.stop_at = stop_at
        try:
            await buffer.start()
            await life(buffer, acknowledged, committed, committing)
        except (OSError, Unavailable, Retry):
            assert len(buffer.disk.steps) > stop_at
        buffer.disk.stop_at = None
        await buffer.crash(how != "kill", Random(stop_at) if how == "dice" else None)
        left = await drained(buffer.outbox())
        if not {*left} & {*committing}:  # the commit that was under way took effect, wholly
            committed += committing
        assert not [r for r in acknowledged if (left + committed).count(r) != acknowledged.count(r)]
        maybe = [r for r in set(left) if r not in acknowledged]  # of the append that was under way
        assert all(left.count(r) <= 2 for r in maybe)
        accepted = buffer.appender.accepted
        await buffer.crash(power=False)
        assert buffer.appender.accepted == accepted
        assert await offered(buffer.outbox()) == []
        if acknowledged:
            assert origins_of(buffer.appender)["p"] >= acknowledged[-1].decode()[-1:] or acknowledged[-1] == b"last"

    for stop_at in range(steps_of_a_life() + 1):
        run(whole(stop_at))


def test_counts_survive_when_all_is_delivered() -> None:
    """A lane whose every segment is delivered and gone still counts its records, through kills and folds."""

    async def scenario(buffer: DiskBuffer) -> None:
        for number in range(3):
            await append(buffer, b"x", b"y", origin=f"{number}")
            await buffer.appender.seal()
        assert len(await drained(buffer.outbox())) == 6
        for power in (False, True, False, True):
            await buffer.crash(power)
            assert buffer.appender.accepted == buffer.appender.sealed_records == 6
            assert origins_of(buffer.appender) == {"p": "2"}
        assert layout.lanes(buffer.disk, ROOT, STREAM) == []

    in_buffer(scenario)


@pytest.mark.parametrize("how", ["kill", "power", "dice"])
def test_every_crash_point_of_folding(how: str) -> None:
    """A crash before any step of a fold leaves counts and origins right, and the next fold finishes the work."""

    async def scenario(buffer: DiskBuffer, stop_at: int) -> None:
        for number in range(3):
            await append(buffer, b"x", b"y", origin=f"{number}")
            await buffer.appender.seal()
            await drained(buffer.outbox())
            await buffer._end_tasks()
            buffer.disk = buffer.disk.after_kill()
            buffer.disk.stop_at = stop_at if number else None
            try:
                await buffer.start()
            except OSError:
                buffer.disk.stop_at = None
                await buffer.crash(how != "kill", Random(stop_at) if how == "dice" else None)
            buffer.disk.stop_at = None
            assert buffer.appender.accepted == 2 * (number + 1)
            assert origins_of(buffer.appender) == {"p": f"{number}"}
        await buffer.crash()
        await buffer.crash(power=False)  # a power cut may bring back what was removed: then it goes a start later
        assert layout.lanes(buffer.disk, ROOT, STREAM) == []
        assert buffer.appender.accepted == 6

    for stop_at in range(30):
        in_buffer(partial(scenario, stop_at=stop_at))


def test_origin_alone_outlives_its_lane() -> None:
    """An origin that came without records, so that no segment and no ledger has it, is kept by every fold."""

    async def scenario(buffer: DiskBuffer) -> None:
        await buffer.appender.append(batch(), Origin("p", "7"))
        for power in (False, True, False):
            await buffer.crash(power)
            assert origins_of(buffer.appender) == {"p": "7"}
        assert layout.lanes(buffer.disk, ROOT, STREAM) == []
        await append(buffer, b"x")
        await buffer.appender.seal()
        await drained(buffer.outbox())
        for power in (False, True):
            await buffer.crash(power)
            assert origins_of(buffer.appender) == {"p": "7"}

    in_buffer(scenario)


def test_folded_lanes_are_gone_before_their_names() -> None:
    """A folder of a folded lane that a power cut brought back is durably gone before the one file forgets that it was
    counted, in whatever order a disk makes names durable.
    """

    async def scenario(buffer: DiskBuffer) -> None:
        for number in range(2):
            await append(buffer, b"x", b"y")
            await buffer.appender.seal()
            await drained(buffer.outbox())
            if number == 0:
                (head,) = buffer.paths(layout.HEAD)
                lane = head.rpartition("/")[0]
                await buffer.crash(power=False)
                assert not buffer.disk.exists(lane)
                buffer.disk.make_folder(lane)
                buffer.disk.put(head, b"")
        await buffer.crash(power=False)
        steps, above = buffer.disk.steps, layout.stream_folder(ROOT, STREAM)
        gone, named = steps.index(("rmdir", lane)), steps.index(("rename", f"{above}/{layout.LANES}"))
        assert gone < steps.index(("sync_folder", above), gone) < named
        assert buffer.appender.accepted == 4

    in_buffer(scenario)


def test_torn_tail_is_cut() -> None:
    """Bytes behind the last valid frame of an orphan go, silently; its records and origins stay."""

    async def scenario(buffer: DiskBuffer) -> None:
        await append(buffer, b"a", b"b", origin="7")
        (path,) = buffer.paths(layout.OPEN)
        buffer.disk.put(path, buffer.disk.read(path) + b"FHFRAME\n" + b"torn" * 30)
        await buffer.crash()
        assert buffer.found.damage == []
        assert origins_of(buffer.appender) == {"p": "7"}
        assert await drained(buffer.outbox()) == [b"a", b"b"]

    in_buffer(scenario)


def test_damaged_middle_is_counted() -> None:
    """A bad frame before a good one: the rest is delivered with its ordinals, the loss counted, the file kept."""

    async def scenario(buffer: DiskBuffer) -> None:
        for records in ([b"a"], [b"b", b"c"], [b"d"]):
            await append(buffer, *records)
        (path,) = buffer.paths(layout.OPEN)
        buffer.disk.flip(path, len(buffer.disk.read(path)) // 2)
        await buffer.crash()
        (damage,) = buffer.found.damage
        assert (damage.records, buffer.appender.accepted) == (2, 4)
        assert "2 records lost" in str(damage)
        (segment,) = await offered(buffer.outbox())
        opened = await buffer.outbox().open(segment)
        rows = [row for piece in opened.slices() for row in piece.select(["record", "row"]).to_pylist()]
        assert rows == [{"record": b"a", "row": 0}, {"record": b"d", "row": 3}]
        await buffer.outbox().commit(segment, Totals(delivered=2, damaged=2))
        assert len(buffer.paths(layout.DAMAGED)) == 1
        await buffer.crash()
        assert buffer.appender.accepted == 4
        assert len(buffer.paths(layout.DAMAGED)) == 1

    in_buffer(scenario)


def test_trailer_alone_damaged() -> None:
    """A sealed file whose trailer is damaged keeps its identity, and nothing counts as lost."""

    async def scenario(buffer: DiskBuffer) -> None:
        for records in ([b"a", b"b"], [b"c"], [b"d"]):
            await append(buffer, *records, origin="5")
            await buffer.appender.seal()
        first, *others = await offered(buffer.outbox())
        for segment in others:
            await commit(buffer, segment)
        path = layout.file_of(ROOT, first)
        whole = buffer.disk.read(path)
        for offset in range(1, 65):
            buffer.disk.put(path, whole)
            buffer.disk.flip(path, buffer.disk.size(path) - offset)
            await buffer.crash(power=False)
            assert await offered(buffer.outbox()) == [first]
            assert [damage.records for damage in buffer.found.damage] == [0]
            assert buffer.appender.accepted == 4
            assert origins_of(buffer.appender) == {"p": "5"}
        assert await delivered(buffer.outbox(), first) == [b"a", b"b"]

    in_buffer(scenario)


def test_end_of_a_sealed_file_cut_off() -> None:
    """A sealed file that lost its end is offered as far as the next number the lane knows, the missing as lost."""

    async def scenario(buffer: DiskBuffer) -> None:
        for record in (b"a", b"b", b"c"):
            await append(buffer, record)
        await buffer.appender.seal()
        await append(buffer, b"d")
        await buffer.appender.seal()
        path = sorted(buffer.paths(layout.SEALED))[0]
        frames = frame.scan(buffer.disk.view(path).buffer, frame.seed(path.split("/")[-2]), 0)
        buffer.disk.put(path, buffer.disk.read(path)[: next(frames).size + 20])
        await buffer.crash()
        assert [damage.records for damage in buffer.found.damage] == [2]
        assert await drained(buffer.outbox()) == [b"a", b"d"]
        assert buffer.appender.accepted == 4

    in_buffer(scenario)


def test_sealed_file_that_is_anothers() -> None:
    """A sealed file in whose place another of its lane lies is a loss that is counted; the other is delivered once."""

    async def scenario(buffer: DiskBuffer) -> None:
        for records in ([b"a", b"b"], [b"c"]):
            await append(buffer, *records)
            await buffer.appender.seal()
        first, second = buffer.paths(layout.SEALED)
        buffer.disk.put(first, buffer.disk.read(second))
        await buffer.crash(power=False)
        assert [damage.records for damage in buffer.found.damage] == [2]
        assert await drained(buffer.outbox()) == [b"c"]
        assert buffer.appender.accepted == 3

    in_buffer(scenario)


@pytest.mark.parametrize("content", [b"", bytes(500)])
def test_sealed_file_of_nothing(content: bytes) -> None:
    """A sealed file of which nothing can be read is still a segment, so that its loss is said at every destination."""

    async def scenario(buffer: DiskBuffer) -> None:
        await append(buffer, b"a", b"b")
        await buffer.appender.seal()
        (path,) = buffer.paths(layout.SEALED)
        buffer.disk.put(path, content)
        await buffer.crash(power=False)
        (segment,) = await offered(buffer.outbox())
        assert (segment.count, buffer.appender.accepted) == (2, 2)
        assert await delivered(buffer.outbox(), segment) == []

    in_buffer(scenario)


def test_damaged_trailer_keeps_its_version() -> None:
    """Whatever byte of a trailer is damaged, the segment still follows the version it was sealed with."""

    async def scenario(buffer: DiskBuffer) -> None:
        buffer.version = 3
        await append(buffer, b"a", origin="5")
        await buffer.appender.seal()
        (path,) = buffer.paths(layout.SEALED)
        whole, buffer.version = buffer.disk.read(path), 7
        for offset in range(1, frame.TRAILER.size + 1):
            buffer.disk.put(path, whole)
            buffer.disk.flip(path, len(whole) - offset, 0x04)
            await buffer.crash(power=False)
            assert [segment.version for segment in buffer.found.segments] == [3]

    in_buffer(scenario)


def test_head_that_a_power_cut_took() -> None:
    """A lane whose sealed file came through a power cut, and its count did not, still counts when all is delivered."""

    async def scenario(buffer: DiskBuffer) -> None:
        await append(buffer, b"a", b"b")
        await buffer.appender.seal()
        (path,) = buffer.paths(layout.HEAD)
        await buffer._end_tasks()
        buffer.disk.remove(path)
        await buffer.crash(power=False)
        assert buffer.disk.after_power_cut().exists(path)  # before what it counts can be removed
        assert await drained(buffer.outbox()) == [b"a", b"b"]
        await buffer.crash(power=False)
        assert buffer.appender.accepted == 2

    in_buffer(scenario)


def test_torn_summary_is_no_damage() -> None:
    """A trailer that reached the disk and whose summary did not is a torn end like any other: nothing is reported."""

    async def scenario(buffer: DiskBuffer) -> None:
        await append(buffer, b"a", origin="7")
        buffer.disk.stop_at = len(buffer.disk.steps) + 2
        await buffer.appender.seal()
        buffer.disk.stop_at = None
        (path,) = buffer.paths(layout.OPEN)
        content = buffer.disk.read(path)
        trailer = frame.read_trailer(content, frame.seed(path.split("/")[-2]), 0)
        assert trailer is not None
        zeros = bytes(len(content) - frame.TRAILER.size - trailer.summary_at)
        buffer.disk.put(path, content[: trailer.summary_at] + zeros + content[-frame.TRAILER.size :])
        await buffer.crash(power=False)
        assert buffer.found.damage == []
        assert [(end.path, end.offset) for end in buffer.found.torn] == [(path, trailer.summary_at)]
        assert origins_of(buffer.appender) == {"p": "7"}
        assert await drained(buffer.outbox()) == [b"a"]

    in_buffer(scenario)


def test_damaged_summary_of_origins() -> None:
    """Where the summary of a segment's origins is damaged they are read from its frames."""

    async def scenario(buffer: DiskBuffer) -> None:
        await append(buffer, b"a", origin="3")
        await buffer.appender.seal()
        (path,) = buffer.paths(layout.SEALED)
        trailer = frame.read_trailer(buffer.disk.read(path), frame.seed(path.split("/")[-2]), 0)
        assert trailer is not None
        buffer.disk.flip(path, trailer.summary_at + 60)
        await buffer.crash()
        assert origins_of(buffer.appender) == {"p": "3"}

    in_buffer(scenario)


def test_locked_lane_is_left_alone() -> None:
    """A lane that another process writes is neither sealed nor counted nor folded."""

    async def scenario(buffer: DiskBuffer) -> None:
        await append(buffer, b"a")
        (path,) = buffer.paths(layout.OPEN)
        content = buffer.disk.read(path)
        assert buffer.disk.lock(path.rpartition("/")[0]) is None  # the writer holds it
        found = recovery.recover(buffer.disk, ROOT, STREAM, 1)
        assert found.locked == [path.split("/")[-2]]
        assert (found.accepted, found.segments) == (0, {})
        assert buffer.disk.read(path) == content

    in_buffer(scenario)


def test_file_delivered_under_the_eyes() -> None:
    """A segment that a dying delivery half still removes while it is looked at is counted and no trouble."""

    async def scenario(buffer: DiskBuffer) -> None:
        await append(buffer, b"a")
        await buffer.appender.seal()
        (path,) = buffer.paths(layout.SEALED)
        await buffer._end_tasks()
        buffer.disk = buffer.disk.after_kill()
        sized = buffer.disk.size

        def late(asked: str) -> int:
            if buffer.disk.exists(path):
                buffer.disk.remove(path)
            return sized(asked)

        buffer.disk.size = late  # type: ignore[assignment, method-assign]
        found = recovery.recover(buffer.disk, ROOT, STREAM, 1)
        assert not buffer.disk.exists(path)
        assert (found.accepted, found.segments) == (1, {})

    in_buffer(scenario)


def test_lanes_file_of_a_newer_format() -> None:
    """The file of folded lanes is refused by name where a later release wrote it."""

    async def scenario(buffer: DiskBuffer) -> None:
        await append(buffer, b"a")
        buffer.disk.put(LANES_FILE, checked_json.encode({"format": 3}))
        with pytest.raises(NewerFormat, match="lanes has format version 3, this release reads up to 2"):
            recovery.recover(buffer.disk, ROOT, STREAM, 1)

    in_buffer(scenario)


@pytest.mark.parametrize("content", [b"", b"{}", b"[]", b"null", b"\xff", b'{"format": 1, "records"'])
def test_lanes_file_that_makes_no_sense(content: bytes) -> None:
    """A damaged file of folded lanes is kept aside and reported, and the start goes on."""

    async def scenario(buffer: DiskBuffer) -> None:
        await append(buffer, b"a")
        buffer.disk.put(LANES_FILE, content)
        await buffer.crash()
        assert [damage.path for damage in buffer.found.damage] == [LANES_FILE]
        assert buffer.disk.read(f"{LANES_FILE}.damaged") == content
        assert await drained(buffer.outbox()) == [b"a"]
        await buffer.crash()
        assert buffer.found.damage == []
        assert buffer.appender.accepted == 1

    in_buffer(scenario)


def test_an_ended_file_is_sealed_as_it_stands() -> None:
    """A crash between trailer and rename: the segment keeps the version it was ended with, through a power cut."""

    async def scenario(buffer: DiskBuffer) -> None:
        await append(buffer, b"a")
        buffer.disk.stop_at = len(buffer.disk.steps) + 3  # write, sync, create of the head
        await buffer.appender.seal()
        buffer.disk.stop_at = None
        assert buffer.paths(layout.OPEN)
        buffer.version = 2
        await buffer.crash(power=False)
        (path,) = buffer.paths(layout.SEALED)
        assert ("sync", path.replace(".sealed", ".open")) in buffer.disk.steps
        assert [segment.version for segment in buffer.found.segments] == [1]
        await buffer.crash()
        assert [segment.version for segment in buffer.found.segments] == [1]

    in_buffer(scenario)


def test_strange_names_are_passed_over() -> None:
    """Whatever else lies in the folders is left alone and stops nothing."""

    async def scenario(buffer: DiskBuffer) -> None:
        await append(buffer, b"a")
        lane = layout.lanes(buffer.disk, ROOT, STREAM)[0]
        strange = [
            f"{layout.buffer_folder(ROOT)}/.DS_Store",
            f"{layout.stream_folder(ROOT, STREAM)}/notes.txt",
            f"{layout.stream_folder(ROOT, STREAM)}/lanes.new",
            f"{layout.lane_folder(ROOT, STREAM, lane)}/12.sealed",
        ]
        for path in strange:
            buffer.disk.put(path, b"?")
        await buffer.crash()
        assert await drained(buffer.outbox()) == [b"a"]
        assert all(buffer.disk.exists(path) for path in strange)

    in_buffer(scenario)
