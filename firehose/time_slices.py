"""How long a thread may keep a core while another one, just woken, waits for it.

A core that is busy goes to a thread that wakes up once whoever has it has used up a slice of time: 1 to 3 ms on few
cores. A request wakes half a dozen threads one after the other, and beside a delivery that compresses each of them
waits. Linux (6.12 and later) lets a thread whose slice is shorter go first, on its share of the core's time: who asks
for long slices gets as much time as before, and everyone else, whatever its program, wakes up at once.
"""

from __future__ import annotations

import ctypes
import os
import platform
import struct
import sys

LONG_MS = 20
SCHED_SETATTR = {
    "x86_64": 314,
    "aarch64": 274,
    "riscv64": 274,
}  # the call's number; older C libraries have no name for it
ATTRIBUTES = struct.Struct("=IIQiIQQQ")  # struct sched_attr: size, policy, flags, nice, priority, runtime (ns), ...
KEEP_POLICY = 0x08


def ask_for_long_slices(milliseconds: float = LONG_MS) -> None:
    """For the calling thread and those that it begins, processes included. Where there is no such thing it is no loss,
    and nobody is told: elsewhere than on Linux, before 6.12, or where a sandbox forbids it.
    """
    number = SCHED_SETATTR.get(platform.machine())
    if sys.platform != "linux" or number is None or sys.maxsize < 1 << 32:
        return
    nice, nanoseconds = os.getpriority(os.PRIO_PROCESS, 0), int(milliseconds * 1e6)
    attributes = ATTRIBUTES.pack(ATTRIBUTES.size, 0, KEEP_POLICY, nice, 0, nanoseconds, 0, 0)
    ctypes.CDLL(None).syscall(number, 0, attributes, 0)
