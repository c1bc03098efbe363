r"""Keys that are made without jq are those that jq makes; what is not certain is left to jq."""

from __future__ import annotations

from functools import cache
from typing import Any

import jq
import msgspec
import pytest
from batches import rows
from hypothesis import example, given
from hypothesis import strategies as st
from key_steps import parted, told, working

from firehose.hooks.process import Worker
from firehose.partitioning.documents import NOT_JSON, Documents
from firehose.partitioning.step import AskingPartition
from firehose.partitioning.texts import answering

NAMES = ("a", "b")
TIMES = (
    "2026-03-01T12:50:39.919Z", "2026-03-01T12:50:39Z", "1970-01-01T00:00:00Z", "1969-12-31T23:59:59Z",
    "2026-02-30T00:00:00Z", "2024-02-29T24:00:00Z", "2026-12-31T23:59:60Z", "2026-03-01T12:50:39+00:00",
    "9999-12-31T23:59:59Z", "0001-01-01T00:00:00Z", "2026-W09-7T12:50:39Z", "2026-03-01 12:50:39Z", "2026-3-1T1:2:3Z",
)  # fmt: skip
STRINGS = st.one_of(
    st.sampled_from(
        ["", "x", "İß", "a.b\nc.d", "a.\r", ".\u2028.\x85", "\0", "\U0001f600.e\u0301", "x" * 99 + ".y", *TIMES]
    ),
    st.text(st.sampled_from("aB.-:TZ09 \n\u00fc\U0001f600"), max_size=8),
)
ODD = (
    b"null", b"true", b"false", b"1.0", b"1e3", b"-0", b"1772369439", b"253402300800", b"7" * 30, b"[]", b'["x","y"]',
    b"{}", b'{"b":"deep"}', b'{"b":null}', b'{"b":{"b":"x"}}', b'"\\u0041"', b'"\\ud83d\\ude00"', b'"\\ud800"',
)  # fmt: skip
VALUES = st.one_of(
    STRINGS.map(msgspec.json.encode),
    st.integers(-2, 10**12).map(b"%d".__mod__),
    st.sampled_from(ODD),
)
RECORDS = st.one_of(
    st.builds(b'{"a":%b,"b":%b}'.__mod__, st.tuples(VALUES, VALUES)),
    VALUES.map(b'{"a":%b}'.__mod__),
    st.builds(b'{"a":%b,"a":%b}'.__mod__, st.tuples(VALUES, VALUES)),
)
ENDS = st.sampled_from(["", "0", "1", "3", "10", "-1", "-3"])
PARTS = st.builds("[{}:{}]".format, ENDS, ENDS).filter(lambda part: part != "[:]")
LITERALS = st.sampled_from(['"x"', '""', '"-"', '"\\n\\"\\\\"', '"ü"', '"  "'])
PATTERNS = st.sampled_from(
    ["\\\\..*", "\\\\.", ".", ".*", ".+Z", "T.*", "T", "", "a.+", "-", "[.]", "x$", "^a", "(?<n>a)"]
)
CALLS = st.one_of(
    st.sampled_from(
        ["ascii_downcase", "ascii_upcase", "fromdate", "tostring", "length", "tojson", "fromjson", ".[0:2]"]
    ),
    st.builds('sub("{}"; "{}")'.format, PATTERNS, st.sampled_from(["Z", "", "\\\\1", "\\(.n)", "ü"])),
    st.sampled_from(["%Y", "%Y-%m-%d", "%F %T", "%H:%M:%S", "%j", "%", "%%", "%e", "%Z", "%s", "x", ""]).map(
        'strftime("{}")'.format
    ),
)


def deeper(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.one_of(
        st.builds("{} + {}".format, inner, inner),
        st.builds("{} // {}".format, inner, inner),
        st.builds("({})".format, inner),
        st.builds("{} | {}".format, inner, CALLS),
        st.builds("({} | {})".format, inner, CALLS),
        st.builds("({}){}".format, inner, PARTS),
        st.builds('"<\\({})\\( {} )"'.format, inner, inner),
    )


TERMS = st.sampled_from(
    [".a", ".b", '."a"', ".a.b", ".a.b.b", '."a".b', ".a?", ".a[]", ".c", "1", "null", "empty", "."]
)
QUERIES = st.recursive(TERMS | LITERALS | st.builds("{}{}".format, TERMS, PARTS), deeper, max_leaves=5)


@cache
def compiled(query: str) -> Any:
    """Nothing where jq refuses the query."""
    try:
        return jq.compile(f"({query}) | tojson")
    except ValueError:
        return None


def known(query: str, record: bytes) -> str:
    _, found = Documents(NAMES, handed=False).read([rows([record])])
    (seen,) = found.seen
    return answering(query, NAMES)(seen)


def of_jq(query: str, record: bytes) -> str | None:
    try:
        outputs = compiled(query).input_text(record.decode()).all()
    except ValueError:
        return None
    return msgspec.json.decode(outputs[0], type=str) if len(outputs) == 1 and outputs[0].startswith('"') else None


@given(QUERIES, RECORDS)
@example('.a | sub("\\\\..*"; "Z") | fromdate | strftime("%Y-%m-%d")', b'{"a":"2026-03-01T12:50:39.919Z"}')
@example(".a + .b[1:]", b'{"a":"x","b":"yz"}')
def test_jq_says_the_same(query: str, record: bytes) -> None:
    """Whatever query and record are: a key that is made without jq is the text that jq makes."""
    if compiled(query) is not None and (made := known(query, record)):
        assert made == of_jq(query, record)


@given(st.sampled_from(TIMES) | STRINGS, PATTERNS, st.sampled_from(["%Y-%m-%d", "%F %T", "%j"]))
def test_dates(time: str, pattern: str, form: str) -> None:
    """Times, and what only looks like one, come to the date that jq makes of them."""
    record = msgspec.json.encode({"a": time})
    for query in (f'.a | sub("{pattern}"; "Z")', ".a | fromdate | tostring", f'.a | fromdate | strftime("{form}")'):
        if made := known(query, record):
            assert made == of_jq(query, record)


@pytest.mark.parametrize(
    ("query", "key"),
    [
        ('.a[0:1] + "-" + .b', "2-x"),
        (r'"\(.a[0:10])/\( .b | ascii_upcase )"', "2026-03-01/X"),
        ('.c // ."b" // "none"', "x"),
        (r'.a | sub("\\..*"; "Z") | fromdate | strftime("%Y/%m")', "2026/03"),
        ('(.n | strftime("%Y-%j"))[2:]', "26-060"),
        (".d.e | .[-2:]", "yz"),
        (".n | tostring", ""),
        (".a # of the record", ""),
        ('.a | test("x")', ""),
        ('.b |= "y"', ""),
        (".b" + " | tostring" * 2000, ""),
        ("(" * 2000 + ".b" + ")" * 2000, ""),
    ],
)
def test_what_is_known(query: str, key: str) -> None:
    """Texts put together and the usual ways to a date need no jq; anything else does."""
    names = ("a", "b", "c", "d", "n")
    row = ("2026-03-01T12:50:39.919Z", "x", b"null", b'{"e":"xyz"}', b"1772369439")
    assert answering(query, names)(row) == key


async def test_a_worker_for_what_is_left() -> None:
    """jq is asked of those records that it is needed for, and all have their keys."""
    step = working(queries={"k": '.a + "!"', "l": ".b | ascii_downcase"})
    assert isinstance(step, AskingPartition)
    try:
        outcome = await step.outcome(rows([b'{"a":"x","b":"Y"}', b'{"a":"x","b":"\xc3\x9c"}', b'{"a":null,"b":"Y"}']))
    finally:
        await step.close()
    keys = [tuple(one["partitionKeyFromQuery"].values()) for one in parted(outcome).values()]
    assert keys == [("x!", "y"), ("x!", "Ü"), ("!", "y")]


async def test_no_worker_where_none_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    """No process is started as long as there is nothing to ask."""
    monkeypatch.setattr(Worker, "start", None)
    step = working(queries={"k": '.a + "!"'})
    assert isinstance(step, AskingPartition)
    outcome = await step.outcome(rows([b'{"a":"x"}', b"no JSON", b'{"a":"y"}']))
    assert (list(parted(outcome)), told(outcome)) == ([0, 2], {1: NOT_JSON})
