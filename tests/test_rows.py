"""New rows made of given ones keep their places."""

from __future__ import annotations

import hypothesis
import pyarrow as pa
from batches import rows
from hypothesis import strategies as st

from firehose.model import REJECTION_SCHEMA, Outcome, Rejections
from firehose.rows import cut, distinct, joined, parted, refused_each, replaced, spread


def records(*values: bytes) -> pa.BinaryArray:
    return pa.array(values, pa.binary())


def places(of: pa.RecordBatch) -> list[tuple[int, int, bytes]]:
    return list(zip(*(of.column(name).to_pylist() for name in ("row", "part", "record")), strict=True))


def test_replaced_rows_keep_all_but_their_bytes() -> None:
    """Other bytes, the same ordinals, parts and arrival times."""
    given = rows([b"a", b"b"])
    made = replaced(given, records(b"A", b"B"))
    assert made.column("record").to_pylist() == [b"A", b"B"]
    assert made.drop_columns("record").equals(given.drop_columns("record"))


def test_spread_rows_are_numbered_within_their_record() -> None:
    """Rows that come from one record have parts of their own, from 0 on."""
    made = spread(rows([b"a", b"b", b"c"]), [0, 0, 2], records(b"a0", b"a1", b"c0"))
    assert places(made) == [(0, 0, b"a0"), (0, 1, b"a1"), (2, 0, b"c0")]


def test_spread_again_numbers_anew() -> None:
    """Parts that are split once more do not share a number with their neighbours'."""
    once = spread(rows([b"a"]), [0, 0], records(b"x", b"y"))
    again = spread(once, [0, 0, 1, 1], records(b"x0", b"x1", b"y0", b"y1"))
    assert places(again) == [(0, 0, b"x0"), (0, 1, b"x1"), (0, 2, b"y0"), (0, 3, b"y1")]


def test_spread_of_nothing() -> None:
    """No rows in, no rows out."""
    assert spread(rows([]), [], records()).num_rows == 0


def test_a_cut_leaves_parts_together() -> None:
    """Rows are cut in two only between records."""
    split = spread(rows([b"a", b"b"]), [0, 0, 0, 1], records(b"1", b"2", b"3", b"4"))
    assert [cut(split, at) for at in range(5)] == [0, 3, 3, 3, 4]


def test_joined_outcomes_are_one() -> None:
    """What became of the pieces of a slice is, put together and in order, what became of the slice."""
    given = rows([b"a", b"b", b"c", b"d"])
    a, b, c, d = (given.slice(n, 1) for n in range(4))
    nothing = given.slice(0, 0)
    refused = Rejections.of(c, "processing-failed", "Test.Bad", "it says so")
    pieces = [Outcome(a), Outcome(nothing, dropped=b.column("row")), Outcome(nothing, refused), Outcome(d)]
    whole = joined(given, pieces)
    assert whole.rows.equals(pa.concat_batches([a, d]))
    assert whole.dropped.to_pylist() == [1]
    assert whole.refused.table.equals(refused.table)


def test_a_column_of_one_piece_is_null_in_the_others() -> None:
    """A piece whose rows were given a `meta` can be put together with pieces without."""
    given = rows([b"a", b"b", b"c"])
    a, b, c = (given.slice(n, 1) for n in range(3))
    with_meta = b.append_column("meta", pa.array(["{}"], pa.string()))
    whole = joined(given, [Outcome(a), Outcome(with_meta), Outcome(c)]).rows
    assert whole.column("meta").to_pylist() == [None, "{}", None]
    assert whole.drop_columns("meta").equals(given)


def test_joined_nothing() -> None:
    """A slice without rows has an outcome without any, with the columns of a slice."""
    given = rows([])
    whole = joined(given, [])
    assert whole.rows.equals(given)
    assert (len(whole.refused), len(whole.dropped)) == (0, 0)


def test_rows_refused_each_for_its_own_reason() -> None:
    """A code and a message for each row, in order, beside the record as it came."""
    given = rows([b"a", b"b"])
    table = refused_each(given, "processing-failed", [("X.One", "one"), ("X.Two", "two")]).table
    assert table.schema == REJECTION_SCHEMA
    assert table.select(["row", "record", "code", "message"]).to_pylist() == [
        {"row": 0, "record": b"a", "code": "X.One", "message": "one"},
        {"row": 1, "record": b"b", "code": "X.Two", "message": "two"},
    ]


def test_flawed_rows_are_parted_from_the_others() -> None:
    """Each is refused with its own message, as it came; the others go on in order."""
    good, refused = parted(rows([b"a", b"b", b"c", b"d"]), {1: "one", 3: "three"}, "processing-failed", "Test.Bad")
    assert places(good) == [(0, 0, b"a"), (2, 0, b"c")]
    said = refused.table.select(["row", "record", "error_type", "code", "message"]).to_pylist()
    assert [tuple(one.values()) for one in said] == [
        (1, b"b", "processing-failed", "Test.Bad", "one"),
        (3, b"d", "processing-failed", "Test.Bad", "three"),
    ]


def test_without_a_flaw_nothing_is_copied() -> None:
    """The rows are the same object, and nothing is refused."""
    given = rows([b"a"])
    good, refused = parted(given, {}, "processing-failed", "Test.Bad")
    assert good is given
    assert not refused


def test_a_large_record_is_not_copied_for_each_of_its_parts() -> None:
    """Ten MiB in five hundred parts are ten MiB: copies of the record would not even fit a column."""
    made = spread(rows([bytes(10 << 20)]), [0] * 500, records(*[b"part"] * 500))
    assert made.nbytes < 1 << 20


@hypothesis.given(st.lists(st.lists(st.integers(0, 300)), max_size=4), st.integers(0, 2**31 - 400))
def test_distinct_ordinals_are_counted_once(columns: list[list[int]], base: int) -> None:
    """In whatever order, and in as many columns as they come; none is none."""
    given = [[base + number for number in column] for column in columns]
    made = [pa.array([None, *column], pa.int32())[1:] for column in given]  # which do not begin where their memory does
    assert distinct(made) == len({number for column in given for number in column})
