"""A service whose disk takes a given time for each sync: `python -m bench.slow_disk CONFIG MILLISECONDS`.

As `firehose serve`, but with a disk of ours behind the door. The sync itself is made too.
"""

from __future__ import annotations

import sys
import time

import uvloop

from firehose import config
from firehose.buffer.disk import LocalDisk
from firehose.contracts import Writer
from firehose.runtime import Runtime
from firehose.service import Service


class SlowWriter:
    def __init__(self, writer: Writer, seconds: float) -> None:
        self._writer = writer
        self._seconds = seconds
        self.write = writer.write
        self.close = writer.close

    def sync(self) -> None:
        time.sleep(self._seconds)
        self._writer.sync()


class SlowDisk(LocalDisk):
    def __init__(self, seconds: float) -> None:
        self._seconds = seconds

    def create(self, path: str) -> Writer:
        return SlowWriter(super().create(path), self._seconds)

    def reopen(self, path: str, size_bytes: int) -> Writer:
        return SlowWriter(super().reopen(path, size_bytes), self._seconds)

    def sync_folder(self, path: str) -> None:
        time.sleep(self._seconds)
        super().sync_folder(path)


def main() -> None:
    path, milliseconds = sys.argv[1:]
    loaded = config.load(path)
    disk = SlowDisk(float(milliseconds) / 1000)
    uvloop.run(Service(loaded, lambda: config.load(path), disk, Runtime()).run())


if __name__ == "__main__":
    main()
