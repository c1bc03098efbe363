"""AWS's CBOR 1.1: how the Java SDKs write to the data stream and want to be answered.

Source: data-streams.md section 1.2. The part of RFC 8949 that the protocol uses, and nothing beside it: blobs are byte
strings, null is absent, an instant is tag 1 with *milliseconds*, whatever the RFC says. What is read may have definite
or indefinite lengths; what is written has definite ones. A body is hostile until it is read: depth and the number of
values are bounded, no length is believed before its bytes are seen, and whatever is odd is refused by one error.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from typing import Any

from firehose.http import aws_json
from firehose.http.aws_json import Notation, Shape
from firehose.http.codec import Millis, in_full, instant

DEPTH = 16  # the API's own requests are four deep
VALUES = 1 << 16  # in one body: 500 records take 4000. Each costs a step of Python, and all others wait for it
IN_CBOR = Notation({**aws_json.JSON_TYPES, "blob": (bytes,), "timestamp": (Millis,)})
INSTANT = b"\xc1"
NULL = b"\xf6"
_ARGUMENTS = {25: struct.Struct(">H"), 26: struct.Struct(">I"), 27: struct.Struct(">Q")}
_FLOATS = {0xF9: struct.Struct(">e"), 0xFA: struct.Struct(">f"), 0xFB: struct.Struct(">d")}
_SIMPLE: Mapping[int, bool | None] = {0xF4: False, 0xF5: True, 0xF6: None}
_INDEFINITE = 31
_BREAK = 0xFF
_UNSIGNED, _NEGATIVE, _BYTES, _TEXT, _LIST, _MAP, _TAG = range(7)


class CborCodec:
    """AWS CBOR 1.1: blobs as they are, instants in milliseconds."""

    content_type = b"application/x-amz-cbor-1.1"

    def read(self, body: bytes, shape: Shape) -> dict[str, Any]:
        try:
            value = loads(body)
        except ValueError as error:
            raise aws_json.unreadable(f"The request body is not valid CBOR: {error}.") from None
        request: dict[str, Any] = aws_json.typed(value, shape, IN_CBOR)
        aws_json.constrain(request, shape, in_full)
        return request

    def write(self, answer: Mapping[str, Any]) -> bytes:
        return dumps(answer)


def loads(body: bytes) -> Any:
    """The one value that the body is. Raises ValueError for anything else."""
    reader = _Reader(body)
    try:
        value, end = reader.value(0, 0)
    except (IndexError, struct.error):
        raise ValueError("it ends too soon") from None
    if end != len(body):
        raise ValueError("something follows its value")
    return value


class _Reader:
    """Reads values from one body. A method takes where its value begins, and gives where the next one does."""

    def __init__(self, body: bytes) -> None:
        self._body = body
        self._left = VALUES

    def value(self, at: int, depth: int) -> tuple[Any, int]:
        self._left -= 1
        if self._left < 0 or depth > DEPTH:
            raise ValueError(f"it has more than {VALUES} values, or is nested more than {DEPTH} deep")
        first = self._body[at]
        if first >= 0xE0:
            return self._simple(first, at)
        major = first >> 5
        if first & 31 == _INDEFINITE:
            return self._indefinite(major, at + 1, depth)
        argument, at = self._argument(first, at)
        if major in (_TEXT, _BYTES):
            return self._string(major, at, at + argument)
        if major == _MAP:
            return self._map(argument, at, depth + 1)
        if major == _LIST:
            return self._list(argument, at, depth + 1)
        if major == _TAG:
            return self._instant(argument, at, depth + 1)
        return (argument if major == _UNSIGNED else -1 - argument), at

    def _argument(self, first: int, at: int) -> tuple[int, int]:
        """A head's number, and where the head ends."""
        size = first & 31
        if size < 24:
            return size, at + 1
        if size == 24:
            return self._body[at + 1], at + 2
        if size not in _ARGUMENTS:
            raise ValueError(f"byte {first:#04x} begins no value")
        number = _ARGUMENTS[size]
        return number.unpack_from(self._body, at + 1)[0], at + 1 + number.size

    def _string(self, major: int, at: int, end: int) -> tuple[str | bytes, int]:
        if end > len(self._body):
            raise IndexError
        return (self._body[at:end] if major == _BYTES else str(self._body[at:end], "utf-8")), end

    def _map(self, count: int, at: int, depth: int) -> tuple[dict[str, Any], int]:
        found: dict[str, Any] = {}
        for _ in range(count):
            at = self._entry(found, at, depth)
        return found, at

    def _entry(self, into: dict[str, Any], at: int, depth: int) -> int:
        name, at = self.value(at, depth)
        if type(name) is not str:
            raise ValueError("a map has a name that is no text")
        into[name], at = self.value(at, depth)
        return at

    def _list(self, count: int, at: int, depth: int) -> tuple[list[Any], int]:
        found = []
        for _ in range(count):
            value, at = self.value(at, depth)
            found.append(value)
        return found, at

    def _indefinite(self, major: int, at: int, depth: int) -> tuple[Any, int]:
        """Whatever goes on until a break says that it ends."""
        if major == _MAP:
            entries: dict[str, Any] = {}
            while self._body[at] != _BREAK:
                at = self._entry(entries, at, depth + 1)
            return entries, at + 1
        if major not in (_LIST, _TEXT, _BYTES):
            raise ValueError("a number or a tag has no length")
        found = []
        while self._body[at] != _BREAK:
            if major != _LIST and not self._is_piece(major, self._body[at]):
                raise ValueError("a text or byte string has a piece that is none")
            value, at = self.value(at, depth + 1)
            found.append(value)
        return (found if major == _LIST else (b"" if major == _BYTES else "").join(found)), at + 1

    @staticmethod
    def _is_piece(major: int, first: int) -> bool:
        return first >> 5 == major and first & 31 != _INDEFINITE

    def _instant(self, tag: int, at: int, depth: int) -> tuple[Millis, int]:
        """Integers as AWS's clients write them; a float is milliseconds too."""
        if tag != 1:
            raise ValueError(f"tag {tag} is none of the protocol's")
        value, at = self.value(at, depth)
        if type(value) not in (int, float):
            raise ValueError("an instant is no number")
        return instant(value), at

    def _simple(self, first: int, at: int) -> tuple[bool | float | None, int]:
        if first in _SIMPLE:
            return _SIMPLE[first], at + 1
        if first not in _FLOATS:
            raise ValueError(f"byte {first:#04x} begins no value")
        number = _FLOATS[first]
        return number.unpack_from(self._body, at + 1)[0], at + 1 + number.size


def dumps(value: Any) -> bytes:
    """The value in CBOR: texts, numbers, booleans, bytes, `Millis`, and lists and maps of these."""
    pieces: list[bytes] = []
    _write(value, pieces.append)
    return b"".join(pieces)


def head(major: int, argument: int) -> bytes:
    """The first bytes of a value: its kind with its number, length or count."""
    if argument < 24:
        return bytes((major << 5 | argument,))
    if argument < 1 << 8:
        return bytes((major << 5 | 24, argument))
    if argument < 1 << 16:
        return struct.pack(">BH", major << 5 | 25, argument)
    if argument < 1 << 32:
        return struct.pack(">BI", major << 5 | 26, argument)
    return struct.pack(">BQ", major << 5 | 27, argument)


def _write(value: Any, put: Callable[[bytes], None]) -> None:
    if isinstance(value, str):
        text = value.encode()
        put(head(_TEXT, len(text)) + text)
    elif isinstance(value, bytes):
        put(head(_BYTES, len(value)))
        put(value)
    elif isinstance(value, bool):
        put(b"\xf5" if value else b"\xf4")
    elif isinstance(value, int):
        number = head(_UNSIGNED, value) if value >= 0 else head(_NEGATIVE, -1 - value)
        put(INSTANT + number if isinstance(value, Millis) else number)
    elif isinstance(value, float):
        put(struct.pack(">Bd", 0xFB, value))
    elif value is None:
        put(NULL)
    elif isinstance(value, Mapping):
        _write_map(value, put)
    else:
        put(head(_LIST, len(value)))
        for item in value:
            _write(item, put)


def _write_map(value: Mapping[str, Any], put: Callable[[bytes], None]) -> None:
    there = [(name, item) for name, item in value.items() if item is not None]
    put(head(_MAP, len(there)))
    for name, item in there:
        _write(name, put)
        _write(item, put)
