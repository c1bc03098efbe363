"""Columns out of a JSON Schema."""

from __future__ import annotations

from typing import Any

import pytest

from firehose.schemas import json_schema


def types(properties: dict[str, Any], **more: Any) -> dict[str, str]:
    return json_schema.parse({"type": "object", "properties": properties, **more}).types()


def column(said: Any) -> str:
    """The Hive type of a property of which this is said."""
    return types({"a": said})["a"]


STRING = {"type": "string"}
NULL = {"type": "null"}


@pytest.mark.parametrize(
    ("said", "hive"),
    [
        (STRING, "string"),
        ({"type": "integer"}, "bigint"),
        ({"type": "number"}, "double"),
        ({"type": "boolean"}, "boolean"),
        ({"type": ["string", "null"]}, "string"),
        ({"type": ["integer", "number", "null"]}, "double"),
        ({"type": "string", "format": "date-time"}, "timestamp"),
        ({"type": ["null", "string"], "format": "date"}, "date"),
        ({"type": "string", "format": "email", "maxLength": 5}, "string"),
        ({"type": "integer", "format": "int32"}, "int"),
        ({"type": "number", "format": "float"}, "float"),
        ({"enum": ["a", "b", None]}, "string"),
        ({"enum": [1, 2.5]}, "double"),
        ({"const": True}, "boolean"),
        ({"anyOf": [STRING, NULL]}, "string"),
        ({"oneOf": [NULL, {"type": "integer"}], "description": "as pydantic writes it"}, "bigint"),
        ({"type": "array", "items": STRING}, "array<string>"),
        ({"items": {"type": "array", "items": {"type": "number"}}}, "array<array<double>>"),
        ({"type": "object", "properties": {"x": STRING, "y": {"type": "integer"}}}, "struct<x:string,y:bigint>"),
        ({"properties": {"x": STRING}, "additionalProperties": STRING}, "struct<x:string>"),
        ({"type": "object", "additionalProperties": {"type": "number"}}, "map<string,double>"),
        ({"type": "object", "patternProperties": {"^x": STRING}}, "map<string,string>"),
        ({"allOf": [{"properties": {"x": STRING}}, {"properties": {"y": STRING}}]}, "struct<x:string,y:string>"),
        ({"type": "string", "allOf": [{"maxLength": 5}]}, "string"),
    ],
    ids=str,
)
def test_types(said: Any, hive: str) -> None:
    """What a schema says of a value has its Hive type."""
    assert column(said) == hive


def test_references() -> None:
    """A reference within the file means what stands there, however it is written."""
    point = {"type": "object", "properties": {"x": {"type": "number"}}}
    found = types(
        {"a": {"$ref": "#/$defs/point"}, "b": {"$ref": "#/definitions/a~1b"}, "c": {"$ref": "#/$defs/gr%C3%B6%C3%9Fe"}},
        **{"$defs": {"point": point, "größe": {"$ref": "#/$defs/point"}}, "definitions": {"a/b": STRING}},
    )
    assert found == {"a": "struct<x:double>", "b": "string", "c": "struct<x:double>"}


def test_the_whole_may_be_a_reference() -> None:
    """Some generators put the object under $defs, with the root a reference to it."""
    said = {"$ref": "#/$defs/event", "$defs": {"event": {"properties": {"a": STRING}}}}
    assert json_schema.parse(said).types() == {"a": "string"}


TREE = {"$defs": {"node": {"properties": {"kids": {"type": "array", "items": {"$ref": "#/$defs/node"}}}}}}
WIDE = {
    f"d{level}": {"properties": {side: {"$ref": f"#/$defs/d{level + 1}"} for side in "ab"}} for level in range(30)
} | {"d30": STRING}


@pytest.mark.parametrize(
    ("said", "says"),
    [
        ([], "is an object with properties"),
        (STRING, "describes string"),
        ({"type": "object", "additionalProperties": STRING}, "describes map<string,string>"),
        ({"properties": {"a": {}}}, "column a: has no type"),
        ({"properties": {"a": True}}, "column a: True tells no type"),
        ({"properties": {"a": {"type": "text"}}}, "column a: there is no JSON Schema type 'text'"),
        ({"properties": {"a": {"type": ["string", "integer"]}}}, "column a: string, bigint together"),
        ({"properties": {"a": {"anyOf": [STRING, {"type": "boolean"}]}}}, "column a: string, boolean together"),
        ({"properties": {"a": NULL}}, "column a: null alone"),
        ({"properties": {"a": {"type": "object"}}}, "column a: an object of what?"),
        ({"properties": {"a": {"properties": {"b.c": {"type": "array"}}}}}, "column a.`b.c`: an array of what?"),
        ({"properties": {"a": {"type": "array", "prefixItems": [STRING]}}}, "column a: items of different types"),
        ({"properties": {"a": {"$ref": "other.json#/x"}}}, "column a: $ref 'other.json#/x' leads out of the file"),
        ({"properties": {"a": {"$ref": "#/$defs/none"}}}, "column a: $ref '#/$defs/none' leads nowhere"),
        ({"properties": {"a": {"$ref": "#/$defs/node"}}, **TREE}, "column a.kids[]: $ref '#/$defs/node' holds itself"),
        ({"properties": {"a": {"$ref": "#/$defs/d0"}}, "$defs": WIDE}, "10000 are the most"),
    ],
    ids=lambda said: said if isinstance(said, str) else "",
)
def test_refused(said: Any, says: str) -> None:
    """What has no Hive type is refused by the name of its column, before it takes up memory."""
    with pytest.raises(ValueError) as refused:
        json_schema.parse(said)
    assert says in str(refused.value)
