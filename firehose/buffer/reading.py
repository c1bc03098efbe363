"""A sealed segment read as Arrow: mapped, checked, cut into slices, pages let go behind the reader."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import pyarrow as pa

from firehose.buffer import frame, layout
from firehose.buffer.lane import joined
from firehose.buffer.recovery import record_bytes
from firehose.contracts import Disk, View
from firehose.model import ROW_SCHEMA, Batch, Segment

SLICE_BYTES = 4 * 1024 * 1024
SLICE_ROWS = 64 * 1024


def batch(disk: Disk, data_dir: str, segment: Segment) -> Batch:
    """The segment as a batch. Opening fails with FileNotFoundError where its file is gone."""
    path = layout.file_of(data_dir, segment)
    disk.size(path)
    return Batch(segment, lambda: slices(disk.view(path), segment))


def slices(view: View, segment: Segment) -> Iterator[pa.RecordBatch]:
    """Slices of about SLICE_BYTES or SLICE_ROWS, cut at places that depend on the file alone.

    Frames are never split unless one alone is larger. Rows lost to damage are left out: the others keep their ordinals.
    """
    crc_seed = frame.seed(segment.lane)
    gathered = _Gathered(segment.first)
    try:
        for item in frame.scan(view.buffer, crc_seed, segment.first):
            if isinstance(item, frame.Gap) or not item.count:
                continue
            records = frame.read_records(view.buffer, item)
            size = record_bytes(records.column("record"))
            if gathered.rows and gathered.full_with(item.count, size):
                yield from gathered.cut()
                view.release(gathered.offset, item.offset)
                gathered = _Gathered(segment.first, item.offset)
            gathered.add(item, records, size)
        if gathered.rows:
            yield from gathered.cut()
    finally:
        view.close()


@dataclass(slots=True)
class _Gathered:
    """Frames that will be one slice."""

    base: int
    offset: int = 0
    rows: int = 0
    size_bytes: int = 0
    records: list[pa.RecordBatch] = field(default_factory=list)
    numbers: list[pa.Array] = field(default_factory=list)
    arrivals: list[pa.Array] = field(default_factory=list)

    def full_with(self, rows: int, size_bytes: int) -> bool:
        return self.rows + rows > SLICE_ROWS or self.size_bytes + size_bytes > SLICE_BYTES

    def add(self, item: frame.Frame, records: pa.RecordBatch, size_bytes: int) -> None:
        first = item.first - self.base
        self.records.append(records)
        self.numbers.append(pa.arange(first, first + item.count))
        self.arrivals.append(pa.repeat(pa.scalar(item.arrival_ms, pa.int64()), item.count))
        self.rows += item.count
        self.size_bytes += size_bytes

    def cut(self) -> Iterator[pa.RecordBatch]:
        whole = rows_of(joined(self.records), pa.concat_arrays(self.numbers), pa.concat_arrays(self.arrivals))
        pieces = max(-(-self.rows // SLICE_ROWS), -(-self.size_bytes // SLICE_BYTES))
        step = max(1, -(-self.rows // pieces)) if pieces else self.rows
        for start in range(0, self.rows, step):
            yield whole.slice(start, step)


def rows_of(records: pa.RecordBatch, numbers: pa.Array, arrivals: pa.Array) -> pa.RecordBatch:
    """Records as the delivery half sees them: with their ordinals, and an arrival time each."""
    columns = {
        "record": records.column("record"),
        "row": numbers.cast(pa.int32()),
        "part": pa.repeat(pa.scalar(0, pa.int32()), len(numbers)),
        "arrival_ms": arrivals,
    }
    if "arrival_ms" in records.schema.names:
        columns["arrival_ms"] = records.column("arrival_ms").fill_null(arrivals)
    optional = [name for name in ("meta", "refused") if name in records.schema.names]
    columns.update({name: records.column(name) for name in optional})
    fields = [*ROW_SCHEMA, *(pa.field(name, pa.string()) for name in optional)]
    return pa.record_batch(list(columns.values()), schema=pa.schema(fields))
