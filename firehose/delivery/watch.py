"""What hooks were asked and what came of it: how often, for how long, how many records they refused.

One for all streams of a process; it outlives reloads. AWS's ExecuteProcessing metrics: firehose.md section 15.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from firehose.contracts import Hook
from firehose.model import Outcome


@dataclass(slots=True)
class Counts:
    """Of one stream's hook. `seconds` of requests side by side add up."""

    requests: int = 0
    seconds: float = 0.0
    refused: int = 0


@dataclass(slots=True)
class Watch:
    """Asks hooks, and counts."""

    counts: dict[tuple[str, str], Counts] = field(default_factory=dict)

    async def ask(self, stream: str, hook: Hook, rows: pa.RecordBatch, clock: Callable[[], float]) -> Outcome:
        """The hook's outcome. `clock` is monotonic, in seconds."""
        began = clock()
        outcome = await hook.outcome(rows)
        counts = self.counts.setdefault((stream, hook.name), Counts())
        counts.requests += 1
        counts.seconds += clock() - began
        counts.refused += len(outcome.refused)
        return outcome

    def said(self) -> list[dict[str, Any]]:
        """As the delivery half tells it."""
        return [
            {"stream": stream, "hook": hook, "requests": one.requests, "seconds": one.seconds, "refused": one.refused}
            for (stream, hook), one in self.counts.items()
        ]
