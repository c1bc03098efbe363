"""Long slices of time, as the kernel tells of them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from running import NEVER, places_told, started, to_folder

from firehose.time_slices import LONG_MS

SLICE = "se.slice"
TOLD = Path("/proc/self/sched")
ASKS = """
import os, sys, threading
from firehose.time_slices import ask_for_long_slices

os.nice(3)
{before}
ask_for_long_slices({milliseconds})
threading.Thread(target=lambda: print(open("/proc/thread-self/sched").read())).start()
os.execvp("sed", ["sed", "", "/proc/self/sched"]) if not os.fork() else os.wait()
print("nice", ":", os.getpriority(os.PRIO_PROCESS, 0))
"""


def told(milliseconds: float, before: str = "") -> list[tuple[str, int]]:
    """What a process of its own has once it has asked: its thread's slice and its child's in ns, and how nice it is."""
    program = ASKS.format(milliseconds=milliseconds, before=before)
    return values(subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout)


def values(said: str) -> list[tuple[str, int]]:
    lines = [line.partition(":") for line in said.splitlines()]
    return [(name.strip(), int(value)) for name, _, value in lines if name.strip() in (SLICE, "nice", "policy")]


has_slices = pytest.mark.skipif(
    not TOLD.exists() or SLICE not in TOLD.read_text(), reason="this kernel tells nothing of slices"
)


@has_slices
def test_threads_and_children_have_them() -> None:
    """Threads and processes that are begun later have the slice, too; how nice they are stays."""
    assert told(7) == [("policy", 0), (SLICE, 7_000_000), ("policy", 0), (SLICE, 7_000_000), ("nice", 3)]


@has_slices
def test_a_policy_that_was_chosen_stays() -> None:
    """Whoever runs the service as a batch job has said so."""
    batch = "os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))"
    assert ("policy", 3) in told(7, batch)
    assert ("policy", 0) not in told(7, batch)


@has_slices
async def test_delivery_half_has_them(tmp_path: Path) -> None:
    """All of its threads, and none of the service's, which has those that the kernel gives."""
    streams = {"app": {"buffering": NEVER, "destination": to_folder(tmp_path)}}
    async with started(tmp_path, streams) as one, one.client() as client:
        await places_told(client)  # the delivery half lives, for it answers
        tasks = Path(f"/proc/{one.process.pid}/task")
        (child,) = (tasks / f"{one.process.pid}/children").read_text().split()
        slices, usual = (
            {value for each in folder.glob("*/sched") for name, value in values(each.read_text()) if name == SLICE}
            for folder in (Path(f"/proc/{child}/task"), tasks)
        )
    assert slices == {LONG_MS * 1_000_000}
    assert usual.isdisjoint(slices)


@pytest.mark.parametrize(
    "elsewhere",
    ["sys.platform = 'darwin'", "import platform; platform.machine = lambda: 'sparc'", "sys.maxsize = 2**31 - 1"],
)
def test_elsewhere_it_is_nothing(elsewhere: str) -> None:
    """No error, and no call whose number means something else there."""
    calls = "import ctypes; ctypes.CDLL = None; "
    program = f"import sys; {calls}{elsewhere}; from firehose.time_slices import ask_for_long_slices as ask; ask()"
    subprocess.run([sys.executable, "-c", program], check=True)
