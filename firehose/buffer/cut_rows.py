"""The rows of a cut, read from the segments' durable outcomes; and the records that they were made of.

Its rows are numbered anew, 0 and up over the whole cut, one number for each record of each segment. Everything is
mapped and read lazily, group by group, again at each pass: memory is bounded by a slice, however large the cut.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from firehose.buffer import groups, layout, outcome, places, reading
from firehose.buffer.groups import Cut
from firehose.buffer.places import Piece
from firehose.contracts import Disk
from firehose.model import ROW_SCHEMA, SIZE, Outcome, Rejections, SegmentKey
from firehose.partitions import COLUMN
from firehose.rows import cut as next_record
from firehose.rows import is_bare, values_bytes

Numbers = np.ndarray[tuple[int], np.dtype[np.int32]]
NUMBER = ROW_SCHEMA.field("row")
MAPPED_FILES = 64
SLICE_BYTES = 4 * 1024 * 1024  # what columns are read from at once: of that size, it is not joined again for them


class Mapped:
    """Segments' files, mapped once for all cuts that read them: each cut looks at most pages of a file, and to map them
    anew costs as much as to copy the records. At most MAPPED_FILES at a time.
    """

    def __init__(self, disk: Disk) -> None:
        self._buffer = lru_cache(maxsize=MAPPED_FILES)(lambda path: reading.viewed(disk, path).buffer)

    def buffer(self, path: str) -> pa.Buffer:
        return self._buffer(path)

    def forget(self) -> None:
        """Some of the files are about to be removed: they go when nobody reads them any more."""
        self._buffer.cache_clear()


@dataclass(frozen=True, slots=True)
class CutRows:
    """A cut's outcomes, one for each slice; every pass yields the same. Raises `Retry` where the disk fails."""

    disk: Disk
    data_dir: str
    cut: Cut
    mapped: Mapped

    def __iter__(self) -> Iterator[Outcome]:
        nothing = Rejections()
        for rows in _gathered(self._pieces()):
            yield Outcome(rows, nothing)

    def records(self) -> Iterator[pa.RecordBatch]:
        """Of the rows, the records as they were taken in: those that are in this cut with all that was made of them.
        Of any other, sending it again would bring what went elsewhere once more.
        """
        base = 0
        for key in self.cut.of:
            came, numbers, whole = self._numbers(key)
            yield from self._originals(key, came[whole], numbers[whole] + base)
            base += len(came)

    def sequence_numbers(self) -> list[int]:
        """Of the records in the order of their numbers, each within its lane."""
        return [key[2] + ordinal for key in self.cut.of for ordinal in self._numbers(key)[0].tolist()]

    def _pieces(self) -> Iterator[Piece]:
        """The cut's ranges, one or more from each outcome that has some, their rows still with the numbers of their
        segments.
        """
        for key in self.cut.of:
            file = self.mapped.buffer(layout.file_of(self.data_dir, key))
            for part in self._outcomes(key):
                rows = outcome.rows(part)
                start, end = groups.chosen(rows, self.cut.partition)
                for piece in _bounded(rows.slice(start, end - start).drop_columns([COLUMN])):
                    yield piece, file

    def _outcomes(self, key: SegmentKey) -> Iterator[tuple[pa.Buffer, pa.Buffer, pa.Buffer]]:
        view = reading.viewed(self.disk, layout.file_of(self.data_dir, key, layout.OUT))
        try:
            yield from outcome.parts(view.buffer)
        finally:
            view.close()

    def _numbers(self, key: SegmentKey) -> tuple[Numbers, Numbers, np.ndarray[tuple[int], np.dtype[np.bool_]]]:
        """Of a segment's records in this cut: their ordinals, their numbers within the group, which are here whole."""
        came, whole = [np.zeros(0, np.int32)], [np.zeros(0, np.bool_)]
        for part in self._outcomes(key):
            rows = outcome.rows(part)
            start, end = groups.chosen(rows, self.cut.partition)
            numbers = rows.column("row").to_numpy()
            here = np.unique(numbers[start:end])
            elsewhere = np.concatenate([numbers[:start], numbers[end:], outcome.ended(part).to_numpy()])
            came.append(here)
            whole.append(~np.isin(here, elsewhere))
        ordinals = np.concatenate(came)
        return ordinals, np.arange(len(ordinals), dtype=np.int32), np.concatenate(whole)

    def _originals(self, key: SegmentKey, came: Numbers, numbers: Numbers) -> Iterator[pa.RecordBatch]:
        view = reading.viewed(self.disk, layout.file_of(self.data_dir, key))
        for rows in reading.slices(view, key):
            found = pc.index_in(rows.column("row"), pa.array(came))
            if found.null_count < len(found):
                picked = rows.filter(pc.is_valid(found))
                yield picked.set_column(1, NUMBER, pa.array(numbers).take(found.drop_null()))


def _bounded(rows: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
    """Rows in one piece where they have their records, for which it takes no memory; else no more than a slice has."""
    if not rows.num_rows or not is_bare(rows):
        yield from [rows] if rows.num_rows else []
        return
    ends = np.cumsum(rows.column(SIZE).to_numpy(), dtype=np.int64)
    start = 0
    while start < rows.num_rows:
        before = int(ends[start - 1]) if start else 0
        end = int(np.searchsorted(ends, before + SLICE_BYTES, side="right"))
        end = min(max(end, start + 1), start + reading.SLICE_ROWS)
        yield rows.slice(start, end - start)
        start = end


def _gathered(pieces: Iterator[Piece]) -> Iterator[pa.RecordBatch]:
    """Slices of about SLICE_BYTES: small pieces are joined, and large ones cut, never between rows of one record."""
    held: list[Piece] = []
    held_bytes = held_rows = base = 0
    for piece in pieces:
        rows, _ = piece
        size_bytes = _record_bytes(rows)
        too_large = held_rows + rows.num_rows > reading.SLICE_ROWS or held_bytes + size_bytes > SLICE_BYTES
        if held and (too_large or rows.schema != held[0][0].schema):
            whole, base = _numbered(held, base)
            yield from _cut(whole, held_bytes)
            held, held_bytes, held_rows = [], 0, 0
        held.append(piece)
        held_bytes += size_bytes
        held_rows += rows.num_rows
    if held:
        yield from _cut(_numbered(held, base)[0], held_bytes)


def _record_bytes(rows: pa.RecordBatch) -> int:
    return pc.sum(rows.column(SIZE)).as_py() if is_bare(rows) else values_bytes(rows.column("record"))


def _numbered(pieces: list[Piece], base: int) -> tuple[pa.RecordBatch, int]:
    """The pieces joined, their records numbered from `base` on; and the number behind the last. A record's rows lie
    side by side in one piece: each piece begins another record, also where its number is that of another segment's.
    """
    rows = places.whole(pieces)
    numbers = rows.column("row").to_numpy()
    begins = np.ones(len(numbers), bool)
    np.not_equal(numbers[1:], numbers[:-1], out=begins[1:])
    begins[np.cumsum([0, *(piece.num_rows for piece, _ in pieces[:-1])])] = True
    ranks = np.cumsum(begins, dtype=np.int32) + np.int32(base - 1)
    return rows.set_column(1, NUMBER, pa.array(ranks, NUMBER.type)), int(ranks[-1]) + 1


def _cut(rows: pa.RecordBatch, size_bytes: int) -> Iterator[pa.RecordBatch]:
    pieces = max(1, -(-rows.num_rows // reading.SLICE_ROWS), -(-size_bytes // SLICE_BYTES))
    step, start = -(-rows.num_rows // pieces), 0
    while start < rows.num_rows:
        end = next_record(rows, min(start + step, rows.num_rows))
        yield rows.slice(start, end - start)
        start = end
