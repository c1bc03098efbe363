"""The real threads: as few as needed, all calls answered, nothing left behind."""

from __future__ import annotations

import asyncio
import os
import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import pytest

from firehose import runtime
from firehose.runtime import PACE_CALLS, Line, Pool, Runtime

SECONDS = 300


@contextmanager
def pool(size: int) -> Iterator[Pool]:
    one = Pool("test", size)
    try:
        yield one
    finally:
        one.close()


async def test_result() -> None:
    """A call's result or its exception is its waiter's, and it runs in a thread of that name."""
    with pool(1) as threads:
        assert (await threads.run(threading.current_thread)).name == "test_0"
        with pytest.raises(ZeroDivisionError):
            await threads.run(lambda: 1 / 0)
        assert await threads.run(lambda: 7) == 7


async def test_nothing_is_kept() -> None:
    """An idle thread keeps neither the call that it did last nor what came of it."""
    with pool(1) as threads:
        forgotten = threading.Event()
        result = await threads.run(threading.Event)
        weakref.finalize(result, forgotten.set)
        del result
        assert await asyncio.to_thread(forgotten.wait, SECONDS), "the thread tells first, and forgets then"


@pytest.mark.parametrize(("spared", "kept"), [(0, []), (1, [3, 8]), (2, [8]), (3, [8]), (1024, [8])])
async def test_spared_cores(spared: int, kept: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    """Threads leave so many of the process's cores to others, but one they have; whoever starts them keeps all."""
    chosen = dict[int, list[int]]()
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {8, 3, 1}, raising=False)
    monkeypatch.setattr(
        os, "sched_setaffinity", lambda _, cores: chosen.update({threading.get_ident(): sorted(cores)}), raising=False
    )
    threads = Runtime().threads("test", 1, spared)
    worker = await threads.run(threading.get_ident)
    threads.close()
    assert worker != threading.get_ident()
    assert chosen == ({worker: kept} if kept else {})


async def test_cores_that_cannot_be_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where cores are taken from the process, or it may not choose, or the system knows nothing of it, calls are done
    all the same.
    """

    def refuses(_: int, cores: object) -> None:
        raise OSError(22, "no such cores")

    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {1, 3}, raising=False)
    monkeypatch.setattr(os, "sched_setaffinity", refuses, raising=False)
    refused = Runtime().threads("test", 1, 1)
    monkeypatch.delattr(os, "sched_getaffinity")
    unknown = Runtime().threads("test", 1, 1)
    for threads in (refused, unknown):
        assert await threads.run(lambda: 7) == 7
        threads.close()


async def test_one_thread_is_enough() -> None:
    """Calls one after the other are done by one thread, whatever the size."""
    with pool(8) as threads:
        names = {(await threads.run(threading.current_thread)).name for _ in range(50)}
    assert names == {"test_0"}


async def test_at_once() -> None:
    """As many calls as there are threads run side by side."""
    together = threading.Barrier(3)
    with pool(3) as threads:
        await asyncio.gather(*(threads.run(lambda: together.wait(SECONDS)) for _ in range(3)))


async def test_backlog() -> None:
    """More calls than threads wait for their turn, in their order."""
    gate, seen = threading.Event(), list[int]()
    with pool(1) as threads:
        first = asyncio.create_task(threads.run(lambda: gate.wait(SECONDS)))
        rest = [asyncio.create_task(threads.run(partial(seen.append, number))) for number in range(100)]
        await asyncio.sleep(0)
        gate.set()
        assert await first
        await asyncio.gather(*rest)
    assert seen == list(range(100))


async def test_cancelled_waiter() -> None:
    """A waiter that leaves takes nothing along: its call is done, and the thread goes on to the next."""
    gate, seen = threading.Event(), list[str]()

    def call() -> None:
        gate.wait(SECONDS)
        seen.append("done")

    with pool(1) as threads:
        leaver = asyncio.create_task(threads.run(call))
        await asyncio.sleep(0)
        leaver.cancel()
        gate.set()
        assert await threads.run(lambda: "next") == "next"
    assert seen == ["done"]
    with pytest.raises(asyncio.CancelledError):
        await leaver


async def test_close() -> None:
    """Closing waits for what is under way, cancels what has no thread yet, and refuses the rest."""
    gate, begun = threading.Event(), threading.Event()

    def call() -> str:
        begun.set()
        gate.wait(SECONDS)
        return "done"

    threads = Pool("closing", 1)
    under_way = asyncio.create_task(threads.run(call))
    await asyncio.sleep(0)
    waiting = asyncio.create_task(threads.run(lambda: "never"))
    await asyncio.sleep(0)
    assert begun.wait(SECONDS)
    closing = asyncio.create_task(asyncio.to_thread(threads.close))
    with pytest.raises(asyncio.CancelledError):
        await waiting
    gate.set()
    await closing
    assert await under_way == "done"
    with pytest.raises(RuntimeError, match="closed"):
        await threads.run(lambda: None)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("closing_")]


@contextmanager
def line(size: int) -> Iterator[Line]:
    """One that knows how quick its calls are."""
    one = Line("test", size)
    try:
        yield one
    finally:
        one.close()


async def known(threads: Line) -> None:
    for _ in range(PACE_CALLS):
        await threads.run(lambda: None)


async def test_short_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """Quick calls that come at once are done by one thread, in their order, and each hears of its own end."""
    monkeypatch.setattr(runtime, "PATIENCE_SECONDS", float(SECONDS))
    with line(8) as threads:
        await known(threads)
        done: list[int] = []
        names = await asyncio.gather(*(threads.run(partial(_named, done, call)) for call in range(50)))
        with pytest.raises(ZeroDivisionError):
            await threads.run(lambda: 1 / 0)
    assert done == [*range(50)]
    assert set(names) == {"test_0"}


async def test_long_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """Calls for which the line would be too long run side by side, as many as there are threads; the rest wait."""
    monkeypatch.setattr(runtime, "PATIENCE_SECONDS", 0.0)
    together = threading.Barrier(3)
    with line(3) as threads:
        await known(threads)
        await asyncio.gather(*(threads.run(lambda: together.wait(SECONDS)) for _ in range(6)))


async def test_unknown_pace() -> None:
    """While nobody knows how long a call takes, none waits for another."""
    together = threading.Barrier(3)
    with line(3) as threads:
        await asyncio.gather(*(threads.run(lambda: together.wait(SECONDS)) for _ in range(3)))


async def test_closed_line() -> None:
    """A line that is closed takes nothing more."""
    with line(1) as threads:
        await known(threads)
        threads.close()
        with pytest.raises(RuntimeError, match="closed"):
            await threads.run(lambda: None)


def _named(done: list[int], call: int) -> str:
    done.append(call)
    return threading.current_thread().name


async def test_every() -> None:
    """A sweep runs at once and again and again, never twice at a time, and no more once it is ended."""
    called, under_way = asyncio.Event(), 0
    times = 0

    async def sweep() -> None:
        nonlocal times, under_way
        under_way += 1
        assert under_way == 1
        await asyncio.sleep(0)
        under_way -= 1
        times += 1
        if times == 3:
            called.set()

    end = Runtime().every(0.01, sweep)
    async with asyncio.timeout(SECONDS):
        await called.wait()
    end()
    await asyncio.sleep(0)  # which is when the scheduler takes notice
    ended = times
    beyond = asyncio.Event()
    asyncio.get_running_loop().call_later(0.05, beyond.set)
    await beyond.wait()
    assert times == ended
