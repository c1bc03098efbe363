"""Our own way of reading JSON, and the default: forgiving where nothing is lost, strict where something would be.

Names are exact. Numbers are also taken from strings that hold a JSON number; 1.0 is a bigint, 1.5 is none. A string
column takes anything: numbers digit for digit, booleans and nested values as JSON. Timestamps are ISO 8601, with an
offset or in UTC, or any form that OpenX takes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from firehose.blocks import Block
from firehose.deserializers import kernels, times
from firehose.deserializers.deserializer import Column, Keys, Kind
from firehose.deserializers.values import (
    INTEGER_BITS,
    JSON_NUMBER,
    Number,
    Read,
    boolean,
    cut,
    decimal,
    floating,
    integer,
    not_a_number,
    text_of,
    wrong_kind,
)
from firehose.hive_type import TEXT_LIMITS, Scalar
from firehose.table_schema import TableSchema


@dataclass(frozen=True, slots=True)
class Names:
    """Every key is its own column's."""

    exact: ClassVar[bool] = True

    def folded(self, key: str) -> str:
        return key

    of_column = folded
    of_field = folded


class Plain:
    class Options(Block):
        type: Literal["plain"] = "plain"

    def __init__(self, options: Options | None = None) -> None:
        pass

    @property
    def keys(self) -> Keys:
        return Names()

    def require(self, schema: TableSchema) -> None:
        """Every column can be read."""

    def scalar(self, type_: Scalar) -> Read:
        if type_.name in INTEGER_BITS:
            return lambda value: integer(_number(value, type_), type_)
        if type_.name in ("string", *TEXT_LIMITS):
            return lambda value: cut(text_of(value), type_)
        match type_.name:
            case "float" | "double":
                return lambda value: floating(_number(value, type_), type_)
            case "decimal":
                return lambda value: decimal(number_or_string(value, type_), type_)
            case "boolean":
                return _boolean
            case "binary":
                return binary
            case "date":
                return date
        assert type_.name == "timestamp"
        return timestamp

    def column(self, type_: Scalar, kind: Kind | None) -> Column | None:
        return lenient_column(type_, kind or kernels.usual(type_), self.scalar(type_))


def lenient_column(type_: Scalar, kind: Kind, read: Read) -> Column | None:
    """Also of other kinds than the type's own: numbers as strings, strings as numbers."""
    if type_.name == "timestamp":
        return _timestamps(kind, read)
    if type_.name == "decimal" and kind != "boolean":
        return Column(type_.arrow, kernels.of_precision)  # Arrow's parser takes strings and numbers, digit for digit
    if type_.name == "date":
        slower = kernels.each(type_, kind, read)
        return kernels.either(kernels.dates, slower) if kind == "string" else slower
    return kernels.standard(type_, kind) or kernels.each(type_, kind, read)


def _timestamps(kind: Kind, read: Read) -> Column | None:
    if kind == "real":
        return Column(kernels.PARSED[kind], kernels.epochs)
    kernel = kernels.epochs if kind == "integer" else kernels.zulu_or_spaced
    slower = kernels.each(Scalar("timestamp"), kind, read)
    return slower if kind == "boolean" else kernels.either(kernel, slower)


def number_or_string(value: Any, type_: Scalar) -> str:
    if isinstance(value, Number):
        return value.text
    if isinstance(value, str):
        return value
    raise wrong_kind(value, type_)


def _number(value: Any, type_: Scalar) -> str:
    text = number_or_string(value, type_)
    if isinstance(value, str) and not JSON_NUMBER.fullmatch(text):
        raise not_a_number(text)
    return text


def _boolean(value: Any) -> bool:
    return value == "true" if value in ("true", "false") else boolean(value)


def binary(value: Any) -> bytes:
    """A string's own bytes."""
    if isinstance(value, str):
        return value.encode()
    raise wrong_kind(value, "binary")


def date(value: Any) -> Any:
    if isinstance(value, str):
        return times.day(value)
    raise wrong_kind(value, "date")


def timestamp(value: Any) -> int:
    if isinstance(value, str):
        at = times.iso(value)
        return openx_timestamp(value) if at is None else at
    return openx_timestamp(value)


def openx_timestamp(value: Any) -> int:
    """With 'T' and 'Z', with a space, or since the epoch, also as a string."""
    if isinstance(value, Number):
        return times.epoch(value.text)
    if not isinstance(value, str):
        raise wrong_kind(value, "timestamp")
    for form in (times.zulu, times.spaced):
        at = form(value)
        if at is not None:
            return at
    if JSON_NUMBER.fullmatch(value):
        return times.epoch(value)
    raise times.no_time(value)
