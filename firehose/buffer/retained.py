"""A segment file of a shard: kept for a while instead of delivered, and read from any record or instant on.

Only what is durable is ever looked at, by the length that whoever wrote the file vouches for. Frames are found by
marks, one in 64 KiB of the file and the newest: the writer notes them as it goes, and for a file of an earlier process
they are made at the first look. Marks and mapping are forgotten when many other files are in use, and made again.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from typing import TypeVar

import numpy as np
import pyarrow as pa

from firehose.buffer import frame, layout
from firehose.contracts import Disk, View
from firehose.rows import values_bytes

MARK_BYTES = 64 * 1024
WHOLE_BYTES = 32 * 1024  # a frame from this size on is a piece of its own, and not copied
JOINED_BYTES = 512 * 1024  # of smaller ones in one piece: each piece costs its readers some work
ARRIVED = frame.SCHEMAS[0b011]  # record, arrival_ms, meta
FILES = 256  # mapped or marked at a time
LATELY_COST = 2 * 1024  # what a frame takes in memory beside its bytes


class Marks:
    """Where some of a file's frames begin. Of the newest frame it is always known."""

    __slots__ = ("arrivals", "firsts", "offsets")

    def __init__(self) -> None:
        self.offsets = array("q")
        self.firsts = array("q")
        self.arrivals = array("q")

    def note(self, offset: int, first: int, arrival_ms: int) -> None:
        """Told of each frame, in their order."""
        if len(self.offsets) > 1 and offset - self.offsets[-2] < MARK_BYTES:
            self.offsets[-1], self.firsts[-1], self.arrivals[-1] = offset, first, arrival_ms
        else:
            for column, value in ((self.offsets, offset), (self.firsts, first), (self.arrivals, arrival_ms)):
                column.append(value)

    def before(self, number: int) -> tuple[int, int]:
        """Offset and first number of a frame from which on the record is found."""
        return self._at(bisect_right(self.firsts, number) - 1)

    def before_ms(self, ms: int) -> tuple[int, int]:
        """The same for the first record that arrived at or after that instant."""
        return self._at(bisect_left(self.arrivals, ms) - 1)

    def _at(self, place: int) -> tuple[int, int]:
        place = max(0, place)
        return (self.offsets[place], self.firsts[place]) if self.offsets else (0, 0)


Numbers = np.ndarray[tuple[int], np.dtype[np.int64]]


@dataclass(slots=True)
class Room:
    """How much a reader still takes, and what it has. The first record is taken however large it is."""

    records: int
    bytes: int
    pieces: list[tuple[int, pa.RecordBatch]] = field(default_factory=list)  # each with the counter of its first row

    @property
    def left(self) -> bool:
        return self.records > 0 and self.bytes > 0

    def take(self, counter: int, rows: pa.RecordBatch, arrivals: Numbers) -> int:
        """Takes as many of the rows as there is room for; how many that are."""
        ends = _ends(rows)
        count = min(len(ends), self.records)
        if ends[count - 1] > self.bytes:
            count = max(int(np.searchsorted(ends, self.bytes, side="right")), 0 if self.pieces else 1)
        if count:
            self.pieces.append((counter, _arrived(rows.slice(0, count), arrivals[:count])))
            self.bytes -= int(ends[count - 1])
        self.records = self.records - count if count == len(ends) else 0
        return count


def _ends(rows: pa.RecordBatch) -> Numbers:
    """Bytes of all columns up to the end of each row."""
    total = np.zeros(rows.num_rows, np.int64)
    for column in rows.columns:
        offsets = np.frombuffer(column.buffers()[1], np.int32)[column.offset : column.offset + len(column) + 1]
        total += offsets[1:] - offsets[0]
    return total


def _arrived(rows: pa.RecordBatch, arrivals: Numbers) -> pa.RecordBatch:
    """The rows, each with its arrival."""
    meta = rows.column("meta") if "meta" in rows.schema.names else pa.nulls(rows.num_rows, pa.string())
    return pa.RecordBatch.from_arrays([rows.column("record"), pa.array(arrivals), meta], schema=ARRIVED)


@dataclass(frozen=True, slots=True)
class Taken:
    """What a look into a file gave beside records: the number behind them, and the arrival of the next record there,
    None where the file has none; where the first damage is that it met.
    """

    next: int
    waiting_ms: int | None
    damaged_at: int | None


@dataclass(frozen=True, slots=True)
class Remembered(frame.Frame):
    """A frame, or a piece of one, whose records lie in memory."""

    rows: pa.RecordBatch


Item = TypeVar("Item", bound=frame.Frame)


def _arrivals(frames: Sequence[frame.Frame]) -> Numbers:
    return np.array([item.arrival_ms for item in frames], np.int64).repeat([item.count for item in frames])


def _alike(items: Iterable[Item | frame.Gap], number: int, room: Room) -> Iterator[list[Item] | frame.Gap]:
    """The frames from a record on: large ones alone, small ones together where they follow each other, and no more
    of them than there is room for; and the gaps between them.
    """
    small: list[Item] = []
    for item in items:
        if isinstance(item, frame.Frame) and item.end <= number:
            continue
        if small and (isinstance(item, frame.Gap) or not _go_together(small, item, room)):
            yield small
            small = []
        if isinstance(item, frame.Gap):
            yield item
        else:
            small.append(item)
    if small:
        yield small


def _go_together(frames: Sequence[frame.Frame], more: frame.Frame, room: Room) -> bool:
    first, last = frames[0], frames[-1]
    return (
        max(last.size, more.size) < WHOLE_BYTES
        and (last.end, last.columns) == (more.first, more.columns)
        and last.end - first.first < room.records
        and more.offset - first.offset < JOINED_BYTES
    )


@dataclass(eq=False, slots=True)
class Retained:
    """One file. `base` is added to a record's number in its lane and makes it a counter."""

    disk: Disk
    folder: str
    lane: str
    base: int
    first: int
    end: int
    opened_ms: int
    file_bytes: int  # up to the end of its last good frame
    sealed: bool
    newest_ms: int | None = None
    marks: Marks | None = None
    told: bool = False  # of its damage
    lately: list[Remembered] = field(default_factory=list)  # its last frames, as far as they are
    _view: View | None = None
    _released: int = 0

    @property
    def begin(self) -> int:
        """Counter of its first record."""
        return self.base | self.first

    @property
    def past(self) -> int:
        """The position behind its last record."""
        return self.base | self.end

    def wrote(self, first: int, arrival_ms: int, file_bytes: int, pieces: Sequence[pa.RecordBatch]) -> list[Remembered]:
        """A frame of these records, the first of them so numbered, is durable now, and the file so long. What there is
        to remember of it, piece by piece, as if each were a frame.
        """
        assert self.marks is not None, "who writes a file marks it from its first frame on"
        self.marks.note(self.file_bytes, first, arrival_ms)
        offset = self.file_bytes
        self.newest_ms, self.file_bytes = arrival_ms, file_bytes
        found: list[Remembered] = []
        for rows in pieces:
            size = sum(map(values_bytes, rows.columns))
            found.append(
                Remembered(offset, size, frame.columns_of(rows), rows.num_rows, first, arrival_ms, 0, size, rows)
            )
            offset, first = offset + size, first + rows.num_rows
        self.end = first
        return found

    def is_fresh(self, number: int, size_bytes: int) -> bool:
        """Whether the record is in the newest frame, or among the last bytes that were written: they are in memory, and
        soon looked at.
        """
        if self.sealed or self.marks is None:
            return False
        start, _ = self.marks.before(number)
        return start == self.marks.offsets[-1] or self.file_bytes - start <= size_bytes

    def forget(self) -> None:
        """What others read of it stays mapped for them."""
        self._view = None
        if self.sealed:
            self.marks = None

    def remembers(self, number: int) -> bool:
        """Whether the record, and all behind it, lies in memory as it was written."""
        return bool(self.lately) and self.lately[0].first <= number

    def remembered(self, number: int, room: Room) -> Taken:
        """Takes records from `number` on of what it remembers."""
        place = bisect_right(self.lately, number, key=_first) - 1
        return self._take(islice(self.lately, place, None), _rows, number, room)

    # All below block.

    def read(self, number: int, upto: int, start: tuple[int, int] | None, room: Room) -> Taken:
        """Takes records from `number` on, in the first `upto` bytes of the file. `start` is a frame to begin at, where
        the file is still written: marks move then. Raises FileNotFoundError where it is gone.
        """
        view = self._mapped(upto)
        start = start or self._marked(view, upto).before(number)
        self._let_go(view, start[0])
        return self._take(self._frames(view, upto, start), partial(frame.read_records, view.buffer), number, room)

    def _take(
        self,
        items: Iterable[Item | frame.Gap],
        records: Callable[[Item], pa.RecordBatch],
        number: int,
        room: Room,
    ) -> Taken:
        damaged: int | None = None
        for frames in _alike(items, number, room):
            if isinstance(frames, frame.Gap):
                damaged = frames.offset if damaged is None else damaged
                continue
            if not room.left:
                return Taken(number, frames[0].arrival_ms, damaged)
            number = max(number, frames[0].first)
            skipped, arrivals = number - frames[0].first, _arrivals(frames)
            rows = records(frames[0]) if len(frames) == 1 else pa.concat_batches([records(item) for item in frames])
            number += room.take(self.base | number, rows.slice(skipped), arrivals[skipped:])
            if number < frames[-1].end:
                return Taken(number, int(arrivals[number - frames[0].first]), damaged)
        return Taken(number, None, damaged)

    def since(self, ms: int) -> int | None:
        """Number of the first record that arrived at or after that instant. Raises FileNotFoundError."""
        if self.newest() < ms:
            return None
        view = self._mapped(self.file_bytes)
        start = self._marked(view, self.file_bytes).before_ms(ms)
        found = (
            item.first
            for item in self._frames(view, self.file_bytes, start)
            if isinstance(item, frame.Frame) and item.arrival_ms >= ms
        )
        return next(found, None)

    def newest(self) -> int:
        """When its last record arrived. Raises FileNotFoundError."""
        if self.newest_ms is None:
            view = self._view or self._opened()  # not kept: each shard's newest file is asked at a start
            last = frame.last_frame(view.buffer.slice(0, self.file_bytes), frame.seed(self.lane))
            self.newest_ms = last.arrival_ms if last else self.opened_ms
        return self.newest_ms

    def mark(self) -> None:
        """Sees that it can be searched without a look at all of it. Raises FileNotFoundError."""
        self._marked(self._mapped(self.file_bytes), self.file_bytes)

    def remove(self) -> None:
        try:
            self.disk.remove(layout.numbered(self.folder, self.first, layout.SEALED))
        except FileNotFoundError:
            pass  # an earlier attempt was told of a failure, and had none

    def _mapped(self, upto: int) -> View:
        view = self._view
        if view is None or len(view.buffer) < upto:
            view = self._view = self._opened()
        return view

    def _opened(self) -> View:
        """The file may be renamed while we look: then it is found at the second look."""
        for suffix in (layout.SEALED, layout.OPEN) if self.sealed else (layout.OPEN, layout.SEALED):
            try:
                return self.disk.view(layout.numbered(self.folder, self.first, suffix))
            except FileNotFoundError:
                continue
        raise FileNotFoundError(layout.numbered(self.folder, self.first, layout.SEALED))

    def _marked(self, view: View, upto: int) -> Marks:
        marks = self.marks
        if marks is None:
            marks = Marks()
            for item in self._frames(view, upto, (0, self.first)):
                if isinstance(item, frame.Frame):
                    marks.note(item.offset, item.first, item.arrival_ms)
            self.marks = marks
        return marks

    def _frames(self, view: View, upto: int, start: tuple[int, int]) -> Iterator[frame.Frame | frame.Gap]:
        """Frames from one on, and the gaps between them: empty ones where whole frames are missing."""
        end = self.end  # before its length is looked at, which a writer moves first
        whole = upto == self.file_bytes
        (offset, number), told = start, False
        for item in frame.scan(view.buffer.slice(0, upto), frame.seed(self.lane), number, offset=offset):
            if isinstance(item, frame.Frame):
                if item.first > number and not told:
                    yield frame.Gap(item.offset, 0, torn=False)
                number = item.end
            told = isinstance(item, frame.Gap)
            yield item
        if whole and number < end and not told:
            yield frame.Gap(upto, 0, torn=False)

    def _let_go(self, view: View, offset: int) -> None:
        """Pages before those that are read now, which whoever holds records there gets back from the system's cache."""
        if offset > self._released:
            view.release(self._released, offset)
        self._released = offset


def _first(item: frame.Frame) -> int:
    return item.first


def _rows(item: Remembered) -> pa.RecordBatch:
    return item.rows


class InUse:
    """The files that are mapped or marked, for all shards: those that were not used for longest are let go."""

    def __init__(self, limit: int = FILES) -> None:
        self._limit = limit
        self._files: OrderedDict[Retained, None] = OrderedDict()

    def use(self, file: Retained) -> None:
        self._files[file] = None
        self._files.move_to_end(file)
        if len(self._files) > self._limit:
            self._files.popitem(last=False)[0].forget()

    def drop(self, file: Retained) -> None:
        self._files.pop(file, None)
        file.lately.clear()
        file.forget()


class Lately:
    """What was written last, of all shards, in memory as it stands in the files: most readers want no more, and need
    neither map a file again that has grown nor check what has just been written. The oldest goes first.
    """

    def __init__(self, limit_bytes: int) -> None:
        self._limit_bytes = limit_bytes
        self._frames: deque[tuple[Retained, Remembered]] = deque()
        self.size_bytes = 0

    def keep(self, file: Retained, item: Remembered) -> None:
        """The file's newest frame."""
        file.lately.append(item)
        self._frames.append((file, item))
        self.size_bytes += item.size + LATELY_COST
        while self.size_bytes > self._limit_bytes:
            oldest, gone = self._frames.popleft()
            if oldest.lately and oldest.lately[0] is gone:
                del oldest.lately[0]
            self.size_bytes -= gone.size + LATELY_COST
