"""The service without its port, on a disk that keeps a record: lives to be cut short, and the look at what is left.

Both halves, the catalogue and the `folder` destination are the real ones and share one disk. Beside the folder stands
a far side of its own, which a power cut here does not touch.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from itertools import count
from typing import Any, ClassVar, Literal

import disk_buffer
import pyarrow as pa
from faulty_disk import Folder
from recording_disk import Noted, RecordingDisk
from virtual_time import VirtualRuntime, passed

from firehose import config
from firehose.buffer import inspect
from firehose.config import Config
from firehose.contracts import Memo
from firehose.http.front import Front
from firehose.model import Batch, Origin, Outcome, Receipt
from firehose.registry import Site
from firehose.service import Service
from firehose.stream_config import DestinationBlock, TransformBlock

DATA, OUT = "/data", "/out"
POISON = b"poison"
SEALS_AT_MIB = 0.004
NEVER_SECONDS = 3600


class FarAndDisk(RecordingDisk):
    """`far` is the far side's store: records by object name. While it is `sick`, it has a bug with poison."""

    def __init__(self, root: Folder | None = None, far: Mapping[str, Sequence[bytes]] | None = None) -> None:
        super().__init__(root)
        self.far = {name: tuple(records) for name, records in (far or {}).items()}
        self.sick = True
        self.changed: list[str] = []  # names that came to hold other records than before

    def store(self, name: str, records: Sequence[bytes]) -> None:
        if self.far.get(name, tuple(records)) != tuple(records):
            self.changed.append(name)
        self.far[name] = tuple(records)
        self.note("stored", (name, tuple(records)))


class RemoteOptions(DestinationBlock):
    PARTITIONS: ClassVar[bool] = True
    type: Literal["remote"] = "remote"


class Remote:
    """Stores a batch under its segment's name, whole and durable."""

    Options: ClassVar[type[DestinationBlock]] = RemoteOptions

    def __init__(self, options: RemoteOptions, site: Site) -> None:
        assert isinstance(site.disk, FarAndDisk)
        self._disk = site.disk

    async def check(self) -> None:
        """Always fine."""

    async def deliver(self, batch: Batch, memo: Memo) -> Receipt:
        records = [record for rows in batch.slices() for record in rows.column("record").to_pylist()]
        if self._disk.sick and any(POISON in record for record in records):
            raise LookupError("a bug in the far side")
        self._disk.store(str(batch.segment), records)
        return Receipt((str(batch.segment),), sum(map(len, records)))

    async def close(self) -> None:
        """Nothing is held open."""


class StampOptions(TransformBlock):
    type: Literal["stamp"] = "stamp"


class Stamp:
    """Adds to each record what it never adds again: an outcome that cannot be repeated."""

    Options: ClassVar[type[TransformBlock]] = StampOptions
    repeatable = False
    _stamps: ClassVar[Iterator[int]] = count(10**7)

    def __init__(self, options: StampOptions, site: Site) -> None:
        pass

    def __call__(self, rows: pa.RecordBatch, /) -> Outcome:
        parts = [record.rpartition(b"}") for record in rows.column("record").to_pylist()]  # JSON stays JSON
        records = [b'%b,"#":%d%b%b' % (begin, next(self._stamps), brace, end) for begin, brace, end in parts]
        return Outcome(rows.set_column(0, rows.schema.field("record"), pa.array(records, pa.binary())))


REMOTE, STAMP = ("remote", "lives:Remote"), ("stamp", "lives:Stamp")  # their lines in the tables of plug-ins


def unstamped(record: bytes) -> bytes:
    return re.sub(rb',"#":\d{8}', b"", record)


def configured(**streams: Any) -> Config:
    buffering = {"size_mib": SEALS_AT_MIB, "interval_seconds": NEVER_SECONDS}
    document = {
        "service": {"data_dir": DATA, "delivery": "inline", "drain_seconds": 60, "reserve_mib": 1},
        "delivery": {"backoff_seconds": 0.1, "backoff_limit_seconds": 0.5},
        "delivery_streams": {name: {"buffering": buffering, **stream} for name, stream in streams.items()},
    }
    return config.parse("firehose.yaml", json.dumps(document))


class Portless(Service):
    """The service, to which records come by `append` alone: a front would take longer to make than a life lasts."""

    def _front(self) -> Front:
        return Front(lambda *request: None, self._nobody, self._admission, 0, self._requests)

    async def _nobody(self, *request: object) -> None:
        raise AssertionError("nobody asks")


class House:
    """The service on its disk, and notes in the disk's record of what was promised to whom."""

    def __init__(self, disk: FarAndDisk, seed: int) -> None:
        self.disk = disk
        self.runtime = VirtualRuntime(seed)

    async def start(self, following: Config) -> None:
        self._follow(following)
        self.service = Portless(following, lambda: self.config, self.disk, self.runtime)
        await self.service.open()
        while not self.service._courier.up:
            await passed(0.01)

    async def reload(self, following: Config) -> None:
        self._follow(following)
        await self.service.reload()

    def _follow(self, following: Config) -> None:
        self.config = following
        self.disk.note("config", following)

    async def append(self, stream: str, *records: bytes, cursor: int | None = None) -> None:
        origin = None if cursor is None else Origin("shard", f"{cursor:04d}")
        self.disk.note("sent", (stream, records))
        await self.service._streams.intakes[stream].appender.append(disk_buffer.batch(*records), origin)
        self.disk.note("acknowledged", (stream, records, origin))

    async def deliver(self, *streams: str) -> None:
        """Seals what these have, and waits until it is delivered."""
        for stream in streams:
            said = await self.service.flush(stream, 30)
            assert said["delivered"], f"{stream} is not delivered"

    async def part(self, *streams: str) -> None:
        """Seals what these have, and waits until it is parted. Nothing is cut before its time."""
        for stream in streams:
            await self.service._streams.seal(stream)
        await passed(1)

    async def seal(self, stream: str) -> None:
        await self.service.flush(stream, 0)

    async def kill(self) -> None:
        tasks = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self.disk.restarted()

    async def release(self) -> None:
        """Has everything that is held tried again, by a far side that is well."""
        self.disk.sick = False
        for file in list(inspect.files(self.disk, DATA)):
            if file.state == "held":
                await self.service.release(file.name)

    def objects(self) -> dict[str, tuple[bytes, ...]]:
        """What was delivered, by place and name; the stamps taken off."""
        found = {f"remote/{name}": records for name, records in self.disk.far.items()}
        found.update(files(self.disk, OUT))
        return found


def files(disk: RecordingDisk, folder: str) -> dict[str, tuple[bytes, ...]]:
    """The lines of every whole object below the folder."""
    found: dict[str, tuple[bytes, ...]] = {}
    for name in disk.list(folder):
        path = f"{folder}/{name}"
        if isinstance(disk._find(path), Folder):
            found.update(files(disk, path) if name != ".partial" else {})
        else:
            found[path] = tuple(disk.read(path).splitlines(keepends=True))
    return found


def delivered(objects: Mapping[str, Sequence[bytes]]) -> dict[tuple[str, str], Counter[bytes]]:
    """How often each record was delivered, by stream and place."""
    found: dict[tuple[str, str], Counter[bytes]] = defaultdict(Counter)
    for name, records in objects.items():
        place, stream = name.strip("/").split("/")[:2]
        found[stream, place].update(map(unstamped, records))
    return found


def noted(steps: Sequence[Any], kind: str) -> Iterator[Any]:
    return (step.what for step in steps if isinstance(step, Noted) and step.kind == kind)
