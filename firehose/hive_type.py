"""Column types in the spelling of Hive and Glue, such as `struct<id:bigint,tags:array<string>>`, and Arrow's for them.

The spelling is kept apart from Arrow's types because it says more: `varchar(8)` cuts values, Arrow's string does not.
Source: firehose.md section 7; Glue's table columns are spelled the same way.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

import pyarrow as pa

PLAIN: Mapping[str, pa.DataType] = {
    "boolean": pa.bool_(),
    "tinyint": pa.int8(),
    "smallint": pa.int16(),
    "int": pa.int32(),
    "bigint": pa.int64(),
    "float": pa.float32(),
    "double": pa.float64(),
    "string": pa.string(),
    "binary": pa.binary(),
    "date": pa.date32(),
    "timestamp": pa.timestamp("us", "UTC"),
}
SAME = {"integer": "int", "long": "bigint", "bool": "boolean", "numeric": "decimal", "dec": "decimal", "real": "float"}
TEXT_LIMITS = {"char": 255, "varchar": 65535}  # the longest that Hive knows
DECIMAL_DIGITS = 38
DEPTH_LIMIT = 48  # of types within types: pyarrow reads no Parquet file of more than 100 levels, and an array takes two
TYPES_LIMIT = 10_000  # of one schema: definitions that use others twice unfold to more than any memory
ALL = (*PLAIN, "decimal(p,s)", "char(n)", "varchar(n)", "array<t>", "map<k,v>", "struct<name:t,...>")
_TOKEN = re.compile(r"\s*(?:`((?:[^`]|``)+)`|([^\s<>(),:`]+)|([<>(),:]))")


@dataclass(frozen=True, slots=True)
class Scalar:
    """A type without types inside; `arguments` are those of decimal, char and varchar."""

    name: str
    arguments: tuple[int, ...] = ()

    def __str__(self) -> str:
        return f"{self.name}({','.join(map(str, self.arguments))})" if self.arguments else self.name

    @property
    def arrow(self) -> pa.DataType:
        if self.name == "decimal":
            return pa.decimal128(*self.arguments)
        return pa.string() if self.name in TEXT_LIMITS else PLAIN[self.name]


@dataclass(frozen=True, slots=True)
class Array:
    item: HiveType

    def __str__(self) -> str:
        return f"array<{self.item}>"

    @property
    def arrow(self) -> pa.DataType:
        return pa.list_(pa.field("element", self.item.arrow))  # Parquet's own name for it


@dataclass(frozen=True, slots=True)
class Map:
    key: Scalar
    value: HiveType

    def __str__(self) -> str:
        return f"map<{self.key},{self.value}>"

    @property
    def arrow(self) -> pa.DataType:
        return pa.map_(self.key.arrow, self.value.arrow)


@dataclass(frozen=True, slots=True)
class Struct:
    fields: tuple[tuple[str, HiveType], ...]

    def __str__(self) -> str:
        return f"struct<{','.join(f'{quoted(name)}:{type_}' for name, type_ in self.fields)}>"

    @property
    def arrow(self) -> pa.DataType:
        return pa.struct([pa.field(name, type_.arrow) for name, type_ in self.fields])


HiveType = Scalar | Array | Map | Struct


def quoted(name: str) -> str:
    """A field's name as it stands in a type: in backticks where it is no plain word."""
    return name if re.fullmatch(r"[^\s<>(),:`]+", name) else f"`{name.replace('`', '``')}`"


def parse(text: str) -> HiveType:
    """Reads a type. Raises ValueError that says where it goes wrong and what there is."""
    reader = _Reader(text)
    found = reader.type(0)
    if reader.peek():
        raise reader.wrong("nothing more is expected")
    return found


class _Reader:
    """A type's text, token by token; a name in backticks is one token."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._tokens: list[tuple[str, int, bool]] = []
        self._at = 0
        end = 0
        while match := _TOKEN.match(text, end):
            word = match[1].replace("``", "`") if match[1] else match[2] or match[3]
            self._tokens.append((word, match.start(match.lastindex or 0), match[3] is not None))
            end = match.end()
        if text[end:].strip():
            raise ValueError(f"invalid type {text!r}: {text[end:].strip()[:20]!r} is no part of a type")

    def peek(self) -> str:
        return self._tokens[self._at][0] if self._at < len(self._tokens) else ""

    def wrong(self, what: str) -> ValueError:
        place = f"at {self._tokens[self._at][0]!r}" if self.peek() else "at its end"
        return ValueError(f"invalid type {self._text!r}, {place}: {what}; types are {', '.join(ALL)}")

    def word(self, what: str) -> str:
        if not self.peek() or self._tokens[self._at][2]:
            raise self.wrong(f"{what} is missing")
        self._at += 1
        return self._tokens[self._at - 1][0]

    def take(self, sign: str) -> None:
        if self.peek() != sign:
            raise self.wrong(f"'{sign}' is missing")
        self._at += 1

    def type(self, depth: int) -> HiveType:
        if depth > DEPTH_LIMIT:
            raise self.wrong(f"types may be nested {DEPTH_LIMIT} deep")
        name = self.word("a type").lower()
        name = SAME.get(name, name)
        match name:
            case "array":
                return Array(self._inside(depth))
            case "map":
                return self._map(depth)
            case "struct":
                return self._struct(depth)
            case "decimal":
                return self._decimal()
            case "char" | "varchar":
                return Scalar(name, (self._length(name),))
        if name not in PLAIN:
            self._at -= 1
            raise self.wrong(f"there is no type {name!r}")
        return Scalar(name)

    def _inside(self, depth: int) -> HiveType:
        self.take("<")
        found = self.type(depth + 1)
        self.take(">")
        return found

    def _map(self, depth: int) -> Map:
        self.take("<")
        key = self.type(depth + 1)
        if not isinstance(key, Scalar):
            raise self.wrong("a map's keys are of a plain type")
        self.take(",")
        value = self.type(depth + 1)
        self.take(">")
        return Map(key, value)

    def _struct(self, depth: int) -> Struct:
        self.take("<")
        fields: list[tuple[str, HiveType]] = []
        while True:
            name = self.word("a field's name")
            if any(name.lower() == other.lower() for other, _ in fields):
                raise self.wrong(f"there are two fields {name!r}")
            self.take(":")
            fields.append((name, self.type(depth + 1)))
            if self.peek() != ",":
                break
            self.take(",")
        self.take(">")
        return Struct(tuple(fields))

    def _number(self, most: int, least: int = 1) -> int:
        text = self.word("a number")
        if not text.isdecimal() or not least <= int(text) <= most:
            self._at -= 1
            raise self.wrong(f"a number from {least} to {most} is expected")
        return int(text)

    def _length(self, name: str) -> int:
        self.take("(")
        length = self._number(TEXT_LIMITS[name])
        self.take(")")
        return length

    def _decimal(self) -> Scalar:
        """Without arguments it is decimal(10,0), as in Hive."""
        if self.peek() != "(":
            return Scalar("decimal", (10, 0))
        self.take("(")
        precision, scale = self._number(DECIMAL_DIGITS), 0
        if self.peek() == ",":
            self.take(",")
            scale = self._number(precision, 0)
        self.take(")")
        return Scalar("decimal", (precision, scale))


def of_arrow(type_: pa.DataType) -> HiveType:
    """The nearest spelling of an Arrow type. Raises ValueError where there is none."""
    if pa.types.is_struct(type_):
        return Struct(tuple((field.name, of_arrow(field.type)) for field in type_))
    if pa.types.is_map(type_):
        key = of_arrow(type_.key_type)
        if isinstance(key, Scalar):
            return Map(key, of_arrow(type_.item_type))
    if pa.types.is_list(type_) or pa.types.is_large_list(type_) or pa.types.is_fixed_size_list(type_):
        return Array(of_arrow(type_.value_type))
    if pa.types.is_decimal(type_) and 0 <= type_.scale <= type_.precision <= DECIMAL_DIGITS:
        return Scalar("decimal", (type_.precision, type_.scale))
    if pa.types.is_timestamp(type_):
        return Scalar("timestamp")
    if pa.types.is_dictionary(type_):
        return of_arrow(type_.value_type)
    return Scalar(_plain_name(type_))


def _plain_name(type_: pa.DataType) -> str:
    for name, plain in PLAIN.items():
        if type_ == plain:
            return name
    wider: Mapping[pa.DataType, str] = {
        pa.uint8(): "smallint",
        pa.uint16(): "int",
        pa.uint32(): "bigint",
        pa.float16(): "float",
        pa.large_string(): "string",
        pa.string_view(): "string",
        pa.large_binary(): "binary",
        pa.binary_view(): "binary",
        pa.date64(): "date",
    }
    if type_ not in wider:
        raise ValueError(f"there is no Hive type for Arrow's {type_}")
    return wider[type_]
