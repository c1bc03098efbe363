"""What every outbox over the ledger does alike: it offers, and writes down what became of what it offered."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

from firehose.buffer.ledger import Ledger
from firehose.buffer.offered import Offered
from firehose.buffer.reading import told_as_retry
from firehose.contracts import Memo
from firehose.model import Segment, SegmentKey
from firehose.runtime import Threads

T = TypeVar("T")


@dataclass(slots=True)
class Outgoing(Offered):
    """One destination of a stream, and what waits for it."""

    stream: str
    destination: str
    _ledger: Ledger
    _threads: Threads

    async def hold(self, segment: Segment, reason: str) -> None:
        await self._blocking(partial(self._log, {"t": "held", "why": reason}, segment))

    async def rest(self, segment: Segment) -> None:
        """An attempt failed, and the process has survived it: earlier deaths were not this segment's doing."""
        await self._blocking(partial(self._log, {"t": "resting"}, segment, sync=False))

    def deaths(self, segment: Segment) -> int:
        """How often in a row the delivery process died while it was trying this."""
        return self._ledger.book.deaths.get((segment.key, self.destination), 0)

    def memo(self, segment: Segment) -> Memo:
        return LedgerMemo(self._ledger, segment.key, self.destination)

    def _log(self, entry: dict[str, Any], segment: Segment, sync: bool = True) -> None:
        self._ledger.append({**entry, "s": segment.key, "d": self.destination}, sync=sync)

    async def _blocking(self, call: Callable[[], T]) -> T:
        """Runs disk calls in a thread: what belongs together goes in one call, since each hand-over costs more than
        most of them. A disk that fails is a reason to try again.
        """
        with told_as_retry():
            return await self._threads.run(call)


@dataclass(frozen=True, slots=True)
class LedgerMemo:
    """A `Memo` in the ledger."""

    _ledger: Ledger
    _key: SegmentKey
    _destination: str

    def read(self) -> tuple[str, ...]:
        return tuple(self._ledger.book.memos.get((self._key, self._destination), ()))

    def write(self, note: str) -> None:
        self._append({"note": note}, sync=True)

    def forget(self, note: str) -> None:
        self._append({"note": note, "gone": True}, sync=False)

    def _append(self, said: dict[str, Any], sync: bool) -> None:
        with told_as_retry():
            self._ledger.append({"t": "memo", "s": self._key, "d": self._destination, **said}, sync=sync)
