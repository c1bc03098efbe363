"""The delivery streams of the ingest half: their buffers, their intakes, and what the catalogue says of them.

Start, reload and, later, API calls are one path: `follow` makes the running streams what the catalogue says.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from firehose import observe
from firehose.blocks import GIB, MIB
from firehose.buffer import layout, recovery
from firehose.buffer.alarms import Alarms
from firehose.buffer.appender import DiskAppender
from firehose.buffer.frame import Origins
from firehose.buffer.ledger import read_book
from firehose.buffer.recovery import Recovered
from firehose.buffer.state import Limits, State, Workplace
from firehose.catalogue import Catalogue, Entry
from firehose.config import Config, ServiceOptions
from firehose.contracts import Disk
from firehose.ingest.intake import Intake
from firehose.ingest.splitting import SplitOptions
from firehose.model import Segment, SegmentKey, Totals
from firehose.runtime import Runtime
from firehose.standing import PlaceStanding, StreamStanding
from firehose.stream_config import StreamConfig

if TYPE_CHECKING:
    from firehose.delivery_half import Message

T = TypeVar("T")
SEAL_POLL_SECONDS = 0.002
UNKNOWN = Limits(5 * MIB, 300, 20 * GIB, 0)  # of a stream that only its buffer knows: nothing is appended to it


class Streams:
    """All streams of a data folder. `intakes`, `configs` and `entries` are kept up to date in place."""

    def __init__(
        self, data_dir: str, disk: Disk, runtime: Runtime, service: ServiceOptions, catalogue: Catalogue
    ) -> None:
        self.intakes: dict[str, Intake] = {}
        self.configs: dict[str, StreamConfig] = {}
        self.entries: dict[str, Entry] = {}
        self.disk_failures = 0
        self.damaged_files = 0
        self.send: Callable[[Message], None] = lambda message: None
        self._data_dir = data_dir
        self._disk = disk
        self._runtime = runtime
        self._service = service
        self._catalogue = catalogue
        self._threads = runtime.threads("sync", service.sync_threads)
        self._alarms = Alarms(service.seals_per_second)
        self._appenders: dict[str, DiskAppender] = {}
        self._trying = asyncio.Lock()

    def recover(self) -> None:
        """Makes every buffer on disk whole. Raises `NewerFormat`, OSError."""
        names = sorted({*layout.streams(self._disk, self._data_dir), *self._catalogue.entries})
        found = {stream: self._recovered(stream) for stream in names}
        # Behind the files: the delivery half of a service that died may still commit segments, and what it takes from
        # the one place is in the other by then.
        book, _ = read_book(self._disk, f"{self._data_dir}/ledger")
        for stream, recovered in found.items():
            self._appenders[stream] = self._appender(stream, _state(recovered, book.origins.get(stream, {})))

    def follow(self, config: Config) -> None:
        """Makes the running streams those of the configuration."""
        self._catalogue.reconcile(config.definitions, self._runtime.now_ms(), self._sealed_of, self._versions_of)
        _replace(self.entries, {n: e for n, e in self._catalogue.entries.items() if e.state == "ACTIVE"})
        _replace(self.configs, config.streams)
        for name, stream in config.streams.items():
            if name not in self._appenders:
                self._appenders[name] = self._appender(name, State())
            self._appenders[name].limits = self._limits(stream)
        _replace(self.intakes, {name: self._intake(stream) for name, stream in config.streams.items()})

    async def refollow(self, config: Config) -> None:
        """Follows a new configuration and tells the delivery half, before it can hear of a segment of a version that
        it does not know. What a stream that is gone has open is sealed, to be delivered.
        """
        while any(appender.sealing for appender in self._appenders.values()):  # noqa: ASYNC110  # soon over, and rare
            await asyncio.sleep(SEAL_POLL_SECONDS)
        gone = [name for name in self.intakes if name not in config.streams]
        self.follow(config)
        self.send({"do": "reload"})
        for name in gone:
            await self._appenders[name].seal()

    async def seal(self, stream: str) -> int:
        """Seals what the stream has open; how many records that was. Raises KeyError."""
        appender = self._appenders[stream]
        records = appender.accepted - appender.sealed_records
        await appender.seal()
        return records

    async def close(self) -> None:
        """Takes nothing more and seals everything."""
        for appender in self._appenders.values():
            await appender.close()
        self._threads.close()

    def removed(self, key: SegmentKey) -> None:
        if key[0] in self._appenders:
            self._appenders[key[0]].removed(key)

    def check_removed(self) -> None:
        for appender in self._appenders.values():
            appender.check_removed()

    async def disk_check(self) -> str:
        """`ok` where a small file can be made durable now; else what keeps it."""
        try:
            async with self._trying:
                free, reserve = self._disk.free_bytes(self._data_dir), self._service.reserve_mib
                if free < reserve * MIB:
                    return f"{free // MIB} MiB free, less than service.reserve_mib ({reserve:g}): free some space"
                await self._threads.run(partial(self._disk.replace, f"{self._data_dir}/probe", b"written\n"))
        except OSError as error:
            return f"service.data_dir cannot be written: {error.strerror or error}"
        return "ok"

    def full(self) -> list[str]:
        """Streams that answer 503 because their buffer is at its limit."""
        return [name for name, appender in self._appenders.items() if name in self.intakes and appender.full]

    def sealed_records(self) -> dict[str, int]:
        return {name: appender.sealed_records for name, appender in self._appenders.items()}

    def standings(self, sealed: Mapping[str, int], said: Message | None) -> list[StreamStanding]:
        """Every stream as it stood when it had that many records sealed and the delivery half `said` its part."""
        places = {(place["stream"], place["destination"]): place for place in said["places"]} if said else {}
        hooks, expired = (said.get("hooks", ()), said.get("expired", {})) if said else ((), {})
        partitions, exceeding = (said.get(name, {}) if said else {} for name in ("partitions", "exceeding"))
        return [
            replace(
                self._standing(name, self._appenders[name], sealed.get(name, 0), places if said else None),
                hooks=tuple(hook for hook in hooks if hook["stream"] == name),
                expired=expired.get(name, (0, 0)),
                active_partitions=partitions.get(name, 0),
                exceeding_records=exceeding.get(name, 0),
            )
            for name in sorted(self._appenders)
        ]

    def reached(self, stream: str, sealed: Mapping[str, int], said: Message | None) -> bool:
        """Whether all records sealed by then have found their end at every destination."""
        (standing,) = [one for one in self.standings(sealed, said) if one.name == stream]
        return said is not None and all(place.totals.records >= place.owed for place in standing.places)

    def _standing(
        self, name: str, appender: DiskAppender, sealed: int, places: Mapping[tuple[str, str], Message] | None
    ) -> StreamStanding:
        entry = self._catalogue.entries.get(name)
        names = sorted(entry.spans) if entry and places is not None else []
        return StreamStanding(
            name,
            entry.state if entry else "DELETING",
            entry.version if entry else 0,
            appender.accepted,
            appender.buffered_bytes,
            appender.limits.limit_bytes,
            tuple(
                self._place(entry, appender, one, sealed, (places or {}).get((name, one), {})) for one in names if entry
            ),
            appender.accepted_bytes,
        )

    def _place(
        self, entry: Entry, appender: DiskAppender, destination: str, sealed: int, said: Message
    ) -> PlaceStanding:
        current = entry.spans[destination][-1].until is None
        ages = [ms for ms in (said.get("oldest_ms"), appender.open_since_ms if current else None) if ms is not None]
        return PlaceStanding(
            destination,
            entry.owed(destination, sealed),
            max(0, appender.accepted - sealed) if current else 0,
            Totals.from_json(said.get("totals", {})),
            said.get("pending", 0),
            said.get("held", 0),
            min(ages, default=None),
            said.get("failures", 0),
            said.get("last_error", ""),
            said.get("last_error_ms", 0),
            said.get("last_delivered_ms", 0),
            said.get("paused", ""),
            said.get("cuts", 0),
        )

    def _recovered(self, stream: str) -> Recovered:
        found = recovery.recover(self._disk, self._data_dir, stream, self._catalogue.version(stream))
        for damage in found.damage:
            self.damaged_files += 1
            observe.damaged(str(damage))
        for end in found.torn:
            observe.torn(end.path, end.offset, end.size)
        return found

    def _appender(self, stream: str, state: State) -> DiskAppender:
        version = partial(self._catalogue.version, stream)
        at = Workplace(
            stream, self._data_dir, self._disk, self._threads, self._runtime, version, self._failed, self._alarms
        )
        return DiskAppender(at, UNKNOWN, self._sealed, state)

    def _sealed(self, segment: Segment) -> None:
        observe.segment_sealed(segment)
        self.send({"do": "sealed", "segment": segment.key})

    def _failed(self, reason: str) -> None:
        self.disk_failures += 1
        observe.disk_failed(reason)

    def _intake(self, stream: StreamConfig) -> Intake:
        options = stream.options
        split = SplitOptions(
            stream.delimiter,
            options.wrap,
            options.validate_json,
            int(options.max_record_kib * 1024),
            self._service.body_limit_records,
        )
        appender = self._appenders[stream.name]
        return Intake(stream.name, appender, split, options.strict, stream.source.type, appender.make_sure_of_room)

    def _limits(self, stream: StreamConfig) -> Limits:
        options = stream.options
        return Limits(
            *stream.seals_at,
            int(options.limit_gib * GIB),
            int(self._service.reserve_mib * MIB),
            self._service.commit_seconds,
        )

    def _sealed_of(self, stream: str) -> int:
        return self._appenders[stream].sealed_records if stream in self._appenders else 0

    def _versions_of(self, stream: str) -> set[int]:
        return self._appenders[stream].versions if stream in self._appenders else set()


def _state(found: Recovered, committed: Origins) -> State:
    """What an appender knows of a buffer that was found so; `committed` are the origins that the ledger keeps."""
    state = State(found.accepted, found.accepted)
    for segment, file_bytes in found.segments.items():
        state.sealed(segment, file_bytes)
    state.remember(committed, found.origins)
    return state


def _replace(target: dict[str, T], content: Mapping[str, T]) -> None:
    target.clear()
    target.update(content)
