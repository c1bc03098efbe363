"""Answers that lie in memory files, on their way to clients of all sorts, in either loop."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable, Coroutine, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any

import pytest
import uvloop
from memory_files import memory_files
from sockets import ANSWER_SECONDS, Peer, all_read, dialled, served

from firehose import observe
from firehose.http import sending
from firehose.http.admission import Admission
from firehose.http.asgi import Receive, Scope, Send
from firehose.http.front import Front
from firehose.http.sending import send
from firehose.http.shared import SHARED_BYTES, MemoryFiles, Pieces, in_memory
from firehose.http.wire import Head, Reply, Route

MIB = 1024 * 1024
SIZES = (1, SHARED_BYTES, 1, 9 * MIB, 100_000, 1, SHARED_BYTES + 1, 2)  # more than sockets have room for


Run = Callable[[Coroutine[Any, Any, None]], None]


@pytest.fixture(params=[asyncio, uvloop], ids=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest) -> Iterator[Run]:
    with asyncio.Runner(loop_factory=request.param.new_event_loop) as runner:
        yield runner.run


async def cold(scope: Scope, receive: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"4")]})
    await send({"type": "http.response.body", "body": b"cold"})


@dataclass
class Desk:
    """Answers "large" with what lies in memory files, which nobody keeps; and anything else with the same again."""

    asked: list[bytes] = field(default_factory=list)
    sizes: tuple[int, ...] = SIZES

    def pieces(self) -> Pieces:
        files = MemoryFiles()
        return tuple(files.shared(bytes([at]) * size) for at, size in enumerate(self.sizes))

    @property
    def body(self) -> bytes:
        return b"".join(map(in_memory, self.pieces()))

    async def finish(self, head: Head, body: bytes) -> Reply:
        self.asked.append(body)
        return Reply(200, pieces=self.pieces()) if body == b"large" else Reply(200, body)

    @property
    def front(self) -> Front:
        route = Route(lambda head: None, self.finish, MIB, lambda status, reason, after: Reply(status, reason.encode()))
        return Front(
            lambda method, *_: ("desk", route) if method == "POST" else None,
            cold,
            Admission(4 * MIB),
            ANSWER_SECONDS,
            observe.Requests(),
        )


def post(body: bytes, extra: str = "") -> bytes:
    return f"POST /x HTTP/1.1\r\nHost: x\r\n{extra}Content-Length: {len(body)}\r\n\r\n".encode() + body


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(ANSWER_SECONDS):
        while not condition():  # noqa: ASYNC110 - descriptors tell nobody when they close
            await asyncio.sleep(0)


async def stuck(desk: Desk, port: int) -> None:
    """Returns when the answer is under way, to a client that does not read it to its end."""
    await until(lambda: b"large" in desk.asked)
    await all_read(port)
    assert memory_files()


def test_all_get_the_same(run: Run) -> None:
    """In one piece of requests or in many, hot or passed on, before and behind small answers."""

    async def main() -> None:
        desk = Desk()
        whole = desk.body
        chunked = b"POST /x HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n5\r\nlarge\r\n0\r\n\r\n"
        async with served(desk.front) as port, dialled(port) as peer:
            peer.send(post(b"1") + post(b"large") + post(b"2") + post(b"3") + post(b"large"))
            assert [(await peer.answer()).body for _ in range(5)] == [b"1", whole, b"2", b"3", whole]
            peer.send(post(b"large"))
            assert (await peer.answer()).body == whole
            peer.send(chunked)
            assert (await peer.answer()).body == whole
        assert memory_files() == 0

    run(main())


def test_many_at_once(run: Run) -> None:
    """Each its own, whoever reads when."""

    async def main() -> None:
        desk = Desk()
        whole = desk.body
        async with served(desk.front) as port, AsyncExitStack() as stack:
            peers = [await stack.enter_async_context(dialled(port)) for _ in range(5)]
            for peer in peers:
                peer.send(post(b"large"))
            for peer in reversed(peers):
                assert (await peer.answer()).body == whole
        assert memory_files() == 0

    run(main())


def test_who_does_not_read_is_asked_for_nothing(run: Run) -> None:
    """What comes behind a large answer waits until that is read."""

    async def main() -> None:
        desk = Desk()
        async with served(desk.front) as port, dialled(port) as peer:
            peer.send(post(b"large") + post(b"1"))
            await stuck(desk, port)
            peer.send(post(b"2"))
            await peer.drained()
            await all_read(port)
            assert desk.asked == [b"large"]
            assert [len((await peer.answer()).body) for _ in range(3)] == [sum(SIZES), 1, 1]
            assert desk.asked == [b"large", b"1", b"2"]

    run(main())


def test_who_never_reads_is_cut_off(run: Run) -> None:
    """At the deadline of an idle connection, and nothing of the answer stays."""

    async def main() -> None:
        desk = Desk()
        async with served(desk.front, keep_alive_seconds=1) as port, dialled(port) as peer:
            peer.send(post(b"large"))
            await stuck(desk, port)
            await until(lambda: memory_files() == 0)
            with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
                await peer.answer()

    run(main())


@pytest.mark.parametrize("behind", [b"", post(b"1")])
def test_who_hangs_up(run: Run, behind: bytes) -> None:
    """In the middle of the answer: nothing of it stays, and others are answered."""

    async def main() -> None:
        desk = Desk()
        async with served(desk.front) as port:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(post(b"large") + behind)
            await stuck(desk, port)
            await reader.readexactly(100)
            writer.transport.abort()
            await until(lambda: memory_files() == 0)
            async with dialled(port) as peer:
                peer.send(post(b"1"))
                assert (await peer.answer()).body == b"1"

    run(main())


def test_who_sends_no_more_still_reads(run: Run) -> None:
    """A client that has closed its half gets the answer to its end, and then the other half closes."""

    async def main() -> None:
        desk = Desk()
        async with served(desk.front) as port:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(post(b"large"))
            await stuck(desk, port)
            writer.write_eof()
            peer = Peer(reader, writer)
            assert (await peer.answer()).body == desk.body
            assert await peer.closed()
            await peer.hang_up()

    run(main())


def test_connection_close(run: Run) -> None:
    """It closes behind the whole answer, not before."""

    async def main() -> None:
        desk = Desk()
        async with served(desk.front) as port, dialled(port) as peer:
            peer.send(post(b"large", "Connection: close\r\n"))
            await stuck(desk, port)
            answer = await peer.answer()
            assert (answer.body, answer.headers["connection"]) == (desk.body, "close")
            assert await peer.closed()

    run(main())


@pytest.mark.parametrize("behind", [b"", post(b"1")])
def test_stop(run: Run, behind: bytes) -> None:
    """A server that stops sends what is under way, and begins nothing behind it."""

    async def main() -> None:
        desk = Desk()
        server = AsyncExitStack()
        port = await server.enter_async_context(served(desk.front, drain_seconds=ANSWER_SECONDS))
        async with dialled(port) as peer, dialled(port) as idle:
            peer.send(post(b"large") + behind)
            await stuck(desk, port)
            stopping = asyncio.create_task(server.aclose())
            assert await idle.closed()
            assert (await peer.answer()).body == desk.body
            assert await peer.closed()
            await stopping
        assert desk.asked == [b"large"]

    run(main())


def test_stop_with_one_who_does_not_read(run: Run) -> None:
    """It waits no longer than for any other who does not read."""

    async def main() -> None:
        desk = Desk()
        server = AsyncExitStack()
        port = await server.enter_async_context(served(desk.front, drain_seconds=ANSWER_SECONDS, keep_alive_seconds=1))
        async with dialled(port) as peer:
            peer.send(post(b"large"))
            await stuck(desk, port)
            await server.aclose()
            assert memory_files() == 0

    run(main())


def test_no_descriptor_left(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Then the transport sends the same."""

    async def main() -> None:

        def none_left(descriptor: int) -> int:
            raise OSError(24, "Too many open files")

        desk = Desk()
        async with served(desk.front) as port, dialled(port) as peer:
            monkeypatch.setattr(os, "dup", none_left)
            peer.send(post(b"large") + post(b"1"))
            assert [(await peer.answer()).body for _ in range(2)] == [desk.body, b"1"]

    run(main())


def test_few_descriptors_are_left_to_others(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a second one for each answer would take what connections and the disk need, the transport sends."""

    async def main() -> None:
        desk = Desk()
        async with served(desk.front) as port, dialled(port) as peer:
            monkeypatch.setattr(sending, "can_be_spared", lambda descriptor: False)
            monkeypatch.setattr(sending, "Sending", None)  # which nobody makes
            used = len(os.listdir("/proc/self/fd"))
            peer.send(post(b"large") + post(b"1"))
            assert [(await peer.answer()).body for _ in range(2)] == [desk.body, b"1"]
            assert len(os.listdir("/proc/self/fd")) == used

    run(main())


def test_sendfile_may_be_refused(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """As some sandboxes do, though the system has it: then the bytes are sent as any others are."""

    def refused(*_: Any) -> int:
        raise PermissionError(1, "Operation not permitted")

    async def main() -> None:
        desk = Desk()
        async with served(desk.front) as port, dialled(port) as peer:
            monkeypatch.setattr(os, "sendfile", refused)
            peer.send(post(b"large") + post(b"1"))
            assert [(await peer.answer()).body for _ in range(2)] == [desk.body, b"1"]

    run(main())


class Full(asyncio.Transport):
    """Has so many bytes to write already."""

    def __init__(self, size_bytes: int, its: socket.socket | None) -> None:
        super().__init__({"socket": its})
        self._size_bytes = size_bytes
        self.written = b""

    def get_write_buffer_size(self) -> int:
        return self._size_bytes

    def writelines(self, list_of_data: Any) -> None:
        self.written = b"".join(list_of_data)


@pytest.mark.parametrize("busy", [True, False])
def test_behind_what_is_to_be_written(busy: bool, run: Run) -> None:
    """Nothing goes past the bytes that a transport still has, or past one without a socket."""

    async def main() -> None:
        ours, theirs = socket.socketpair()
        with ours, theirs:
            transport, desk = Full(1 if busy else 0, ours if busy else None), Desk()
            assert send(transport, desk.pieces(), lambda: None) is None
            assert transport.written == desk.body

    run(main())


def test_others_have_their_turn(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """However much room there is, one answer takes no more than a bounded part of a turn of the loop."""

    async def main() -> None:
        desk = Desk()
        sent, inner = list[int](), os.sendfile

        def counted(out: int, of: int, at: int, size: int) -> int:
            sent.append(inner(out, of, at, size))
            return sent[-1]

        monkeypatch.setattr(os, "sendfile", counted)
        monkeypatch.setattr(sending, "TURN_BYTES", 10_000)
        async with served(desk.front) as port, dialled(port) as peer:
            peer.send(post(b"large"))
            assert (await peer.answer()).body == desk.body
        assert max(sent) == 10_000

    run(main())
