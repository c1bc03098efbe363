"""Requests that are ready to be handled take turns, so that a stream with many does not hold up a stream with few.

What an answer costs is paid in the event loop, and an answer takes several turns of it: a burst of one stream's bodies
in each of them would add up to many times what another stream's small request takes by itself. So each turn handles
only so much, one request of each stream after the other; a request that comes when nothing waits is handled at once.
A request that has waited for too long is turned away, and so are its stream's next ones meanwhile, and only its:
whoever sends more than can be taken hears of it soon, while it is cheap to say so, and what is taken waited no longer.
Where a round of all streams, or one turn of the loop, takes longer than that, those who wait alone are, too.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Hashable

TURN_BYTES = 512 * 1024  # of bodies handled in one turn of the loop: about a millisecond's work
SHARED_TURN_BYTES = 64 * 1024  # while several streams send: an answer takes five turns, and each is as long as this
SHARED_SECONDS = 1.0  # since two requests in a row were for different streams
REQUEST_BYTES = 4 * 1024  # what a request costs beside its body, in the same coin

Handle = Callable[[], None]
Ready = tuple[float, int, Handle, Handle]  # since when, bytes of the body, what to do, and what where it is too late


class Turns:
    """`waiting` requests are bounded by the connections: each has at most one."""

    def __init__(self, patience_seconds: float = 1.0) -> None:
        """`patience_seconds`: how long a request may wait."""
        self._patience_seconds = patience_seconds
        self._left = TURN_BYTES
        self._turn_is_due = False
        self._last: Hashable = None
        self._shared_until = 0.0
        self._ready: dict[Hashable, deque[Ready]] = {}  # in the order of the streams' next turns

    @property
    def waiting(self) -> int:
        return sum(map(len, self._ready.values()))

    def take(self, stream: Hashable, size_bytes: int, handle: Handle, refuse: Handle) -> None:
        """Calls `handle` now or in one of the next turns; or `refuse`, where that takes, or would take, too long."""
        if not self._turn_is_due:
            self._turn_is_due = True
            asyncio.get_running_loop().call_soon(self._begin)
        if stream != self._last:
            self._last, self._shared_until = stream, asyncio.get_running_loop().time() + SHARED_SECONDS
        if not self._ready and self._left > 0:
            self._left -= size_bytes + REQUEST_BYTES
            handle()
            return
        requests = self._ready.setdefault(stream, deque())
        if requests and self._is_too_late(requests[0][0]):
            refuse()
        else:
            requests.append((asyncio.get_running_loop().time(), size_bytes, handle, refuse))

    def _is_too_late(self, since: float) -> bool:
        return asyncio.get_running_loop().time() - since > self._patience_seconds

    def _begin(self) -> None:
        shared = self._shared_until > asyncio.get_running_loop().time()
        self._left, self._turn_is_due = SHARED_TURN_BYTES if shared else TURN_BYTES, False
        while self._ready and self._left > 0:
            self._handle_next()
        if self._ready and not self._turn_is_due:
            self._turn_is_due = True
            asyncio.get_running_loop().call_soon(self._begin)

    def _handle_next(self) -> None:
        """One request of the stream whose turn it is, which then goes behind the others."""
        stream = next(iter(self._ready))
        requests = self._ready.pop(stream)
        since, size_bytes, handle, refuse = requests.popleft()
        if requests:
            self._ready[stream] = requests
        if self._is_too_late(since):
            self._left -= REQUEST_BYTES
            refuse()
        else:
            self._left -= size_bytes + REQUEST_BYTES
            handle()
