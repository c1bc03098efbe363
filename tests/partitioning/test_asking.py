"""jq asked of many documents at once: what it says of each is what it says of that one alone."""

from __future__ import annotations

from functools import cache
from itertools import islice
from typing import Any

import jq
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from firehose import jq_query
from firehose.json_text import record as json_record
from firehose.json_text.record import NotJson
from firehose.partitioning.documents import Flaw, Value
from firehose.partitioning.queries import AT_ONCE, EMPTY, ENDING, SEVERAL, Asking, key_of

QUERIES = (
    ".", ".a", ".a | tostring", ".a[]", ".a[]?", ".a, .b", "empty", "null", "nan", "infinite, 1", "-0", '"\\u0000"',
    ".a | error", "error(null)", 'error({"__jq": 1})', "error({a: .})", ".a, error", "error, .a", "try .a catch .",
    'if .a then .a else error("none") end', "halt", ".a, halt", "[halt]", "halt_error", "try halt catch 1",
    "input", "inputs", "[inputs]", "try input catch .", "first(inputs)", "input_line_number", "input_filename",
    "$__loc__.line # no more", "debug", "repeat(.)", "range(1e9)", "limit(2; repeat(1))", "first(repeat(1))",
    "label $f | .a, break $f", "label $f | (., break $f), 1", ". as [$a] ?// {$a} ?// $a | $a", "$ENV | length",
    "reduce .a[]? as $x (0; . + 1)", "[paths] | length", ".a |= 7 | tojson", "path(..) | tojson", "keys[0]", "tojson",
    "def tojson: 1; def f: null; f, .a", ".a // empty", "[.[]?] | length", "@text", "getpath([\"a\", \"b\"])",
)  # fmt: skip
TEXTS = (
    "null", "true", "7", "-0", "1.10", "1E400", "-1e-400", "100000000000000000001", "[]", "{}", '""', '"x"', " 1\t",
    '{"a":"x","a":"y"}', '{"a":1e1000}', '{"a":"\\ud800"}', '{"a":"\\udc00\\ud800x"}', '"\\u0000"', '{"a":"\\u0000"}',
    '{"a":NaN}', "nan", "{", '{"a":"x"}{"a":"y"}', "1 2", "", " ", "\ufeff1", "\x1e1", '{"a":\n"x"\r\n}', '"\u2028"',
    "[" * 300 + "]" * 300, "[" * 12_000 + "]" * 12_000, '{"a":' + "9" * 400 + "}", '{"a":["x"]}', '{"a":["x","y"]}',
)  # fmt: skip
DOCUMENTS = st.sampled_from(TEXTS) | st.builds('{{"a":{},"b":1}}'.format, st.sampled_from(TEXTS))


asking = cache(Asking)


@cache
def compiled(query: str) -> Any:
    return jq.compile(jq_query.wrapped(query, ENDING))


def alone(query: str, documents: list[bytes]) -> list[Value]:
    """Each document handed to libjq by itself."""
    return [_alone(compiled(query).input_text(document.decode())) for document in documents]


def _alone(outputs: Any) -> Value:
    try:
        found = list(islice(iter(outputs), 2))
    except ValueError as error:
        return Flaw(jq_query.failure(error))
    if len(found) > 1:
        return Flaw(SEVERAL)
    return key_of(found[0].encode()) if found else Flaw(EMPTY)


def is_one(text: str) -> bool:
    """Whether it gets as far as jq; and two kinds of values that only jq's own reader refuses."""
    try:
        json_record.text(text.encode())
    except NotJson:
        return "\\ud800" in text or len(text) > 20_000
    return True


@given(st.sampled_from(QUERIES), st.lists(DOCUMENTS, max_size=20))
@example("error", ['"x"'] * 3)
@example(".a", ['{"a":1}', '"x"', '{"a":"\\ud800"}', '{"a":2}', '{"a":3}'])
def test_each_document_for_itself(query: str, texts: list[str]) -> None:
    """Keys and complaints are those of one by one, whatever the neighbours are, and each document is marked in turn."""
    documents = [text.encode() for text in texts if is_one(text)]
    marks: list[int] = []
    assert asking(query).values(documents, marks.append, 5) == alone(query, documents)
    assert marks == sorted(marks)
    assert set(marks) == set(range(5, 5 + len(documents)))


@pytest.mark.parametrize("query", QUERIES)
def test_every_query(query: str) -> None:
    """All documents of all kinds, more than are taken at once, good ones in between."""
    texts = [one for text in TEXTS if is_one(text) for one in ('{"a":"good"}', text)] + ['{"a":"x"}'] * 3 * AT_ONCE
    documents = [text.encode() for text in texts]
    assert asking(query).values(documents, lambda _: None, 0) == alone(query, documents)


def test_the_mark_is_at_the_document_that_jq_is_at() -> None:
    """Where jq never comes back the mark says from which document."""
    marks: list[int] = []
    given = [b'"x"'] * 10 + [b'"stop"'] + [b'"x"'] * 10
    stopped = Asking('if . == "stop" then error else . end').values(given, marks.append, 0)
    assert [index for index, value in enumerate(stopped) if isinstance(value, Flaw)] == [10]
    assert marks == sorted(marks)
    assert marks.count(10) == 2  # with others, and alone
