"""Time that passes only when everyone waits, so that a test of an hour takes no time and runs the same each time.

The loop jumps to its next timer; blocking calls run inline and answer `disk_seconds` later; names are drawn from a
seed. Where nothing is left that could wake anyone, the run ends with `Stuck` and not never.
"""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from random import Random
from typing import Any, TypeVar

from firehose.runtime import Runtime, Threads, utc

T = TypeVar("T")
START_MS = 1_772_366_400_000  # 2026-03-01T12:00:00Z


class Stuck(Exception):
    """Someone waits for what can never happen."""


class VirtualLoop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self._now = 0.0
        super().__init__(_Jumping(self))

    def time(self) -> float:
        return self._now

    def jump(self, seconds: float) -> None:
        self._now += seconds


class _Jumping(selectors.SelectSelector):
    """Instead of waiting for a while, lets the while pass."""

    def __init__(self, loop: VirtualLoop) -> None:
        super().__init__()
        self._loop = loop

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if not ready and timeout is None:
            raise Stuck
        if not ready and timeout is not None and timeout > 0:
            self._loop.jump(timeout)
        return ready


def run(main: Coroutine[Any, Any, T]) -> T:
    """Runs `main` to its end in a loop of its own."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(main)


@dataclass(frozen=True, slots=True)
class Inline:
    """Threads that are none: a call is done at once, and said to be done after a while."""

    seconds: float = 0.0

    async def run(self, call: Callable[[], T]) -> T:
        try:
            return call()
        finally:
            await asyncio.sleep(self.seconds)

    def close(self) -> None:
        pass

    def leave(self) -> None:
        pass


class VirtualRuntime(Runtime):
    """`wall_ms` is what the wall clock is ahead of the time that really passed: tests move it as they like."""

    def __init__(self, seed: int = 0, disk_seconds: float = 0.001) -> None:
        self.wall_ms = START_MS
        self._disk_seconds = disk_seconds
        self._dice = Random(seed)

    def now_ms(self) -> int:
        return self.wall_ms + int(self.monotonic() * 1000)

    def seconds_of(self, call: Callable[[], None]) -> float:
        call()
        return self._disk_seconds

    def threads(self, name: str, size: int, spare_cores: int = 0) -> Threads:
        return Inline(self._disk_seconds)

    def every(self, seconds: float, call: Callable[[], Coroutine[Any, Any, None]]) -> Callable[[], None]:
        loop = asyncio.get_running_loop()
        running: set[asyncio.Task[None]] = set()
        timer = loop.call_later(0, lambda: begin())

        def begin() -> None:
            nonlocal timer
            timer = loop.call_later(seconds, begin)
            if not running:
                task = loop.create_task(call())
                running.add(task)
                task.add_done_callback(running.discard)

        return lambda: timer.cancel()

    def lane_name(self) -> str:
        return f"{utc(self.now_ms()):%Y%m%dT%H%M%S}-{self._dice.getrandbits(64):016x}"

    def request_id(self) -> str:
        return f"{self._dice.getrandbits(128):032x}"

    def jitter(self) -> float:
        return self._dice.uniform(-1, 1)


async def passed(seconds: float) -> None:
    """Returns when that much virtual time has passed."""
    await asyncio.sleep(seconds)
