"""HTTP/2 with prior knowledge, on the same plain port: what the Java and JavaScript SDKs speak to a data stream.

A connection that begins with the preface comes here from the hot protocol. Each of its streams is a request carried to
the same front as all others, which keeps the bounds of bodies; this keeps those of the connection: how many requests it
may have, how many of them are worked at, what waits unread and unsent, how long it may be idle or stall. A stream that
its client resets is over at once where it only waits; what has begun to be stored is not cut in the middle.
"""

from __future__ import annotations

import asyncio
from typing import Any, Protocol, cast
from urllib.parse import unquote

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.events import (
    DataReceived,
    Event,
    RemoteSettingsChanged,
    RequestReceived,
    StreamEnded,
    StreamReset,
    WindowUpdated,
)
from h2.exceptions import ProtocolError
from h2.settings import SettingCodes, Settings

from firehose.config import ServiceOptions
from firehose.http.asgi import App, Scope
from firehose.http.h2_stream import BODY_WINDOW_BYTES, Stream
from firehose.http.hot import PREFACE

STREAMS = 1000  # open at once: a subscription for each shard
AT_ONCE = 64  # requests of one connection that are worked at; a subscription counts until its answer has begun
RESETS = 1000  # of requests that were not answered yet, more than those that were
STREAM_WINDOW_BYTES = 64 * 1024  # what a request may send before anybody looks at it
FRAME_BYTES = 16 * 1024  # what every client may send, and no more is offered
HEAD_BYTES = 9  # of a frame
GOAWAY = 7
CONNECTION_WINDOW_BYTES = STREAMS * STREAM_WINDOW_BYTES + AT_ONCE * BODY_WINDOW_BYTES  # so that none waits for others


class Shared(Protocol):
    """What the connections of a server have in common: uvicorn's `ServerState`."""

    connections: set[Any]
    tasks: set[asyncio.Task[None]]
    default_headers: list[tuple[bytes, bytes]]


class Frames:
    """What comes in, frame by frame, before the library sees it. The library judges a frame once it has all of it, up
    to 16 MiB, and after a GOAWAY sends nothing more, though that only says that no new requests will come: the SDK for
    JavaScript says it as soon as a subscription has begun.
    """

    def __init__(self) -> None:
        self.goodbye = False  # the client has said it
        self._rest = len(PREFACE)  # of what comes before the next frame's head
        self._head = b""
        self._kept = True

    def take(self, data: bytes) -> bytes:
        """What the library is to see of these next bytes. Raises ValueError for a frame larger than we said."""
        kept, at = [], 0
        while at < len(data):
            size = min(self._rest or HEAD_BYTES - len(self._head), len(data) - at)
            piece, at = data[at : at + size], at + size
            if self._rest:
                self._rest -= size
                kept.append(piece if self._kept else b"")
            else:
                self._head += piece
                kept.append(self._begun() if len(self._head) == HEAD_BYTES else b"")
        return b"".join(kept)

    def _begun(self) -> bytes:
        """The head of a frame, which is whole now; nothing of one that is left out."""
        head, self._head = self._head, b""
        self._rest = int.from_bytes(head[:3], "big")
        if self._rest > FRAME_BYTES:
            raise ValueError("a frame is too large")
        self._kept = head[3] != GOAWAY
        self.goodbye = self.goodbye or not self._kept
        return head if self._kept else b""


class Http2Protocol(asyncio.Protocol):
    """One connection."""

    def __init__(self, app: App, options: ServiceOptions, shared: Shared) -> None:
        self._app = app
        self._options = options
        self._shared = shared
        self.http2 = H2Connection(H2Configuration(client_side=False, header_encoding=None))
        self._frames = Frames()
        self._streams: dict[int, tuple[Stream, asyncio.Task[None]]] = {}
        self.at_once = asyncio.Semaphore(AT_ONCE)
        self.unsent_bytes = 0
        self._resets = 0
        self.choked = self._stopping = False
        self._waiting: dict[int, asyncio.Future[None]] = {}  # streams, for room to send
        self._idle: asyncio.TimerHandle | None = None

    # What the transport and the server call.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self._shared.connections.add(self)
        header_bytes = int(self._options.header_limit_kib * 1024)
        bounds = {
            SettingCodes.MAX_CONCURRENT_STREAMS: STREAMS,
            SettingCodes.INITIAL_WINDOW_SIZE: STREAM_WINDOW_BYTES,
            SettingCodes.MAX_HEADER_LIST_SIZE: header_bytes,
        }
        self.http2.local_settings = Settings(client=False, initial_values=bounds)
        self.http2.decoder.max_header_list_size = header_bytes
        self.http2.initiate_connection()
        self.http2.increment_flow_control_window(CONNECTION_WINDOW_BYTES - STREAM_WINDOW_BYTES)
        self.flush()
        self._expect()

    def connection_lost(self, exc: Exception | None) -> None:
        self._shared.connections.discard(self)
        self._end_timer()
        for number in [*self._streams]:
            self._leave(number)

    def data_received(self, data: bytes) -> None:
        try:
            data = self._frames.take(data)
        except ValueError:
            self._say_goodbye(ErrorCodes.FRAME_SIZE_ERROR)
            return
        try:
            events = self.http2.receive_data(data)
        except ProtocolError:
            self._close()  # it has said why
            return
        for event in events:
            self._see(event)
        self.flush()
        if self._frames.goodbye and not self._stopping:
            self.shutdown()

    def pause_writing(self) -> None:
        """Nothing more is taken from a client that does not read its answers."""
        self.choked = True
        self.transport.pause_reading()

    def resume_writing(self) -> None:
        self.choked = False
        self.transport.resume_reading()
        self.wake()

    def shutdown(self) -> None:
        """Those under way are still answered, and only then it is said that no more are: a client built on the same
        library as this takes nothing more once it has heard that.
        """
        self._stopping = True
        if not self._streams and not self.transport.is_closing():
            self._say_goodbye()

    # What the client sends.

    def _see(self, event: Event) -> None:
        if self.transport.is_closing():
            return
        self._expect()
        if isinstance(event, RequestReceived):
            self._begin(event)
        elif isinstance(event, DataReceived):
            self._feed(event.stream_id, event.data, event.flow_controlled_length)
        elif isinstance(event, StreamEnded):
            self._feed(event.stream_id, b"", 0, ended=True)
        elif isinstance(event, StreamReset):
            self._reset(event.stream_id)
        elif isinstance(event, WindowUpdated):
            self.wake(event.stream_id)
        elif isinstance(event, RemoteSettingsChanged):
            self.wake()

    def _begin(self, event: RequestReceived) -> None:
        if self._stopping:
            self.http2.reset_stream(event.stream_id, ErrorCodes.REFUSED_STREAM)
            return
        number = event.stream_id
        stream = Stream(self, number, event.stream_ended is not None)
        task = asyncio.get_running_loop().create_task(stream.run(self._app, self._scope(event)))
        self._streams[number] = stream, task
        self._shared.tasks.add(task)  # which the server waits for, when it stops
        task.add_done_callback(lambda _: self._done(number))

    def _feed(self, number: int, data: bytes, size_bytes: int, ended: bool = False) -> None:
        if number in self._streams:
            self._streams[number][0].feed(data, size_bytes, ended)
        else:  # answered or given up: nobody will look at it
            self.acknowledge(number, size_bytes)

    def _reset(self, number: int) -> None:
        if number not in self._streams:
            return
        self._leave(number)
        self._resets += 1
        if self._resets > RESETS:
            self._say_goodbye(ErrorCodes.ENHANCE_YOUR_CALM)

    def _leave(self, number: int) -> None:
        stream, task = self._streams[number]
        if stream.leave():
            task.cancel()
        self.wake(number)

    def _done(self, number: int) -> None:
        stream, task = self._streams.pop(number)
        self._shared.tasks.discard(task)
        if stream.answered:
            self._resets = max(0, self._resets - 1)
        if self._stopping and not self._streams and not self.transport.is_closing():
            self._say_goodbye()

    def _scope(self, event: RequestReceived) -> Scope:
        pseudo = {name: value for name, value in event.headers if name.startswith(b":")}
        path, _, query = pseudo.get(b":path", b"").partition(b"?")  # CONNECT has none
        headers = [(name, value) for name, value in event.headers if not name.startswith(b":")]
        if b":authority" in pseudo:
            headers.append((b"host", pseudo[b":authority"]))
        if event.stream_ended is None and not any(name == b"content-length" for name, _ in headers):
            headers.append((b"transfer-encoding", b"chunked"))  # as HTTP/1.1 says that a body of unknown size comes
        return {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": "2",
            "method": pseudo[b":method"].decode("latin-1"),
            "scheme": "http",
            "path": unquote(path.decode("latin-1")),
            "raw_path": path,
            "query_string": query,
            "root_path": "",
            "headers": headers,
            "client": self.transport.get_extra_info("peername"),
            "server": self.transport.get_extra_info("sockname"),
            "state": {},
        }

    # What streams ask of their connection.

    def flush(self) -> None:
        data = self.http2.data_to_send()
        if data and not self.transport.is_closing():
            self.transport.write(data)

    def acknowledge(self, number: int, size_bytes: int) -> None:
        """Lets the client send as much again."""
        if size_bytes and not self.transport.is_closing():
            self.http2.acknowledge_received_data(size_bytes, number)
            self.flush()

    def wake(self, number: int = 0) -> None:
        """That stream, or all, may look again whether there is room."""
        for one in [number] if number else [*self._waiting]:
            waiting = self._waiting.pop(one, None)
            if waiting is not None and not waiting.done():
                waiting.set_result(None)

    async def woken(self, number: int) -> None:
        self._waiting[number] = waiting = asyncio.get_running_loop().create_future()
        try:
            await waiting
        finally:
            self._waiting.pop(number, None)

    @property
    def default_headers(self) -> list[tuple[bytes, bytes]]:
        return self._shared.default_headers

    # How it ends.

    def _expect(self) -> None:
        """Where nothing is under way, the next thing is to come within the time of an idle connection."""
        self._end_timer()
        self._idle = asyncio.get_running_loop().call_later(self._options.keep_alive_seconds, self._look_at_the_time)

    def _look_at_the_time(self) -> None:
        if self._streams:
            self._expect()
        else:
            self._say_goodbye()

    def _end_timer(self) -> None:
        if self._idle is not None:
            self._idle.cancel()
            self._idle = None

    def _say_goodbye(self, reason: ErrorCodes = ErrorCodes.NO_ERROR) -> None:
        self.http2.close_connection(reason)
        self._close()

    def _close(self) -> None:
        """Closes. What the client has not read by now it hardly ever will, and a close would wait for that."""
        self.flush()
        if self.choked:
            self.transport.abort()
        else:
            self.transport.close()
