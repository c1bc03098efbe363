"""Documents read into rows value by value: the slow way, and what the fast one is measured by.

Where a schema grows, nothing fails a row: what does not fit its column, or has none and can get none, is told of under
its own key, nested as it was sent; of an array or a map that does not fit, all of it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from firehose.deserializers.deserializer import Deserializer
from firehose.deserializers.values import (
    INTEGER_BITS,
    JSON_NUMBER,
    Mismatch,
    Number,
    Read,
    json_of,
    not_a_number,
    shown,
    wrong_kind,
)
from firehose.hive_type import Array, HiveType, Map, Scalar, Struct
from firehose.table_schema import RESCUED, TableSchema

Values = dict[str, Any]
NUMBERS = (*INTEGER_BITS, "float", "double", "decimal")


class Unforeseen(Exception):
    """A document holds a column or a field that the schema lacks, and the schema may grow."""

    def __init__(self, key: str) -> None:
        super().__init__(key)
        self.key = key


@dataclass(frozen=True, slots=True)
class _Fields:
    """An object's keys, folded, and what is read from each."""

    names: Mapping[str, str]
    reads: Mapping[str, Read]
    inner: Mapping[str, _Fields]  # of those that are structs
    folded: Callable[[str], str] | None  # None: keys are the names themselves
    unknown: Callable[[str, Any], None] | None  # raises Unforeseen or Mismatch, or lets it pass

    def strict(self, given: Any) -> Values:
        """The values by name. Raises Mismatch."""
        made: Values = {}
        for key, value in given.items():
            name = self._name(key)
            if name is not None:
                made[name] = None if value is None else self.reads[name](value)
            elif self.unknown:
                self.unknown(key, value)
        return made

    def _name(self, key: str) -> str | None:
        return self.names.get(self.folded(key) if self.folded else key)

    def named(self, given: Values) -> Values:
        """As `strict`, and a Mismatch says in which column it is."""
        made: Values = {}
        for key, value in given.items():
            name = self._name(key)
            if name is not None:
                try:
                    made[name] = None if value is None else self.reads[name](value)
                except Mismatch as error:
                    # Java's words for a number stand alone, as Firehose writes them.
                    if error.cause.startswith("For input string"):
                        raise
                    raise Mismatch(error.cause, name) from None
        return made

    def rescuing(self, given: Values) -> tuple[Values, Values]:
        """The values by name, and what does not fit, by key."""
        made: Values = {}
        rescued: Values = {}
        for key, value in given.items():
            name = self._name(key)
            try:
                if name is None:
                    assert self.unknown, "only a schema that grows is read so"
                    self.unknown(key, value)
                elif value is None:
                    made[name] = None
                elif name in self.inner and isinstance(value, dict):
                    made[name], left = self.inner[name].rescuing(value)
                    if left:
                        rescued[key] = left
                else:
                    made[name] = self.reads[name](value)
            except Mismatch:
                rescued[key] = value
                if name is not None:
                    made[name] = None
        return made, rescued


class Reader:
    """Reads documents for one schema. `full`: the schema grows, but for now has no room for more."""

    def __init__(
        self, schema: TableSchema, deserializer: Deserializer, grows: bool = False, full: bool = False
    ) -> None:
        self._deserializer = deserializer
        self._grows = grows
        self._full = full
        keys = deserializer.keys
        self._root = self._fields(schema.columns, keys.of_column, reserved=RESCUED)

    def row(self, document: Values) -> tuple[Values, bytes | None]:
        """The row, and JSON of what does not fit it. Raises Mismatch, Unforeseen."""
        if not self._grows:
            return self._root.named(document), None
        made, rescued = self._root.rescuing(document)
        return made, json_of(rescued) if rescued else None

    def _fields(
        self, fields: tuple[tuple[str, HiveType], ...], key: Callable[[str], str], reserved: str = ""
    ) -> _Fields:
        # Each struct once: made anew for either use, those within it are made twice as often with each level.
        inner = {name: self._inner(type_) for name, type_ in fields if isinstance(type_, Struct)}
        return _Fields(
            {key(name): name for name, _ in fields},
            {
                name: _struct(inner[name], type_) if isinstance(type_, Struct) else self._read(type_)
                for name, type_ in fields
            },
            inner,
            None if self._deserializer.keys.exact else self._deserializer.keys.folded,
            self._unknown({name.lower() for name, _ in fields} | {reserved}) if self._grows else None,
        )

    def _inner(self, type_: Struct) -> _Fields:
        return self._fields(type_.fields, self._deserializer.keys.of_field)

    def _unknown(self, taken: set[str]) -> Callable[[str, Any], None]:
        def look(key: str, value: Any) -> None:
            if not tells(value):
                return
            # No schema can have two names that differ by case alone.
            if self._full or not key or key.lower() in taken:
                raise Mismatch("no column is free for it")
            raise Unforeseen(key)

        return look

    def _read(self, type_: HiveType) -> Read:
        match type_:
            case Scalar():
                return self._deserializer.scalar(type_)
            case Array(item):
                return _array(self._read(item), type_)
            case Map(key, value):
                return _map(self._deserializer.scalar(key), self._read(value), type_)
            case Struct():
                return _struct(self._inner(type_), type_)


def _array(read: Read, type_: Array) -> Read:
    expected = shown(type_)

    def items(value: Any) -> list[Any]:
        if not isinstance(value, list):
            raise wrong_kind(value, expected)
        return [None if item is None else read(item) for item in value]

    return items


def _map(read_key: Read, read: Read, type_: Map) -> Read:
    expected = shown(type_)

    def entries(value: Any) -> list[tuple[Any, Any]]:
        if not isinstance(value, dict):
            raise wrong_kind(value, expected)
        # By what a key is read as: one map with the same key twice, such as of "1" and "1.0", and engines read none of
        # the file.
        made = {read_key(_key(key, type_)): None if one is None else read(one) for key, one in value.items()}
        return list(made.items())

    return entries


def _key(key: str, type_: Map) -> str | Number:
    """JSON's keys are strings; where the map's are numbers, they are read as such."""
    if type_.key.name not in NUMBERS:
        return key
    if not JSON_NUMBER.fullmatch(key):
        raise not_a_number(key)
    return Number(key)


def _struct(fields: _Fields, type_: Struct) -> Read:
    expected = shown(type_)

    def values(value: Any) -> Values:
        if not isinstance(value, dict):
            raise wrong_kind(value, expected)
        return fields.strict(value)

    return values


def tells(value: Any) -> bool:
    """Whether there is anything in it: not null, and no array or object of nothing else."""
    left = [value]
    while left:
        value = left.pop()
        if isinstance(value, dict):
            left.extend(value.values())
        elif isinstance(value, list):
            left.extend(value)
        elif value is not None:
            return True
    return False
