"""Columns out of an Avro schema."""

from __future__ import annotations

from typing import Any

import pytest

from firehose.schemas import avro


def record(*fields: Any, **more: Any) -> dict[str, Any]:
    return {"type": "record", "name": "Event", "fields": list(fields), **more}


def column(type_: Any) -> str:
    """The Hive type of a field of this Avro type."""
    return avro.parse(record({"name": "a", "type": type_})).types()["a"]


def logical(below: str, meaning: str, **more: Any) -> dict[str, Any]:
    return {"type": below, "logicalType": meaning, **more}


ADDRESS = {"type": "record", "name": "Address", "namespace": "de.post", "fields": [{"name": "zip", "type": "string"}]}


@pytest.mark.parametrize(
    ("type_", "hive"),
    [
        ("boolean", "boolean"),
        ("int", "int"),
        ("long", "bigint"),
        ("float", "float"),
        ("double", "double"),
        ("bytes", "binary"),
        ("string", "string"),
        (["null", "long"], "bigint"),
        (["string", "null"], "string"),
        ([{"type": "null"}, "int"], "int"),
        (["string"], "string"),
        ({"type": "string"}, "string"),
        ({"type": {"type": "long"}}, "bigint"),
        (logical("int", "date"), "date"),
        (logical("long", "timestamp-millis"), "timestamp"),
        (logical("long", "local-timestamp-micros"), "timestamp"),
        (logical("bytes", "decimal", precision=12, scale=2), "decimal(12,2)"),
        (logical("bytes", "decimal", precision=9), "decimal(9,0)"),
        (logical("fixed", "decimal", name="D", size=8, precision=18, scale=6), "decimal(18,6)"),
        (logical("string", "uuid"), "string"),
        (logical("int", "time-millis"), "int"),
        (logical("long", "made-up"), "bigint"),
        ({"type": "enum", "name": "Colour", "symbols": ["RED"]}, "string"),
        ({"type": "fixed", "name": "Hash", "size": 16}, "binary"),
        ({"type": "array", "items": ["null", "int"]}, "array<int>"),
        ({"type": "map", "values": {"type": "array", "items": "float"}}, "map<string,array<float>>"),
        (ADDRESS, "struct<zip:string>"),
    ],
    ids=str,
)
def test_types(type_: Any, hive: str) -> None:
    """Each Avro type has its Hive type."""
    assert column(type_) == hive


def test_named_types() -> None:
    """A type may be named where it is used again, in its namespace or in full."""
    inner = {"name": "Inner", "type": "record", "fields": [{"name": "x", "type": "int"}]}
    schema = record(
        {"name": "home", "type": ADDRESS},
        {"name": "work", "type": ["null", "de.post.Address"]},
        {"name": "first", "type": inner},
        {"name": "second", "type": {"type": "array", "items": "Inner"}},
        {"name": "third", "type": "com.shop.Inner"},
        namespace="com.shop",
    )
    assert avro.parse(schema).types() == {
        "home": "struct<zip:string>",
        "work": "struct<zip:string>",
        "first": "struct<x:int>",
        "second": "array<struct<x:int>>",
        "third": "struct<x:int>",
    }


def doubling(levels: int) -> dict[str, Any]:
    """Records each of which holds the one before twice."""
    type_: Any = "int"
    for level in range(levels):
        type_ = record({"name": "a", "type": type_}, {"name": "b", "type": f"R{level - 1}" if level else "int"})
        type_["name"] = f"R{level}"
    return record({"name": "top", "type": type_})


@pytest.mark.parametrize(
    ("said", "says"),
    [
        ("string", "is a record"),
        ({"type": "array", "items": "int"}, "is a record"),
        (record(), "at least one"),
        (record({"name": "a", "type": ["int", "string"]}), "column a: a union of int, string"),
        (record({"name": "a", "type": ["null"]}), "column a: a union of null alone"),
        (record({"name": "a", "type": "null"}), "column a: is always null"),
        (record({"name": "a", "type": "Nowhere"}), "column a: there is no Avro type 'Nowhere'"),
        (
            record({"name": "a", "type": {"type": "array", "items": "Event"}}),
            "column a[]: the type 'Event' holds",
        ),
        (record({"name": "a", "type": logical("bytes", "decimal", precision=50)}), "decimal of precision 50"),
        (record({"name": "a", "type": logical("fixed", "duration", name="D", size=12)}), "column a: there is no Hive"),
        (record({"name": "a", "type": {"type": "map"}}), "column a: 'map' without 'values'"),
        (record({"name": "a"}), "column a: 'a field' without 'type'"),
        (record({"name": "a", "type": 5}), "column a: 5 is no Avro type"),
        (record("a"), "'a' is no field"),
        (doubling(30), "10000 are the most"),
    ],
    ids=lambda said: said if isinstance(said, str) else "",
)
def test_refused(said: Any, says: str) -> None:
    """What has no Hive type is refused by the name of its column, before it takes up memory."""
    with pytest.raises(ValueError) as refused:
        avro.parse(said)
    assert says in str(refused.value)
