"""Segments read as slices: bounded, repeatable, numbered, whatever the frames were."""

from __future__ import annotations

import pyarrow as pa
import pytest
from disk_buffer import batch
from faulty_disk import FaultyDisk
from hypothesis import given
from hypothesis import strategies as st

from firehose.buffer import frame, reading
from firehose.buffer.lane import in_pieces
from firehose.model import ROW_SCHEMA, Segment, SegmentKey
from firehose.runtime import utc

LANE = "lane"


def slices(frames: list[pa.RecordBatch]) -> list[pa.RecordBatch]:
    """The slices of a segment with these frames, which arrived at 0, 1, 2 ... ms."""
    disk, data, first = FaultyDisk(), b"", 100
    for number, records in enumerate(frames):
        data += b"".join(map(bytes, frame.encode_frame(in_pieces([records]), first, number, {}, frame.seed(LANE))))
        first += records.num_rows
    disk.put("/0", data)
    segment = Segment("app", LANE, 100, max(first - 100, 1), 0, utc(0), 1)
    once = list(reading.slices(disk.view("/0"), segment.key))
    assert list(reading.slices(disk.view("/0"), segment.key)) == once
    return once


@given(st.lists(st.lists(st.binary(max_size=40), max_size=30), max_size=12))
def test_slices_are_the_rows(frames: list[list[bytes]]) -> None:
    """However frames and slices fall, the rows are all there once, in order, numbered from nought and within bounds."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reading, "SLICE_ROWS", 8)
        patch.setattr(reading, "SLICE_BYTES", 64)
        found = slices([batch(*records) for records in frames])
    rows = [row for piece in found for row in piece.to_pylist()]
    wanted = [record for records in frames for record in records]
    assert [row["record"] for row in rows] == wanted
    assert [row["row"] for row in rows] == list(range(len(wanted)))
    assert [row["arrival_ms"] for row in rows] == [n for n, records in enumerate(frames) for _ in records]
    assert all(0 < piece.num_rows <= 8 for piece in found)
    assert all(piece.schema == ROW_SCHEMA for piece in found)


def test_optional_columns() -> None:
    """A record's own arrival time counts before its frame's; other columns are there where a row has one."""
    (found,) = slices([batch(b"a", b"b", arrival_ms=[70, None], meta=["{}", None]), batch(b"c", refused=["why"])])
    assert found.schema.names == [*ROW_SCHEMA.names, "meta", "refused"]
    assert found.column("arrival_ms").to_pylist() == [70, 0, 1]
    assert found.column("meta").to_pylist() == ["{}", None, None]
    assert found.column("refused").to_pylist() == [None, None, "why"]


def test_records_of_another_segment_in_its_place() -> None:
    """The file of the lane's next segment has nothing of this one's: none of its records arrive here too."""
    disk, path = FaultyDisk(), "/data/buffer/app/lane/00000000000000000000.sealed"
    next_segment = frame.encode_frame(in_pieces([batch(b"c")]), 2, 0, {}, frame.seed(LANE))
    disk.make_folder("/data/buffer/app/lane")
    disk.put(path, b"".join(map(bytes, next_segment)))
    met: list[SegmentKey] = []
    given = reading.batch(disk, "/data", Segment("app", LANE, 0, 2, 2, utc(0), 1), met.append)
    assert list(given.slices()) == []
    assert list(reading.placed(disk, "/data", given, met.append).slices()) == []
    assert met == [("app", LANE, 0)] * 2


def test_a_file_that_is_gone() -> None:
    """Opening a segment whose file is gone fails at once, not in the middle of a delivery."""
    met: list[SegmentKey] = []
    with pytest.raises(FileNotFoundError):
        reading.batch(FaultyDisk(), "/data", Segment("app", LANE, 0, 1, 1, utc(0), 1), met.append)
