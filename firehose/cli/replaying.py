"""Posts dead letters back into streams, body by body, each of one object.

The service knows every letter that it has had back (see `firehose.ingest.dialects.replay`): a body whose fate is unsure
is sent again, after a restart of either side too, and nothing is stored twice.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Iterator
from dataclasses import dataclass, field
from urllib.parse import quote

import msgspec

from firehose.cli.client import Answer, Broken, Client, Unreachable
from firehose.cli.running import Stopped

BODY_BYTES = 4 * 1024 * 1024  # of raw data; base64 makes it a third longer
BODY_LETTERS = 10_000
LATER = (408, 503)
TOO_LARGE = 413
PAUSE_SECONDS = 1.0
SHOWN_REFUSALS = 20


class Back(msgspec.Struct, frozen=True, gc=False):
    """A letter on its way back. It says of itself what the service is to read."""

    line: int
    data: bytes
    code: str = ""


@dataclass(frozen=True, slots=True)
class Body:
    """Letters of one object, in the order of their lines, for one stream."""

    stream: str
    object: str  # its address: the same whichever way led there
    letters: list[Back]

    def encoded(self) -> bytes:
        return msgspec.json.encode({"letters": [{"line": one.line, "data": one.data} for one in self.letters]})

    def halves(self) -> tuple[Body, Body]:
        middle = len(self.letters) // 2
        return (
            Body(self.stream, self.object, self.letters[:middle]),
            Body(self.stream, self.object, self.letters[middle:]),
        )


@dataclass(slots=True)
class Tally:
    """How far a replay has come: only what the service has answered counts."""

    replayed: int = 0
    known: int = 0
    refused: int = 0
    bytes: int = 0
    codes: Counter[str] = field(default_factory=Counter)
    refusals: list[str] = field(default_factory=list)  # the first few, in words

    @property
    def letters(self) -> int:
        return self.replayed + self.known + self.refused

    def to_json(self) -> dict[str, object]:
        return {
            "letters": self.letters,
            "replayed": self.replayed,
            "known": self.known,
            "refused": self.refused,
            "bytes": self.bytes,
            "reasons": dict(self.codes.most_common()),
            "refusals": self.refusals,
        }

    def refuse(self, where: str, reason: str) -> None:
        self.refused += 1
        if len(self.refusals) < SHOWN_REFUSALS:
            self.refusals.append(f"{where}: {reason}")


@dataclass(frozen=True, slots=True)
class Replay:
    """Runs into one service."""

    client: Client
    tally: Tally
    dry_run: bool = False
    patience_seconds: float = 600  # for one body
    pause: Callable[[float], Awaitable[None]] = asyncio.sleep

    async def run(self, bodies: Iterable[Body], report: Callable[[str], None]) -> None:
        """`report` is called after each body, and with a reason before each wait. Raises `Stopped`, and what `bodies`
        raises.
        """
        for body in bodies:
            await self._post(body, report)
            report("")

    async def _post(self, body: Body, report: Callable[[str], None]) -> None:
        answer = await self._answered(body, report)
        if answer.status == 200:
            self._count(body, answer)
        elif answer.status == TOO_LARGE and len(body.letters) > 1:
            for half in body.halves():
                await self._post(half, report)
        elif answer.status == TOO_LARGE:
            self._count(body, Answer(200, {"refused": [{"line": body.letters[0].line, "reason": answer.reason}]}))
        else:
            raise Stopped(f"{self.client.url} answers {answer.status}: {answer.reason}")

    async def _answered(self, body: Body, report: Callable[[str], None]) -> Answer:
        """The answer to a body that is sent for as long as it may succeed later."""
        content, waited = body.encoded(), 0.0
        while True:
            seconds = PAUSE_SECONDS
            try:
                answer = await self.client.post(self._path(body), content, {"Content-Type": "application/json"})
                if answer.status not in LATER:
                    return answer
                reason, seconds = f"{answer.status}: {answer.reason}", answer.after_seconds or seconds
            except (Unreachable, Broken) as error:
                reason = str(error)
            if waited + seconds > self.patience_seconds:
                raise Stopped(f"{reason}; gave up after {waited:g} seconds")
            report(reason)
            await self.pause(seconds)
            waited += seconds

    def _path(self, body: Body) -> str:
        name = quote(body.object, safe="", errors="surrogateescape")
        dry = "&dry_run=true" if self.dry_run else ""
        return f"/v1/streams/{quote(body.stream, safe='')}/replay?object={name}{dry}"

    def _count(self, body: Body, answer: Answer) -> None:
        self.tally.replayed += int(answer.said.get("replayed", 0))
        self.tally.known += int(answer.said.get("known", 0))
        for refused in answer.said.get("refused", ()):
            self.tally.refuse(f"{body.object}, document {refused['line']}", refused["reason"])
        self.tally.bytes += sum(len(one.data) for one in body.letters)
        self.tally.codes.update(one.code for one in body.letters)


Found = tuple[str, str, Back]  # stream, address of the object, letter


def bodies(found: Iterable[Found], body_bytes: int = BODY_BYTES) -> Iterator[Body]:
    """Letters that follow each other and are of one object, in bodies of about that size."""
    stream = address = ""
    letters: list[Back] = []
    size = 0
    for its_stream, its_address, one in found:
        full = size + len(one.data) > body_bytes or len(letters) == BODY_LETTERS
        if letters and (full or (its_stream, its_address) != (stream, address)):
            yield Body(stream, address, letters)
            letters, size = [], 0
        stream, address = its_stream, its_address
        letters.append(one)
        size += len(one.data)
    if letters:
        yield Body(stream, address, letters)
