"""A table's columns."""

from __future__ import annotations

import pyarrow as pa
import pytest

from firehose.table_schema import TableSchema


def test_round_trip() -> None:
    """Columns written as text and read again are the same, in order."""
    schema = TableSchema.parsed({"b": "bigint", "a": "struct<x:array<string>>"})
    assert TableSchema.parsed(schema.types()) == schema
    assert schema.arrow.names == ["b", "a"]
    assert schema.arrow.field("b").type == pa.int64()


@pytest.mark.parametrize(
    ("columns", "says"),
    [
        ([], "at least one column"),
        ([("", "int")], "a column has a name"),
        ([("a", "int"), ("A", "string")], "two columns 'a' and 'A'"),
        ([("a", "int"), ("a", "int")], "two columns 'a' and 'a'"),
        ([("a", "txt")], "column 'a': invalid type 'txt'"),
    ],
)
def test_refused(columns: list[tuple[str, str]], says: str) -> None:
    """What no table can have is refused, naming the column."""
    with pytest.raises(ValueError, match=says):
        TableSchema.parsed(columns)
