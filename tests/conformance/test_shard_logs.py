"""Every log of a shard keeps the laws of its door, and each mistake with a name breaks one of them."""

from __future__ import annotations

import asyncio
from bisect import bisect_right
from collections.abc import Callable
from dataclasses import replace

import pyarrow as pa
import pytest
from conformance import shard_log
from conformance.shard_log import LAWS, Harness, Law
from memory_streams import GENERATION, MemoryLog
from shard_disk import DiskShard
from virtual_time import Stuck, VirtualRuntime, passed, run

from firehose.contracts import Full
from firehose.datastream.model import Placed, Run


class MemoryShard:
    """The log without a disk: its crashes lose nothing."""

    durable = False

    def __init__(self, log: Callable[[Callable[[], int]], MemoryLog] = MemoryLog) -> None:
        self.runtime = VirtualRuntime()
        self._made = log

    async def start(self) -> None:
        self.log = self._made(self.runtime.now_ms)

    async def crash(self, power: bool = True) -> None:
        self.log.failing = None
        self.log.restart()

    async def restart(self) -> None:
        self.log.restart()

    async def expire(self, before_ms: int) -> None:
        self.log.expire(before_ms)

    async def close(self) -> None:
        self.log.close()

    def fail_next_sync(self) -> None:
        """It has none."""

    def fill(self) -> None:
        self.log.failing = Full("full")


@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.__name__)
@pytest.mark.parametrize("harness", [DiskShard, MemoryShard])
def test_laws(harness: Callable[[], Harness], law: Law) -> None:
    """The implementation keeps the law."""
    run(law(harness()))


# The proof that each law can be broken: mistakes with a name.


class LosesTheLast(MemoryLog):
    """What was not written yet when the process died was acknowledged all the same."""

    def restart(self) -> None:
        del self._pieces[-1:], self._arrivals[-1:]
        super().restart()


class CountsAgain(MemoryLog):
    """Where nothing is left it begins anew."""

    def restart(self) -> None:
        super().restart()
        self._next = self._next if self._pieces else GENERATION


class TakesRowByRow(MemoryLog):
    """Appends side by side get between each other's records."""

    async def append(self, records: pa.RecordBatch) -> Placed:
        placed = await super().append(records.slice(0, 1))
        for row in range(1, records.num_rows):
            await asyncio.sleep(0)
            await super().append(records.slice(row, 1))
        return placed


class ForgetsKeys(MemoryLog):
    """Partition keys are not kept."""

    async def append(self, records: pa.RecordBatch) -> Placed:
        return await super().append(records.set_column(2, "meta", pa.array([""] * records.num_rows)))


class StopsAtRestarts(MemoryLog):
    """A read gives what one process wrote, and no more."""

    async def read(self, position: int, most_records: int, most_bytes: int) -> Run:
        found = await super().read(position, most_records, most_bytes)
        if len({first // GENERATION for first, _ in found.pieces}) < 2:
            return found
        end = next(first for first, _ in found.pieces if first // GENERATION > found.pieces[0][0] // GENERATION)
        return await super().read(position, end - position, most_bytes)


class LosesTheRest(MemoryLog):
    """What does not fit is passed over."""

    async def read(self, position: int, most_records: int, most_bytes: int) -> Run:
        found = await super().read(position, most_records, most_bytes)
        return replace(found, next=found.next + 1) if found.waiting_ms else found


class BeginsWithAppends(MemoryLog):
    """Where a position is within an append, the next one is read."""

    async def read(self, position: int, most_records: int, most_bytes: int) -> Run:
        later = [first for first, _ in self._pieces if first >= position]
        return await super().read(later[0] if later else self._next, most_records, most_bytes)


class TellsTheTime(MemoryLog):
    """Says that something waits where nothing does."""

    async def read(self, position: int, most_records: int, most_bytes: int) -> Run:
        found = await super().read(position, most_records, most_bytes)
        return replace(found, waiting_ms=self._now_ms())


class BelievesTheClock(MemoryLog):
    """Arrival is what the clock says."""

    async def append(self, records: pa.RecordBatch) -> Placed:
        self._last_ms = 0
        return await super().append(records)


class LooksBehind(MemoryLog):
    """Finds what arrived after an instant, and not at it."""

    def since(self, ms: int) -> int:
        place = bisect_right(self._arrivals, ms)
        return self._pieces[place][0] if place < len(self._pieces) else self._next


class FreesTooMuch(MemoryLog):
    """What arrived at the horizon goes too."""

    def expire(self, before_ms: int) -> None:
        super().expire(before_ms + 1)


class NeverFrees(MemoryLog):
    """Nothing ever goes."""

    def expire(self, before_ms: int) -> None:
        """Nothing goes."""


class Sleeps(MemoryLog):
    """Looks whether there is more once a minute."""

    async def beyond(self, position: int) -> None:
        while not (self.closed or self._next > position):
            await passed(60)


class KeepsWaiting(MemoryLog):
    """Nobody is told that it was closed."""

    def close(self) -> None:
        self.closed = True


class TakesHalf(MemoryLog):
    """What is refused has been taken."""

    async def append(self, records: pa.RecordBatch) -> Placed:
        failing, self.failing = self.failing, None
        placed = await super().append(records)
        if failing is not None:
            raise failing
        return placed


class AcknowledgesAtOnce(DiskShard):
    """A sync that failed is taken for one that did not."""

    def fail_next_sync(self) -> None:
        """The sync that fails says nothing of it."""


CANARIES: list[tuple[Law, type[MemoryLog]]] = [
    (shard_log.acknowledged_survives, LosesTheLast),
    (shard_log.counters_never_repeat, CountsAgain),
    (shard_log.counters_never_repeat, NeverFrees),
    (shard_log.an_append_is_together, TakesRowByRow),
    (shard_log.keys_are_kept, ForgetsKeys),
    (shard_log.reading_on_gives_each_once, LosesTheRest),
    (shard_log.bounds_are_used, StopsAtRestarts),
    (shard_log.from_any_position, BeginsWithAppends),
    (shard_log.what_waits_is_told, TellsTheTime),
    (shard_log.arrivals_never_go_back, BelievesTheClock),
    (shard_log.since_is_the_first_then, LooksBehind),
    (shard_log.expiry_keeps_the_young, FreesTooMuch),
    (shard_log.what_was_read_stays, NeverFrees),
    (shard_log.beyond_wakes, Sleeps),
    (shard_log.closing_wakes, KeepsWaiting),
    (shard_log.full_takes_nothing, TakesHalf),
]


@pytest.mark.parametrize(("law", "log"), CANARIES, ids=lambda one: one.__name__)
def test_canaries(law: Law, log: type[MemoryLog]) -> None:
    """A log that makes this mistake breaks the law."""
    with pytest.raises((AssertionError, TimeoutError, Stuck)):
        run(law(MemoryShard(log)))


def test_canary_of_syncs() -> None:
    """A log that does not hear of failed syncs breaks the law about them."""
    with pytest.raises(AssertionError):
        run(shard_log.failed_sync_is_no_acknowledgement(AcknowledgesAtOnce()))


def test_every_law_has_a_canary() -> None:
    """A law that nothing breaks proves nothing."""
    assert {law for law, _ in CANARIES} | {shard_log.failed_sync_is_no_acknowledgement} == {*LAWS}
