"""Batches and memos for tests, from plain lists of bytes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime

import pyarrow as pa

from firehose.model import ROW_SCHEMA, Batch, Segment

NOON = datetime(2026, 3, 1, 12, 0, 7, tzinfo=UTC)
LANE = "20260301T120000-0123456789abcdef"


def segment(
    records: Sequence[bytes] = (b"x",),
    *,
    stream: str = "app",
    lane: str = LANE,
    first: int = 0,
    opened_at: datetime = NOON,
    version: int = 1,
) -> Segment:
    """The identity of a segment that holds these records."""
    return Segment(stream, lane, first, len(records), sum(map(len, records)), opened_at, version)


def batch(
    records: Sequence[bytes],
    *,
    of: Segment | None = None,
    first: int = 0,
    partition: str = "",
    rows_per_slice: int = 1000,
) -> Batch:
    """The records as a batch; of the segment that fits them, numbered from `first`, unless one is given."""
    table = rows(records)

    def read() -> Iterator[pa.RecordBatch]:
        return (table.slice(start, rows_per_slice) for start in range(0, len(records), rows_per_slice))

    return Batch(of or segment(records, first=first), read, partition)


def rows(records: Sequence[bytes]) -> pa.RecordBatch:
    """One slice of `ROW_SCHEMA`."""
    count = len(records)
    arrival = int(NOON.timestamp() * 1000)
    columns = [
        pa.array(records, pa.binary()),
        pa.array(range(count), pa.int32()),
        pa.array([0] * count, pa.int32()),
        pa.array([arrival] * count, pa.int64()),
    ]
    return pa.record_batch(columns, schema=ROW_SCHEMA)


class Notes:
    """A memo that outlives the destination, as the real one does."""

    def __init__(self) -> None:
        self.written: list[str] = []

    def read(self) -> tuple[str, ...]:
        return tuple(self.written)

    def write(self, note: str) -> None:
        self.written.append(note)

    def forget(self, note: str) -> None:
        if note in self.written:
            self.written.remove(note)
