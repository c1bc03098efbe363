"""One lane's open file: frames appended and synced, and the seal. Blocking; one thread at a time.

A lane is made at its first append, under a name drawn once. Whoever holds the lock on its folder writes it or
recovers it. After a failed write or sync nothing more is written here: what follows goes to a new lane, and the file
is cut behind its last good frame when it is mended (`recovery.mend`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

import pyarrow as pa

from firehose.buffer import frame, layout
from firehose.contracts import Disk, Lock, Writer
from firehose.model import Segment
from firehose.rows import values_bytes
from firehose.runtime import utc

SMALL_BYTES = 16 * 1024


@dataclass(frozen=True, slots=True)
class Group:
    """What one frame is made of: the records of one or more appends, and their newest origins."""

    records: Sequence[pa.RecordBatch]
    origins: Mapping[str, tuple[int, str]]
    arrival_ms: int
    count: int
    size_bytes: int


@dataclass(slots=True)
class OpenSegment:
    """The growing file, up to its last good frame."""

    writer: Writer
    first: int
    opened_ms: int
    count: int = 0
    size_bytes: int = 0
    file_bytes: int = 0


def untimed(call: Callable[[], None]) -> float:
    call()
    return 0.0


class Lane:
    """Appends to the lane's files. `next` is the number of the record to come: the lane's count so far."""

    def __init__(
        self,
        disk: Disk,
        data_dir: str,
        stream: str,
        name: str,
        seconds_of: Callable[[Callable[[], None]], float] = untimed,
    ) -> None:
        self.name = name
        self.stream = stream
        self.next = 0
        self.sync_seconds = 0.0  # of the last append: the disk's own time
        self.open: OpenSegment | None = None
        self._disk = disk
        self._seconds_of = seconds_of
        self._above = (data_dir, layout.buffer_folder(data_dir))
        self._folder = layout.lane_folder(data_dir, stream, name)
        self._seed = frame.seed(name)
        self._origins: frame.Origins = {}  # of the open segment, newest of each source partition
        self._head: int | None = None
        self._lock: Lock | None = None

    @property
    def file_bytes(self) -> int:
        """Bytes of the open file."""
        return self.open.file_bytes if self.open else 0

    def create(self) -> None:
        """Makes the lane's folder, durable, and locks it."""
        self._disk.make_folder(self._folder)
        for folder in self._above:  # what lies on the way may have been made by someone who died before the sync
            self._disk.sync_folder(folder)
        self._lock = self._disk.lock(self._folder)
        assert self._lock is not None, "a name drawn for this writer alone is never locked by another"

    def append(self, group: Group) -> tuple[int, list[pa.RecordBatch]]:
        """Writes the group as one frame and syncs it. Returns the number of its first record, and the records with the
        columns that the frame has.
        """
        first = self.next
        if self.open is None:
            writer = self._disk.create(layout.numbered(self._folder, first, layout.OPEN))
            self.open = OpenSegment(writer, first, group.arrival_ms)
            self._disk.sync_folder(self._folder)
        segment = self.open
        if not segment.count:  # origins alone do not open a segment
            segment.opened_ms = group.arrival_ms
        records = in_pieces(group.records)
        chunks = frame.encode_frame(records, first, group.arrival_ms, group.origins, self._seed)
        written = segment.writer.write(*chunks)
        self.sync_seconds = self._seconds_of(segment.writer.sync)
        segment.file_bytes += written
        segment.count += group.count
        segment.size_bytes += group.size_bytes
        self._origins.update(group.origins)
        self.next = first + group.count
        return first, records

    def seal(self, version: int) -> Segment:
        """Ends the open file, which has a record, and makes it a sealed segment."""
        segment = self.open
        assert segment is not None, "there is something to seal"
        trailer = frame.Trailer(
            version, segment.first, segment.count, segment.size_bytes, segment.opened_ms, self._summary(segment)
        )
        segment.writer.write(frame.encode_trailer(trailer, self._seed))
        segment.writer.sync()
        segment.writer.close()
        seal_file(self._disk, self._folder, segment.first, self.next, self._head)
        self._head = self.next
        self.open, self._origins = None, {}
        return segment_of(self.stream, self.name, trailer)

    def _summary(self, segment: OpenSegment) -> int:
        """Writes the segment's origins once more, together; returns where."""
        if not self._origins:
            return 0
        at = segment.file_bytes
        chunks = frame.encode_frame([], self.next, segment.opened_ms, self._origins, self._seed)
        segment.file_bytes += segment.writer.write(*chunks)
        return at

    def abandon(self) -> None:
        """Writes nothing more. The lock is kept until `close`, so that nobody else recovers the lane meanwhile."""
        if self.open is not None:
            try:
                self.open.writer.close()
            except OSError:
                pass  # what was acknowledged is synced, and nothing else of it is believed

    def close(self) -> None:
        self.abandon()
        if self._lock is not None:
            self._lock.close()


def seal_file(disk: Disk, folder: str, first: int, end: int, old_head: int | None) -> None:
    """Renames an ended file and leaves the lane's count behind, durable before the old one goes."""
    if old_head != end:
        head = layout.numbered(folder, end, layout.HEAD)
        if not disk.exists(head):
            disk.create(head).close()
    disk.rename(layout.numbered(folder, first, layout.OPEN), layout.numbered(folder, first, layout.SEALED))
    disk.sync_folder(folder)
    if old_head is not None and old_head != end:
        try:
            disk.remove(layout.numbered(folder, old_head, layout.HEAD))
        except OSError:
            pass  # it stays until the lane goes: the largest one counts


def segment_of(stream: str, lane: str, trailer: frame.Trailer) -> Segment:
    return Segment(
        stream, lane, trailer.first, trailer.count, trailer.size_bytes, utc(trailer.opened_ms), trailer.version
    )


def joined(batches: Sequence[pa.RecordBatch]) -> pa.RecordBatch:
    """One record batch of all."""
    alike = _alike(batches)
    return pa.concat_batches(alike) if len(alike) > 1 else alike[0]


def in_pieces(batches: Sequence[pa.RecordBatch]) -> list[pa.RecordBatch]:
    """All of them, of one schema: the small ones joined with their neighbours, for each piece costs whoever writes or
    reads it some work, and the large ones where they lie.
    """
    alike = _alike(batches)
    if len(alike) == 1:
        return [alike[0]] if alike[0].num_rows else []
    pieces: list[pa.RecordBatch] = []
    for small, group in groupby(alike, _is_small):
        some = list(group)
        pieces += [pa.concat_batches(some)] if small and len(some) > 1 else some
    return [piece for piece in pieces if piece.num_rows]


def _is_small(batch: pa.RecordBatch) -> bool:
    return values_bytes(batch.column(0)) < SMALL_BYTES


def _alike(batches: Sequence[pa.RecordBatch]) -> Sequence[pa.RecordBatch]:
    """At least one, with the optional columns that any of them has, in the order of `INTAKE_SCHEMA`."""
    if not batches:
        return [pa.RecordBatch.from_pylist([], schema=frame.SCHEMAS[0])]
    if len(batches) == 1 and batches[0].schema in frame.SCHEMAS:
        return batches
    if all(batch.num_columns == 1 for batch in batches):
        return batches
    schema = frame.SCHEMAS[_columns(batches)]
    return [batch if batch.schema == schema else _widened(batch, schema) for batch in batches]


def _columns(batches: Sequence[pa.RecordBatch]) -> int:
    columns = 0
    for batch in batches:
        columns |= frame.columns_of(batch)
    return columns


def _widened(batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    columns = [
        batch.column(field.name) if field.name in batch.schema.names else pa.nulls(batch.num_rows, field.type)
        for field in schema
    ]
    return pa.record_batch(columns, schema=schema)
