"""A sealed segment read as Arrow: mapped, checked, cut into slices, pages let go behind the reader."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import numpy as np
import pyarrow as pa

from firehose.buffer import frame, layout
from firehose.buffer.lane import joined
from firehose.buffer.places import places_in
from firehose.contracts import Disk, Retry, View
from firehose.model import PLACE, ROW_SCHEMA, Batch, Segment, SegmentKey
from firehose.rows import values_bytes

SLICE_BYTES = 1024 * 1024  # what is joined for one slice still lies in the core's own cache when it is encoded
SLICE_ROWS = 64 * 1024
Damaged = Callable[[SegmentKey], object]
WHOLE_BYTES = 128 * 1024  # a frame from this size on is a slice of its own: joining would copy it for no gain


def batch(disk: Disk, data_dir: str, segment: Segment, damaged: Damaged) -> Batch:
    """The segment as a batch. Opening fails with FileNotFoundError where its file is gone."""
    path = layout.file_of(data_dir, segment)
    disk.size(path)
    return Batch(segment, lambda: slices(viewed(disk, path), segment.key, damaged, segment.end))


def placed(disk: Disk, data_dir: str, given: Batch, damaged: Damaged) -> Batch:
    """The given segment's batch, its rows with a column `place`."""
    path = layout.file_of(data_dir, given.segment)
    segment = given.segment
    return replace(given, read=lambda: slices(viewed(disk, path), segment.key, damaged, segment.end, with_places=True))


@contextmanager
def told_as_retry() -> Iterator[None]:
    """A disk that fails is a reason to try again."""
    try:
        yield
    except OSError as error:
        raise Retry(f"the buffer's disk failed: {error}") from error


def viewed(disk: Disk, path: str) -> View:
    """A file of the buffer, mapped in the middle of a delivery. Raises `Retry`."""
    with told_as_retry():
        return disk.view(path)


def slices(
    view: View, key: SegmentKey, damaged: Damaged | None = None, last: int | None = None, with_places: bool = False
) -> Iterator[pa.RecordBatch]:
    """Slices of about SLICE_BYTES or SLICE_ROWS, cut at places that depend on the file alone.

    Frames are never split unless one alone is larger, and large ones are not joined. Rows lost to damage are left out:
    the others keep their ordinals. `damaged` is told of each damage, also of one that cost no row. No record of the
    segment has the number `last` or one behind it; where that is not known, the trailer says it.
    """
    _, lane, first = key
    crc_seed = frame.seed(lane)
    gathered = _Gathered(first)
    try:
        for item in frame.scan(view.buffer, crc_seed, first, last):
            if isinstance(item, frame.Gap):
                if damaged is not None:
                    damaged(key)
                continue
            if not item.count:
                continue
            records = frame.read_records(view.buffer, item)
            size = values_bytes(records.column("record"))
            if gathered.rows and gathered.full_with(item.count, size):
                yield from gathered.cut(view.buffer if with_places else None)
                view.release(gathered.offset, item.offset)
                gathered = _Gathered(first, item.offset)
            gathered.add(item, records, size)
        if gathered.rows:
            yield from gathered.cut(view.buffer if with_places else None)
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
    runs: list[frame.Frame] = field(default_factory=list)

    def full_with(self, rows: int, size_bytes: int) -> bool:
        return (
            self.rows + rows > SLICE_ROWS
            or self.size_bytes + size_bytes > SLICE_BYTES
            or max(self.size_bytes, size_bytes) >= WHOLE_BYTES
        )

    def add(self, item: frame.Frame, records: pa.RecordBatch, size_bytes: int) -> None:
        self.records.append(records)
        self.runs.append(item)
        self.rows += item.count
        self.size_bytes += size_bytes

    def cut(self, file: pa.Buffer | None) -> Iterator[pa.RecordBatch]:
        """With their places in `file`, where that is given."""
        whole = rows_of(joined(self.records), self._numbers(), self._arrivals())
        if file is not None:
            places = [places_in(file, records.column("record")) for records in self.records]
            whole = whole.append_column(PLACE, pa.array(np.concatenate(places)))
        pieces = max(-(-self.rows // SLICE_ROWS), -(-self.size_bytes // SLICE_BYTES))
        step = max(1, -(-self.rows // pieces)) if pieces else self.rows
        for start in range(0, self.rows, step):
            yield whole.slice(start, step)

    def _numbers(self) -> pa.Array:
        """Ordinals: one range, where nothing was lost between the frames."""
        first, end = self.runs[0].first - self.base, self.runs[-1].end - self.base
        if end - first == self.rows:
            return pa.array(np.arange(first, end, dtype=np.int32))
        runs = [np.arange(item.first - self.base, item.end - self.base, dtype=np.int32) for item in self.runs]
        return pa.array(np.concatenate(runs))

    def _arrivals(self) -> pa.Array:
        arrivals = np.array([item.arrival_ms for item in self.runs], np.int64)
        return pa.array(arrivals.repeat([item.count for item in self.runs]))


def rows_of(records: pa.RecordBatch, numbers: pa.Array, arrivals: pa.Array) -> pa.RecordBatch:
    """Records as the delivery half sees them: with their ordinals, and an arrival time each."""
    parts = pa.array(np.zeros(len(numbers), np.int32))
    columns, schema = [records.column("record"), numbers, parts, arrivals], ROW_SCHEMA
    if "arrival_ms" in records.schema.names:
        columns[3] = records.column("arrival_ms").fill_null(arrivals)
    for name in ("meta", "refused"):
        if name in records.schema.names:
            columns.append(records.column(name))
            schema = schema.append(pa.field(name, pa.string()))
    return pa.RecordBatch.from_arrays(columns, schema=schema)
