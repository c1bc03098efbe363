"""Bodies go out one after the other; none that may have been stored goes out twice."""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from firehose.cli.client import Client, Service
from firehose.cli.push import Push, Pushed, advice, bodies
from firehose.cli.running import Stopped

TAKEN = 'HTTP/1.1 200 OK\r\ncontent-length: 27\r\n\r\n{"accepted":1,"rejected":0}'
UNSURE = 'HTTP/1.1 503 Disk\r\nretry-after: 1\r\ncontent-length: 20\r\n\r\n{"stored":"unknown"}'
LATER = "HTTP/1.1 503 Later\r\nretry-after: 7\r\ncontent-length: 0\r\n\r\n"
REFUSED = 'HTTP/1.1 400 Bad\r\ncontent-length: 15\r\n\r\n{"error":"why"}'
FAILED = "HTTP/1.1 500 Bug\r\ncontent-length: 0\r\n\r\n"
BREAK = ""


@dataclass(slots=True)
class Scripted:
    """A service that answers each body with the next line of a script, and closes the connection at the end of it."""

    script: Sequence[str]
    seen: list[bytes] = field(default_factory=list)
    port: int = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length"))
                self.seen.append(await reader.readexactly(int(length.split(b":")[1])))
                answer = self.script[len(self.seen) - 1]
                writer.write(answer.encode())
                if answer == BREAK:
                    break
        except asyncio.IncompleteReadError:
            pass  # the client is done
        finally:
            writer.close()


@asynccontextmanager
async def scripted(*script: str) -> AsyncIterator[Scripted]:
    one = Scripted(script)
    server = await asyncio.start_server(one.serve, "127.0.0.1", 0)
    one.port = server.sockets[0].getsockname()[1]
    async with server:
        yield one


async def pushed_to(service: Scripted, pushed: Pushed, content: bytes, waits: list[float] | None = None) -> None:
    """Pushes a body for each line."""

    async def pause(seconds: float) -> None:
        assert waits is not None, "nothing was to wait"
        waits.append(seconds)

    async with Client(Service(f"http://127.0.0.1:{service.port}")) as client:
        push = Push(client, "app", pushed, lambda reason: None, patience_seconds=20, pause=pause)
        await push.run(bodies(io.BytesIO(content), 4))


@given(st.binary(max_size=200), st.integers(1, 40))
async def test_bodies_are_the_input(content: bytes, size: int) -> None:
    """Bodies joined are the input; each ends behind a newline, and is larger than asked for only if one line is."""
    found = [body async for body in bodies(io.BytesIO(content), size)]
    assert b"".join(found) == content
    assert all(body.endswith(b"\n") for body in found[:-1])
    longest = max(map(len, content.split(b"\n")))
    assert all(0 < len(body) <= size + longest + 1 for body in found)


async def test_all_taken() -> None:
    """Each body goes out once, and what is acknowledged adds up."""
    pushed = Pushed()
    async with scripted(TAKEN, TAKEN) as service:
        await pushed_to(service, pushed, b"one\ntwo\n")
    assert service.seen == [b"one\n", b"two\n"]
    assert pushed == Pushed(offset=8, accepted=2)


async def test_not_taken_goes_out_again() -> None:
    """A 503 took nothing: the same body goes out again, after the time that the service asks for."""
    pushed, waits = Pushed(), list[float]()
    async with scripted(TAKEN, LATER, LATER, TAKEN) as service:
        await pushed_to(service, pushed, b"one\ntwo\n", waits)
    assert service.seen == [b"one\n", b"two\n", b"two\n", b"two\n"]
    assert waits == [7, 7]
    assert pushed == Pushed(offset=8, accepted=2)


async def test_patience_ends() -> None:
    """A service that never takes a body does not hold the command for ever, and nothing is in doubt."""
    pushed, waits = Pushed(), list[float]()
    async with scripted(LATER, LATER, LATER) as service:
        with pytest.raises(Stopped, match="503"):
            await pushed_to(service, pushed, b"one\n", waits)
    assert waits == [7, 7]
    assert pushed.under_way == 0


@pytest.mark.parametrize(("trouble", "in_doubt"), [(BREAK, 4), (FAILED, 4), (UNSURE, 4), (REFUSED, 0)])
async def test_trouble_stops_without_sending_again(trouble: str, in_doubt: int) -> None:
    """After a broken connection, a bug, a doubt or a refusal nothing more goes out, and the body in doubt is named."""
    pushed = Pushed()
    async with scripted(TAKEN, trouble) as service:
        with pytest.raises(Stopped):
            await pushed_to(service, pushed, b"one\ntwo\nsix\n")
    assert service.seen == [b"one\n", b"two\n"]
    assert pushed == Pushed(offset=4, accepted=1, under_way=in_doubt)


async def test_nobody_listens() -> None:
    """Where no connection comes about, nothing is in doubt."""
    async with scripted() as service:
        pass
    pushed = Pushed()
    with pytest.raises(Stopped, match="no service answers"):
        await pushed_to(service, pushed, b"one\n")
    assert pushed == Pushed()


def test_advice() -> None:
    """A person is told both ways to go on where a body is in doubt, and the one way where none is."""
    assert "with --from 9; if they did not, with --from 4" in advice(Pushed(4, 1, under_way=5))
    assert advice(Pushed(4, 1)).endswith("go on with --from 4")
