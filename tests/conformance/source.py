"""The law of `Source`, as tests that every source runs: intake is exactly once per node, whatever dies and when.

A harness stands between an upstream that outlives everything and a buffer that can be crashed.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

Law = Callable[["Harness"], Awaitable[None]]


class Harness(Protocol):
    """One source, its upstream, and the buffer it feeds."""

    async def put(self, *records: bytes) -> None:
        """Adds records upstream."""
        ...

    async def reshard(self) -> None:
        """Replaces what is written to now by successors."""
        ...

    async def begin(self) -> None:
        """Starts the source over the buffer as it is."""
        ...

    async def stored(self, count: int) -> Sequence[bytes]:
        """All records in the buffer, once it holds at least so many."""
        ...

    async def settled(self) -> Sequence[bytes]:
        """All records in the buffer, once the source has had the time to store whatever it would."""
        ...

    async def crash(self) -> None:
        """Ends source and buffer without leave, and brings back the buffer from what is durable."""
        ...

    def fail_next_append(self) -> None:
        """The buffer's next append fails, and nobody can tell at once what became of it."""
        ...


async def all_arrive_in_order(harness: Harness) -> None:
    """What was put before and after the source began arrives, once and in order."""
    await harness.put(b"a", b"b")
    await harness.begin()
    await harness.stored(2)
    await harness.put(b"c")
    assert await harness.stored(3) == [b"a", b"b", b"c"]
    assert await harness.settled() == [b"a", b"b", b"c"]


async def a_restart_repeats_nothing(harness: Harness) -> None:
    """After a crash reading goes on behind the last durable record, again and again."""
    expected: list[bytes] = []
    for turn in range(4):
        await harness.put(*(records := [b"%d-%d" % (turn, n) for n in range(5)]))
        expected += records
        await harness.begin()
        await harness.stored(len(expected))
        await harness.crash()
    await harness.begin()
    assert await harness.settled() == expected


async def a_failed_append_is_settled(harness: Harness) -> None:
    """Records whose append failed midway are stored once, whether the first try had stored them or not."""
    await harness.put(b"a")
    await harness.begin()
    await harness.stored(1)
    harness.fail_next_append()
    await harness.put(b"b")
    await harness.put(b"c")
    assert await harness.stored(3) == [b"a", b"b", b"c"]
    assert await harness.settled() == [b"a", b"b", b"c"]


async def successors_come_after(harness: Harness) -> None:
    """What is written after a reshard comes behind what was written before, also when it all lies there already."""
    await harness.put(b"a", b"b")
    await harness.reshard()
    await harness.put(b"c")
    await harness.reshard()
    await harness.put(b"d")
    await harness.begin()
    assert await harness.stored(4) == [b"a", b"b", b"c", b"d"]
    await harness.crash()
    await harness.put(b"e")
    await harness.begin()
    assert await harness.stored(5) == [b"a", b"b", b"c", b"d", b"e"]
    assert await harness.settled() == [b"a", b"b", b"c", b"d", b"e"]


LAWS: tuple[Law, ...] = (
    all_arrive_in_order,
    a_restart_repeats_nothing,
    a_failed_append_is_settled,
    successors_come_after,
)
