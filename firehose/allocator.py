"""How the C library's allocator gives memory back, so that a burst does not stay with the process for good.

By itself glibc opens an arena for nearly every thread, and once a large block was freed it takes the next ones of that
size from its heaps, where a small one behind them keeps them. Bodies, parts of objects and compressed pieces are large
blocks that come and go: here they are always mappings of their own, which go when they are freed. Elsewhere than on
glibc it does nothing.
"""

from __future__ import annotations

import ctypes

TRIM_THRESHOLD, MMAP_THRESHOLD, ARENA_MAX = -1, -3, -8  # names of glibc's mallopt
ARENAS = 2
LARGE_BYTES = 1024 * 1024
KEPT_BYTES = 4 * 1024 * 1024  # free at the end of a heap


def bounded() -> None:
    """To be called once, before there are threads."""
    try:
        option = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return
    for name, value in ((ARENA_MAX, ARENAS), (MMAP_THRESHOLD, LARGE_BYTES), (TRIM_THRESHOLD, KEPT_BYTES)):
        option(name, value)
