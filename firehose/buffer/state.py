"""What an appender is told: where its stream's buffer is, and its bounds. And what it knows of that buffer beside its
open files.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from math import inf

from firehose.buffer import frame
from firehose.buffer.alarms import Alarms
from firehose.contracts import Disk
from firehose.model import Origin, Segment, SegmentKey
from firehose.runtime import Runtime, Threads


@dataclass(frozen=True, slots=True)
class Workplace:
    """Where a stream's buffer is, and what whoever writes it has to hand."""

    stream: str
    data_dir: str
    disk: Disk
    threads: Threads  # that wait for the disk
    runtime: Runtime
    version: Callable[[], int]  # of the stream's definition, now
    failed: Callable[[str], None]  # told of each failure of the disk
    alarms: Alarms = field(default_factory=Alarms)  # of whoever shares them


@dataclass(frozen=True, slots=True)
class Limits:
    """A stream's buffering hints and bounds."""

    size_bytes: int
    interval_seconds: float
    limit_bytes: int
    reserve_bytes: int
    commit_seconds: float = 10.0  # behind a commit that takes longer nothing more is let wait
    file_bytes: float = inf  # past which a file is sealed, however small its records are


@dataclass(frozen=True, slots=True)
class Sealed:
    """A sealed segment's file: its bytes, and the version of the definition that it follows."""

    file_bytes: int
    version: int


@dataclass(slots=True)
class State:
    """What the appender knows of its stream's buffer beside the lanes it writes."""

    accepted: int = 0  # records taken by lanes that are dead
    sealed_records: int = 0  # records ever sealed, and told of
    files: dict[SegmentKey, Sealed] = field(default_factory=dict)  # until delivered everywhere
    waiting_bytes: int = 0  # their bytes
    origins: dict[str, Origin] = field(default_factory=dict)
    turn: int = 0  # the last one given out, see `frame`

    def remember(self, *origins: frame.Origins) -> None:
        """The origins that were found at a start, the newest of each source partition."""
        for partition, (turn, cursor) in frame.newest(*origins).items():
            self.origins[partition] = Origin(partition, cursor)
            self.turn = max(self.turn, turn)

    def sealed(self, segment: Segment, file_bytes: int) -> None:
        self.files[segment.key] = Sealed(file_bytes, segment.version)
        self.waiting_bytes += file_bytes

    def removed(self, key: SegmentKey) -> None:
        gone = self.files.pop(key, None)
        self.waiting_bytes -= gone.file_bytes if gone else 0
