"""Raw connections for tests, byte by byte, and a server to talk to in the test's own event loop."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from programs import PATIENCE_SECONDS

from firehose import observe
from firehose.config import ServiceOptions
from firehose.http.admission import Admission
from firehose.http.asgi import App
from firehose.http.front import Front
from firehose.http.server import server

ANSWER_SECONDS = PATIENCE_SECONDS


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    headers: Mapping[str, str]
    body: bytes


class Peer:
    """One end of a connection. Everything that waits gives up after `ANSWER_SECONDS`."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    def send(self, data: bytes) -> None:
        self._writer.write(data)

    async def drained(self) -> None:
        """Returns when the kernel has taken most of what was sent."""
        async with asyncio.timeout(ANSWER_SECONDS):
            await self._writer.drain()

    async def answer(self, head: bool = False) -> Answer:
        """The next answer; `head` where it belongs to a HEAD request and so has no body."""
        async with asyncio.timeout(ANSWER_SECONDS):
            first, *lines = (await self._reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
            pairs = [line.partition(": ") for line in lines if line]
            headers = {name.lower(): value for name, _, value in pairs}
            size = 0 if head else int(headers.get("content-length", 0))
            return Answer(int(first.split(" ")[1]), headers, await self._reader.readexactly(size))

    async def closed(self) -> bool:
        """Whether nothing more comes and the other end has closed; waits for it."""
        async with asyncio.timeout(ANSWER_SECONDS):
            try:
                return await self._reader.read() == b""
            except ConnectionResetError:
                return True

    async def hang_up(self) -> None:
        self._writer.close()
        try:
            await self._writer.wait_closed()
        except (ConnectionError, BrokenPipeError):
            pass  # the other end was quicker


@asynccontextmanager
async def dialled(port: int) -> AsyncIterator[Peer]:
    peer = Peer(*await asyncio.open_connection("127.0.0.1", port))
    try:
        yield peer
    finally:
        await peer.hang_up()


async def all_read(port: int) -> None:
    """Returns once the server has read what it was sent before: it has answered one who came later."""
    async with dialled(port) as last:
        last.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        await last.answer()


@asynccontextmanager
async def served(app: App, **options: Any) -> AsyncIterator[int]:
    """The app behind our server; its port. What is no `Front` is carried by uvicorn alone."""
    front = app
    if not isinstance(front, Front):
        front = Front(lambda *_: None, app, Admission(1 << 30), ANSWER_SECONDS, observe.Requests())
    listening = socket.create_server(("127.0.0.1", 0))
    listening.setblocking(False)
    one = server(front, ServiceOptions(**{"drain_seconds": 1, **options}))
    task = asyncio.create_task(one.serve([listening]))
    await one.listening.wait()
    try:
        yield listening.getsockname()[1]
    finally:
        one.should_exit = True
        await task
