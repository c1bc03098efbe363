"""Splunk's HTTP Event Collector on loopback, or without a socket in virtual time, that misbehaves as scripts say.

It numbers the requests of each channel, says of a number that it is indexed once, and forgets all of them when it is
restarted. Splunk knows no ids of requests; `knows_ids` makes it a receiver that does.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import count
from typing import Any

from endpoint import Act, Asked, Endpoint, Exchange

from firehose.posting import Answer, Failed, PostingOptions

TOKEN = "5f0c9d7e-hush"
COLLECTOR = "/services/collector"
ANSWERS: Mapping[int, tuple[str, str]] = {
    0: ("200 OK", "Success"),
    1: ("403 Forbidden", "Token disabled"),
    2: ("401 Unauthorized", "Token is required"),
    3: ("401 Unauthorized", "Invalid authorization"),
    4: ("403 Forbidden", "Invalid token"),
    5: ("400 Bad Request", "No data"),
    6: ("400 Bad Request", "Invalid data format"),
    7: ("400 Bad Request", "Incorrect index"),
    8: ("500 Internal Server Error", "Internal server error"),
    9: ("503 Service Unavailable", "Server is busy"),
    10: ("400 Bad Request", "Data channel is missing"),
    11: ("400 Bad Request", "Invalid data channel"),
    12: ("400 Bad Request", "Event field is required"),
    13: ("400 Bad Request", "Event field cannot be blank"),
    14: ("400 Bad Request", "ACK is disabled"),
    15: ("400 Bad Request", "Error in handling indexed fields"),
    16: ("400 Bad Request", "Query string authorization is not enabled"),
    17: ("200 OK", "HEC is healthy"),
    18: ("503 Service Unavailable", "HEC is unhealthy, queues are full"),
    19: ("503 Service Unavailable", "HEC is unhealthy, ack service unavailable"),
    20: ("503 Service Unavailable", "HEC is unhealthy, queues are full, ack service unavailable"),
    21: ("400 Bad Request", "Invalid token"),
    22: ("400 Bad Request", "Token disabled"),
    23: ("503 Service Unavailable", "Server is shutting down"),
    24: ("200 OK", "Queue approaching capacity"),
    25: ("200 OK", "ACK channel approaching capacity"),
    26: ("429 Too Many Requests", "Queue at capacity"),
    27: ("429 Too Many Requests", "ACK channel at capacity"),
}


@dataclass
class Hec(Endpoint):
    """`script` is for requests with records, `ack_script` for questions about them; ended, they are answered well.

    Requests are indexed when they have been asked about `index_after` times. `poison` in a record makes Splunk refuse
    all of its request.
    """

    ack_script: list[Act] = field(default_factory=list)
    health: int = 17
    acks: bool = True
    index_after: float = 0
    limit_bytes: int = 1 << 30
    poison: bytes = b""
    knows_ids: bool = False
    cookies: tuple[str, ...] = ()
    questions: list[Asked] = field(default_factory=list)
    indexed: list[Asked] = field(default_factory=list)  # by Splunk, in the order it took them
    _open: dict[str, dict[int, int]] = field(default_factory=lambda: defaultdict(dict))  # channel, number: times asked
    _counts: dict[str, count[int]] = field(default_factory=lambda: defaultdict(count))

    @property
    def url(self) -> str:
        return f"{self.scheme}://127.0.0.1:{self.port}"

    @property
    def bodies(self) -> list[bytes]:
        return [one.body for one in self.indexed]

    def restart(self) -> None:
        """Forgets all numbers, and counts anew."""
        self._open.clear()
        self._counts.clear()

    async def answer(self, at: Exchange) -> None:
        path = at.asked.path.partition("?")[0]
        if path == f"{COLLECTOR}/health":
            self.probed.append(at.asked)
            await tells(self.health)(at)
        elif (wrong := self._wrong(at.asked, path)) is not None:
            await tells(wrong)(at)
        elif path == f"{COLLECTOR}/ack":
            self.questions.append(at.asked)
            await (self.ack_script.pop(0) if self.ack_script else tell_indexed)(at)
        elif not at.asked.body:
            self.probed.append(at.asked)
            await tells(5)(at)
        else:
            self.asked.append(at.asked)
            await (self.script.pop(0) if self.script else take)(at)

    def _wrong(self, asked: Asked, path: str) -> int | None:
        if path not in (f"{COLLECTOR}/{name}" for name in ("raw", "event", "ack")):
            return 404
        if asked.headers.get("authorization") != f"Splunk {TOKEN}":
            return 4
        if not re.fullmatch(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", asked.headers["x-splunk-request-channel"]):
            return 11
        return 14 if path.endswith("/ack") and not self.acks else None

    def took(self, asked: Asked) -> int:
        """Its number."""
        if not (self.knows_ids and asked.headers["x-request-id"] in self.stored):
            self.indexed.append(asked)
        self.stored[asked.headers["x-request-id"]] = asked
        channel = asked.headers["x-splunk-request-channel"]
        number = next(self._counts[channel])
        self._open[channel][number] = 0
        return number

    def is_indexed(self, channel: str, number: int) -> bool:
        times = self._open[channel].get(number)
        if times is None:
            return False
        if times < self.index_after:
            self._open[channel][number] += 1
            return False
        del self._open[channel][number]
        return True


def hec(at: Exchange) -> Hec:
    assert isinstance(at.endpoint, Hec)
    return at.endpoint


async def say(at: Exchange, status: str, members: Mapping[str, object]) -> None:
    cookies = ", ".join(hec(at).cookies)
    await at.say(status, json.dumps(members).encode(), Set_Cookie=cookies)


def tells(code: int, **members: object) -> Act:
    """An answer by its number in Splunk's table; nothing is stored."""

    async def act(at: Exchange) -> None:
        status, text = ANSWERS.get(code, ("404 Not Found", "The requested URL was not found on this server."))
        await say(at, status, {"text": text, "code": code, **members})

    return act


def takes(code: int = 0) -> Act:
    """Stores, numbers, and says so."""

    async def act(at: Exchange) -> None:
        number = hec(at).took(at.asked)
        await say(at, ANSWERS[code][0], {"text": ANSWERS[code][1], "code": code, "ackId": number})

    return act


async def take(at: Exchange) -> None:
    """As Splunk does, where the request is no larger than allowed and can be read."""
    far = hec(at)
    if len(at.asked.body) > far.limit_bytes:
        await at.say("413 Request Entity Too Large", b"<html>too large</html>", Content_Type="text/html")
    elif far.poison and far.poison in at.asked.body:
        await tells(15, **{"invalid-event-number": 0})(at)
    elif not far.acks:
        far.indexed.append(at.asked)
        await tells(0)(at)
    else:
        await takes()(at)


async def tell_indexed(at: Exchange) -> None:
    channel = at.asked.path.partition("channel=")[2]
    numbers = json.loads(at.asked.body)["acks"]
    await say(at, "200 OK", {"acks": {str(one): hec(at).is_indexed(channel, one) for one in numbers}})


async def lose_number(at: Exchange) -> None:
    """Stores, and hangs up instead of answering."""
    hec(at).took(at.asked)
    at.writer.close()


# Without sockets.


class Paper:
    """What is written to a connection that is none."""

    def __init__(self) -> None:
        self.written = b""

    def write(self, data: bytes) -> None:
        self.written += data

    async def drain(self) -> None:
        await asyncio.sleep(0)

    def close(self) -> None:
        """There is nothing to close."""


def posting_to(far: Hec, seconds: float = 0.01) -> type[Any]:
    """In the place of `firehose.posting.Posting`: every answer takes so long, and no socket."""

    class Paperwork:
        def __init__(self, options: PostingOptions) -> None:
            self._options = options

        async def ask(self, method: str, url: str, headers: Mapping[str, str], body: bytes = b"") -> Answer:
            path = url.removeprefix(far.url)
            paper: Any = Paper()
            asked = Asked(method, path, {name.lower(): value for name, value in headers.items()}, body)
            try:
                async with asyncio.timeout(self._options.timeout_seconds):
                    await asyncio.sleep(seconds)
                    await far.answer(Exchange(far, asked, paper))
            except TimeoutError:
                raise Failed("timeout", "no answer") from None
            if not paper.written:
                raise Failed("reset", "hung up")
            return _answer(paper.written)

        async def close(self) -> None:
            """There is nothing to close."""

    return Paperwork


def _answer(written: bytes) -> Answer:
    head, _, body = written.partition(b"\r\n\r\n")
    line, *fields = head.decode("latin-1").split("\r\n")
    headers = {name.lower(): value for name, _, value in (one.partition(": ") for one in fields)}
    return Answer(int(line.split(" ")[1]), headers, body)
