"""All objects of a stream whose schema grows read together, whatever engine reads them, and lose nothing.

The objects are Parquet files of each version in turn: its columns and `_rescued`.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
from batches import Notes, batch
from sites import site
from virtual_time import Inline

from firehose.buffer.disk import LocalDisk
from firehose.deserializers.plain import Plain
from firehose.json_table import JsonTable, Unforeseen
from firehose.model import Batch
from firehose.schemas.inferred import InferOptions, Inferred
from firehose.schemas.source import SchemaVersion
from firehose.table_schema import RESCUED

Document = dict[str, Any]
LIFE: list[list[Document]] = [  # batch by batch; `drift` changes its type
    [{}, {"id": None}],
    [{"id": 1, "who": {"nick": "ann"}, "tags": [], "drift": 1}],
    [{"id": 2, "seen": "2026-03-01T12:00:07Z", "drift": "one"}, {"id": 3, "share": 0.5, "drift": 2}],
    [{"id": 4, "who": {"nick": "bob", "home": {"street": "a", "floor": 7}}, "tags": ["a", "b"]}],
    [{"id": 5, "who": {"home": {"geo": [{"lat": 1.5}]}}, "day": "2026-03-01", "ok": True, "drift": {"x": 1}}],
    [{"id": 6, "who": {"home": {"geo": [{"lat": 2.5, "lon": 3.5}]}}, "Ü b": "x"}],
    [{"id": 7}],
]


@pytest.fixture
def objects(tmp_path: Path) -> list[str]:
    """One for each batch, in order."""
    at = replace(site(Inline(), LocalDisk()), schemas=str(tmp_path / "schemas"))
    source = Inferred(InferOptions(), at)
    (tmp_path / "lake").mkdir()
    return [_delivered(source, number, documents, tmp_path) for number, documents in enumerate(LIFE)]


def _delivered(source: Inferred, number: int, documents: Sequence[Document], folder: Path) -> str:
    of, memo = batch([json.dumps(document).encode() for document in documents], first=number), Notes()
    version = source.of(of, memo)
    try:
        table = _table(version, of)
    except Unforeseen:
        table = _table(source.widened(of, memo), of)
    path = str(folder / "lake" / f"{number}.parquet")
    pq.write_table(table, path)
    return path


def _table(version: SchemaVersion, of: Batch) -> pa.Table:
    """What conversion makes of the batch."""
    table = JsonTable(version.schema, Plain(), grows=True, full=version.whole)
    (rows,) = of.slices()
    read = table.read(rows)
    assert not len(read.refused)
    return read.table


def test_the_objects_differ(objects: list[str]) -> None:
    """What is read here together is not alike: six versions, the first without a column."""
    shapes = [str(pq.read_schema(path)) for path in objects]
    assert len(set(shapes)) == 6
    assert pq.read_schema(objects[0]).names == [RESCUED]


def _rows(query: str) -> list[Any]:
    return duckdb.connect().execute(query).fetchall()


@pytest.mark.parametrize("backwards", [False, True])
def test_duckdb(objects: list[str], backwards: bool) -> None:
    """DuckDB reads them all by name, without a cast, in any order; each column has one type."""
    files = f"read_parquet({sorted(objects, reverse=backwards)}, union_by_name=true)"
    types = dict(_rows(f"SELECT column_name, column_type FROM (DESCRIBE SELECT * FROM {files})"))
    assert types == {
        "id": "BIGINT",
        "who": "STRUCT(nick VARCHAR, home STRUCT(street VARCHAR, floor BIGINT, geo STRUCT(lat DOUBLE, lon DOUBLE)[]))",
        "tags": "VARCHAR[]",
        "drift": "BIGINT",
        "seen": "TIMESTAMP WITH TIME ZONE",
        "share": "DOUBLE",
        "day": "DATE",
        "ok": "BOOLEAN",
        "Ü b": "VARCHAR",
        RESCUED: "VARCHAR",
    }
    asked = (
        "count(*), sum(id), sum(drift), sum(share), count(seen), count(who.home), sum(who.home.geo[1].lat), count(day)"
    )
    assert _rows(f"SELECT {asked} FROM {files}") == [(9, 28, 3, 0.5, 1, 3, 4.0, 1)]
    rescued = _rows(f"SELECT {RESCUED}->>'$.drift' FROM {files} WHERE {RESCUED} IS NOT NULL ORDER BY id")
    assert rescued == [("one",), ('{"x":1}',)]


def test_arrow(objects: list[str]) -> None:
    """A pyarrow dataset reads them all with the schemas' union, which is the newest one's columns."""
    whole = pa.unify_schemas([pq.read_schema(path) for path in objects])
    newest = pq.read_schema(objects[-1])
    assert {field.name: field.type for field in whole} == {field.name: field.type for field in newest}
    table = ds.dataset(objects, schema=whole).to_table()
    assert sorted(filter(None, table.column("id").to_pylist())) == [1, 2, 3, 4, 5, 6, 7]
    assert [one["nick"] for one in table.column("who").to_pylist() if one and one["nick"]] == ["ann", "bob"]


def test_pandas(objects: list[str]) -> None:
    """pandas reads them all with the newest object's schema."""
    frame = pd.read_parquet(objects, schema=pq.read_schema(objects[-1]))
    assert len(frame) == 9
    assert frame["id"].sum() == 28
    assert str(frame["seen"].dtype) == "datetime64[us, UTC]"
    assert frame[RESCUED].notna().sum() == 2


def test_canary(objects: list[str]) -> None:
    """A column whose type changed, had there been one, does not read together with the others."""
    pq.write_table(pa.table({"who": pa.array([1.5])}), objects[-1])
    with pytest.raises(duckdb.Error):
        _rows(f"SELECT who FROM read_parquet({objects}, union_by_name=true)")
    with pytest.raises(pa.ArrowException):
        pa.unify_schemas([pq.read_schema(path) for path in objects])
