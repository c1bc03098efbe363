"""How a body is written: JSON now, CBOR beside it; an operation knows only the values.

Source: data-streams.md section 1.2. Between an operation and its codec blobs are bytes and instants are `Millis`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any, Protocol

import msgspec
import pybase64

from firehose.http import aws_json
from firehose.http.aws_json import Notation, Shape
from firehose.http.shared import Pieces

LAST_MILLISECOND = 253_402_300_799_999  # of the year 9999: no calendar goes on behind it


class Millis(int):
    """An instant in milliseconds since the epoch; each codec writes it in its own way."""


def instant(milliseconds: float) -> Millis:
    """Raises ValueError where that is no instant of four-digit years."""
    if not -LAST_MILLISECOND <= milliseconds <= LAST_MILLISECOND:
        raise ValueError("an instant is out of all calendars")
    return Millis(round(milliseconds))


class Codec(Protocol):
    """One way to write requests and answers."""

    @property
    def content_type(self) -> bytes: ...

    def read(self, body: bytes, shape: Shape) -> dict[str, Any]:
        """The members that the shape has: blobs as bytes, instants as `Millis`, null and absent the same. Raises
        `ApiError`: first for what cannot be read, then for all broken constraints at once.
        """
        ...

    def write(self, answer: Mapping[str, Any]) -> bytes:
        """Texts, numbers, booleans, bytes, `Millis`, and lists and maps of these. A member that is None is left out."""
        ...


# The request's body in, the answer's out. Raises ApiError.
CodedOperation = Callable[[bytes, Codec], Awaitable[bytes | Pieces]]
# The request's body in JSON; answered by whole frames of an event stream. Raises ApiError before the first of them.
StreamingOperation = Callable[[bytes], Awaitable[AsyncIterator[bytes]]]


def _in_seconds(value: float, path: str) -> Millis:
    try:
        return instant(value * 1000)
    except ValueError as error:
        raise aws_json.unreadable(f"At '{path}' {error}.") from None


IN_JSON = Notation(aws_json.JSON_TYPES, {"blob": aws_json.in_base64, "timestamp": _in_seconds})


class JsonCodec:
    """AWS JSON 1.1: blobs in base64, instants in seconds."""

    content_type = b"application/x-amz-json-1.1"

    def read(self, body: bytes, shape: Shape) -> dict[str, Any]:
        return aws_json.read(body, shape, IN_JSON, in_full)

    def write(self, answer: Mapping[str, Any]) -> bytes:
        return msgspec.json.encode(_plain(answer))


def in_full(value: Any, path: str) -> str:
    """A refused value as Kinesis repeats it: nested ones too, blobs as Java prints them. Lists and maps are not: they
    hold records.
    """
    if isinstance(value, list | dict):
        return ""
    if isinstance(value, bytes):
        return f" 'java.nio.HeapByteBuffer[pos=0 lim={len(value)} cap={len(value)}]'"
    return " null" if value is None else f" '{str(value)[: aws_json.SHOWN_CHARACTERS]}'"


def _plain(value: Any) -> Any:
    """What JSON can say."""
    if isinstance(value, Millis):
        return value / 1000
    if isinstance(value, bytes):
        return pybase64.b64encode_as_string(value)
    if isinstance(value, Mapping):
        return {name: _plain(item) for name, item in value.items() if item is not None}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value
