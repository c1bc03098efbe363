"""AWS's OpenXJsonSerDe: keys in any case, strings for numbers and numbers for strings.

firehose.md section 7. Only the letters of ASCII are folded. Where the original would cut a fraction off to make an
integer, the record is refused: nothing is lost without a word. A mapping holds for a column, not for a struct's field.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import Field, field_validator

from firehose.blocks import Block
from firehose.deserializers import kernels
from firehose.deserializers.deserializer import Column, Keys, Kind
from firehose.deserializers.plain import (
    binary,
    date,
    lenient_column,
    number_or_string,
    openx_timestamp,
)
from firehose.deserializers.values import (
    DECIMAL,
    INTEGER_BITS,
    Read,
    boolean,
    cut,
    decimal,
    floating,
    integer,
    not_a_number,
    text_of,
)
from firehose.hive_type import TEXT_LIMITS, Scalar
from firehose.table_schema import TableSchema

_LOWER = str.maketrans({chr(code): chr(code + 32) for code in range(ord("A"), ord("Z") + 1)})
_WHOLE = re.compile(r"[+-]?[0-9]+", re.ASCII)


@dataclass(frozen=True)
class FoldedKeys:
    case_insensitive: bool
    dots: bool
    mappings: Mapping[str, str]  # of columns to keys

    @property
    def exact(self) -> bool:
        return not self.case_insensitive and not self.dots

    def folded(self, key: str) -> str:
        if self.dots:
            key = key.replace(".", "_")
        return key.translate(_LOWER) if self.case_insensitive else key

    def of_column(self, name: str) -> str:
        return self.folded(self.mappings.get(name, name))

    of_field = folded


class OpenX:
    class Options(Block):
        type: Literal["openx"] = "openx"
        case_insensitive: bool = True
        convert_dots_in_json_keys_to_underscores: bool = False
        column_to_json_key_mappings: Mapping[str, str] = Field(default_factory=dict)

        @field_validator("column_to_json_key_mappings")
        @classmethod
        def _plain_names(cls, mappings: Mapping[str, str]) -> Mapping[str, str]:
            for column, key in mappings.items():
                if not column or re.search(r"\s", column) or not key:
                    raise ValueError(f"{column!r}: {key!r} maps no column to a key; a column has no whitespace")
            return mappings

    def __init__(self, options: Options | None = None) -> None:
        options = options or self.Options()
        self._keys = FoldedKeys(
            options.case_insensitive,
            options.convert_dots_in_json_keys_to_underscores,
            options.column_to_json_key_mappings,
        )

    @property
    def keys(self) -> Keys:
        return self._keys

    def require(self, schema: TableSchema) -> None:
        """No two columns may want the same key, and a mapping needs its column."""
        if unknown := sorted(self._keys.mappings.keys() - dict(schema.columns).keys()):
            raise ValueError(f"column_to_json_key_mappings: the schema has no column {unknown[0]!r}")
        seen: dict[str, str] = {}
        for name, _ in schema.columns:
            key = self._keys.of_column(name)
            if key in seen:
                raise ValueError(f"columns {seen[key]!r} and {name!r} are read from the same JSON key {key!r}")
            seen[key] = name

    def scalar(self, type_: Scalar) -> Read:
        if type_.name in INTEGER_BITS:
            return lambda value: integer(_whole_number(value, type_), type_)
        if type_.name in ("string", *TEXT_LIMITS):
            return lambda value: cut(text_of(value), type_)
        match type_.name:
            case "float" | "double":
                return lambda value: floating(_real_number(value, type_), type_)
            case "decimal":
                return lambda value: decimal(number_or_string(value, type_), type_)
            case "boolean":
                return _boolean
            case "binary":
                return binary
            case "date":
                return date
        assert type_.name == "timestamp"
        return openx_timestamp

    def column(self, type_: Scalar, kind: Kind | None) -> Column | None:
        return lenient_column(type_, kind or kernels.usual(type_), self.scalar(type_))


def _whole_number(value: Any, type_: Scalar) -> str:
    text = number_or_string(value, type_)
    if isinstance(value, str) and not _WHOLE.fullmatch(text):
        raise not_a_number(text)
    return text


def _real_number(value: Any, type_: Scalar) -> str:
    text = number_or_string(value, type_)
    if isinstance(value, str) and not DECIMAL.fullmatch(text):
        raise not_a_number(text)
    return text.removeprefix("+")


def _boolean(value: Any) -> bool:
    if isinstance(value, str) and value.lower() in ("true", "false"):
        return value.lower() == "true"
    return boolean(value)
