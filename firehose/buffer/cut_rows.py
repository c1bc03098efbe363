"""The rows of a cut, read from the segments' durable outcomes; and the records that they were made of.

Its rows are numbered anew, 0 and up over the whole cut, one number for each record of each segment. Everything is
mapped and read lazily, group by group, again at each pass: memory is bounded by a slice, however large the cut.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from firehose.buffer import groups, layout, outcome, pieces, places, reading
from firehose.buffer.groups import Cut
from firehose.buffer.pieces import PIECE_BYTES, SUM
from firehose.contracts import Disk, Retry
from firehose.model import ROW_SCHEMA, SIZE, Outcome, Rejections, SegmentKey
from firehose.partitions import COLUMN
from firehose.rows import cut as next_record
from firehose.rows import is_bare, values_bytes

Numbers = np.ndarray[tuple[int], np.dtype[np.int32]]
NUMBER = ROW_SCHEMA.field("row")
MAPPED_FILES = 64
# What is raised where rows are read that are damaged.
UNREADABLE = (pa.ArrowException, OSError, ValueError, LookupError, ArithmeticError, struct.error)


class Changed(Exception):
    """Rows of a segment are not what they were when it was parted."""

    def __init__(self, key: SegmentKey) -> None:
        super().__init__(f"rows of {'/'.join(map(str, key))} are not what they were when it was parted")
        self.key = key


@dataclass(frozen=True, slots=True)
class Piece:
    """Rows of one group, and the segment's file, where their records lie if they go without these."""

    key: SegmentKey
    rows: pa.RecordBatch
    file: pa.Buffer
    expected: bytes | None  # the checksum, where it is known

    @property
    def size_bytes(self) -> int:
        bare = is_bare(self.rows)
        found: int = pc.sum(self.rows.column(SIZE)).as_py() if bare else values_bytes(self.rows.column("record"))
        return found


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
    """A cut's outcomes, one for each slice; every pass yields the same. Raises `Retry` where the disk fails, or where
    rows are not what they were: `doubted` is told of their segment.
    """

    disk: Disk
    data_dir: str
    cut: Cut
    mapped: Mapped
    sums: Mapping[SegmentKey, bytes]  # of each group, those of its pieces, where they are known
    doubted: Callable[[SegmentKey], object]

    def __iter__(self) -> Iterator[Outcome]:
        nothing, base = Rejections(), 0
        with self._doubting():
            for few in _gathered(self._pieces()):
                whole, base = _numbered(few, base)
                for rows in _cut(whole):
                    yield Outcome(rows, nothing)

    def records(self) -> Iterator[pa.RecordBatch]:
        """Of the rows, the records as they were taken in: those that are in this cut with all that was made of them.
        Of any other, sending it again would bring what went elsewhere once more.
        """
        base = 0
        with self._doubting():
            for key in self.cut.of:
                came, numbers, whole = self._numbers(key)
                yield from self._originals(key, came[whole], numbers[whole] + base)
                base += len(came)

    def sequence_numbers(self) -> list[int]:
        """Of the records in the order of their numbers, each within its lane."""
        with self._doubting():
            return [key[2] + ordinal for key in self.cut.of for ordinal in self._numbers(key)[0].tolist()]

    @contextmanager
    def _doubting(self) -> Iterator[None]:
        try:
            yield
        except Changed as found:
            self.doubted(found.key)
            raise Retry(f"{found}; its outcome is checked, and made anew where it is damaged") from found
        except MemoryError as error:  # of Arrow's too: no damage, and no bug
            raise Retry(f"there is too little memory to read the rows of a cut: {error}") from error

    def _pieces(self) -> Iterator[Piece]:
        """The cut's rows, one or more from each outcome that has some, still with the numbers of their segments."""
        for key in self.cut.of:
            file = self.mapped.buffer(layout.file_of(self.data_dir, key))
            sums = self.sums.get(key)
            found = 0
            for part in self._outcomes(key):
                for rows in self._rows(key, part, file):
                    expected = None if sums is None else sums[found : found + SUM.size]
                    found += SUM.size
                    yield Piece(key, rows, file, expected)
            if sums is not None and len(sums) != found:
                raise Changed(key)

    def _rows(self, key: SegmentKey, part: outcome.Part, file: pa.Buffer) -> list[pa.RecordBatch]:
        """The pieces that one outcome of a segment has. Nothing in it has been checked since it was parted."""
        try:
            rows = outcome.rows(part)
            if not rows.num_rows:
                return []
            pieces.check(rows)
            start, end = groups.chosen(rows, self.cut.partition)
            if start >= end:
                return []
            chosen = rows.slice(start, end - start).drop_columns([COLUMN])
            pieces.check_values(chosen, file)
            return [chosen.slice(start, end - start) for start, end in pairwise([0, *pieces.ends(chosen)])]
        except MemoryError:
            raise
        except UNREADABLE as error:
            raise Changed(key) from error

    def _outcomes(self, key: SegmentKey) -> Iterator[outcome.Part]:
        view = reading.viewed(self.disk, layout.file_of(self.data_dir, key, layout.OUT))
        try:
            yield from outcome.parts(view.buffer)
        except MemoryError:
            raise
        except UNREADABLE as error:
            raise Changed(key) from error
        finally:
            view.close()

    def _numbers(self, key: SegmentKey) -> tuple[Numbers, Numbers, np.ndarray[tuple[int], np.dtype[np.bool_]]]:
        """Of a segment's records in this cut: their ordinals, their numbers within the group, which are here whole. It
        takes what became of all others to know that, so that the whole outcome is checked.
        """
        with reading.told_as_retry():
            outcomes = outcome.read(self.disk, layout.file_of(self.data_dir, key, layout.OUT))
        if outcomes is None:
            raise Changed(key)
        came, whole = [np.zeros(0, np.int32)], [np.zeros(0, np.bool_)]
        for one in (one for one in outcomes if one.rows.num_rows):
            start, end = groups.chosen(one.rows, self.cut.partition)
            numbers = one.rows.column("row").to_numpy()
            here = np.unique(numbers[start:end])
            ended = one.refused.table.column("row").to_numpy()
            came.append(here)
            whole.append(~np.isin(here, np.concatenate([numbers[:start], numbers[end:], ended])))
        ordinals = np.concatenate(came)
        return ordinals, np.arange(len(ordinals), dtype=np.int32), np.concatenate(whole)

    def _originals(self, key: SegmentKey, came: Numbers, numbers: Numbers) -> Iterator[pa.RecordBatch]:
        view = reading.viewed(self.disk, layout.file_of(self.data_dir, key))
        for rows in reading.slices(view, key):
            found = pc.index_in(rows.column("row"), pa.array(came))
            if found.null_count < len(found):
                picked = rows.filter(pc.is_valid(found))
                yield picked.set_column(1, NUMBER, pa.array(numbers).take(found.drop_null()))


def _gathered(pieces: Iterator[Piece]) -> Iterator[list[Piece]]:
    """As many of one kind as have no more than PIECE_BYTES and SLICE_ROWS together."""
    held: list[Piece] = []
    held_bytes = held_rows = 0
    for piece in pieces:
        rows, size_bytes = piece.rows, piece.size_bytes
        too_large = held_rows + rows.num_rows > reading.SLICE_ROWS or held_bytes + size_bytes > PIECE_BYTES
        if held and (too_large or rows.schema != held[0].rows.schema):
            yield held
            held, held_bytes, held_rows = [], 0, 0
        held.append(piece)
        held_bytes += size_bytes
        held_rows += rows.num_rows
    if held:
        yield held


def _numbered(few: list[Piece], base: int) -> tuple[pa.RecordBatch, int]:
    """The pieces joined, their records numbered from `base` on; and the number behind the last. A record's rows lie
    side by side in one piece: each piece begins another record, also where its number is that of another segment's.
    Raises `Changed`.
    """
    rows = places.whole([(piece.rows, piece.file) for piece in few])
    counts = [piece.rows.num_rows for piece in few]
    for piece, checksum in zip(few, pieces.checksums(rows, counts), strict=True):
        if piece.expected not in (None, SUM.pack(checksum)):
            raise Changed(piece.key)
    numbers = rows.column("row").to_numpy()
    begins = np.ones(len(numbers), bool)
    np.not_equal(numbers[1:], numbers[:-1], out=begins[1:])
    begins[np.cumsum([0, *counts[:-1]])] = True
    ranks = np.cumsum(begins, dtype=np.int32) + np.int32(base - 1)
    return rows.set_column(1, NUMBER, pa.array(ranks, NUMBER.type)), int(ranks[-1]) + 1


def _cut(rows: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
    """Slices of about PIECE_BYTES, never between rows of one record."""
    size_bytes = values_bytes(rows.column("record"))
    count = max(1, -(-rows.num_rows // reading.SLICE_ROWS), -(-size_bytes // PIECE_BYTES))
    step, start = -(-rows.num_rows // count), 0
    while start < rows.num_rows:
        end = next_record(rows, min(start + step, rows.num_rows))
        yield rows.slice(start, end - start)
        start = end
