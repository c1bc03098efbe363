"""A delivery stream as the dialects see it: its options, and the door that records go through."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from firehose.contracts import Appender
from firehose.ingest.gathering import Gathering
from firehose.ingest.splitting import SplitOptions


@dataclass(frozen=True, slots=True)
class Intake:
    """`source` is the stream's source type: only `direct_put` takes records over HTTP."""

    stream: str
    appender: Appender
    split: SplitOptions
    strict: bool = False
    source: str = "direct_put"
    room: Callable[[int], None] = lambda size_bytes: None  # raises `Full` where so many bytes could not be taken now
    singles: Gathering = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "singles", Gathering(self.appender))


Intakes = Mapping[str, Intake]  # by stream name; the service replaces its content as streams come and go
