"""How two schemas differ, column by column and field by field, and whether one only adds to the other."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from firehose.hive_type import Array, HiveType, Map, Struct
from firehose.schemas.paths import ITEM, VALUE, Path, shown
from firehose.table_schema import TableSchema


@dataclass(frozen=True, slots=True)
class Difference:
    """A place whose type is another one. `old` is None where it is new, `new` where it is gone."""

    path: str
    old: HiveType | None
    new: HiveType | None

    @property
    def sign(self) -> str:
        return "+" if self.old is None else "-" if self.new is None else "~"

    def __str__(self) -> str:
        types = " -> ".join(str(one) for one in (self.old, self.new) if one is not None)
        return f"{self.sign} {self.path} {types}"


def between(old: TableSchema, new: TableSchema) -> list[Difference]:
    """What is to be done to `old` to get `new`: what changed and went in the order of the old, then what came.
    The order of columns is no difference: readers go by names.
    """
    return list(_fields((), old.columns, new.columns))


def widens(old: TableSchema, new: TableSchema) -> bool:
    """Whether `new` only adds columns and fields, or nothing: objects of both read together."""
    return all(difference.old is None for difference in between(old, new))


def _fields(
    path: Path, old: tuple[tuple[str, HiveType], ...], new: tuple[tuple[str, HiveType], ...]
) -> Iterator[Difference]:
    before, after = dict(old), dict(new)
    for name, type_ in old:
        if name in after:
            yield from _types((*path, name), type_, after[name])
        else:
            yield Difference(shown((*path, name)), type_, None)
    for name, type_ in new:
        if name not in before:
            yield Difference(shown((*path, name)), None, type_)


def _types(path: Path, old: HiveType, new: HiveType) -> Iterator[Difference]:
    match old, new:
        case Struct(), Struct():
            yield from _fields(path, old.fields, new.fields)
        case Array(), Array():
            yield from _types((*path, ITEM), old.item, new.item)
        case Map(), Map() if old.key == new.key:
            yield from _types((*path, VALUE), old.value, new.value)
        case _ if old != new:
            yield Difference(shown(path), old, new)
