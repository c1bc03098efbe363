"""Dialect A: any log agent's POST or PUT to `/ingest/{stream}` (ingest-clients.md sections 1, 4.1, 4.8).

Success is exactly 200 with `{"accepted":n,"rejected":m}`, sent after the commit. What is no record goes to the error
output and is answered 200 too; with `strict: true` it is answered 400 and nothing is taken. "Slow down" is 503.
"""

from __future__ import annotations

import json
import math
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial

from firehose.contracts import Unavailable, Unsure
from firehose.http.admission import OVERLOAD_SECONDS, Admission
from firehose.http.wire import JSON, Head, Reply, Route
from firehose.inflating import TooLarge
from firehose.ingest.decoding import Undecodable, decode
from firehose.ingest.intake import Intake, Intakes
from firehose.ingest.salvage import TooMany
from firehose.ingest.splitting import Split, one_object, split
from firehose.model import Position
from firehose.runtime import Threads

PREFIX = "/ingest/"
ALLOW = (b"allow", b"GET, HEAD, OPTIONS, POST, PUT")
ACCEPTED_ONE = Reply(200, b'{"accepted":1,"rejected":0}', JSON)
PROBES = ("GET", "HEAD", "OPTIONS")
LARGE_BYTES = 256 * 1024  # from here on a body is cut in a thread, so that it holds up nobody
EARLY_BYTES = 8 * 1024  # from here on it pays to ask for room before a body is read and cut
LARGE_ENCODED_BYTES = 4 * 1024  # and from here on where it may grow a thousandfold
SHOWN_CHARACTERS = 64  # of a name that no stream has: the sender decides its length, we decide the answer's


@dataclass(frozen=True, slots=True)
class Generic:
    """Answers for every stream there is."""

    intakes: Intakes
    threads: Threads
    admit: Callable[[Head], bool]
    admission: Admission
    body_limit_bytes: int
    decoded_limit_bytes: int

    def route(self) -> Route:
        return Route(self._begin, self._finish, self.body_limit_bytes, refuse, _stream)

    def _begin(self, head: Head) -> Reply | None:
        name = head.path.removeprefix(PREFIX)
        if head.method not in PROBES and not self.admit(head):
            return refuse(401, "send one of service.api_keys as Authorization: Bearer, X-Api-Key, or Basic password")
        intake = self.intakes.get(name)
        if intake is None:
            return refuse(404, f"there is no delivery stream '{name[:SHOWN_CHARACTERS]}'; POST to /ingest/<stream>")
        if head.method in PROBES:
            return _probed(head)
        if head.method not in ("POST", "PUT"):
            return Reply(405, b'{"error":"use POST or PUT"}', (*JSON, ALLOW))
        if intake.source != "direct_put":
            return refuse(400, f"'{name}' takes its records from a {intake.source}, not over HTTP")
        return no_room(head, intake)

    async def _finish(self, head: Head, body: bytes) -> Reply:
        intake = self.intakes.get(head.path.removeprefix(PREFIX))
        if intake is None:
            return refuse(404, "the delivery stream is gone")
        if b"content-encoding" not in head.headers and len(body) <= min(LARGE_BYTES, self._limit_bytes):
            single = one_object(body, intake.split)
            if single is not None:
                return await _answered(intake.singles.append(single), ACCEPTED_ONE)
        return await self._decoded(head, body, intake)

    async def _decoded(self, head: Head, body: bytes, intake: Intake) -> Reply:
        encoding = head.header(b"content-encoding")
        held_up = len(body) > (LARGE_ENCODED_BYTES if encoding else LARGE_BYTES)
        try:
            if held_up:
                plain = await self.threads.run(partial(decode, body, encoding, self._limit_bytes))
            else:
                plain = decode(body, encoding, self._limit_bytes)
        except Undecodable as error:
            return refuse(400, f"Content-Encoding: {error.reason}")
        except TooLarge as error:
            return refuse(413, f"the body is larger than {error.limit_bytes} bytes once decoded")
        grown = max(0, len(plain) - len(body))  # the body itself was admitted before it was read
        if not self.admission.admit(grown):
            return refuse(503, "more is sent than can be taken", OVERLOAD_SECONDS)
        try:
            single = one_object(plain, intake.split) if len(plain) <= LARGE_BYTES else None
            if single is not None:
                return await _answered(intake.singles.append(single), ACCEPTED_ONE)
            if held_up:
                found = await self.threads.run(partial(split, plain, head.header(b"content-type"), intake.split))
            else:
                found = split(plain, head.header(b"content-type"), intake.split)
            if found.rejected and intake.strict:
                return _not_taken(found)
            stored = Reply(200, b'{"accepted":%d,"rejected":%d}' % (found.accepted, found.rejected), JSON)
            if not found.records.num_rows:
                return stored
            return await _answered(intake.appender.append(found.records), stored)
        except TooMany as error:
            return refuse(413, f"a body may hold {error.limit} records (service.body_limit_records); send it in parts")
        finally:
            self.admission.release(grown)

    @property
    def _limit_bytes(self) -> int:
        """What can never be admitted is too large, however much patience the client has."""
        return min(self.decoded_limit_bytes, self.admission.limit_bytes)


def _stream(head: Head, body: bytes) -> bytes:
    """As the AWS dialect names it: a stream has one turn, whichever way its records come."""
    return head.path.removeprefix(PREFIX).encode()


def no_room(head: Head, intake: Intake) -> Reply | None:
    """A large body that will be refused is refused before it is read and cut."""
    length = head.headers.get(b"content-length", b"")
    if not length.isdigit() or int(length) < EARLY_BYTES:
        return None
    try:
        intake.room(int(length))
    except Unavailable as error:
        return refuse(503, error.reason, error.after_seconds)
    return None


async def _answered(append: Awaitable[Position], stored: Reply) -> Reply:
    """`stored` once the records are."""
    try:
        await append
    except Unavailable as error:
        return refuse(503, error.reason, error.after_seconds, unsure=isinstance(error, Unsure))
    return stored


def _probed(head: Head) -> Reply:
    """Agents ask before they send: Vector by HEAD, CloudEvents senders by OPTIONS with an origin."""
    headers = [*JSON, ALLOW]
    origin = head.headers.get(b"webhook-request-origin")
    if origin is not None:
        headers += [(b"webhook-allowed-origin", origin), (b"webhook-allowed-rate", b"*")]
    return Reply(200, b'{"status":"ready"}', tuple(headers))


def _not_taken(found: Split) -> Reply:
    refused = [reason for reason in found.records.column("refused").to_pylist() if reason]
    said = {"error": f"nothing was taken (strict): {refused[0]}", "accepted": 0, "rejected": found.rejected}
    return Reply(400, json.dumps(said, separators=(",", ":")).encode(), JSON)


def refuse(status: int, reason: str, after_seconds: float = 0.0, unsure: bool = False) -> Reply:
    """A refusal in this dialect; 503 and 408 say when to come back, 401 how to ask. Where it is `unsure` whether the
    records were stored, `"stored":"unknown"` tells those who would rather not send them twice.
    """
    headers = [*JSON]
    if status == 401:
        headers.append((b"www-authenticate", b'Basic realm="firehose"'))
    if status in (503, 408):
        headers.append((b"retry-after", b"%d" % max(1, math.ceil(after_seconds))))
    said = {"error": reason, **({"stored": "unknown"} if unsure else {})}
    return Reply(status, json.dumps(said, separators=(",", ":")).encode(), tuple(headers))
