"""Dead letters come back once: through repeats, rivals, failing disks and crashes, on a buffer in virtual time."""

from __future__ import annotations

import asyncio
import json
from base64 import b64encode
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

import pytest
from disk_buffer import STREAM, DiskBuffer, drained
from faulty_disk import Fault
from virtual_time import Inline, passed, run

from firehose.http.wire import Head, Reply
from firehose.ingest.dialects.replay import BLOCKS_LIMIT, Replay, is_replay
from firehose.ingest.intake import Intake
from firehose.ingest.replayed import BLOCK_LINES
from firehose.ingest.splitting import SplitOptions
from firehose.model import Origin

BEING_STORED = 0.0025  # seconds: a request is read for one thousandth, looked up for another, and written for a third
OBJECT = "s3://lake/errors/processing-failed/app-1"


@dataclass
class House:
    """One stream, its buffer, and the dialect over it."""

    buffer: DiskBuffer = field(default_factory=DiskBuffer)
    intakes: dict[str, Intake] = field(default_factory=dict)
    blocks_limit: int = BLOCKS_LIMIT
    options: SplitOptions = field(default_factory=SplitOptions)

    async def open(self) -> None:
        """Over the buffer as it stands now: anew after a crash, which takes the dialect's own memory with it."""
        room = self.buffer.appender.make_sure_of_room
        self.intakes[STREAM] = Intake(STREAM, self.buffer.appender, self.options, room=room)
        self.intakes["kafka"] = Intake("kafka", self.buffer.appender, SplitOptions(), source="kafka")
        self.dialect = Replay(
            self.intakes, Inline(0.001), lambda head: b"x-refuse" not in head.headers, 1 << 20, self.blocks_limit
        )

    async def crash(self, power: bool = False) -> None:
        await self.buffer.crash(power)
        await self.open()

    async def ask(self, body: bytes, query: str = f"object={quote(OBJECT)}", **given: Any) -> Reply:
        asked = head(query, **given)
        route = self.dialect.route()
        return route.begin(asked) or await route.finish(asked, body)

    async def replay(self, *letters: tuple[int, bytes], query: str = f"object={quote(OBJECT)}") -> dict[str, Any]:
        reply = await self.ask(body_of(*letters), query)
        said: dict[str, Any] = json.loads(reply.body)
        return {"status": reply.status, **said}

    async def stored(self) -> list[bytes]:
        await self.buffer.appender.seal()
        return await drained(self.buffer.outbox())


def head(query: str, stream: str = STREAM, method: str = "POST", headers: dict[bytes, bytes] | None = None) -> Head:
    return Head(method, f"/v1/streams/{stream}/replay", query.encode(), headers or {})


def body_of(*letters: tuple[int, bytes]) -> bytes:
    said = [{"line": line, "data": b64encode(data).decode()} for line, data in letters]
    return json.dumps({"letters": said}).encode()


def done(replayed: int, known: int = 0) -> dict[str, Any]:
    return {"status": 200, "replayed": replayed, "known": known, "refused": []}


def some(first: int, end: int) -> list[tuple[int, bytes]]:
    return [(line, b"letter %d" % line) for line in range(first, end)]


def in_house(scenario: Callable[[House], Awaitable[None]], house: House | None = None) -> None:
    async def whole() -> None:
        made = house or House()
        await made.buffer.start()
        await made.open()
        await scenario(made)

    run(whole())


def test_once_and_byte_for_byte() -> None:
    """Letters are stored as they are, in the order of their lines, with no delimiter; a repeat stores nothing."""

    async def scenario(house: House) -> None:
        odd = [(2, b"\x00\xff\n\n"), (1, b"no newline"), (3, b"")]
        assert await house.replay(*odd) == done(3)
        assert await house.replay(*odd) == done(0, 3)
        assert await house.replay(*odd, (7, b"new"), (7, b"again")) == done(1, 4)
        assert await house.stored() == [b"no newline", b"\x00\xff\n\n", b"", b"new"]

    in_house(scenario)


def test_a_letter_is_its_object_and_line() -> None:
    """Equal lines of two objects, and lines of two blocks of one, are letters of their own."""

    async def scenario(house: House) -> None:
        edge = [(BLOCK_LINES - 1, b"a"), (BLOCK_LINES, b"b"), (3 * BLOCK_LINES - 1, b"c")]
        assert await house.replay(*edge) == done(3)
        assert await house.replay(*edge, query="object=other") == done(3)
        assert await house.replay(*edge) == done(0, 3)
        assert len(house.buffer.appender.origins()) == 6

    in_house(scenario)


def test_side_by_side() -> None:
    """Of replays at one time that overlap, each letter is stored for one of them, and for the others known."""

    async def scenario(house: House) -> None:
        answers = await asyncio.gather(*(house.replay(*some(first, first + 40)) for first in range(0, 60, 10)))
        assert sum(answer["replayed"] for answer in answers) == 90
        assert sum(answer["known"] for answer in answers) == 6 * 40 - 90
        assert sorted(await house.stored()) == sorted(data for _, data in some(0, 90))

    in_house(scenario)


def test_given_up_in_the_middle() -> None:
    """A request whose client stops waiting is stored to its end before the next one looks at what is known."""

    async def scenario(house: House) -> None:
        gone, following = (asyncio.ensure_future(house.replay(*some(0, 5))) for _ in range(2))
        await passed(BEING_STORED)
        gone.cancel()
        assert await following == done(0, 5)
        assert len(await house.stored()) == 5

    in_house(scenario)


def test_too_large_a_letter() -> None:
    """What is no record of this stream is refused by line, others go on; once the bound is raised it comes too."""

    async def scenario(house: House) -> None:
        letters = [(1, b"fits"), (2, b"does not fit"), (3, b"fits")]
        said = await house.replay(*letters)
        assert (said["replayed"], [one["line"] for one in said["refused"]]) == (2, [2])
        assert "12 bytes" in said["refused"][0]["reason"]
        assert "max_record_kib" in said["refused"][0]["reason"]
        house.options = SplitOptions()
        await house.open()
        assert await house.replay(*letters) == done(1, 2)

    in_house(scenario, House(options=SplitOptions(max_record_bytes=4)))


def test_dry_run() -> None:
    """It says what would be, and changes nothing."""

    async def scenario(house: House) -> None:
        await house.replay(*some(0, 3))
        for _ in range(2):
            assert await house.replay(*some(0, 10), query=f"object={quote(OBJECT)}&dry_run=true") == done(7, 3)
        assert len(await house.stored()) == 3

    in_house(scenario)


def test_full() -> None:
    """A buffer that is full takes none of it, says when to come back, and takes all of it then."""

    async def scenario(house: House) -> None:
        house.buffer.disk.free = 0
        reply = await house.ask(body_of(*some(0, 5)))
        assert (reply.status, dict(reply.headers)[b"retry-after"]) == (503, b"5")
        house.buffer.disk.free = 1 << 40
        assert await house.replay(*some(0, 5)) == done(5)

    in_house(scenario)


@pytest.mark.parametrize("failing", ["write", "sync", "sync_folder", "create"])
@pytest.mark.parametrize("crash_after", [None, 0, 1, 20])
@pytest.mark.parametrize("power", [True, False])
def test_unsure(failing: str, crash_after: int | None, power: bool) -> None:
    """Sent again and again while the disk fails, through a crash at any time, each letter is stored once."""

    async def scenario(house: House) -> None:
        await house.replay(*some(0, 2))
        house.buffer.disk.faults.append(Fault(failing))
        tries = 0
        while (said := await house.replay(*some(0, 9)))["status"] != 200:
            assert said["status"] == 503
            if tries == crash_after:
                await house.crash(power)
            tries += 1
            await passed(0.1)
        await house.crash(power)
        assert await house.replay(*some(0, 9)) == done(0, 9)
        assert sorted(await house.stored()) == [data for _, data in some(0, 9)]

    in_house(scenario)


def test_known_for_good() -> None:
    """A replayed letter is known after its segment was delivered and the service restarted twice, and twice more."""

    async def scenario(house: House) -> None:
        await house.replay(*some(0, 5))
        assert len(await house.stored()) == 5
        for power in (False, True, False, True):
            await house.crash(power)
            assert await house.replay(*some(0, 5)) == done(0, 5)
        await house.replay(*some(5, 6))
        assert await house.stored() == [b"letter 5"]

    in_house(scenario)


def test_bounded_memory() -> None:
    """A stream remembers so many objects; another one is refused and nothing forgotten, known ones go on."""

    async def scenario(house: House) -> None:
        for name in ("a", "b"):
            assert await house.replay(*some(0, 2), query=f"object={name}") == done(2)
        said = await house.replay(*some(0, 2), query="object=c")
        assert (said["status"], "remembers 2 replayed objects" in said["error"]) == (507, True)
        assert await house.replay(*some(0, 3), query="object=b") == done(1, 2)
        assert len(await house.stored()) == 5

    in_house(scenario, House(blocks_limit=2))


@pytest.mark.parametrize(
    ("status", "given"),
    [
        (401, {"headers": {b"x-refuse": b""}}),
        (404, {"stream": "nobody"}),
        (405, {"method": "GET"}),
        (400, {"stream": "kafka"}),
        (400, {"query": ""}),
        (400, {"query": "object=" + "x" * 5000}),
        (400, {"headers": {b"content-encoding": b"gzip"}}),
        (400, {"body": b""}),
        (400, {"body": b'{"letters":[{"line":-1,"data":""}]}'}),
        (400, {"body": b'{"letters":[{"line":1.5,"data":""}]}'}),
        (400, {"body": b'{"letters":[{"line":1,"data":"no base64"}]}'}),
        (400, {"body": b'{"letters":[{"line":1}]}'}),
        (400, {"body": b'{"letters":[{"line":1,"data":"\xff"}]}'}),
        (400, {"body": b'{"x":' + b"[" * 100_000}),
        (413, {"body": body_of(*some(0, 11))}),
    ],
)
def test_refused_as_a_whole(status: int, given: dict[str, Any]) -> None:
    """A request that is not in order is told what to mend, and nothing of it is stored."""

    async def scenario(house: House) -> None:
        reply = await house.ask(**{"body": body_of(*some(0, 1)), **given})
        assert reply.status == status
        assert json.loads(reply.body)["error"]
        assert await house.stored() == []

    in_house(scenario, House(options=SplitOptions(max_records=10)))


def test_remembered_by_a_later_release() -> None:
    """Where the memory of an object is of a later format, none of its letters is guessed at."""

    async def scenario(house: House) -> None:
        await house.replay(*some(0, 1))
        (known,) = house.buffer.appender.origins()
        house.buffer.state.origins[known] = Origin(known, "9:whatever")
        assert (await house.replay(*some(0, 2)))["status"] == 409

    in_house(scenario)


def test_stream_that_goes_away() -> None:
    """A request whose stream is removed while it waits for its turn is told so, and nothing of it is stored."""

    async def scenario(house: House) -> None:
        waiting = [asyncio.ensure_future(house.replay(*some(0, 3), query=f"object={name}")) for name in "ab"]
        await passed(BEING_STORED)
        del house.intakes[STREAM]
        assert [(await one)["status"] for one in waiting] == [200, 404]
        assert len(await house.stored()) == 3

    in_house(scenario)


def test_paths() -> None:
    """Only the replay of a stream is taken for one: the control plane keeps its own."""
    assert is_replay("/v1/streams/app/replay")
    assert not any(map(is_replay, ("/v1/streams", "/v1/streams/app/flush", "/ingest/replay")))
