"""The way into one shard: open, held while the shard is split or merged, or closed for good.

It counts appends on their way, so that a split begins when the last of them has its answer.
"""

from __future__ import annotations

import asyncio

from firehose.datastream.contracts import KeptLog, Moved
from firehose.datastream.model import Placed
from firehose.model import Records


class Gate:
    """`records` and `size_bytes` are what went in since the process began."""

    def __init__(self, log: KeptLog) -> None:
        self.log = log
        self.closed = False
        self.records = 0
        self.size_bytes = 0
        self._under_way = 0
        self._released: asyncio.Event | None = None  # while it is held
        self._idle = asyncio.Event()

    async def append(self, records: Records, size_bytes: int) -> Placed:
        while self._released is not None:
            await self._released.wait()
        if self.closed:
            raise Moved
        self._under_way += 1
        try:
            placed = await self.log.append(records)
        finally:
            self._under_way -= 1
            if not self._under_way:
                self._idle.set()
        self.records += records.num_rows
        self.size_bytes += size_bytes
        return placed

    async def hold(self) -> None:
        """Further appends wait; returns once none is under way."""
        self._released = self._released or asyncio.Event()
        while self._under_way:
            self._idle.clear()
            await self._idle.wait()

    def release(self) -> None:
        released, self._released = self._released, None
        if released is not None:
            released.set()
