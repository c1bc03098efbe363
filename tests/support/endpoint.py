"""An HTTP endpoint on loopback that takes deliveries, remembers their ids, and misbehaves as a script says."""

from __future__ import annotations

import asyncio
import gzip
import json
import ssl
import struct
from base64 import b64decode
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from clock import put_forward

Act = Callable[["Exchange"], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Asked:
    """A request as it came."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def plain(self) -> bytes:
        return gzip.decompress(self.body) if self.headers.get("content-encoding") == "gzip" else self.body

    @property
    def id(self) -> str:
        return self.headers.get("x-amz-firehose-request-id") or self.headers.get("idempotency-key", "")

    def records(self) -> list[bytes]:
        """Of a delivery by the protocol."""
        return [b64decode(one["data"], validate=True) for one in json.loads(self.plain)["records"]]


@dataclass(slots=True)
class Exchange:
    endpoint: Endpoint
    asked: Asked
    writer: asyncio.StreamWriter

    def store(self) -> None:
        """Once for each id, as a receiver that keeps the protocol's promise."""
        self.endpoint.stored.setdefault(self.asked.id, self.asked)

    def acknowledgement(self, **changed: object) -> bytes:
        said = {"requestId": self.asked.id, "timestamp": 1_772_366_400_000, **changed}
        return json.dumps({name: value for name, value in said.items() if value is not ...}).encode()

    async def say(self, status: str, body: bytes = b"", length: bool = True, **headers: str) -> None:
        fields = {"Content-Type": "application/json", **{k.replace("_", "-"): v for k, v in headers.items()}}
        if length:
            fields["Content-Length"] = str(len(body))
        lines = [f"HTTP/1.1 {status}", *(f"{name}: {value}" for name, value in fields.items() if value)]
        self.writer.write("\r\n".join(lines).encode() + b"\r\n\r\n" + body)
        await self.writer.drain()
        if not length:
            self.writer.close()


async def take(at: Exchange) -> None:
    at.store()
    await at.say("200 OK", at.acknowledgement())


@dataclass
class Endpoint:
    """`script` is for the requests to come that carry records; when it has ended they are taken."""

    script: list[Act] = field(default_factory=list)
    asked: list[Asked] = field(default_factory=list)
    probed: list[Asked] = field(default_factory=list)
    stored: dict[str, Asked] = field(default_factory=dict)
    always: Act = take
    probe_status: str = "405 Method Not Allowed"
    port: int = 0
    scheme: str = "http"

    @property
    def url(self) -> str:
        return f"{self.scheme}://127.0.0.1:{self.port}/in/app?key=hush"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while not writer.is_closing():
                asked = await _read(reader)
                if asked is None:
                    return
                await self.answer(Exchange(self, asked, writer))
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # the client went away
        finally:
            writer.close()

    async def answer(self, at: Exchange) -> None:
        if at.asked.method == "OPTIONS":
            self.probed.append(at.asked)
            await at.say(self.probe_status)
        else:
            self.asked.append(at.asked)
            await (self.script.pop(0) if self.script else self.always)(at)


async def _read(reader: asyncio.StreamReader) -> Asked | None:
    first = await reader.readexactly(1)
    if not first.isalpha():
        return None  # it is no HTTP that the client speaks
    head = first + await reader.readuntil(b"\r\n\r\n")
    line, *fields = head[:-4].decode("latin-1").split("\r\n")
    method, path, _ = line.split(" ")
    headers = {name.lower(): value for name, _, value in (one.partition(": ") for one in fields)}
    return Asked(method, path, headers, await reader.readexactly(int(headers.get("content-length", 0))))


@asynccontextmanager
async def listening(endpoint: Endpoint, tls: ssl.SSLContext | None = None) -> AsyncIterator[Endpoint]:
    """While it lasts, the endpoint takes connections; then those that are open end."""
    tasks: set[asyncio.Task[Any]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        try:
            await endpoint.serve(reader, writer)
        except asyncio.CancelledError:
            pass  # the end of the test
        finally:
            tasks.discard(task)
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", endpoint.port, limit=1 << 27, ssl=tls)
    endpoint.port = server.sockets[0].getsockname()[1]
    endpoint.scheme = "https" if tls else "http"
    try:
        yield endpoint
    finally:
        server.close()
        for task in list(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await server.wait_closed()


# How endpoints misbehave.


def says(status: str, body: bytes = b"", length: bool = True, **headers: str) -> Act:
    """Stores nothing, and says this."""

    async def act(at: Exchange) -> None:
        await at.say(status, body, length, **headers)

    return act


def lies(**changed: object) -> Act:
    """Says 200 with an acknowledgement that is changed so; `...` leaves a member out."""

    async def act(at: Exchange) -> None:
        await at.say("200 OK", at.acknowledgement(**changed))

    return act


def acknowledges(status: str = "200 OK", length: bool = True, **headers: str) -> Act:
    """Stores nothing, and says that it did, in this way."""

    async def act(at: Exchange) -> None:
        await at.say(status, at.acknowledgement(), length, **headers)

    return act


async def hang_up(at: Exchange) -> None:
    at.writer.close()


async def lose_reply(at: Exchange) -> None:
    at.store()
    at.writer.close()


async def reset(at: Exchange) -> None:
    sock = at.writer.get_extra_info("socket")
    sock.setsockopt(1, 13, struct.pack("ii", 1, 0))  # SO_LINGER: a close is a reset
    at.writer.transport.abort()


async def be_silent(at: Exchange) -> None:
    """Stores, and says nothing until the client hangs up."""
    at.store()
    await asyncio.Event().wait()


async def stop_halfway(at: Exchange) -> None:
    """Begins an answer and never ends it."""
    at.writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 90\r\n\r\n{")
    await asyncio.Event().wait()


def overdue(act: Act, seconds: float) -> Act:
    """Acts so, and a moment later so much time has passed: for a client that has been heard, its time is over."""

    async def acted(at: Exchange) -> None:
        asyncio.get_running_loop().call_later(0.05, put_forward, seconds)
        await act(at)

    return acted


async def speak_garbage(at: Exchange) -> None:
    at.writer.write(b"I am no server\r\n\r\n")
    at.writer.close()


async def flood(at: Exchange) -> None:
    """4 MB of an answer."""
    at.writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 4000000\r\n\r\n")
    for _ in range(40):
        at.writer.write(b" " * 100_000)
        await at.writer.drain()
