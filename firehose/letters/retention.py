"""Removes dead letters that have lain longer than the `retention_days` of their `errors` block.

It must never touch an object that is not the stream's own error output by its whole name. What counts is when an object
was written: a letter that waited long before it died is kept as long as any other.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from firehose import config, observe
from firehose.aws import Clients
from firehose.catalogue import Catalogue, Definition, backup_block, destination_blocks
from firehose.contracts import Disk
from firehose.model import Stored
from firehose.naming import ERROR_TYPES
from firehose.objects import ObjectOptions
from firehose.runtime import Runtime
from firehose.stream_config import StreamConfig
from firehose.yaml_file import ConfigError

if TYPE_CHECKING:
    from firehose.letters.places import Place

SWEEP_SECONDS = 3600.0
DAY_MS = 86_400_000


class Retention:
    """Sweeps as long as there is a stream to sweep for: at once, and then every hour."""

    def __init__(
        self,
        catalogue: Catalogue,
        region: str,
        lookup: Callable[[str], str | None],
        disk: Disk,
        clients: Clients,
        runtime: Runtime,
    ) -> None:
        self._catalogue = catalogue
        self._region = region
        self._lookup = lookup
        self._disk = disk
        self._clients = clients
        self._runtime = runtime
        self._threads = runtime.threads("sweep", 1)
        self._sweeping = asyncio.Lock()
        self._end: Callable[[], None] | None = None
        self._closed = False
        self.removed: dict[str, tuple[int, int]] = {}  # by stream, objects and bytes since the process began

    def follow(self) -> None:
        """The catalogue may have changed."""
        wanted = any(True for _ in self._definitions())
        if wanted and self._end is None:
            self._end = self._runtime.every(SWEEP_SECONDS, self.sweep)
        elif not wanted and self._end is not None:
            self._end()
            self._end = None

    async def sweep(self) -> None:
        """One look at every stream's error output. A store that fails is looked at again the next time."""
        async with self._sweeping:
            for name, definition in list(self._definitions()):
                try:
                    stream = config.stream(name, definition, self._lookup)
                except ConfigError as error:
                    observe.sweep_failed(name, str(error))
                else:
                    await self._threads.run(partial(self._sweep, stream))

    async def close(self) -> None:
        """Waits for the call under way."""
        self._closed = True
        async with self._sweeping:
            if self._end is not None:
                self._end()
        self._threads.close()

    def _definitions(self) -> Iterator[tuple[str, Definition]]:
        for name, entry in self._catalogue.entries.items():
            if any(errors.get("retention_days") is not None for errors in _error_blocks(entry.newest)):
                yield name, entry.newest

    def _sweep(self, stream: StreamConfig) -> None:
        for block in stream.error_outputs():
            if isinstance(block, ObjectOptions) and block.retention_days is not None:
                self._sweep_one(stream, block, block.retention_days)

    def _sweep_one(self, stream: StreamConfig, block: ObjectOptions, retention_days: float) -> None:
        from firehose.letters import (  # now: what reads letters takes 3 MiB that most services need not spend
            places,
            shelf,
        )

        before_ms = self._runtime.now_ms() - int(retention_days * DAY_MS)
        objects = size_bytes = 0
        try:
            place = places.of_block(stream, block, self._region, self._disk, self._clients)
            try:
                for item in _expired(place, before_ms):
                    if self._closed:
                        break
                    place.shelf.remove(item.name)
                    objects, size_bytes = objects + 1, size_bytes + item.size_bytes
            finally:
                place.shelf.close()
        except shelf.Unreadable as error:
            observe.sweep_failed(stream.name, str(error))
        if objects:
            self._count(stream.name, objects, size_bytes)

    def _count(self, stream: str, objects: int, size_bytes: int) -> None:
        before = self.removed.get(stream, (0, 0))
        self.removed[stream] = (before[0] + objects, before[1] + size_bytes)
        observe.letters_expired(stream, objects, size_bytes)


def _error_blocks(definition: Definition) -> Iterator[Mapping[str, Any]]:
    """As they are written: the stream's, and those of its destinations."""
    stream = definition.get("errors") or backup_block(definition.get("backup"), "failed")
    own = (block.get("errors") for block in destination_blocks(definition).values())
    yield from (errors for errors in (stream, *own) if errors)


def _expired(place: Place, before_ms: int) -> Iterator[Stored]:
    for item in place.items():
        told = place.told(item.name)
        # A type that nobody here knows might be a folder of somebody else's.
        if told is not None and told[1] in ERROR_TYPES and item.written_ms < before_ms:
            yield item
