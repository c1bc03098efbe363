"""Shard iterators: tokens that say where reading goes on, signed, so that only we make them, and kept nowhere.

Source: data-streams.md sections 2.4 and 3. A token names the stream with its id, so that it is worth nothing for one
that was deleted and created again, and lives for five minutes. Its age is told by a clock that starts with the
process's wall clock and never goes back: putting the clock back keeps no token alive, and makes none invalid. The key
outlives the process, and so do the tokens.
"""

from __future__ import annotations

import hmac
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import blake2b
from itertools import count
from struct import Struct

from firehose.datastream.model import Definition
from firehose.datastream.refusals import invalid
from firehose.http.aws_json import ApiError
from firehose.runtime import Runtime, utc

VERSION = 1
LIFE_MS = 300_000
_HEAD = Struct(">BQIIQ16s")  # version, issued, which of those, shard, position, stream's id; then its name
_SIGNATURE_BYTES = 16


@dataclass(frozen=True, slots=True)
class Place:
    """Where reading goes on: what an iterator says."""

    stream: str
    id_hash: bytes
    shard: int
    position: int

    def within(self, definition: Definition) -> bool:
        """Whether it is this very stream's, and not one's that had its name before."""
        return self.stream == definition.name and self.id_hash == _id_hash(definition.id)


class Iterators:
    """Makes and reads tokens. Made in a running event loop, whose clock it goes by."""

    def __init__(self, secret: Callable[[], bytes], runtime: Runtime) -> None:
        self._secret = secret
        self._runtime = runtime
        self._ahead_ms = runtime.now_ms() - runtime.monotonic() * 1000
        self._issued = count()

    def issue(self, definition: Definition, shard: int, position: int) -> str:
        """No two are the same."""
        number = next(self._issued) & 0xFFFFFFFF
        head = _HEAD.pack(VERSION, self._now_ms(), number, shard, position, _id_hash(definition.id))
        said = head + definition.name.encode()
        return urlsafe_b64encode(self._signature(said) + said).decode()

    def read(self, text: str) -> Place:
        """Raises `ApiError` where it is none of ours, or too old. Some clients leave JSON's quotes around it."""
        said = self._said(text.strip('"'))
        if said is None:
            raise invalid("Invalid ShardIterator.")
        version, issued_ms, _, shard, position, id_hash = _HEAD.unpack_from(said)
        if version != VERSION:
            raise invalid("Invalid ShardIterator.")
        if abs(self._now_ms() - issued_ms) > LIFE_MS:  # ahead: by a process whose clock was
            raise self._expired(issued_ms)
        return Place(said[_HEAD.size :].decode(), id_hash, shard, position)

    def _said(self, text: str) -> bytes | None:
        """What the token says, if it is one of ours."""
        try:
            token = urlsafe_b64decode(text.encode())
        except ValueError:
            return None
        signature, said = token[:_SIGNATURE_BYTES], token[_SIGNATURE_BYTES:]
        return said if hmac.compare_digest(signature, self._signature(said)) and len(said) > _HEAD.size else None

    def _signature(self, said: bytes) -> bytes:
        return hmac.digest(self._secret(), said, "sha256")[:_SIGNATURE_BYTES]

    def _now_ms(self) -> int:
        return int(self._runtime.monotonic() * 1000 + self._ahead_ms)

    def _expired(self, issued_ms: int) -> ApiError:
        message = (
            f"Iterator expired. The iterator was created at time {_date(issued_ms)} while right now it is "
            f"{_date(self._now_ms())} which is further in the future than the tolerated delay of {LIFE_MS} "
            "milliseconds."
        )
        return ApiError("ExpiredIteratorException", message)


def _id_hash(stream_id: str) -> bytes:
    return blake2b(stream_id.encode(), digest_size=16).digest()


def _date(ms: int) -> str:
    return f"{utc(ms):%a %b %d %H:%M:%S UTC %Y}"
