"""Who sends records: clients of both dialects, cut off or impatient or slow, and a source that can be read again."""

from __future__ import annotations

import asyncio
import base64
import json
from typing import TYPE_CHECKING

from disk_buffer import batch
from simulation.halves import Front
from simulation.network import Cut, Line
from simulation.settings import PARTED
from simulation.witness import key_of

from firehose.contracts import Full, Unavailable
from firehose.model import Origin

if TYPE_CHECKING:
    from simulation.life import Simulation

PATIENCE_SECONDS = 20.0  # of a client
FED = "events"  # the stream that the source feeds; the others take records by HTTP


class Senders:
    """Every record carries a token that no other has; the witness hears of what is sent and of what is answered."""

    def __init__(self, life: Simulation, streams: tuple[str, ...]) -> None:
        self._life = life
        self._world = life.world
        self._dice = life.world.dice
        self._witness = life.witness
        self._streams = streams
        self._numbers = 0
        self.taken_after_trouble = False

    def _tokens(self, stream: str, how: str) -> list[bytes]:
        first, self._numbers = self._numbers, self._numbers + self._dice.choice((1, 1, 3, 20))
        made = [b"<%s-%s-%06d>" % (stream.encode(), how.encode(), number) for number in range(first, self._numbers)]
        self._witness.send(made, stream)
        return made

    async def client(self) -> None:
        line: Line | None = None
        while self._life.in_trouble:
            await asyncio.sleep(self._dice.choice((0.01, 0.3, 2.0)))
            front = self._life.front
            if front is None or front.service is None:
                continue
            if line is None or line.is_cut:
                line = Line(self._world, front.process, front.service.connection)
            try:
                await self._post(line, self._dice.choice(self._streams))
            except (Cut, TimeoutError):
                line.cut()
            if self._dice.random() < 0.3:
                line.cut()
        if line is not None:
            line.cut()

    async def after_trouble(self) -> None:
        """One more request for each stream. It may be refused, but not for good."""
        for stream in self._streams:
            while not await self._is_taken(stream):  # noqa: ASYNC110  # nobody tells when there is room again
                await asyncio.sleep(1.0)
        self.taken_after_trouble = True

    async def _is_taken(self, stream: str) -> bool:
        """Or there is no such stream now."""
        front = self._life.front
        if front is None or front.service is None:
            return False
        line = Line(self._world, front.process, front.service.connection)
        try:
            return await self._post(line, stream) in (200, 404)
        except (Cut, TimeoutError):
            return False
        finally:
            line.cut()

    async def _post(self, line: Line, stream: str) -> int:
        how = self._dice.choice(("ingest", "put"))
        tokens = self._tokens(stream, how)
        line.answered = lambda status: self._answered(status, tokens, stream)
        request = _ingest(stream, tokens) if how == "ingest" else _put(stream, tokens)
        cuts = sorted(self._dice.sample(range(1, len(request)), self._dice.randint(0, 3)))
        for start, end in zip([0, *cuts], [*cuts, len(request)], strict=True):
            line.send(request[start:end], self._dice.choice((0.0005, 0.005, 0.2)))
        if self._dice.random() < 0.1:
            await asyncio.sleep(self._dice.uniform(0, 0.3))
            line.cut()
        status, _ = await asyncio.wait_for(line.answer(), PATIENCE_SECONDS)
        return status

    def _answered(self, status: int, tokens: list[bytes], stream: str) -> None:
        if status == 200:
            self._witness.acknowledge(tokens, stream)
        elif status not in (404, 400, 503):
            self._world.violated("no bug", f"{stream} answers {status}")

    async def feed(self, front: Front) -> None:
        """A source: reads on from where the buffer says, and asks again at each start alone where it is unsure."""
        assert front.service is not None
        while self._life.in_trouble and front.service is not None:
            await asyncio.sleep(self._dice.choice((0.05, 0.5, 3.0)))
            appender = front.service.appender(FED) if front.service else None
            if appender is None:
                continue
            origin = appender.origins().get("shard")
            first = int(origin.cursor) if origin else 0
            end = first + self._dice.choice((1, 2, 10))
            tokens = [b"<%s-source-%06d>" % (FED.encode(), number) for number in range(first, end)]
            self._witness.send(tokens, FED)
            try:
                await appender.append(batch(*(token + b"\n" for token in tokens)), Origin("shard", str(end)))
            except Full:
                continue
            except Unavailable:
                return
            front.process.check()
            self._witness.acknowledge(tokens, FED)


def _json(token: bytes) -> bytes:
    return b'{"said":"%s","k":"%s"}\n' % (token, key_of(token))


def _ingest(stream: str, tokens: list[bytes]) -> bytes:
    body = b"".join(map(_json, tokens))
    return b"POST /ingest/%s HTTP/1.1\r\nhost: a\r\ncontent-length: %d\r\n\r\n%s" % (stream.encode(), len(body), body)


def _put(stream: str, tokens: list[bytes]) -> bytes:
    lines = [_json(token) if stream == PARTED else token + b"\n" for token in tokens]
    records = [{"Data": base64.b64encode(line).decode()} for line in lines]
    body = json.dumps({"DeliveryStreamName": stream, "Records": records}).encode()
    head = b"POST / HTTP/1.1\r\nhost: a\r\nx-amz-target: Firehose_20150804.PutRecordBatch\r\n"
    return head + b"content-type: application/x-amz-json-1.1\r\ncontent-length: %d\r\n\r\n%s" % (len(body), body)
