"""What a program and all that it has started take of the machine, as the kernel tells it."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

TICK = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Footprint:
    """Sums over the processes. Memory is Pss_Anon + Pss_Shmem: what would come free if they ended."""

    processes: int
    memory_mib: float
    descriptors: int
    threads: int
    cpu_seconds: float


def footprint(pid: int) -> Footprint:
    """A process that ends while it is looked at counts for nothing."""
    taken = [one for one in map(_one, family(pid)) if one is not None]
    return Footprint(
        len(taken),
        sum(one.memory_mib for one in taken),
        sum(one.descriptors for one in taken),
        sum(one.threads for one in taken),
        sum(one.cpu_seconds for one in taken),
    )


def family(pid: int) -> list[int]:
    """The process, and below it all that it has started."""
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return []
    return [pid, *(one for child in children for one in family(int(child)))]


def _one(pid: int) -> Footprint | None:
    folder = Path(f"/proc/{pid}")
    try:
        sizes = re.findall(r"Pss_(?:Anon|Shmem): +(\d+)", (folder / "smaps_rollup").read_text())
        fields = (folder / "stat").read_text().rpartition(")")[2].split()
        descriptors = len(os.listdir(folder / "fd"))
    except OSError:
        return None
    return Footprint(
        1, sum(map(int, sizes)) / 1024, descriptors, int(fields[17]), (int(fields[11]) + int(fields[12])) / TICK
    )
