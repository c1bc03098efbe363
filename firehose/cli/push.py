"""Posts a run of bodies to a stream, one after the other, and never one twice that may have been stored.

An answer of 503 (or 408) means that nothing was taken: the same body is sent again after the time that the service
asks for (ingest-clients.md section 4.1). A connection that breaks with a body under way ends the run, and so does a 503
that says `"stored":"unknown"`, because nobody can tell whether that body was stored: the person decides where to go on.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import BinaryIO

from firehose.cli.client import Answer, Broken, Client, Unreachable, ingest
from firehose.cli.running import Stopped
from firehose.cli.show import Failure

NOT_TAKEN = (408, 503)
DEFAULT_PAUSE_SECONDS = 1.0
LINE_LIMIT_BYTES = 64 * 1024 * 1024
TEXT = {"Content-Type": "text/plain; charset=utf-8"}  # the service looks at the body itself


@dataclass(slots=True)
class Pushed:
    """How far a run has come: only what the service has acknowledged counts."""

    offset: int = 0  # in the input, behind the last acknowledged body
    accepted: int = 0
    rejected: int = 0
    under_way: int = 0  # bytes of the body that may or may not have been stored


@dataclass(frozen=True, slots=True)
class Push:
    """One run into one stream. `report` is called after each acknowledged body, and with a reason before each wait."""

    client: Client
    stream: str
    pushed: Pushed
    report: Callable[[str], None]
    patience_seconds: float = 600  # for one body that the service does not take
    pause: Callable[[float], Awaitable[None]] = asyncio.sleep

    async def run(self, bodies: AsyncIterator[bytes]) -> None:
        """Raises `Stopped`."""
        async for body in bodies:
            answer = await self._taken(body)
            self.pushed.offset += len(body)
            self.pushed.accepted += int(answer.said.get("accepted", 0))
            self.pushed.rejected += int(answer.said.get("rejected", 0))
            self.report("")

    async def _taken(self, body: bytes) -> Answer:
        waited = 0.0
        while (answer := await self._sent(body)).status != 200:
            seconds = answer.after_seconds or DEFAULT_PAUSE_SECONDS
            if not _not_taken(answer) or waited + seconds > self.patience_seconds:
                raise Stopped(f"{self.client.url} answers {answer.status}: {answer.reason}")
            self.report(answer.reason)
            await self.pause(seconds)
            waited += seconds
        return answer

    async def _sent(self, body: bytes) -> Answer:
        """Whatever ends this, `under_way` tells whether the body may have been stored."""
        self.pushed.under_way = len(body)
        try:
            answer = await self.client.post(ingest(self.stream), body, TEXT)
        except Unreachable as error:
            self.pushed.under_way = 0
            raise Stopped(str(error)) from error
        except Broken as error:
            raise Stopped(str(error)) from error
        if answer.status < 500 or _not_taken(answer):
            self.pushed.under_way = 0
        return answer


def _not_taken(answer: Answer) -> bool:
    """Whether the body may be sent again: the service says where a failing disk leaves it unsure."""
    return answer.status in NOT_TAKEN and answer.said.get("stored") != "unknown"


async def bodies(file: BinaryIO, body_bytes: int) -> AsyncIterator[bytes]:
    """The rest of a file in bodies of about that size, cut behind newlines. From a pipe, what is there already."""
    read = getattr(file, "read1", file.read)
    rest = b""
    while chunk := read(body_bytes):
        whole, newline, tail = (rest + chunk).rpartition(b"\n")
        if newline:
            yield whole + newline
        rest = tail
        if len(rest) > LINE_LIMIT_BYTES:
            raise Failure(f"a line is longer than {LINE_LIMIT_BYTES} bytes: are these lines of text?")
    if rest:
        yield rest


def advice(pushed: Pushed) -> str:
    """What was acknowledged and how to go on, for the input of `firehose put`."""
    at, behind = pushed.offset, pushed.offset + pushed.under_way
    said = f"{pushed.accepted} records were acknowledged, and the input's bytes before {at}.\n"
    if not pushed.under_way:
        return f"{said}Nothing else was taken: go on with --from {at}"
    return (
        f"{said}The body under way, bytes {at} to {behind}, may have been stored and was not sent again.\n"
        f"If its records arrived, go on with --from {behind}; if they did not, with --from {at}"
    )
