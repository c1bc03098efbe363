"""Alarms: many that are due at once are spread over the time before, and few go off when they are due."""

from __future__ import annotations

from collections import Counter
from functools import partial

from virtual_time import VirtualRuntime, passed, run

from firehose.buffer.alarms import Alarms

DUE, EARLY = 60.5, 30.0


def gone_off(many: int, per_second: int, due: float = DUE) -> list[float]:
    """When each of so many went off that were due at the same moment."""

    async def scenario() -> list[float]:
        runtime, alarms, times = VirtualRuntime(), Alarms(per_second), list[float]()
        began = runtime.monotonic()
        for _ in range(many):
            alarms.set(runtime, began + due, EARLY, lambda: times.append(runtime.monotonic() - began))
        await passed(2 * DUE)
        assert alarms._set == {}
        return times

    return run(scenario())


def test_few_go_off_when_they_are_due() -> None:
    """To the moment, as many as a second may have."""
    assert gone_off(3, per_second=3) == [DUE] * 3


def test_many_are_spread() -> None:
    """So many a second, the latest when they are due, none more than so much before."""
    times = gone_off(60, per_second=2)
    assert max(times) == DUE
    assert min(times) >= DUE - EARLY
    assert set(Counter(map(int, times)).values()) == {2}


def test_no_room_is_left() -> None:
    """The others go off when they are due, never later."""
    times = gone_off(500, per_second=2)
    assert max(times) == DUE
    assert min(times) >= DUE - EARLY
    assert Counter(times)[DUE] > 400


def test_what_is_due_already() -> None:
    """It goes off at once."""
    assert gone_off(3, per_second=1, due=-5) == [0, 0, 0]


def test_cancelled() -> None:
    """It does not go off, and leaves its place to the next."""

    async def scenario() -> None:
        runtime, alarms, names = VirtualRuntime(), Alarms(1), list[str]()
        due = runtime.monotonic() + DUE
        first = alarms.set(runtime, due, EARLY, partial(names.append, "first"))
        first.cancel()
        alarms.set(runtime, due, EARLY, partial(names.append, "second"))
        await passed(DUE - 0.1)
        assert names == []
        await passed(0.2)
        assert names == ["second"]

    run(scenario())
