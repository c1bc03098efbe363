"""What a query looks at: certain, or not said."""

from __future__ import annotations

import json
from typing import Any

import jq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from firehose.partitioning.narrowing import fields, path


@pytest.mark.parametrize(
    ("query", "names"),
    [
        (".a", (("a",), None)),
        (" .user.id ", (("user", "id"), None)),
        ('."a b"', (("a b",), None)),
        ('.["x"].y', (("x", "y"), None)),
        ('.a["b c"]', None),
        ('."\\u0061.b"', (("a.b",), None)),
        (".a.b[0:10]", (("a", "b"), slice(0, 10))),
        (".a[3:]", (("a",), slice(3, None))),
        (".[0:1]", None),
        (".", None),
        (".a | .b", None),
        ('."a\tb"', None),
        ('."a\\tb"', (("a\tb",), None)),
        (".a?", None),
        (".a[0]", None),
        ("", None),
    ],
)
def test_paths(query: str, names: tuple[tuple[str, ...], slice | None] | None) -> None:
    """A query that is nothing but a way to one value or a part of it is known as that, and no other is."""
    assert path(query) == names


@pytest.mark.parametrize(
    ("query", "names"),
    [
        (".a", ("a",)),
        (".a.b.c", ("a",)),
        ('.ts | strftime("%Y")', ("ts",)),
        ('.a // .b // "none"', ("a", "b")),
        ('(.ts | strftime("%Y")) + .x', ("ts", "x")),
        ("if .a == 1 then .b else .c end", ("a", "b", "c")),
        ('[.a, .b] | join("-")', ("a", "b")),
        (".a[0:10]", ("a",)),
        (".a | . as $x | $x", ("a",)),
        (".a | if . == null then 1 else . end", ("a",)),
        (".a | keys", ("a",)),
        ('"\\(.a)"', ("a",)),
        (r'"\(.id[3:4] | tonumber % 5)-\((.x))-" + .y', ("id", "x", "y")),
        (r'"a)\("\(.a)" + .b)b(\\(" + .c', ("a", "b", "c")),
        (r'if "\(.a)" == "x" then .b["\(.c)"] else "\(.d)".e end', ("a", "b", "c", "d")),
    ],
)
def test_fields(query: str, names: tuple[str, ...]) -> None:
    """The fields that a query looks at are found wherever it looks at nothing else."""
    assert fields(query) == names


@pytest.mark.parametrize(
    "query",
    [
        *(".", "..", "keys", "length", "tojson", "input", "$x", "@text", '"\\(.)"', "{a: .b}", "{a}", ".[0]", ".[]"),
        *(".a = 3", ".a |= 3", ".a += 1", "del(.a)", ".a as $x | .b", "try .a catch .", "def f: .; f", ".a // ."),
        *("if .a | not then . else .b end", "if .a | not then keys else .b end", ".a # .b", "(.a", ".a + length"),
        *("reduce .a[] as $x (0; . + $x)", "first(.a)", '.["a", "b"]', "[.a, .]", '"text"', "1"),
        *('"\\(.a) \\(keys)"', '"\\(.a | .)" + tojson', '@base64 "\\(.a)"', '."a\\(.b)"', '.["a\\(.b)"]', '"\\(.a'),
        *('."a\tb"', '."a\tb" + .c', '.a + "\n"', '"\\(.a)\n\\(.b)"'),
        *("if .a then .b end", "(if .a then .b end).c", "if .a then .b elif .c then .d end | .e", "-if .a then .b end"),
        *('"\\(.a)', '"\\\\(.a)"', '"\\(.a)" | input, . + "\\(.b', '"\\("\\(.a)\\(.)")"'),
    ],
)  # fmt: skip
def test_uncertain(query: str) -> None:
    """Nothing is said of a query that may see more than fields by their names: it gets whole records."""
    assert fields(query) is None


TERMS = (
    ".a",
    ".b",
    ".c.d",
    ".a[0:2]",
    '.["b"]',
    '"x"',
    "7",
    "null",
    "true",
    ".a?",
    ".",
    "keys",
    "length",
    "..",
    ".a[]",
)
WAYS = (
    "{0}", "({0})", "{0} | {1}", "{0} // {1}", "{0} + {1}", "{0}, {1}", "[{0}, {1}]", "{0} == {1}", "{0} and {1}",
    "if {0} then {1} else {2} end", "if {0} | {1} then {2} else . end", "({0} | {1}) + {2}", "{0} | tostring", "-{0}",
    "{0} | if . then {1} else {2} end", "if {0} then {1} end", "[if {0} then {1} elif {2} then {0} end]",
    "{0} as $x | {1}", "{0} | . as $x | {1}", "[{0} | {1}, {2}]", "{0}[{1}]?",
    '"\\({0})"', '"x\\({0})-\\({1})y" + {2}', '"\\("\\({0})" | {1})" | {2}',
)  # fmt: skip
QUERIES = st.recursive(
    st.sampled_from(TERMS),
    lambda inner: st.builds(lambda way, *of: way.format(*of), st.sampled_from(WAYS), inner, inner, inner),
    max_leaves=6,
)
VALUES = st.sampled_from([None, 0, 1.5, "text", "", [1, "x"], {"d": 4, "b": 5}, True])
RECORDS = st.dictionaries(st.sampled_from(["a", "b", "c", "other"]), VALUES)


def outputs(query: str, record: Any) -> list[str] | str:
    """What jq makes of a record, or that it fails."""
    try:
        return [str(one) for one in jq.compile(f"({query}) | tojson").input_text(json.dumps(record))]
    except ValueError:
        return "fails"


@given(QUERIES, RECORDS)
def test_nothing_else_counts(query: str, record: dict[str, Any]) -> None:
    """jq makes the same of a record as of those of its fields that the query is said to look at."""
    names = fields(query)
    if names is not None:
        assert outputs(query, record) == outputs(query, {name: record.get(name) for name in names})
