"""JSON values as the deserializers see them, and how a plain one becomes a value of a column's type.

Numbers stay the text that was sent until the column's type is known: nothing is rounded on the way to a decimal, a big
integer or a string. Whatever would lose something is a `Mismatch`; nothing here cuts, rounds up or guesses.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from decimal import Context, Decimal, InvalidOperation
from typing import Any

import msgspec
import pyarrow as pa

from firehose.hive_type import DECIMAL_DIGITS, Scalar

Read = Callable[[Any], Any]  # a JSON value, never null, to what Arrow takes for the type; raises Mismatch
INTEGER_BITS: Mapping[str, int] = {"tinyint": 8, "smallint": 16, "int": 32, "bigint": 64}
EXACT = 2**53  # below this, a double that is whole is the very number that was sent, or nearer to it than any other
LONGEST_NUMBER = 400  # characters: more are no number of any type, and would be slow to read
JSON_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?", re.ASCII)
DECIMAL = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?", re.ASCII)


class Mismatch(Exception):
    """A value that does not fit its column: what Firehose calls MalformedData."""

    def __init__(self, cause: str, column: str | None = None) -> None:
        super().__init__(cause)
        self.cause = cause
        self.column = column

    def __str__(self) -> str:
        return self.cause if self.column is None else f"{self.cause} (column {self.column!r})"


class Number:
    """A JSON number, digit for digit. No dataclass: msgspec would write one as an object of its own accord."""

    __match_args__ = ("text",)
    __slots__ = ("text",)

    def __init__(self, text: str) -> None:
        self.text = text


def shown(text: object) -> str:
    """Its beginning: each refused record has its message, and neither values nor types have bounds."""
    whole = str(text)
    return whole if len(whole) <= 100 else f"{whole[:100]}..."


def not_a_number(text: str) -> Mismatch:
    """In Java's words, which is what Firehose passes on."""
    return Mismatch(f'For input string: "{shown(text)}"')


def wrong_kind(value: Any, expected: object) -> Mismatch:
    return Mismatch(f"{_kind(value)} where {expected} is expected")


def _kind(value: Any) -> str:
    match value:
        case Number():
            return f"the number {value.text[:100]}"
        case bool():
            return "a boolean"
        case str():
            return "a string"
    return "an array" if isinstance(value, list) else "an object"


def text_of(value: Any) -> str:
    """The value as JSON, without spaces: numbers as they were sent, a string without its quotes."""
    if isinstance(value, str):
        return value
    return value.text if isinstance(value, Number) else json_of(value).decode()


def json_of(value: Any) -> bytes:
    return msgspec.json.encode(value, enc_hook=_raw)


def _raw(number: Any) -> msgspec.Raw:
    assert isinstance(number, Number)
    return msgspec.Raw(number.text.encode())


def integer(text: str, type_: Scalar) -> int:
    """A whole number, also one that is written with a point or an exponent: 1.0 is 1, and 1.5 is none."""
    value = _whole(text)
    limit = 1 << (INTEGER_BITS[type_.name] - 1)
    if not -limit <= value < limit:
        raise not_a_number(text)
    return value


def _whole(text: str) -> int:
    if len(text) > LONGEST_NUMBER:
        raise not_a_number(text)
    try:
        return int(text)
    except ValueError:
        near = float(text)
    # As a double where it is one without a doubt, which is how whole columns are looked at.
    if abs(near) < EXACT and near.is_integer():
        return int(near)
    exact = Decimal(text)
    if abs(near) < EXACT or not abs(near) < 1e20 or exact != exact.to_integral_value():
        raise not_a_number(text)
    return int(exact)


def floating(text: str, type_: Scalar) -> float:
    """The nearest number of the type; one that is too large for it is refused, not made infinite."""
    value = float(text)
    if type_.name == "float":
        value = pa.scalar(text).cast(pa.float32()).as_py()
    if value in (float("inf"), float("-inf")):
        raise not_a_number(text)
    return value


def decimal(text: str, type_: Scalar) -> Decimal:
    """The very number; one with more digits than the type has is refused."""
    if len(text) > LONGEST_NUMBER or not DECIMAL.fullmatch(text):
        raise not_a_number(text)
    precision, scale = type_.arguments
    value = Decimal(text)
    if abs(value.adjusted()) > 2 * DECIMAL_DIGITS:  # keeps what follows small
        value = Decimal(0) if not value else Decimal("NaN")
    try:
        fitted = value.quantize(Decimal(1).scaleb(-scale), context=Context(prec=precision))
    except InvalidOperation:
        raise not_a_number(text) from None
    if fitted != value:
        raise not_a_number(text)
    return fitted


def cut(text: str, type_: Scalar) -> str:
    """Of char and varchar, as many characters as they hold."""
    return text[: type_.arguments[0]] if type_.arguments else text


def boolean(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    raise wrong_kind(value, "boolean")
