"""Any body at all against a slow second opinion, and the bound on what one body may hold."""

from __future__ import annotations

import json
import tracemalloc

import pytest
import slow_splitting
from hypothesis import example, given
from hypothesis import strategies as st
from slow_splitting import squeezed

from firehose.ingest.salvage import TooMany
from firehose.ingest.splitting import Split, SplitOptions, one_object, split

BARE = SplitOptions(delimiter=b"")
TOKENS = [b"{", b"}", b"[", b"]", b",", b":", b'"', b"\\", b"\n", b"\r\n", b"\r", b" ", b"\t", b"\0", b"\n{", b"}\n"]
SCALARS = [b"1", b"-0.5e3", b"01", b"-", b"NaN", b"-Infinity", b"null", b"true", b'"\\u00e9"', b'"\\ud800"', b'"\\x"']
WHOLES = [b'{"a":1}', b'{"a":[1,{}]}', b'{"a":\n1}', b'{"a":"}{"}', b'"} {"', b"[]", b"{}", b"[1,2]"]
SCRAPS = st.sampled_from([*TOKENS, *SCALARS, *WHOLES, b"x", b"\xff", b"\x1f"])
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=4),
    max_leaves=12,
)
WHOLE = st.builds(
    lambda value, indent, ascii_only: json.dumps(value, indent=indent, ensure_ascii=ascii_only).encode(
        "utf-8", "replace"
    ),
    VALUES,
    st.sampled_from([None, 0, 2]),
    st.booleans(),
)
PIECES = st.lists(SCRAPS | WHOLE | st.binary(max_size=6), max_size=12).map(b"".join)


@st.composite
def bodies(draw: st.DrawFn) -> bytes:
    """Scraps and whole values in any order, more often than not begun like JSON, and at times damaged."""
    body = bytearray(draw(st.sampled_from([b"", b"{", b"[", b"[{", b"[1,", b'{"a":1}'])) + draw(PIECES))
    for at, value in draw(st.lists(st.tuples(st.integers(0, 400), st.integers(0, 255)), max_size=2)):
        body[at : at + 1] = bytes([value])
    return bytes(body)


def found(result: Split) -> list[tuple[bytes, bool]]:
    result.records.validate(full=True)
    listed = [(row["record"], row.get("refused") is not None) for row in result.records.to_pylist()]
    assert (result.accepted, result.rejected) == (len(listed) - result.rejected, sum(no for _, no in listed))
    return listed


@given(bodies(), st.sampled_from([b"", b"\n"]))
@example(b'{"a":1}\r\r\n{"b":2}', b"")
@example(b'["a"] {"b":NaN}', b"")
def test_a_second_opinion(body: bytes, delimiter: bytes) -> None:
    """Whatever the body, its rows are those that a slow parser of another make finds, taken and refused alike, and
    what is taken has the delimiter at its end.
    """
    rows = found(split(body, "", SplitOptions(delimiter=delimiter)))
    assert all(no or row.endswith(delimiter) for row, no in rows)
    bare = [(row if no else row.removesuffix(delimiter), no) for row, no in rows]
    assert [(squeezed(row), no) for row, no in bare] == [(squeezed(row), no) for row, no in slow_splitting.rows(body)]
    assert one_object(body, SplitOptions(delimiter=delimiter)) in (None, rows[0][0] if len(rows) == 1 else None)
    if body.strip(slow_splitting.BLANKS)[:1] in (b"{", b"["):
        assert not any(b"\n" in row for row, no in bare if not no)


@given(bodies(), st.integers(1, 6))
@example(b"[1] [2,3]", 2)
@example(b'{"a":1,"b":2,"c":3}', 2)
@example(b"[main] a, b, c", 1)
def test_too_many(body: bytes, limit: int) -> None:
    """A body is given up exactly where it holds more records than one may: a blank line counts as one, and text that
    begins like an array as what the array would hold.
    """
    inside = body.strip(slow_splitting.BLANKS)
    count = len(slow_splitting.rows(body))
    most = max(count, body.count(b"\n"), len(slow_splitting.arrays(inside)), inside.count(b"["))
    try:
        taken = found(split(body, "", SplitOptions(delimiter=b"", max_records=limit)))
    except TooMany:
        assert most > limit
    else:
        assert count <= limit
        assert body.count(b"\n") >= limit or taken == found(split(body, "", BARE))


LIMIT = 20_000
TINY = {
    "numbers": b"[" + b"1," * 2_000_000 + b"1]",
    "objects": b"[" + b"{}," * 1_500_000 + b"{}]",
    "a run of objects": b"{}" * 2_000_000,
    "arrays": b"[]" * 2_000_000,
    "short arrays": b"[1,1]" * 800_000,
    "lines of objects": b"{}\n" * 1_500_000,
    "lines": b"a\n" * 2_000_000,
    "blank lines": b"a" + b"\n" * 4_000_000 + b"a",
    "broken at the end": b"[" + b"1," * 2_000_000 + b"oops]",
    "hidden behind a quote": b'{oops"}\n' + b"{}" * 2_000_000 + b'"',
}


@pytest.mark.parametrize("validate", [False, True])
@pytest.mark.parametrize("body", TINY.values(), ids=list(TINY))
def test_tiny_values_cost_no_more_than_others(body: bytes, validate: bool) -> None:
    """Millions of values of a byte or two are given up before each of them is an object in memory."""
    tracemalloc.start()
    try:
        with pytest.raises(TooMany, match=f"more than {LIMIT} records"):
            split(body, "", SplitOptions(max_records=LIMIT, validate=validate))
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak_bytes < 6 * len(body)


@pytest.mark.parametrize(
    "body",
    [
        b'{"a":[' + b"1," * 2 * LIMIT + b"1]}",
        b"[" + b",".join([b'{"a":[1,2,3],"b":{"c":"d, e"}}'] * (LIMIT // 2)) + b"]",
        b"[main] " + b"a, " * 2 * LIMIT,
        b"[" * 900 + b"]" * 900 + b"," * 2 * LIMIT,
        b'{"a":\n\n' + b"\n" * 2 * LIMIT + b"1}",
    ],
    ids=["inside one object", "objects", "a line of text", "deep", "one object over many lines"],
)
def test_what_is_inside_a_record_does_not_count(body: bytes) -> None:
    """Only records count, whatever commas, brackets and newlines they hold."""
    assert found(split(body, "", SplitOptions(delimiter=b"", max_records=LIMIT))) == found(split(body, "", BARE))
