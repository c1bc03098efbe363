"""How allocators give memory back, so that a burst does not stay with the process for good.

By itself glibc opens an arena for nearly every thread, and once a large block was freed it takes the next ones of that
size from its heaps, where a small one behind them keeps them. Bodies, parts of objects and compressed pieces are large
blocks that come and go: here they are always mappings of their own, which go when they are freed. Elsewhere than on
glibc that does nothing.

Arrow's usual allocator, mimalloc, keeps what was freed for each thread by itself: with 500 partitions that was 70 MB of
which 15 were in use. The other one that comes with Arrow, jemalloc, gives back what nobody has wanted for half a
second, whichever thread freed it: commits want as much again with the next group, and deliveries with the next slice,
and most of what they write would go to fresh pages otherwise. Where Arrow comes without it things stay as they are.

By itself jemalloc has four stocks ("arenas") for each core, and what one thread freed is no use to a thread with
another stock: a pool's threads take turns at work that wants the same few megabytes again and again. Here all share
one. Nor does it have a thread of its own that gives back, nor the library of numpy's matrices any, for which we have no
use: a process with several threads cannot be forked in peace (see forked_half.py). Without that thread it looks at what
nobody has wanted with every thousandth call or so: in quiet times, when there are none, we make some.
"""

from __future__ import annotations

import asyncio
import ctypes
import gc

TRIM_THRESHOLD, MMAP_THRESHOLD, ARENA_MAX = -1, -3, -8  # names of glibc's mallopt
ARENAS = 2
LARGE_BYTES = 1024 * 1024
KEPT_BYTES = 4 * 1024 * 1024  # free at the end of a heap
KEPT_MS = 500  # what Arrow freed
QUIET_SECONDS = 1.0
QUIET_CALLS = 1000  # in that time: with more it gives back by itself
PROMPTS, PROMPT_BYTES = 4000, 64 * 1024  # calls of ours: large ones, for small ones do not reach the stock
ROUNDS = 4  # after the last change: what has been freed is noted first, then older than KEPT_MS, and then given back
OPTIONS = "JE_ARROW_MALLOC_CONF"  # the variable that Arrow's jemalloc reads when it is loaded
MATRICES = "OPENBLAS_NUM_THREADS"


def bounded(kept_ms: int = KEPT_MS) -> None:
    """To be called once, before there are threads."""
    import pyarrow as pa  # now: its environment may be told here first

    _bound_the_c_library()
    if "jemalloc" in pa.supported_memory_backends():
        pa.set_memory_pool(pa.jemalloc_memory_pool())
        pa.jemalloc_set_decay_ms(kept_ms)


def give_back_when_quiet() -> None:
    """To be called in the event loop, and for as long as that runs: what Arrow freed goes back in quiet times, too."""
    import pyarrow as pa

    loop, pool = asyncio.get_running_loop(), pa.default_memory_pool()

    def look(before: tuple[int, int], rounds: int) -> None:
        now = (pool.num_allocations(), pool.bytes_allocated())
        if now != before:
            rounds = ROUNDS
        if rounds and now[0] - before[0] < QUIET_CALLS:
            rounds -= 1
            for _ in range(PROMPTS):
                pa.allocate_buffer(PROMPT_BYTES)
        loop.call_later(QUIET_SECONDS, look, (pool.num_allocations(), pool.bytes_allocated()), rounds)

    if pool.backend_name == "jemalloc":
        look((0, 0), 0)


def keep_what_is_loaded() -> None:
    """To be called once all modules are loaded: no collection of garbage looks at them any more. To go through them
    all, which Python does now and then, takes tens of milliseconds, and everything else waits for that.
    """
    gc.freeze()


def told() -> dict[str, str]:
    """What the environment of a process says that is about to begin: it must be said before Arrow is loaded."""
    options = f"narenas:1,background_thread:false,dirty_decay_ms:{KEPT_MS},muzzy_decay_ms:0"
    return {OPTIONS: options, MATRICES: "1"}


def _bound_the_c_library() -> None:
    try:
        option = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return
    for name, value in ((ARENA_MAX, ARENAS), (MMAP_THRESHOLD, LARGE_BYTES), (TRIM_THRESHOLD, KEPT_BYTES)):
        option(name, value)
