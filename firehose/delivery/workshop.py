"""Builds what a segment runs through from the catalogue: plug-ins put to work, kept while their definition stands.

Transforms, partitions, format, prefix and compression follow the segment's own version of the definition; endpoint,
bucket, credentials and retry follow the newest (DESIGN 3.4), and so does the whole error output, which is one for all
of a stream's destinations and is read back as the newest definition says.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from firehose import config, observe, registry
from firehose.catalogue import BACKUP, Catalogue, Definition, Entry, backup_block, destination_blocks
from firehose.conditions import making
from firehose.conditions.judging import AskedCondition, Condition
from firehose.config import SEGMENT_KEYS
from firehose.contracts import Destination, Disk, Hook, Refused, Retry, Transform
from firehose.delivery.pipeline import Line, Obstructed
from firehose.model import Segment
from firehose.objects import ObjectOptions
from firehose.partitioning import step as partitioning
from firehose.runtime import Runtime, Threads
from firehose.schemas import versions
from firehose.schemas.connection import connected_as
from firehose.stream_config import DELIMITING, DestinationBlock, RetryOptions, StreamConfig
from firehose.yaml_file import ConfigError

OF_ONE_DESTINATION = ("destination", "destinations", "backup", "transforms", "dynamic_partitioning", "errors")
BYTES_FOLLOW = ("format", "compression", "where")  # of an object of columns
ERRORS_LIMIT_GIB = 10  # of the error folder under data_dir, where a stream names no error output of its own


Door = Destination | Hook | Condition | AskedCondition


@dataclass(slots=True)
class Bench:
    """A line at work, and how many attempts are on it."""

    line: Line
    users: int = 0
    retired: bool = False


@dataclass(slots=True)
class Workshop:
    """Lines by stream, destination, and the two versions that shape them."""

    catalogue: Catalogue
    data_dir: str
    region: str
    disk: Disk
    threads: Threads
    runtime: Runtime
    lookup: Callable[[str], str | None]
    account_id: str = "000000000000"
    shared: registry.Shared = field(default_factory=registry.Shared)
    _benches: dict[tuple[str, str, int, int], Bench] = field(default_factory=dict)
    _steps: dict[tuple[str, int, int], list[Transform | Hook]] = field(default_factory=dict)
    _retries: dict[tuple[str, str, int], RetryOptions] = field(default_factory=dict)
    _newest: dict[tuple[str, int], StreamConfig] = field(default_factory=dict)

    @asynccontextmanager
    async def line(self, segment: Segment, destination: str) -> AsyncIterator[Line]:
        """Lends a line. Raises `Obstructed` where the definition cannot be put to work now, saying what to mend."""
        bench = self._bench(segment, destination)
        bench.users += 1
        try:
            yield bench.line
        finally:
            bench.users -= 1
            if bench.retired and not bench.users:
                await self.close(_doors(bench.line))

    def retry(self, stream: str, destination: str) -> RetryOptions:
        """The newest version's retry options; those by default where it cannot be read."""
        try:
            entry = self._entry(stream)
            key = (stream, destination, entry.version)
            if key not in self._retries:
                merged = merged_definition(entry, entry.version, destination)
                self._retries[key] = config.stream(stream, merged, self.lookup).retry(destination)
            return self._retries[key]
        except (ConfigError, Obstructed):
            return RetryOptions()

    def is_wanted(self, segment: Segment, destination: str) -> bool:
        """Whether the newest definition has the destination, as that which the segment was sealed for."""
        entry = self.catalogue.entries.get(segment.stream)
        if entry is None:
            return True
        old = destination_blocks(entry.definition(segment.version)).get(destination, {})
        new = destination_blocks(entry.newest).get(destination)
        return new is not None and old.get("type", new.get("type")) == new.get("type")

    def converts(self, stream: str, destination: str, of_cuts: bool) -> bool:
        """Whether the newest version makes records into columns there: where they are partitioned, those of cuts."""
        newest = self.newest(stream)
        block = newest.destinations.get(destination) if newest is not None else None
        return newest is not None and block is not None and block.converts and newest.partitions(block) == of_cuts

    def newest(self, stream: str) -> StreamConfig | None:
        """The newest version as a whole; None where it cannot be read."""
        try:
            entry = self._entry(stream)
            key = (stream, entry.version)
            if key not in self._newest:
                self._newest[key] = config.stream(stream, entry.newest, self.lookup)
            return self._newest[key]
        except (ConfigError, Obstructed):
            return None

    def forget(self) -> list[Door]:
        """Drops every line, as after a reload; what can be closed at once. Of a line in use that is its hooks, whose
        code is not the newest any more; the rest is closed after use.
        """
        benches = list(self._benches.values())
        self._benches.clear()
        self._steps.clear()
        self._retries.clear()
        self._newest.clear()
        for bench in benches:
            bench.retired = True
        return [door for bench in benches for door in (_hooks(bench.line) if bench.users else _doors(bench.line))]

    async def try_hooks(self) -> None:
        """Tells of user code that cannot be called as it stands, and hinders nobody: it may be mended before a record
        needs it. One after the other, each for itself, so that many hooks never take more room than one.
        """
        for entry in list(self.catalogue.entries.values()):
            if entry.state == "ACTIVE":
                for hook in self._hooks_aside(entry):
                    await self._try(entry.name, hook)

    def _hooks_aside(self, entry: Entry) -> Iterator[Hook]:
        """The hooks of the newest definition; where it cannot be read, deliveries say so."""
        destination = next(iter(destination_blocks(entry.newest)))
        try:
            stream = config.stream(entry.name, merged_definition(entry, entry.version, destination), self.lookup)
            for options in stream.transforms:
                step = registry.transform(options, self._site(entry.name, destination, "data"))
                if isinstance(step, Hook):
                    yield step
        except Exception:
            return

    async def _try(self, stream: str, hook: Hook) -> None:
        try:
            await hook.check()
        except (Retry, Refused) as error:
            observe.log.warning("hook.not_ready", stream=stream, hook=hook.name, reason=error.reason)
        except Exception as error:  # a plug-in's bug: deliveries will meet it, too
            reason = f"{type(error).__name__}: {error}"
            observe.log.warning("hook.not_ready", stream=stream, hook=hook.name, reason=reason)
        finally:
            await self.close([hook])

    async def close(self, doors: list[Door]) -> None:
        for door in doors:
            try:
                await door.close()
            except Exception as error:  # a third party's bug, of what nobody will use again
                observe.log.warning("plugin.close_failed", reason=f"{type(error).__name__}: {error}")

    def _bench(self, segment: Segment, destination: str) -> Bench:
        entry = self._entry(segment.stream)
        key = (segment.stream, destination, segment.version, entry.version)
        if key not in self._benches:
            self._benches[key] = Bench(self._build(entry, segment.version, destination))
        return self._benches[key]

    def _entry(self, stream: str) -> Entry:
        if stream not in self.catalogue.entries:
            raise Obstructed(f"the catalogue does not know the stream '{stream}'; add it to the configuration again")
        return self.catalogue.entries[stream]

    def _build(self, entry: Entry, version: int, destination: str) -> Line:
        try:
            stream = config.stream(entry.name, merged_definition(entry, version, destination), self.lookup)
            newest = config.stream(entry.name, entry.newest, self.lookup)
        except ConfigError as error:
            raise Obstructed("; ".join(str(problem) for problem in error.problems)) from None
        block = stream.destinations[destination]
        alike = alike_at(entry.definition(version), destination) if block.converts else frozenset[str]()
        site = replace(self._site(stream.name, destination, "data"), alike=alike)
        set_down = self._site(stream.name, destination, "errors")
        own = newest.own_errors.get(destination)
        line = Line(
            (),
            registry.destination(block, site),
            registry.destination(error_output(newest, self.data_dir), set_down),
            own_errors=registry.destination(own, set_down) if own is not None else None,
            where=making.condition(block.where, site) if block.where is not None else None,
            name=destination if _is_one_of_many(entry, destination) else "",
        )
        if _is_backup(entry, version, destination):
            return replace(line, source=True)
        key = (stream.name, version, entry.version)
        if key not in self._steps:  # one for all destinations, as the outcome is
            self._steps[key] = self._made(entry, version, stream, site)
        parted = stream.partitions(block)
        unchanged = parted and not stream.transforms
        gathered = stream.partitioned
        return replace(line, transforms=self._steps[key], partitioned=parted, gathered=gathered, unchanged=unchanged)

    def _made(self, entry: Entry, version: int, stream: StreamConfig, site: registry.Site) -> list[Transform | Hook]:
        """The transforms, and among them what gives rows their partitions: before delimiters, as with AWS."""
        early = [block for block in stream.transforms if block.STAGE < DELIMITING]
        steps = [registry.transform(options, site) for options in early]
        options = stream.options.dynamic_partitioning
        if options is not None:
            steps.append(partitioning.step(options, list(self._partitioned(entry, version)), site))
        return [*steps, *(registry.transform(options, site) for options in stream.transforms[len(early) :])]

    def _partitioned(self, entry: Entry, version: int) -> Iterator[ObjectOptions]:
        """The destinations whose objects hold one partition each."""
        for name in destination_blocks(entry.definition(version)):
            stream = config.stream(entry.name, merged_definition(entry, version, name), self.lookup)
            block = stream.destinations[name]
            if isinstance(block, ObjectOptions) and stream.partitions(block):
                yield block

    def _site(self, stream: str, destination: str, purpose: Literal["data", "errors"]) -> registry.Site:
        doors = (self.region, self.disk, self.threads, self.runtime, self.shared, self.account_id)
        schemas = versions.folder(self.data_dir, stream, destination)
        return registry.Site(stream, destination, purpose, *doors, scratch(self.data_dir), schemas=schemas)


def scratch(data_dir: str) -> str:
    return os.path.join(data_dir, "scratch")


def alike_at(definition: Definition, destination: str) -> frozenset[str]:
    """The destinations whose objects have the same bytes as this one's, where there are others: the same columns, given
    and not inferred, of the same rows. Partitions are cut at each destination as its time comes.
    """
    blocks = {name: block for name, block in destination_blocks(definition).items() if name != BACKUP}
    mine = blocks.get(destination, {})
    given = isinstance(mine.get("format", {}).get("schema"), Mapping) and "columns" in mine["format"]["schema"]
    if not given or definition.get("dynamic_partitioning") is not None:
        return frozenset()
    same = {name for name, one in blocks.items() if all(one.get(key) == mine.get(key) for key in BYTES_FOLLOW)}
    return frozenset(same) if len(same) > 1 else frozenset()


def _doors(line: Line) -> list[Door]:
    more = [door for door in (line.own_errors, line.where) if door is not None]
    return [*_hooks(line), line.destination, line.errors, *more]


def _hooks(line: Line) -> list[Door]:
    return [step for step in line.transforms if isinstance(step, Hook)]


def error_outputs(stream: StreamConfig, data_dir: str) -> list[DestinationBlock]:
    """Those of the stream and of its destinations, each place once."""
    blocks = [error_output(stream, data_dir), *stream.own_errors.values()]
    return [block for at, block in enumerate(blocks) if block.place() not in [one.place() for one in blocks[:at]]]


def error_output(stream: StreamConfig, data_dir: str) -> DestinationBlock:
    """The stream's `errors` block; one for a folder under `data_dir` where it has none."""
    if stream.errors is not None:
        return stream.errors
    path = os.path.join(data_dir, "errors", stream.name)
    options = {"type": "folder", "path": path, "limit_gib": ERRORS_LIMIT_GIB}
    return registry.destination_options("folder").model_validate(options)


def merged_definition(entry: Entry, version: int, destination: str) -> Definition:
    """The stream as a segment of `version` meets it at one destination, references unresolved."""
    old, new = entry.definition(version), entry.newest
    block = _merged(destination_blocks(old).get(destination), destination_blocks(new).get(destination))
    shaped: dict[str, Any] = {key: value for key, value in new.items() if key not in OF_ONE_DESTINATION}
    transforms, partitioned = list(old.get("transforms") or ()), old.get("dynamic_partitioning")
    if _is_backup(entry, version, destination):
        block, transforms, partitioned = config.connected(block, _primary(new)), [], None
    of_records = {"transforms": transforms, "dynamic_partitioning": partitioned}
    return {**shaped, **of_records, "destination": {**block, "name": destination}}


def _is_backup(entry: Entry, version: int, destination: str) -> bool:
    """Whether source records go to this destination; another one may have the name where a stream has no backup."""
    said = (entry.definition(version).get("backup"), entry.newest.get("backup"))
    return destination == BACKUP and any(backup_block(backup, "all") for backup in said)


def _is_one_of_many(entry: Entry, destination: str) -> bool:
    """Whether a letter must say whose it is: AWS, which has one destination, has no word for that."""
    return destination == BACKUP or len(_primary(entry.newest)) > 1


def _primary(definition: Definition) -> list[Mapping[str, Any]]:
    """The destinations beside the backup."""
    return [block for name, block in destination_blocks(definition).items() if name != BACKUP]


def _merged(old: Mapping[str, Any] | None, new: Mapping[str, Any] | None) -> Mapping[str, Any]:
    if old is None or new is None or old.get("type") != new.get("type"):
        return old or new or {}
    rest = {key: value for key, value in new.items() if key not in SEGMENT_KEYS}
    kept = {key: old[key] for key in SEGMENT_KEYS if key in old}
    if "format" in kept:
        kept["format"] = connected_as(kept["format"], new.get("format"))
    return {**rest, **kept}
