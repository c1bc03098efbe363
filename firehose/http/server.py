"""uvicorn with the bounds that it does not have itself: size and time of a request's head, number of connections."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import httptools
import uvicorn
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from firehose.config import ServiceOptions
from firehose.http.front import Front
from firehose.http.hot import END_OF_HEAD, HeadReader, HotProtocol

ACCEPTED = 8  # connections in a turn of the loop
TOO_MANY = b"HTTP/1.1 503 Service Unavailable\r\nretry-after: 1\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
NO_REQUEST = b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
HEAD_TOO_LARGE = b"HTTP/1.1 431 Request Header Fields Too Large\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
HEAD_TOO_SLOW = b"HTTP/1.1 408 Request Timeout\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
BODY_LENGTHS = (b"content-length", b"transfer-encoding")
# More heads than that in what comes at once are read bit by bit: a request that waits takes far more than its bytes.
MANY_HEADS = 8
BIT_BYTES = 1024


class HeadTooLarge(Exception):
    """The head is over `header_limit_kib`. Raised within the parser, which then gives the connection up."""


class NoUpgrades:
    """httptools' parser, by which an offer to upgrade is passed over: curl's --http2 and Java's client make one with
    each request. The parser by itself takes all that follows such a head, the request's own body first, for another
    protocol's; it goes to a new one here, which has been told how long the body is.
    """

    def __init__(self, protocol: BoundedProtocol) -> None:
        self._protocol = protocol
        self._parser = self._new()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._parser, name)

    def feed_data(self, data: bytes) -> None:
        left = memoryview(data)
        while left:
            try:
                self._parser.feed_data(left)
                return
            except httptools.HttpParserUpgrade as offer:
                left = left[offer.args[0] :]
                self._parser = self._new()
                self._protocol.read_again(self._parser)

    def _new(self) -> Any:
        parser = httptools.HttpRequestParser(self._protocol)
        parser.set_dangerous_leniencies(lenient_data_after_close=True)  # as uvicorn's: the last request is answered
        return parser


class Flow(FlowControl):
    """Nothing more is read while something waits unread."""

    full = False

    def resume_reading(self) -> None:
        if not self.full:
            super().resume_reading()


class BoundedProtocol(HttpToolsProtocol):
    """One connection. Once a request has begun, its head must be whole within `header_seconds`; where none is under
    way, the next must begin within `keep_alive_seconds`.
    """

    def __init__(self, options: ServiceOptions, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._options = options
        self.parser = NoUpgrades(self)  # type: ignore[assignment]
        self._reads_again = False  # a head that has been read
        self._in_head = self._in_message = False
        self._given_up = False  # nothing more is read
        self._unread = b""  # while requests before it wait for their turn
        self._running: Any = None  # uvicorn's cycle of the request that is worked at
        self._head_bytes = 0  # of the fields that are whole
        self._head_read_bytes = 0  # read since the head began, without a piece that it shares with the one before
        self._piece_bytes = 0  # of the piece that is read now, while no request has had a part of it
        self._head_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.flow: Flow = Flow(transport)
        if len(self.connections) > self._options.connections:
            self._refuse(TOO_MANY)
            self.connections.discard(self)  # those that have their place do not lose it for one that is on its way out
        else:
            self._time(self._options.keep_alive_seconds, b"")

    def connection_lost(self, exc: Exception | None) -> None:
        self._end_timer()
        if self._running is not None and not self._running.response_complete:
            self._running.disconnected = True  # uvicorn tells only the request that came last
            self._running.message_event.set()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        self._unread += data
        self._read_on()

    def on_response_complete(self) -> None:
        if self.pipeline:
            self._running = self.pipeline[-1][0]
        super().on_response_complete()
        self._read_on()

    def _read_on(self) -> None:
        """Until a request has to wait for the one before it, or a little further."""
        while self._unread and not (self.pipeline or self._given_up or self.transport.is_closing()):
            size = BIT_BYTES if self._unread.count(END_OF_HEAD) > MANY_HEADS else len(self._unread)
            data, self._unread = self._unread[:size], self._unread[size:]
            self._read(data)
        if self._given_up:
            self._unread = b""
        was_full, self.flow.full = self.flow.full, bool(self._unread)
        if self.flow.full:
            self.flow.pause_reading()
        elif was_full and not self.pipeline:
            self.flow.resume_reading()

    def _read(self, data: bytes) -> None:
        self._head_read_bytes += len(data) if self._in_head else 0
        self._piece_bytes = 0 if self._in_message else len(data)
        super().data_received(data)
        if self._in_head:
            if self._head_read_bytes > self._limit_bytes:
                self._refuse(HEAD_TOO_LARGE)
            elif self._head_timer is None and not self._unread:
                self._time(self._options.header_seconds, HEAD_TOO_SLOW)
        elif self._head_timer is None and (self.cycle is None or self.cycle.response_complete):
            self._time(self._options.keep_alive_seconds, b"")  # stray bytes ended the timer of an idle connection

    def read_again(self, parser: Any) -> None:
        """Tells a new parser what matters for the body of the request whose head was read last."""
        lengths = [b"%b: %b\r\n" % header for header in self.headers if header[0] in BODY_LENGTHS]
        self._reads_again = True
        parser.feed_data(b"POST / HTTP/1.1\r\n%b\r\n" % b"".join(lengths))
        self._reads_again = False

    def on_message_begin(self) -> None:
        if self._reads_again:
            return
        self._end_timer()
        self._in_head = self._in_message = True
        self._head_bytes = 0
        self._head_read_bytes, self._piece_bytes = self._piece_bytes, 0
        super().on_message_begin()

    def on_url(self, url: bytes) -> None:
        if self._reads_again:
            return
        self._count(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._reads_again:
            return
        self._count(len(name) + len(value))
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        if self._reads_again:
            return
        self._end_timer()
        self._in_head = False
        super().on_headers_complete()
        if not self.pipeline:
            self._running = self.cycle

    def send_400_response(self, msg: str) -> None:
        """What the parser gave up. A connection that was answered already is closed and gets no second answer."""
        self._refuse(HEAD_TOO_LARGE if self._head_bytes > self._limit_bytes else NO_REQUEST)

    @property
    def _limit_bytes(self) -> int:
        return int(self._options.header_limit_kib * 1024)

    def _count(self, size_bytes: int) -> None:
        self._head_bytes += size_bytes
        if self._head_bytes > self._limit_bytes:
            raise HeadTooLarge

    def on_message_complete(self) -> None:
        if self.parser.should_upgrade():  # it believes so
            return
        self._in_message = False
        super().on_message_complete()

    def _time(self, seconds: float, answer: bytes) -> None:
        self._head_timer = self.loop.call_later(seconds, self._refuse, answer)

    def _end_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _refuse(self, answer: bytes) -> None:
        """Says so and closes, where this is the request to be answered now, and has no answer yet. Whole requests
        before it are answered first, the last of them closes, and theirs are the only answers: a client takes the
        first thing it hears for the answer to its first request.
        """
        in_body = self._in_message and not self._in_head
        self._in_head, self._given_up = False, True
        self._end_timer()
        if self.transport.is_closing():
            return
        under_way = self.cycle is not None and not self.cycle.response_complete
        if under_way and (self.pipeline or not in_body):
            self.cycle.keep_alive = False
            return
        if not (under_way and self.cycle.response_started):
            self.transport.write(answer)
        self.transport.close()


class Server(uvicorn.Server):
    """uvicorn's server, with signals left to the service. `listening` is set once requests are answered, `ending` once
    no more will be.
    """

    def __init__(self, config: uvicorn.Config, ending: asyncio.Event) -> None:
        super().__init__(config)
        self.listening = asyncio.Event()
        self._ending = ending

    async def serve(self, sockets: list[socket.socket] | None = None) -> None:
        """libuv takes one connection of a descriptor in each turn of the loop, however many wait. Where turns are long
        a thousand of them would wait for many seconds, so each socket has several descriptors.
        """
        await super().serve([one for given in sockets or () for one in (given, *_others(given))])

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.listening.set()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._ending.set()
        await super().shutdown(sockets)

    def connection(self) -> asyncio.Protocol:
        """The protocol of one more connection, for bytes that no socket of ours carries."""
        if not self.config.loaded:
            self.config.load()
        asked = {"config": self.config, "server_state": self.server_state, "app_state": {}}
        protocol: asyncio.Protocol = self.config.http_protocol_class(**asked)
        return protocol

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def _others(listening: socket.socket) -> Iterator[socket.socket]:
    return (listening.dup() for _ in range(ACCEPTED - 1))


def server(front: Front, options: ServiceOptions) -> Server:
    host, port = options.address
    config = uvicorn.Config(
        front,
        host=host,
        port=port,
        http=partial(connection, front, HeadReader(front, int(options.header_limit_kib * 1024)), options),  # type: ignore[arg-type]
        ws="none",
        lifespan="off",
        access_log=False,
        log_config=None,
        server_header=False,
        timeout_keep_alive=options.keep_alive_seconds,
        timeout_graceful_shutdown=max(1, int(options.drain_seconds)),
        backlog=2048,
    )
    return Server(config, front.ending)


def connection(
    front: Front, heads: HeadReader, options: ServiceOptions, *, server_state: ServerState, **uvicorns: Any
) -> HotProtocol:
    """The protocol of a new connection; what it does not carry itself goes to uvicorn's."""
    rest = partial(BoundedProtocol, options, server_state=server_state, **uvicorns)
    return HotProtocol(front, heads, options, server_state, rest, partial(http2, front, options, server_state))


def http2(front: Front, options: ServiceOptions, server_state: ServerState) -> asyncio.Protocol:
    """The protocol of a connection that begins with the preface of HTTP/2."""
    from firehose.http.h2 import Http2Protocol  # now: 1.5 MB for what most clients do not speak, in 15 ms

    return Http2Protocol(front, options, server_state)
