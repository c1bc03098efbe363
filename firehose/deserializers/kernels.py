"""Whole columns made into a column's type by Arrow's kernels: never another value than one by one.

A kernel that is not sure for a single value of the column raises `Misfit` and leaves all of it to the slower way.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import pyarrow as pa
import pyarrow.compute as pc

from firehose.deserializers import times
from firehose.deserializers.deserializer import Column, Kind, Misfit
from firehose.deserializers.values import EXACT, INTEGER_BITS, Mismatch, Number, Read
from firehose.hive_type import TEXT_LIMITS, Scalar

PARSED: Mapping[Kind, pa.DataType] = {
    "string": pa.string(),
    "integer": pa.int64(),
    "real": pa.float64(),
    "boolean": pa.bool_(),
}
# What arrives in nearly every column of these types.
USUAL: Mapping[str, Kind] = {**dict.fromkeys(INTEGER_BITS, "integer"), "float": "real", "double": "real"}
UTC_US = pa.timestamp("us", "UTC")
ZULU = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,9})?Z$"
SPACED = r"^[0-9]{4}-[0-9]{2}-[0-9]{2} [0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,9})?$"
DATE = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}$"
BEYOND_MICROSECONDS = r"(\.[0-9]{6})[0-9]+"


def usual(type_: Scalar) -> Kind:
    return "boolean" if type_.name == "boolean" else USUAL.get(type_.name, "string")


def standard(type_: Scalar, kind: Kind) -> Column | None:
    """The kernels that are the same for every deserializer: of values that are of the type's own kind."""
    match type_.name, kind:
        case "boolean", "boolean":
            return Column(pa.bool_())
        case "string", "string":
            return Column(pa.string())
        case "binary", "string":
            return Column(pa.string(), lambda texts: texts.cast(pa.binary()))
        case "date", "string":
            return Column(pa.string(), dates)
        case (("float" | "double"), ("integer" | "real")):
            return Column(type_.arrow, finite)
    if type_.name in TEXT_LIMITS and kind == "string":
        return Column(pa.string(), lambda texts: pc.utf8_slice_codeunits(texts, 0, type_.arguments[0]))
    if type_.name in INTEGER_BITS and kind == "integer":
        return Column(type_.arrow)
    if type_.name in INTEGER_BITS and kind == "real":
        return Column(pa.float64(), lambda reals: whole(reals, type_.arrow))
    return None


def each(type_: Scalar, kind: Kind, read: Read) -> Column | None:
    """Value by value, but for the JSON around it. Reals no longer have the digits that were sent."""
    if kind == "real":
        return None
    given = (lambda value: Number(str(value))) if kind == "integer" else (lambda value: value)

    def convert(values: pa.Array) -> pa.Array:
        try:
            made = [None if value is None else read(given(value)) for value in values.to_pylist()]
        except Mismatch:
            raise Misfit from None
        return pa.array(made, type_.arrow)

    return Column(PARSED[kind], convert)


def either(kernel: Callable[[pa.Array], pa.Array], slower: Column | None) -> Column:
    """The kernel, and value by value where it is not sure."""
    assert slower, "there is a slower way for every kind but reals"

    def convert(values: pa.Array) -> pa.Array:
        try:
            return kernel(values)
        except (Misfit, pa.ArrowInvalid):
            assert slower.convert
            return slower.convert(values)

    return Column(slower.parse, convert)


def require(fine: pa.BooleanScalar | bool | None) -> None:
    """`fine` of a column without values is None."""
    if (fine if isinstance(fine, bool) or fine is None else fine.as_py()) is False:
        raise Misfit


def finite(reals: pa.Array) -> pa.Array:
    """Arrow makes a number that is too large infinite."""
    require(pc.all(pc.is_finite(reals)))
    return reals


def of_precision(decimals: pa.Array) -> pa.Array:
    """Arrow's parser lets a number pass that has too many digits once zeros are put behind it."""
    decimals.validate(full=True)
    return decimals


def whole(reals: pa.Array, type_: pa.DataType) -> pa.Array:
    require(pc.all(pc.less(pc.abs(reals), EXACT)))
    return reals.cast(type_)  # raises ArrowInvalid for a fraction


def dates(texts: pa.Array) -> pa.Array:
    require(pc.all(pc.match_substring_regex(texts, DATE)))
    require(pc.all(pc.greater_equal(texts, "0001")))  # there is no year 0
    return texts.cast(pa.date32())


def stamps(texts: pa.Array, form: str) -> pa.Array:
    """Texts of one form, `ZULU` or `SPACED`."""
    require(pc.all(pc.match_substring_regex(texts, form)))
    require(pc.all(pc.greater_equal(texts, "0001")))
    if (pc.max(pc.binary_length(texts)).as_py() or 0) > len("yyyy-MM-ddTHH:mm:ss.SSSSSSZ"):
        texts = pc.replace_substring_regex(texts, BEYOND_MICROSECONDS, r"\1")
    if form == ZULU:
        return texts.cast(UTC_US)
    return texts.cast(pa.timestamp("us")).cast(pa.int64()).cast(UTC_US)


def zulu_or_spaced(texts: pa.Array) -> pa.Array:
    """All of them of the one form or all of the other: the first tells which."""
    first = texts.drop_null()[:1].to_pylist()
    return stamps(texts, ZULU if first and first[0].endswith("Z") else SPACED)


def epochs(numbers: pa.Array) -> pa.Array:
    """Integers or reals: seconds, or milliseconds from 1e12 on."""
    require(pc.all(_between(numbers, -(10**15), 10**15)))  # so that no product below overflows
    near = _between(numbers, 1 - times.MILLIS_FROM, times.MILLIS_FROM - 1)
    if not pa.types.is_integer(numbers.type):
        near = pc.less(pc.abs(numbers), times.MILLIS_FROM)
    factor = pc.if_else(near, pa.scalar(1_000_000, numbers.type), pa.scalar(1000, numbers.type))
    microseconds = pc.multiply(numbers, factor)
    if not pa.types.is_integer(numbers.type):
        # Beyond this a double is not sure of its last microsecond, and an integer among the reals would be cut.
        require(pc.all(pc.less(pc.abs(microseconds), EXACT)))
        microseconds = pc.round(microseconds, round_mode="half_to_even").cast(pa.int64())
    require(pc.all(_between(microseconds, times.FIRST_US, times.END_US - 1)))
    return microseconds.cast(UTC_US)


def _between(numbers: pa.Array, least: int, most: int) -> pa.BooleanArray:
    return pc.and_(pc.greater_equal(numbers, least), pc.less_equal(numbers, most))
