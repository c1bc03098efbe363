"""Streams that write several lanes side by side whatever their disk and their load are like."""

from __future__ import annotations

from firehose.buffer.writing import Pace

PACE = "firehose.buffer.appender.Pace"  # where `Eager` takes its place


class Eager(Pace):
    """Always writes as many lanes as it may."""

    def _judge(self) -> None:
        self.lanes = self._most
