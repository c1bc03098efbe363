"""A request's head and a reply, as values: what every hot handler takes and gives.

No server's API appears here, so that the same handler can be carried by any of them.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Coroutine, Hashable, Mapping
from dataclasses import dataclass
from typing import Any

from firehose.http.shared import Pieces

Headers = tuple[tuple[bytes, bytes], ...]
JSON: Headers = ((b"content-type", b"application/json"),)


@dataclass(frozen=True, slots=True)
class Head:
    """A request before its body. Header names are lower case; of a repeated header the last one counts."""

    method: str
    path: str  # percent-decoded
    query: bytes
    headers: Mapping[bytes, bytes]

    def header(self, name: bytes) -> str:
        return self.headers.get(name, b"").decode("latin-1")


@dataclass(frozen=True, slots=True)
class Reply:
    """A whole answer, or one whose body comes in `chunks` instead, for as long as they come. A large body may lie in
    `pieces` instead, which other answers share. Content-Length is the
    carrier's business, and so is to close the chunks where it does not take them to their end.
    """

    status: int
    body: bytes = b""
    headers: Headers = JSON
    chunks: AsyncIterator[bytes] | None = None
    pieces: Pieces = ()


def _path(head: Head, body: bytes) -> Hashable:
    return head.path


def _never(head: Head) -> bool:
    return False


@dataclass(frozen=True, slots=True)
class Route:
    """One hot path. `begin` may answer before the body is read; `finish` answers once it is there."""

    begin: Callable[[Head], Reply | None]
    finish: Callable[[Head, bytes], Coroutine[Any, None, Reply]]
    body_limit_bytes: int
    refuse: Callable[[int, str, float], Reply]  # status, reason, Retry-After seconds: in the route's own dialect
    stream: Callable[[Head, bytes], Hashable] = _path  # what the request is for: streams take turns
    streamed: Callable[[Head], bool] = _never  # whether the answer may come in chunks
