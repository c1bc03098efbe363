"""Records packed as the Kinesis Producer Library packs them: data-streams.md has the format."""

from __future__ import annotations

from hashlib import md5

from firehose.ingest.aggregated import MAGIC


def varint(value: int) -> bytes:
    low, rest = value & 0x7F, value >> 7
    return bytes([low | 0x80]) + varint(rest) if rest else bytes([low])


def field(number: int, value: int | bytes) -> bytes:
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    return varint(number << 3 | 2) + varint(len(value)) + value


def sealed(message: bytes) -> bytes:
    return MAGIC + message + md5(message).digest()


def packed(records: list[tuple[str, int | None, bytes]]) -> bytes:
    """As the library packs them: keys in tables, each once."""
    keys = list(dict.fromkeys(key for key, _, _ in records))
    hashes = list(dict.fromkeys(explicit for _, explicit, _ in records if explicit is not None))
    message = b"".join(field(1, key.encode()) for key in keys) + b"".join(field(2, b"%d" % one) for one in hashes)
    for key, explicit, data in records:
        inner = field(1, keys.index(key))
        inner += b"" if explicit is None else field(2, hashes.index(explicit))
        message += field(3, inner + field(3, data) + field(4, field(1, b"tag") + field(2, b"of it")))
    return sealed(message)
