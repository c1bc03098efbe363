"""Which open shard takes a record: by the MD5 of its partition key, or by the hash key that was given instead.

Source: data-streams.md section 3. Hash keys are compared as the 16 bytes that MD5 gives, whose order is that of the
numbers: no record's hash becomes an integer.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from itertools import count

from firehose.datastream.model import Definition, Shard
from firehose.datastream.sequence import KEY_SPACE

try:  # the interpreter's own: OpenSSL's takes twice as long for what is as short as a key
    from _md5 import md5  # type: ignore[import-not-found]
except ImportError:
    from hashlib import md5 as openssl_md5

    md5 = partial(openssl_md5, usedforsecurity=False)

Rows = list[int]  # of a request, in its order
Groups = Sequence[tuple[Shard, Rows]]  # what each shard takes
STREAMS = 1000  # whose routes are kept


class Routes:
    """The open shards of one definition, in the order of their hash keys."""

    def __init__(self, definition: Definition) -> None:
        self.definition = definition
        self._shards = sorted((shard for shard in definition.shards if shard.open), key=lambda shard: shard.start)
        self._ends = [hash_bytes(shard.end) for shard in self._shards]
        self._even = definition.distribution == "AUTO"
        self._turns = count()

    def groups(self, rows: Rows, keys: list[bytes], hash_keys: Mapping[int, int]) -> Groups:
        """The rows that each shard takes, in their order. `hash_keys` are those of rows that gave one."""
        assert self._shards, "each hash key of an active stream has its open shard"
        if len(self._shards) == 1:
            return [(self._shards[0], rows)]
        found: list[Rows] = [[] for _ in self._shards]
        for row, place in zip(rows, self._places(rows, keys, hash_keys), strict=True):
            found[place].append(row)
        return [(shard, taken) for shard, taken in zip(self._shards, found, strict=True) if taken]

    def _places(self, rows: Rows, keys: list[bytes], hash_keys: Mapping[int, int]) -> Iterable[int]:
        """For each row, which of the shards."""
        if self._even:
            return [next(self._turns) % len(self._shards) for _ in rows]
        ends = self._ends
        if not hash_keys:  # in one go: each step less is one less for each record
            return [bisect_left(ends, md5(keys[row]).digest()) for row in rows]
        return [
            bisect_left(ends, hash_bytes(hash_keys[row]) if row in hash_keys else _hashed(keys[row])) for row in rows
        ]


class Router:
    """The routes of streams as they stand."""

    def __init__(self) -> None:
        self._known: dict[str, Routes] = {}

    def routes(self, definition: Definition) -> Routes:
        known = self._known.get(definition.id)
        if known is not None and known.definition is definition:
            return known
        if len(self._known) >= STREAMS:
            self._known.clear()
        made = self._known[definition.id] = Routes(definition)
        return made


def _hashed(key: bytes) -> bytes:
    digest: bytes = md5(key).digest()
    return digest


def hash_bytes(hash_key: int) -> bytes:
    assert 0 <= hash_key < KEY_SPACE
    return hash_key.to_bytes(16, "big")
