"""AWS's HiveJsonSerDe: names are exact and kinds too; timestamps are of the formats that are named.

firehose.md section 7. A quoted number is no number, and nested JSON is no text.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, field_validator

from firehose.blocks import Block
from firehose.deserializers import joda, kernels, times
from firehose.deserializers.deserializer import Column, Keys, Kind
from firehose.deserializers.plain import Names, binary, date
from firehose.deserializers.values import (
    INTEGER_BITS,
    Mismatch,
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

MILLIS = "millis"  # the one format that is no pattern


class Hive:
    class Options(Block):
        type: Literal["hive"] = "hive"
        timestamp_formats: tuple[str, ...] = Field(default=(), max_length=20)

        @field_validator("timestamp_formats")
        @classmethod
        def _readable(cls, formats: tuple[str, ...]) -> tuple[str, ...]:
            for form in formats:
                if form != MILLIS:
                    joda.compiled(form)
            return formats

    def __init__(self, options: Options | None = None) -> None:
        formats = (options or self.Options()).timestamp_formats
        self._millis = MILLIS in formats
        self._formats = [joda.compiled(form) for form in formats if form != MILLIS]
        self._default = not formats

    @property
    def keys(self) -> Keys:
        return Names()

    def require(self, schema: TableSchema) -> None:
        for name, _ in schema.columns:
            if "." in name:
                raise ValueError(f"column {name!r}: the hive deserializer reads no column with a dot in its name")

    def scalar(self, type_: Scalar) -> Read:
        if type_.name in INTEGER_BITS:
            return lambda value: integer(_number(value, type_), type_)
        if type_.name in ("string", *TEXT_LIMITS):
            return lambda value: cut(_text(value), type_)
        match type_.name:
            case "float" | "double":
                return lambda value: floating(_number(value, type_), type_)
            case "decimal":
                return lambda value: decimal(_number(value, type_), type_)
            case "boolean":
                return boolean
            case "binary":
                return binary
            case "date":
                return date
        assert type_.name == "timestamp"
        return self._timestamp

    def column(self, type_: Scalar, kind: Kind | None) -> Column | None:
        kind = kind or kernels.usual(type_)
        slower = kernels.each(type_, kind, self.scalar(type_))
        if type_.name == "decimal":
            return None  # Arrow would take strings for numbers
        if type_.name == "timestamp":
            plainly = self._default and kind == "string"
            return kernels.either(lambda texts: kernels.stamps(texts, kernels.SPACED), slower) if plainly else slower
        return kernels.standard(type_, kind) or slower

    def _timestamp(self, value: Any) -> int:
        if self._millis and isinstance(value, Number | str):
            try:
                return _millis(value if isinstance(value, str) else value.text)
            except Mismatch:
                if not self._formats:
                    raise
        if not isinstance(value, str):
            raise wrong_kind(value, "timestamp")
        if self._default:
            at = times.spaced(value)
            if at is not None:
                return at
        for form in self._formats:
            try:
                return form(value)
            except Mismatch:
                continue
        raise times.no_time(value)


def _millis(text: str) -> int:
    if not text.removeprefix("-").isdecimal() or len(text) > 18:
        raise not_a_number(text)
    return times.in_range(int(text) * 1000, text)


def _number(value: Any, type_: Scalar) -> str:
    if isinstance(value, Number):
        return value.text
    raise wrong_kind(value, type_)


def _text(value: Any) -> str:
    if isinstance(value, list | dict):
        raise wrong_kind(value, "text")
    return text_of(value)
