"""A connection as long as its requests are plain and hot: a bare httptools protocol that carries the hot routes.

Where one event comes per request, the server is most of the cost; docs/performance.md says what this one saves.
It takes a request whose head comes in one piece and says how long the body is. With the first request that is
anything else (another route, chunks in or out, `Expect`, no HTTP at all, a refusal that must read on) it passes the
connection on to FastAPI's server, from that request's first byte on and for good, so that the rare and the odd are
dealt with in one place; one that begins with the preface of HTTP/2 goes to `h2`. It keeps every bound: body size,
bytes in flight, time of a body, idle time, connections.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, Protocol, cast

import httptools

from firehose import observe
from firehose.config import ServiceOptions
from firehose.http.front import LINGER_SECONDS, Front
from firehose.http.sending import Sending, send
from firehose.http.shared import in_memory
from firehose.http.wire import Head, Reply, Route

END_OF_HEAD = b"\r\n\r\n"
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"  # of HTTP/2
HEADS = 1024  # a client's heads are alike: so many are remembered as they were understood
HEAD_BYTES = 1024  # those of at most that size
PIECE_BYTES = 2048  # of a body: smaller ones are put together, for each by itself costs hundreds of bytes more
NEVER = float("inf")


class Shared(Protocol):
    """What the connections of a server have in common: uvicorn's `ServerState`."""

    connections: set[Any]
    default_headers: list[tuple[bytes, bytes]]


@dataclass(frozen=True, slots=True)
class Request:
    """A head that was understood, and where its request goes."""

    head: Head
    dialect: str
    route: Route
    length: int
    keep_alive: bool


class HeadReader:
    """Understands the heads of hot requests; None of all others. It remembers the last ones it saw."""

    def __init__(self, front: Front, limit_bytes: int) -> None:
        self._front = front
        self._limit_bytes = limit_bytes
        self.known: dict[bytes, Request] = {}

    def read(self, head: bytes) -> Request | None:
        known = self.known.get(head)
        if known is None and (known := self._understood(head)) and len(head) <= HEAD_BYTES:
            if len(self.known) == HEADS:
                self.known.clear()
            self.known[head] = known
        return known

    def _understood(self, head: bytes) -> Request | None:
        if len(head) > self._limit_bytes:
            return None
        parts = _HeadParts()
        parts.parser = parser = httptools.HttpRequestParser(parts)
        try:
            parser.feed_data(head)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            return None
        length = parts.headers.get(b"content-length", b"")
        plain = parts.url.startswith(b"/") and b"%" not in parts.url and b"#" not in parts.url and parts.url.isascii()
        odd = b"transfer-encoding" in parts.headers or b"expect" in parts.headers or b"upgrade" in parts.headers
        if not plain or odd or parts.has_body or not length.isdigit() or parser.get_http_version() != "1.1":
            return None
        path, _, query = parts.url.partition(b"?")
        return self._routed(Head(parser.get_method().decode(), path.decode(), query, parts.headers), parts.keep_alive)

    def _routed(self, head: Head, keep_alive: bool) -> Request | None:
        found = self._front.routes(head.method, head.path, head.headers) if head.method in ("POST", "PUT") else None
        if found is None or found[1].streamed(head):
            return None
        length = int(head.headers[b"content-length"])
        if length > self._front.limit_bytes(found[1]):
            return None
        return Request(head, *found, length, keep_alive)


class _HeadParts:
    """What the parser calls back with."""

    def __init__(self) -> None:
        self.parser: Any = None
        self.url = b""
        self.headers: dict[bytes, bytes] = {}
        self.keep_alive = self.has_body = False

    def on_url(self, url: bytes) -> None:
        self.url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers[name.lower()] = value

    def on_headers_complete(self) -> None:
        self.keep_alive = self.parser.should_keep_alive()  # once the message is whole it has forgotten that
        self.parser = None

    def on_body(self, body: bytes) -> None:
        self.has_body = True  # the parser sees the head end before we do: not to be trusted


class HotProtocol(asyncio.Protocol):
    """One connection. At each moment it is idle, reads a body, has a request answered, or lingers before it closes."""

    def __init__(
        self,
        front: Front,
        heads: HeadReader,
        options: ServiceOptions,
        shared: Shared,
        rest: Callable[[], asyncio.Protocol],
        http2: Callable[[], asyncio.Protocol],
    ) -> None:
        self._front = front
        self._heads = heads
        self._options = options
        self._shared = shared
        self._rest = rest
        self._http2 = http2
        self._is_new = True  # while its first bytes may be the preface of HTTP/2
        self._first = b""  # which then wait here
        self._loop = asyncio.get_running_loop()
        self._request: Request | None = None  # whose body is read, or which is being answered
        self._answering = False
        self._body = b""  # that is whole, until its turn comes
        self._answer_to_come: Coroutine[Any, None, Reply]
        self._chunks: list[memoryview | bytearray] = []
        self._left = 0  # bytes of the body to come
        self._pending = b""  # what came behind the request that is being answered
        self._admitted = 0
        self._paused = self._choked = self._stopping = self._lingering = False
        self._sending: Sending | None = None  # an answer, past the transport
        self._closing = False  # once that is sent
        self._deadline = NEVER
        self._timer: asyncio.TimerHandle | None = None

    # What the transport and the server call.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        if len(self._shared.connections) >= self._options.connections:
            self._pass_on(b"", self._rest)  # to be told that there are too many
            return
        self._shared.connections.add(self)
        self._expect(self._options.keep_alive_seconds)

    def connection_lost(self, exc: Exception | None) -> None:
        self._leave()
        if self._sending is not None:
            self._sending.stop()
            self._sending = None
        if not self._answering:
            self._release()

    def data_received(self, data: bytes) -> None:
        if self._lingering:
            return
        if self._is_new:
            self._begin_connection(self._first + data)
        elif self._answering or self._pending or self._choked:
            self._pending += data
            self._paused = True
            self._transport.pause_reading()
        elif self._request is None:
            self._begin(data)
        else:
            self._read(data)

    def pause_writing(self) -> None:
        """Nothing more is taken from a client that does not read its answers."""
        self._choked = True

    def resume_writing(self) -> None:
        self._choked = False
        if not self._answering:
            self._go_on()

    def eof_received(self) -> bool:
        """Whether the connection stays: a client that sends no more may still read its answer."""
        self._closing = self._sending is not None
        return self._closing

    def shutdown(self) -> None:
        """What is under way is still answered."""
        self._stopping = True
        if self._request is None:
            self._close()

    # A request from its first byte to its answer.

    def _begin_connection(self, data: bytes) -> None:
        if not PREFACE.startswith(data[: len(PREFACE)]):
            self._is_new, self._first = False, b""
            self._begin(data)
        elif len(data) < len(PREFACE):
            self._first = data
            self._expect(self._options.header_seconds)
        else:
            self._pass_on(data, self._http2)

    def _begin(self, data: bytes) -> None:
        end = data.find(END_OF_HEAD) + len(END_OF_HEAD)
        request = self._heads.read(data[:end])
        if request is None:
            self._pass_on(data, self._rest)
            return
        whole = end + request.length
        early = request.route.begin(request.head)
        if early is None and not self._front.admission.admit(request.length):
            early = self._front.overload(request.route)
        if early is not None and whole > len(data):
            self._pass_on(data, self._rest)  # it is answered before its body is read: what follows must be thrown away
            return
        self._request, self._pending = request, data[whole:]
        if early is not None:
            self._answer(early)
            return
        self._admitted = request.length
        if whole > len(data):
            self._chunks, self._left = [memoryview(data)[end:]], whole - len(data)
            self._expect(self._front.body_seconds)
        else:
            self._handle(request, data[end:whole])

    def _read(self, data: bytes) -> None:
        """More of a body, and perhaps of what follows it."""
        assert self._request is not None
        self._keep(memoryview(data)[: self._left])
        self._pending = data[self._left :]
        self._left -= len(data) - len(self._pending)
        if not self._left:
            chunks, self._chunks = self._chunks, []
            self._handle(self._request, b"".join(chunks))

    def _keep(self, piece: memoryview) -> None:
        last = self._chunks[-1]
        if len(piece) >= PIECE_BYTES:
            self._chunks.append(piece)
        elif isinstance(last, bytearray):
            last += piece
        else:
            self._chunks.append(bytearray(piece))

    def _handle(self, request: Request, body: bytes) -> None:
        self._answering, self._deadline, self._body = True, NEVER, body
        self._front.turns.take(request.route.stream(request.head, body), len(body), self._start, self._turn_away)

    def _turn_away(self) -> None:
        assert self._request is not None
        self._body = b""
        self._answer(self._front.overload(self._request.route))

    def _start(self) -> None:
        assert self._request is not None
        body, self._body = self._body, b""
        self._answer_to_come = self._request.route.finish(self._request.head, body)
        self._drive()

    def _drive(self, _: object = None) -> None:
        """Runs the handler until it waits for something, and on from there once that is done: without a task, for a
        request that waits once or never. What it waits for comes down to futures, as group commits and threads do.
        """
        try:
            awaited: asyncio.Future[Any] | None = self._answer_to_come.send(None)
        except StopIteration as end:
            self._answer(end.value)
        except Exception:
            self._failed()
        except asyncio.CancelledError:  # what it waited for, by a service that ends
            assert self._request is not None
            self._answer(self._request.route.refuse(503, "the service is stopping", 1.0))
        else:
            self._wait_for(awaited)

    def _wait_for(self, awaited: asyncio.Future[Any] | None) -> None:
        if awaited is None:  # as asyncio.sleep(0) says it
            self._loop.call_soon(self._drive)
        else:
            awaited._asyncio_future_blocking = False  # as a task says that it has seen it
            awaited.add_done_callback(self._drive)

    def _failed(self) -> None:
        """The handler raised: that is being handled now."""
        assert self._request is not None
        observe.log.exception("request.bug", path=self._request.head.path)
        self._answer(self._request.route.refuse(500, "internal error; the log says more", 1.0))

    def _answer(self, reply: Reply) -> None:
        """Sends the reply to a request that was read to its end."""
        request, self._request, self._answering = self._request, None, False
        assert request is not None
        self._front.requests.add(request.dialect, reply.status, self._admitted)
        self._release()
        if self._transport.is_closing():
            return
        keep = request.keep_alive and not self._stopping
        self._send(reply, keep)
        self._expect(self._options.keep_alive_seconds)
        if not keep:
            self._close()
        elif not self._choked:
            self._go_on()

    def _go_on(self) -> None:
        """To the next request: what has come of it already is looked at in a moment, for there may be thousands."""
        if self._pending:
            self._loop.call_soon(self._take_pending)
        else:
            self._resume_reading()

    def _take_pending(self) -> None:
        if self._transport.is_closing():
            return
        data, self._pending = self._pending, b""
        self._resume_reading()
        self._begin(data)

    def _resume_reading(self) -> None:
        if self._paused:
            self._paused = False
            self._transport.resume_reading()

    def _send(self, reply: Reply, keep: bool) -> None:
        pieces = self._front.answers.pieces(reply, self._shared.default_headers, keep)
        if len(pieces) == 1:
            self._transport.write(in_memory(pieces[0]))
        else:
            self._sending = send(self._transport, pieces, self._sent)
            self._choked = self._choked or self._sending is not None

    def _sent(self) -> None:
        self._sending = None
        if self._closing:
            self._transport.close()
        else:
            self.resume_writing()

    def _release(self) -> None:
        self._front.admission.release(self._admitted)
        self._admitted = 0

    # How it ends.

    def _pass_on(self, data: bytes, to: Callable[[], asyncio.Protocol]) -> None:
        self._leave()
        rest = to()
        self._transport.set_protocol(rest)
        rest.connection_made(self._transport)
        if data:
            rest.data_received(data)

    def _leave(self) -> None:
        self._shared.connections.discard(self)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _expect(self, seconds: float) -> None:
        """The next thing, a request or the rest of a body, is to come within that time."""
        self._deadline = self._loop.time() + seconds
        if self._timer is None or self._timer.when() > self._deadline:
            self._set_timer()

    def _set_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_at(self._deadline, self._look_at_the_time)

    def _look_at_the_time(self) -> None:
        """One timer for all deadlines, moved only when it rings: they are pushed back at each request."""
        self._timer = None
        if self._answering:
            return
        if self._loop.time() < self._deadline:
            self._set_timer()
        elif self._request is None:
            self._end()
        else:
            self._too_late(self._request)

    def _close(self) -> None:
        """Behind what is still to be sent."""
        if self._sending is None:
            self._transport.close()
        else:
            self._closing = True

    def _end(self) -> None:
        """Closes. What the client has not read by now it hardly ever will, and a close would wait for that."""
        if self._transport.get_write_buffer_size():
            self._transport.abort()
        else:
            self._transport.close()

    def _too_late(self, request: Request) -> None:
        """Answers, and closes a moment later: one closed under a client that still sends would never be read."""
        self._release()
        self._front.requests.add(request.dialect, 408, request.length - self._left)
        self._send(request.route.refuse(408, "the body did not arrive in time", 1.0), keep=False)
        self._request, self._chunks, self._lingering = None, [], True
        self._timer = self._loop.call_later(LINGER_SECONDS, self._end)
