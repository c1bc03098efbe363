"""A process that writes a shard's log until it is killed, and tells of each acknowledgement: `shard_writer.py FOLDER`.

A line says the counter of the first record, how many there are, and the number that all of them begin with.
"""

from __future__ import annotations

import asyncio
import sys

from shard_disk import SHARD, rows

from firehose.buffer.disk import LocalDisk
from firehose.datastream.contracts import ShardLog
from firehose.datastream.log import LogOptions, ShardLogs, Told
from firehose.runtime import Runtime


async def main(folder: str) -> None:
    runtime = Runtime()
    told = Told(print, print, lambda path, offset, size: None)
    syncing, reading = runtime.threads("sync", 2), runtime.threads("read", 1)
    log = ShardLogs(LocalDisk(), runtime, syncing, reading, LogOptions(0, 20_000), told).open(folder, SHARD)
    await asyncio.gather(*(write(log, writer) for writer in range(4)))


async def write(log: ShardLog, writer: int) -> None:
    number = writer
    while True:
        count = 1 + number % 5
        placed = await log.append(rows(*[b"%d:%s" % (number, b"x" * (number % 400))] * count))
        print(placed.first, count, number, flush=True)
        number += 4


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
