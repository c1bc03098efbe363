"""Streams on demand: a shard that takes more than AWS lets one take is split in the middle.

Source: data-streams.md section 4. What a shard took is measured from one look to the next; nothing is foreseen, and no
shards are merged: idle ones cost next to nothing.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from weakref import WeakKeyDictionary

from firehose import observe
from firehose.datastream import lineage
from firehose.datastream.definitions import Kept
from firehose.datastream.live import LiveStream
from firehose.runtime import Runtime

HOT_BYTES_PER_SECOND = 500_000
STREAM_SHARDS = 200  # of one stream: AWS's 200 MB/s


class Growth:
    """Looks at each stream now and then."""

    def __init__(self, runtime: Runtime, shard_limit: int) -> None:
        self._runtime = runtime
        self._shard_limit = shard_limit
        self._seen: WeakKeyDictionary[LiveStream, tuple[float, dict[int, int]]] = WeakKeyDictionary()

    async def grow(self, stream: LiveStream, open_shards: int) -> None:
        """Splits what has been hot since the last look, as far as there is room. Raises OSError."""
        hot = self._hot(stream)
        definition = stream.definition
        if definition.mode != "ON_DEMAND" or definition.status != "ACTIVE" or not hot:
            return
        room = min(STREAM_SHARDS - sum(shard.open for shard in definition.shards), self._shard_limit - open_shards)
        if room > 0:
            await stream.change(partial(_split, hot[:room]))
            observe.log.info("data_stream.grows", stream=definition.name, shards=hot[:room])

    def _hot(self, stream: LiveStream) -> list[int]:
        """Shards that took too much since the last look."""
        now, taken = self._runtime.monotonic(), {number: gate.size_bytes for number, gate in stream.gates.items()}
        before, had = self._seen.get(stream, (now, taken))
        self._seen[stream] = now, taken
        most = (now - before) * HOT_BYTES_PER_SECOND
        return [number for number, size in taken.items() if size - had.get(number, 0) > most]


def _split(hot: list[int], kept: Kept) -> Kept:
    shards = [one for one in kept.definition.shards if one.open and one.number in hot and one.end > one.start]
    steps = tuple(lineage.split(shard, (shard.start + shard.end + 1) // 2) for shard in shards)
    if kept.definition.status != "ACTIVE" or not steps:
        return kept
    return replace(kept, definition=replace(kept.definition, status="UPDATING"), steps=steps)
