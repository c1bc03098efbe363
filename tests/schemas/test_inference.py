"""Which columns documents get, of which types; what never makes a column; and that nothing in them is too much."""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import islice
from random import Random
from typing import Any

import pytest
from batches import batch, rows
from hypothesis import given, settings
from hypothesis import strategies as st

from firehose import sample
from firehose.schemas import inference
from firehose.table_schema import TableSchema

Types = dict[str, str]


def types(*documents: bytes | Any, known: Types | None = None, **limits: int) -> Types:
    """The types that records get, or documents given as Python has them."""
    schema = TableSchema.parsed(known) if known else None
    return inference.widened(schema, [rows([_record(one) for one in documents])], **limits).types()


def _record(document: bytes | Any) -> bytes:
    return document if isinstance(document, bytes) else json.dumps(document).encode()


@pytest.mark.parametrize(
    ("values", "type_"),
    [
        ([True, False], "boolean"),
        ([1, -(2**63), 2**63 - 1], "bigint"),
        ([1.5, 1e300], "double"),
        ([1.0], "double"),
        ([1, 1.5], "double"),
        ([1.5, 1], "double"),
        (["x", ""], "string"),
        ([2**63], "string"),
        ([1, -(2**63) - 1, 2], "string"),
        ([1.5, 2**64], "double"),
        ([None, 1], "bigint"),
        (["2026-03-01T12:00:07Z", "2026-03-01 12:00:07.123456", "2026-03-01T12:00:07+02:00"], "timestamp"),
        (["2026-03-01", "1999-12-31"], "date"),
        (["2026-03-01T12:00:07Z", "2026-03-01"], "string"),
        (["2026-03-01", "2026-03-01T12:00:07Z"], "string"),
        (["2026-03-01T12:00:07Z", "soon"], "string"),
        (["2026-03-01T12:00:07Z", ""], "string"),
        (["2026-03-01T12:00:07.1234567Z"], "string"),
        (["2026-03-01T12:00Z"], "string"),
        (["2026-13-01"], "string"),
        (["2026-03-01T24:00:00Z"], "string"),
        (["20260301", "2026"], "string"),
        (["2026-03-01\n"], "string"),
        (["２０２６-03-01"], "string"),  # noqa: RUF001
        ([1, "x"], "bigint"),
        (["x", 1], "string"),
        ([True, 1], "boolean"),
        ([{"a": 1}, 7], "struct<a:bigint>"),
        ([7, {"a": 1}], "bigint"),
        ([{"a": 1}, {"b": "x"}], "struct<a:bigint,b:string>"),
        ([{"a": 1}, {"a": 1.5}], "struct<a:double>"),
        ([{"a": {"b": {"c": True}}}], "struct<a:struct<b:struct<c:boolean>>>"),
        ([{"a": None, "b": 1}], "struct<b:bigint>"),
        ([[1, 2], [1.5]], "array<double>"),
        ([[1], ["x"]], "array<bigint>"),
        ([[], [None], [True]], "array<boolean>"),
        ([[{"a": 1}, {"b": "2026-03-01"}]], "array<struct<a:bigint,b:date>>"),
        ([[[1]], [[], [2.5]]], "array<array<double>>"),
        ([{}, 7], "bigint"),
        ([[], "x", []], "string"),
        ([[{}], {"a": 1}], "struct<a:bigint>"),
        ([{"a b": 1, "c:d": 2, "e`f": 3}], "struct<`a b`:bigint,`c:d`:bigint,`e``f`:bigint>"),
    ],
    ids=str,
)
@pytest.mark.parametrize("before", [0, 300], ids=["looked at closely", "read at once"])
def test_type(values: list[Any], type_: str, before: int) -> None:
    """What values there are decides a column's type, wherever in the batch they are."""
    kin: list[Any] = [{"c": values[0]}] * before
    assert types(*kin, *({"c": value} for value in values)) == {"c": type_}


@pytest.mark.parametrize("value", [None, {}, [], [None], [[]], {"a": None}, {"a": {}}, [{}]], ids=str)
def test_no_column(value: Any) -> None:
    """Nulls and what is empty make no column: what it would hold is not known yet."""
    assert types({"c": value}, {"d": 1}) == {"d": "bigint"}
    assert types({"c": value}) == {}


def test_order() -> None:
    """Columns and fields stand in the order in which they came, new ones behind those that there are."""
    known = {"b": "bigint", "s": "struct<y:string>"}
    wider = types({"z": 1, "b": 1, "s": {"x": 1, "y": "a"}}, {"a": 1}, known=known)
    assert list(wider.items()) == [
        ("b", "bigint"),
        ("s", "struct<y:string,x:bigint>"),
        ("z", "bigint"),
        ("a", "bigint"),
    ]


@pytest.mark.parametrize(
    ("known", "values", "wider"),
    [
        ("bigint", [1.5, "x", {"a": 1}, 2**70], "bigint"),
        ("double", [1, "x"], "double"),
        ("timestamp", ["soon", 1], "timestamp"),
        ("date", ["2026-03-01T12:00:07Z"], "date"),
        ("string", [1, {"a": 1}], "string"),
        ("boolean", [1], "boolean"),
        ("struct<a:bigint>", [7, {"a": "x", "b": 1}], "struct<a:bigint,b:bigint>"),
        ("array<bigint>", [[1.5], 7], "array<bigint>"),
        (
            "array<struct<a:bigint>>",
            [[{"a": 1.5, "b": {"c": [True]}}]],
            "array<struct<a:bigint,b:struct<c:array<boolean>>>>",
        ),
        ("decimal(5,2)", [1, "x"], "decimal(5,2)"),
        ("map<string,bigint>", [{"a": 1}], "map<string,bigint>"),
    ],
)
def test_known_type(known: str, values: list[Any], wider: str) -> None:
    """The type of a known column never changes; only fields are added to its structs."""
    assert types(*({"c": value} for value in values), known={"c": known}) == {"c": wider}


@pytest.mark.parametrize(
    ("names", "columns"),
    [
        (["a", "A"], ["a"]),
        (["ÄÖ", "äö"], ["ÄÖ"]),
        (["", "a"], ["a"]),
        (["_rescued", "a"], ["a"]),
        (["_RESCUED", "a"], ["a"]),
        (["x" * 255, "x" * 256, "y" * 1_000_000], ["x" * 255]),
        (["\0", "a\nb", "a\x7f", "a"], ["a"]),
        (["a.b", "a b", " ", "ü", "日本", "a`b"], ["a.b", "a b", " ", "ü", "日本", "a`b"]),
    ],
    ids=lambda names: str(names)[:40],
)
def test_names(names: Sequence[str], columns: list[str]) -> None:
    """A name that engines cannot tell from another, or that is none, makes no column and no field."""
    document = dict.fromkeys(names, 1)
    assert list(types(document, *({name: 1} for name in names))) == columns
    nested = [name for name in columns if name != "_rescued"]
    if "_rescued" not in map(str.lower, names):
        assert types({"s": document}) == types({"s": dict.fromkeys(nested, 1)})


def test_a_name_that_nothing_has() -> None:
    """Of names that differ by case alone, the first that anything is known of makes the column."""
    assert types({"a": None, "A": 1}, {"a": 2.5}) == {"A": "bigint"}
    assert types({"s": {"a": [], "A": "x"}}, {"s": {"a": 1}}) == {"s": "struct<A:string>"}


def test_a_name_that_is_half_a_character() -> None:
    """Half of a surrogate pair is no name, and hinders no other."""
    assert types(b'{"\\ud800":1}{"a":1}') == {"a": "bigint"}


@pytest.mark.parametrize(
    "record",
    [
        b"",
        b" \n",
        b"no JSON",
        b"[{}]",
        b"1",
        b'"x"',
        b"null",
        b'{"b":NaN}',
        b'{"b":-Infinity}',
        b'{"b":1',
        b'{"b":1}}',
        b'{"b":1} x',
        b'{"b":1}[1]',
        b'{"b":"\xff"}',
        b'{"\xff":1}',
        b'{"b":01}',
        b'{"b":' * 10_000,
        b'{"b":' * 10_000 + b"1" + b"}" * 10_000,
        b'{"b":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b"\0" * 100,
    ],
    ids=lambda record: repr(record[:20]),
)
def test_bad_records(record: bytes) -> None:
    """What is no document is passed over, and what stands around it is seen."""
    good = [b'{"a":1}', b'{"c":"x"}']
    assert types(good[0], record, good[1]) == {"a": "bigint", "c": "string"}
    assert types(*good * 200, record, b'{"d":true}') == {"a": "bigint", "c": "string", "d": "boolean"}


@pytest.mark.parametrize(
    ("record", "found"),
    [
        (b'{"a":1}{"b":2} \n {"c":3}\n', {"a": "bigint", "b": "bigint", "c": "bigint"}),
        (b'  {"a":1}\r\n', {"a": "bigint"}),
        (b'{\n "a": [1,\n 2]\n}', {"a": "array<bigint>"}),
        (b'{"a":1,"a":"x"}', {"a": "string"}),
        (b'{"a":"\\u00e4\\ud83d\\ude00"}', {"a": "string"}),
        (b'{"\\u0061":1}', {"a": "bigint"}),
    ],
)
def test_records(record: bytes, found: Types) -> None:
    """Documents back to back, over several lines, with a key twice (the last one counts) or escaped."""
    assert types(record) == found


def test_limits() -> None:
    """What is past the limits makes no column; fields and items count as columns do, and known ones first."""
    wide = {f"c{number}": 1 for number in range(5)}
    assert list(types(wide, max_columns=3)) == ["c0", "c1", "c2"]
    assert types({"s": {"a": 1, "b": 1}, "t": 1}, max_columns=3) == {"s": "struct<a:bigint,b:bigint>"}
    assert types({"s": [1], "t": 1}, max_columns=2) == {"s": "array<bigint>"}
    assert types({"x": 1, "c": 1}, known={"c": "bigint", "d": "bigint"}, max_columns=1) == {
        "c": "bigint",
        "d": "bigint",
    }
    deep = {"a": {"b": {"c": 1}, "d": 1}}
    assert types(deep, max_depth=2) == {"a": "struct<d:bigint>"}
    assert types({"a": [[1]], "b": 1}, max_depth=2) == {"b": "bigint"}


def test_default_limits() -> None:
    """Two thousand columns, thirty-two levels."""
    assert len(types(*({f"k{number}": 1} for number in range(3000)))) == 2000
    value: Any = 1
    for _ in range(40):
        value = {"a": value, "b": 1}
    (found,) = types({"c": value}).values()
    assert found.count("struct<") == 31


def test_slices() -> None:
    """The whole batch is looked at: a column of its last slice is there, and a type that only its end tells."""
    records = [b'{"a":1}'] * 2500 + [b'{"a":1.5,"b":"2026-03-01"}'] + [b'{"b":"x"}']
    found = inference.widened(None, batch(records, rows_per_slice=1000).slices())
    assert found.types() == {"a": "double", "b": "string"}


def test_sample() -> None:
    """The demo's events get the columns that their names promise."""
    found = types(*islice(sample.events(Random(1)), 2000))
    assert (found["timestamp"], found["status"], found["latency_ms"], found["message"]) == (
        "timestamp",
        "bigint",
        "double",
        "string",
    )


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**65), 2**65)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.sampled_from(["x", "", "2026-03-01", "2026-03-01T12:00:07Z", "2026-03-01 12:00:07.5"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("aAbc"), inner, max_size=3),
    max_leaves=8,
)
DOCUMENTS = st.dictionaries(st.sampled_from("abcdE"), VALUES, max_size=4)


@settings(deadline=None, max_examples=100)
@given(st.lists(DOCUMENTS | st.just(b"no JSON"), min_size=1, max_size=12))
def test_one_by_one_or_at_once(documents: list[Any]) -> None:
    """It makes no difference how records are looked at: the first alone and the rest at once, or all one by one."""
    slices = [rows([_record(document)]) for document in documents]
    singly = inference.widened(None, slices)
    assert inference.widened(None, [rows([_record(document) for document in documents])]) == singly
    repeated = [rows([_record(document) for document in [documents[0]] * 300 + documents])]
    assert inference.widened(None, repeated) == singly
    assert inference.widened(singly, slices) == singly
