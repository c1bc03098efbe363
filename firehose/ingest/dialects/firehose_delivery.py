"""Dialect F: deliveries of Amazon Data Firehose, or of another instance of ours, to `POST /firehose/{stream}`.

The receiving side of the HTTP endpoint protocol (firehose.md sections 12.1 and 12.2). Records are stored byte for byte,
all of a request or none, and a request is taken once: its id is durable in the same frame as its records and remembered
(see `remembered`), so that a sender that did not hear the answer sends it again. Success is 200 with

    {"requestId":"...","timestamp":...}

after the commit. Everything else is 4xx or 5xx with an `errorMessage`, and never 413: for that one the sender gives its
records up.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

import msgspec
import pyarrow as pa
from pybase64 import b64decode

from firehose.contracts import Unavailable
from firehose.http.admission import OVERLOAD_SECONDS, Admission
from firehose.http.wire import JSON, Head, Reply, Route
from firehose.inflating import TooLarge
from firehose.ingest.decoding import Undecodable, decode
from firehose.ingest.dialects.generic import EARLY_BYTES, LARGE_BYTES, SHOWN_CHARACTERS
from firehose.ingest.gathering import RECORD_ONLY
from firehose.ingest.intake import Intake, Intakes
from firehose.ingest.remembered import SLOTS_LIMIT, Requests
from firehose.ingest.splitting import RECORD_TOO_LARGE
from firehose.model import INTAKE_SCHEMA, NewerFormat
from firehose.runtime import Threads

PREFIX = "/firehose/"
ID_HEADER = b"x-amz-firehose-request-id"
VERSION_HEADER = b"x-amz-firehose-protocol-version"
ID_CHARACTERS = 256
RECORDS_LIMIT = 10_000
PROBES = ("GET", "HEAD", "OPTIONS")
ALLOW = (b"allow", b"GET, HEAD, OPTIONS, POST")


class Record(msgspec.Struct, gc=False):
    data: str


class Delivery(msgspec.Struct, rename="camel"):
    request_id: str
    timestamp: int
    records: list[Record]


class Refused(Exception):
    """Why a delivery is not taken."""

    def __init__(self, status: int, reason: str, after_seconds: float = 0.0) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason
        self.after_seconds = after_seconds


@dataclass(frozen=True, slots=True)
class Deliveries:
    """Answers for every stream there is. `keep_ms` is how long request ids are remembered."""

    intakes: Intakes
    threads: Threads
    admit: Callable[[Head], bool]
    admission: Admission
    now_ms: Callable[[], int]
    keep_ms: int
    body_limit_bytes: int
    decoded_limit_bytes: int
    slots_limit: int = SLOTS_LIMIT
    _requests: dict[str, Requests] = field(default_factory=dict)
    _under_way: set[asyncio.Task[Reply]] = field(default_factory=set)

    def route(self) -> Route:
        return Route(self._begin, self._finish, self.body_limit_bytes, self._refuse, _stream)

    def _begin(self, head: Head) -> Reply | None:
        try:
            self._look_at(head)
        except Refused as refused:
            return self._refused(head, refused)
        return self._said(head, 200) if head.method in PROBES else None

    def _look_at(self, head: Head) -> None:
        """Raises `Refused` where a body need not be read."""
        if not self.admit(head):
            raise Refused(401, "send one of service.api_keys as X-Amz-Firehose-Access-Key")
        intake = self._intake(head)
        if head.method not in (*PROBES, "POST"):
            raise Refused(405, "use POST")
        if intake.source != "direct_put":
            raise Refused(400, f"'{intake.stream}' takes its records from a {intake.source}, not over HTTP")
        if head.header(VERSION_HEADER) not in ("", "1.0"):
            raise Refused(400, "only version 1.0 of the protocol is known")
        length = head.headers.get(b"content-length", b"")
        if head.method == "POST" and length.isdigit() and int(length) >= EARLY_BYTES:
            try:
                intake.room(int(length))
            except Unavailable as error:
                raise Refused(503, error.reason, error.after_seconds) from error

    def _intake(self, head: Head) -> Intake:
        name = head.path.removeprefix(PREFIX)
        if name not in self.intakes:
            raise Refused(404, f"there is no delivery stream '{name[:SHOWN_CHARACTERS]}'; POST to {PREFIX}<stream>")
        return self.intakes[name]

    async def _finish(self, head: Head, body: bytes) -> Reply:
        """Whoever stops waiting leaves the work to its end: a second copy waits for it."""
        task = asyncio.get_running_loop().create_task(self._answer(head, body))
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)
        return await asyncio.shield(task)

    async def _answer(self, head: Head, body: bytes) -> Reply:
        try:
            await self._taken(head, body)
        except Refused as refused:
            return self._refused(head, refused)
        except Unavailable as error:
            return self._refused(head, Refused(503, error.reason, error.after_seconds))
        except NewerFormat as error:
            return self._refused(head, Refused(503, str(error)))
        return self._said(head, 200)

    async def _taken(self, head: Head, body: bytes) -> None:
        """The delivery is durable, or was before. Raises `Refused`, `Unavailable`, `NewerFormat`."""
        encoding = head.header(b"content-encoding")
        undo = partial(_decoded, body, encoding, min(self.decoded_limit_bytes, self.admission.limit_bytes))
        held_up = bool(encoding) or len(body) > LARGE_BYTES
        plain = await self.threads.run(undo) if held_up else undo()
        grown = max(0, len(plain) - len(body))
        if not self.admission.admit(grown):
            raise Refused(503, "more is sent than can be taken", OVERLOAD_SECONDS)
        try:
            intake = self._intake(head)
            read = partial(_records, plain, head.header(ID_HEADER), intake)
            records = await self.threads.run(read) if len(plain) > LARGE_BYTES else read()
            await self._remembered(self._intake(head)).store(head.header(ID_HEADER), records)
        finally:
            self.admission.release(grown)

    def _remembered(self, intake: Intake) -> Requests:
        """One memory for each buffer, whatever becomes of the stream's options."""
        known = self._requests.get(intake.stream)
        if known is None or known.appender is not intake.appender:
            known = Requests(intake.appender, self.now_ms, self.keep_ms, self.slots_limit)
            self._requests[intake.stream] = known
        return known

    def _refused(self, head: Head, refused: Refused) -> Reply:
        return self._said(head, refused.status, refused.reason, refused.after_seconds)

    def _refuse(self, status: int, reason: str, after_seconds: float) -> Reply:
        """What is refused before anybody has looked for its id."""
        return self._reply(400 if status == 413 else status, "", reason, after_seconds)

    def _said(self, head: Head, status: int, reason: str = "", after_seconds: float = 0.0) -> Reply:
        return self._reply(status, head.header(ID_HEADER)[:ID_CHARACTERS], reason, after_seconds)

    def _reply(self, status: int, id: str, reason: str, after_seconds: float) -> Reply:
        said: dict[str, object] = {"requestId": id, "timestamp": self.now_ms()}
        if reason:
            said["errorMessage"] = reason
        headers = [*JSON, *([ALLOW] if status in (200, 405) else [])]
        if status in (503, 408):
            headers.append((b"retry-after", b"%d" % max(1, math.ceil(after_seconds))))
        return Reply(status, msgspec.json.encode(said), tuple(headers))


def _stream(head: Head, body: bytes) -> bytes:
    """As the other dialects name it: a stream has one turn, whichever way its records come."""
    return head.path.removeprefix(PREFIX).encode()


def _decoded(body: bytes, encoding: str, limit_bytes: int) -> bytes:
    try:
        return decode(body, encoding, limit_bytes)
    except Undecodable as error:
        raise Refused(400, f"Content-Encoding: {error.reason}") from error
    except TooLarge as error:
        raise Refused(400, f"the body is larger than {error.limit_bytes} bytes once decoded") from error


def _records(plain: bytes, id: str, intake: Intake) -> pa.RecordBatch:
    """What is to be stored. A record that is too large for the stream goes to its error output, as everywhere."""
    try:
        delivery = msgspec.json.decode(plain, type=Delivery)
        data = [b64decode(one.data, None, True) for one in delivery.records]
    except (ValueError, RecursionError) as error:
        raise Refused(400, f"the body is not of the protocol: {error}") from error
    if not 0 < len(id) <= ID_CHARACTERS:
        raise Refused(400, f"give the request an id of 1 to {ID_CHARACTERS} characters: X-Amz-Firehose-Request-Id")
    if delivery.request_id != id:
        raise Refused(400, "requestId is not X-Amz-Firehose-Request-Id")
    if not 1 <= len(data) <= RECORDS_LIMIT:
        raise Refused(400, f"{len(data)} records, where a request has 1 to {RECORDS_LIMIT}")
    records = pa.array(data, pa.binary())
    limit = intake.split.max_record_bytes
    if max(map(len, data)) <= limit:
        return pa.RecordBatch.from_arrays([records], schema=RECORD_ONLY)
    if intake.strict:
        raise Refused(400, f"nothing was taken (strict): a record has more than {limit} bytes (max_record_kib)")
    reason = f"{RECORD_TOO_LARGE}: the record has more than {limit} bytes (max_record_kib)"
    refused = pa.array([reason if len(one) > limit else None for one in data], pa.string())
    return pa.record_batch({"record": records, "refused": refused}).cast(
        pa.schema([INTAKE_SCHEMA.field("record"), INTAKE_SCHEMA.field("refused")])
    )
