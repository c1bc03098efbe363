"""The bare protocol: when it keeps a connection, when it passes it on, and what it does with time."""

from __future__ import annotations

import asyncio
import json
import tracemalloc
from contextlib import AsyncExitStack
from dataclasses import replace
from itertools import accumulate

import pytest
from clock import put_forward
from sockets import ANSWER_SECONDS, Peer, all_read, dialled, served
from uvicorn.server import ServerState

from firehose import observe
from firehose.config import ServiceOptions
from firehose.http.admission import Admission
from firehose.http.answers import JOINED_BYTES
from firehose.http.asgi import Receive, Scope, Send
from firehose.http.front import Front
from firehose.http.hot import HEADS, HeadReader, HotProtocol
from firehose.http.wire import Head, Reply, Route

LIMIT = 64 * 1024


async def cold(scope: Scope, receive: Receive, send: Send) -> None:
    """Stands for FastAPI."""
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"4")]})
    await send({"type": "http.response.body", "body": b"cold"})


def echo(gate: asyncio.Event | None = None, body_seconds: float = ANSWER_SECONDS) -> Front:
    """Answers what it is sent to any path below /hot, once the gate is open."""

    async def finish(head: Head, body: bytes) -> Reply:
        if gate is not None:
            await gate.wait()
        return Reply(200, body)

    def refuse(status: int, reason: str, after_seconds: float) -> Reply:
        return Reply(status, reason.encode())

    def begin(head: Head) -> Reply | None:
        return refuse(404, "none", 0) if head.path == "/hot/none" else None

    route = Route(begin, finish, LIMIT, refuse)

    def routes(method: str, path: str, headers: object) -> tuple[str, Route] | None:
        return ("echo", route) if path.startswith("/hot") else None

    return Front(routes, cold, Admission(4 * LIMIT), body_seconds, observe.Requests())


def post(body: bytes, path: str = "/hot", extra: str = "") -> bytes:
    return f"POST {path} HTTP/1.1\r\nHost: x\r\n{extra}Content-Length: {len(body)}\r\n\r\n".encode() + body


async def bodies(peer: Peer, count: int) -> list[bytes]:
    return [(await peer.answer()).body for _ in range(count)]


async def test_mixed() -> None:
    """Hot and other requests may share a connection, in any order and even in one piece."""
    get = b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n"
    async with served(echo()) as port, dialled(port) as peer:
        peer.send(post(b"1") + post(b"2") + get + post(b"3") + get)
        assert await bodies(peer, 5) == [b"1", b"2", b"cold", b"3", b"cold"]
        peer.send(post(b"4"))
        assert await bodies(peer, 1) == [b"4"]


async def test_pipelined() -> None:
    """A thousand requests in one piece are answered one by one, in order."""
    async with served(echo()) as port, dialled(port) as peer:
        peer.send(b"".join(post(b"%d" % number) for number in range(1000)))
        assert await bodies(peer, 1000) == [b"%d" % number for number in range(1000)]


@pytest.mark.parametrize("cut", [1, 7, 40, 70, 75])
async def test_any_piece(cut: int) -> None:
    """Wherever a request is cut in two, also in its head, it is answered whole, and so is the one behind it."""
    both = post(b"a" * 40) + post(b"b" * 40)
    async with served(echo()) as port, dialled(port) as peer:
        for part in (both[:cut], both[cut : cut + 60], both[cut + 60 :]):
            peer.send(part)
            await peer.drained()
            await asyncio.sleep(0)
        assert await bodies(peer, 2) == [b"a" * 40, b"b" * 40]


def protocol(front: Front) -> HotProtocol:
    """One that never passes its connection on."""
    other = asyncio.Protocol
    return HotProtocol(front, HeadReader(front, 4096), ServiceOptions(), ServerState(), other, other)


class Unheard(asyncio.Transport):
    """Goes nowhere."""

    def is_closing(self) -> bool:
        return False

    def write(self, data: bytes | bytearray | memoryview) -> None: ...


async def test_tiny_pieces() -> None:
    """A body in pieces of a byte takes hardly more memory than it has bytes: more than its room nobody counts."""
    front = echo()
    one = HotProtocol(
        front, HeadReader(front, 4096), ServiceOptions(), ServerState(), asyncio.Protocol, asyncio.Protocol
    )
    one.connection_made(Unheard())
    request = post(bytes(range(256)) * 200)
    start = len(request) - 51_200
    tracemalloc.start()
    try:
        one.data_received(request[:start])
        for at in range(start, len(request) - 1):
            one.data_received(bytes(bytearray(request[at : at + 1])))
        assert tracemalloc.get_traced_memory()[0] < 2 * 51_200
    finally:
        tracemalloc.stop()
    assert front.admission.in_flight_bytes == 51_200
    one.connection_lost(None)
    assert front.admission.in_flight_bytes == 0


@pytest.mark.parametrize("sizes", [[1] * 3000, [3000, 1, 1, 5000, 2048, 2047, 7], [1, 2048, 1]])
async def test_pieces_of_all_sizes(sizes: list[int]) -> None:
    """A body is put together in its order, whatever the sizes of its pieces."""
    front, bodies = echo(), list[bytes]()

    async def finish(head: Head, body: bytes) -> Reply:
        bodies.append(body)
        return Reply(200)

    route = Route(lambda head: None, finish, LIMIT, lambda status, reason, after: Reply(status))
    front = replace(front, routes=lambda *_: ("echo", route))
    one = HotProtocol(
        front, HeadReader(front, 4096), ServiceOptions(), ServerState(), asyncio.Protocol, asyncio.Protocol
    )
    one.connection_made(Unheard())
    body = bytes(number % 251 for number in range(sum(sizes)))
    one.data_received(post(body)[: -len(body)])
    ends = list(accumulate(sizes))
    for start, end in zip([0, *ends], ends, strict=False):
        one.data_received(body[start:end])
    one.connection_lost(None)
    assert bodies == [body]


@pytest.mark.parametrize("size", [0, 1, JOINED_BYTES - 1, JOINED_BYTES, 5_000_000])
async def test_answers_of_all_sizes(size: int) -> None:
    """An answer comes whole and in order, also where its body is written for itself."""
    answer = bytes(number % 251 for number in range(size))

    async def finish(head: Head, body: bytes) -> Reply:
        return Reply(200, answer + body)

    route = Route(lambda head: None, finish, LIMIT, lambda status, reason, after: Reply(status))
    async with served(replace(echo(), routes=lambda *_: ("echo", route))) as port, dialled(port) as peer:
        peer.send(post(b"1") + post(b"2"))
        assert await bodies(peer, 2) == [answer + b"1", answer + b"2"]


@pytest.mark.parametrize("sizes", [[1], [3, 4], [1, JOINED_BYTES, 2], [100_000] * 50], ids=len)
async def test_answers_in_pieces(sizes: list[int]) -> None:
    """An answer whose body lies in pieces comes as one whose body is whole, on the way through the front as well."""
    pieces = tuple(bytes([number]) * size for number, size in enumerate(sizes))

    async def finish(head: Head, body: bytes) -> Reply:
        return Reply(200, pieces=pieces)

    route = Route(lambda head: None, finish, LIMIT, lambda status, reason, after: Reply(status))
    front = replace(echo(), routes=lambda *_: ("echo", route))
    async with served(front) as port, dialled(port) as peer:
        peer.send(post(b"1") + b"POST /echo HTTP/1.1\r\nhost: us\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n")
        assert await bodies(peer, 2) == [b"".join(pieces)] * 2


async def test_waits_for_its_turn() -> None:
    """What comes while a request is being answered waits, unread beyond one piece."""
    gate = asyncio.Event()
    async with served(echo(gate)) as port, dialled(port) as peer:
        peer.send(post(b"first"))
        peer.send(post(b"second") + post(b"third"))
        await peer.drained()
        gate.set()
        assert await bodies(peer, 3) == [b"first", b"second", b"third"]


async def test_late_body() -> None:
    """A body that stops is answered 408 in time, and the connection closed; its room is given back."""
    front = echo(body_seconds=0.1)
    async with served(front) as port, dialled(port) as peer:
        peer.send(post(b"a" * 100)[:-1])
        answer = await peer.answer()
        assert (answer.status, answer.headers["connection"]) == (408, "close")
        peer.send(b"too late")
        assert await peer.closed()
    assert front.admission.in_flight_bytes == 0
    assert dict(front.requests.answered) == {("echo", 408): 1}


async def test_idle() -> None:
    """A connection that had its answers is closed after a while; each request starts the while anew."""
    async with served(echo(), keep_alive_seconds=60) as port, dialled(port) as peer:
        for _ in range(3):
            put_forward(40)
            peer.send(post(b"1"))
            assert await bodies(peer, 1) == [b"1"]
        put_forward(60)
        assert await peer.closed()


async def test_long_answer() -> None:
    """An answer may take longer than a connection may be idle."""
    gate = asyncio.Event()
    async with served(echo(gate), keep_alive_seconds=60) as port, dialled(port) as peer:
        peer.send(post(b"1"))
        async with dialled(port) as idle:
            await all_read(port)
            put_forward(60)
            assert await idle.closed()
        gate.set()
        assert await bodies(peer, 1) == [b"1"]


async def send_on(writer: asyncio.StreamWriter) -> None:
    """One request after the other, each in a piece of its own, until the other end has had enough."""
    async with asyncio.timeout(ANSWER_SECONDS):
        while True:
            writer.write(post(b"1"))
            await writer.drain()
            await asyncio.sleep(0.01)


async def test_unread_answers() -> None:
    """A client that sends and never reads is not read any more, and after a while it is cut off."""
    front, answered = echo(), 0

    async def finish(head: Head, body: bytes) -> Reply:
        nonlocal answered
        answered += 1
        return Reply(200, bytes(1024 * 1024))

    route = Route(lambda head: None, finish, LIMIT, lambda status, reason, after: Reply(status, reason.encode()))
    front = Front(lambda *_: ("echo", route), cold, front.admission, ANSWER_SECONDS, front.requests)
    async with served(front, keep_alive_seconds=1) as port:
        _, writer = await asyncio.open_connection("127.0.0.1", port, limit=1024)
        with pytest.raises(ConnectionError):
            await send_on(writer)
        writer.close()
    assert answered < 50


async def test_slow_reader() -> None:
    """A client that reads late gets every answer, in order."""
    async with served(echo()) as port, dialled(port) as peer:
        for number in range(200):
            peer.send(post(b"%d" % number * 10_000))
            await asyncio.sleep(0)
        assert await bodies(peer, 200) == [b"%d" % number * 10_000 for number in range(200)]


async def test_early_refusal() -> None:
    """A refusal keeps the connection where the body is there; where it is not, it is answered and closed."""
    async with served(echo()) as port:
        async with dialled(port) as peer:
            peer.send(post(b"1", "/hot/none") + post(b"2"))
            assert [(await peer.answer()).status, (await peer.answer()).status] == [404, 200]
        async with dialled(port) as peer:
            peer.send(post(b"1" * 100, "/hot/none")[:-50])
            answer = await peer.answer()
            assert (answer.status, answer.headers["connection"]) == (404, "close")
            peer.send(b"1" * 50)
            assert await peer.closed()


@pytest.mark.parametrize("body", [b"1", b""])
async def test_connection_close(body: bytes) -> None:
    """A client that asks for it gets its connection closed behind the answer, be there a body or none."""
    async with served(echo()) as port, dialled(port) as peer:
        peer.send(post(body, extra="Connection: close\r\n"))
        answer = await peer.answer()
        assert (answer.body, answer.headers.get("connection")) == (body, "close")
        assert await peer.closed()


async def test_too_many() -> None:
    """Connections of both kinds are counted together."""
    async with served(echo(), connections=2) as port, AsyncExitStack() as stack:
        hot = await stack.enter_async_context(dialled(port))
        hot.send(post(b"1"))
        assert await bodies(hot, 1) == [b"1"]
        other = await stack.enter_async_context(dialled(port))
        other.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert await bodies(other, 1) == [b"cold"]
        third = await stack.enter_async_context(dialled(port))
        assert (await third.answer()).status == 503
        assert await third.closed()


async def test_stop() -> None:
    """Stopping closes idle connections at once, and others behind their answer."""
    gate = asyncio.Event()
    async with AsyncExitStack() as stack:
        server = AsyncExitStack()
        port = await server.enter_async_context(served(echo(gate), drain_seconds=ANSWER_SECONDS))
        idle = await stack.enter_async_context(dialled(port))
        busy = await stack.enter_async_context(dialled(port))
        busy.send(post(b"1"))
        await busy.drained()
        stopping = asyncio.create_task(server.aclose())
        assert await idle.closed()
        gate.set()
        answer = await busy.answer()
        assert (answer.body, answer.headers["connection"]) == (b"1", "close")
        await stopping


@pytest.mark.parametrize(
    "head",
    [
        b"POST /hot HTTP/1.1\r\nHost: x\r\n\r\n",
        b"POST /hot HTTP/1.0\r\nContent-Length: 1\r\n\r\n",
        b"POST /hot HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"POST /hot HTTP/1.1\r\nTransfer-Encoding: chunked\r\nContent-Length: 1\r\n\r\n",
        b"POST /hot HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        b"POST /hot HTTP/1.1\r\nContent-Length: +1\r\n\r\n",
        b"POST /hot HTTP/1.1\r\nContent-Length: 1\r\nExpect: 100-continue\r\n\r\n",
        b"POST /hot HTTP/1.1\r\nContent-Length: 1\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n",
        b"POST /h%6Ft HTTP/1.1\r\nContent-Length: 1\r\n\r\n",
        b"POST http://x/hot HTTP/1.1\r\nContent-Length: 1\r\n\r\n",
        b"GET /hot HTTP/1.1\r\nContent-Length: 1\r\n\r\n",
        b"POST /cold HTTP/1.1\r\nContent-Length: 1\r\n\r\n",
        b"POST /hot HTTP/1.1\nContent-Length: 1\n\nPOST /hot HTTP/1.1\r\n\r\n",
        b"POST /hot HTTP/1.1\r\nX: " + b"a" * 5000 + b"\r\nContent-Length: 1\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\n",
        b"POST /hot HTTP/1.1\r\nConte",
        b"\x16\x03\x01",
        b"",
    ],
)
def test_not_its_business(head: bytes) -> None:
    """Whatever is not a plain hot head, whole and with one length, is left to FastAPI's server."""
    assert HeadReader(echo(), 4096).read(head) is None


def test_understood() -> None:
    """A head is understood as it is sent, and the same bytes again are the same request."""
    heads = HeadReader(echo(), 4096)
    head = b"PUT /hot/a?b=c HTTP/1.1\r\nHost: x\r\nX-Key: 1\r\nX-KEY: 2\r\nContent-Length: 7\r\n\r\n"
    found = heads.read(head)
    assert found is not None
    assert (found.head.method, found.head.path, found.head.query, found.length) == ("PUT", "/hot/a", b"b=c", 7)
    assert found.head.header(b"x-key") == "2"
    assert heads.read(bytes(bytearray(head))) is found


def test_bounded_memory_of_heads() -> None:
    """However many different heads come, few are remembered, and none that is large."""
    heads = HeadReader(echo(), 4096)
    for number in range(2 * HEADS):
        assert heads.read(post(b"", extra=f"X-Number: {number}\r\n")) is not None
    assert heads.read(post(b"", extra=f"X-Long: {'a' * 2000}\r\n")) is not None
    assert len(heads.known) <= HEADS
    assert max(map(len, heads.known)) < 1100


async def test_given_up() -> None:
    """A handler that waits for something that is cancelled is answered 503, and its room is given back."""

    async def finish(head: Head, body: bytes) -> Reply:
        call: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().call_soon(call.cancel)
        return await call

    front = echo()
    route = Route(lambda head: None, finish, LIMIT, lambda status, reason, after: Reply(status, reason.encode()))
    front = Front(lambda *_: ("echo", route), cold, front.admission, ANSWER_SECONDS, front.requests)
    async with served(front) as port, dialled(port) as peer:
        peer.send(post(b"1"))
        assert (await peer.answer()).status == 503
    assert front.admission.in_flight_bytes == 0


async def test_bug() -> None:
    """A handler's bug is answered 500 and the connection lives on."""

    async def finish(head: Head, body: bytes) -> Reply:
        await asyncio.sleep(0)
        return Reply(200, json.dumps(1 / int(body)).encode())

    front = echo()
    route = Route(lambda head: None, finish, LIMIT, lambda status, reason, after: Reply(status, reason.encode()))
    front = Front(lambda *_: ("echo", route), cold, front.admission, ANSWER_SECONDS, front.requests)
    async with served(front) as port, dialled(port) as peer:
        peer.send(post(b"0") + post(b"1"))
        assert [(await peer.answer()).status, (await peer.answer()).status] == [500, 200]
