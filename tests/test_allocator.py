"""Memory goes back to the system after a burst."""

from __future__ import annotations

import platform
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pytest

from firehose import allocator
from firehose.config import own_environment

RESIDENT = """
import asyncio, os, threading, time
import pyarrow as pa
from firehose import allocator

def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
"""

BURST = """
{bounded}
bytearray(16 << 20)  # from a freed block of this size on, glibc means to keep such blocks
before = resident()
kept = []
for _ in range(20):
    kept.append((bytearray(4 << 20), bytearray(2000)))  # a small block behind each large one
small = [each for _, each in kept]
del kept
print(resident() - before)
"""


def printed(program: str, told: bool = False) -> list[int]:
    """The numbers that a process of its own says, told what a service is told or not."""
    environment = own_environment(allocator.told() if told else {})
    command = [sys.executable, "-c", RESIDENT + program]
    said = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
    return [int(number) for number in said.stdout.split()]


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="speaks of glibc's allocator alone")
@pytest.mark.parametrize("bounded", [True, False])
def test_large_blocks_are_given_back(bounded: bool) -> None:
    """80 MiB of large blocks are gone when they are freed, small ones among them or not; by itself glibc keeps most."""
    (kept,) = printed(BURST.format(bounded="allocator.bounded()" if bounded else ""))
    assert (kept < 4 << 20) is bounded, kept


OF_THREADS = """
def burst():
    held = [pa.array(range(n, n + 30_000)) for n in range(40)]  # 10 MB
    all_hold.wait()

allocator.bounded()
pa.array(range(30_000))
before = resident()
all_hold = threading.Barrier(4, action=lambda: print(resident() - before))
threads = [threading.Thread(target=burst) for _ in range(4)]
"""

BY_ITSELF = """
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
deadline = time.monotonic() + 300
while resident() - before > 12 << 20 and time.monotonic() < deadline:
    time.sleep(0.01)
print(resident() - before)
"""


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="looks at memory as Linux tells it")
@pytest.mark.skipif("jemalloc" not in pa.supported_memory_backends(), reason="Arrow came without jemalloc")
def test_what_arrow_freed_is_given_back() -> None:
    """What several threads freed is gone soon, without anybody asking for it."""
    held, kept = printed(OF_THREADS + BY_ITSELF)
    assert held > 36 << 20
    assert kept < 12 << 20


IN_A_LOOP = """
async def main():
    {given_back}
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    deadline = time.monotonic() + {seconds}
    while resident() - before > 12 << 20 and time.monotonic() < deadline:
        await asyncio.sleep(0.01)
    print(resident() - before)

allocator.QUIET_SECONDS = 0.2  # a fraction of KEPT_MS
asyncio.run(main())
"""


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="looks at memory as Linux tells it")
@pytest.mark.skipif("jemalloc" not in pa.supported_memory_backends(), reason="Arrow came without jemalloc")
@pytest.mark.parametrize(
    ("given_back", "seconds"), [("allocator.give_back_when_quiet()", 60), ("pass", 0)], ids=["asked", "left alone"]
)
def test_what_arrow_freed_is_given_back_when_quiet(given_back: str, seconds: int) -> None:
    """Where Arrow's allocator has no thread it is asked to give back; left alone it does so with its next calls."""
    held, kept = printed(OF_THREADS + IN_A_LOOP.format(given_back=given_back, seconds=seconds), told=True)
    assert held > 36 << 20
    assert (kept < 12 << 20) is bool(seconds)


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="counts threads as Linux tells them")
def test_process_that_was_told_has_a_single_thread() -> None:
    """None of the libraries begins one with its loading: such a process can be forked."""
    program = "import os, firehose.service, firehose.delivery_half; print(len(os.listdir('/proc/self/task')))"
    environment = own_environment(allocator.told())
    said = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True, env=environment)
    assert int(said.stdout) == 1


TURNS = """
def turn():
    held = [pa.array(range(n, n + 30_000)) for n in range(40)]  # 10 MB, freed at the end of its turn

allocator.bounded(kept_ms=3_600_000)
pa.array(range(30_000))
before = resident()
mine = [threading.Event() for _ in range(5)]
def work(place):
    pa.array(range(10))  # all at once, and so each with an arena of its own as long as there are some
    mine[place].wait()
    turn()
    mine[place + 1].set()
threads = [threading.Thread(target=work, args=(place,)) for place in range(4)]
for thread in threads:
    thread.start()
mine[0].set()
for thread in threads:
    thread.join()
print(resident() - before)
"""


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="looks at memory as Linux tells it")
@pytest.mark.skipif("jemalloc" not in pa.supported_memory_backends(), reason="Arrow came without jemalloc")
@pytest.mark.parametrize("told", [True, False])
def test_threads_share_what_was_freed(told: bool) -> None:
    """Four threads that want 10 MB in turns make do with as many, where by itself each would make its own."""
    (kept,) = printed(TURNS, told)
    assert (kept < 18 << 20) is told, kept


LOADED = """
import gc, {module}
from firehose import allocator
before = len(gc.get_objects())
{kept}
made = [[] for _ in range(100)]
print(len(gc.get_objects()) < before / 10, all(any(one is each for each in gc.get_objects()) for one in made))
"""


@pytest.mark.parametrize("kept", [True, False])
@pytest.mark.parametrize("module", ["firehose.service", "firehose.delivery_half"])
def test_collections_pass_over_what_is_loaded(module: str, kept: bool) -> None:
    """They look at what was made since, and at no module; by itself Python goes through all of them."""
    program = LOADED.format(module=module, kept="allocator.keep_what_is_loaded()" if kept else "")
    said = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    assert said.stdout.split() == [str(kept), "True"]
