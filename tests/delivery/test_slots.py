"""Turns at work: shared out by stream, bounded in number and bytes, alone for a suspect."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Coroutine, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from virtual_time import passed, run

from firehose.delivery.slots import Slots


@dataclass
class Watch:
    """Who works, who worked, and the most that was ever under way at once."""

    order: list[str] = field(default_factory=list)
    working: list[tuple[str, int, bool]] = field(default_factory=list)
    most: int = 0
    most_bytes: int = 0
    accompanied: set[str] = field(default_factory=set)  # those who were not alone

    async def take(self, slots: Slots, name: str, size: int = 1, alone: bool = False, seconds: float = 1.0) -> None:
        stream, _, destination = name.split("-")[0].partition("/")
        async with slots.turn(stream, destination, size, alone):
            self.order.append(name)
            self.working.append((name, size, alone))
            if len(self.working) > 1:
                self.accompanied.update(one for one, _, _ in self.working)
            self.most = max(self.most, len(self.working))
            self.most_bytes = max(self.most_bytes, sum(one for _, one, _ in self.working))
            assert slots.bytes_in_flight >= sum(one for _, one, _ in self.working)
            try:
                await passed(seconds)
            finally:
                self.working.remove((name, size, alone))


async def all_of(*takers: Coroutine[None, None, None]) -> None:
    """Starts them in this order and waits for all."""
    await asyncio.gather(*takers)


def test_a_stream_with_one_is_not_starved_by_one_with_a_thousand() -> None:
    """A stream that comes late with one segment waits no longer than one turn of the others."""
    watch, slots = Watch(), Slots(4, 1 << 30)
    many = [watch.take(slots, f"big-{number}") for number in range(1000)]
    run(all_of(*many, watch.take(slots, "small-0")))
    assert watch.order.index("small-0") <= 5
    assert watch.most == 4


def test_a_hanging_stream_leaves_a_slot() -> None:
    """A stream whose turns never end has all slots but one: the others go on; a lone worker is still given to it."""

    async def scene(workers: int) -> int:
        watch, slots = Watch(), Slots(workers, 1 << 30)
        hanging = [asyncio.create_task(watch.take(slots, f"hung-{number}", seconds=1e6)) for number in range(9)]
        others = [asyncio.create_task(watch.take(slots, f"good-{number}")) for number in range(20)]
        await passed(30)
        most = len([name for name in watch.order if name.startswith("hung")])
        assert workers == 1 or all(task.done() for task in others)
        for task in (*hanging, *others):
            task.cancel()
        await asyncio.gather(*hanging, *others, return_exceptions=True)
        return most

    assert [run(scene(workers)) for workers in (1, 2, 4)] == [1, 1, 3]


@pytest.mark.parametrize("destination", ["", "/far"])
def test_destinations_that_hang_hold_up_nobody(destination: str) -> None:
    """However many turns hang, of one stream's destinations or of other streams, the rest goes on after a while; those
    that hang have no more turns than their shares.
    """

    async def scene() -> None:
        watch, slots = Watch(), Slots(4, 1 << 30)
        names = [f"app/{one}-{number}" if destination else f"{one}-{number}" for number in range(9) for one in "abcde"]
        hanging = [asyncio.create_task(watch.take(slots, name, seconds=1e6)) for name in names]
        await passed(1)
        assert watch.most == 4
        others = [asyncio.create_task(watch.take(slots, f"app/well-{number}", seconds=0.1)) for number in range(40)]
        await passed(12)
        assert not any(task.done() for task in others)
        await passed(38)
        assert all(task.done() for task in others)
        assert len(watch.working) == 5 * 3
        for task in hanging:
            task.cancel()
        await asyncio.gather(*hanging, return_exceptions=True)
        assert slots.bytes_in_flight == 0
        await all_of(*(watch.take(slots, f"{one}-0") for one in "abcdefgh"))

    run(scene())


def test_turns_without_a_slot_are_bounded() -> None:
    """Where nearly everything hangs, there are only so many turns."""

    async def scene() -> None:
        watch, slots = Watch(), Slots(2, 1 << 30)
        hanging = [asyncio.create_task(watch.take(slots, f"s{number}-0", seconds=1e6)) for number in range(50)]
        await passed(1e5)
        assert len(watch.working) == slots.threads == 10
        for task in hanging:
            task.cancel()
        await asyncio.gather(*hanging, return_exceptions=True)

    run(scene())


def test_a_suspect_that_hangs() -> None:
    """It is joined after a while, by all but other suspects; and one that comes does not wait for those who hang."""

    async def scene() -> None:
        watch, slots = Watch(), Slots(4, 1 << 30)
        takers = [watch.take(slots, "hung-0", seconds=1e6), watch.take(slots, "a-0", alone=True, seconds=100)]
        takers += [watch.take(slots, "b-0", alone=True), watch.take(slots, "c-0")]
        tasks = [asyncio.create_task(taker) for taker in takers]
        await passed(15)
        assert [name for name, *_ in watch.working] == ["hung-0", "a-0"]
        await passed(15)
        assert watch.order == ["hung-0", "a-0", "c-0"]
        assert "c-0" not in [name for name, *_ in watch.working]
        await passed(100)
        assert watch.order == ["hung-0", "a-0", "c-0", "b-0"]
        tasks[0].cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    run(scene())


def test_streams_take_turns() -> None:
    """With one worker, three streams get every third turn each, oldest segment first."""
    watch, slots = Watch(), Slots(1, 100)
    run(all_of(*(watch.take(slots, f"{stream}-{number}") for stream in "abc" for number in range(3))))
    assert watch.order == ["a-0", "a-1", "b-0", "c-0", "a-2", "b-1", "c-1", "b-2", "c-2"]


def test_bytes_are_bounded() -> None:
    """Together the segments at work are never larger than the bound, though workers are free."""
    watch, slots = Watch(), Slots(8, 10)
    run(all_of(*(watch.take(slots, f"s{number}-0", size=4) for number in range(9))))
    assert (watch.most, watch.most_bytes) == (2, 8)


def test_oversize_works_alone() -> None:
    """A segment larger than the bound is not refused: it works when nobody else does, and is not passed over."""
    watch, slots = Watch(), Slots(4, 10)
    takers = [
        watch.take(slots, "a-0", 5),
        watch.take(slots, "huge-0", 50),
        *(watch.take(slots, f"b-{n}") for n in "12"),
    ]
    run(all_of(*takers))
    assert watch.order == ["a-0", "huge-0", "b-1", "b-2"]
    assert "huge-0" not in watch.accompanied


def test_bytes_of_those_who_hang() -> None:
    """One who does not fit beside those who hang goes in the end, and one after the other."""

    async def scene() -> None:
        watch, slots = Watch(), Slots(4, 10)
        hanging = asyncio.create_task(watch.take(slots, "hung-0", 8, seconds=1e6))
        others = [asyncio.create_task(watch.take(slots, f"{one}-0", size=5)) for one in "ab"]
        await passed(5)
        assert watch.order == ["hung-0"]
        await asyncio.gather(*others)
        assert (watch.order, watch.most) == (["hung-0", "a-0", "b-0"], 2)
        hanging.cancel()
        await asyncio.gather(hanging, return_exceptions=True)
        assert slots.bytes_in_flight == 0

    run(scene())


def test_bytes_that_are_held_in_memory() -> None:
    """Where no slot is given on, however long a turn lasts, the bounds hold."""
    watch, slots = Watch(), Slots(2, 10, gives_on=False)
    run(all_of(*(watch.take(slots, f"{one}-0", size=6, seconds=100) for one in "abc")))
    assert (watch.most, watch.most_bytes) == (1, 6)


def test_suspect_works_alone() -> None:
    """Nobody works beside a suspect, however small it is, and others work together again afterwards."""
    watch, slots = Watch(), Slots(4, 100)
    takers = [watch.take(slots, "a-0"), watch.take(slots, "b-0", alone=True), watch.take(slots, "c-0")]
    run(all_of(*takers, watch.take(slots, "d-0")))
    assert watch.accompanied == {"c-0", "d-0"}


def test_one_who_gives_up_waiting_is_passed_over() -> None:
    """A cancelled wait takes no slot, whether at the head of its queue or in the middle."""

    async def scene() -> None:
        watch, slots = Watch(), Slots(1, 100)
        first = asyncio.create_task(watch.take(slots, "a-0"))
        waiting = [asyncio.create_task(watch.take(slots, f"a-{number}")) for number in range(1, 5)]
        await passed(0.5)
        waiting[0].cancel()
        waiting[2].cancel()
        await asyncio.gather(first, *waiting, return_exceptions=True)
        assert watch.order == ["a-0", "a-2", "a-4"]
        assert slots.bytes_in_flight == 0

    run(scene())


class Looked(OrderedDict[tuple[str, str], Any]):
    """Counts the lines that are looked at."""

    looks = 0

    def __iter__(self) -> Iterator[tuple[str, str]]:
        return (whose for whose, _ in self.items())

    def items(self) -> Iterator[tuple[tuple[str, str], Any]]:  # type: ignore[override]
        for one in super().items():
            self.looks += 1
            yield one


def test_who_comes_looks_at_no_line_but_the_first() -> None:
    """While all bytes are in use, and as they are handed on, a turn costs as much behind a thousand as behind one."""

    async def scene() -> int:
        watch, slots = Watch(), Slots(4, 100)
        slots._waiting = Looked()
        await all_of(*(watch.take(slots, f"{number}", size=100, seconds=0) for number in range(1000)))
        assert watch.order == [f"{number}" for number in range(1000)]
        return slots._waiting.looks

    assert run(scene()) <= 4 * 1000


def test_cancelled_worker_gives_its_slot_back() -> None:
    """A cancelled attempt frees its slot for the next."""

    async def scene() -> None:
        watch, slots = Watch(), Slots(1, 100)
        worker = asyncio.create_task(watch.take(slots, "a-0", seconds=1e6))
        following = asyncio.create_task(watch.take(slots, "b-0"))
        await passed(1)
        worker.cancel()
        await following
        assert (watch.order, slots.bytes_in_flight) == (["a-0", "b-0"], 0)

    run(scene())


def test_slot_of_one_cancelled_before_it_began_is_given_on() -> None:
    """Whoever is cancelled between being given a slot and taking it does not keep it."""

    async def scene() -> None:
        watch, slots = Watch(), Slots(1, 100)

        async def leave() -> None:
            async with slots.turn("a", "far", 1):
                await passed(1)
            granted.cancel()  # it has been given the slot just now, and has not run since

        leaving = asyncio.create_task(leave())
        await passed(0.5)
        granted = asyncio.create_task(watch.take(slots, "b-0"))
        await asyncio.gather(leaving, watch.take(slots, "c-0"), granted, return_exceptions=True)
        assert (watch.order, slots.bytes_in_flight) == (["c-0"], 0)

    run(scene())


TAKERS = st.lists(
    st.tuples(st.sampled_from("abc"), st.integers(1, 30), st.booleans(), st.floats(0, 3), st.booleans()), max_size=25
)


@settings(max_examples=60, deadline=None)
@given(takers=TAKERS, workers=st.integers(1, 4))
def test_every_turn_keeps_the_bounds_and_comes(takers: list[tuple[str, int, bool, float, bool]], workers: int) -> None:
    """Whoever comes and goes: the bounds hold, suspects and oversize work alone, and everyone gets a turn."""
    watch, slots = Watch(), Slots(workers, 20)

    async def scene() -> None:
        tasks = []
        for number, (stream, size, alone, seconds, _) in enumerate(takers):
            tasks.append(asyncio.create_task(watch.take(slots, f"{stream}-{number}", size, alone, seconds)))
            await passed(0.3)
        leavers = [task for task, (*_, leaves) in zip(tasks, takers, strict=True) if leaves]
        for task in leavers:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        stayed = [f"{stream}-{n}" for n, (stream, *_, leaves) in enumerate(takers) if not leaves]
        assert set(stayed) <= set(watch.order)

    run(scene())
    assert watch.most <= workers
    assert slots.bytes_in_flight == 0
    solitary = {
        f"{s}-{n}" for n, (s, size, alone, _, leaves) in enumerate(takers) if (alone or size > 20) and not leaves
    }
    assert not solitary & watch.accompanied
