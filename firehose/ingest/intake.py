"""A delivery stream as the dialects see it: its options, and the door that records go through."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from firehose.contracts import Appender
from firehose.ingest.splitting import SplitOptions


@dataclass(frozen=True, slots=True)
class Intake:
    """`source` is the stream's source type: only `direct_put` takes records over HTTP."""

    stream: str
    appender: Appender
    split: SplitOptions
    strict: bool = False
    source: str = "direct_put"


Intakes = Mapping[str, Intake]  # by stream name; the service replaces its content as streams come and go
