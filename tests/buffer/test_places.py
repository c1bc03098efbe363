"""Records are found again in their segment's file, by their places and sizes alone."""

from __future__ import annotations

import pyarrow as pa
import pytest
from disk_buffer import batch
from faulty_disk import FaultyDisk
from hypothesis import given
from hypothesis import strategies as st

from firehose.buffer import frame, places, reading
from firehose.buffer.lane import in_pieces
from firehose.rows import bare

KEY = ("app", "lane", 0)


def file_of(frames: list[list[bytes]]) -> bytes:
    """A segment's file with these frames."""
    data, first = b"", 0
    for records in frames:
        pieces = frame.encode_frame(in_pieces([batch(*records)]), first, 0, {}, frame.seed(KEY[1]))
        data, first = data + b"".join(map(bytes, pieces)), first + len(records)
    return data


@given(st.lists(st.lists(st.binary(max_size=40), max_size=30), max_size=12), st.randoms())
def test_records_are_found_again(frames: list[list[bytes]], dice: object) -> None:
    """However frames and slices fall, empty records among them, rows get back the records they had, in any order."""
    disk = FaultyDisk()
    disk.put("/0", file_of(frames))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reading, "SLICE_ROWS", 8)
        patch.setattr(reading, "WHOLE_BYTES", 64)
        slices = list(reading.slices(disk.view("/0"), KEY, with_places=True))
    plain = list(reading.slices(disk.view("/0"), KEY))
    file = disk.view("/0").buffer
    assert [row["record"] for rows in slices for row in rows.to_pylist()] == [
        row["record"] for rows in plain for row in rows.to_pylist()
    ]
    for rows in slices:
        order = list(range(rows.num_rows))
        dice.shuffle(order)  # type: ignore[attr-defined]
        shuffled = rows.take(pa.array(order, pa.int32()))
        assert places.whole([(bare(rows), file)]).equals(rows.drop_columns(["place"]))
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(places, "REACH_BYTES", 64)
            assert places.whole([(bare(shuffled), file)]).equals(shuffled.drop_columns(["place"]))


@given(st.lists(st.lists(st.binary(max_size=40), min_size=1, max_size=30), min_size=2, max_size=4))
def test_records_of_several_files(contents: list[list[bytes]]) -> None:
    """Rows of several files side by side get each the record that its own file has at that place."""
    disk, pieces, whole = FaultyDisk(), [], []
    for number, records in enumerate(contents):
        disk.put(f"/{number}", file_of([records]))
        (rows,) = reading.slices(disk.view(f"/{number}"), KEY, with_places=True)
        backwards = rows.take(pa.array(range(rows.num_rows)[::-1], pa.int32()))
        pieces.append((bare(backwards), disk.view(f"/{number}").buffer))
        whole.append(backwards.drop_columns(["place"]))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(places, "REACH_BYTES", 64)
        assert places.whole(pieces).equals(pa.concat_batches(whole))


def test_a_few_records_take_little_memory() -> None:
    """What lies between the rows of one partition takes none, however much it is: there may be hundreds of them."""
    disk = FaultyDisk()
    disk.put("/0", file_of([[b"%0500d" % number for number in range(1000)]] * 4))
    rows = pa.concat_batches([*reading.slices(disk.view("/0"), KEY, with_places=True)])
    few = bare(rows).take(pa.array(range(0, rows.num_rows, 100)))
    pool = pa.proxy_memory_pool(before := pa.default_memory_pool())
    pa.set_memory_pool(pool)
    try:
        assert places.whole([(few, disk.view("/0").buffer)]).num_rows == 40
    finally:
        pa.set_memory_pool(before)
    assert pool.max_memory() < 3 * 40 * 500


def test_rows_that_have_their_records() -> None:
    """They are given back as they are."""
    rows = batch(b"a")
    assert places.whole([(rows, pa.py_buffer(b""))]) is rows
