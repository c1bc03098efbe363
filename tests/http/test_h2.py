"""HTTP/2 with prior knowledge: requests as on HTTP/1.1, and the bounds that a connection of many of them needs."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import httpx
import pytest
from clock import put_forward
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.events import (
    ConnectionTerminated,
    DataReceived,
    Event,
    PingAckReceived,
    ResponseReceived,
    StreamEnded,
    StreamReset,
)
from h2.settings import SettingCodes
from sockets import ANSWER_SECONDS, served

from firehose import observe
from firehose.http import h2, h2_stream, hot
from firehose.http.admission import Admission
from firehose.http.asgi import Receive, Scope, Send
from firehose.http.front import Front
from firehose.http.shared import SHARED_BYTES, MemoryFiles
from firehose.http.wire import Head, Reply, Route

LIMIT = 16 * 1024 * 1024
KINDS = [(b":method", b"POST"), (b":scheme", b"http"), (b":authority", b"x")]


async def cold(scope: Scope, receive: Receive, send: Send) -> None:
    """Stands for FastAPI; tells what it was asked."""
    body = b"%s %s %s" % (scope["http_version"].encode(), scope["path"].encode(), scope["query_string"])
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(body))]})
    await send({"type": "http.response.body", "body": body})


@dataclass
class Work:
    """What the requests of a test do, and how many of them are at it."""

    gate: asyncio.Event | None = None
    answer: Callable[[bytes], bytes] = lambda body: body
    now: int = 0
    most: int = 0
    begun: list[bytes] = field(default_factory=list)
    made: int = 0

    async def finish(self, head: Head, body: bytes) -> Reply:
        if head.path == "/chunks":
            return Reply(200, b"", (), self.chunks(int(head.header(b"x-size"))))
        self.begun.append(body[:100])
        self.now += 1
        self.most = max(self.most, self.now)
        if self.gate is not None:
            await self.gate.wait()
        self.now -= 1
        return Reply(200, self.answer(body), ((b"host-was", head.headers.get(b"host", b"")), (b"connection", b"close")))

    async def chunks(self, size: int) -> AsyncIterator[bytes]:
        while True:
            self.made += 1
            yield b"x" * size


def front(work: Work, admission: Admission | None = None, body_seconds: float = ANSWER_SECONDS) -> Front:
    def refuse(status: int, reason: str, after_seconds: float) -> Reply:
        return Reply(status, reason.encode())

    route = Route(
        lambda head: None, work.finish, LIMIT, refuse, lambda head, body: body[:8], lambda head: head.path == "/chunks"
    )

    def routes(method: str, path: str, headers: Mapping[bytes, bytes]) -> tuple[str, Route] | None:
        return ("echo", route) if method == "POST" else None

    return Front(routes, cold, admission or Admission(4 * LIMIT), body_seconds, observe.Requests())


@dataclass
class Client:
    """One connection of the `h2` library's. It takes what comes only while something is awaited."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    http2: H2Connection
    acknowledges: bool = True
    statuses: dict[int, int] = field(default_factory=dict)
    headers: dict[int, dict[bytes, bytes]] = field(default_factory=dict)
    bodies: defaultdict[int, bytearray] = field(default_factory=lambda: defaultdict(bytearray))
    ended: set[int] = field(default_factory=set)
    resets: dict[int, Any] = field(default_factory=dict)
    goodbye: Any = None
    pongs: list[bytes] = field(default_factory=list)
    closed: bool = False

    def flush(self) -> None:
        self.writer.write(self.http2.data_to_send())

    def ask(self, body: bytes = b"", path: str = "/echo", end: bool = True, **headers: str) -> int:
        """A new request; the body must fit the window."""
        number = self.http2.get_next_available_stream_id()
        more = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
        self.http2.send_headers(number, [*KINDS, (b":path", path.encode()), *more], end_stream=end and not body)
        if body:
            self.http2.send_data(number, body, end_stream=end)
        self.flush()
        return number

    async def until(self, condition: Callable[[], bool]) -> None:
        """Takes what comes until the condition holds."""
        async with asyncio.timeout(ANSWER_SECONDS):
            while not condition():
                data = await self.read()
                assert data or condition(), "the connection was closed"
                if not data:
                    return

    async def read(self) -> bytes:
        try:
            data = await self.reader.read(1 << 16)
        except ConnectionError:
            data = b""
        self.closed = self.closed or not data
        for event in self.http2.receive_data(data):
            self.see(event)
        self.flush()
        return data

    def see(self, event: Event) -> None:
        if isinstance(event, ResponseReceived):
            self.headers[event.stream_id] = dict(event.headers)
            self.statuses[event.stream_id] = int(self.headers[event.stream_id][b":status"])
        elif isinstance(event, DataReceived):
            self.bodies[event.stream_id] += event.data
            if self.acknowledges:
                self.http2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
        elif isinstance(event, StreamEnded):
            self.ended.add(event.stream_id)
        elif isinstance(event, StreamReset):
            self.resets[event.stream_id] = event.error_code
        elif isinstance(event, ConnectionTerminated):
            self.goodbye = event.error_code
        elif isinstance(event, PingAckReceived):
            self.pongs.append(event.ping_data)

    async def seen(self, condition: Callable[[], bool]) -> None:
        """Pings until the condition holds, for what the server does without a word."""
        async with asyncio.timeout(ANSWER_SECONDS):
            while not condition():
                await self.round_trip()

    async def answered(self, *numbers: int) -> None:
        await self.until(lambda: self.ended.issuperset(numbers))

    async def round_trip(self) -> None:
        """Returns once the server has seen all that was sent, and had a moment for it."""
        for _ in range(3):
            before = len(self.pongs)
            self.http2.ping(b"12345678")
            self.flush()
            await self.until(lambda before=before: len(self.pongs) > before)  # type: ignore[misc]


@asynccontextmanager
async def dialled(port: int, **settings: int) -> AsyncIterator[Client]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    http2 = H2Connection(H2Configuration(client_side=True, header_encoding=None))
    http2.local_settings.update({SettingCodes[name.upper()]: value for name, value in settings.items()})
    http2.local_settings.acknowledge()
    http2.initiate_connection()
    client = Client(reader, writer, http2)
    client.flush()
    try:
        yield client
    finally:
        writer.close()
        try:
            await writer.wait_closed()
        except ConnectionError:
            pass  # the other end was quicker


async def test_requests() -> None:
    """A request is answered as on HTTP/1.1, hot or not; headers that belong to a connection are left out."""
    async with served(front(Work())) as port, dialled(port) as client:
        hot = client.ask(b"hello", path="/a%20b?c=d")
        client.http2.send_headers(7, [(b":method", b"GET"), *KINDS[1:], (b":path", b"/a%20b?c=d")], end_stream=True)
        client.flush()
        await client.answered(hot, 7)
        assert (client.statuses[hot], bytes(client.bodies[hot])) == (200, b"hello")
        assert (client.headers[hot][b"host-was"], b"connection" in client.headers[hot]) == (b"x", False)
        assert b"date" in client.headers[hot]
        assert bytes(client.bodies[7]) == b"2 /a b c=d"


async def test_head() -> None:
    """Is answered without a body, as a client that is told of one insists, though the app gives one."""
    async with served(front(Work())) as port, dialled(port) as client:
        client.http2.send_headers(1, [(b":method", b"HEAD"), *KINDS[1:], (b":path", b"/a")], end_stream=True)
        client.flush()
        await client.answered(1)
        assert (client.statuses[1], client.headers[1][b"content-length"], bytes(client.bodies[1])) == (200, b"5", b"")


async def test_connect() -> None:
    """Has no path, and is answered like any other request."""
    async with served(front(Work())) as port, dialled(port) as client:
        client.http2.config.validate_outbound_headers = False
        client.http2.send_headers(1, [(b":method", b"CONNECT"), (b":authority", b"x")], end_stream=True)
        client.flush()
        await client.answered(1)
        assert bytes(client.bodies[1]) == b"2  "


@pytest.mark.parametrize("step", [1, 5, 23, 24, 30])
async def test_preface_in_pieces(step: int) -> None:
    """The preface is known however it is cut, and nothing behind it is lost."""
    async with served(front(Work())) as port, dialled(port) as other, dialled(port) as client:
        await other.answered(other.ask(b"x"))
        number = client.http2.get_next_available_stream_id()
        client.http2.send_headers(number, [*KINDS, (b":path", b"/")], end_stream=True)
        data = client.http2.data_to_send()
        for at in range(0, len(data), step):
            client.writer.write(data[at : at + step])
            await client.writer.drain()
            await asyncio.sleep(0)
        await client.answered(number)


@pytest.mark.parametrize("first", [b"P", b"PRI * HTTP/2.0\r\n\r\nSM\r\n"])
async def test_preface_never_ends(first: bytes) -> None:
    """What may become a preface has as long as a head."""
    async with served(front(Work()), header_seconds=0.05) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(first)
        async with asyncio.timeout(ANSWER_SECONDS):
            await reader.read()
        writer.close()


async def test_no_preface() -> None:
    """What only begins like the preface is a request of HTTP/1.1, or none."""
    async with served(front(Work())) as port:
        for request, answer in (
            (b"POST / HTTP/1.1\r\nContent-Length: 0\r\n\r\n", b"200"),
            (b"PRI * HTTP/2.0\r\n\r\nXX", b"400"),
        ):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            for byte in request:
                writer.write(bytes([byte]))
                await writer.drain()
                await asyncio.sleep(0)
            async with asyncio.timeout(ANSWER_SECONDS):
                assert answer in await reader.readline()
            writer.close()


async def test_preface_comes_first() -> None:
    """Behind a request of HTTP/1.1 the preface is no request, and the connection ends."""
    async with served(front(Work())) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"POST / HTTP/1.1\r\nContent-Length: 0\r\n\r\n" + hot.PREFACE)
        async with asyncio.timeout(ANSWER_SECONDS):
            answers = await reader.read()
        assert [answers.count(b"HTTP/1.1 %d" % status) for status in (200, 400)] == [1, 1]
        writer.close()


async def test_large_bodies() -> None:
    """Bodies of the largest size go both ways, with and without a length, through windows much smaller than they."""
    body = bytes(range(256)) * (LIMIT // 256)

    async def pieces() -> AsyncIterator[bytes]:
        for at in range(0, LIMIT, 100_000):
            yield body[at : at + 100_000]

    async with served(front(Work())) as port:
        async with httpx.AsyncClient(http1=False, http2=True, trust_env=False, timeout=ANSWER_SECONDS) as client:
            for content in (body, pieces()):
                answer = await client.post(f"http://127.0.0.1:{port}/", content=content)
                assert (answer.http_version, answer.status_code, answer.content == body) == ("HTTP/2", 200, True)


async def test_pieces_in_memory_files() -> None:
    """They come as any others do, to each who asks."""
    large = bytes(number % 251 for number in range(SHARED_BYTES))
    pieces = (b"a", MemoryFiles().shared(large), b"z")

    async def finish(head: Head, body: bytes) -> Reply:
        return Reply(200, pieces=pieces)

    route = Route(lambda head: None, finish, LIMIT, lambda status, reason, after: Reply(status))
    async with served(replace(front(Work()), routes=lambda *_: ("pieces", route))) as port, dialled(port) as client:
        numbers = [client.ask(b"1"), client.ask(b"2")]
        await client.answered(*numbers)
        assert [bytes(client.bodies[number]) for number in numbers] == [b"a" + large + b"z"] * 2


async def test_small_windows() -> None:
    """A client whose window is a few bytes gets its answer a few bytes at a time."""
    async with served(front(Work())) as port, dialled(port, initial_window_size=10) as client:
        number = client.ask(b"0123456789" * 100)
        await client.answered(number)
        assert bytes(client.bodies[number]) == b"0123456789" * 100


async def test_window_opens_later() -> None:
    """A window that is opened by settings, or for one stream alone, lets what waited go."""
    async with served(front(Work())) as port, dialled(port, initial_window_size=0) as client:
        one, other = client.ask(b"one"), client.ask(b"other")
        await client.until(lambda: {one, other} <= client.statuses.keys())
        client.http2.increment_flow_control_window(100, other)
        client.flush()
        await client.answered(other)
        assert one not in client.ended
        client.http2.update_settings({SettingCodes.INITIAL_WINDOW_SIZE: 100})
        client.flush()
        await client.answered(one)


async def test_many_at_once() -> None:
    """Hundreds of requests may be open on one connection; so many are worked at, the others wait for their turn."""
    work = Work(gate=asyncio.Event())
    assert work.gate is not None
    async with served(front(work)) as port, dialled(port) as client:
        await client.round_trip()
        numbers = [client.ask(b"%08d" % number) for number in range(h2.STREAMS)]
        await client.seen(lambda: work.now == h2.AT_ONCE)
        await client.round_trip()
        assert (work.now, len(client.ended)) == (h2.AT_ONCE, 0)
        work.gate.set()
        await client.answered(*numbers)
        assert sorted(bytes(client.bodies[number]) for number in numbers) == sorted(
            b"%08d" % n for n in range(h2.STREAMS)
        )
        assert work.most == h2.AT_ONCE


async def test_too_many() -> None:
    """A client that opens more than it was told it may is disconnected."""
    work = Work(gate=asyncio.Event())
    async with served(front(work)) as port, dialled(port) as client:
        await client.round_trip()
        client.http2.remote_settings.update({SettingCodes.MAX_CONCURRENT_STREAMS: 2 * h2.STREAMS})
        client.http2.remote_settings.acknowledge()
        for number in range(h2.STREAMS + 1):
            client.ask(b"%d" % number)
        await client.until(lambda: client.goodbye is not None)
        assert work.gate is not None
        work.gate.set()


async def test_subscriptions_take_no_turns() -> None:
    """Answers in chunks, more than are worked at, leave the others their turns."""
    async with served(front(Work())) as port, dialled(port, initial_window_size=100) as client:
        client.acknowledges = False
        for _ in range(h2.AT_ONCE + 10):
            client.ask(path="/chunks", x_size="100")
        number = client.ask(b"still answered")
        await client.answered(number)


async def test_body_too_large() -> None:
    """A body over the limit is refused from its head, and the client told that it need not send it."""
    async with served(front(Work())) as port, dialled(port) as client:
        number = client.ask(end=False, content_length=str(LIMIT + 1))
        await client.answered(number)
        assert client.statuses[number] == 413
        await client.until(lambda: client.resets.get(number) == ErrorCodes.NO_ERROR)
        await client.answered(client.ask(b"next"))


async def test_body_of_unknown_size() -> None:
    """Bodies take room as they come, and those that find none are refused; the room is free again afterwards."""
    admission = Admission(1000)
    async with served(front(Work(), admission)) as port, dialled(port) as client:
        number = client.ask(b"x" * 2000)
        await client.answered(number)
        assert client.statuses[number] == 413
        other = client.ask(b"x" * 900)
        await client.answered(other)
        assert client.statuses[other] == 200
    assert admission.in_flight_bytes == 0


async def test_slow_body() -> None:
    """A body that does not come in time is answered 408, and the connection goes on."""
    async with served(front(Work(), body_seconds=0.05)) as port, dialled(port) as client:
        number = client.ask(b"x", end=False)
        await client.answered(number)
        assert client.statuses[number] == 408
        await client.answered(client.ask(b"next"))


async def test_reset_while_waiting() -> None:
    """A request that its client resets before its turn is never begun; one half sent takes no room any more."""
    work, admission = Work(gate=asyncio.Event()), Admission(1000)
    assert work.gate is not None
    async with served(front(work, admission)) as port, dialled(port) as client:
        for number in range(h2.AT_ONCE):
            client.ask(b"%02d" % number, content_length="2")
        await client.seen(lambda: work.now == h2.AT_ONCE)
        waiting = client.ask(b"never", content_length="5")
        await client.round_trip()
        client.http2.reset_stream(waiting)
        work.gate.set()
        half = client.ask(b"half", end=False, content_length="900")
        await client.seen(lambda: admission.in_flight_bytes == 900)
        client.http2.reset_stream(half)
        last = client.ask(b"x" * 900, content_length="900")
        await client.answered(last)
        assert client.statuses[last] == 200
        assert b"never" not in work.begun


async def test_rapid_resets() -> None:
    """A client that opens requests only to reset them is disconnected, and no more than the bound were begun."""
    work = Work(gate=asyncio.Event())
    assert work.gate is not None
    async with served(front(work)) as port, dialled(port) as client:
        await client.round_trip()
        for number in range(3 * h2.RESETS):
            client.http2.reset_stream(client.ask(b"%d" % number))
        client.flush()
        await client.until(lambda: client.goodbye is not None)
        assert client.goodbye == ErrorCodes.ENHANCE_YOUR_CALM
        assert len(work.begun) <= h2.AT_ONCE
        work.gate.set()


async def test_resets_of_a_good_client() -> None:
    """Requests that were answered make up for those that were reset."""
    async with served(front(Work())) as port, dialled(port) as client:
        for _ in range(h2.RESETS // 100 + 5):
            numbers = [client.ask(b"x") for _ in range(100)]
            await client.answered(*numbers)
            for number in [client.ask(b"y" * 10, end=False) for _ in range(100)]:
                client.http2.reset_stream(number)
            client.flush()
        await client.answered(client.ask(b"still there"))


async def test_slow_reader() -> None:
    """A client that takes nothing keeps its subscriptions from making more than a bounded number of bytes."""
    work = Work()
    size = 1024 * 1024
    async with served(front(work)) as port, dialled(port, initial_window_size=0) as client:
        numbers = [client.ask(path="/chunks", x_size=str(size)) for _ in range(50)]
        await client.until(lambda: client.statuses.keys() >= set(numbers))
        await client.round_trip()
        assert work.made == 50
        one = numbers[0]
        client.http2.increment_flow_control_window(2 * size, one)
        client.http2.increment_flow_control_window(2 * size)
        client.flush()
        await client.until(lambda: len(client.bodies[one]) >= size)
        await client.round_trip()
        assert work.made * size <= 50 * size + h2_stream.UNSENT_BYTES


async def test_stalled(monkeypatch: pytest.MonkeyPatch) -> None:
    """An answer that its client does not take for long is given up, while others on the connection go on."""
    monkeypatch.setattr(h2_stream, "STALLED_SECONDS", 0.05)
    async with served(front(Work())) as port, dialled(port, initial_window_size=5) as client:
        client.acknowledges = False
        stalled = client.ask(b"0123456789")
        await client.until(lambda: stalled in client.resets)
        assert client.resets[stalled] == ErrorCodes.CANCEL
        await client.answered(client.ask(b"01234"))


async def test_ping() -> None:
    """A PING is answered with what it carried."""
    async with served(front(Work())) as port, dialled(port) as client:
        client.http2.ping(b"abcdefgh")
        client.flush()
        await client.until(lambda: client.pongs == [b"abcdefgh"])


async def test_idle() -> None:
    """A connection without requests is closed after the time of idle ones, with a goodbye; one with requests is not."""
    work = Work(gate=asyncio.Event())
    assert work.gate is not None
    async with served(front(work), keep_alive_seconds=60) as port, dialled(port) as busy, dialled(port) as idle:
        number = busy.ask(b"x")
        await busy.seen(lambda: work.now == 1)
        await idle.round_trip()
        put_forward(60)
        await idle.until(lambda: idle.closed)
        assert idle.goodbye == ErrorCodes.NO_ERROR
        work.gate.set()
        await busy.answered(number)


async def test_shutdown() -> None:
    """A service that stops answers what is under way, refuses what is new, and says goodbye."""
    work = Work(gate=asyncio.Event())
    assert work.gate is not None
    stopping = asyncio.Event()

    async def serve() -> None:
        async with served(front(work), drain_seconds=ANSWER_SECONDS) as port:
            started.set_result(port)
            await stopping.wait()

    started: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    serving = asyncio.create_task(serve())
    async with dialled(await started) as client, dialled(await started) as idle:
        number = client.ask(b"under way")
        await client.seen(lambda: work.now == 1)
        await idle.round_trip()
        stopping.set()
        await idle.until(lambda: idle.closed)
        new = client.ask(b"new")
        await client.until(lambda: client.resets.get(new) == ErrorCodes.REFUSED_STREAM)
        work.gate.set()
        await client.until(lambda: client.closed)
        assert bytes(client.bodies[number]) == b"under way"
        assert (client.goodbye, idle.goodbye) == (ErrorCodes.NO_ERROR, ErrorCodes.NO_ERROR)
    await serving


@pytest.mark.parametrize("step", [1, 9, 100])
async def test_client_says_goodbye(step: int) -> None:
    """A client that says that it will ask no more is still answered, and only then disconnected."""
    work = Work(gate=asyncio.Event())
    assert work.gate is not None
    goaway = b"\0\0\x0c\7\0\0\0\0\0" + b"\0" * 8 + b"why?"
    async with served(front(work)) as port, dialled(port) as client:
        number = client.ask(b"x" * 16_000)
        await client.seen(lambda: work.now == 1)
        for at in range(0, len(goaway), step):
            client.writer.write(goaway[at : at + step])
            await client.writer.drain()
            await asyncio.sleep(0)
        await client.round_trip()
        work.gate.set()
        await client.until(lambda: client.closed)
        assert bytes(client.bodies[number]) == b"x" * 16_000
        assert client.goodbye == ErrorCodes.NO_ERROR


async def test_large_headers() -> None:
    """Headers over the limit end the connection."""
    async with served(front(Work()), header_limit_kib=4) as port, dialled(port) as client:
        await client.round_trip()
        client.http2.remote_settings.update({SettingCodes.MAX_HEADER_LIST_SIZE: 1 << 20})
        many = {f"x_{number}": "y" * 500 for number in range(20)}
        client.ask(b"x", "/echo", True, **many)
        await client.until(lambda: client.goodbye is not None)
        assert client.goodbye == ErrorCodes.ENHANCE_YOUR_CALM


@pytest.mark.parametrize("frame", [b"\0\0\0\5\0\0\0\0\1", b"GET / HTT", b"\0\x40\1\0\0\0\0\0\1", b"\xff" * 9])
async def test_garbage(frame: bytes) -> None:
    """What is no HTTP/2 ends the connection, and says why; of a frame that is too large nothing more is taken."""
    async with served(front(Work())) as port, dialled(port) as client:
        await client.round_trip()
        client.writer.write(frame)
        await client.until(lambda: client.goodbye is not None)
        assert client.goodbye in (ErrorCodes.PROTOCOL_ERROR, ErrorCodes.FRAME_SIZE_ERROR)


async def test_too_many_connections() -> None:
    """Connections of HTTP/2 count like the others."""
    async with served(front(Work()), connections=1) as port, dialled(port) as client:
        await client.answered(client.ask(b"x"))
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        assert b"503" in await reader.readline()
        writer.close()
