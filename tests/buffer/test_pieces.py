"""A piece's checksum is that of its rows and of nothing else, however they are read."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate, pairwise

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from firehose.buffer import pieces, reading
from firehose.model import PLACE, ROW_SCHEMA, SIZE
from firehose.partitions import COLUMN
from firehose.rows import bare

Row = tuple[bytes, int, str | None]  # record, arrival and meta
ROWS = st.tuples(st.binary(max_size=40), st.integers(0, 3), st.none() | st.sampled_from(["", "{}"]))
NO_FILE = pa.py_buffer(b"")
GROUPS = st.lists(st.lists(ROWS, min_size=1, max_size=12), min_size=1, max_size=6)


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that groups are several."""
    monkeypatch.setattr(pieces, "PIECE_BYTES", 64)
    monkeypatch.setattr(reading, "SLICE_ROWS", 8)


def rows_of(rows: Sequence[Row]) -> pa.RecordBatch:
    records, arrivals, metas = zip(*rows, strict=True)
    numbers = list(range(len(rows)))
    schema = ROW_SCHEMA.append(pa.field("meta", pa.string()))
    columns = {"record": records, "row": numbers, "part": [0] * len(rows), "arrival_ms": arrivals, "meta": metas}
    return pa.record_batch([pa.array(columns[field.name], field.type) for field in schema], schema=schema)


def without_records(rows: pa.RecordBatch) -> tuple[pa.RecordBatch, pa.Buffer]:
    """And the file that they are in, each with a byte before it."""
    records = rows.column("record").to_pylist()
    ends = list(accumulate(len(record) + 1 for record in records))
    at = [end - len(record) for end, record in zip(ends, records, strict=True)]
    placed = rows.append_column(PLACE, pa.array(np.array(at, np.int64)))
    return bare(placed), pa.py_buffer(b"".join(b"|" + record for record in records))


def sums(groups: Sequence[Sequence[Row]], *, are_bare: bool) -> list[list[bytes]]:
    """Of each group, those of its pieces."""
    starts = [0, *accumulate(map(len, groups))][:-1]
    rows = rows_of([row for group in groups for row in group])
    rows, file = without_records(rows) if are_bare else (rows, pa.py_buffer(b""))
    found = list(pieces.sums(rows, file, starts))
    return [[group[at : at + pieces.SUM.size] for at in range(0, len(group), pieces.SUM.size)] for group in found]


@given(GROUPS)
def test_as_summed_up_together_as_alone(groups: list[list[Row]]) -> None:
    """A group's pieces are those that its rows alone are cut into, and have the checksums that each has alone."""
    whole = rows_of([row for group in groups for row in group])
    together, _ = without_records(whole)
    starts = [0, *accumulate(map(len, groups))]
    expected, in_one = list[list[bytes]](), list[list[bytes]]()
    for start, end in pairwise(starts):
        edges = [start, *(start + stop for stop in pieces.ends(together.slice(start, end - start)))]
        alone = [whole.slice(first, last - first) for first, last in pairwise(edges)]
        expected.append([pieces.SUM.pack(*pieces.checksums(rows, [rows.num_rows])) for rows in alone])
        in_one.append([pieces.SUM.pack(*pieces.checksums(whole.slice(start, end - start), [end - start]))])
        for rows in alone:
            assert rows.num_rows == 1 or record_bytes(rows) <= pieces.PIECE_BYTES
            assert 1 <= rows.num_rows <= reading.SLICE_ROWS
        assert edges[-1] == end
    assert sums(groups, are_bare=True) == expected
    assert sums(groups, are_bare=False) == in_one


def record_bytes(rows: pa.RecordBatch) -> int:
    return sum(map(len, rows.column("record").to_pylist()))


@given(GROUPS, st.data())
def test_any_change_shows_in_its_own_piece_alone(groups: list[list[Row]], data: st.DataObject) -> None:
    """Of whatever column, and where it only tells no text from an empty one."""
    group = data.draw(st.integers(0, len(groups) - 1))
    row = data.draw(st.integers(0, len(groups[group]) - 1))
    record, arrival, meta = groups[group][row]
    same_size = bytes([record[0] ^ 1]) + record[1:] if record else record
    other_meta = "" if meta is None else None
    kinds = [(same_size, arrival, meta), (record, arrival + 1, meta), (record, arrival, other_meta)]
    changed = data.draw(st.sampled_from(kinds))
    other = [[*rows] for rows in groups]
    other[group][row] = changed
    for are_bare in (True, False):
        before, after = sums(groups, are_bare=are_bare), sums(other, are_bare=are_bare)
        differ = [
            (number, place)
            for number, (one, two) in enumerate(zip(before, after, strict=True))
            for place, (this, that) in enumerate(zip(one, two, strict=True))
            if this != that
        ]
        assert [number for number, _ in differ] == ([group] if changed != groups[group][row] else [])


def test_columns_that_only_change_places() -> None:
    """Values of one kind that stand in another column are another row."""
    rows = rows_of([(b"a", 1, None)])
    swapped = rows.rename_columns(["record", "part", "row", "arrival_ms", "meta"])
    assert pieces.checksums(rows, [1]) != pieces.checksums(swapped, [1])


def texts(offsets: bytes, type_: pa.DataType = pa.binary()) -> pa.Array:
    """Three of them, of so many bytes, with these offsets."""
    return pa.Array.from_buffers(type_, 3, [None, pa.py_buffer(offsets), pa.py_buffer(b"abc")])


def int32s(*numbers: int) -> bytes:
    return np.array(numbers, np.int32).tobytes()


@pytest.mark.parametrize("offsets", [(0, 9, 2, 3), (0, -1, 2, 3), (0, 3, 1, 3)])
def test_texts_that_reach_out_of_their_buffer(offsets: tuple[int, ...]) -> None:
    """They are refused before anybody reads them, among the names of partitions too."""
    rows = rows_of([(b"a", 1, None)] * 3)
    reaching = rows.set_column(0, ROW_SCHEMA.field("record"), texts(int32s(*offsets)))
    with pytest.raises(ValueError):
        pieces.check_values(reaching, NO_FILE)
    codes, names = pa.array([0, 1, 2], pa.int32()), texts(int32s(*offsets), pa.string())
    named = rows.append_column(COLUMN, pa.DictionaryArray.from_arrays(codes, names, safe=False))
    with pytest.raises(ValueError):
        pieces.check(named)


@pytest.mark.parametrize(("place", "size"), [(-1, 1), (3, 1), (0, 4), (2**63 - 1, 1), (1, -1)])
def test_records_that_do_not_lie_in_the_file(place: int, size: int) -> None:
    """Whatever their place and size say, nothing outside is read."""
    rows, _ = without_records(rows_of([(b"abc", 1, None)]))
    rows = rows.set_column(rows.schema.get_field_index(PLACE), PLACE, pa.array([place], pa.int64()))
    rows = rows.set_column(rows.schema.get_field_index(SIZE), SIZE, pa.array([size], pa.int32()))
    with pytest.raises(ValueError, match="does not lie"):
        pieces.check_values(rows, pa.py_buffer(b"abc"))


def test_columns_that_rows_do_not_have() -> None:
    """Of another type, of another name, with what is null where nothing ever is, or without the records."""
    rows = rows_of([(b"a", 1, None)])
    names = pa.DictionaryArray.from_arrays(pa.array([0], pa.int32()), pa.array(["x"]))
    pieces.check(rows.append_column(COLUMN, names))
    pieces.check_values(rows, NO_FILE)
    for strange in (
        rows.append_column(COLUMN, pa.array(["x"])),
        rows.append_column(COLUMN, names).append_column("more", pa.array([1])),
        rows.set_column(1, "row", pa.array([True])).append_column(COLUMN, names),
    ):
        with pytest.raises(ValueError, match="other columns"):
            pieces.check(strange)
    with pytest.raises(ValueError, match="null"):
        pieces.check_values(rows.set_column(1, "row", pa.array([None], pa.int32())), NO_FILE)
    with pytest.raises(KeyError):
        pieces.check_values(rows.drop_columns(["record"]), NO_FILE)
    odd = rows.set_column(0, ROW_SCHEMA.field("record"), texts(int32s(0, 1, 2, 3) + b"!").slice(0, 1))
    with pytest.raises(ValueError, match="whole numbers"):
        pieces.check_values(odd, NO_FILE)
