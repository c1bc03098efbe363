"""What an outbox offers: segments in a line, until whoever delivers takes them up."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from firehose.model import Segment


@dataclass(slots=True, kw_only=True)
class Offered:
    """For one taker."""

    _offered: deque[Segment] = field(default_factory=deque, init=False)
    _more: asyncio.Event = field(default_factory=asyncio.Event, init=False)
    _closed: bool = field(default=False, init=False)

    @property
    def waiting(self) -> int:
        """Segments offered and not yet taken up."""
        return len(self._offered)

    def offer(self, segment: Segment) -> None:
        self._offered.append(segment)
        self._more.set()

    def close(self) -> None:
        self._closed = True
        self._more.set()

    async def sealed(self) -> AsyncIterator[Segment]:
        """Until it is closed."""
        while not self._closed:
            while self._offered and not self._closed:
                yield self._offered.popleft()
            self._more.clear()
            if not self._offered and not self._closed:
                await self._more.wait()
