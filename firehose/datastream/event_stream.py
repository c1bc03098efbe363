"""The frames of `application/vnd.amazon.eventstream`: lengths, headers and checksums around a payload.

Source: data-streams.md section 2.5. Both checksums are zlib's; the second covers all that comes before it.
"""

from __future__ import annotations

from collections.abc import Sequence
from struct import Struct

import msgspec
from isal.isal_zlib import crc32

_LENGTHS = Struct(">II")
_CHECKSUM = Struct(">I")
_NAME = Struct(">B")
_TEXT = Struct(">BH")  # type 7, length
_TEXT_TYPE = 7
_AROUND_BYTES = 16  # two lengths, two checksums
_JSON = (":content-type", "application/json")

Headers = Sequence[tuple[str, str]]


def frame(headers: Headers, payload: bytes) -> bytes:
    said = b"".join(_header(name, value) for name, value in headers)
    lengths = _LENGTHS.pack(_AROUND_BYTES + len(said) + len(payload), len(said))
    begin = lengths + _CHECKSUM.pack(crc32(lengths)) + said
    return b"".join((begin, payload, _CHECKSUM.pack(crc32(payload, crc32(begin)))))


def initial_response() -> bytes:
    """What SDKs want to see first."""
    return frame(((":event-type", "initial-response"), _JSON, (":message-type", "event")), b"{}")


def event(kind: str, payload: bytes) -> bytes:
    return frame(((":event-type", kind), _JSON, (":message-type", "event")), payload)


def exception(code: str, message: str) -> bytes:
    """How a stream of events ends that must not go on."""
    headers = ((":exception-type", code), _JSON, (":message-type", "exception"))
    return frame(headers, msgspec.json.encode({"message": message}))


def _header(name: str, value: str) -> bytes:
    return b"".join((_NAME.pack(len(name)), name.encode(), _TEXT.pack(_TEXT_TYPE, len(value.encode())), value.encode()))
