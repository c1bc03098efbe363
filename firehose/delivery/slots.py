"""Who may work now: worker slots shared out by destination, within one bound of bytes in flight.

One with a thousand segments waits behind one with a single segment no longer than one turn, and never has all the
slots. A turn that lasts and lasts waits for a far side: it gives its slot on, so that several that hang keep nobody
else waiting until they time out. A segment under suspicion runs alone, so that if it kills the process nobody else is
blamed; once it has lived for a while others may join it, but no other suspect.
"""

from __future__ import annotations

import asyncio
from collections import Counter, OrderedDict, deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

LASTING_SECONDS = 10.0  # of a turn: what works and does not wait is over by then
LASTING_TURNS = 4  # for each worker, that may go on without a slot

Whose = tuple[str, str]  # a stream, and its destination


@dataclass(slots=True)
class _Turn:
    size_bytes: int
    alone: bool
    granted: asyncio.Future[None]
    lasting: bool = False


class Slots:
    """`workers` turns at once, for one destination all but one of them, of together at most `limit_bytes`. Where all
    others last, or there are none, a turn may be larger than that. `gives_on`: whether turns that last give their slot
    on; where the bytes are memory that they hold, they do not.
    """

    def __init__(self, workers: int, limit_bytes: int, gives_on: bool = True) -> None:
        self._workers = workers
        self._limit_bytes = limit_bytes
        self._gives_on = gives_on
        self._share = max(1, workers - 1)
        self._working = Counter[Whose]()  # turns
        self._bytes = 0
        self._lasting = 0
        self._suspect: _Turn | None = None  # that works now
        self._waiting = OrderedDict[Whose, deque[_Turn]]()  # who got a turn moves to the end

    @property
    def bytes_in_flight(self) -> int:
        return self._bytes

    @property
    def threads(self) -> int:
        """How many calls that block there may be at once, one for each turn."""
        return self._workers * (1 + LASTING_TURNS)

    @asynccontextmanager
    async def turn(self, stream: str, destination: str, size_bytes: int, alone: bool = False) -> AsyncIterator[None]:
        loop, whose = asyncio.get_running_loop(), (stream, destination)
        turn = _Turn(size_bytes, alone, loop.create_future())
        self._waiting.setdefault(whose, deque()).append(turn)
        self._grant()
        try:
            await turn.granted
        except asyncio.CancelledError:
            if turn.granted.done() and not turn.granted.cancelled():
                self._give_back(whose, turn)
            else:
                turn.granted.cancel()
                self._leave(whose, turn)
                self._grant()
            raise
        timer = loop.call_later(LASTING_SECONDS, self._lasts, turn)
        try:
            yield
        finally:
            timer.cancel()
            self._give_back(whose, turn)

    def _grant(self) -> None:
        """Hands out turns, one destination after the other, as long as there is room for the next."""
        while self._busy < self._workers and (whose := self._next()) is not None:
            turn = self._waiting[whose][0]
            if not self._fits(turn):
                self._waiting.move_to_end(whose, last=False)
                return
            self._waiting.move_to_end(whose)
            self._leave(whose, turn)
            self._working[whose] += 1
            self._bytes += turn.size_bytes
            if turn.alone:
                self._suspect = turn
            turn.granted.set_result(None)

    @property
    def _busy(self) -> int:
        """Slots that are taken."""
        return self._working.total() - min(self._lasting, self._workers * LASTING_TURNS)

    def _next(self) -> Whose | None:
        """Whose turn is next; not one that has its share, nor one whose first has given up and is about to leave."""
        for whose, queue in self._waiting.items():
            turn = queue[0]
            waits = not turn.granted.cancelled() and not (turn.alone and self._suspect)
            if waits and self._working[whose] < self._share:
                return whose
        return None

    def _leave(self, whose: Whose, turn: _Turn) -> None:
        """It waits no longer."""
        queue = self._waiting[whose]
        queue.remove(turn)
        if not queue:
            del self._waiting[whose]

    def _fits(self, turn: _Turn) -> bool:
        if self._suspect is not None and not self._suspect.lasting:
            return False
        if self._lasting == self._working.total():  # nobody works, but may wait: somebody always goes on
            return True
        return self._bytes + turn.size_bytes <= self._limit_bytes and not turn.alone

    def _lasts(self, turn: _Turn) -> None:
        if not self._gives_on:
            return
        turn.lasting = True
        self._lasting += 1
        self._grant()

    def _give_back(self, whose: Whose, turn: _Turn) -> None:
        self._working[whose] -= 1
        if not self._working[whose]:
            del self._working[whose]
        self._bytes -= turn.size_bytes
        self._lasting -= turn.lasting
        if self._suspect is turn:
            self._suspect = None
        self._grant()
