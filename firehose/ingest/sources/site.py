"""Where a source is put to work."""

from __future__ import annotations

from dataclasses import dataclass

from firehose.datastream.contracts import DataStreams
from firehose.registry import Shared
from firehose.runtime import Runtime, Threads


@dataclass(frozen=True, slots=True)
class SourceSite:
    """A source's class is called with its options and its site."""

    stream: str  # the delivery stream
    placed: bool  # whether any user code asks where records come from
    region: str
    account_id: str
    data_streams: DataStreams
    threads: Threads
    runtime: Runtime
    shared: Shared
