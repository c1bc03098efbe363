"""The sources of a service at work: one task for each delivery stream that reads from somewhere."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain

from firehose import observe
from firehose.contracts import Source
from firehose.ingest.intake import Intakes
from firehose.ingest.sources.shards import Progress, ShardedSource
from firehose.ingest.sources.site import SourceSite
from firehose.registry import plugin
from firehose.stream_config import SourceBlock, StreamConfig

AGAIN_SECONDS = 10.0  # after a bug in a source, which must not keep the service from the rest


@dataclass(slots=True)
class Running:
    block: SourceBlock
    site: SourceSite
    source: Source
    before: tuple[asyncio.Task[None], ...]  # those of the same stream that are ending
    task: asyncio.Task[None] | None = None

    @property
    def leaving(self) -> tuple[asyncio.Task[None], ...]:
        """What a successor waits for: it must find where the last append of all of them got."""
        return _undone((*self.before, *([self.task] if self.task else [])))


class Sources:
    """`site` says for a stream where its source is put to work."""

    def __init__(self, intakes: Intakes, site: Callable[[StreamConfig], SourceSite]) -> None:
        self._intakes = intakes
        self._site = site
        self._running: dict[str, Running] = {}
        self._ending: dict[str, tuple[asyncio.Task[None], ...]] = {}  # by stream: tasks of sources it had

    def follow(self, streams: Mapping[str, StreamConfig]) -> None:
        """Makes the running sources those of these streams. One whose block and site did not change goes on
        undisturbed.
        """
        for name, running in list(self._running.items()):
            if name not in streams or not self._is_as(streams[name], running):
                assert running.task is not None
                running.task.cancel()
                self._ending[name] = running.leaving
                del self._running[name]
        self._ending = {name: left for name, tasks in self._ending.items() if (left := _undone(tasks))}
        for name, stream in streams.items():
            if stream.source.reads and name not in self._running:
                self._begin(stream)

    def _is_as(self, stream: StreamConfig, running: Running) -> bool:
        return stream.source == running.block and self._site(stream) == running.site

    def _begin(self, stream: StreamConfig) -> None:
        site = self._site(stream)
        running = Running(stream.source, site, self._made(stream, site), self._ending.pop(stream.name, ()))
        running.task = asyncio.get_running_loop().create_task(self._run(stream, running))
        self._running[stream.name] = running

    def troubles(self) -> dict[str, str]:
        """Streams whose source cannot be read, and one of the reasons."""
        found = ((name, list(progress.trouble.values())) for name, progress in self._progress())
        return {name: reasons[0] for name, reasons in found if reasons}

    def samples(self) -> Iterator[observe.Sample]:
        for name, progress in self._progress():
            yield "firehose_source_records", (name,), progress.records
            yield "firehose_source_bytes", (name,), progress.size_bytes
            yield "firehose_source_lag_seconds", (name,), progress.lag_seconds
            yield "firehose_source_expired_records", (name,), progress.expired
            yield "firehose_source_failures", (name,), len(progress.trouble)

    def _progress(self) -> Iterator[tuple[str, Progress]]:
        """Of those that keep it: a third party's source need not."""
        for name, running in self._running.items():
            if isinstance(running.source, ShardedSource):
                yield name, running.source.progress

    async def close(self) -> None:
        for running in self._running.values():
            if running.task:
                running.task.cancel()
        ending = [running.leaving for running in self._running.values()]
        await asyncio.gather(*chain(*ending, *self._ending.values()), return_exceptions=True)
        self._running.clear()

    def _made(self, stream: StreamConfig, site: SourceSite) -> Source:
        made: Source = plugin("sources", stream.source.type)(stream.source, site)
        return made

    async def _run(self, stream: StreamConfig, running: Running) -> None:
        if running.before:
            await asyncio.wait(running.before)
        while True:
            try:
                await running.source.run(self._intakes[stream.name].appender)
            except Exception:
                observe.log.exception("source.bug", stream=stream.name)
            await asyncio.sleep(AGAIN_SECONDS)
            running.source = self._made(stream, running.site)


def _undone(tasks: tuple[asyncio.Task[None], ...]) -> tuple[asyncio.Task[None], ...]:
    return tuple(task for task in tasks if not task.done())
