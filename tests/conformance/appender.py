"""The laws of an appender (`firehose.contracts.Appender`), to be run over every implementation.

A law is a function of a harness, run in virtual time. Test modules parametrize over `LAWS` and prove with canaries
that each implementation mistake worth a name breaks one. What was stored is judged by what the delivery side reads.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Protocol

import pyarrow as pa
import pytest
from disk_buffer import batch
from virtual_time import passed

from firehose.contracts import Appender, Full, Outbox, Unavailable, Unsure
from firehose.model import Origin, Segment, Totals


class Harness(Protocol):
    """How the suite handles one buffer, which is empty at first, and seals at 1000 bytes."""

    durable: bool  # whether a crash can lose anything at all

    @property
    def appender(self) -> Appender: ...

    async def start(self) -> None: ...

    async def crash(self, power: bool = True) -> None:
        """Ends the process, with or without the power, and starts anew over what is left."""
        ...

    async def seal(self) -> None: ...

    def outbox(self, destination: str = "far") -> Outbox: ...

    async def drained(self) -> list[bytes]:
        """Seals, then delivers and commits everything: the records, in the order of the outbox."""
        ...

    async def segments(self) -> list[Segment]:
        """Takes what the outbox offers now."""
        ...

    def fail_next_sync(self) -> None: ...

    def fill(self) -> None:
        """From now on nothing more fits."""
        ...


Law = Callable[[Harness], Awaitable[None]]


async def acknowledged_survives(harness: Harness) -> None:
    """What was acknowledged is there after a power cut, whole and in order."""
    await harness.start()
    for number in range(5):
        await harness.appender.append(batch(b"a%d" % number, b"b%d" % number))
    await harness.crash()
    assert await harness.drained() == [b"%s%d" % (x, n) for n in range(5) for x in (b"a", b"b")]


async def first_names_survive(harness: Harness) -> None:
    """The very first record survives a power cut: every folder on its way is durable too."""
    await harness.start()
    await harness.appender.append(batch(b"first"))
    await harness.crash()
    assert await harness.drained() == [b"first"]


async def sealed_survives(harness: Harness) -> None:
    """What was sealed is there after a power cut, once."""
    await harness.start()
    await harness.appender.append(batch(b"x" * 2000))
    await harness.appender.append(batch(b"y"))
    await harness.crash()
    assert await harness.drained() == [b"x" * 2000, b"y"]


async def positions_are_dense(harness: Harness) -> None:
    """Positions number the records of a lane without gap or repeat, in the order of the appends."""
    await harness.start()
    positions = await asyncio.gather(*(harness.appender.append(batch(*[b"r"] * n)) for n in (1, 3, 2, 5)))
    assert [(p.first, p.count) for p in positions] == [(0, 1), (1, 3), (4, 2), (6, 5)]
    assert len({p.lane for p in positions}) == 1


async def pieces_are_one_append(harness: Harness) -> None:
    """Records that lie in several pieces, some of them empty, are stored in order and together with their origin."""
    await harness.start()
    pieces = [batch(b"a", b"b"), batch(), batch(b"c" * 400).slice(0, 1), batch(b"-", b"d", b"-").slice(1, 1)]
    position = await harness.appender.append(pa.Table.from_batches(pieces), Origin("shard", "4"))
    assert (position.first, position.count) == (0, 4)
    assert (await harness.appender.append(batch(b"e"))).first == 4
    await harness.crash()
    assert harness.appender.origins()["shard"].cursor == "4"
    assert await harness.drained() == [b"a", b"b", b"c" * 400, b"d", b"e"]


async def names_never_come_back(harness: Harness) -> None:
    """Across restarts and deliveries no two segments have the same identity, and a new start has a new lane."""
    await harness.start()
    seen: list[Segment] = []
    for number in range(4):
        await harness.appender.append(batch(b"n%d" % number))
        await harness.seal()
        for segment in await harness.segments():
            seen.append(segment)
            await _finish(harness, segment)
        await harness.crash(power=bool(number % 2))
    assert len({segment.key for segment in seen}) == len(seen) == 4
    assert len({segment.lane for segment in seen}) == 4


async def nothing_is_lost_at_a_threshold(harness: Harness) -> None:
    """An append that reaches the size, or goes far beyond it, is kept whole, and what follows too."""
    await harness.start()
    sent = [[b"%d" % n * 100] * n for n in (3, 9, 30, 1)]
    for records in sent:
        await harness.appender.append(batch(*records))
    assert await harness.drained() == [record for records in sent for record in records]


async def restarts_lose_nothing(harness: Harness) -> None:
    """Appends before, between and after crashes are all there once."""
    await harness.start()
    sent = []
    for number in range(6):
        for half in (b"a", b"b"):
            sent.append(half + b"%d" % number)
            await harness.appender.append(batch(sent[-1]))
        await harness.crash(power=bool(number % 2))
    assert sorted(await harness.drained()) == sorted(sent)


async def origins_survive(harness: Harness) -> None:
    """The newest origin of each partition is read back after a crash, with records and without."""
    await harness.start()
    await harness.appender.append(batch(b"x"), Origin("p", "1"))
    await harness.appender.append(batch(b"x"), Origin("p", "2"))
    await harness.appender.append(batch(), Origin("q", "9"))
    await harness.crash()
    assert harness.appender.origins() == {"p": Origin("p", "2"), "q": Origin("q", "9")}


async def origins_outlive_their_segments(harness: Harness) -> None:
    """An origin is known after its records are delivered and gone, through further crashes."""
    await harness.start()
    await harness.appender.append(batch(b"x"), Origin("p", "7"))
    assert await harness.drained() == [b"x"]
    for power in (True, False, True):
        await harness.crash(power)
        assert harness.appender.origins() == {"p": Origin("p", "7")}


async def older_origins_stay_older(harness: Harness) -> None:
    """A segment that is delivered late, or still held, does not bring its old origin back."""
    await harness.start()
    for cursor in ("1", "2"):
        await harness.appender.append(batch(b"x"), Origin("p", cursor))
        await harness.seal()
    old, new = await harness.segments()
    await _finish(harness, new)
    await harness.crash(power=False)
    assert harness.appender.origins() == {"p": Origin("p", "2")}
    assert await harness.segments() == [old]
    await _finish(harness, old)
    await harness.crash()
    assert harness.appender.origins() == {"p": Origin("p", "2")}


async def full_takes_nothing(harness: Harness) -> None:
    """An append refused as `Full` has left nothing behind."""
    await harness.start()
    await harness.appender.append(batch(b"before"))
    harness.fill()
    with pytest.raises(Full):
        await harness.appender.append(batch(b"refused" * 10))
    await harness.crash()
    assert await harness.drained() == [b"before"]


async def failed_sync_is_no_acknowledgement(harness: Harness) -> None:
    """Where a sync fails nobody who waits for it is told of success, and what was acknowledged before is kept."""
    await harness.start()
    await harness.appender.append(batch(b"before"))
    harness.fail_next_sync()
    answers = await asyncio.gather(*(_tried(harness, b"w%d" % n) for n in range(3)))
    if harness.durable:
        assert answers == [Unsure] * 3
    after = [b"after%d" % number for number in range(3)]
    for record in after:
        await harness.appender.append(batch(record))
    await passed(5)
    await harness.crash()
    stored = await harness.drained()
    assert {b"before", *after} <= set(stored)
    assert len(set(stored)) == len(stored)


async def origins_decide(harness: Harness) -> None:
    """What the origin does not have after `Unsure`, and is appended again, is stored once, whatever crash comes."""
    await harness.start()
    await harness.appender.append(batch(b"before"), Origin("p", "1"))
    harness.fail_next_sync()
    while harness.appender.origins()["p"] != Origin("p", "2"):
        try:
            await harness.appender.append(batch(b"after"), Origin("p", "2"))
        except Unavailable:
            await passed(0.1)
    await harness.crash(power=False)
    assert sorted(await harness.drained()) == [b"after", b"before"]


LAWS: tuple[Law, ...] = (
    acknowledged_survives,
    first_names_survive,
    sealed_survives,
    positions_are_dense,
    pieces_are_one_append,
    names_never_come_back,
    nothing_is_lost_at_a_threshold,
    restarts_lose_nothing,
    origins_survive,
    origins_outlive_their_segments,
    older_origins_stay_older,
    full_takes_nothing,
    failed_sync_is_no_acknowledgement,
    origins_decide,
)


async def _tried(harness: Harness, record: bytes) -> type[Exception] | None:
    try:
        await harness.appender.append(batch(record))
    except Unavailable as failure:
        return type(failure)
    return None


async def _finish(harness: Harness, segment: Segment) -> None:
    for destination in ("far", "near"):
        await harness.outbox(destination).commit(segment, Totals(delivered=segment.count))
