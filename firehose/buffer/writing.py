"""A lane that is being written: what its appender knows of it beside the lane itself, and when it takes what comes.

A stream has one of these, and more where the disk is slow and its segments fill fast: then the next group need not
wait for the disk to have done with the one before, nor for a seal. Each lane's own commits still follow one another.
"""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass, field

from firehose.buffer.alarms import Alarm
from firehose.buffer.lane import Lane, OpenSegment

LANES = 8  # of a stream, written side by side
SLOW_SECONDS = 0.005  # a quicker sync is not worth another lane
PACE_SYNCS = 8  # so many tell how long one takes


@dataclass(eq=False, slots=True)
class Writing:
    """One lane after the other: where the disk fails under it, another takes its place with the next group."""

    number: int  # the first is written always, the others where that pays
    lane: Lane | None = None
    busy: bool = False
    flushing: asyncio.Task[None] | None = None
    since: float | None = None  # on the monotonic clock: when the disk was given what it now has in its hands
    group_bytes: int = 0  # of that
    with_origins: bool = False  # whether that has any
    filling_since: float = 0.0  # on the monotonic clock: when the disk was given the first group of what is open
    before_bytes: int = 0  # what the stream had accepted then
    seal_due: bool = False
    sealers: list[asyncio.Future[None]] = field(default_factory=list)
    age: Alarm | None = None
    aging_since: float | None = None  # on the monotonic clock, while it has records open

    @property
    def open(self) -> OpenSegment | None:
        """The segment that grows, where it has a record."""
        opened = self.lane.open if self.lane else None
        return opened if opened and opened.count else None

    def told_to_seal(self) -> asyncio.Future[None]:
        """Done when all is sealed that is there now."""
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.sealers.append(done)
        self.seal_due = True
        return done

    def end_age(self) -> None:
        if self.age:
            self.age.cancel()
        self.age = self.aging_since = None


class Pace:
    """How many lanes are worth it now. What a sync takes beyond the disk's own time is other threads' doing, so the
    quickest of late tells. And only segments that fill early in their interval may be several at a time: of others
    there would be more, and each the smaller.
    """

    def __init__(self, most: int) -> None:
        self.lanes = 1
        self._most = most
        self._lately: deque[float] = deque(maxlen=PACE_SYNCS)
        self._fills_early = False
        self._begun = 0.0

    def begun(self, now: float) -> None:
        """A group was, at that instant of the monotonic clock."""
        self._begun = now

    def left(self, now: float) -> float:
        """How many seconds until the next of several lanes may begin: those that begin together also end together, and
        what comes next finds none free.
        """
        return self._begun + min(self._lately) / self._most - now

    def synced(self, seconds: float) -> None:
        self._lately.append(seconds)
        self._judge()

    def sealed(self, full: bool, seconds: float, segments: float, interval_seconds: float) -> None:
        """A segment was, because it was full or for another reason. While it was open, for so long, the stream took so
        many segments' worth: that of each lane says little, for they fill the slower the more there are.
        """
        steady = full or self.lanes > 1  # what is sealed for another reason may have been open for a moment only
        self._fills_early = steady and segments * interval_seconds >= seconds * self._most
        self._judge()

    def _judge(self) -> None:
        self.lanes = self._most if self._fills_early and min(self._lately) >= SLOW_SECONDS else 1
