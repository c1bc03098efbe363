"""Columns out of a JSON Schema: the properties of its object.

Any draft will do: what tells a type is the same in all of them. What only narrows a type (patterns, bounds, required)
is passed over: columns may always be null, and a value that does not fit its type is refused with its record.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote

from firehose.hive_type import DEPTH_LIMIT, TYPES_LIMIT, Array, HiveType, Map, Scalar, Struct
from firehose.schemas.paths import ITEM, VALUE, Path, wrong
from firehose.table_schema import TableSchema

PLAIN: Mapping[str, str] = {"string": "string", "integer": "bigint", "number": "double", "boolean": "boolean"}
FORMATS: Mapping[tuple[str, str], str] = {
    ("string", "date-time"): "timestamp",
    ("string", "date"): "date",
    ("integer", "int32"): "int",
    ("number", "float"): "float",
}
NUMBERS = frozenset({"int", "bigint", "float", "double"})
NULL: tuple[Any, ...] = ({"type": "null"}, {"const": None}, {"enum": [None]})
Within = tuple[str, ...]  # the references that led to a place


def parse(said: Any) -> TableSchema:
    """The columns of a schema, read as JSON. Raises ValueError that names the property."""
    if not isinstance(said, Mapping):
        raise ValueError("a JSON Schema of a table is an object with properties")
    found = _Types(said).type(said, (), ())
    if not isinstance(found, Struct):
        raise ValueError(f"describes {found}; a JSON Schema of a table describes an object with properties")
    return TableSchema(found.fields)


class _Types:
    """Reads types out of one document."""

    def __init__(self, document: Mapping[str, Any]) -> None:
        self._document = document
        self._left = TYPES_LIMIT

    def type(self, said: Any, path: Path, within: Within) -> HiveType:
        self._left -= 1
        if len(path) + len(within) > DEPTH_LIMIT or self._left < 0:
            raise wrong(path, f"types may be nested {DEPTH_LIMIT} deep, and {TYPES_LIMIT} are the most")
        if not isinstance(said, Mapping):
            raise wrong(path, f"{said!r} tells no type; give it a type")
        if "$ref" in said:
            return self._reference(said["$ref"], path, within)
        for key in ("anyOf", "oneOf"):
            if key in said and not _has_type(said):
                return self._choice(
                    [self.type(one, path, within) for one in _list(said, key, path) if one not in NULL], path
                )
        if "allOf" in said:
            return self._all(said, path, within)
        names = _type_names(said, path)
        return self._choice([self._named(name, said, path, within) for name in names], path)

    def _named(self, name: str, said: Mapping[str, Any], path: Path, within: Within) -> HiveType:
        if name == "object":
            return self._object(said, path, within)
        if name == "array":
            return self._array(said, path, within)
        if name not in PLAIN:
            raise wrong(path, f"there is no JSON Schema type {name!r}")
        return Scalar(FORMATS.get((name, str(said.get("format"))), PLAIN[name]))

    def _object(self, said: Mapping[str, Any], path: Path, within: Within) -> HiveType:
        properties = said.get("properties")
        if isinstance(properties, Mapping) and properties:
            return Struct(tuple((name, self.type(one, (*path, name), within)) for name, one in properties.items()))
        rest = (said.get("additionalProperties"), *_patterns(said))
        values = [one for one in rest if isinstance(one, Mapping) and one]
        if not values:
            raise wrong(path, "an object of what? Give it properties, or additionalProperties with a type")
        types = [self.type(one, (*path, VALUE), within) for one in values]
        return Map(Scalar("string"), self._choice(types, (*path, VALUE)))

    def _array(self, said: Mapping[str, Any], path: Path, within: Within) -> HiveType:
        items = said.get("items")
        if not isinstance(items, Mapping):
            tuple_ = isinstance(items, list) or "prefixItems" in said
            what = "items of different types have no Hive type" if tuple_ else "an array of what? Give it items"
            raise wrong(path, f"{what}: {{'items': {{'type': ...}}}}")
        return Array(self.type(items, (*path, ITEM), within))

    def _all(self, said: Mapping[str, Any], path: Path, within: Within) -> HiveType:
        """What is said in pieces: the properties of all of them, or the one type that any of them tells."""
        rest = {key: value for key, value in said.items() if key != "allOf"}
        pieces = [*_list(said, "allOf", path), *([rest] if _has_type(rest) else [])]
        found = [self.type(one, path, within) for one in pieces if isinstance(one, Mapping) and _tells(one)]
        structs = [one for one in found if isinstance(one, Struct)]
        if found and len(structs) == len(found):
            fields: dict[str, HiveType] = {}
            for name, type_ in (field for one in structs for field in one.fields):
                fields[name] = self._choice([fields.get(name, type_), type_], (*path, name))
            return Struct(tuple(fields.items()))
        return self._choice(found, path)

    def _reference(self, reference: Any, path: Path, within: Within) -> HiveType:
        if not isinstance(reference, str) or not reference.startswith("#"):
            raise wrong(path, f"$ref {reference!r} leads out of the file; put what it means under $defs")
        if reference in within:
            raise wrong(path, f"$ref {reference!r} holds itself, which no column can")
        return self.type(self._at(reference, path), path, (*within, reference))

    def _at(self, reference: str, path: Path) -> Any:
        place: Any = self._document
        for step in reference[1:].split("/")[1:]:
            key = unquote(step).replace("~1", "/").replace("~0", "~")
            if not isinstance(place, Mapping) or key not in place:
                raise wrong(path, f"$ref {reference!r} leads nowhere")
            place = place[key]
        return place

    def _choice(self, types: list[HiveType], path: Path) -> HiveType:
        found = list(dict.fromkeys(types))
        if len(found) > 1 and all(isinstance(one, Scalar) and one.name in NUMBERS for one in found):
            return Scalar("double")
        if len(found) != 1:
            said = ", ".join(map(str, found)) or "null alone"
            raise wrong(path, f"{said} together have no Hive type; give it one type beside null")
        return found[0]


def _type_names(said: Mapping[str, Any], path: Path) -> list[str]:
    """The names of its types but null; told by the values it may have where it names none."""
    named = said.get("type")
    if named is not None:
        return [str(one) for one in (named if isinstance(named, list) else [named]) if one != "null"]
    if "properties" in said:
        return ["object"]
    if "items" in said:
        return ["array"]
    values = [*_list(said, "enum", path), *([said["const"]] if "const" in said else [])]
    names = list(dict.fromkeys(_name_of(value) for value in values if value is not None))
    if not names:
        raise wrong(path, "has no type; give it one")
    return names


def _name_of(value: Any) -> str:
    for kind, name in ((bool, "boolean"), (int, "integer"), (float, "number"), (str, "string"), (list, "array")):
        if isinstance(value, kind):
            return name
    return "object"


def _has_type(said: Mapping[str, Any]) -> bool:
    return "type" in said or "properties" in said


def _tells(said: Mapping[str, Any]) -> bool:
    """Whether it tells a type, and does not only narrow one."""
    return not {"type", "properties", "items", "$ref", "anyOf", "oneOf", "allOf", "enum", "const"}.isdisjoint(said)


def _list(said: Mapping[str, Any], key: str, path: Path) -> list[Any]:
    found = said.get(key, [])
    if not isinstance(found, list):
        raise wrong(path, f"{key} is a list")
    return found


def _patterns(said: Mapping[str, Any]) -> list[Any]:
    found = said.get("patternProperties")
    return list(found.values()) if isinstance(found, Mapping) else []
