"""Undoes the Content-Encoding of a request body, so that the dialects see what the agent wrote.

Source: ingest-clients.md sections 1 (rule 8) and 4.1 (step 1): gzip from everybody, zlib-wrapped deflate, zstd, raw
snappy, and a body that is gzip although no header says so. It must never hold more than the limit plus one block of
inflated bytes, whatever a body promises, and never hand out part of a body that ends too early.
"""

from __future__ import annotations

from collections.abc import Callable

import pyarrow as pa
from isal import isal_zlib

from firehose.inflating import GZIP_MAGIC, ISAL_ERROR, TooLarge, gunzip, read_all

MAX_ENCODINGS = 3
_GZIP_NAMES = frozenset({"gzip", "x-gzip"})
_WITH_ZLIB_HEADER, _WITHOUT_HEADER = 15, -15


class Undecodable(Exception):
    """The body cannot be inflated: an unknown encoding, or wrong, corrupt or missing bytes."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def decode(body: bytes, content_encoding: str, limit_bytes: int) -> bytes:
    """The body as it was before its encodings were applied; `body` itself where there is nothing to undo.

    A body that still starts like gzip is inflated once more. Where that fails it is an error only if the sender spoke
    of gzip; otherwise those two bytes were a coincidence and the body stays as it is.
    """
    if not content_encoding and not body.startswith(GZIP_MAGIC) and len(body) <= limit_bytes:
        return body
    names = [name for part in content_encoding.lower().split(",") if (name := part.strip())]
    if len(names) > MAX_ENCODINGS:
        raise Undecodable(f"more than {MAX_ENCODINGS} encodings: {content_encoding[:80]!r}")
    for name in reversed(names):
        body = _undo(name, body, limit_bytes)
    if len(body) > limit_bytes:
        raise TooLarge(limit_bytes)
    return _gunzip_unannounced(body, names, limit_bytes) if body.startswith(GZIP_MAGIC) else body


def _undo(name: str, body: bytes, limit_bytes: int) -> bytes:
    if name == "identity" or not body:
        return body
    inflate = _DECODERS.get(name)
    if inflate is None:
        raise Undecodable(f"unknown encoding {name[:40]!r}")
    try:
        return inflate(body, limit_bytes)
    except (OSError, EOFError, OverflowError, ISAL_ERROR) as problem:
        raise Undecodable(f"{name}: {problem}") from problem


def _gunzip_unannounced(body: bytes, names: list[str], limit_bytes: int) -> bytes:
    try:
        return _undo("gzip", body, limit_bytes)
    except Undecodable:
        if _GZIP_NAMES.isdisjoint(names):
            return body
        raise


def _unzstd(body: bytes, limit_bytes: int) -> bytes:
    return read_all(pa.CompressedInputStream(pa.BufferReader(body), "zstd"), limit_bytes)


def _inflate(body: bytes, limit_bytes: int) -> bytes:
    """`deflate` means zlib's wrapping, but some senders leave it out."""
    try:
        return _inflate_as(_WITH_ZLIB_HEADER, body, limit_bytes)
    except (EOFError, ISAL_ERROR) as problem:
        try:
            return _inflate_as(_WITHOUT_HEADER, body, limit_bytes)
        except (EOFError, ISAL_ERROR):
            raise problem from None


def _inflate_as(window_bits: int, body: bytes, limit_bytes: int) -> bytes:
    stream = isal_zlib.decompressobj(window_bits)
    whole: bytes = stream.decompress(body, limit_bytes + 1)
    if len(whole) > limit_bytes:
        raise TooLarge(limit_bytes)
    if not stream.eof:
        raise EOFError("the stream ends before its end marker")
    if stream.unused_data:
        raise EOFError("bytes follow the end of the stream")
    return whole


def _unsnappy(body: bytes, limit_bytes: int) -> bytes:
    from firehose.ingest.snappy import unsnappy  # now: 1.6 MB that most agents' bodies have no use for, in 1 ms

    return unsnappy(body, limit_bytes)


_DECODERS: dict[str, Callable[[bytes, int], bytes]] = {
    "gzip": gunzip,
    "x-gzip": gunzip,
    "deflate": _inflate,
    "zstd": _unzstd,
    "snappy": _unsnappy,
}
