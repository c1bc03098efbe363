"""One shard's log over a faulty disk in virtual time, through any crashes."""

from __future__ import annotations

import asyncio
from random import Random

import pyarrow as pa
from faulty_disk import Fault, FaultyDisk
from virtual_time import VirtualRuntime

from firehose.datastream.contracts import ShardLog
from firehose.datastream.log import DiskShardLog, LogOptions, ShardLogs, Told
from firehose.datastream.model import SHARD_SCHEMA, Run, Shard
from firehose.runtime import Threads

ROOT, SHARD = "/data", Shard(7, 0, 1, 1, 1)
SEGMENT, RESERVE = 1000, 1 << 20
ALL = (1 << 30, 1 << 40)  # bounds of a read that gives everything


def rows(*records: bytes, keys: tuple[str, ...] = ()) -> pa.RecordBatch:
    """Records as a producer hands them over."""
    columns = [
        pa.array(records, pa.binary()),
        pa.nulls(len(records), pa.int64()),
        pa.array(keys or ["k"] * len(records), pa.string()),
    ]
    return pa.RecordBatch.from_arrays(columns, schema=SHARD_SCHEMA)


def records_of(run: Run) -> list[bytes]:
    return [record for _, piece in run.pieces for record in piece.column("record").to_pylist()]


def counters_of(run: Run) -> list[int]:
    return [first + row for first, piece in run.pieces for row in range(piece.num_rows)]


def arrivals_of(run: Run) -> list[int]:
    return [ms for _, piece in run.pieces for ms in piece.column("arrival_ms").to_pylist()]


async def everything(log: ShardLog, position: int = 0) -> Run:
    """All records from a position on."""
    return await log.read(position, *ALL)


class DiskShard:
    """`start` is a process's start, `crash` its end without leave, `stop` a clean one."""

    durable = True
    log: DiskShardLog

    def __init__(self, disk: FaultyDisk | None = None, lately_bytes: int = 0) -> None:
        self.disk = disk or FaultyDisk()
        self.lately_bytes = lately_bytes  # that need no look at the disk
        self.runtime = VirtualRuntime()
        self.failures: list[str] = []
        self.reports: list[str] = []  # of damage
        self.torn: list[str] = []

    async def start(self) -> None:
        self.disk.make_folder(ROOT)
        self.log = self.opened()

    def opened(self) -> DiskShardLog:
        syncing, options = self.runtime.threads("sync", 1), LogOptions(RESERVE, SEGMENT, lately_bytes=self.lately_bytes)
        told = Told(self.failures.append, self.reports.append, lambda path, offset, size: self.torn.append(path))
        logs = ShardLogs(self.disk, self.runtime, syncing, self.reading(), options, told)
        return logs.open(ROOT, SHARD)

    def reading(self) -> Threads:
        return self.runtime.threads("read", 1)

    async def crash(self, power: bool = True, dice: Random | None = None, stop_at: int | None = None) -> None:
        """Ends everything as a power cut does, or a kill, and starts anew; where it is to stop, at that step of it."""
        tasks = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self.disk = self.disk.after_power_cut(dice) if power else self.disk.after_kill()
        self.disk.stop_at = stop_at
        try:
            await self.start()
        except OSError:
            assert stop_at is not None, "a start fails only where the disk does"

    async def restart(self) -> None:
        await self.log.close()
        await self.crash(power=False)

    async def expire(self, before_ms: int) -> None:
        await self.log.expire(before_ms)

    async def close(self) -> None:
        await self.log.close()

    def fail_next_sync(self) -> None:
        self.disk.faults.append(Fault("sync", ending=".open"))

    def fill(self) -> None:
        self.disk.free = 0

    def paths(self, suffix: str = "") -> list[str]:
        """Files of the shard that end so."""
        below = f"{ROOT}/buffer/{SHARD.id}"
        return [f"{below}/{one.name}" for one in self.disk.tree(below) if one.name.endswith(suffix)]
