"""What was seen of documents so far, place by place, and the type that a place gets for it.

A place is a column, a field of a struct, or the items of an array. What a type is decided by, and what never decides,
stands in docs/schemas.md. Everything is bounded: past `Limits` nothing is remembered.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import pyarrow as pa

from firehose.hive_type import Array, HiveType, Scalar, Struct
from firehose.table_schema import RESCUED

Kind = Literal["", "boolean", "bigint", "double", "string", "date", "timestamp", "struct", "array", "other"]
KINDS: Mapping[type, Kind] = {
    bool: "boolean",
    int: "bigint",
    float: "double",
    str: "string",
    dict: "struct",
    list: "array",
}
BIGINT = range(-(2**63), 2**63)
NAME_BYTES = 255  # of a column in Glue's catalogue
DATE = r"\d{4}-(0[1-9]|1[0-2])-(0[1-9]|[12]\d|3[01])"
# No finer than microseconds, which is what a column keeps: of anything finer, the text says more.
TIMESTAMP = DATE + r"[T ]([01]\d|2[0-3]):[0-5]\d:[0-5]\d(\.\d{1,6})?(Z|[+-]([01]\d|2[0-3]):[0-5]\d)?"
TEXTS: Mapping[Kind, str] = {"date": DATE, "timestamp": TIMESTAMP}  # what all texts of such a place look like
_DATE, _TIMESTAMP = re.compile(DATE, re.ASCII), re.compile(TIMESTAMP, re.ASCII)
_UNNAMED = re.compile(r"[\x00-\x1f\x7f]")


@dataclass(slots=True)
class Limits:
    """How much one inference may still remember: `places` more, none deeper than `depth`."""

    places: int
    depth: int


@dataclass(slots=True, eq=False)
class Sight:
    """One place. With a `known` type it is settled: fields may be added to it, and its type stays."""

    kind: Kind = ""
    known: HiveType | None = None
    fields: dict[str, Sight] = field(default_factory=dict)  # of a struct
    lower: dict[str, str] = field(default_factory=dict)  # their names, by what engines tell them apart by
    item: Sight | None = None  # of an array

    @staticmethod
    def documents(known: Struct | None) -> Sight:
        """The place of whole documents, whose fields are the columns."""
        top = Sight.settled(known) if known else Sight("struct")
        top.lower[RESCUED] = RESCUED
        return top

    @staticmethod
    def settled(known: HiveType) -> Sight:
        match known:
            case Struct(fields):
                below = {name: Sight.settled(type_) for name, type_ in fields}
                return Sight("struct", known, below, {name.lower(): name for name in below})
            case Array(item):
                return Sight("array", known, item=Sight.settled(item))
            case Scalar("boolean" | "bigint" | "double" | "string" as name):
                return Sight(name, known)
        return Sight("other", known)

    def see(self, value: Any, limits: Limits, depth: int = 0) -> None:
        """Takes note of a value that a document holds here."""
        kind = KINDS.get(type(value))
        if kind is None:  # null says nothing
            return
        if self.known is None:
            self._join(kind, value)
        if self.kind == kind == "struct":
            for name, below in value.items():
                place = self.fields.get(name) or self._field(name, limits, depth + 1)
                if place is not None:
                    place.see(below, limits, depth + 1)
        elif self.kind == kind == "array" and (item := self.item or self._item(limits, depth + 1)):
            for below in value:
                item.see(below, limits, depth + 1)

    def _join(self, kind: Kind, value: Any) -> None:
        """What was empty whenever it was seen gives way to what is not."""
        if self.kind != kind and self.kind in ("struct", "array") and self.type() is None:
            self.kind, self.fields, self.lower, self.item = "", {}, {}, None
        self.kind = _joined(self.kind, kind, value)

    def _field(self, name: str, limits: Limits, depth: int) -> Sight | None:
        """A new field; None where it can be none: its values are rescued."""
        lower = name.lower()
        if not _nameable(name) or not self._is_free(lower) or not _room(limits, depth):
            return None
        self.lower[lower] = name
        self.fields[name] = Sight()
        return self.fields[name]

    def _is_free(self, lower: str) -> bool:
        """Whether no field has such a name; one that may never be a column gives way to one that may."""
        other = self.lower.get(lower)
        if other in self.fields and self.fields[other].type() is None:
            del self.fields[other]
            return True
        return other is None

    def _item(self, limits: Limits, depth: int) -> Sight | None:
        self.item = Sight() if _room(limits, depth) else None
        return self.item

    def type(self) -> HiveType | None:
        """None where nothing was seen that makes a column: nulls, or what is empty."""
        if self.kind == "struct":
            fields = tuple((name, type_) for name, place in self.fields.items() if (type_ := place.type()))
            return Struct(fields) if fields else None
        if self.kind == "array":
            item = self.item.type() if self.item else None
            return Array(item) if item else None
        return self.known or (Scalar(self.kind) if self.kind else None)

    def arrow(self) -> pa.DataType:
        """What a document holds here, as pyarrow.json is to read it: dates and times as the texts that they are."""
        match self.kind:
            case "struct":
                return pa.struct([pa.field(name, place.arrow()) for name, place in self.fields.items()])
            case "array":
                return pa.list_(self.item.arrow() if self.item else pa.null())
            case "boolean" | "bigint" | "double":
                return Scalar(self.kind).arrow
        return pa.string() if self.kind else pa.null()

    def places(self) -> int:
        """How many there are below this one."""
        below = [*self.fields.values(), *([self.item] if self.item else [])]
        return sum(1 + place.places() for place in below)


def _room(limits: Limits, depth: int) -> bool:
    """Whether there is room for one more place so deep; it is taken then."""
    if limits.places <= 0 or depth > limits.depth:
        return False
    limits.places -= 1
    return True


def _nameable(name: str) -> bool:
    """Whether a column or a field may be called that."""
    try:
        return 0 < len(name.encode()) <= NAME_BYTES and not _UNNAMED.search(name)
    except UnicodeEncodeError:  # half of a surrogate pair
        return False


def _joined(before: Kind, kind: Kind, value: Any) -> Kind:
    """The kind of a place that was `before`, once this value was seen there: the first seen, unless one holds both."""
    if kind == "string":
        return _of_text(before, value)
    if kind == "bigint" and value not in BIGINT:  # whose digits a text keeps, and a double would not
        return "string" if before in ("", "bigint") else before
    return kind if not before or (before, kind) == ("bigint", "double") else before


def _of_text(before: Kind, text: str) -> Kind:
    if before not in ("", "date", "timestamp"):
        return before
    kind: Kind = "timestamp" if _TIMESTAMP.fullmatch(text) else "date" if _DATE.fullmatch(text) else "string"
    return kind if before in ("", kind) else "string"
