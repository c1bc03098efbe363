"""Who may work now: worker slots shared out by stream, within one bound of bytes in flight.

A stream with a thousand segments waits behind a stream with one no longer than one turn, and never has all the slots:
a far side that hangs would keep every other stream waiting until it times out. A segment under suspicion runs alone,
so that if it kills the process nobody else is blamed.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass


@dataclass(slots=True)
class _Turn:
    size_bytes: int
    alone: bool
    granted: asyncio.Future[None]


class Slots:
    """`workers` turns at once, for one stream all but one of them, of together at most `limit_bytes`. One turn that is
    alone may be larger than that.
    """

    def __init__(self, workers: int, limit_bytes: int) -> None:
        self._workers = workers
        self._limit_bytes = limit_bytes
        self._share = max(1, workers - 1)
        self._working = Counter[str]()  # turns by stream
        self._bytes = 0
        self._alone = False
        self._waiting: dict[str, deque[_Turn]] = {}  # by stream; a stream that got a turn moves to the end

    @property
    def bytes_in_flight(self) -> int:
        return self._bytes

    @asynccontextmanager
    async def turn(self, stream: str, size_bytes: int, alone: bool = False) -> AsyncIterator[None]:
        turn = _Turn(size_bytes, alone, asyncio.get_running_loop().create_future())
        self._waiting.setdefault(stream, deque()).append(turn)
        self._grant()
        try:
            await turn.granted
        except asyncio.CancelledError:
            if turn.granted.done() and not turn.granted.cancelled():
                self._give_back(stream, turn)
            else:
                turn.granted.cancel()
                self._grant()
            raise
        try:
            yield
        finally:
            self._give_back(stream, turn)

    def _grant(self) -> None:
        """Hands out turns, one stream after the other, as long as there is room for the next."""
        while self._working.total() < self._workers and (stream := self._next_stream()) is not None:
            queue = self._waiting.pop(stream)
            turn = queue[0]
            if not self._fits(turn):
                self._waiting = {stream: queue, **self._waiting}
                return
            queue.popleft()
            if queue:
                self._waiting[stream] = queue
            self._working[stream] += 1
            self._bytes += turn.size_bytes
            self._alone = turn.alone
            turn.granted.set_result(None)

    def _next_stream(self) -> str | None:
        """The stream whose turn is next, once those who gave up waiting are gone; not one that has its share."""
        for stream in list(self._waiting):
            queue = self._waiting[stream]
            while queue and queue[0].granted.cancelled():
                queue.popleft()
            if not queue:
                del self._waiting[stream]
            elif self._working[stream] < self._share:
                return stream
        return None

    def _fits(self, turn: _Turn) -> bool:
        if not self._working:
            return True
        room = self._bytes + turn.size_bytes <= self._limit_bytes
        return room and not turn.alone and not self._alone

    def _give_back(self, stream: str, turn: _Turn) -> None:
        self._working[stream] -= 1
        if not self._working[stream]:
            del self._working[stream]
        self._bytes -= turn.size_bytes
        self._alone = False
        self._grant()
