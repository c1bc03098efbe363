"""Any lives of a shard's log: whatever fails, dies and expires, its records add up and its counters rise."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from random import Random

import pytest
from faulty_disk import Fault
from hypothesis import example, given, settings
from hypothesis import strategies as st
from shard_disk import ROOT, SHARD, DiskShard, arrivals_of, counters_of, everything, records_of, rows
from virtual_time import passed, run

from firehose.buffer import layout
from firehose.contracts import Unavailable
from firehose.datastream.log import DiskShardLog
from firehose.datastream.model import Run

STEPS = ("write", "sync", "create", "rename", "mkdir", "sync_folder", "remove", "cut")


@dataclass(slots=True)
class Witness:
    """What was promised so far, and what may be there without a promise."""

    acknowledged: dict[int, tuple[bytes, int]] = field(default_factory=dict)  # record and arrival, by counter
    seen: dict[int, tuple[bytes, int]] = field(default_factory=dict)  # what was read last
    doubtful: set[bytes] = field(default_factory=set)
    horizon_ms: int = 0
    tip: int = 0
    number: int = 0

    def records(self, count: int, size: int) -> list[bytes]:
        self.number += 1
        return [b"%d.%d" % (self.number, row) + b"x" * size for row in range(count)]


Op = tuple[str, int]
OPS = st.lists(
    st.one_of(
        st.tuples(st.just("append"), st.integers(1, 700)),
        st.tuples(st.just("side by side"), st.integers(1, 4)),
        st.tuples(st.just("fault"), st.integers(0, 2 * len(STEPS) - 1)),
        st.tuples(st.just("stop"), st.integers(0, 30)),
        st.tuples(st.sampled_from(["power", "kill", "restart", "cut short", "mended"]), st.integers(0, 999)),
        st.tuples(st.just("expire"), st.integers(0, 3)),
        st.tuples(st.just("clock"), st.integers(-100_000, 100_000)),
    ),
    min_size=3,
    max_size=40,
)


class Life:
    """One log, and what is done to it by name."""

    def __init__(self, shard: DiskShard) -> None:
        self.shard = shard
        self.witness = Witness()

    async def lived(self, ops: list[Op]) -> None:
        await self.shard.start()
        for name, number in ops:
            await getattr(self, "_" + name.replace(" ", "_"))(number)
            await self._looked_at()
            await passed(0.3)
        await self._power(0)
        await self._looked_at()

    async def _append(self, size: int) -> None:
        witness, records = self.witness, self.witness.records(1 + size % 3, size)
        try:
            placed = await self.shard.log.append(rows(*records))
        except Unavailable:
            witness.doubtful |= {*records}
            return
        assert placed.first >= witness.tip, "a counter was given out before"
        for row, record in enumerate(records):
            witness.acknowledged[placed.first + row] = record, placed.arrival_ms

    async def _side_by_side(self, count: int) -> None:
        await asyncio.gather(*(self._append(size) for size in range(count)))

    async def _fault(self, which: int) -> None:
        self.shard.disk.faults.append(Fault(STEPS[which % len(STEPS)], times=1 + which // len(STEPS)))

    async def _stop(self, steps: int) -> None:
        """From some step on the disk does nothing more, until the power is cut."""
        self.shard.disk.stop_at = len(self.shard.disk.steps) + steps

    def _forget_the_doubtful(self) -> None:
        """What a failed sync left in memory alone is found there by the next process, and not by one after the cut."""
        seen = self.witness.seen
        self.witness.seen = {counter: one for counter, one in seen.items() if one[0] not in self.witness.doubtful}

    async def _power(self, seed: int) -> None:
        self._forget_the_doubtful()
        await self.shard.crash(dice=Random(seed) if seed % 3 else None)

    async def _kill(self, seed: int) -> None:
        await self.shard.crash(power=False)

    async def _restart(self, seed: int) -> None:
        await self.shard.restart()

    async def _cut_short(self, seed: int) -> None:
        """The power is cut again while the next process starts."""
        self._forget_the_doubtful()
        await self.shard.crash(dice=Random(seed))
        await self.shard.crash(dice=Random(seed), stop_at=seed % 12)
        await self.shard.crash(dice=Random(seed))

    async def _mended(self, seed: int) -> None:
        await passed(5)

    async def _expire(self, seconds: int) -> None:
        """As far as the disk lets us."""
        before_ms = self.shard.runtime.now_ms() - 1000 * seconds
        self.witness.horizon_ms = max(self.witness.horizon_ms, before_ms)
        try:
            await self.shard.expire(before_ms)
        except OSError:
            await passed(1)

    async def _clock(self, ms: int) -> None:
        self.shard.runtime.wall_ms += ms

    async def _looked_at(self) -> None:
        log, witness = self.shard.log, self.witness
        run = await everything(log)
        found = dict(zip(counters_of(run), zip(records_of(run), arrivals_of(run), strict=True), strict=True))
        assert list(found) == sorted(found)
        assert arrivals_of(run) == sorted(arrivals_of(run))
        assert len(set(records_of(run))) == len(found)
        for counter, kept in witness.acknowledged.items():
            assert found.get(counter, kept) == kept
            assert counter in found or kept[1] < witness.horizon_ms, f"{kept} was acknowledged, and is lost"
        for counter, seen in witness.seen.items():
            assert found.get(counter, seen) == seen
            assert counter in found or seen[1] < witness.horizon_ms, f"{seen} was read, and is gone"
        for counter in found.keys() - witness.acknowledged.keys():
            assert found[counter][0] in witness.doubtful, "nobody sent this"
        assert log.tip >= max(witness.tip, *found, 0)
        witness.tip = log.tip
        witness.seen = found


@pytest.mark.parametrize("lately_bytes", [0, 6000, 1 << 24])
@settings(max_examples=60, deadline=None)
@example([("append", 1), ("expire", 0), ("power", 0), ("append", 1), ("fault", 1), ("append", 1), ("append", 1)])
@example([("append", 600), ("append", 600), ("fault", 6), ("expire", 0), ("kill", 0), ("append", 3)])
@example([("append", 5), ("fault", 1), ("append", 6), ("append", 7), ("kill", 0), ("append", 8), ("mended", 0)])
@example([("append", 5), ("clock", -90_000), ("expire", 0), ("restart", 0), ("append", 6), ("cut short", 7)])
@given(OPS)
def test_lives(lately_bytes: int, ops: list[Op]) -> None:
    """Nothing that was acknowledged or read is lost before it expires, nothing is invented or doubled, and no counter
    comes twice; whether what was written last is read from the disk, or from memory, or some of it from either.
    """
    run(Life(DiskShard(lately_bytes=lately_bytes)).lived(ops))


# The proof that it can fail: mistakes with a name.


class OneGeneration(DiskShard):
    """Each lane counts from the same number on."""

    def opened(self) -> DiskShardLog:
        log = super().opened()
        log._generation = 0
        log._appender = log._writer()
        return log


class RemovesEmptyLanes(DiskShard):
    """The newest lane goes with its last record, as a delivery stream's does."""

    async def start(self) -> None:
        for lane in layout.lanes(self.disk, ROOT, SHARD.id):
            folder = layout.lane_folder(ROOT, SHARD.id, lane)
            names = self.disk.list(folder)
            if all(name.endswith(layout.HEAD) for name in names):
                for name in names:
                    self.disk.remove(f"{folder}/{name}")
                self.disk.remove_folder(folder)
        await super().start()


class FreesTooMuch(DiskShard):
    """A file goes when its first record has expired."""

    async def expire(self, before_ms: int) -> None:
        for kept in self.log._kept:
            kept.newest_ms = kept.opened_ms
        await super().expire(before_ms)


class BelievesTheClock(DiskShard):
    """Arrival is what the clock says."""

    def opened(self) -> DiskShardLog:
        log = super().opened()
        log._appender._runtime.now_ms = self.runtime.now_ms  # type: ignore[method-assign]
        return log


class ReadsAhead(DiskShard):
    """What is written may be read before it is durable."""

    def opened(self) -> DiskShardLog:
        log = super().opened()
        read = log.read

        async def eager(position: int, most_records: int, most_bytes: int) -> Run:
            log._memo = None
            for path, kept in zip(self.paths(layout.OPEN), log._kept[-1:], strict=False):
                kept.file_bytes = self.disk.size(path)
            return await read(position, most_records, most_bytes)

        log.read = eager  # type: ignore[method-assign]
        return log


CANARIES: list[tuple[type[DiskShard], list[Op]]] = [
    (OneGeneration, [("append", 1), ("restart", 0), ("append", 1)]),
    (RemovesEmptyLanes, [("append", 1), ("expire", 0), ("restart", 0), ("append", 1)]),
    (FreesTooMuch, [("append", 200), ("clock", 2000), ("append", 200), ("expire", 1)]),
    (BelievesTheClock, [("append", 1), ("clock", -5000), ("append", 1)]),
    (ReadsAhead, [("append", 1), ("fault", 1), ("append", 2), ("mended", 0)]),
]


@pytest.mark.parametrize(("shard", "ops"), CANARIES, ids=lambda one: getattr(one, "__name__", ""))
def test_canaries(shard: type[DiskShard], ops: list[Op]) -> None:
    """A log that makes this mistake is found out."""
    with pytest.raises(AssertionError):
        run(Life(shard()).lived(ops))
