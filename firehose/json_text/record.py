"""What counts as a record that is one JSON value, strictly and for every transform that reads one alike.

Parsers differ in what they forgive: NaN, a trailing comma, two values on a line. A record that one of them reads as
something else than its neighbour would must not pass at all.
"""

from __future__ import annotations

from typing import Any

import msgspec

_ANY = msgspec.json.Decoder()
_RAW = msgspec.json.Decoder(msgspec.Raw)  # looks at every byte and makes nothing of it


class NotJson(ValueError):
    """The bytes are not one JSON value; the text says why."""


def parted(record: bytes) -> tuple[bytes, bytes]:
    """The record, and the newline that it ends with, where there is one."""
    if not record.endswith(b"\n"):
        return record, b""
    return (record[:-2], b"\r\n") if record.endswith(b"\r\n") else (record[:-1], b"\n")


def text(value: bytes) -> str:
    """The value's text, checked and not read. Raises `NotJson`."""
    _decoded(_RAW, value)
    return _utf8(value)


def fields(value: bytes) -> dict[str, Any]:
    """The fields of an object. Raises `NotJson`, as for every value that is none."""
    read = _decoded(_ANY, value)
    if not isinstance(read, dict):
        raise NotJson("it is not an object")
    _utf8(value)
    return read


def _decoded(decoder: msgspec.json.Decoder[Any], value: bytes) -> Any:
    try:
        return decoder.decode(value)
    except RecursionError:
        raise NotJson("it is nested too deep") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise NotJson(str(error)) from None


def _utf8(value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError as error:
        raise NotJson(f"it is not UTF-8 (byte {error.start})") from None
