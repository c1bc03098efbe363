"""Columns of JSON: every line counts, and no value is bent to fit a type."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import pytest
from hypothesis import given
from hypothesis import strategies as st

from firehose.lake.json_columns import SAMPLE_LINES, found, merge, type_of

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64) | st.floats(allow_nan=False) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("abc", min_size=1, max_size=2), inner),
    max_leaves=5,
)


@pytest.fixture(scope="module")
def engine() -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect(":memory:") as connection:
        yield connection


def types(engine: duckdb.DuckDBPyConnection, *lines: Any, whole: bool = True) -> dict[str, str]:
    texts = [json.dumps(line) for line in lines]
    engine.execute("CREATE OR REPLACE TABLE given AS SELECT unnest(?)::JSON AS json", [texts])
    return dict(found(engine, "given", (), whole).types)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([1, -2, None], "BIGINT"),
        ([1, 2.5], "DOUBLE"),
        ([1, 2**63], "HUGEINT"),
        ([True, False], "BOOLEAN"),
        ([True, 1], "JSON"),
        (["a", 1], "JSON"),
        ([None, None], "JSON"),
        ([{}, {}], "JSON"),
        ([[], [1], [None]], "BIGINT[]"),
        ([[1], {"a": 1}], "JSON"),
        ([{"a": 1}, {"b": {"c": [1.5]}}], 'STRUCT("a" BIGINT, "b" STRUCT("c" DOUBLE[]))'),
        ([{"a": 1, "A": 2}], "JSON"),
        ([{"": 1}], "JSON"),
        ([{f"k{n}": n for n in range(300)}], "JSON"),
        (["2026-03-01", "2026-02-28"], "DATE"),
        (["2026-02-30"], "VARCHAR"),
        (["2026-03-01T12:00:00Z", "2026-03-01 12:00:00.5"], "TIMESTAMP"),
        ([None, "2026-03-01T12:00:00Z"], "TIMESTAMP"),
        (["2026-03-01T12:00:00+02:00"], "VARCHAR"),
        (["2026-03-01", "2026-03-01T12:00:00Z"], "VARCHAR"),
        (["soon", "2026-03-01"], "VARCHAR"),
    ],
)
def test_types(engine: duckdb.DuckDBPyConnection, values: list[Any], expected: str) -> None:
    """A column has the type that all of its values have; what has none in common stays JSON."""
    assert types(engine, *({"v": value} for value in values)) == {"v": expected}


def test_order_of_columns(engine: duckdb.DuckDBPyConnection) -> None:
    """Those of the commonest shape come first, and of shapes as common always the same: threads do not decide it."""
    lines = [{"z": 1}, {"b": 1, "a": 1}, {"y": 1}, {"b": 2, "a": 2}]
    assert {tuple(types(engine, *lines)) for _ in range(50)} == {("b", "a", "y", "z")}


@pytest.mark.parametrize("lines", [[1], [[1], {"a": 1}], [{"a": 1}, "text"], [{"a": 1}, {"A": 1}], [{}]])
def test_no_columns(engine: duckdb.DuckDBPyConnection, lines: list[Any]) -> None:
    """Lines that are no objects, and names that SQL cannot tell apart, make no columns."""
    assert types(engine, *lines) == {}


def test_the_last_line_counts(engine: duckdb.DuckDBPyConnection) -> None:
    """A column and a type that appear only behind the sample are found, unless only a sample is wanted."""
    lines = [{"a": 1, "t": "2026-03-01"}] * SAMPLE_LINES + [{"a": 1.5, "t": "later", "z": 1}]
    assert types(engine, *lines) == {"a": "DOUBLE", "t": "VARCHAR", "z": "BIGINT"}
    assert types(engine, *lines, whole=False) == {"a": "BIGINT", "t": "DATE"}


def test_keys_are_left_out(engine: duckdb.DuckDBPyConnection) -> None:
    """A column that folders tell already is none of the lines', however it is written."""
    engine.execute('CREATE OR REPLACE TABLE given AS SELECT \'{"DT":1,"a":1}\'::JSON AS json')
    assert dict(found(engine, "given", ["dt"], True).types) == {"a": "BIGINT"}


@given(st.lists(st.dictionaries(st.text("abc'\"\\/~$ü", min_size=1, max_size=2), VALUES, max_size=3), max_size=6))
def test_any_lines_can_be_read(tmp_path_factory: pytest.TempPathFactory, lines: list[Any]) -> None:
    """Whatever the lines, reading them as the columns found fails nowhere, and loses no line and no whole number."""
    path = Path(tmp_path_factory.mktemp("lines")) / "x.json"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    with duckdb.connect(":memory:") as engine:
        objects = f"read_json_objects('{path}', format = 'newline_delimited')"
        columns = found(engine, objects, (), True)
        if not columns.types:
            return
        read = f"read_json('{path}', format = 'newline_delimited', records = true, columns = {{{columns.text()}}})"
        rows = engine.execute(f"SELECT * FROM {read}").fetchall()
    assert len(rows) == len(lines)
    for row, line in zip(rows, lines, strict=True):
        for (label, kind), value in zip(columns.types.items(), row, strict=True):
            if kind in ("BIGINT", "HUGEINT"):
                assert value == line.get(label)


@given(VALUES, VALUES, VALUES)
def test_merging_in_any_order(one: Any, two: Any, three: Any) -> None:
    """Shapes merge to the same type in whatever order they come."""
    with duckdb.connect(":memory:") as engine:
        rows = [
            engine.execute("SELECT json_structure(?::JSON)", [json.dumps(each)]).fetchall()
            for each in (one, two, three)
        ]
    a, b, c = (json.loads(row[0][0]) for row in rows)
    merged = {normal(merge(merge(x, y), z)) for x, y, z in ((a, b, c), (c, b, a), (b, a, c), (c, a, b))}
    assert len(merged) == 1


def normal(shape: Any) -> str:
    """A type without the order of its fields."""
    if isinstance(shape, dict):
        return str({key: normal(shape[key]) for key in sorted(shape)})
    return f"[{normal(shape[0])}]" if isinstance(shape, list) else type_of(shape, False)


@pytest.mark.parametrize("whole", [True, False])
def test_a_time_that_not_every_line_has(engine: duckdb.DuckDBPyConnection, whole: bool) -> None:
    """Lines without the field say nothing about its values."""
    lines = [{"n": 1}, {"n": 2, "at": "2026-03-01T12:00:00Z", "on": "2026-03-01"}, {"on": None}]
    assert types(engine, *lines, whole=whole) == {"n": "BIGINT", "at": "TIMESTAMP", "on": "DATE"}
