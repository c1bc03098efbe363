"""Clock, threads and dice: the only file that reads a clock, starts a thread or rolls dice.

Everything else takes a `Runtime` by constructor, so that tests and simulations put virtual ones in its place. Timers
are the event loop's own: one heap on the monotonic clock, which a wall clock that jumps does not disturb.
"""

from __future__ import annotations

import asyncio
import random
import secrets
import threading
import time
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Protocol, TypeVar

T = TypeVar("T")


class Threads(Protocol):
    """A bounded set of threads for calls that block."""

    async def run(self, call: Callable[[], T]) -> T:
        """Runs `call` in a thread. A cancelled waiter leaves the call to finish."""
        ...

    def close(self) -> None: ...


class Pool:
    """Real threads, `size` of them, started as needed."""

    def __init__(self, name: str, size: int) -> None:
        self._executor = ThreadPoolExecutor(size, thread_name_prefix=name)

    async def run(self, call: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._executor, call)

    def close(self) -> None:
        self._executor.shutdown(wait=True, cancel_futures=True)


class Runtime:
    """The real clock, threads and dice."""

    def now_ms(self) -> int:
        """Milliseconds since the epoch by the wall clock, which may jump either way."""
        return time.time_ns() // 1_000_000

    def monotonic(self) -> float:
        """Seconds on a clock that never goes back and says nothing about the date."""
        return asyncio.get_running_loop().time()

    def after(self, seconds: float, call: Callable[[], None]) -> asyncio.TimerHandle:
        """Calls back once, `seconds` later on the monotonic clock. Cancel the handle to prevent it."""
        return asyncio.get_running_loop().call_later(seconds, call)

    def threads(self, name: str, size: int) -> Threads:
        return Pool(name, size)

    def lane_name(self) -> str:
        """A name that no other lane has had or will have: creation time for people, 64 random bits for uniqueness."""
        instant = datetime.fromtimestamp(self.now_ms() / 1000, UTC)
        return f"{instant:%Y%m%dT%H%M%S}-{secrets.token_hex(8)}"

    def request_id(self) -> str:
        """A UUID for one answer; nothing that is stored derives from it."""
        return str(uuid.UUID(int=random.getrandbits(128), version=4))

    def jitter(self) -> float:
        """Uniform in [0, 1): spreads retries. Nothing that is stored or named may derive from it."""
        return random.random()


def daemon(name: str, call: Callable[[], None]) -> None:
    """Runs `call` in a thread that does not keep the process alive."""
    threading.Thread(target=call, name=name, daemon=True).start()


def utc(milliseconds: int) -> datetime:
    """The instant of a millisecond count since the epoch."""
    return datetime.fromtimestamp(milliseconds / 1000, UTC)
