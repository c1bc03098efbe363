"""Turns: at once where nothing waits, otherwise one of each stream, and only so much in one turn of the loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from itertools import pairwise

from virtual_time import run

from firehose.http.turns import REQUEST_BYTES, SHARED_SECONDS, SHARED_TURN_BYTES, TURN_BYTES, Turns

QUARTER = SHARED_TURN_BYTES // 4 - REQUEST_BYTES  # of a short turn


def refused() -> None:
    raise AssertionError("nobody is turned away here")


async def until(condition: Callable[[], bool], turns: int = 1000) -> int:
    """Turns of the loop that it took."""
    for number in range(turns):
        if condition():
            return number
        await asyncio.sleep(0)
    raise AssertionError("it never came true")


async def test_at_once() -> None:
    """A request that comes when nothing waits is handled before anything else happens."""
    seen: list[int] = []
    Turns().take("a", 1, lambda: seen.append(1), refused)
    assert seen == [1]


async def test_large_ones_too() -> None:
    """A body larger than a turn is handled at once as well, and then the turn is over."""
    turns, seen = Turns(), list[str]()
    turns.take("a", 10 * TURN_BYTES, lambda: seen.append("large"), refused)
    turns.take("a", 1, lambda: seen.append("small"), refused)
    assert (seen, turns.waiting) == (["large"], 1)
    await until(lambda: seen == ["large", "small"])


async def test_one_of_each() -> None:
    """Streams take turns, however many requests one of them has; within a stream the order is kept."""
    turns, seen = Turns(), list[str]()

    def take(stream: str, number: int) -> None:
        turns.take(stream, TURN_BYTES, lambda: seen.append(f"{stream}{number}"), refused)

    for number in range(5):
        take("noisy", number)
    take("quiet", 0)
    take("other", 0)
    await until(lambda: len(seen) == 7)
    assert seen == ["noisy0", "noisy1", "quiet0", "other0", "noisy2", "noisy3", "noisy4"]


async def test_bounded_turn() -> None:
    """A turn of the loop handles about as much as it should, so that everything else has its chance between."""
    turns, seen = Turns(), list[int]()
    for number in range(100):
        turns.take("a", TURN_BYTES // 4, lambda number=number: seen.append(number), refused)  # type: ignore[misc]
    sizes = [len(seen)]
    while len(seen) < 100:
        await asyncio.sleep(0)
        sizes.append(len(seen))
    assert max(after - before for before, after in zip([0, *sizes], sizes, strict=False)) <= 4
    assert seen == list(range(100))


async def test_nothing_is_forgotten() -> None:
    """What is handled may make more ready, as an answer does on a connection with requests behind it."""
    turns, seen = Turns(), list[int]()

    def handle(number: int) -> None:
        seen.append(number)
        if number < 50:
            turns.take(number % 3, TURN_BYTES // 2, lambda: handle(number + 1), refused)

    handle(0)
    await until(lambda: len(seen) == 51)
    assert turns.waiting == 0


def test_patience() -> None:
    """Who has waited for too long is turned away, and meanwhile the stream's next ones are, while the others' are
    handled; afterwards its are again.
    """

    async def scenario() -> None:
        turns, seen = Turns(patience_seconds=1.0), list[str]()

        def take(stream: str, name: str, size_bytes: int = 1) -> None:
            turns.take(stream, size_bytes, lambda: seen.append(name), lambda: seen.append(f"{name} refused"))

        take("noisy", "first", TURN_BYTES)
        take("noisy", "second")
        asyncio.get_running_loop().jump(1.5)  # type: ignore[attr-defined]  # a busy turn of the loop
        take("noisy", "third")
        take("quiet", "other")
        assert seen == ["first", "third refused"]
        await until(lambda: turns.waiting == 0)
        take("noisy", "again")
        assert seen == ["first", "third refused", "second refused", "other", "again"]

    run(scenario())


def test_turned_away_at_little_cost() -> None:
    """Those who have waited for too long take no turn from one who has not, however large their bodies are."""

    async def scenario() -> None:
        turns, seen = Turns(patience_seconds=1.0), list[str]()
        late = 10
        for _ in range(1 + late):
            turns.take("a", TURN_BYTES, lambda: seen.append("handled"), lambda: seen.append("refused"))
        asyncio.get_running_loop().jump(1.5)  # type: ignore[attr-defined]
        turns.take("b", 1, lambda: seen.append("b"), refused)
        await asyncio.sleep(0)
        assert sorted(seen) == ["b", "handled", *["refused"] * late]

    run(scenario())


def test_turns_are_short_while_streams_share_them() -> None:
    """While several streams send a turn is short, so that none waits long for another; one alone has long ones."""

    async def longest(turns: Turns) -> int:
        """Requests of one stream in one turn of the loop, once its own first turn is over."""
        seen: list[int] = []
        for number in range(100):
            turns.take("a", QUARTER, lambda number=number: seen.append(number), refused)  # type: ignore[misc]
        sizes = [len(seen)]
        while turns.waiting:
            await asyncio.sleep(0)
            sizes.append(len(seen))
        return max(after - before for before, after in pairwise(sizes))

    async def scenario() -> None:
        turns = Turns()
        turns.take("b", 1, lambda: None, refused)
        assert await longest(turns) == 4
        asyncio.get_running_loop().jump(SHARED_SECONDS)  # type: ignore[attr-defined]
        assert await longest(turns) == 4 * TURN_BYTES // SHARED_TURN_BYTES

    run(scenario())
