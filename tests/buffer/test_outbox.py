"""Sealed segments on their way out: owed to each destination, removed when all have them, whatever ends the process."""

from __future__ import annotations

import errno
from collections.abc import Awaitable, Callable

import pyarrow as pa
import pytest
from disk_buffer import LEDGER, ROOT, STREAM, DiskBuffer, batch, delivered, drained, offered, read, totals
from faulty_disk import Fault
from virtual_time import run

from firehose.buffer import frame, layout
from firehose.buffer.ledger import read_book
from firehose.contracts import Retry
from firehose.model import Segment, Totals

BOTH = ("far", "near")


def in_buffer(scenario: Callable[[DiskBuffer], Awaitable[None]], destinations: tuple[str, ...] = BOTH) -> None:
    async def whole() -> None:
        buffer = DiskBuffer(destinations=destinations)
        await buffer.start()
        await scenario(buffer)

    run(whole())


async def sealed(buffer: DiskBuffer, *records: bytes) -> Segment:
    await buffer.appender.append(batch(*records))
    await buffer.appender.seal()
    return buffer.sealed[-1]


async def died(buffer: DiskBuffer, leave: bool) -> None:
    """The delivery half ends, with leave or without, and the next one starts."""
    await buffer._end_tasks()
    buffer.shelf.close()
    buffer.start_delivery(died=not leave)


def test_file_goes_when_all_have_it() -> None:
    """Each destination is owed for itself; the file goes with the last, and the ingest half is told."""

    async def scenario(buffer: DiskBuffer) -> None:
        segment = await sealed(buffer, b"a")
        path = layout.file_of(ROOT, segment)
        await buffer.outbox("far").commit(segment, totals(segment))
        assert buffer.disk.exists(path)
        assert buffer.gone == []
        standings = buffer.shelf.standings()
        assert (standings[STREAM, "far"].pending, standings[STREAM, "near"].pending) == (0, 1)
        await buffer.outbox("near").commit(segment, totals(segment))
        assert not buffer.disk.exists(path)
        assert buffer.gone == [segment.key]
        assert buffer.appender.buffered_bytes == 0

    in_buffer(scenario)


@pytest.mark.parametrize("power", [True, False])
def test_crash_between_ledger_and_unlink(power: bool) -> None:
    """A file that the ledger calls delivered everywhere is only removed, never offered."""

    async def scenario(buffer: DiskBuffer) -> None:
        segment = await sealed(buffer, b"a")
        buffer.disk.faults.append(Fault("remove", ending=layout.SEALED))
        await buffer.outbox().commit(segment, totals(segment))
        assert buffer.paths(layout.SEALED)
        await buffer.crash(power)
        assert await offered(buffer.outbox()) == []
        assert not buffer.paths(layout.SEALED)
        assert buffer.shelf.standings()[STREAM, "far"].totals.delivered == 1

    in_buffer(scenario, ("far",))


def test_damaged_file_is_kept() -> None:
    """A file whose losses were counted is kept for inspection, also where a crash came before it was renamed."""

    async def scenario(buffer: DiskBuffer) -> None:
        for fault in (False, True):
            segment = await sealed(buffer, b"a", b"b")
            if fault:
                buffer.disk.faults.append(Fault("rename", ending=layout.DAMAGED))
            await buffer.outbox().commit(segment, Totals(delivered=1, damaged=1))
            await buffer.crash(power=False)
            assert buffer.disk.exists(layout.file_of(ROOT, segment, layout.DAMAGED))
            assert not buffer.paths(layout.SEALED)

    in_buffer(scenario, ("far",))


@pytest.mark.parametrize("restarted", [False, True])
def test_damage_that_costs_nothing_is_told(restarted: bool) -> None:
    """A file whose frames are there twice has all its records: they arrive, the damage is told, the file is kept."""

    async def scenario(buffer: DiskBuffer) -> None:
        segment = await sealed(buffer, b"a", b"b")
        path = layout.file_of(ROOT, segment)
        content = buffer.disk.read(path)
        buffer.disk.put(path, content[: -frame.TRAILER.size] + content)
        if restarted:
            await buffer.crash(power=False)
        given = await buffer.outbox().open(segment)
        assert pa.concat_batches(list(given.slices())).column("record").to_pylist() == [b"a", b"b"]
        await buffer.outbox().commit(segment, Totals(delivered=2))
        kept = layout.file_of(ROOT, segment, layout.DAMAGED)
        assert [one for one in buffer.reports if kept in one and "offset" in one] == buffer.reports
        assert len(buffer.reports) == 1
        assert buffer.disk.exists(kept)
        assert not buffer.paths(layout.SEALED)

    in_buffer(scenario, ("far",))


def test_a_trailer_that_is_damaged_beside_a_running_service() -> None:
    """A delivery half that starts anew cannot know the segment: that is told once; the next whole start mends it."""

    async def scenario(buffer: DiskBuffer) -> None:
        segment = await sealed(buffer, b"a", b"b")
        path = layout.file_of(ROOT, segment)
        buffer.disk.flip(path, buffer.disk.size(path) - 20)
        buffer.start_delivery()
        buffer.shelf.rescan()
        assert buffer.reports == [f"{path}: its trailer is damaged, which a restart of the service mends"]
        assert await offered(buffer.outbox()) == []
        await buffer.crash(power=False)
        (again,) = await offered(buffer.outbox())
        assert await read(buffer.outbox(), again) == [b"a", b"b"]

    in_buffer(scenario, ("far",))


def test_held_and_released() -> None:
    """A held segment counts as pending and held, and is offered again when a person releases it, once."""

    async def scenario(buffer: DiskBuffer) -> None:
        segment = await sealed(buffer, b"a", b"b")
        assert await offered(buffer.outbox()) == [segment]
        await buffer.outbox().hold(segment, "refused")
        await buffer.crash()
        assert await offered(buffer.outbox()) == []
        standing = buffer.shelf.standings()[STREAM, "far"]
        assert (standing.pending, standing.held) == (2, 2)
        assert buffer.shelf.release(segment.key) == ["far"]
        assert buffer.shelf.release(segment.key) == []
        assert await offered(buffer.outbox()) == [segment]
        await buffer.crash()
        assert await offered(buffer.outbox()) == [segment]

    in_buffer(scenario)


def test_many_are_released_at_once() -> None:
    """With one sync of the ledger, which all that waits for it waits for."""

    async def scenario(buffer: DiskBuffer) -> None:
        segments = [await sealed(buffer, b"%d" % number) for number in range(3)]
        for segment in await offered(buffer.outbox()):
            await buffer.outbox().hold(segment, "refused")
        before = len(buffer.disk.steps)
        buffer.shelf.release_all(buffer.shelf.held())
        assert buffer.disk.steps[before:].count(("sync", LEDGER)) == 1
        assert await offered(buffer.outbox()) == segments
        await buffer.crash()
        assert await offered(buffer.outbox()) == segments

    in_buffer(scenario)


def test_deaths_count_only_without_leave() -> None:
    """Attempts are under suspicion when the process died in them, and not when it was told to end."""

    async def scenario(buffer: DiskBuffer) -> None:
        segment = await sealed(buffer, b"a")
        for leave, deaths in ((False, 1), (True, 1), (False, 2), (False, 3)):
            await buffer.outbox().open(segment)
            await died(buffer, leave)
            assert (buffer.outbox().deaths(segment), buffer.outbox("near").deaths(segment)) == (deaths, 0)
        await died(buffer, leave=False)
        assert buffer.outbox().deaths(segment) == 3
        await died(buffer, leave=True)
        assert buffer.outbox().deaths(segment) == 3
        await buffer.outbox().hold(segment, "it kills")
        buffer.shelf.release(segment.key)
        assert buffer.outbox().deaths(segment) == 0

    in_buffer(scenario)


def test_rescan_finds_what_was_not_announced() -> None:
    """Segments whose announcement was lost are offered after a rescan, those known already not again."""

    async def scenario(buffer: DiskBuffer) -> None:
        first = await sealed(buffer, b"a")
        buffer.shelf.announce = lambda key: None  # type: ignore[method-assign]
        second = await sealed(buffer, b"b")
        assert await offered(buffer.outbox()) == [first]
        for _ in range(2):
            buffer.shelf.rescan()
        assert await offered(buffer.outbox()) == [second]

    in_buffer(scenario)


def test_announced_twice_is_offered_once() -> None:
    """An announcement that comes twice, or of a file that is gone, offers nothing new."""

    async def scenario(buffer: DiskBuffer) -> None:
        segment = await sealed(buffer, b"a")
        buffer.shelf.announce(segment.key)
        assert await drained(buffer.outbox()) == [b"a"]
        buffer.shelf.announce(segment.key)
        buffer.shelf.rescan()
        assert await offered(buffer.outbox()) == []

    in_buffer(scenario, ("far",))


def test_unknown_stream_waits() -> None:
    """A stream that the catalogue does not know is kept and not offered until it does."""

    async def scenario(buffer: DiskBuffer) -> None:
        segment = await sealed(buffer, b"a")
        assert buffer.paths(layout.SEALED)
        assert buffer.shelf.versions() == {STREAM: {1}}
        buffer.destinations = ("far",)
        buffer.shelf.rescan()
        assert await offered(buffer.outbox()) == [segment]

    in_buffer(scenario, ())


@pytest.mark.parametrize("step", ["write", "sync"])
def test_a_commit_that_fails_is_tried_again(step: str) -> None:
    """A disk that fails under a commit is a retry; the file stays until the ledger has it durably."""

    async def scenario(buffer: DiskBuffer) -> None:
        segment = await sealed(buffer, b"a")
        await read(buffer.outbox(), segment)
        buffer.disk.faults.append(Fault(step, errno.ENOSPC, "ledger"))
        with pytest.raises(Retry, match="the buffer's disk failed"):
            await buffer.outbox().commit(segment, totals(segment))
        buffer.shelf.rescan()
        assert buffer.paths(layout.SEALED)
        await buffer.crash()
        assert await offered(buffer.outbox()) == [segment]
        await buffer.outbox().commit(segment, totals(segment))
        assert buffer.shelf.standings()[STREAM, "far"].totals.delivered == 1

    in_buffer(scenario, ("far",))


def test_a_file_that_cannot_be_looked_at_keeps_nobody_waiting() -> None:
    """The ledger, which all streams share, is folded and goes on; a look at all streams goes on behind that one."""

    async def scenario() -> None:
        buffer = DiskBuffer()
        await buffer.start()
        await buffer.appender.append(batch(b"a"))
        await buffer.appender.seal()
        (segment,) = await offered(buffer.outbox())
        buffer.shelf.ledger.append({"t": "delivered", "s": segment.key, "d": "elsewhere", "n": {"delivered": 1}})
        buffer.disk.blind = ("view", layout.SEALED)
        buffer.shelf.rescan()
        assert buffer.reports == [], "what is known is not opened again"
        buffer.disk.put(layout.file_of(ROOT, (STREAM, segment.lane, 7)), b"")
        for how in ("exists", "view"):
            buffer.disk.blind = (how, layout.SEALED)
            buffer.shelf.ledger.fold()
            buffer.shelf.rescan()
        buffer.disk.blind = ("", "")
        assert sum("cannot be looked at" in report for report in buffer.reports) == 1
        buffer.shelf.rescan()
        buffer.disk.blind = ("view", layout.SEALED)
        buffer.shelf.rescan()
        assert sum("cannot be looked at" in report for report in buffer.reports) == 2, "it could, in between"
        buffer.disk.blind = ("", "")
        book, bad = read_book(buffer.disk, LEDGER)
        assert (bad, segment.key in book.delivered) == ([], True)

    run(scenario())


def test_fold_forgets_what_is_gone() -> None:
    """A fold keeps of segments whose files are gone the totals alone, and syncs each folder once."""

    async def scenario(buffer: DiskBuffer) -> None:
        for number in range(20):
            await delivered(buffer.outbox(), await sealed(buffer, b"%d" % number))
        before = len(buffer.disk.steps)
        buffer.shelf.ledger.fold()
        synced = [path for step, path in buffer.disk.steps[before:] if step == "sync_folder"]
        assert len(synced) == len(set(synced)) == 2
        assert buffer.disk.read(LEDGER).count(b'"delivered","s"') == 0
        await buffer.crash()
        assert buffer.shelf.standings()[STREAM, "far"].totals == Totals(delivered=20)
        assert await offered(buffer.outbox()) == []

    in_buffer(scenario, ("far",))


def test_closed_outbox_ends() -> None:
    """Whoever iterates a closed outbox comes to an end."""

    async def scenario(buffer: DiskBuffer) -> None:
        outbox = buffer.outbox()
        buffer.shelf.close()
        assert [segment async for segment in outbox.sealed()] == []

    in_buffer(scenario)


def test_standing_tells_the_oldest() -> None:
    """The oldest undelivered record's arrival is told for each destination, and nothing when there is none."""

    async def scenario(buffer: DiskBuffer) -> None:
        first = await sealed(buffer, b"a")
        await sealed(buffer, b"b")
        oldest = int(first.opened_at.timestamp() * 1000)
        assert buffer.shelf.standings()[STREAM, "far"].oldest_ms == oldest
        await drained(buffer.outbox())
        assert buffer.shelf.standings()[STREAM, "far"].oldest_ms is None
        assert buffer.shelf.standings()[STREAM, "near"].oldest_ms == oldest

    in_buffer(scenario)


@pytest.mark.parametrize("step", ["write", "sync"])
def test_memo_on_a_failing_disk(step: str) -> None:
    """A note that the disk does not take is a reason to try again, not a bug that would hold the segment."""

    async def scenario(buffer: DiskBuffer) -> None:
        segment = await sealed(buffer, b"a")
        buffer.disk.faults.append(Fault(step, errno.EIO, LEDGER))
        with pytest.raises(Retry, match="disk failed"):
            buffer.outbox().memo(segment).write("note")
        buffer.outbox().memo(segment).write("note")

    in_buffer(scenario)


def test_announced_when_it_has_gone() -> None:
    """Who tells of a segment only when it has been found, delivered and removed already hears once more that it has
    gone: it would count the file for good.
    """

    async def scenario(buffer: DiskBuffer) -> None:
        segment = await sealed(buffer, b"a")
        assert await drained(buffer.outbox()) == [b"a"]
        buffer.shelf.announce(segment.key)
        assert buffer.gone == [segment.key, segment.key]

    in_buffer(scenario, ("far",))
