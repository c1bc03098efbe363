"""Reading for a schema that grows, where a value that its column would keep only in part is none of the column's.

Nobody chose that column's type for what comes later, and there is `_rescued` for what does not fit. A double may hold
the nearest of a fraction, as with every reader of JSON, but no whole number other than the one that was sent; a
timestamp ends at the microsecond.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from firehose.deserializers.deserializer import Column, Deserializer, Keys, Kind
from firehose.deserializers.kernels import require
from firehose.deserializers.times import no_time
from firehose.deserializers.values import EXACT, Number, Read, not_a_number
from firehose.hive_type import Scalar
from firehose.table_schema import TableSchema

WHOLE = re.compile(r"-?[0-9]+", re.ASCII)
FINER = r"\.[0-9]{6}[0-9]*[1-9]"  # than a microsecond
SURELY_COARSE = len("yyyy-MM-ddTHH:mm:ss.SSSSSSZ")
_FINER = re.compile(FINER, re.ASCII)


class Exact:
    """Another deserializer, less what would lose something."""

    def __init__(self, other: Deserializer) -> None:
        self._other = other

    @property
    def keys(self) -> Keys:
        return self._other.keys

    def require(self, schema: TableSchema) -> None:
        self._other.require(schema)

    def scalar(self, type_: Scalar) -> Read:
        read = self._other.scalar(type_)
        match type_.name:
            case "double":
                return lambda value: _unrounded(value, read(value))
            case "timestamp":
                return lambda value: read(_coarse(value))
        return read

    def column(self, type_: Scalar, kind: Kind | None) -> Column | None:
        column = self._other.column(type_, kind)
        if column is None or type_.name not in ("double", "timestamp"):
            return column
        convert: Callable[[pa.Array], pa.Array] = column.convert or (lambda values: values)
        if type_.name == "double":
            return Column(column.parse, lambda values: _below_exact(convert(values)))
        return Column(column.parse, lambda values: convert(_all_coarse(values)))


def _unrounded(value: Any, read: float) -> float:
    text = value.text if isinstance(value, Number) else str(value)
    if WHOLE.fullmatch(text) and int(text) != read:
        raise not_a_number(text)
    return read


def _coarse(value: Any) -> Any:
    if isinstance(value, str) and _FINER.search(value):
        raise no_time(value)
    return value


def _below_exact(reals: pa.Array) -> pa.Array:
    require(pc.all(pc.less(pc.abs(reals), EXACT)))
    return reals


def _all_coarse(values: pa.Array) -> pa.Array:
    if pa.types.is_string(values.type) and (pc.max(pc.binary_length(values)).as_py() or 0) > SURELY_COARSE:
        require(pc.invert(pc.any(pc.match_substring_regex(values, FINER))))
    return values
