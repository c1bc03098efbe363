"""The rows of a cut, read from the segments' durable outcomes; and the records that they were made of.

Its rows are numbered anew, 0 and up over the whole cut, one number for each record of each segment. Everything is
mapped and read lazily, group by group, again at each pass: memory is bounded by a slice, however large the cut.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from firehose.buffer import groups, layout, outcome, reading
from firehose.buffer.groups import Cut
from firehose.buffer.recovery import record_bytes
from firehose.contracts import Disk
from firehose.model import ROW_SCHEMA, Outcome, Rejections, SegmentKey
from firehose.partitions import COLUMN
from firehose.rows import cut as next_record

Numbers = np.ndarray[tuple[int], np.dtype[np.int32]]
NUMBER = ROW_SCHEMA.field("row")


@dataclass(frozen=True, slots=True)
class CutRows:
    """A cut's outcomes, one for each slice; every pass yields the same. Raises OSError where a file is gone."""

    disk: Disk
    data_dir: str
    cut: Cut

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

    def _pieces(self) -> Iterator[pa.RecordBatch]:
        """The cut's ranges, one from each outcome that has one, their rows still with the numbers of their segments."""
        for key in self.cut.of:
            for part in self._outcomes(key):
                rows = outcome.rows(part)
                start, end = groups.chosen(rows, self.cut.partition)
                if end > start:
                    yield rows.slice(start, end - start).drop_columns([COLUMN])

    def _outcomes(self, key: SegmentKey) -> Iterator[tuple[pa.Buffer, pa.Buffer, pa.Buffer]]:
        view = self.disk.view(layout.file_of(self.data_dir, key, layout.OUT))
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
        view = self.disk.view(layout.file_of(self.data_dir, key))
        for rows in reading.slices(view, key):
            places = pc.index_in(rows.column("row"), pa.array(came))
            if places.null_count < len(places):
                picked = rows.filter(pc.is_valid(places))
                yield picked.set_column(1, NUMBER, pa.array(numbers).take(places.drop_null()))


def _gathered(pieces: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Slices of about SLICE_BYTES: small pieces are joined, and large ones cut, never between rows of one record."""
    held: list[pa.RecordBatch] = []
    held_bytes = held_rows = base = 0
    for piece in pieces:
        size_bytes = record_bytes(piece.column("record"))
        too_large = held_rows + piece.num_rows > reading.SLICE_ROWS or held_bytes + size_bytes > reading.SLICE_BYTES
        if held and (too_large or piece.schema != held[0].schema):
            rows, base = _numbered(held, base)
            yield from _cut(rows, held_bytes)
            held, held_bytes, held_rows = [], 0, 0
        held.append(piece)
        held_bytes += size_bytes
        held_rows += piece.num_rows
    if held:
        yield from _cut(_numbered(held, base)[0], held_bytes)


def _numbered(pieces: list[pa.RecordBatch], base: int) -> tuple[pa.RecordBatch, int]:
    """The pieces joined, their records numbered from `base` on; and the number behind the last. A record's rows lie
    side by side in one piece: each piece begins another record, also where its number is that of another segment's.
    """
    rows = pa.concat_batches(pieces) if len(pieces) > 1 else pieces[0]
    numbers = rows.column("row").to_numpy()
    begins = np.ones(len(numbers), bool)
    np.not_equal(numbers[1:], numbers[:-1], out=begins[1:])
    begins[np.cumsum([0, *(piece.num_rows for piece in pieces[:-1])])] = True
    ranks = np.cumsum(begins, dtype=np.int32) + np.int32(base - 1)
    return rows.set_column(1, NUMBER, pa.array(ranks, NUMBER.type)), int(ranks[-1]) + 1


def _cut(rows: pa.RecordBatch, size_bytes: int) -> Iterator[pa.RecordBatch]:
    pieces = max(1, -(-rows.num_rows // reading.SLICE_ROWS), -(-size_bytes // reading.SLICE_BYTES))
    step, start = -(-rows.num_rows // pieces), 0
    while start < rows.num_rows:
        end = next_record(rows, min(start + step, rows.num_rows))
        yield rows.slice(start, end - start)
        start = end
