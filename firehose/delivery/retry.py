"""When to try again, and when to stop: back-off and deadline of one segment at one destination."""

from __future__ import annotations

from dataclasses import dataclass

from firehose.contracts import Retry

WISH_LIMIT_SECONDS = 900.0  # a far side that asks for more patience than this is asked again all the same
TICK_SECONDS = 0.001  # timers may ring this much early
JITTER = 0.15  # of a wait, more or less: AWS's (firehose.md section 12.3)


@dataclass(slots=True)
class Patience:
    """Counts attempts. The deadline runs from the first failed one, on the monotonic clock, anew in each process,
    and stands still for as long as attempts waited for answers that are not to count.
    """

    backoff_seconds: float
    limit_seconds: float
    deadline_seconds: float | None = None
    attempts: int = 0
    failed_at: float | None = None
    given_up: Retry | None = None  # the last failure, once it is over: from then on the rows go to the error output

    def failed(self, now: float, failure: Retry, *, obstructed: bool = False) -> None:
        """An attempt failed. An obstruction on our side neither starts the deadline nor ends the patience."""
        self.attempts += 1
        if obstructed:
            return
        self.failed_at = now if self.failed_at is None else min(now, self.failed_at + failure.waited_seconds)
        if self._left_seconds(now) <= TICK_SECONDS:
            self.given_up = self.given_up or failure

    def wait_seconds(self, now: float, jitter: float, wished: float | None = None) -> float:
        """Doubles from attempt to attempt up to the limit, 15 % more or less; never less than the far side wished
        (within reason), never past the deadline. `jitter` is in [-1, 1].
        """
        doubled = self.backoff_seconds * 2.0 ** min(max(self.attempts - 1, 0), 30)
        wait = min(doubled, self.limit_seconds) * (1 + JITTER * jitter)
        wait = max(wait, min(wished or 0.0, WISH_LIMIT_SECONDS))
        left = self._left_seconds(now)
        return min(wait, left) if left > TICK_SECONDS else wait

    def _left_seconds(self, now: float) -> float:
        if self.deadline_seconds is None or self.failed_at is None:
            return float("inf")
        return self.failed_at + self.deadline_seconds - now
