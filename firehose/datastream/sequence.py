"""Sequence numbers, hash keys and shard ids: arithmetic on names, no state.

Source: data-streams.md section 3. A sequence number is 47 hex digits written as a decimal string; clients compare it
as an integer and otherwise leave it alone. The record's counter stands before its time, so a counter that never goes
back is all that order needs.

    hex digit   0      1-9                  10                 11-26     27-28  29-37               38-45   46
    content     2      shard's creation, s  shard, last digit  counter   00     record's arrival, s  shard   2
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from hashlib import md5

KEY_SPACE = 1 << 128  # hash keys are the integers below it
CLOSED_COUNTER = (1 << 63) - 1  # of the number that a closed shard ends with
NUMBER = re.compile(r"0|[1-9]\d{0,128}")
_FIRST_DIGIT = 2 << 184
_VERSION = 2
_SHARD_ID = re.compile(r"(?:[^-]*-)?(\d+)")
_SHARD_LIMIT = 1 << 31


@dataclass(frozen=True, slots=True)
class Sequence:
    """What a sequence number says."""

    created_s: int  # when its shard was created, seconds since the epoch
    shard: int
    counter: int
    arrival_s: int

    def __str__(self) -> str:
        return number(base(self.created_s, self.shard), self.counter, self.arrival_s)


def base(created_s: int, shard: int) -> int:
    """What all numbers of one shard have in common."""
    return _FIRST_DIGIT | created_s << 148 | (shard & 15) << 144 | shard << 4 | _VERSION


def number(shard_base: int, counter: int, arrival_s: int) -> str:
    """The number of the record that `counter` counts, arrived in second `arrival_s` of the epoch."""
    return str(shard_base | counter << 80 | arrival_s << 36)


def numbers(shard_base: int, counter: int, count: int, arrival_s: int) -> list[str]:
    """Those of so many records that arrived together, the first of them counted by `counter`."""
    first = shard_base | counter << 80 | arrival_s << 36
    return [str(first + (place << 80)) for place in range(count)]


def parse(text: str) -> Sequence | None:
    """What the number says; None where it is none of ours."""
    if not NUMBER.fullmatch(text):
        return None
    value = int(text)
    shard = value >> 4 & 0xFFFFFFFF
    fixed = value >> 184, value >> 72 & 0xFF, value & 15, value >> 144 & 15
    if fixed != (2, 0, _VERSION, shard & 15) or value >> 143 & 1:
        return None
    return Sequence(value >> 148 & (1 << 36) - 1, shard, value >> 80 & (1 << 63) - 1, value >> 36 & (1 << 36) - 1)


def hash_key(partition_key: str) -> int:
    """Where a partition key falls in the key space."""
    return int.from_bytes(md5(partition_key.encode(), usedforsecurity=False).digest(), "big")


def even_ranges(count: int) -> list[tuple[int, int]]:
    """The key space cut into so many ranges, both ends inclusive, as AWS cuts it for a new stream."""
    step = KEY_SPACE // count
    starts = [number * step for number in range(count)]
    return [(start, end - 1) for start, end in zip(starts, [*starts[1:], KEY_SPACE], strict=True)]


def shard_id(shard: int) -> str:
    return f"shardId-{shard:012d}"


def shard_number(text: str) -> int | None:
    """The shard that an id names, as leniently as AWS: what follows the first '-' counts. None where it names none."""
    found = _SHARD_ID.fullmatch(text)
    if found is None or len(found[1]) > 20 or int(found[1]) >= _SHARD_LIMIT:
        return None
    return int(found[1])
