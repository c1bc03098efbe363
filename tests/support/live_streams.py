"""Data streams over a faulty disk in virtual time, through any crashes, and a client of their control operations."""

from __future__ import annotations

import asyncio
from random import Random
from typing import Any

import msgspec
from faulty_disk import FaultyDisk
from shard_disk import rows
from stream_calls import ACCOUNT, REGION, body, stream_arn
from virtual_time import VirtualRuntime, passed

from firehose.contracts import Disk
from firehose.data_stream_config import DataStreamDefaults
from firehose.datastream.live import LiveStream
from firehose.datastream.log import LogOptions, ShardLogs, Told
from firehose.datastream.model import Definition, Run, Shard
from firehose.datastream.operations.every import control_operations
from firehose.datastream.sequence import KEY_SPACE
from firehose.datastream.streams import LiveStreams
from firehose.http.aws_json import ApiError
from firehose.http.codec import JsonCodec
from firehose.http.shared import in_memory

ROOT = "/data"
TRANSITION = 0.2
STREAM = {"StreamName": "clicks"}
ARN = {"StreamARN": stream_arn("clicks")}
KEY = {"EncryptionType": "KMS", "KeyId": "alias/aws/kinesis"}
COUNT = {"ScalingType": "UNIFORM_SCALING"}
INVALID, NOT_FOUND, IN_USE = "InvalidArgumentException", "ResourceNotFoundException", "ResourceInUseException"
LIMIT, VALIDATION = "LimitExceededException", "ValidationException"


class StreamSite:
    """A data folder with its streams. `start` is a process's start, `crash` its end without leave."""

    def __init__(self, disk: FaultyDisk | None = None, **defaults: Any) -> None:
        self.disk = disk or FaultyDisk()
        self.runtime = VirtualRuntime()
        self.defaults = DataStreamDefaults(**{"transition_seconds": TRANSITION, **defaults})
        self.reports: list[str] = []  # of damage
        self.torn: list[str] = []

    async def start(self) -> None:
        self.disk.make_folder(ROOT)
        disk: Disk = self.disk
        told = Told(lambda reason: None, self.reports.append, self._torn)
        syncing, reading = self.runtime.threads("sync", 1), self.runtime.threads("read", 1)
        logs = ShardLogs(disk, self.runtime, syncing, reading, LogOptions(0, 1000), told)
        self.streams = LiveStreams(ROOT, disk, syncing, self.runtime, logs.open, self.defaults)
        await self.streams.open()
        self._operations = control_operations(self.streams, self.runtime, REGION, ACCOUNT)

    def _torn(self, path: str, offset: int, size_bytes: int) -> None:
        self.torn.append(f"{path}: cut at offset {offset}")

    async def crash(self, power: bool = True, dice: Random | None = None) -> None:
        """Ends everything as a power cut does, or a kill, and starts anew."""
        tasks = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self.disk = self.disk.after_power_cut(dice) if power else self.disk.after_kill()
        self.reports.clear()
        await self.start()

    async def call(self, operation: str, **parameters: Any) -> Any:
        """A call as an SDK makes it; the answer as JSON says it. Raises `ApiError`."""
        return await self.raw(operation, body(operation, parameters))

    async def raw(self, operation: str, request: bytes) -> Any:
        answer = await self._operations[operation](request, JsonCodec())
        whole = answer if isinstance(answer, bytes) else b"".join(map(in_memory, answer))
        return msgspec.json.decode(whole) if whole else None

    async def refused(self, operation: str, **parameters: Any) -> ApiError:
        try:
            answer = await self.call(operation, **parameters)
        except ApiError as error:
            return error
        raise AssertionError(f"not refused: {answer}")

    async def create(self, name: str = "clicks", shards: int = 2, **more: Any) -> LiveStream:
        """A stream that is ACTIVE."""
        await self.call("CreateStream", StreamName=name, ShardCount=shards, **more)
        await passed(TRANSITION * 2)
        return self.streams.named[name]

    async def put(self, name: str, shard: int, *records: bytes) -> None:
        await self.streams.named[name].append(shard, rows(*records))

    async def everything(self, name: str, shard: int) -> list[bytes]:
        """All records of a shard."""
        log = self.streams.named[name].log(shard)
        run: Run = await log.read(log.oldest(), 1 << 30, 1 << 40)
        return [record for _, piece in run.pieces for record in piece.column("record").to_pylist()]


def open_shards(definition: Definition) -> list[Shard]:
    """By their hash keys."""
    return sorted((shard for shard in definition.shards if shard.open), key=lambda shard: shard.start)


def whole(shards: list[Shard]) -> bool:
    """Whether the shards, by their hash keys, cover the key space without hole or overlap."""
    edges = [0, *(shard.end + 1 for shard in shards)]
    return [shard.start for shard in shards] == edges[:-1] and edges[-1] == KEY_SPACE


async def reshaped(**defaults: Any) -> StreamSite:
    """A stream `clicks` of two shards, the first of which was split, and one `many` on demand."""
    site = StreamSite(**defaults)
    await site.start()
    await site.create("clicks", 2)
    await site.call("CreateStream", StreamName="many", StreamModeDetails={"StreamMode": "ON_DEMAND"})
    await site.call("SplitShard", **STREAM, ShardToSplit="shardId-000000000000", NewStartingHashKey="1000")
    await passed(1)
    return site
