"""A data stream's logs by themselves, in this process: what appends, reads and idleness cost without any protocol.

Each run reads back what it wrote and compares it record by record. The floor of appends is the same bytes written and
synced by the same number of threads, one 500 KB write at a time, with nothing in between.
"""

from __future__ import annotations

import asyncio
import gc
import os
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pyarrow as pa
import uvloop
from bench import measuring
from bench.work import Figures, Goal, Scale, Work

from firehose.buffer.disk import LocalDisk
from firehose.datastream.log import DiskShardLog, LogOptions, ShardLogs, Told
from firehose.datastream.model import SHARD_SCHEMA, Shard
from firehose.runtime import Runtime

SHARDS, WRITERS, BATCH, RECORD_BYTES = 4, 16, 500, 1000
TIP_PUTS = 300
READ = (10_000, 10 << 20)  # as much as GetRecords gives
MB, KB = 1e6, 1e3


def batch(number: int) -> pa.RecordBatch:
    """Records that each begin with a number of their own."""
    records = np.full((BATCH, RECORD_BYTES), ord("x"), np.uint8)
    records[:, :8] = (np.arange(BATCH, dtype=np.int64) + number * BATCH).view(np.uint8).reshape(BATCH, 8)
    offsets = pa.py_buffer(np.arange(0, (BATCH + 1) * RECORD_BYTES, RECORD_BYTES, dtype=np.int32))
    column = pa.Array.from_buffers(pa.binary(), BATCH, [None, offsets, pa.py_buffer(records)])
    keys = pa.array([f"key-{number}"] * BATCH)
    return pa.RecordBatch.from_arrays([column, pa.nulls(BATCH, pa.int64()), keys], schema=SHARD_SCHEMA)


def numbers(piece: pa.RecordBatch) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """What `batch` wrote into the records."""
    column = piece.column("record")
    data = np.frombuffer(column.buffers()[2], np.uint8)[column.offset * RECORD_BYTES :][: len(column) * RECORD_BYTES]
    return np.ascontiguousarray(data.reshape(-1, RECORD_BYTES)[:, :8]).view(np.int64).ravel()


class Logs:
    """Some shards' logs in a folder of their own."""

    def __init__(self, folder: str, shards: int) -> None:
        self.runtime = Runtime()
        syncing, reading = self.runtime.threads("sync", 32), self.runtime.threads("read", 4)
        self._threads = syncing, reading
        told = Told(print, print, print)
        made = ShardLogs(LocalDisk(), self.runtime, syncing, reading, LogOptions(0), told)
        self.logs = [made.open(folder, Shard(number, 0, 1, 1, 1)) for number in range(shards)]

    async def close(self) -> None:
        await asyncio.gather(*(log.close() for log in self.logs))
        for threads in self._threads:
            threads.close()


def in_folder(main: Callable[[str, Scale], Awaitable[Figures]], scale: Scale) -> Figures:
    async def whole() -> Figures:
        with tempfile.TemporaryDirectory() as folder:
            return await main(folder, scale)

    return uvloop.run(whole())


async def appending(folder: str, scale: Scale) -> Figures:
    """Each writer appends to all shards in turn, a batch at a time."""
    batches = [batch(number) for number in range(WRITERS * scale.of(64, 4))]
    one = Logs(folder, SHARDS)
    waiting = list(enumerate(batches))

    async def write() -> None:
        while waiting:
            number, records = waiting.pop()
            await one.logs[number % SHARDS].append(records)

    cpu, began = time.process_time(), time.perf_counter()
    await asyncio.gather(*(write() for _ in range(WRITERS)))
    seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
    records = len(batches) * BATCH
    found = np.concatenate([numbers(piece) for log in one.logs for piece in (await read_all(log))[0]])
    assert np.array_equal(np.sort(found), np.arange(records)), "records are missing, or there twice"
    await one.close()
    return {
        "records_per_s": records / seconds,
        "cpu_us_per_record": cpu / records * 1e6,
        "bare_records_per_s": records / bare_seconds(folder, records // SHARDS // BATCH),
    }


def bare_seconds(folder: str, writes: int) -> float:
    """So many batches into a file of each shard, each synced."""
    data = os.urandom(BATCH * RECORD_BYTES)

    def written(path: Path) -> None:
        with path.open("wb", buffering=0) as file:
            for _ in range(writes):
                file.write(data)
                os.fdatasync(file.fileno())

    began = time.perf_counter()
    with ThreadPoolExecutor(SHARDS) as pool:
        list(pool.map(written, [Path(folder) / f"bare-{number}" for number in range(SHARDS)]))
    return time.perf_counter() - began


async def read_all(log: DiskShardLog) -> tuple[Sequence[pa.RecordBatch], int]:
    """Every record, in reads as GetRecords makes them; how many reads it took."""
    pieces, position, reads = list[pa.RecordBatch](), 0, 0
    while (run := await log.read(position, *READ)).pieces:
        pieces += [piece for _, piece in run.pieces]
        position, reads = run.next, reads + 1
    return pieces, reads


async def reading(folder: str, scale: Scale) -> Figures:
    """One shard, written before, read by one and from memory; then as it is written, by one and by a hundred."""
    one = Logs(folder, 1)
    batches = scale.of(600, 20)
    for number in range(batches):
        await one.logs[0].append(batch(number))
    await one.close()
    one = Logs(folder, 1)
    cpu, began = time.process_time(), time.perf_counter()
    pieces, reads = await read_all(one.logs[0])
    seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
    assert np.array_equal(np.concatenate([*map(numbers, pieces)]), np.arange(batches * BATCH))
    size = batches * BATCH * RECORD_BYTES
    single, _ = await at_tip(one, 1, scale)
    hundred, latest = await at_tip(one, 100, scale)
    await one.close()
    return {
        "mb_per_s": size / seconds / MB,
        "cpu_s_per_gb": cpu / size * 1e9,
        "reads": float(reads),
        "tip_ratio": hundred / single,
        "tip_p99_ms": latest,
    }


async def at_tip(one: Logs, readers: int, scale: Scale) -> tuple[float, float]:
    """CPU seconds of puts with so many readers behind them, and within how many ms of its being durable 99 % of them
    were read: what the disk takes before that is its own.
    """
    puts, record, log = scale.of(TIP_PUTS, 20), batch(0).slice(0, 20), one.logs[0]
    late, durable = list[float](), time.perf_counter()

    async def follow(position: int) -> None:
        left = puts * record.num_rows
        while left:
            await log.beyond(position)
            run = await log.read(position, *READ)
            late.append(time.perf_counter() - durable)
            position, left = run.next, left - run.count

    following = [asyncio.ensure_future(follow(log.tip)) for _ in range(readers)]
    await asyncio.sleep(0)
    cpu = time.process_time()
    for _ in range(puts):
        await log.append(record)
        durable = time.perf_counter()
    await asyncio.gather(*following)
    return time.process_time() - cpu, sorted(late)[int(len(late) * 0.99)] * 1000


async def idling(folder: str, scale: Scale) -> Figures:
    """Shards that never wrote, and the same when each holds a record and its lane."""
    shards, record = scale.of(1000, 50), batch(0).slice(0, 1)
    before = settled()
    one = Logs(folder, shards)
    fresh = settled()
    await asyncio.gather(*(log.append(record) for log in one.logs))
    written = settled()
    cpu = time.process_time()
    await asyncio.sleep(scale.of(5, 1))
    cpu = (time.process_time() - cpu) / scale.of(5, 1)
    began = time.process_time()
    for log in one.logs:
        await log.expire(0)
    sweep = time.process_time() - began
    await one.close()
    return {
        "fresh_kb": (fresh - before) / shards,
        "written_kb": (written - before) / shards,
        "core_percent": cpu * 100,
        "sweep_ms": sweep * 1000,
    }


def alone(scale: Scale) -> Figures:
    """In a process of its own: what an earlier run gave back would be taken again, and not be seen."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(in_folder, idling, scale).result()


def settled() -> float:
    """KB of this process's own memory, garbage taken away."""
    gc.collect()
    return measuring.memory(os.getpid()).own * 1000


WORKS = (
    Work(
        "shardlog-append",
        "500 x 1 KB batches into 4 shards from 16 writers, durable, no protocol",
        (Goal("records_per_s", "records/s", ">=", 100_000, ceiling="bare_records_per_s"),),
        partial(in_folder, appending),
    ),
    Work(
        "shardlog-read",
        "300 MB of 1 KB records read from a shard, then put by put by one reader and by 100",
        (
            Goal("mb_per_s", "MB/s", ">=", 200),
            Goal("tip_ratio", "x the CPU of one reader for 100", "<=", 10),
            Goal("tip_p99_ms", "ms from durable to read by 100, p99", "<=", 20),
        ),
        partial(in_folder, reading),
    ),
    Work(
        "shardlog-idle",
        "1,000 shards: memory of each, before and after it held a record",
        (
            Goal("fresh_kb", "KB a shard that never wrote", "<=", 30),
            Goal("written_kb", "KB a shard that holds a record", "<=", 30),
            Goal("core_percent", "% of a core", "<=", 1),
        ),
        alone,
    ),
)
