"""What processes cost, read from /proc: CPU seconds and memory of a process and all that it has started."""

from __future__ import annotations

import os
import re
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from footprint import family

TICK = os.sysconf("SC_CLK_TCK")
SAMPLE_SECONDS = 0.2  # a look at smaps_rollup stops the process for a moment


@dataclass(frozen=True, slots=True)
class Memory:
    """In MB (10^6 bytes). `own` is Pss_Anon + Pss_Shmem: what goes when the processes go, page cache left out."""

    own: float
    pss: float


def cpu_seconds(pid: int) -> float:
    """User and system time of the family, threads and ended children included."""
    total = 0
    for one in family(pid):
        fields = Path(f"/proc/{one}/stat").read_text().rpartition(")")[2].split()
        total += sum(map(int, fields[11:15]))
    return total / TICK


def memory(pid: int) -> Memory:
    own = pss = 0
    for one in family(pid):
        try:
            text = Path(f"/proc/{one}/smaps_rollup").read_text()
        except OSError:
            continue  # it has just ended
        sizes = {name: int(size) for name, size in re.findall(r"^(\w+): +(\d+) kB", text, re.MULTILINE)}
        own += sizes["Pss_Anon"] + sizes["Pss_Shmem"]
        pss += sizes["Pss"]
    return Memory(own * 1024 / 1e6, pss * 1024 / 1e6)


class Watch:
    """Samples the family's memory while the block runs; `peak` is the most it ever had."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._sample, name="memory", daemon=True)
        self.peak = memory(pid).own

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _sample(self) -> None:
        while not self._ended.wait(SAMPLE_SECONDS):
            self.peak = max(self.peak, memory(self._pid).own)
