"""Undoes snappy, block or framed stream. It must never hold more than the limit, whatever a body promises."""

from __future__ import annotations

import cramjam

from firehose.inflating import TooLarge

_STREAM = b"\xff\x06\x00\x00sNaPpY"
_MAX_CHUNKS = 1 << 16  # 4 GiB in chunks as writers make them; bounds the walk over tiny ones
_COMPRESSED = 0x00


def unsnappy(body: bytes, limit_bytes: int) -> bytes:
    """Both forms declare their size, which is believed only as far as refusing goes: the decoder checks it. Raises
    `TooLarge`; EOFError, OSError for what is no whole snappy.
    """
    try:
        framed = body.startswith(_STREAM)
        declared_bytes = _framed_bytes(body) if framed else cramjam.snappy.decompress_raw_len(body)
        if declared_bytes > limit_bytes:
            raise TooLarge(limit_bytes)
        return bytes(cramjam.snappy.decompress(body) if framed else cramjam.snappy.decompress_raw(body))
    except cramjam.DecompressionError as problem:
        raise OSError(str(problem)) from problem


def _framed_bytes(body: bytes) -> int:
    """Adds up what the compressed chunks declare. What stands in the others is no larger than the body is."""
    position = total_bytes = 0
    for _ in range(_MAX_CHUNKS):
        if position >= len(body):
            return total_bytes
        kind, size_bytes = body[position], int.from_bytes(body[position + 1 : position + 4], "little")
        content = position + 8  # behind the chunk's header and checksum
        position += 4 + size_bytes
        if kind == _COMPRESSED:
            total_bytes += cramjam.snappy.decompress_raw_len(body[content : content + 5])
    raise EOFError(f"more than {_MAX_CHUNKS} chunks")
