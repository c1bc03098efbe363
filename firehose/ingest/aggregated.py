"""Records that the Kinesis Producer Library packed into one, unpacked.

Source: data-streams.md section 5, firehose.md section 16. A packed record is a magic, a protobuf message and its MD5;
whatever is not exactly that is an ordinary record and passes unchanged. The library packs by the shards that it knows:
after a reshard an aggregate may land in a shard where a part of it does not belong, and is sent again to the right
one, so that such an aggregate is passed over whole, as the Kinesis Client Library does.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import md5

from firehose.datastream.sequence import NUMBER, hash_key

MAGIC = b"\xf3\x89\x9a\xc2"
DIGEST_BYTES = 16
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5  # protobuf's wire types


@dataclass(frozen=True, slots=True)
class UserRecord:
    """One of the records that were packed. `hash_key` is given where the producer gave an explicit one."""

    partition_key: str
    hash_key: int | None
    data: bytes

    def belongs(self, start: int, end: int) -> bool:
        """Whether it falls into these hash keys, both ends inclusive."""
        return start <= (hash_key(self.partition_key) if self.hash_key is None else self.hash_key) <= end


def unpacked(record: bytes) -> list[UserRecord] | None:
    """What was packed into the record; None where it is an ordinary one."""
    message = memoryview(record)[len(MAGIC) : -DIGEST_BYTES]
    if record[: len(MAGIC)] != MAGIC or len(record) <= len(MAGIC) + DIGEST_BYTES:
        return None
    if md5(message, usedforsecurity=False).digest() != record[-DIGEST_BYTES:]:
        return None
    try:
        return _records(message)
    except (ValueError, IndexError, KeyError):
        return None


def _records(message: memoryview) -> list[UserRecord]:
    """Raises ValueError, IndexError, KeyError where the message is not what a producer writes."""
    partition_keys: list[str] = []
    hash_keys: list[int] = []
    packed: list[memoryview] = []
    for number, value in _fields(message):
        if number == 1:
            partition_keys.append(str(_bytes(value), "utf-8"))
        elif number == 2:
            hash_keys.append(_hash_key(str(_bytes(value), "ascii")))
        elif number == 3:
            packed.append(_bytes(value))
    return [_record(fields, partition_keys, hash_keys) for fields in packed]


def _record(fields: memoryview, partition_keys: list[str], hash_keys: list[int]) -> UserRecord:
    said = dict(_fields(fields))  # tags are read over: nobody delivers them
    explicit = said.get(2)
    return UserRecord(
        partition_keys[_index(said[1])],
        None if explicit is None else hash_keys[_index(explicit)],
        bytes(_bytes(said[3])),
    )


def _hash_key(text: str) -> int:
    if not NUMBER.fullmatch(text):
        raise ValueError("a hash key is a decimal number")
    return int(text)


def _bytes(value: int | memoryview) -> memoryview:
    if isinstance(value, int):
        raise ValueError("a number where bytes are expected")
    return value


def _index(value: int | memoryview) -> int:
    if not isinstance(value, int):
        raise ValueError("bytes where a number is expected")
    return value


def _fields(message: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """The message's fields in order: number, and a number or bytes."""
    at = 0
    while at < len(message):
        tag, at = _varint(message, at)
        number, kind = tag >> 3, tag & 7
        if kind == _VARINT:
            value, at = _varint(message, at)
            yield number, value
            continue
        if kind not in (_FIXED64, _BYTES, _FIXED32):
            raise ValueError(f"wire type {kind}")
        size, at = _varint(message, at) if kind == _BYTES else (8 if kind == _FIXED64 else 4, at)
        if at + size > len(message):
            raise ValueError("it ends within a field")
        yield number, message[at : at + size]
        at += size


def _varint(message: memoryview, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        byte = message[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise ValueError("a number of more than 64 bits")
