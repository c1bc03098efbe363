"""An S3 store on loopback that misbehaves by a seeded script, at every step and in every way that stores are known for.

A calm store is honest. While it is hostile a share of the requests meets a fault, drawn from the seed: of those that
befit the operation the ones met least so far, and of these the choosiest. `away` and `back` are an outage: nobody
listens.

Left out are answers that are rightly the end of a segment (a store that refuses it for what it is), a false success of
an abort, and a CreateMultipartUpload that is carried out long after everybody has given it up: nobody could clean up
behind those. So one whose client has hung up is not carried out, however late this store comes to read it.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
import struct
import threading
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from programs import free_port
from s3_shelf import Asked, Shelf, Told, asked, error

BODY_SECONDS = 30.0
ACCEPTING_TURNS = 10  # of the loop, more than from a connection's being accepted to its being served
SILENCE_SECONDS = 5.0  # a client that has not hung up by then gets its connection closed
EVERY = frozenset({"put", "begin", "part", "complete", "abort", "uploads"})
SENDING = frozenset({"put", "part"})
NAMING = frozenset({"put", "complete"})


@dataclass(slots=True)
class Exchange:
    """One request in the hands of a fault."""

    shelf: Shelf
    one: Asked
    dice: random.Random
    writer: asyncio.StreamWriter
    answered: asyncio.Condition

    def work(self) -> bytes:
        return spoken(self.shelf.do(self.one))

    async def say(self, answer: bytes) -> bool:
        self.writer.write(answer)
        await self.writer.drain()
        return True


Fault = Callable[[Exchange], Awaitable[bool]]  # whether the connection may go on


def spoken(told: Told) -> bytes:
    headers = {**told.headers, "Content-Length": str(len(told.body))}
    lines = [f"HTTP/1.1 {told.status} Told", *(f"{name}: {value}" for name, value in headers.items())]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + told.body


def answer(status: int, code: str, **headers: str) -> Fault:
    """Does nothing and says this."""

    async def fault(at: Exchange) -> bool:
        return await at.say(spoken(error(status, code, **{name.replace("_", "-"): v for name, v in headers.items()})))

    return fault


async def silence_before(at: Exchange) -> bool:
    await asyncio.sleep(SILENCE_SECONDS)
    return False


async def silence_after(at: Exchange) -> bool:
    at.work()
    await asyncio.sleep(SILENCE_SECONDS)
    return False


async def reset_after(at: Exchange) -> bool:
    at.work()
    return _reset(at.writer)


async def half_an_answer(at: Exchange) -> bool:
    whole = at.work()
    await at.say(whole[: at.dice.randrange(1, len(whole))])
    return _reset(at.writer)


async def failure_told_of_a_success(at: Exchange) -> bool:
    at.work()
    return await at.say(spoken(error(500, "InternalError")))


async def carried_out_late(at: Exchange) -> bool:
    """The connection ends, and the work is done in the middle of what the client does next."""
    asyncio.get_running_loop().call_later(at.dice.uniform(0.05, 1.5), at.shelf.do, at.one)
    return _reset(at.writer)


async def overtaken(at: Exchange) -> bool:
    """The answer comes after that of a later request, if there is one in time."""
    whole = at.work()
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(0.5), at.answered:
            await at.answered.wait()
    return await at.say(whole)


async def an_answer_too_many(at: Exchange) -> bool:
    """A success that nobody has asked for follows the answer: the next request must not take it for its own."""
    return await at.say(at.work() + spoken(Told(200, {"ETag": '"stale"'})))


async def trickle(at: Exchange) -> bool:
    for byte in at.work()[:60]:
        await at.say(bytes([byte]))
        await asyncio.sleep(0.02)
    return _reset(at.writer)


async def garbage(at: Exchange) -> bool:
    await at.say(at.dice.randbytes(at.dice.randrange(1, 400)) + b"\r\n\r\n")
    return False


async def garbled_headers(at: Exchange) -> bool:
    """The status is believable, the rest is not, and nothing was done."""
    odd = {
        "x-amz-abort-date": "soon",
        "x-amz-object-size": "some",
        "x-amz-server-side-encryption-bucket-key-enabled": "?",
    }
    return await at.say(spoken(Told(200, odd, b"<not><xml")))


async def a_page(at: Exchange) -> bool:
    """Something in between says that all is well, and knows nothing."""
    return await at.say(spoken(Told(200, {"Content-Type": "text/html"}, b"<html><body>Welcome</body></html>")))


async def nothing_in_200(at: Exchange) -> bool:
    return await at.say(spoken(Told(200)))


async def error_in_200(at: Exchange) -> bool:
    """What S3 does where a completion fails after it has begun to answer."""
    return await at.say(spoken(Told(200, {"Content-Type": "application/xml"}, error(0, "InternalError").body)))


async def lost_part(at: Exchange) -> bool:
    whole = at.work()
    at.shelf.forget_part(at.one)
    return await at.say(whole)


FAULTS: Mapping[str, tuple[Fault, frozenset[str]]] = {
    "500": (answer(500, "InternalError"), EVERY),
    "503 SlowDown": (answer(503, "SlowDown", Retry_After="0.3"), EVERY),
    "503 without a body": (lambda at: at.say(spoken(Told(503))), EVERY),
    "400 from a proxy": (lambda at: at.say(spoken(Told(400, {}, b"<html>Bad Request</html>"))), EVERY),
    "301": (answer(301, "PermanentRedirect", Location="http://127.0.0.1:1/"), EVERY),
    "307": (answer(307, "TemporaryRedirect", Location="http://127.0.0.1:1/"), EVERY),
    "409": (answer(409, "ConditionalRequestConflict"), NAMING),
    "silence before": (silence_before, EVERY),
    "silence after": (silence_after, EVERY),
    "reset after": (reset_after, EVERY),
    "half an answer": (half_an_answer, EVERY),
    "500 of a success": (failure_told_of_a_success, EVERY),
    "carried out late": (carried_out_late, EVERY - {"begin"}),
    "overtaken": (overtaken, EVERY),
    "an answer too many": (an_answer_too_many, EVERY),
    "trickle": (trickle, EVERY),
    "garbage": (garbage, EVERY),
    "garbled headers": (garbled_headers, EVERY - {"abort"}),
    "a page": (a_page, EVERY - {"abort", "uploads"}),
    "nothing in 200": (nothing_in_200, EVERY - {"abort", "uploads"}),
    "error in 200": (error_in_200, frozenset({"complete"})),
    "lost part": (lost_part, frozenset({"part"})),
}
CUT_BODY, FORBIDDEN = "reset in mid-body", "403 for a while"
BEFITTING = {CUT_BODY: SENDING, FORBIDDEN: EVERY} | {name: operations for name, (_, operations) in FAULTS.items()}


class HostileS3:
    """Use as a context manager. One bucket, whatever its name; `shelf` is looked into once the service is done."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.shelf = Shelf(folder)
        self.inflicted: Counter[str] = Counter()
        self.requests = 0
        self.port = free_port()  # its own while it is away, too
        self._dice = random.Random(seed)
        self._share = 0.0
        self._forbidden = 0  # so many requests more are answered 403
        self._serving: dict[asyncio.Task[None], asyncio.StreamWriter] = {}
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    def __enter__(self) -> HostileS3:
        self._thread.start()
        self._answered = asyncio.Condition()
        self.back()
        return self

    def __exit__(self, *_: object) -> None:
        self.away()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def destination(self, **more: Any) -> dict[str, Any]:
        """The block of a configuration that delivers here."""
        keys = {"access_key_id": "test", "secret_access_key": "testtest", "timeout_seconds": 0.5}
        return {"type": "s3", "bucket": "lake", "endpoint_url": self.url, "compression": "gzip", **keys, **more}

    @property
    def is_calm(self) -> bool:
        return self._share == 0

    @property
    def is_away(self) -> bool:
        return not self._server.is_serving()

    def hostile(self, share: float) -> None:
        """From now on about this share of the requests meets a fault."""
        self._share = share

    def calm(self) -> None:
        self._share, self._forbidden = 0.0, 0

    def away(self) -> None:
        """Nobody listens any more, and every connection is reset."""
        self._wait_for(self._stop_listening())

    def back(self) -> None:
        self._wait_for(self._listen())

    def _wait_for(self, done: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(done, self._loop).result(300)

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port, limit=1 << 20)

    async def _stop_listening(self) -> None:
        for listening in self._server.sockets:  # first, for asyncio loses a connection that it accepts as it closes
            self._loop.remove_reader(listening.fileno())
        for _ in range(ACCEPTING_TURNS):
            await asyncio.sleep(0)
        self._server.close()
        serving = dict(self._serving)
        for task, writer in serving.items():
            _reset(writer)
            task.cancel()
        await asyncio.gather(*serving, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._serving[task] = writer
        try:
            while await self._exchange(reader, writer):
                async with self._answered:
                    self._answered.notify_all()
        except (asyncio.IncompleteReadError, asyncio.CancelledError, ConnectionError, TimeoutError):
            pass  # the client hung up, or was too slow, both of which are its right; or we are away
        finally:
            del self._serving[task]
            writer.close()

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        first, *lines = head.split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        method, target, _ = first.split(" ")
        size = int(headers.get("content-length", 0))
        self.requests += 1
        fault = self._fault(asked(method, target, headers, b"").operation)
        if headers.get("expect"):
            writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        async with asyncio.timeout(BODY_SECONDS):
            if fault == CUT_BODY:
                await reader.readexactly(size // 2)
                return _reset(writer)
            body = await reader.readexactly(size)
        at = Exchange(self.shelf, asked(method, target, headers, body), self._dice, writer, self._answered)
        if at.one.operation == "begin" and await _hung_up(reader):
            return _reset(writer)
        if fault == FORBIDDEN:
            return await at.say(spoken(error(403, "AccessDenied")))
        return await (FAULTS[fault][0](at) if fault else at.say(at.work()))

    def _fault(self, operation: str) -> str:
        """The name of the fault that this request meets; empty where it meets none."""
        fault = self._drawn(operation)
        if fault:
            self.inflicted[fault] += 1
        return fault

    def _drawn(self, operation: str) -> str:
        if self._forbidden:
            self._forbidden -= 1
            return FORBIDDEN
        if self._dice.random() >= self._share or operation not in EVERY:
            return ""
        fitting = [name for name, operations in BEFITTING.items() if operation in operations]
        rank = {name: (self.inflicted[name], len(BEFITTING[name])) for name in fitting}
        fault = self._dice.choice([name for name in fitting if rank[name] == min(rank.values())])
        if fault == FORBIDDEN:
            self._forbidden = self._dice.randrange(8)
        return fault


async def _hung_up(reader: asyncio.StreamReader) -> bool:
    """Whether the client's last word has come: the loop hears of it one turn after what was said before."""
    await asyncio.sleep(0)
    return reader.at_eof()


def _reset(writer: asyncio.StreamWriter) -> bool:
    """Ends the connection in the rudest way. False, for it cannot go on."""
    linger = struct.pack("ii", 1, 0)
    with contextlib.suppress(OSError):
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    writer.transport.abort()
    return False
