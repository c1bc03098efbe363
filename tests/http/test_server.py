"""The bounds of a connection: size and time of a head, number of connections, idle ones, and what is no HTTP."""

from __future__ import annotations

import asyncio
import select
import socket
from contextlib import AsyncExitStack, ExitStack

import pytest
import uvloop
from clock import put_forward
from sockets import ANSWER_SECONDS, all_read, dialled, served

from firehose.http import server
from firehose.http.asgi import Receive, Scope, Send
from firehose.http.server import BIT_BYTES, BoundedProtocol


async def hello(scope: Scope, receive: Receive, send: Send) -> None:
    """Answers without a look at the body."""
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"hi"})


GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"


async def test_few_of_many_wait() -> None:
    """Of thousands of requests in one piece only some are made into more than their bytes before it is their turn."""
    made = most = 0

    async def counted(scope: Scope, receive: Receive, send: Send) -> None:
        nonlocal made, most
        most = max(most, made)
        made -= 1
        await hello(scope, receive, send)

    class Counting(BoundedProtocol):
        def on_headers_complete(self) -> None:
            nonlocal made
            made += 1
            super().on_headers_complete()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(server, "BoundedProtocol", Counting)
        async with served(counted) as port, dialled(port) as peer:
            peer.send(GET * 3000)
            for _ in range(3000):
                assert (await peer.answer()).body == b"hi"
    assert most <= 2 * BIT_BYTES // len(GET)


async def test_all_who_wait_are_told() -> None:
    """A client that leaves is missed by the request that is worked at, also where another one came behind it."""
    heard = asyncio.Queue[str]()

    async def listening(scope: Scope, receive: Receive, send: Send) -> None:
        for _ in range(2):
            heard.put_nowait((await receive())["type"])

    async with served(listening) as port:
        async with dialled(port) as peer:
            peer.send(GET * 2)
            assert await heard.get() == "http.request"
        async with asyncio.timeout(ANSWER_SECONDS):
            assert await heard.get() == "http.disconnect"


async def test_slow_head() -> None:
    """A head that does not arrive in time is answered 408 and the connection closed."""
    async with served(hello, header_seconds=0.05) as port, dialled(port) as peer:
        peer.send(b"GET / HTTP/1.1\r\nHo")
        assert (await peer.answer()).status == 408
        assert await peer.closed()


async def test_dripping_head() -> None:
    """Bytes that keep dripping do not buy more time: the head has one deadline."""
    async with served(hello, header_seconds=0.2) as port, dialled(port) as peer:
        peer.send(b"GET / HTTP/1.1\r\n")

        async def drip() -> None:
            while True:
                peer.send(b"X-A: b\r\n")
                await asyncio.sleep(0)

        dripping = asyncio.create_task(drip())
        try:
            assert (await peer.answer()).status in (408, 431)
        finally:
            dripping.cancel()


async def test_slow_second_head() -> None:
    """The deadline holds for every request of a connection, not only for its first."""
    async with served(hello, header_seconds=0.05) as port, dialled(port) as peer:
        peer.send(GET)
        assert (await peer.answer()).status == 200
        peer.send(b"GET /")
        assert (await peer.answer()).status == 408


async def test_time_is_for_heads_alone() -> None:
    """A connection may wait between requests for longer than a head may take."""
    async with served(hello, header_seconds=0.01, keep_alive_seconds=60) as port, dialled(port) as peer:
        for _ in range(3):
            peer.send(GET)
            assert (await peer.answer()).status == 200
            async with served(hello):  # takes longer than a head may
                pass


@pytest.mark.parametrize("blanks", [b"", b"\r\n\r\n"], ids=["", "blanks"])
@pytest.mark.parametrize("requests", [0, 1])
async def test_idle(requests: int, blanks: bytes) -> None:
    """A connection without a request under way is closed after a while, whatever blanks it sends."""
    async with served(hello, keep_alive_seconds=60) as port, dialled(port) as peer:
        for _ in range(requests):
            peer.send(GET)
            assert (await peer.answer()).status == 200
        peer.send(blanks)
        await all_read(port)
        put_forward(60)
        assert await peer.closed()


@pytest.mark.parametrize(
    "head",
    [
        b"GET / HTTP/1.1\r\nX-Long: " + b"a" * 3000,
        b"GET / HTTP/1.1\r\nX-Long: " + b"a" * 3000 + b"\r\n\r\n",
        b"GET /" + b"a" * 3000 + b" HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + b"".join(b"X-%d: 1\r\n" % n for n in range(500)) + b"\r\n",
    ],
    ids=["no end", "one header", "path", "many headers"],
)
async def test_head_too_large(head: bytes) -> None:
    """A head over the limit is answered 431 once and the connection closed, in one piece or in many."""
    for pieces in ((head,), (head[:600], head[600:1800])):
        async with served(hello, header_limit_kib=1, header_seconds=5) as port, dialled(port) as peer:
            for piece in pieces:
                peer.send(piece)
                await peer.drained()
            assert (await peer.answer()).status == 431
            assert await peer.closed()


async def test_body_is_no_head() -> None:
    """A large body in front of a pipelined request does not count as that one's head."""
    body = b"x" * 200_000
    first = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body) + body
    async with served(hello, header_limit_kib=1) as port, dialled(port) as peer:
        peer.send(first + GET[:10])
        assert (await peer.answer()).status == 200
        peer.send(GET[10:])
        assert (await peer.answer()).status == 200


def test_many_connections_at_once() -> None:
    """Clients that come together are answered within a few turns of the loop that the service runs on: where turns are
    long, one a turn would have the last wait for as many turns as there are clients.
    """
    clients = 64

    async def turns_taken() -> int:
        async with served(hello) as port:
            with ExitStack() as stack:
                waiting = [stack.enter_context(socket.create_connection(("127.0.0.1", port))) for _ in range(clients)]
                for one in waiting:
                    one.sendall(GET)
                turns = 0
                while waiting:
                    await asyncio.sleep(0)
                    turns += 1
                    answered = select.select(waiting, (), (), 0)[0]
                    waiting = [one for one in waiting if one not in answered]
                return turns

    assert uvloop.run(turns_taken()) < clients / 2


def test_too_many_connections_at_once() -> None:
    """Of clients that come together as many are answered as there is room for, and the others refused."""

    async def statuses() -> list[bytes]:
        loop = asyncio.get_running_loop()
        async with served(hello, connections=2) as port:
            with ExitStack() as stack:
                clients = [stack.enter_context(socket.create_connection(("127.0.0.1", port))) for _ in range(16)]
                for one in clients:
                    one.sendall(GET)
                    one.setblocking(False)
                return [(await loop.sock_recv(one, 12))[9:] for one in clients]

    assert sorted(uvloop.run(statuses())) == [b"200"] * 2 + [b"503"] * 14


async def test_too_many_connections() -> None:
    """One connection too many is answered 503 at once; when another has gone there is room."""
    async with served(hello, connections=2) as port:
        async with dialled(port) as one, dialled(port) as two:
            for peer in (one, two):
                peer.send(GET)
                assert (await peer.answer()).status == 200
            async with dialled(port) as three:
                answer = await three.answer()
                assert (answer.status, answer.headers["retry-after"]) == (503, "1")
                assert await three.closed()
            await one.hang_up()
            status = 503
            while status == 503:
                async with dialled(port) as four:
                    four.send(GET)
                    status = (await four.answer()).status
            assert status == 200


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"hello\r\n\r\n",
        b"GET / HTTP/9.9.9\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00",  # a client that speaks TLS
        b"POST / HTTP/1.1\r\nContent-Length: many\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: " + b"9" * 40 + b"\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nx",
        b"POST / HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n",
        b"GET /\xff HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nno colon\r\n\r\n",
        b"GET / HTTP/1.1\r\nX: a\x00b\r\n\r\n",
        b"CONNECT example:80 HTTP/1.1\r\n\r\n",
    ],
)
async def test_no_http(request_bytes: bytes) -> None:
    """What is no HTTP, or could be read in two ways, is answered 400 and the connection closed."""
    async with served(hello) as port, dialled(port) as peer:
        peer.send(request_bytes)
        assert (await peer.answer()).status == 400
        assert await peer.closed()


async def test_stop_answers_what_is_under_way() -> None:
    """A server that is told to stop still answers the request it has."""
    begun, gate = asyncio.Event(), asyncio.Event()

    async def slow(scope: Scope, receive: Receive, send: Send) -> None:
        begun.set()
        await gate.wait()
        await hello(scope, receive, send)

    async with AsyncExitStack() as stack:
        server = AsyncExitStack()
        port = await server.enter_async_context(served(slow))
        peer = await stack.enter_async_context(dialled(port))
        peer.send(GET)
        await begun.wait()
        stopping = asyncio.create_task(server.aclose())
        await asyncio.sleep(0)
        gate.set()
        assert (await peer.answer()).status == 200
        await stopping
