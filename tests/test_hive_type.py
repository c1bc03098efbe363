"""Hive's spelling of column types: read, written, and as Arrow's types."""

from __future__ import annotations

import pyarrow as pa
import pytest

from firehose import hive_type

SPELLED = [
    ("bigint", pa.int64()),
    ("decimal(12,2)", pa.decimal128(12, 2)),
    ("varchar(8)", pa.string()),
    ("timestamp", pa.timestamp("us", "UTC")),
    ("array<double>", pa.list_(pa.field("element", pa.float64()))),
    ("map<string,array<int>>", pa.map_(pa.string(), pa.list_(pa.field("element", pa.int32())))),
    ("struct<id:bigint,`a,b`:struct<x:date>>", pa.struct({"id": pa.int64(), "a,b": pa.struct({"x": pa.date32()})})),
]


@pytest.mark.parametrize(("text", "arrow"), SPELLED, ids=[text for text, _ in SPELLED])
def test_spelled(text: str, arrow: pa.DataType) -> None:
    """A type is read as the Arrow type that it means, and written as it was read."""
    found = hive_type.parse(text)
    assert (found.arrow, str(found)) == (arrow, text)


@pytest.mark.parametrize(("text", "arrow"), SPELLED, ids=[text for text, _ in SPELLED])
def test_of_arrow(text: str, arrow: pa.DataType) -> None:
    """An Arrow type gets a spelling that means it."""
    assert hive_type.of_arrow(arrow).arrow == arrow


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("INTEGER", "int"),
        ("decimal", "decimal(10,0)"),
        ("decimal(5)", "decimal(5,0)"),
        (" struct < a : INT , b : map < string , string > > ", "struct<a:int,b:map<string,string>>"),
    ],
)
def test_other_spellings(text: str, canonical: str) -> None:
    """Case, white space and synonyms do not matter."""
    assert str(hive_type.parse(text)) == canonical


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "a type is missing"),
        ("text", "there is no type 'text'"),
        ("set<string>", "there is no type 'set'"),
        ("array", "'<' is missing"),
        ("array<int", "'>' is missing"),
        ("array<int>>", "nothing more is expected"),
        ("map<array<int>,int>", "keys are of a plain type"),
        ("struct<a:int,A:int>", "there are two fields 'A'"),
        ("struct<a>", "':' is missing"),
        ("struct<>", "a field's name is missing"),
        ("decimal(39,0)", "a number from 1 to 38"),
        ("decimal(5,6)", "a number from 0 to 5"),
        ("varchar", "'(' is missing"),
        ("char(256)", "a number from 1 to 255"),
        ("array<" * 80 + "int" + ">" * 80, "nested 48 deep"),
        ("int`", "is no part of a type"),
    ],
)
def test_refused(text: str, says: str) -> None:
    """What is no type is refused, saying where it goes wrong."""
    with pytest.raises(ValueError, match="invalid type") as refused:
        hive_type.parse(text)
    assert says in str(refused.value)


def test_no_hive_type() -> None:
    """An Arrow type that Hive has no word for is refused by name."""
    with pytest.raises(ValueError, match="no Hive type for Arrow's duration"):
        hive_type.of_arrow(pa.duration("s"))
