"""The laws of a shard's log (`firehose.datastream.contracts.ShardLog`), to be run over every implementation.

A law is a function of a harness, run in virtual time. Test modules parametrize over `LAWS` and prove with canaries that
each implementation mistake worth a name breaks one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Protocol

import pyarrow as pa
import pytest
from shard_disk import ALL, arrivals_of, counters_of, everything, records_of, rows
from virtual_time import VirtualRuntime, passed

from firehose.contracts import Full, Unavailable, Unsure
from firehose.datastream.contracts import ShardLog

HOUR_MS = 3_600_000


class Harness(Protocol):
    """How the suite handles one log, which is empty at first."""

    durable: bool  # whether its disk can fail
    runtime: VirtualRuntime

    @property
    def log(self) -> ShardLog: ...

    async def start(self) -> None: ...

    async def crash(self, power: bool = True) -> None:
        """Ends the process, with or without the power, and starts anew over what is left."""
        ...

    async def restart(self) -> None:
        """The same after a clean end."""
        ...

    async def expire(self, before_ms: int) -> None: ...

    async def close(self) -> None: ...

    def fail_next_sync(self) -> None: ...

    def fill(self) -> None:
        """From now on nothing more fits."""
        ...


Law = Callable[[Harness], Coroutine[Any, Any, None]]


async def acknowledged_survives(harness: Harness) -> None:
    """What was acknowledged is there after crashes and restarts, whole, in order, under the same counters."""
    await harness.start()
    sent: dict[int, bytes] = {}
    for number in range(8):
        placed = await harness.log.append(rows(b"a%d" % number, b"b%d" % number * 200))
        sent |= {placed.first: b"a%d" % number, placed.first + 1: b"b%d" % number * 200}
        if number % 4:
            await _ended(harness, number)
    run = await everything(harness.log)
    assert dict(zip(counters_of(run), records_of(run), strict=True)) == sent
    assert counters_of(run) == sorted(sent)


async def counters_never_repeat(harness: Harness) -> None:
    """Counters rise for all time, also when every record has expired and the process died."""
    await harness.start()
    seen, ends = [0], [harness.log.tip]
    for number in range(12):
        placed = await harness.log.append(rows(*[b"%d" % number] * 3))
        seen += range(placed.first, placed.first + 3)
        if number % 2:
            await passed(1)
            await harness.expire(harness.runtime.now_ms())
            assert harness.log.oldest() == harness.log.tip
        if number % 3:
            await _ended(harness, number)
        ends.append(harness.log.tip)
        assert ends[-1] > seen[-1]
    assert seen == sorted(set(seen))
    assert ends == sorted(ends)


async def an_append_is_together(harness: Harness) -> None:
    """Appends side by side, in a piece or in two, are each stored in order and without a gap, and a reader sees all of
    each.
    """
    await harness.start()
    sent = [[b"%d.%d" % (one, row) for row in range(one + 1)] for one in range(9)]
    whole = [rows(*records) for records in sent]
    given = [pa.Table.from_batches([one.slice(0, 2), one.slice(2)]) if one.num_rows % 2 else one for one in whole]
    placed = await asyncio.gather(*(harness.log.append(one) for one in given))
    run = await everything(harness.log)
    found = dict(zip(counters_of(run), records_of(run), strict=True))
    for where, records in zip(placed, sent, strict=True):
        assert [found[where.first + row] for row in range(len(records))] == records
    assert len(found) == sum(map(len, sent))


async def keys_are_kept(harness: Harness) -> None:
    """Each record comes back with its partition key, through a restart."""
    await harness.start()
    await harness.log.append(rows(b"1", b"", b"3", keys=("a", "", "\u00fc" * 256)))
    await harness.restart()
    run = await everything(harness.log)
    assert [key for _, piece in run.pieces for key in piece.column("meta").to_pylist()] == ["a", "", "\u00fc" * 256]
    assert records_of(run) == [b"1", b"", b"3"]


async def reading_on_gives_each_once(harness: Harness) -> None:
    """From position to position, under whatever bounds, every record is read once and in order."""
    await harness.start()
    sent = await _filled(harness)
    for most_records, most_bytes in ((1, 1 << 30), (3, 1 << 30), (100, 5), (100, 60), (7, 400), (1, 1)):
        position, found = 0, list[bytes]()
        while (run := await harness.log.read(position, most_records, most_bytes)).pieces:
            assert run.count <= most_records
            assert run.count == 1 or _bytes(records_of(run)) <= most_bytes
            assert counters_of(run)[0] >= position
            assert run.next > counters_of(run)[-1]
            position, found = run.next, found + records_of(run)
        assert found == sent
        assert run.next == harness.log.tip
        assert run.waiting_ms is None


async def bounds_are_used(harness: Harness) -> None:
    """A read gives as much as its bounds allow, across restarts, and one record however large it is."""
    await harness.start()
    sent = await _filled(harness)
    run = await harness.log.read(0, len(sent) - 1, 1 << 30)
    assert records_of(run) == sent[:-1]
    assert run.waiting_ms is not None
    small = await harness.log.read(0, 1000, _bytes(sent[:5]))
    assert records_of(small) == sent[:5]
    assert records_of(await harness.log.read(0, 1000, 1)) == sent[:1]


async def from_any_position(harness: Harness) -> None:
    """A read begins at the first record at or behind the position, which need not be a record's."""
    await harness.start()
    sent = await _filled(harness)
    counters = counters_of(await everything(harness.log))
    for place, counter in enumerate(counters):
        assert records_of(await harness.log.read(counter, 1, 1 << 30)) == [sent[place]]
        after = await everything(harness.log, counter + 1)
        assert records_of(after) == sent[place + 1 :]
    assert await harness.log.read(harness.log.tip, *ALL) == await harness.log.read(harness.log.tip, 1, 1)


async def what_waits_is_told(harness: Harness) -> None:
    """A run says when the record behind it arrived; none behind it at the tip."""
    await harness.start()
    arrivals = []
    for number in range(6):
        arrivals.append((await harness.log.append(rows(b"%d" % number * 300))).arrival_ms)
        await passed(1)
        if number == 3:
            await harness.crash()
    position = 0
    for arrival_ms in arrivals:
        run = await harness.log.read(position, 1, 1 << 30)
        assert arrivals_of(run) == [arrival_ms]
        position = run.next
        waiting = await harness.log.read(position, 1, 1 << 30)
        assert run.waiting_ms == (arrivals_of(waiting)[0] if waiting.count else None)


async def arrivals_never_go_back(harness: Harness) -> None:
    """Arrival rises with the counter, also when the clock goes back and the process dies; producers are told it."""
    await harness.start()
    told = []
    for number in range(9):
        told.append((await harness.log.append(rows(b"%d" % number * 400))).arrival_ms)
        harness.runtime.wall_ms += [5000, -60_000, 120_000][number % 3]
        if number % 2:
            await _ended(harness, number)
    assert told == sorted(told)
    assert arrivals_of(await everything(harness.log)) == told
    assert told[0] < told[-1]


async def since_is_the_first_then(harness: Harness) -> None:
    """`since` is the position of the first record that arrived then or later, before and after a restart."""
    await harness.start()
    await _filled(harness)
    for _ in range(2):
        run = await everything(harness.log)
        arrivals = arrivals_of(run)
        for ms in {ms + off for ms in arrivals for off in (-1, 0, 1)}:
            expected = [record for record, at in zip(records_of(run), arrivals, strict=True) if at >= ms]
            assert records_of(await everything(harness.log, harness.log.since(ms))) == expected
        assert harness.log.since(arrivals[-1] + 1) == harness.log.tip
        assert harness.log.since(0) == harness.log.oldest()
        await harness.restart()


async def expiry_keeps_the_young(harness: Harness) -> None:
    """What arrived at or after the horizon is kept, through restarts; in time the rest is gone."""
    await harness.start()
    await _filled(harness)
    run = await everything(harness.log)
    for ms in sorted({*arrivals_of(run)}):
        await harness.expire(ms)
        young = [record for record, at in zip(records_of(run), arrivals_of(run), strict=True) if at >= ms]
        assert records_of(await everything(harness.log))[-len(young) :] == young
        assert harness.log.oldest() <= harness.log.since(ms)
    await harness.expire(arrivals_of(run)[-1] + 1)
    assert harness.log.oldest() == harness.log.since(0) == harness.log.tip
    await harness.crash(power=False)
    assert (await everything(harness.log)).pieces == ()


async def what_was_read_stays(harness: Harness) -> None:
    """A run that is held stays what it was, when its records expire and others are written."""
    await harness.start()
    sent = await _filled(harness)
    run = await everything(harness.log)
    await harness.expire(harness.runtime.now_ms() + HOUR_MS)
    await harness.log.append(rows(b"later"))
    assert records_of(run) == sent
    assert records_of(await everything(harness.log)) == [b"later"]


async def beyond_wakes(harness: Harness) -> None:
    """Who waits for more wakes with the next append, in no time; who waits behind it does not."""
    await harness.start()
    await harness.log.append(rows(b"1"))
    tip = harness.log.tip
    await asyncio.wait_for(harness.log.beyond(tip - 1), 1)
    waiting = [asyncio.ensure_future(harness.log.beyond(tip + more)) for more in (0, 0, 1, 2)]
    await passed(100)
    assert not any(one.done() for one in waiting)
    waiting[1].cancel()
    await harness.log.append(rows(b"2", b"3"))
    await passed(0)
    assert [one.done() for one in waiting] == [True, True, True, False]
    assert records_of(await everything(harness.log, tip)) == [b"2", b"3"]
    waiting[3].cancel()


async def closing_wakes(harness: Harness) -> None:
    """Who waits for more is not kept waiting by a log that is closed, and can read what is there."""
    await harness.start()
    await harness.log.append(rows(b"1"))
    waiting = asyncio.ensure_future(harness.log.beyond(harness.log.tip))
    await passed(1)
    await harness.close()
    await asyncio.wait_for(waiting, 1)
    await asyncio.wait_for(harness.log.beyond(harness.log.tip), 1)
    assert records_of(await everything(harness.log)) == [b"1"]


async def full_takes_nothing(harness: Harness) -> None:
    """An append refused as `Full` has left nothing behind."""
    await harness.start()
    await harness.log.append(rows(b"before"))
    harness.fill()
    with pytest.raises(Full):
        await harness.log.append(rows(b"refused"))
    assert records_of(await everything(harness.log)) == [b"before"]
    await harness.crash()
    assert records_of(await everything(harness.log)) == [b"before"]


async def failed_sync_is_no_acknowledgement(harness: Harness) -> None:
    """Where a sync fails nobody is told of success, no reader ever sees it, and what follows is counted above it."""
    await harness.start()
    first = await harness.log.append(rows(b"before"))
    harness.fail_next_sync()
    answers = await asyncio.gather(*(_tried(harness, b"w%d" % n) for n in range(3)))
    if harness.durable:
        assert answers == [Unsure] * 3
        assert records_of(await everything(harness.log)) == [b"before"]
    after = [(await harness.log.append(rows(b"after%d" % number))).first for number in range(3)]
    assert after == sorted(after)
    assert after[0] > first.first + 3 * harness.durable
    await passed(5)
    for _ in range(2):
        found = records_of(await everything(harness.log))
        assert [one for one in found if not one.startswith(b"w")] == [b"before", b"after0", b"after1", b"after2"]
        assert len(set(found)) == len(found)
        await harness.crash()


LAWS: tuple[Law, ...] = (
    acknowledged_survives,
    counters_never_repeat,
    an_append_is_together,
    keys_are_kept,
    reading_on_gives_each_once,
    bounds_are_used,
    from_any_position,
    what_waits_is_told,
    arrivals_never_go_back,
    since_is_the_first_then,
    expiry_keeps_the_young,
    what_was_read_stays,
    beyond_wakes,
    closing_wakes,
    full_takes_nothing,
    failed_sync_is_no_acknowledgement,
)


async def _filled(harness: Harness) -> list[bytes]:
    """Records of all sizes, one by one and together, over several lives and a good while."""
    sent: list[bytes] = []
    for number in range(24):
        records = [b"%d.%d" % (number, row) + b"x" * (97 * number % 350) for row in range(1 + number % 4)]
        sent += records
        await harness.log.append(rows(*records))
        if number % 3:
            await passed(0.7)
        if number in (7, 15, 20):
            await _ended(harness, number // 7)
    return sent


async def _ended(harness: Harness, how: int) -> None:
    """The process ends, in one way or another, and the next one starts."""
    if how % 3 == 0:
        await harness.restart()
    else:
        await harness.crash(power=how % 3 == 1)


async def _tried(harness: Harness, record: bytes) -> type[Exception] | None:
    try:
        await harness.log.append(rows(record))
    except Unavailable as failure:
        return type(failure)
    return None


def _bytes(records: list[bytes]) -> int:
    """Of records with a key of one byte."""
    return sum(len(record) + 1 for record in records)
