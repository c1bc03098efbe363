"""The lanes of a stream that a failing disk made us abandon, until the disk lets us seal what is good of each.

Whether a frame whose sync failed is there shows only when its file has been cut behind the last good one. Until then a
crash may bring it back, so appends of the same source partitions have to wait for that.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from functools import partial

from firehose.buffer import layout, recovery
from firehose.buffer.lane import Lane
from firehose.buffer.state import Workplace
from firehose.model import Segment

MEND_SECONDS = 1.0
ABANDONED_LIMIT = 4  # lanes that wait to be mended; at it nothing more is tried on this disk


class Mending:
    """Mends each abandoned lane, again and again until it is mended, and tells `mended` what became of it: its segment,
    and the bytes of its file. None where there is no record in it, or where it has been delivered already.
    """

    def __init__(self, at: Workplace, mended: Callable[[Lane, Segment | None, int], None]) -> None:
        self._at = at
        self._mended = mended
        self._doubtful: dict[Lane, set[str]] = {}  # and the source partitions whose newest origin each may hold
        self._tasks: set[asyncio.Task[None]] = set()
        self._closed = False
        self.sealing = 0

    @property
    def lanes(self) -> Iterable[Lane]:
        return self._doubtful.keys()

    @property
    def full(self) -> bool:
        return len(self._doubtful) >= ABANDONED_LIMIT

    def doubts(self, partition: str) -> bool:
        return any(partition in doubtful for doubtful in self._doubtful.values())

    def add(self, lane: Lane, good_bytes: int, doubtful: set[str]) -> None:
        """`good_bytes` of its open file are known to be durable."""
        self._doubtful[lane] = doubtful
        self._later(lane, good_bytes)

    async def close(self) -> None:
        """Begins nothing more, and waits for what is under way."""
        self._closed = True
        await asyncio.gather(*self._tasks)

    def _later(self, lane: Lane, good_bytes: int) -> None:
        def begin() -> None:
            if self._closed:
                return  # the next start mends it
            task = asyncio.get_running_loop().create_task(self._mend(lane, good_bytes))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

        self._at.runtime.after(MEND_SECONDS, begin)

    async def _mend(self, lane: Lane, good_bytes: int) -> None:
        self.sealing += 1
        try:
            segment = await self._at.threads.run(partial(self._made_whole, lane, good_bytes, self._at.version()))
        except Exception as error:  # a bug too must not leave it unmended for want of a second try
            self._at.failed(f"mending the buffer of '{self._at.stream}' failed: {error}")
            self._later(lane, good_bytes)
            return
        finally:
            self.sealing -= 1
        del self._doubtful[lane]
        lane.close()
        self._mended(lane, segment, good_bytes)

    def _made_whole(self, lane: Lane, good_bytes: int, version: int) -> Segment | None:
        assert lane.open is not None
        disk, data_dir, stream = self._at.disk, self._at.data_dir, self._at.stream
        folder = layout.lane_folder(data_dir, stream, lane.name)
        first = lane.open.first
        if not recovery.mend(disk, folder, lane.name, first, version, recovery.Recovered(), good_bytes):
            return None
        return recovery.read_segment(disk, data_dir, (stream, lane.name, first))
