"""What came out beside what was expected: each difference is found, once, at its place."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import pytest
from batches import rows
from hypothesis import given
from hypothesis import strategies as st

from firehose.cli.cases import Case, Given, Refusal, Wanted
from firehose.cli.diff import compared, cut, visible
from firehose.cli.differences import Difference, differences, unequal
from firehose.model import NO_ROWS, Outcome, Rejections
from firehose.rows import replaced

Told = tuple[str, int | None, bytes | None, bytes | None]


def case(
    output: Sequence[Wanted] = (), dropped: int | tuple[int, ...] = 0, refused: Sequence[Refusal] = (), count: int = 3
) -> Case:
    return Case("app", "case", 0, (Given(b"x"),) * count, tuple(output), dropped, tuple(refused))


def made(
    *records: bytes,
    of: Sequence[int] = (),
    dropped: Sequence[int] = (),
    refused: Sequence[tuple[int, str, str]] = (),
    meta: Sequence[str | None] = (),
) -> Outcome:
    """These records; the rows that they are of, where these are not the first ones."""
    given_rows = rows([b"x"] * 10)
    left = replaced(given_rows.take(pa.array(of or range(len(records)), pa.int32())), pa.array(records, pa.binary()))
    if meta:
        left = left.append_column("meta", pa.array(meta, pa.string()))
    why = Rejections()
    for row, code, message in refused:
        why += Rejections.of(given_rows.slice(row, 1), "processing-failed", code, message)
    return Outcome(left, why, pa.array(dropped, pa.int32()) if dropped else NO_ROWS)


def told(expected: Case, outcome: Outcome) -> list[Told]:
    return [(one.place, one.record, one.expected, one.came) for one in differences(expected, outcome)]


def test_nothing_differs() -> None:
    """What is as expected in every way differs in none."""
    expected = case([Wanted(b"a"), Wanted(value={"k": [1]})], (2,), [Refusal(record=3, code="C", message="why")])
    outcome = made(b"a", b' {"k": [ 1 ]}\n', dropped=[2], refused=[(3, "C", "that is why")])
    assert told(expected, outcome) == []


def test_bytes_differ() -> None:
    """A record that differs by a newline is another one."""
    assert told(case([Wanted(b"a\n")]), made(b"a", of=[2])) == [("output[0]", 2, b"a\n", b"a")]


def test_one_more_came() -> None:
    """One record too many at the front leaves the others alone."""
    expected = case([Wanted(b"b"), Wanted(b"c")])
    assert told(expected, made(b"a", b"b", b"c")) == [("output[0]", 0, None, b"a")]


def test_one_is_missing_in_the_middle() -> None:
    """A record that did not come is told by itself."""
    expected = case([Wanted(b"a"), Wanted(b"b"), Wanted(b"c")])
    assert told(expected, made(b"a", b"c", of=[0, 2])) == [("output[1]", None, b"b", None)]


def test_counts() -> None:
    """Where only a number is expected, any records will do, but so many."""
    assert told(case([Wanted()] * 2), made(b"a", b"b")) == []
    assert told(case([Wanted()] * 2), made(b"a")) == [("output[1]", None, b"a record", None)]
    assert told(case([Wanted()]), made(b"a", b"b")) == [("output[1]", 1, None, b"b")]


@pytest.mark.parametrize(
    ("expected", "came", "paths"),
    [
        ({"a": 1, "b": 2}, b'{"b": 2, "a": 1}', []),
        (1, b"1.0", []),
        (True, b"1", [("", b"true", b"1")]),
        (0, b"false", [("", b"0", b"false")]),
        ({"a": [True]}, b'{"a":[1]}', [(".a[0]", b"true", b"1")]),
        ("1", b"1", [("", b'"1"', b"1")]),
        (None, b"{}", [("", b"null", b"{}")]),
        ({"a": {"b": 1}}, b'{"a":{}}', [(".a.b", b"1", None)]),
        ({}, b'{"a":null}', [(".a", None, b"null")]),
        ([1, 2], b"[1,2,3]", [("[2]", None, b"3")]),
        ([1, 2], b"[2]", [("[0]", b"1", b"2"), ("[1]", b"2", None)]),
        ({"a": 1}, b"{a}", [("", b'{"a":1}', b"{a}")]),
        (1, b"NaN", [("", b"1", b"NaN")]),
        (1, b"1 2", [("", b"1", b"1 2")]),
        (1, b"\xff", [("", b"1", b"\xff")]),
        (1, b"[" * 100_000, [("", b"1", b"[" * 100_000)]),
    ],
)
def test_json_differs_by_path(expected: Any, came: bytes, paths: list[tuple[str, bytes | None, bytes | None]]) -> None:
    """Values that differ are told with the path to each; the order of members and blanks say nothing."""
    assert told(case([Wanted(value=expected)]), made(came)) == [
        (f"output[0]{path}", 0, one, other) for path, one, other in paths
    ]


def test_json_that_differs_everywhere_is_bounded() -> None:
    """Of one record, ten differences are told, and then the whole."""
    expected, came = {f"k{n}": 1 for n in range(50)}, b"{}"
    found = told(case([Wanted(value=expected)]), made(came))
    assert len(found) == 11
    assert found[-1][0] == "output[0], and more of it"


PLAIN = st.none() | st.booleans() | st.integers() | st.text()


@given(st.recursive(PLAIN, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)))
def test_a_value_is_equal_to_itself(value: Any) -> None:
    """No value differs from itself, and each differs from one that has it inside."""
    assert list(unequal("", value, value)) == []
    assert list(unequal("", value, [value, 0]))


@pytest.mark.parametrize(
    ("expected", "dropped", "found"),
    [
        (0, [], None),
        (2, [0, 2], None),
        ((0, 2), [2, 0], None),
        ((), [], None),
        (1, [], (b"a record", None)),
        (0, [1], (None, b"record 1")),
        (3, [1, 0], (b"3 records", b"records 0, 1")),
        ((1,), [0], (b"record 1", b"record 0")),
    ],
)
def test_dropped(
    expected: int | tuple[int, ...], dropped: list[int], found: tuple[bytes | None, bytes | None] | None
) -> None:
    """What was dropped is compared by count or by number, and told by number."""
    assert told(case(dropped=expected), made(dropped=dropped)) == ([("dropped", None, *found)] if found else [])


@pytest.mark.parametrize(
    ("refusal", "fits"),
    [
        (Refusal(), True),
        (Refusal(record=1), True),
        (Refusal(record=0), False),
        (Refusal(code="Lambda.FunctionError"), True),
        (Refusal(code="FunctionError"), False),
        (Refusal(message="KeyError"), True),
        (Refusal(message="^Key"), False),
        (Refusal(message="/^Key.*user'$/"), True),
        (Refusal(message="/^user/"), False),
    ],
)
def test_refused(refusal: Refusal, fits: bool) -> None:
    """A refusal fits by number, by its whole code, and by a part of its message or an expression."""
    outcome = made(refused=[(1, "Lambda.FunctionError", "KeyError: 'user'")])
    found = told(case(refused=[refusal]), outcome)
    assert not found if fits else [one[0] for one in found] == ["refused[0]"]


def test_refused_that_nobody_expected() -> None:
    """A record that was refused, and should not have been, is told with its reason, in the order of the records."""
    outcome = made(refused=[(2, "C", "late"), (0, "C", "early")])
    assert told(case(), outcome) == [
        ("refused[0]", 0, None, b"record 0: C: early"),
        ("refused[1]", 2, None, b"record 2: C: late"),
    ]
    assert told(case(refused=[Refusal(record=0), Refusal(record=1, code="C")]), made(refused=[(0, "C", "early")])) == [
        ("refused[1]", 1, b"record 1: C", None)
    ]


def test_partition_keys() -> None:
    """Partition keys are compared where the case says some, or none; else they may be any."""
    outcome = made(b"a", b"b", meta=['{"partitionKeys":{"day":"1"}}', None])
    assert told(case([Wanted(b"a"), Wanted(b"b")]), outcome) == []
    assert told(case([Wanted(b"a", keys={"day": "1"}), Wanted(b"b", keys={})]), outcome) == []
    assert told(case([Wanted(b"a", keys={"day": "2"}), Wanted(b"b", keys={"day": "1"})]), outcome) == [
        ("output[0].partition_keys", 0, b'{"day":"2"}', b'{"day":"1"}'),
        ("output[1].partition_keys", 1, b'{"day":"1"}', b"{}"),
    ]


@pytest.mark.parametrize(
    ("record", "shown"),
    [
        (b"a b", "a b"),
        (b" a b ", "·a b·"),
        (b"a \n", "a·⏎"),
        (b"a\t\r\n", "a→␍⏎"),
        (b"  ", "··"),
        (b" \n", "·⏎"),
        (b"", ""),
        (b"\x00\x1b\x7f", "␀␛␡"),
        (b"\xff\xc3", "\\xff\\xc3"),
        ("naïve ✓".encode(), "naïve ✓"),
    ],
)
def test_what_cannot_be_seen_is_shown(record: bytes, shown: str) -> None:
    """Blanks at the ends, newlines, control characters and bytes that are no text have signs."""
    assert visible(record) == shown


def test_pair_is_shown_with_the_place() -> None:
    """A mark stands below the first difference."""
    lines = [line.plain for line in compared(b"GET /a\n", b"GET /b", 40)]
    assert lines == ["expected  GET /a⏎", "came out  GET /b", "               ^"]
    assert lines[2].index("^") == lines[0].index("a⏎")


def test_nothing_is_said() -> None:
    """What is not there is told in a word, without a mark."""
    assert [line.plain for line in compared(b"a", None, 40)] == ["expected  a", "came out  nothing"]


def test_signs_are_told_from_what_they_stand_for() -> None:
    """Records that would look alike are shown as Python would write them."""
    shown = [line.plain for line in compared(b"a\n", "a⏎".encode(), 40)]
    assert shown[0] == "expected  b'a\\n'"
    assert shown[0] != shown[1].replace("came out", "expected")


@pytest.mark.parametrize("at", [0, 5, 29, 30, 31, 200, 499])
def test_long_records_are_cut_around_the_place(at: int) -> None:
    """However long the records are, both lines show the first difference within the width."""
    one = "".join(chr(ord("a") + n % 26) for n in range(500))
    other = one[:at] + "#" + one[at + 1 :]
    expected, came, mark = (line.plain for line in compared(one.encode(), other.encode(), 60))
    assert max(map(len, (expected, came))) <= 10 + 60
    assert came[mark.index("^")] == "#"
    assert expected[mark.index("^")] == one[at]


@pytest.mark.parametrize(("text", "at", "shown"), [("a" * 10, 9, "a" * 10), ("a" * 11, 0, "a" * 9 + "…")])
def test_cut(text: str, at: int, shown: str) -> None:
    """What fits is whole."""
    assert cut(text, at, 10) == shown


def test_wide_characters_move_the_mark() -> None:
    """The mark stands below the difference where characters take two columns."""
    assert [line.plain for line in compared("日本a".encode(), "日本b".encode(), 40)][2] == " " * 14 + "^"


def test_a_difference_is_a_value() -> None:
    """Differences can be compared, as tests and tools want."""
    assert list(differences(case([Wanted(b"a")]), made())) == [Difference("output[0]", None, b"a", None)]
