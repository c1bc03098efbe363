"""A batch in requests: every row in one of them, at the same places each time, and what has arrived is known."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from batches import Notes, batch
from hypothesis import given
from hypothesis import strategies as st

from firehose.model import Batch
from firehose.parcels import NOTES, Arrived, Bounds, Parcel, Sizes, parcels


def lengths(records: pa.BinaryArray) -> Sizes:
    sizes: Sizes = pc.binary_length(records).to_numpy(zero_copy_only=False).astype(np.int64)
    return sizes


def cut(of: Batch, rows: int = 3, size_bytes: int = 10) -> list[Parcel]:
    return list(parcels(of, Bounds(rows, size_bytes, lengths)))


def records(parcel: Parcel) -> list[bytes]:
    return [one for chunk in parcel.chunks() for one in chunk.to_pylist()]


RECORDS = st.lists(st.integers(0, 15).map(lambda size: b"x" * size), min_size=1, max_size=60)


@given(RECORDS, st.integers(1, 9), st.integers(1, 9), st.integers(1, 30))
def test_every_row_once_within_bounds(said: list[bytes], rows_per_slice: int, rows: int, size_bytes: int) -> None:
    """Parcels follow one another without a gap, hold as much as they may, and slices do not show in them."""
    found = cut(batch(said, rows_per_slice=rows_per_slice), rows, size_bytes)
    assert [one for parcel in found for one in records(parcel)] == said
    assert [parcel.first for parcel in found] == [0, *(parcel.end for parcel in found[:-1])]
    for parcel, following in zip(found, [*found[1:], None], strict=True):
        held = records(parcel)
        assert len(held) == 1 or (len(held) <= rows and sum(map(len, held)) <= size_bytes)
        if following is not None and len(held) < rows:
            assert sum(map(len, held)) + len(records(following)[0]) > size_bytes
    again = cut(batch(said), rows, size_bytes)
    assert [parcel.id for parcel in again] == [parcel.id for parcel in found]
    assert len({parcel.id for parcel in found}) == len(found)


def test_what_arrived_is_read_back() -> None:
    """Notes outlive the instance, belong to one partition, and neighbours share one."""
    memo, of = Notes(), batch([b"x"] * 12)
    found = cut(of)
    arrived = Arrived(memo, of)
    for parcel in found[:2]:
        arrived.add(parcel)
    arrived.note()
    arrived.note()
    arrived.add(found[3])
    arrived.note()
    assert len(memo.written) == 2
    again = Arrived(memo, of)
    assert [again.has(parcel) for parcel in found] == [True, True, False, True]
    assert not Arrived(memo, batch([b"x"] * 12, partition="red")).has(found[0])


def test_notes_are_bounded() -> None:
    """However many parcels a batch has, its memo gets no more notes than it may."""
    memo, of = Notes(), batch([b"x"] * 4000)
    arrived = Arrived(memo, of)
    for parcel in cut(of, rows=1):
        arrived.add(parcel)
        arrived.note()
    assert NOTES / 2 < len(memo.written) <= NOTES
    assert len(arrived.done_rows()) == 4000


def test_a_row_in_two_parcels_has_arrived_with_both() -> None:
    """Of a record that was split, whose rows went different ways, nothing is said to have arrived."""
    of = batch([b"x"] * 6)
    rows = pa.array([0, 1, 2, 2, 3, 4], pa.int32())
    split = Batch(of.segment, lambda: (one.set_column(1, one.schema.field("row"), rows) for one in of.slices()))
    first, second = cut(split)
    arrived = Arrived(Notes(), split)
    arrived.add(first)
    arrived.leave(second.rows)
    assert arrived.done_rows().to_pylist() == [0, 1]
    arrived.add(second)
    assert Arrived(Notes(), split).done_rows().to_pylist() == []


@given(RECORDS, st.lists(st.tuples(st.integers(0, 60), st.integers(1, 20)), max_size=5))
def test_pieces_are_noted_as_a_whole_or_not_at_all(said: list[bytes], noted: list[tuple[int, int]]) -> None:
    """Whatever ranges are known to have arrived, pieces hold each row once, in order, and none is half known."""
    of = batch(said)
    arrived = Arrived(Notes(), of)
    known = {row for first, size in noted for row in range(first, first + size)}
    for first, size in noted:
        arrived.know(first, first + size)
    for parcel in cut(of):
        pieces = list(arrived.pieces(parcel))
        assert [one for piece in pieces for one in records(piece)] == records(parcel)
        for piece in pieces:
            rows = set(range(piece.first, piece.end))
            assert piece.rows.num_rows == len(rows)
            assert rows <= known or not rows & known
    assert Arrived(arrived.memo, of).ranges == arrived.ranges
