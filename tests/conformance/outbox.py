"""The laws of an outbox (`firehose.contracts.Outbox`), to be run over every implementation with the same harness."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pyarrow as pa
import pytest
from conformance.appender import Harness, Law
from disk_buffer import batch, offered, read, totals
from virtual_time import passed

from firehose.model import Outcome, Segment


async def comes_back_until_committed(harness: Harness) -> None:
    """A segment comes back with the same identity and bytes after any crash, opened or not, until it is committed."""
    segment = await _one(harness)
    records = await read(harness.outbox(), segment)
    for power in (True, False, True):
        await harness.crash(power)
        assert await harness.segments() == [segment]
        assert await read(harness.outbox(), segment) == records == [b"a", b"b"]


async def never_after_commit(harness: Harness) -> None:
    """A committed segment is not offered again, by this process or a later one."""
    segment = await _one(harness)
    await harness.outbox().commit(segment, totals(segment))
    assert await harness.segments() == []
    for power in (True, False):
        await harness.crash(power)
        assert await harness.segments() == []


async def offered_once(harness: Harness) -> None:
    """A process is offered each segment once, in the order of its lane."""
    await harness.start()
    for number in range(5):
        await harness.appender.append(batch(b"%d" % number))
        await harness.seal()
    found = await harness.segments()
    assert [segment.first for segment in found] == [0, 1, 2, 3, 4]
    assert await harness.segments() == []


async def sealed_waits_for_more(harness: Harness) -> None:
    """Whoever iterates is woken by the next segment."""
    await harness.start()
    waiting = asyncio.ensure_future(anext(harness.outbox().sealed()))
    await passed(1)
    assert not waiting.done()
    await harness.appender.append(batch(b"late"))
    await harness.seal()
    assert (await waiting).count == 1


async def commit_may_be_repeated(harness: Harness) -> None:
    """A commit said twice counts once and disturbs nobody."""
    segment = await _one(harness)
    for _ in range(2):
        await harness.outbox().commit(segment, totals(segment))
    await harness.crash()
    assert await harness.segments() == []


async def destinations_are_owed_separately(harness: Harness) -> None:
    """What one destination committed is still owed to the other, and the other alone."""
    segment = await _one(harness)
    await harness.outbox("far").commit(segment, totals(segment))
    await harness.crash()
    assert await harness.segments() == []
    (other,) = await offered(harness.outbox("near"))
    assert other == segment
    assert await read(harness.outbox("near"), other) == [b"a", b"b"]


async def held_is_not_offered(harness: Harness) -> None:
    """A held segment is not yielded after a crash, but is still there to be read."""
    segment = await _one(harness)
    await harness.outbox().hold(segment, "a person must look")
    await harness.crash()
    assert await harness.segments() == []
    assert await read(harness.outbox(), segment) == [b"a", b"b"]


async def each(*outcomes: Outcome) -> AsyncIterator[Outcome]:
    for outcome in outcomes:
        yield outcome


async def outcomes_that_break_off_are_not_kept(harness: Harness) -> None:
    """Where the outcomes cannot all be made, none is kept, and they can be made anew."""

    async def broken() -> AsyncIterator[Outcome]:
        yield Outcome(rows)
        raise RuntimeError("the user's code was taken away")

    segment = await _one(harness)
    rows = next(iter((await harness.outbox().open(segment)).slices()))
    try:
        await harness.outbox().keep(segment, broken())
    except RuntimeError:
        pass
    else:
        raise AssertionError("what the outcomes raise was swallowed")
    assert await harness.outbox().kept(segment) is None
    await harness.outbox().keep(segment, each(Outcome(rows)))
    await harness.crash()
    assert await harness.outbox().kept(segment) is not None


async def outcomes_are_kept(harness: Harness) -> None:
    """An outcome that was kept is read back after a crash; a second one is ignored."""
    segment = await _one(harness)
    assert await harness.outbox().kept(segment) is None
    rows = next(iter((await harness.outbox().open(segment)).slices()))
    await harness.outbox().keep(segment, each(Outcome(rows.slice(0, 1), dropped=pa.array([1], pa.int32()))))
    await harness.outbox().keep(segment, each(Outcome(rows)))
    await harness.crash()
    kept = await harness.outbox().kept(segment)
    assert kept is not None
    (outcome,) = kept
    assert outcome.rows.column("record").to_pylist() == [b"a"]
    assert outcome.dropped.to_pylist() == [1]


async def deaths_are_counted(harness: Harness) -> None:
    """A crash in the middle of an attempt counts; one after a rest, before any attempt, or while work is done
    elsewhere, does not. Whoever was survived starts anew.
    """
    segment = await _one(harness)
    counts = []
    for steps in ("open", "open", "read", "open rest", "open"):
        if "read" in steps:
            records = next(iter((await harness.outbox().read(segment)).slices())).column("record")
            assert records.to_pylist() == [b"a", b"b"]
        if "open" in steps:
            await harness.outbox().open(segment)
        if "rest" in steps:
            await harness.outbox().rest(segment)
        await harness.crash(power=False)
        counts.append(harness.outbox().deaths(segment))
    assert counts == [1, 2, 2, 0, 1]


async def memos_last_until_commit(harness: Harness) -> None:
    """Notes are read back in order after a crash, apart for each destination, and are gone once it is committed."""
    segment = await _one(harness)
    for note in ("one", "two"):
        harness.outbox().memo(segment).write(note)
    await harness.crash()
    assert harness.outbox().memo(segment).read() == ("one", "two")
    assert harness.outbox("near").memo(segment).read() == ()
    await harness.outbox().commit(segment, totals(segment))
    await harness.crash()
    assert harness.outbox().memo(segment).read() == ()


async def slices_repeat(harness: Harness) -> None:
    """Reading a batch again gives the same rows, cut at the same places, numbered from nought."""
    await harness.start()
    for size in (1, 4, 2):
        await harness.appender.append(batch(*[b"r%d" % size] * size))
    await harness.seal()
    (segment,) = await harness.segments()
    opened = await harness.outbox().open(segment)
    once, again = list(opened.slices()), list(opened.slices())
    assert once == again
    assert [row for piece in once for row in piece.column("row").to_pylist()] == list(range(7))


async def wrong_sums_are_refused(harness: Harness) -> None:
    """Totals that do not account for every record are a mistake of ours and are not taken."""
    segment = await _one(harness)
    with pytest.raises(AssertionError):
        await harness.outbox().commit(segment, totals(segment) + totals(segment))
    await harness.crash()
    assert await harness.segments() == [segment]


LAWS: tuple[Law, ...] = (
    comes_back_until_committed,
    never_after_commit,
    offered_once,
    sealed_waits_for_more,
    commit_may_be_repeated,
    destinations_are_owed_separately,
    held_is_not_offered,
    outcomes_are_kept,
    outcomes_that_break_off_are_not_kept,
    deaths_are_counted,
    memos_last_until_commit,
    slices_repeat,
    wrong_sums_are_refused,
)


async def _one(harness: Harness) -> Segment:
    """A sealed segment of two records, taken from the outbox."""
    await harness.start()
    await harness.appender.append(batch(b"a", b"b"))
    await harness.seal()
    (segment,) = await harness.segments()
    return segment
