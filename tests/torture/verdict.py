"""What a torture run found, added up over its victims."""

from __future__ import annotations

import shutil
import tempfile
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

SHOWN = 5


@dataclass(slots=True)
class Verdict:
    """`missing`, `doubled`, `invented` and `trouble` must be empty."""

    kills: Counter[str] = field(default_factory=Counter)  # by kind
    slowest: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))  # seconds until ready again
    acknowledged: int = 0
    delivered: int = 0
    missing: list[str] = field(default_factory=list)
    doubled: list[str] = field(default_factory=list)
    invented: list[str] = field(default_factory=list)
    trouble: list[str] = field(default_factory=list)
    _guard: threading.Lock = field(default_factory=threading.Lock)

    @property
    def clean(self) -> bool:
        return not (self.missing or self.doubled or self.invented or self.trouble)

    def struck(self, kind: str, kills: int, ready_seconds: float) -> None:
        with self._guard:
            self.kills[kind] += kills
            self.slowest[kind] = max(self.slowest[kind], ready_seconds)

    def counted(self, sent: set[str], acknowledged: set[str], found: Counter[str]) -> None:
        """Adds one victim's records: what was sent and acknowledged, and what lies at the far side."""
        with self._guard:
            self.acknowledged += len(acknowledged)
            self.delivered += found.total()
            self.missing += sorted(acknowledged - set(found))
            self.doubled += sorted(one for one, times in found.items() if times > 1)
            self.invented += sorted(set(found) - sent)

    def complain(self, what: str) -> None:
        with self._guard:
            self.trouble.append(what)

    def __str__(self) -> str:
        kinds = [
            f"  {kind:<16} {kills:>5} kills" + (f", ready again within {slowest:.1f} s" if slowest > 0 else "")
            for kind, kills, slowest in ((kind, self.kills[kind], self.slowest[kind]) for kind in sorted(self.kills))
        ]
        samples = [
            f"  {name}: {', '.join(which[:SHOWN])}"
            for name, which in (("missing", self.missing), ("doubled", self.doubled), ("invented", self.invented))
            if which
        ]
        sums = (
            f"{self.kills.total()} kills, {self.acknowledged} records acknowledged, {self.delivered} delivered: "
            f"missing {len(self.missing)}, doubled {len(self.doubled)}, invented {len(self.invented)}"
        )
        return "\n".join([*kinds, sums, *samples, *(f"  {line}" for line in self.trouble)])


def judged(name: str, told: str, run: Callable[[Path], Verdict]) -> int:
    """Runs it in a folder of its own, which stays where something is wrong, and says what it found; the exit code."""
    folder = Path(tempfile.mkdtemp(prefix=f"{name}-"))
    began = time.monotonic()
    verdict = run(folder)
    print(f"{told}, {time.monotonic() - began:.0f} s:\n{verdict}")
    if verdict.clean:
        shutil.rmtree(folder)
        return 0
    print(f"what is left of it lies in {folder}")
    return 1


def say(line: str) -> None:
    """At once, also where nobody but a file listens."""
    print(line, flush=True)
