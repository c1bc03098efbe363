"""Memory goes back to the system after a burst."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

BURST = """
import ctypes, os
from firehose import allocator

def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

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


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="speaks of glibc's allocator alone")
@pytest.mark.parametrize("bounded", [True, False])
def test_large_blocks_are_given_back(bounded: bool) -> None:
    """80 MiB of large blocks are gone when they are freed, small ones among them or not; by itself glibc keeps most."""
    program = BURST.format(bounded="allocator.bounded()" if bounded else "")
    said = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    kept = int(said.stdout)
    assert (kept < 4 << 20) is bounded, kept
