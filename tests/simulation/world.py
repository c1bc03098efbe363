"""A machine's time, processes and threads, all decided by one seed.

One heap of events drives everything. A process has an asyncio loop of its own and threads of its own; each of them is
a greenlet that gives way at every step of the disk or the network (`World.pause`), so that any two steps of any two of
them may come in either order, and a process may end between any two (`Process.end`). What it does afterwards, while
its `finally` clauses run, meets only doors that raise `Killed`.
"""

from __future__ import annotations

import asyncio
import heapq
from collections import deque
from collections.abc import Callable, Coroutine
from contextvars import Context
from functools import partial
from hashlib import sha256
from itertools import count
from random import Random
from typing import Any, TypeVar

from greenlet import getcurrent, greenlet

T = TypeVar("T")
BURIAL_ROUNDS = 50


class Killed(BaseException):
    """The process that runs this has ended: nothing it does from now on happens."""


class Violation(Exception):
    """A promise is broken. `invariant` names it."""

    def __init__(self, invariant: str, what: str) -> None:
        super().__init__(f"{invariant}: {what}")
        self.invariant = invariant


class World:
    """Time, dice, and the log of all that happens. The first violation ends it."""

    def __init__(self, seed: int) -> None:
        self.dice = Random(seed)
        self.now = 0.0
        self.violation: Violation | None = None
        self.offered: Callable[[str, str, str], None] = lambda *what: None  # told of each delivery
        self.living: list[Process] = []
        self.dying: list[Process] = []  # ended, and not yet buried
        self._log: list[tuple[float, str, str]] = []
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = count()
        self._hub = getcurrent()

    def note(self, who: str, what: str) -> None:
        self._log.append((self.now, who, what))

    @property
    def log(self) -> list[str]:
        return [f"{now:10.4f}  {who:11} {what}" for now, who, what in self._log]

    @property
    def digest(self) -> str:
        return sha256("\n".join(self.log).encode()).hexdigest()

    def at(self, when: float, call: Callable[[], None]) -> None:
        heapq.heappush(self._events, (max(when, self.now), next(self._numbers), call))

    def after(self, seconds: float, call: Callable[[], None]) -> None:
        self.at(self.now + seconds, call)

    def violated(self, invariant: str, what: str) -> None:
        if self.violation is None:
            self.violation = Violation(invariant, what)
            self.note("VIOLATION", str(self.violation))

    def run(self, until: Callable[[], bool], seconds: float) -> bool:
        """Lets time pass until that is so, for at most that long. False where it never was; raises `Violation`."""
        deadline = self.now + seconds
        while not until():
            if not self._events or self._events[0][0] > deadline:
                return False
            self.now, _, call = heapq.heappop(self._events)
            call()
            if self.violation is not None:
                raise self.violation
        return True

    def close(self) -> None:
        """Ends every process: nothing is left for the interpreter to end."""
        for process in list(self.living):
            process.end("the end")
        for process in list(self.dying):
            process.bury()
        self._events.clear()

    # What runs in a process says when others may have a turn.

    def pause(self, seconds: float) -> None:
        """The running strand takes that long. Raises `Killed` where its process ends meanwhile."""
        strand = running()
        self.after(seconds, partial(self.resume, strand))
        self._leave(strand)

    def park(self) -> None:
        """The running strand waits until somebody resumes it."""
        self._leave(running())

    def _leave(self, strand: Strand) -> None:
        strand.process.check()
        loop = strand.loop
        task = asyncio.current_task(loop) if loop else None
        if loop and task:
            asyncio._leave_task(loop, task)
        asyncio._set_running_loop(None)
        try:
            self._hub.switch()
        finally:
            asyncio._set_running_loop(loop)
            if loop and task:
                asyncio._enter_task(loop, task)
        strand.process.check()

    def resume(self, strand: Strand) -> None:
        if strand.dead:
            return
        if strand.process.stopped_until > self.now:
            self.at(strand.process.stopped_until, partial(self.resume, strand))
        else:
            strand.switch()

    def strand(self, process: Process, call: Callable[[], None], loop: Loop | None = None) -> Strand:
        return Strand(process, self._hub, call, loop)


class Strand(greenlet):
    """One thread of a process; with a `loop`, the one that runs it."""

    def __init__(self, process: Process, hub: greenlet, call: Callable[[], None], loop: Loop | None) -> None:
        super().__init__(parent=hub)
        self.process = process
        self.loop = loop
        self._call = call
        process.strands[self] = None

    def run(self) -> None:
        asyncio._set_running_loop(self.loop)
        try:
            self._call()
        except Killed:
            pass
        finally:
            asyncio._set_running_loop(None)
            self.process.strands.pop(self, None)


def running() -> Strand:
    """The strand that calls this."""
    strand = getcurrent()
    assert isinstance(strand, Strand), "only what runs in a process takes steps"
    return strand


def running_in() -> Process | None:
    """The process that this runs in, if it does."""
    strand = getcurrent()
    return strand.process if isinstance(strand, Strand) else None


class Process:
    """It lives until `end`, which takes everything of it away at once."""

    def __init__(self, world: World, name: str) -> None:
        self.world = world
        self.name = name
        self.alive = True
        self.stopped_until = 0.0  # as SIGSTOP does it
        self.loop = Loop(self)  # type: ignore[abstract]  # it has what is asked of it here, no sockets
        self.strands: dict[Strand, None] = {}  # in the order of their beginnings
        self.at_end: list[Callable[[], None]] = []  # what the system takes back: locks, pipes, connections
        self.spawn: Callable[[Any], Coroutine[Any, Any, Any]]  # a child, for a protocol that speaks with it
        self._tasks: dict[asyncio.Task[Any], None] = {}
        self._ready: deque[asyncio.Handle] = deque()
        self._turning = False
        world.living.append(self)

    def check(self) -> None:
        if not self.alive:
            raise Killed(self.name)

    def note(self, what: str) -> None:
        if self.alive:
            self.world.note(self.name, what)

    def threads(self, size: int) -> Pool:
        return Pool(self, size)

    def begin(self, main: Coroutine[Any, Any, Any]) -> None:
        """Something that the simulation itself does here, and that must not fail."""
        self.loop.create_task(main).add_done_callback(self._concluded)

    @property
    def tasks(self) -> int:
        return len(self._tasks)

    def add(self, task: asyncio.Task[Any]) -> None:
        self._tasks[task] = None
        task.add_done_callback(self._forget)

    def _forget(self, task: asyncio.Task[Any]) -> None:
        del self._tasks[task]

    def _concluded(self, task: asyncio.Task[Any]) -> None:
        if self.alive and not task.cancelled() and task.exception() is not None:
            self.world.violated("no bug", f"{self.name}: {task.exception()!r}")

    def due(self, handle: asyncio.Handle) -> None:
        """The loop is to run this as soon as it can."""
        self._ready.append(handle)
        if not self._turning and self.alive:
            self._turning = True
            self.world.at(self.world.now, self._turn)

    def call(self, call: Callable[..., None], *arguments: Any) -> None:
        """Something from outside wakes the loop."""
        if self.alive:
            self.due(asyncio.Handle(call, arguments, self.loop))

    def _turn(self) -> None:
        if self.alive:
            self.world.resume(self.world.strand(self, self._run_ready, self.loop))

    def _run_ready(self) -> None:
        while self._ready:
            handle = self._ready.popleft()
            if not handle.cancelled():
                handle._run()
        self._turning = False

    def stop_for(self, seconds: float) -> None:
        self.note(f"is stopped for {seconds:.1f} s")
        self.stopped_until = self.world.now + seconds

    def end(self, why: str) -> None:
        """Kills it. May be called from within: the next door that is tried raises `Killed`."""
        if self.alive:
            self.note(f"ends: {why}")
            self.alive = False
            self.world.living.remove(self)
            self.world.dying.append(self)
            self.world.at(self.world.now, self.bury)

    def bury(self) -> None:
        """Unwinds what it was doing, behind closed doors."""
        if self not in self.world.dying:
            return
        self.world.dying.remove(self)
        for strand in list(self.strands):
            if strand:  # one that has not begun has nothing to unwind
                strand.throw(Killed)
        for _ in range(BURIAL_ROUNDS):
            for task in list(self._tasks):
                task.cancel()
            self.world.strand(self, self._run_ready, self.loop).switch()
            if not self._tasks:
                break
        for call in self.at_end:
            call()
        self.strands.clear()


class Pool:
    """`Threads` of a process: each call is a strand."""

    def __init__(self, process: Process, size: int) -> None:
        self._process = process
        self._size = size
        self._busy = 0
        self._waiting: deque[tuple[Callable[[], Any], asyncio.Future[Any]]] = deque()
        self._closing: Strand | None = None

    async def run(self, call: Callable[[], T]) -> T:
        self._process.check()
        done: asyncio.Future[T] = self._process.loop.create_future()
        self._waiting.append((call, done))
        self._next()
        return await done

    def _next(self) -> None:
        if self._waiting and self._busy < self._size:
            self._busy += 1
            strand = self._process.world.strand(self._process, partial(self._work, *self._waiting.popleft()))
            self._process.world.after(0.0, partial(self._process.world.resume, strand))

    def _work(self, call: Callable[[], T], done: asyncio.Future[T]) -> None:
        try:
            result = call()
        except Exception as error:
            self._process.call(_fail, done, error)
        else:
            self._process.call(_succeed, done, result)
        self._busy -= 1
        self._next()
        if self._closing is not None and not self._busy:
            self._process.world.after(0.0, partial(self._process.world.resume, self._closing))

    def close(self) -> None:
        """Waits for what runs, as the real one does, and gives up what has not begun."""
        self.leave()
        if self._busy and self._process.alive:
            self._closing = running()
            self._process.world.park()

    def leave(self) -> None:
        for _, done in self._waiting:
            done.cancel()
        self._waiting.clear()


def _succeed(done: asyncio.Future[T], result: T) -> None:
    if not done.done():
        done.set_result(result)


def _fail(done: asyncio.Future[Any], error: Exception) -> None:
    if not done.done():
        done.set_exception(error)


class Mutex:
    """A lock between strands; first come, first served."""

    def __init__(self) -> None:
        self._owner: Strand | None = None
        self._waiting: deque[Strand] = deque()

    def __enter__(self) -> None:
        strand = running()
        strand.process.check()
        assert self._owner is not strand, "a lock is taken twice: nobody would ever go on"
        if self._owner is None:
            self._owner = strand
            return
        self._waiting.append(strand)
        strand.process.world.park()

    def __exit__(self, *_: object) -> None:
        world = running().process.world
        self._owner = self._waiting.popleft() if self._waiting else None
        if self._owner is not None:
            world.after(0.0, partial(world.resume, self._owner))


class Loop(asyncio.AbstractEventLoop):
    """What asyncio asks of a loop, on the world's time."""

    def __init__(self, process: Process) -> None:
        self._process = process

    def time(self) -> float:
        return self._process.world.now

    def get_debug(self) -> bool:
        return False

    def is_running(self) -> bool:
        return True

    def is_closed(self) -> bool:
        return False

    def create_future(self) -> asyncio.Future[Any]:
        return asyncio.Future(loop=self)

    def create_task(self, coro: Any, *, name: str | None = None, context: Context | None = None) -> asyncio.Task[Any]:
        task = asyncio.Task(coro, loop=self, name=name, context=context)
        self._process.add(task)
        return task

    def call_soon(  # type: ignore[override]
        self, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.Handle:
        handle = asyncio.Handle(callback, args, self, context)
        self._process.due(handle)
        return handle

    def call_later(  # type: ignore[override]
        self, delay: float, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        return self.call_at(self.time() + delay, callback, *args, context=context)

    def call_at(  # type: ignore[override]
        self, when: float, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        handle = asyncio.TimerHandle(when, callback, args, self, context)
        self._process.world.at(when, partial(self._ring, handle))
        return handle

    def _ring(self, handle: asyncio.TimerHandle) -> None:
        if self._process.alive and not handle.cancelled():
            self._process.due(handle)

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        pass

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        error = context.get("exception")
        if self._process.alive and not isinstance(error, Killed):
            self._process.world.violated("no bug", f"{self._process.name}: {context['message']}: {error!r}")

    async def subprocess_exec(self, protocol_factory: Any, *args: Any, **kwargs: Any) -> Any:
        """Whoever makes the process says what its children are."""
        return await self._process.spawn(protocol_factory)
