"""How often the control operations may be called where AWS's limits are asked for: data-streams.md section 4.

Counts begin anew with each process.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable, Mapping

from firehose.runtime import Runtime

PER_SECOND: Mapping[str, int] = {
    "DescribeStream": 10,
    "DescribeStreamSummary": 20,
    "DescribeStreamConsumer": 20,
    "DescribeLimits": 1,
    "UpdateShardCount": 10,
    "ListShards": 1000,
}
OTHERS_PER_SECOND = 5
BY_STREAM = ("ListShards",)  # the others are counted for all of the account's streams together
DAY_SECONDS = 86_400
KNOWN_LIMIT = 10_000  # of operations and streams that are counted at once


class Pace:
    """Remembers when the latest calls were, no more of them than there may be."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._calls: dict[Hashable, deque[float]] = {}

    def second(self, operation: str, stream: str) -> bool:
        """Whether one call more fits into this second."""
        most = PER_SECOND.get(operation, OTHERS_PER_SECOND)
        return self._fits((operation, stream if operation in BY_STREAM else ""), most, 1.0)

    def day(self, operation: str, stream: str, most: int) -> bool:
        """Whether one call more fits into the stream's last 24 hours."""
        return self._fits((operation, stream, "day"), most, DAY_SECONDS)

    def _fits(self, what: Hashable, most: int, seconds: float) -> bool:
        now = self._runtime.monotonic()
        calls = self._calls.pop(what, None) or deque(maxlen=most)
        self._calls[what] = calls  # at the end: those in front have not been called for longest
        if len(self._calls) > KNOWN_LIMIT:
            del self._calls[next(iter(self._calls))]
        if len(calls) == most and now - calls[0] < seconds:
            return False
        calls.append(now)
        return True
