"""When segments are sealed for their age: those of all streams together, so that not all are at once.

A thousand streams whose intervals end within the same second have a thousand objects to put then, and the last of them
are late. Where a second has enough alarms, the next one goes off in an earlier one that has room. Since a stream's next
interval begins with its next record, streams that were spread so stay apart.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from firehose.runtime import Runtime


@dataclass(slots=True)
class Alarms:
    """Lives in the event loop. `per_second` go off in a second, as far as that can be."""

    per_second: int = 40
    _set: Counter[int] = field(default_factory=Counter)  # by the second in which they go off

    def set(self, runtime: Runtime, due: float, early_seconds: float, call: Callable[[], None]) -> Alarm:
        """Calls when it is due, on the monotonic clock, or up to so much earlier."""
        now, last = runtime.monotonic(), int(due)
        seconds = range(last, int(max(now, due - early_seconds)), -1)
        second = next((one for one in seconds if self._set[one] < self.per_second), last)
        self._set[second] += 1

        def goes_off() -> None:
            self._over(second)
            call()

        timer = runtime.after(max(0.0, due - (last - second) - now), goes_off)
        return Alarm(self, second, timer)

    def _over(self, second: int) -> None:
        self._set[second] -= 1
        if not self._set[second]:
            del self._set[second]


@dataclass(frozen=True, slots=True)
class Alarm:
    """One that may be cancelled, once, until it goes off."""

    _alarms: Alarms
    _second: int
    _timer: asyncio.TimerHandle

    def cancel(self) -> None:
        self._timer.cancel()
        self._alarms._over(self._second)
