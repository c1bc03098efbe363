"""Undoes gzip within a limit, for whoever is handed it: request bodies and records.

It must never hold more than the limit plus one block of inflated bytes, whatever the input promises, take longer than
in proportion to what goes in and comes out, or hand out part of an input that ends too early.
"""

from __future__ import annotations

import io
from typing import Any

from isal import igzip, isal_zlib

GZIP_MAGIC = b"\x1f\x8b"
BLOCK_BYTES = 1 << 20
ISAL_ERROR: type[Exception] = isal_zlib.error  # type: ignore[assignment]  # its stubs call it an instance
GZIP_ERRORS = (OSError, EOFError, ISAL_ERROR)
_WITH_GZIP_HEADER = 31


class TooLarge(Exception):
    """The input has more than `limit_bytes` bytes once it is inflated."""

    def __init__(self, limit_bytes: int) -> None:
        super().__init__(f"the decoded body has more than {limit_bytes} bytes")
        self.limit_bytes = limit_bytes


def gunzip(packed: bytes, limit_bytes: int) -> bytes:
    """All members, one after the other; zeros may follow them. Raises `TooLarge` or one of `GZIP_ERRORS`.

    One member in one call, which is half the price where little is packed; whatever else it is goes through the reader,
    which knows several members and padding and says what is wrong.
    """
    whole = _member(packed, limit_bytes)
    if whole is not None:
        return whole
    return read_all(igzip.open(io.BytesIO(packed)), limit_bytes)  # type: ignore[no-untyped-call]


def read_all(stream: Any, limit_bytes: int) -> bytes:
    """What the stream holds, read to its end and closed. Raises `TooLarge`, or as the stream does."""
    inflated = io.BytesIO()  # hands its bytes out without copying them
    with stream:
        while block := stream.read(BLOCK_BYTES):
            if inflated.tell() + len(block) > limit_bytes:
                raise TooLarge(limit_bytes)
            inflated.write(block)
    return inflated.getvalue()


def _member(packed: bytes, limit_bytes: int) -> bytes | None:
    member = isal_zlib.decompressobj(_WITH_GZIP_HEADER)
    try:
        whole: bytes = member.decompress(packed, limit_bytes + 1)
    except ISAL_ERROR:
        return None
    if len(whole) > limit_bytes:
        raise TooLarge(limit_bytes)
    return whole if member.eof and not member.unused_data else None
