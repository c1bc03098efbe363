"""Marks and bounds: every record is found, little is remembered, and no more is held than was agreed."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from disk_buffer import batch
from faulty_disk import FaultyDisk
from hypothesis import given
from hypothesis import strategies as st

from firehose.buffer import frame, layout
from firehose.buffer.retained import MARK_BYTES, InUse, Marks, Numbers, Retained, Room
from firehose.datastream.model import SHARD_SCHEMA

LANE, FOLDER = "g0000001-20260301T120000-00", "/lane"


def at(*ms: int) -> Numbers:
    return np.array(ms, np.int64)


@given(st.lists(st.tuples(st.integers(1, 30_000), st.integers(1, 9), st.integers(0, 2)), min_size=1, max_size=200))
def test_marks(frames: list[tuple[int, int, int]]) -> None:
    """From a mark on any record is found, and any instant, at most 64 KiB and a frame further on; marks are few."""
    marks, offset, first, ms = Marks(), 0, 0, 100
    placed: list[tuple[int, int, int]] = []
    for size, count, later in frames:
        ms += later
        marks.note(offset, first, ms)
        placed.append((offset, first, ms))
        offset, first = offset + size, first + count
    for at, number, arrival_ms in placed:
        mark = marks.before(number)
        assert mark in {(one[0], one[1]) for one in placed}
        assert mark[1] <= number
        assert at - mark[0] <= MARK_BYTES
        since = next(one for one in placed if one[2] >= arrival_ms)
        mark = marks.before_ms(arrival_ms)
        assert mark[1] <= since[1]
        assert since[0] - mark[0] <= MARK_BYTES + 30_000
    assert marks.before(placed[-1][1]) == placed[-1][:2]
    assert len(marks.offsets) <= 2 + 2 * offset // MARK_BYTES


@given(st.lists(st.binary(max_size=9), min_size=1, max_size=20), st.integers(1, 25), st.integers(1, 99), st.booleans())
def test_room(records: list[bytes], most_records: int, most_bytes: int, begun: bool) -> None:
    """So many first records are taken as fit, by number and by bytes of record and key; the very first one always."""
    room = Room(most_records, most_bytes)
    if begun:
        room.take(0, batch(b"", meta=[""]), at(5))
        most_records -= 1
    keys: list[object] = ["k" * (len(record) % 3) for record in records]
    sizes = [len(record) + len(record) % 3 for record in records]
    fitting = sum(place < most_records and sum(sizes[: place + 1]) <= most_bytes for place in range(len(records)))
    if room.left:
        taken = room.take(7, batch(*records, meta=keys), at(*[5] * len(records)))
        assert taken == max(fitting, not begun)
        assert taken == len(records) or not room.left


def test_pieces_have_the_shard_s_columns() -> None:
    """What is taken has the columns of a shard's records, with or without keys on disk."""
    room = Room(10, 1000)
    room.take(1, batch(b"1"), at(5))
    room.take(2, batch(b"2", meta=["k"]), at(6))
    assert [piece.schema for _, piece in room.pieces] == [SHARD_SCHEMA] * 2
    assert pa.Table.from_batches([piece for _, piece in room.pieces]).to_pylist() == [
        {"record": b"1", "arrival_ms": 5, "meta": None},
        {"record": b"2", "arrival_ms": 6, "meta": "k"},
    ]


def kept(disk: FaultyDisk, first: int) -> Retained:
    """A sealed file of one record."""
    data = b"".join(map(bytes, frame.encode_frame([batch(b"x")], first, 5, {}, frame.seed(LANE))))
    disk.put(layout.numbered(FOLDER, first, layout.SEALED), data)
    return Retained(disk, FOLDER, LANE, 0, first, first + 1, 5, len(data), True)


def test_files_in_use_are_bounded() -> None:
    """Of many files that are read only so many stay mapped and marked, those that were read last; all can be read."""
    disk = FaultyDisk()
    disk.make_folder(FOLDER)
    files, in_use = [kept(disk, number) for number in range(5)], InUse(2)
    for _ in range(2):
        for file in files:
            in_use.use(file)
            room = Room(1, 100)
            file.read(file.first, file.file_bytes, None, room)
            assert room.pieces[0][0] == file.first
            assert sum(one.marks is not None for one in files) <= 2
    assert [one.marks is not None for one in files] == [False, False, False, True, True]
    in_use.drop(files[4])
    assert files[4].marks is None
