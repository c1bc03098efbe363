"""Columns out of an Avro schema (`.avsc`): the fields of its record.

Logical types that Hive has no word for count as the type below them, as Avro asks of readers that do not know one.
Source: the Avro specification, 1.12.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from firehose.hive_type import DEPTH_LIMIT, TYPES_LIMIT, Array, HiveType, Map, Scalar, Struct
from firehose.schemas.paths import ITEM, VALUE, Path, wrong
from firehose.table_schema import TableSchema

PRIMITIVE: Mapping[str, str] = {
    "boolean": "boolean",
    "int": "int",
    "long": "bigint",
    "float": "float",
    "double": "double",
    "bytes": "binary",
    "string": "string",
}
LOGICAL: Mapping[tuple[str, str], str] = {
    ("int", "date"): "date",
    ("fixed", "uuid"): "string",
    **{
        ("long", f"{zone}timestamp-{unit}"): "timestamp"
        for zone in ("", "local-")
        for unit in ("millis", "micros", "nanos")
    },
}


def parse(said: Any) -> TableSchema:
    """The columns of a schema, read as JSON. Raises ValueError that names the field."""
    while isinstance(said, Mapping) and isinstance(said.get("type"), Mapping):
        said = said["type"]
    if not isinstance(said, Mapping) or said.get("type") != "record":
        raise ValueError("an Avro schema of a table is a record: {'type': 'record', 'name': ..., 'fields': [...]}")
    found = _Types().type(said, (), ("", ()))
    assert isinstance(found, Struct)
    return TableSchema(found.fields)


Where = tuple[str, tuple[str, ...]]  # the namespace around, and the named types that the place is within


class _Types:
    """Reads types, and remembers those with names."""

    def __init__(self) -> None:
        self._left = TYPES_LIMIT
        self._named: dict[str, tuple[Any, str]] = {}  # full name to what it is and the namespace that it stands in

    def type(self, said: Any, path: Path, where: Where) -> HiveType:
        self._left -= 1
        if len(path) > DEPTH_LIMIT or self._left < 0:
            raise wrong(path, f"types may be nested {DEPTH_LIMIT} deep, and {TYPES_LIMIT} are the most")
        if isinstance(said, list):
            return self._union(said, path, where)
        if isinstance(said, str):
            return Scalar(PRIMITIVE[said]) if said in PRIMITIVE else self._reference(said, path, where)
        if not isinstance(said, Mapping) or "type" not in said:
            raise wrong(path, f"{said!r} is no Avro type")
        kind = said["type"]
        if not isinstance(kind, str):
            return self.type(kind, path, where)
        return self._complex(kind, said, path, where)

    def _complex(self, kind: str, said: Mapping[str, Any], path: Path, where: Where) -> HiveType:
        if kind in ("record", "error", "enum", "fixed"):
            return self._declared(said, path, where)
        if kind == "array":
            return Array(self.type(_member(said, "items", path), (*path, ITEM), where))
        if kind == "map":
            return Map(Scalar("string"), self.type(_member(said, "values", path), (*path, VALUE), where))
        return self._logical(kind, said, path) or self.type(kind, path, where)

    def _declared(self, said: Mapping[str, Any], path: Path, where: Where) -> HiveType:
        name = _member(said, "name", path)
        space = str(said.get("namespace", where[0]))
        full = str(name) if "." in str(name) else f"{space}.{name}".lstrip(".")
        self._named[full] = (said, where[0])
        return self._body(said, path, (full.rpartition(".")[0], (*where[1], full)))

    def _body(self, said: Mapping[str, Any], path: Path, where: Where) -> HiveType:
        kind = str(said["type"])
        if kind == "enum":
            return Scalar("string")
        if kind == "fixed":
            if said.get("logicalType") == "duration":
                raise wrong(path, "there is no Hive type for Avro's duration")
            return self._logical(kind, said, path) or Scalar("binary")
        fields = _member(said, "fields", path)
        if not isinstance(fields, list) or not fields:
            raise wrong(path, "a record has a list of fields, at least one")
        return Struct(tuple(self._field(one, path, where) for one in fields))

    def _field(self, said: Any, path: Path, where: Where) -> tuple[str, HiveType]:
        if not isinstance(said, Mapping):
            raise wrong(path, f"{said!r} is no field: it has a name and a type")
        name = str(_member(said, "name", path))
        inner = (*path, name)
        return name, self.type(_member(said, "type", inner), inner, where)

    def _reference(self, name: str, path: Path, where: Where) -> HiveType:
        space, within = where
        full = name if "." in name or not space else f"{space}.{name}"
        full = full if full in self._named else name
        if name == "null":
            raise wrong(path, "is always null: there is no type to give it")
        if full in within:
            raise wrong(path, f"the type {name!r} holds itself, which no column can")
        if full not in self._named:
            raise wrong(path, f"there is no Avro type {name!r}, nor is one of that name defined before")
        said, outside = self._named[full]
        return self._declared(said, path, (outside, within))

    def _union(self, branches: list[Any], path: Path, where: Where) -> HiveType:
        found = list(dict.fromkeys(self.type(one, path, where) for one in branches if one not in ("null", NULL)))
        if len(found) != 1:
            types = ", ".join(map(str, found)) or "null alone"
            raise wrong(path, f"a union of {types} has no Hive type; give it one type beside null")
        return found[0]

    def _logical(self, kind: str, said: Mapping[str, Any], path: Path) -> HiveType | None:
        logical = said.get("logicalType")
        if logical == "decimal" and kind in ("bytes", "fixed"):
            return _decimal(said, path)
        name = LOGICAL.get((kind, str(logical)))
        return Scalar(name) if name else None


NULL = {"type": "null"}


def _decimal(said: Mapping[str, Any], path: Path) -> HiveType:
    precision, scale = said.get("precision"), said.get("scale", 0)
    if not isinstance(precision, int) or not isinstance(scale, int) or not 0 <= scale <= precision <= 38:
        raise wrong(path, f"Hive has no decimal of precision {precision} and scale {scale}; 38 digits are the most")
    return Scalar("decimal", (precision, scale))


def _member(said: Mapping[str, Any], key: str, path: Path) -> Any:
    if key not in said:
        raise wrong(path, f"{said.get('type', 'a field')!r} without {key!r}")
    return said[key]
