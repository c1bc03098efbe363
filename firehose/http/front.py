"""The front door: one ASGI app that carries the hot routes itself and hands everything else to FastAPI.

Most requests of the hot routes never get here: `hot` carries them without ASGI. This reads a body once, within all
bounds (size, bytes in flight, time), and gives it to the route's handler, which knows nothing of ASGI. What does not
fit is refused before it is read where the head tells, in the route's own dialect.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial

from firehose import observe
from firehose.http.admission import OVERLOAD_SECONDS, Admission
from firehose.http.answers import Answers
from firehose.http.asgi import App, Receive, Scope, Send
from firehose.http.shared import in_memory
from firehose.http.streaming import Streaming
from firehose.http.turns import Turns
from firehose.http.wire import Head, Reply, Route

CHUNKED_STEP_BYTES = 256 * 1024  # a body of unknown size takes room in steps of this
LINGER_SECONDS = 2.0  # a refused client that still sends its body has that long to stop and read the answer


class Gone(Exception):
    """The client went away before its request was whole."""


@dataclass(frozen=True, slots=True)
class Front:
    """`routes` answers a hot route, and its dialect's name, or None where FastAPI is to answer."""

    routes: Callable[[str, str, Mapping[bytes, bytes]], tuple[str, Route] | None]
    rest: App
    admission: Admission
    body_seconds: float
    requests: observe.Requests
    turns: Turns = field(default_factory=Turns)
    answers: Answers = field(default_factory=Answers)
    ending: asyncio.Event = field(default_factory=asyncio.Event)  # set where answers in chunks must come to their end

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.rest(scope, receive, send)
            return
        headers = dict(scope["headers"])
        found = self.routes(scope["method"], scope["path"], headers)
        if found is None:
            await self.rest(scope, receive, send)
            return
        dialect, route = found
        head = Head(scope["method"], scope["path"], scope["query_string"], headers)
        body = _Body(self, route, head, receive)
        try:
            reply = await body.answer()
        except Gone:
            return
        except Exception:
            observe.log.exception("request.bug", path=head.path)
            reply = route.refuse(500, "internal error; the log says more", 1.0)
        finally:
            self.admission.release(body.admitted)
        self.requests.add(dialect, reply.status, body.size)
        if reply.chunks is None:
            await _send(send, reply, head.method, body)
        else:
            await Streaming(reply, reply.chunks, self.ending).send(receive, send)

    def refusal(self, route: Route, admitted: int, size: int) -> Reply | None:
        """Takes room for that many bytes of a body more, or says why not."""
        if admitted + size > self.limit_bytes(route):
            return route.refuse(413, f"the body is larger than {self.limit_bytes(route)} bytes", 0.0)
        return None if self.admission.admit(size) else self.overload(route)

    def overload(self, route: Route) -> Reply:
        return route.refuse(503, "more is sent than can be taken", OVERLOAD_SECONDS)

    async def turn(self, route: Route, head: Head, body: bytes) -> bool:
        """Waits until it is the request's turn. False where that takes too long."""
        come: asyncio.Future[bool] = asyncio.get_running_loop().create_future()

        def settle(handled: bool) -> None:
            if not come.done():  # the request may have been given up meanwhile
                come.set_result(handled)

        self.turns.take(route.stream(head, body), len(body), partial(settle, True), partial(settle, False))
        return await come

    def limit_bytes(self, route: Route) -> int:
        """What can never be admitted is too large, however much patience the client has."""
        return min(route.body_limit_bytes, self.admission.limit_bytes)


class _Body:
    """One request from its head to its reply."""

    def __init__(self, front: Front, route: Route, head: Head, receive: Receive) -> None:
        self._front = front
        self._route = route
        self._head = head
        self._receive = receive
        self.admitted = 0
        self.size = 0
        self.complete = b"content-length" not in head.headers and b"transfer-encoding" not in head.headers

    async def answer(self) -> Reply:
        early = self._route.begin(self._head)
        if early is None:
            early = self._refusal(self._announced())
        if early is not None:
            return early
        try:
            body = await self._read()
        except TimeoutError:
            return self._route.refuse(408, "the body did not arrive in time", 1.0)
        if isinstance(body, Reply):
            return body
        if not await self._front.turn(self._route, self._head, body):
            return self._front.overload(self._route)
        return await self._route.finish(self._head, body)

    def _announced(self) -> int:
        """Content-Length; 0 where it is not given."""
        length = self._head.headers.get(b"content-length", b"")
        return int(length) if length.isdigit() else 0

    def _refusal(self, size: int) -> Reply | None:
        reply = self._front.refusal(self._route, self.admitted, size)
        if reply is None:
            self.admitted += size
        return reply

    async def _read(self) -> bytes | Reply:
        chunks: list[bytes] = []
        deadline = asyncio.get_running_loop().time() + self._front.body_seconds
        while not self.complete:
            async with asyncio.timeout_at(deadline):
                message = await self._receive()
            if message["type"] == "http.disconnect":
                raise Gone
            chunk = message.get("body", b"")
            self.size += len(chunk)
            if self.size > self.admitted:
                step = min(max(CHUNKED_STEP_BYTES, len(chunk)), self._room_left())
                refusal = self._refusal(max(step, self.size - self.admitted))
                if refusal is not None:
                    return refusal
            chunks.append(chunk)
            self.complete = not message.get("more_body", False)
        return chunks[0] if len(chunks) == 1 else b"".join(chunks)

    def _room_left(self) -> int:
        return max(0, self._front.limit_bytes(self._route) - self.admitted)

    async def discard(self) -> None:
        """Reads on for a moment and keeps nothing: a connection closed under a client that still sends is reset, and
        the client would never see why.
        """
        try:
            async with asyncio.timeout(LINGER_SECONDS):
                while not self.complete:
                    message = await self._receive()
                    gone = message["type"] == "http.disconnect"
                    self.complete = gone or not message.get("more_body", False)
        except TimeoutError:
            pass  # the carrier closes the connection under it


async def _send(send: Send, reply: Reply, method: str, body: _Body) -> None:
    """Sends the reply. Where the body was not read to its end the connection cannot be used again."""
    content = b"".join(map(in_memory, reply.pieces)) or reply.body
    headers = [*reply.headers, (b"content-length", b"%d" % len(content))]
    if not body.complete:
        headers.append((b"connection", b"close"))
    if method == "HEAD":
        content = b""
    await send({"type": "http.response.start", "status": reply.status, "headers": headers})
    if body.complete:
        await send({"type": "http.response.body", "body": content})
        return
    await send({"type": "http.response.body", "body": content, "more_body": True})
    await body.discard()
    await send({"type": "http.response.body", "body": b""})
