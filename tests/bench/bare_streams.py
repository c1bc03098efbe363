"""The floor of many quiet streams: a file for each, every record written and synced by itself, an object an interval.

`python -m bench.bare_streams PORT S3_PORT FOLDER BYTES STREAMS SECONDS`: what `bare_pipeline` is to one stream. Commits
of different streams are side by side, in threads, for none may wait for another's sync. Requests go to one stream after
the other, as the load generator sends them.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import count
from pathlib import Path

import uvloop
from bench import bare_http, bare_pipeline

THREADS = 16


class Stream:
    """One file at a time; lives in the event loop."""

    def __init__(self, folder: Path, s3_port: int, seconds: float, threads: ThreadPoolExecutor) -> None:
        self._folder = folder
        self._s3_port = s3_port
        self._seconds = seconds
        self._threads = threads
        self._numbers = count()
        self._file = -1  # none is open
        self._path = folder
        self._under_way = 0
        self._is_due = False
        self._age: asyncio.TimerHandle | None = None

    def take(self, body: bytes, answer: bytes, reply: bare_http.Reply) -> None:
        loop = asyncio.get_running_loop()
        if self._file < 0:
            self._path = self._folder / f"{next(self._numbers):06}"
            self._file = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            self._age = loop.call_later(self._seconds, self.end)
        self._under_way += 1
        self._threads.submit(self._commit, loop, self._file, body, partial(reply, answer))

    def _commit(self, loop: asyncio.AbstractEventLoop, file: int, body: bytes, tell: Callable[[], None]) -> None:
        bare_pipeline.write(file, bare_pipeline.column(body))
        loop.call_soon_threadsafe(self._written, tell)

    def _written(self, tell: Callable[[], None]) -> None:
        tell()
        self._under_way -= 1
        if self._is_due:
            self.end()

    def end(self) -> None:
        """Delivers what is open, once that is written."""
        self._is_due = bool(self._under_way)
        if self._is_due or self._file < 0:
            return
        if self._age is not None:
            self._age.cancel()
        os.close(self._file)
        self._file = -1
        number = int(self._folder.name) * 10**6 + int(self._path.name)
        self._threads.submit(bare_pipeline.deliver, self._path, number, self._s3_port)


class Streams:
    """All of them."""

    def __init__(self, folder: Path, s3_port: int, answer: bytes, streams: int, seconds: float) -> None:
        self._threads = ThreadPoolExecutor(THREADS)
        self._answer = answer
        self._requests = count()
        self._streams = []
        for number in range(streams):
            own = folder / str(number)
            own.mkdir()
            self._streams.append(Stream(own, s3_port, seconds, self._threads))

    def take(self, body: bytes, reply: bare_http.Reply) -> None:
        if body == b"end":
            for stream in self._streams:
                stream.end()
            self._threads.shutdown()
            reply(self._answer)
            return
        self._streams[next(self._requests) % len(self._streams)].take(body, self._answer, reply)


def main() -> None:
    port, s3_port, folder, answer_bytes, streams, seconds = sys.argv[1:]
    answer = bare_http.answer(int(answer_bytes))
    server = Streams(Path(folder), int(s3_port), answer, int(streams), float(seconds))
    uvloop.run(bare_http.serve(int(port), server.take))


if __name__ == "__main__":
    main()
