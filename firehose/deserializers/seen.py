"""What records of a stream look like: which kind of value a column has, and how its key is spelled.

A column of timestamps is all strings or all numbers in most streams: a few records tell, and then whole blocks are read
as that. What is learned may be wrong for the next block; that costs time, and never a value.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from firehose.deserializers.deserializer import Keys, Kind
from firehose.deserializers.reading import tells
from firehose.deserializers.values import Number
from firehose.hive_type import Array, HiveType, Scalar, Struct
from firehose.table_schema import TableSchema

Path = tuple[str, ...]  # of a column's or field's name; "[]" is an array's items
ITEM = "[]"
MOST_EMPTY_KEYS = 1000


@dataclass(frozen=True, slots=True)
class Seen:
    """`kinds`: by path, where all values are of one. `spelled`: keys by path. `empty`: by the object's path, keys that
    have no column and no value either. `more`: whether there are others that have no column.
    """

    kinds: Mapping[Path, Kind | None] = field(default_factory=dict)
    spelled: Mapping[Path, str] = field(default_factory=dict)
    empty: Mapping[Path, frozenset[str]] = field(default_factory=dict)
    more: bool = False

    def and_in(self, documents: Iterable[Mapping[str, Any]], schema: TableSchema, keys: Keys) -> Seen:
        """Also in these documents, which count for more."""
        look = _Look(keys)
        for document in documents:
            look.object(document, {keys.of_column(name): (name, type_) for name, type_ in schema.columns}, ())
        empty = {path: self.empty.get(path, frozenset()) | look.empty.get(path, set()) for path in look.empty}
        if sum(map(len, empty.values())) > MOST_EMPTY_KEYS:
            empty = {}
        kinds = {path: _one(kinds) for path, kinds in look.kinds.items()}
        return Seen(
            {**self.kinds, **kinds}, {**self.spelled, **look.spelled}, {**self.empty, **empty}, self.more or look.more
        )


class _Look:
    """Goes through documents, and notes."""

    def __init__(self, keys: Keys) -> None:
        self._keys = keys
        self.kinds: dict[Path, set[Kind]] = {}
        self.spelled: dict[Path, str] = {}
        self.empty: dict[Path, set[str]] = {}
        self.more = False

    def object(self, given: Mapping[str, Any], fields: Mapping[str, tuple[str, HiveType]], path: Path) -> None:
        for key, value in given.items():
            known = fields.get(self._keys.folded(key))
            if known:
                name, type_ = known
                self.spelled[*path, name] = key
                self._value(value, type_, (*path, name))
            elif value is None:
                self.empty.setdefault(path, set()).add(key)
            else:
                self.more = self.more or tells(value)

    def _value(self, value: Any, type_: HiveType, path: Path) -> None:
        match type_:
            case Scalar() if value is not None:
                if kind := _kind(value):
                    self.kinds.setdefault(path, set()).add(kind)
            case Array(item) if isinstance(value, list):
                for one in value:
                    self._value(one, item, (*path, ITEM))
            case Struct(fields) if isinstance(value, dict):
                self.object(value, {self._keys.of_field(name): (name, field) for name, field in fields}, path)


def _kind(value: Any) -> Kind | None:
    match value:
        case bool():
            return "boolean"
        case str():
            return "string"
        case Number(text):
            return "integer" if text.lstrip("-").isdecimal() else "real"
    return None


def _one(kinds: set[Kind]) -> Kind | None:
    """The kind of all; integers among reals are reals."""
    if kinds == {"integer", "real"}:
        return "real"
    return next(iter(kinds)) if len(kinds) == 1 else None
