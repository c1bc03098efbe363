"""When to try again, and when to stop: back-off and deadline of one segment at one destination."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class Patience:
    """Counts attempts. The deadline runs from the first failed one, on the monotonic clock, anew in each process."""

    backoff_seconds: float
    limit_seconds: float
    deadline_seconds: float | None = None
    attempts: int = 0
    failed_at: float | None = None

    def failed(self, now: float) -> None:
        self.attempts += 1
        if self.failed_at is None:
            self.failed_at = now

    def exhausted(self, now: float) -> bool:
        if self.deadline_seconds is None or self.failed_at is None:
            return False
        return now - self.failed_at >= self.deadline_seconds

    def wait_seconds(self, now: float, jitter: float, wished: float | None = None) -> float:
        """Doubles from attempt to attempt up to the limit, less up to half of it; never less than the far side wished,
        never past the deadline. `jitter` is in [0, 1).
        """
        doubled = self.backoff_seconds * 2.0 ** min(max(self.attempts - 1, 0), 30)
        wait = max(min(doubled, self.limit_seconds) * (1 - jitter / 2), min(wished or 0.0, self.limit_seconds))
        if self.deadline_seconds is None or self.failed_at is None:
            return wait
        return max(0.0, min(wait, self.failed_at + self.deadline_seconds - now))
