"""Which data streams exist: found at a start, made by the API and by the configuration file, swept while they live.

A stream of the file is the file's: the API may read and write it, but not change what the file says of it. One that is
taken out of the file stays, and is the API's from then on: a file that somebody edits never deletes data.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from firehose import observe
from firehose.blocks import GIB
from firehose.contracts import Disk
from firehose.data_stream_config import DataStreamConfig, DataStreamDefaults
from firehose.datastream import lineage
from firehose.datastream.definitions import Definitions, Kept
from firehose.datastream.growth import Growth
from firehose.datastream.live import HOUR_MS, Gone, LiveStream, OpenLog, Site
from firehose.datastream.model import Definition
from firehose.runtime import Runtime, Threads

ON_DEMAND_SHARDS = 4  # that a stream begins with
SWEEP_SECONDS = 60.0
New = Callable[[str, int], Definition]  # of an id and the time: a definition without shards


class LiveStreams:
    """All data streams of a data folder. `named` is kept up to date in place."""

    def __init__(
        self,
        data_dir: str,
        disk: Disk,
        threads: Threads,
        runtime: Runtime,
        open_log: OpenLog,
        defaults: DataStreamDefaults,
    ) -> None:
        self.named: dict[str, LiveStream] = {}
        self.defaults = defaults
        self.definitions = Definitions(disk, data_dir, observe.damaged)
        self._runtime = runtime
        self._threads = threads
        seconds = defaults.transition_seconds
        self._site = Site(self.definitions, runtime, threads, open_log, seconds, self._gone)
        self._creating = asyncio.Lock()
        self._left_ms: dict[str, int] = {}  # streams that are gone, and when the next of their names can be created
        self._growth = Growth(runtime, defaults.shard_limit)
        self._stop_sweeping: Callable[[], None] | None = None
        self.account: dict[str, Any] = {}  # settings that are no stream's

    async def open(self) -> None:
        """Every stream as it was, what was under way completed. Raises `NewerFormat`, OSError."""
        self.account = await self._threads.run(self.definitions.account)
        found = await self._threads.run(lambda: list(self.definitions.read()))
        if found:
            await self._draw_secret()
        for kept in found:
            stream = LiveStream(self._site, kept, self._limit_bytes(None))
            self.named[kept.definition.name] = stream
            await stream.begin()
        self._stop_sweeping = self._runtime.every(SWEEP_SECONDS, self.sweep)

    def secret(self) -> bytes:
        """That iterators are sealed with, for as long as the data folder lives. It is there before the first stream."""
        return str(self.account.get("Secret", "")).encode()

    async def _draw_secret(self) -> None:
        if "Secret" not in self.account:
            drawn = f"{self._runtime.lane_name()}{self._runtime.lane_name()}"
            await self.set_account({**self.account, "Secret": drawn})

    async def create(self, new: New, shards: int, limit_bytes: int | None = None) -> None:
        """Makes a stream, unless `new` refuses by raising. Raises OSError; then there is none."""
        await asyncio.shield(self._create(new, shards, limit_bytes))

    async def _create(self, new: New, shards: int, limit_bytes: int | None) -> None:
        async with self._creating:
            await self._draw_secret()
            now_ms = self._runtime.now_ms()
            made = new(self._runtime.lane_name(), now_ms)
            created_ms = max(made.created_ms, self._left_ms.pop(made.name, 0))
            definition = replace(made, id=f"{made.name}-{made.id}", created_ms=created_ms)
            kept = Kept(definition, (lineage.creation(shards),))
            stream = LiveStream(self._site, kept, limit_bytes or self._limit_bytes(None))
            await stream.create()
            self.named[definition.name] = stream

    async def follow(self, configs: Mapping[str, DataStreamConfig]) -> None:
        """Makes the streams of the file what it says. Raises OSError."""
        for name, stream in list(self.named.items()):
            if name not in configs and stream.definition.declared:
                await stream.change(_undeclared)
                stream.limit_bytes = self._limit_bytes(None)
        for name, config in configs.items():
            await self._follow(name, config)

    async def set_account(self, settings: dict[str, Any]) -> None:
        """Raises OSError; then they are as before."""
        await self._threads.run(partial(self.definitions.write_account, settings))
        self.account = settings

    async def sweep(self) -> None:
        """Frees what has expired, lets streams on demand grow."""
        for name, stream in list(self.named.items()):
            try:
                await stream.sweep()
                await self._growth.grow(stream, self.shards_to_come)
            except OSError as error:
                observe.disk_failed(f"data stream {name}: {error}")
            except Gone:
                pass

    @property
    def shards_to_come(self) -> int:
        """Open shards of all streams, once nothing is under way."""
        return sum(stream.shards_to_come for stream in self.named.values())

    async def close(self) -> None:
        """Takes nothing more; all that was taken is sealed."""
        if self._stop_sweeping is not None:
            self._stop_sweeping()
        await asyncio.gather(*(stream.close() for stream in self.named.values()))

    async def _follow(self, name: str, config: DataStreamConfig) -> None:
        stream = self.named.get(name)
        if stream is not None and stream.definition.status == "DELETING":
            while not stream.gone:  # by a client, a moment ago: the file's is a new one
                await stream.changed(stream.definition)
            stream = None
        limit_bytes = self._limit_bytes(config)
        if stream is None:
            await self.create(partial(_declared, config), config.shards or ON_DEMAND_SHARDS, limit_bytes)
        else:
            await stream.settle()
            stream.limit_bytes = limit_bytes
            await stream.change(partial(_as_written, config, self._runtime.now_ms()))
        await self.named[name].settle()

    def _limit_bytes(self, config: DataStreamConfig | None) -> int:
        return int((config or self.defaults).limit_gib * GIB)

    def _gone(self, name: str) -> None:
        """The next stream of the name begins in a later second: else its sequence numbers were those of this one, and
        whoever has kept one would go on in the middle of it.
        """
        now_ms, created_ms = self._runtime.now_ms(), self.named.pop(name).definition.created_ms
        self._left_ms = {one: ms for one, ms in self._left_ms.items() if ms > now_ms}
        self._left_ms[name] = (created_ms // 1000 + 1) * 1000


def _declared(config: DataStreamConfig, id: str, now_ms: int) -> Definition:
    return _written(config, Definition(config.name, id, now_ms, "CREATING", config.mode))


def _undeclared(kept: Kept) -> Kept:
    return replace(kept, definition=replace(kept.definition, declared=False))


def _written(config: DataStreamConfig, definition: Definition) -> Definition:
    """The definition with what the file says."""
    return replace(
        definition,
        declared=True,
        mode=config.mode,
        retention_hours=config.retention_hours,
        max_record_kib=config.max_record_kib,
        limits=config.limits,
        tags=dict(config.tags),
    )


def _as_written(config: DataStreamConfig, now_ms: int, kept: Kept) -> Kept:
    """What becomes of a stream that is in the file."""
    kept = retained(kept, config.retention_hours, now_ms)
    definition = _written(config, kept.definition)
    steps = lineage.resharding(definition, config.shards) if config.shards is not None else ()
    return replace(kept, definition=replace(definition, status="UPDATING" if steps else "ACTIVE"), steps=steps)


def retained(kept: Kept, hours: int, now_ms: int) -> Kept:
    """The same with another retention: what has expired stays so."""
    trimmed_ms = max(kept.trimmed_ms, now_ms - kept.definition.retention_hours * HOUR_MS)
    if hours <= kept.definition.retention_hours:
        trimmed_ms = kept.trimmed_ms
    return replace(kept, definition=replace(kept.definition, retention_hours=hours), trimmed_ms=trimmed_ms)
