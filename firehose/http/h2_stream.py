"""One stream of an HTTP/2 connection: a request and its answer, as the ASGI app at the other side sees them.

What was received waits here until the app asks for it, within the stream's window. What the app sends waits until the
client has room, and the app with it. Once the client is gone the app hears of it where it listens, and talks to nobody.
"""

from __future__ import annotations

import asyncio
from typing import Protocol

from h2.connection import H2Connection
from h2.errors import ErrorCodes

from firehose import observe
from firehose.http.asgi import App, Message, Scope

BODY_WINDOW_BYTES = 1024 * 1024  # what a request may send ahead, once its body is read
UNSENT_BYTES = 16 * 1024 * 1024  # in one connection's answers: no chunk more is asked for
STALLED_SECONDS = 120.0  # an answer of which nothing could be sent for so long is given up
WRITE_BYTES = 64 * 1024  # at once, however much room there is: others have their turn in between
HOP_BY_HOP = (b"connection", b"keep-alive", b"transfer-encoding")
GONE: Message = {"type": "http.disconnect"}


class Connection(Protocol):
    """What a stream knows of its connection."""

    http2: H2Connection
    at_once: asyncio.Semaphore
    unsent_bytes: int

    @property
    def default_headers(self) -> list[tuple[bytes, bytes]]: ...

    @property
    def choked(self) -> bool:
        """Whether the client does not read what was written."""
        ...

    def flush(self) -> None: ...

    def acknowledge(self, number: int, size_bytes: int) -> None:
        """Lets the client send as much again."""
        ...

    def wake(self, number: int = 0) -> None:
        """That stream, or all, may look again whether there is room."""
        ...

    async def woken(self, number: int) -> None: ...


class Stream:
    """At each moment it waits for its turn, is worked at, or is being answered."""

    def __init__(self, connection: Connection, number: int, complete: bool) -> None:
        self._connection = connection
        self._number = number
        self._unread = bytearray()
        self._unread_bytes = 0  # as flow control counts them, padding included
        self._complete = complete  # the request was received to its end
        self._asked = self._told = False  # for the body; that it has ended
        self._something = asyncio.Event()  # was received, or the client is gone
        self._gone = self._begun = self._working = False
        self._head: Message | None = None  # of the answer, until it can go out with what follows
        self._only_head = False  # is asked for: what the app says besides is not for the client
        self.answered = False

    # What the connection calls.

    async def run(self, app: App, scope: Scope) -> None:
        await self._connection.at_once.acquire()
        self._begun = self._working = True
        self._only_head = scope["method"] == "HEAD"
        try:
            await app(scope, self.receive, self.send)
        except Exception:
            observe.log.exception("request.bug", path=scope["path"])
        finally:
            self._worked()
            if not self.answered:
                self._reset(ErrorCodes.INTERNAL_ERROR)

    def feed(self, data: bytes, size_bytes: int, ended: bool = False) -> None:
        self._unread += data
        self._unread_bytes += size_bytes
        self._complete = self._complete or ended
        self._something.set()

    def leave(self) -> bool:
        """The client is gone. Whether the stream had not been begun: then it need not be."""
        self._gone = True
        self._something.set()
        return not self._begun

    # What the app calls.

    async def receive(self) -> Message:
        if not (self._asked or self._complete or self._gone):
            self._asked = True
            self._connection.http2.increment_flow_control_window(BODY_WINDOW_BYTES, self._number)
            self._connection.flush()
        while not self._gone and not self._unread and (self._told or not self._complete):
            self._something.clear()
            await self._something.wait()
        if self._gone:
            return GONE
        body, size_bytes = bytes(self._unread), self._unread_bytes
        self._unread, self._unread_bytes, self._told = bytearray(), 0, self._complete
        self._connection.acknowledge(self._number, size_bytes)
        return {"type": "http.request", "body": body, "more_body": not self._told}

    async def send(self, message: Message) -> None:
        if self._gone:
            return
        if message["type"] == "http.response.start":
            self._head = message
            return
        more = message.get("more_body", False)
        try:
            await self._send(b"" if self._only_head else message.get("body", b""), more)
            while more and not self._gone and self._connection.unsent_bytes >= UNSENT_BYTES:
                await self._room(asyncio.get_running_loop().time() + STALLED_SECONDS)
        except TimeoutError:
            self._reset(ErrorCodes.CANCEL)

    async def _send(self, body: bytes, more: bool) -> None:
        if self._head is not None:
            self._send_head(self._head)
        await self._send_data(memoryview(body))
        if more:
            self._worked()  # it is a subscription: those it keeps company do not wait for it
        elif not self._gone:
            self._connection.http2.end_stream(self._number)
            self.answered = True
            if not self._complete:  # it need not send the rest
                self._connection.http2.reset_stream(self._number, ErrorCodes.NO_ERROR)
        self._connection.flush()

    def _send_head(self, head: Message) -> None:
        self._head = None
        given = [(name, value) for name, value in head["headers"] if name not in HOP_BY_HOP]
        status = (b":status", b"%d" % head["status"])
        self._connection.http2.send_headers(self._number, [status, *self._connection.default_headers, *given])

    async def _send_data(self, data: memoryview) -> None:
        connection = self._connection
        connection.unsent_bytes += len(data)
        deadline = asyncio.get_running_loop().time() + STALLED_SECONDS
        try:
            while data and not self._gone:
                room = min(WRITE_BYTES, connection.http2.local_flow_control_window(self._number))
                if room <= 0 or connection.choked:
                    connection.flush()
                    await self._room(deadline)
                    continue
                deadline = asyncio.get_running_loop().time() + STALLED_SECONDS
                self._write(data[:room])
                connection.unsent_bytes -= len(data[:room])
                data = data[room:]
        finally:
            connection.unsent_bytes -= len(data)
            connection.wake()

    def _write(self, data: memoryview) -> None:
        frame_bytes = self._connection.http2.max_outbound_frame_size
        for at in range(0, len(data), frame_bytes):
            self._connection.http2.send_data(self._number, data[at : at + frame_bytes])
        self._connection.flush()

    async def _room(self, deadline: float) -> None:
        async with asyncio.timeout_at(deadline):
            await self._connection.woken(self._number)

    def _reset(self, code: ErrorCodes) -> None:
        if not self._gone:
            self._gone = True
            self._something.set()
            self._connection.http2.reset_stream(self._number, code)
            self._connection.flush()

    def _worked(self) -> None:
        if self._working:
            self._working = False
            self._connection.at_once.release()
