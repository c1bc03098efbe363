"""Answers in chunks: over as soon as there is nobody to read them, and never made ahead of the client."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field

import httpx
import pytest
from sockets import ANSWER_SECONDS, dialled, served

from firehose import observe
from firehose.http.admission import Admission
from firehose.http.asgi import Receive, Scope, Send
from firehose.http.front import Front
from firehose.http.wire import Head, Reply, Route

CHUNK = b"x" * 1000
VERSIONS = pytest.mark.parametrize("http2", [False, True], ids=["http1", "http2"])


async def cold(scope: Scope, receive: Receive, send: Send) -> None:
    """Stands for FastAPI."""
    raise AssertionError("nothing here goes to FastAPI")


@dataclass
class Ticker:
    """Answers in as many chunks as there are permits. `closed` once it was told that it is over."""

    permits: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(0))
    fails: bool = False
    made: int = 0
    closed: asyncio.Event = field(default_factory=asyncio.Event)

    async def chunks(self) -> AsyncIterator[bytes]:
        try:
            yield b"first"
            while True:
                await self.permits.acquire()
                if self.fails:
                    raise ZeroDivisionError
                self.made += 1
                yield CHUNK
        finally:
            self.closed.set()

    async def finish(self, head: Head, body: bytes) -> Reply:
        return Reply(200, b"", (), self.chunks())

    def front(self, admission: Admission | None = None) -> Front:
        def refuse(status: int, reason: str, after_seconds: float) -> Reply:
            return Reply(status, reason.encode())

        async def plain(head: Head, body: bytes) -> Reply:
            return Reply(200, body)

        ticks = Route(lambda head: None, self.finish, 1 << 20, refuse, streamed=lambda head: True)
        echo = Route(lambda head: None, plain, 1 << 20, refuse)

        def routes(method: str, path: str, headers: Mapping[bytes, bytes]) -> tuple[str, Route]:
            return ("ticks", ticks) if path == "/ticks" else ("echo", echo)

        return Front(routes, cold, admission or Admission(1 << 20), ANSWER_SECONDS, observe.Requests())


def client(port: int, http2: bool) -> httpx.AsyncClient:
    url = f"http://127.0.0.1:{port}"
    return httpx.AsyncClient(base_url=url, http1=not http2, http2=http2, trust_env=False, timeout=ANSWER_SECONDS)


async def within(awaited: asyncio.Event) -> None:
    async with asyncio.timeout(ANSWER_SECONDS):
        await awaited.wait()


@VERSIONS
async def test_chunks(http2: bool) -> None:
    """Each chunk is there as soon as it is made, and takes no room among the bodies in flight."""
    ticker, admission = Ticker(), Admission(1 << 20)
    async with served(ticker.front(admission)) as port, client(port, http2) as asking:
        async with asking.stream("POST", "/ticks", content=b"x" * 5000) as answer:
            chunks = answer.aiter_raw()
            assert await anext(chunks) == b"first"
            for _ in range(3):
                ticker.permits.release()
                assert await anext(chunks) == CHUNK
            assert admission.in_flight_bytes == 0


@VERSIONS
async def test_client_goes_away(http2: bool) -> None:
    """A client that hangs up is noticed while nothing is there to be sent, and the chunks are closed."""
    ticker = Ticker()
    async with served(ticker.front()) as port:
        async with client(port, http2) as asking, asking.stream("POST", "/ticks", content=b"") as answer:
            assert await anext(answer.aiter_raw()) == b"first"
            assert not ticker.closed.is_set()
        await within(ticker.closed)


@VERSIONS
async def test_service_stops(http2: bool) -> None:
    """A service that stops ends its answers at once, and for their clients as if they had come to an end."""
    ticker = Ticker()
    async with client(0, http2) as asking:
        async with served(ticker.front(), drain_seconds=60) as port:
            request = asking.build_request("POST", f"http://127.0.0.1:{port}/ticks", content=b"")
            answer = await asking.send(request, stream=True)
            chunks = answer.aiter_raw()
            assert await anext(chunks) == b"first"
        assert ticker.closed.is_set()
        assert [chunk async for chunk in chunks] == []
        await answer.aclose()


@VERSIONS
async def test_chunks_fail(http2: bool) -> None:
    """Where the chunks fail the answer breaks off: to the client it is no whole one, and the server goes on."""
    ticker = Ticker(fails=True)
    ticker.permits.release()
    async with served(ticker.front()) as port, client(port, http2) as asking:
        with pytest.raises(httpx.RemoteProtocolError):
            await asking.post("/ticks", content=b"")
        await within(ticker.closed)
        assert (await asking.post("/echo", content=b"still there")).content == b"still there"


async def test_hot_connection() -> None:
    """A connection that the hot protocol carries until then may ask for an answer in chunks."""
    ticker = Ticker()

    def post(path: str, body: bytes) -> bytes:
        return b"POST %b HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%b" % (path.encode(), len(body), body)

    async with served(ticker.front()) as port, dialled(port) as peer:
        peer.send(post("/echo", b"before"))
        assert (await peer.answer()).body == b"before"
        peer.send(post("/ticks", b""))
        answer = await peer.answer()
        assert (answer.status, answer.headers["transfer-encoding"]) == (200, "chunked")
