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
from firehose.model import PLACE, ROW_SCHEMA
from firehose.rows import bare

Row = tuple[bytes, int, str | None]  # record, arrival and meta
ROWS = st.tuples(st.binary(max_size=40), st.integers(0, 3), st.none() | st.sampled_from(["", "{}"]))
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
