"""How two schemas differ."""

from __future__ import annotations

import pytest

from firehose.schemas import differences
from firehose.table_schema import TableSchema

OLD = {"id": "bigint", "at": "string", "s": "struct<x:int,y:string>", "items": "array<struct<p:double>>"}


def told(new: dict[str, str], old: dict[str, str] = OLD) -> list[str]:
    return list(map(str, differences.between(TableSchema.parsed(old), TableSchema.parsed(new))))


def test_the_same() -> None:
    """A schema differs from itself in nothing, nor from its columns in another order."""
    assert told(OLD) == []
    assert told(dict(reversed(OLD.items()))) == []


def test_all_kinds() -> None:
    """Columns and fields that came, went or changed are told by their path, those within others too."""
    new = {
        "id": "int",
        "s": "struct<x:int,z:map<string,int>>",
        "items": "array<struct<p:double,q.r:date>>",
        "tags": "array<string>",
    }
    assert told(new) == [
        "~ id bigint -> int",
        "- at string",
        "- s.y string",
        "+ s.z map<string,int>",
        "+ items[].`q.r` date",
        "+ tags array<string>",
    ]


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("map<string,int>", "map<string,bigint>", "~ a{} int -> bigint"),
        ("map<string,int>", "map<int,int>", "~ a map<string,int> -> map<int,int>"),
        ("map<string,struct<x:int>>", "map<string,struct<x:int,y:int>>", "+ a{}.y int"),
        ("array<int>", "int", "~ a array<int> -> int"),
        ("varchar(8)", "varchar(9)", "~ a varchar(8) -> varchar(9)"),
        ("struct<x:int>", "struct<X:int>", "- a.x int"),
    ],
)
def test_within_types(old: str, new: str, says: str) -> None:
    """A difference is told of the innermost place that it touches."""
    assert told({"a": new}, {"a": old})[0] == says


@pytest.mark.parametrize(
    ("new", "widens"),
    [
        (OLD, True),
        ({**OLD, "more": "int"}, True),
        ({**OLD, "s": "struct<y:string,x:int,w:date>"}, True),
        ({**OLD, "id": "double"}, False),
        ({"id": "bigint"}, False),
        ({**OLD, "s": "struct<x:int>"}, False),
    ],
)
def test_widens(new: dict[str, str], widens: bool) -> None:
    """Only what adds, and changes or takes away nothing, widens a schema."""
    assert differences.widens(TableSchema.parsed(OLD), TableSchema.parsed(new)) is widens
