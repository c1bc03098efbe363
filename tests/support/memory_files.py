"""The memory files that this process has, by its descriptors."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path


def memory_files() -> int:
    """How many descriptors of ours are of such files."""
    found = 0
    for one in Path("/proc/self/fd").iterdir():
        with suppress(FileNotFoundError):  # the listing's own
            found += one.readlink().name.startswith("memfd:firehose")
    return found
