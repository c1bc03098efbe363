"""Clock, threads and dice: the only file that reads a clock, starts a thread or rolls dice.

Everything else takes a `Runtime` by constructor, so that tests and simulations put virtual ones in its place. Timers
are the event loop's own: one heap on the monotonic clock, which a wall clock that jumps does not disturb; only sweeps,
which may be late, are APScheduler's.
"""

from __future__ import annotations

import asyncio
import os
import random
import secrets
import threading
import time
import uuid
from collections import deque
from collections.abc import Callable, Coroutine, Set
from datetime import UTC, datetime
from functools import partial
from math import inf
from queue import SimpleQueue
from typing import Any, Protocol, TypeVar

T = TypeVar("T")
PATIENCE_SECONDS = 0.005  # that a short call may stand in line before another thread is worth its price
PACE_CALLS = 16  # so many calls tell how long one takes
_Job = tuple[Callable[[], Any], asyncio.Future[Any], asyncio.AbstractEventLoop]


class Threads(Protocol):
    """A bounded set of threads for calls that block."""

    async def run(self, call: Callable[[], T]) -> T:
        """Runs `call` in a thread. A cancelled waiter leaves the call to finish."""
        ...

    def close(self) -> None:
        """Waits for the calls under way; those that wait for a thread are cancelled."""
        ...

    def leave(self) -> None:
        """The same, but waits for nothing: for calls to elsewhere, which may take as long as they like, and of which
        the outcome is of no interest any more.
        """
        ...


class Pool:
    """Real threads, up to `size` of them, started as needed; the one that was idle last works next.

    So as few as possible keep caches and memory warm. Handing a call over costs half of what the standard library's
    executor takes for it, which lies on the way of every group commit.
    """

    def __init__(self, name: str, size: int, cores: Set[int] = frozenset()) -> None:
        """The threads run on these cores alone; where none is named, on all that the process may use."""
        self._name = name
        self._size = size
        self._cores = cores
        self._lock = threading.Lock()
        self._threads: list[threading.Thread] = []
        self._inboxes: list[SimpleQueue[_Job | None]] = []
        self._idle: list[SimpleQueue[_Job | None]] = []
        self._backlog: deque[_Job] = deque()
        self._closed = False

    async def run(self, call: Callable[[], T]) -> T:
        loop = asyncio.get_running_loop()
        done: asyncio.Future[T] = loop.create_future()
        self._hand_over((call, done, loop))
        return await done

    def close(self) -> None:
        self.leave()
        for thread in self._threads:
            thread.join()

    def leave(self) -> None:
        with self._lock:
            self._closed = True
            given_up, self._backlog = self._backlog, deque()
        for _, done, loop in given_up:
            _tell(loop, done.cancel)
        for inbox in self._inboxes:
            inbox.put(None)

    def _hand_over(self, job: _Job) -> None:
        with self._lock:
            if self._closed:
                raise RuntimeError(f"the threads of '{self._name}' are closed")
            if self._idle:
                self._idle.pop().put(job)
            elif len(self._threads) < self._size:
                self._start(job)
            else:
                self._backlog.append(job)

    def _start(self, job: _Job) -> None:
        inbox: SimpleQueue[_Job | None] = SimpleQueue()
        inbox.put(job)
        name = f"{self._name}_{len(self._threads)}"
        thread = threading.Thread(target=self._work, args=(inbox,), name=name, daemon=True)
        self._inboxes.append(inbox)
        self._threads.append(thread)
        thread.start()

    def _work(self, inbox: SimpleQueue[_Job | None]) -> None:
        _keep_to(self._cores)
        while (job := inbox.get()) is not None:
            while job is not None:
                tell = _done(job)
                job = self._next(inbox)  # first: whoever is told finds the thread idle
                tell()
                del tell  # and with it the result, which an idle thread would keep

    def _next(self, inbox: SimpleQueue[_Job | None]) -> _Job | None:
        with self._lock:
            if self._backlog:
                return self._backlog.popleft()
            self._idle.append(inbox)
            return None


class Line(Pool):
    """Real threads for short calls: these stand in line behind each other while the line is short, and only where it
    grows long, for a slow disk, does another thread begin.

    Commits of a data stream's shards come a few at a time. On a quick disk threads side by side spend more on waiting
    for the interpreter, and for each other at the disk, than there is to be done.
    """

    def __init__(self, name: str, size: int) -> None:
        super().__init__(name, size)
        self._lately: deque[float] = deque(maxlen=PACE_CALLS)

    async def run(self, call: Callable[[], T]) -> T:
        return await super().run(partial(self._timed, call))

    def _hand_over(self, job: _Job) -> None:
        with self._lock:
            if not self._closed:
                self._backlog.append(job)
                if self._is_short():
                    return
                job = self._backlog.popleft()
        super()._hand_over(job)

    def _is_short(self) -> bool:
        """Whether the line is. What was slower than the quickest of late waited for the interpreter."""
        busy, pace = len(self._threads) - len(self._idle), min(self._lately, default=inf)
        return len(self._backlog) * pace < busy * PATIENCE_SECONDS

    def _timed(self, call: Callable[[], T]) -> T:
        began = time.perf_counter()
        try:
            return call()
        finally:
            with self._lock:
                self._lately.append(time.perf_counter() - began)


def _cores_but(spared: int) -> Set[int]:
    """Those that the process may use but so many, and at least one; none named where that is all of them, or where
    the system does not say.
    """
    if not spared or not hasattr(os, "sched_getaffinity"):
        return frozenset()
    cores = sorted(os.sched_getaffinity(0))
    return frozenset(cores[min(spared, len(cores) - 1) :])


def _keep_to(cores: Set[int]) -> None:
    """The calling thread."""
    if cores:
        try:
            os.sched_setaffinity(0, cores)
        except OSError:  # they were taken from the process meanwhile, or it may not choose
            pass


def _done(job: _Job) -> Callable[[], None]:
    """Does the job; what tells its waiter."""
    call, done, loop = job
    try:
        return partial(_tell, loop, partial(_settle, done, done.set_result, call()))
    except BaseException as error:
        return partial(_tell, loop, partial(_settle, done, done.set_exception, error))


def _settle(done: asyncio.Future[Any], settle: Callable[[Any], None], outcome: object) -> None:
    if not done.done():  # its waiter may have been cancelled
        settle(outcome)


def _tell(loop: asyncio.AbstractEventLoop, call: Callable[[], object]) -> None:
    try:
        loop.call_soon_threadsafe(call)
    except RuntimeError:
        pass  # the loop is closed: nobody waits any more


class Runtime:
    """The real clock, threads and dice."""

    def now_ms(self) -> int:
        """Milliseconds since the epoch by the wall clock, which may jump either way."""
        return time.time_ns() // 1_000_000

    def monotonic(self) -> float:
        """Seconds on a clock that never goes back and says nothing about the date."""
        return asyncio.get_running_loop().time()

    def seconds_of(self, call: Callable[[], None]) -> float:
        """Makes the call, in whatever thread, and says how long it took."""
        began = time.perf_counter()
        call()
        return time.perf_counter() - began

    def after(self, seconds: float, call: Callable[[], None]) -> asyncio.TimerHandle:
        """Calls back once, `seconds` later on the monotonic clock. Cancel the handle to prevent it."""
        return asyncio.get_running_loop().call_later(seconds, call)

    def every(self, seconds: float, call: Callable[[], Coroutine[Any, Any, None]]) -> Callable[[], None]:
        """Calls now and every so many seconds, never twice at a time, until what it returns is called. For sweeps: it
        goes by the wall clock, and one that is put back delays it.
        """
        from apscheduler.schedulers.asyncio import AsyncIOScheduler
        from apscheduler.triggers.interval import IntervalTrigger

        scheduler = AsyncIOScheduler(timezone=UTC, event_loop=asyncio.get_running_loop())
        trigger = IntervalTrigger(seconds=seconds, timezone=UTC)
        scheduler.add_job(call, trigger, next_run_time=datetime.now(UTC), coalesce=True, misfire_grace_time=None)
        scheduler.start()
        return lambda: scheduler.shutdown(wait=False)

    def threads(self, name: str, size: int, spare_cores: int = 0) -> Threads:
        """They leave so many of the process's cores to others, but one they have."""
        return Pool(name, size, _cores_but(spare_cores))

    def line(self, name: str, size: int) -> Threads:
        """The same for calls so short that they rather wait for each other."""
        return Line(name, size)

    def lane_name(self) -> str:
        """A name that no other lane has had or will have: creation time for people, 64 random bits for uniqueness."""
        instant = datetime.fromtimestamp(self.now_ms() / 1000, UTC)
        return f"{instant:%Y%m%dT%H%M%S}-{secrets.token_hex(8)}"

    def request_id(self) -> str:
        """A UUID for one answer; nothing that is stored derives from it."""
        return str(uuid.UUID(int=random.getrandbits(128), version=4))

    def jitter(self) -> float:
        """Uniform in [-1, 1]: spreads retries. Nothing that is stored or named may derive from it."""
        return random.uniform(-1, 1)


def daemon(name: str, call: Callable[[], None]) -> None:
    """Runs `call` in a thread that does not keep the process alive."""
    threading.Thread(target=call, name=name, daemon=True).start()


def countdown(seconds: float) -> Callable[[], float]:
    """Says how many seconds of so many are left, where no event loop is."""
    end = time.monotonic() + seconds
    return lambda: end - time.monotonic()


def utc(milliseconds: int) -> datetime:
    """The instant of a millisecond count since the epoch."""
    return datetime.fromtimestamp(milliseconds / 1000, UTC)
