"""The front door through real sockets: what is refused before it is read, and that no end of a request leaks."""

from __future__ import annotations

import asyncio
import gzip
import json
import tracemalloc
from collections.abc import AsyncIterator, Callable, Hashable
from dataclasses import dataclass, field, replace

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sockets import ANSWER_SECONDS, Answer, dialled, served
from structlog.testing import capture_logs
from virtual_time import Inline

from firehose import observe
from firehose.contracts import Full, Unsure
from firehose.http.admission import Admission
from firehose.http.asgi import Receive, Scope, Send
from firehose.http.aws_json import ApiError, AwsJson
from firehose.http.front import Front
from firehose.http.turns import Handle, Turns
from firehose.http.wire import Route
from firehose.ingest.dialects.generic import Generic
from firehose.ingest.intake import Intake
from firehose.ingest.splitting import SplitOptions
from firehose.model import Origin, Position

LIMIT = 64 * 1024


@dataclass
class Kept:
    """An appender in memory, which fails or waits when it is told to."""

    records: list[bytes] = field(default_factory=list)
    failure: Exception | None = None
    gate: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.gate.set()

    async def append(self, records: pa.RecordBatch, origin: Origin | None = None) -> Position:
        await self.gate.wait()
        if self.failure is not None:
            raise self.failure
        self.records += records.column("record").to_pylist()
        return Position("lane", 0, records.num_rows)

    def origins(self) -> dict[str, Origin]:
        return {}


async def nothing_here(scope: Scope, receive: Receive, send: Send) -> None:
    """Stands for FastAPI."""
    await send({"type": "http.response.start", "status": 404, "headers": [(b"content-length", b"0")]})
    await send({"type": "http.response.body", "body": b""})


async def echo(body: bytes) -> bytes:
    return body


async def stumble(body: bytes) -> bytes:
    raise ZeroDivisionError("an operation's own bug")


async def refuse(body: bytes) -> bytes:
    raise ApiError("ServiceUnavailableException", "Slow down.", 503)


OPERATIONS = {"X.Echo": echo, "X.Bug": stumble, "X.Slow": refuse}


@dataclass
class Door:
    """A front with the stream `app`, and what stands behind it."""

    port: int
    kept: Kept
    admission: Admission
    requests: observe.Requests

    async def ask(self, request: bytes) -> Answer:
        async with dialled(self.port) as peer:
            peer.send(request)
            return await peer.answer()


class Slow(Turns):
    """Turns that come late, or never."""

    def __init__(self) -> None:
        super().__init__()
        self.full = self.late = False
        self.taken: list[Hashable] = []

    def take(self, stream: Hashable, size_bytes: int, handle: Handle, refuse: Handle) -> None:
        self.taken.append(stream)
        if self.full:
            refuse()
        else:
            asyncio.get_running_loop().call_later(0.01, refuse if self.late else handle)


def front(kept: Kept, admission: Admission, requests: observe.Requests, body_seconds: float = ANSWER_SECONDS) -> Front:
    intakes = {"app": Intake("app", kept, SplitOptions()), "ünï": Intake("ünï", kept, SplitOptions())}
    generic = Generic(intakes, Inline(), lambda head: True, admission, LIMIT, 4 * LIMIT).route()
    aws = AwsJson(OPERATIONS, lambda: "id", LIMIT).route()

    def routes(method: str, path: str, headers: object) -> tuple[str, Route] | None:
        if path.startswith("/ingest/"):
            return "ingest", generic
        return ("aws", aws) if method == "POST" and path == "/" else None

    return Front(routes, nothing_here, admission, body_seconds, requests)


@pytest.fixture(params=["hot", "asgi"])
async def door(request: pytest.FixtureRequest) -> AsyncIterator[Door]:
    """Both carriers of the hot routes keep every promise: the bare protocol, and the app behind uvicorn."""
    kept, admission, requests = Kept(), Admission(16 * LIMIT), observe.Requests()
    app = front(kept, admission, requests)
    async with served(app if request.param == "hot" else app.__call__) as port:
        yield Door(port, kept, admission, requests)
    assert admission.in_flight_bytes == 0, "whatever ends a request gives its room back"


def post(body: bytes, path: str = "/ingest/app", extra: str = "", length: int | None = None) -> bytes:
    size = len(body) if length is None else length
    return f"POST {path} HTTP/1.1\r\nHost: x\r\n{extra}Content-Length: {size}\r\n\r\n".encode() + body


CHUNKED = b"POST /ingest/app HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


@pytest.mark.parametrize("carrier", ["hot", "asgi"])
async def test_turns(carrier: str) -> None:
    """However a body comes, it waits for its turn; it is refused where its stream's requests wait for too long."""
    turns, kept, admission, requests = Slow(), Kept(), Admission(LIMIT), observe.Requests()
    app = replace(front(kept, admission, requests), turns=turns)
    async with served(app if carrier == "hot" else app.__call__) as port:
        door = Door(port, kept, admission, requests)
        for request in (post(b'{"a":1}'), CHUNKED + chunk(b'{"a":1}') + chunk(b"")):
            turns.full = turns.late = False
            assert (await door.ask(request)).status == 200
            turns.late = True
            assert (await door.ask(request)).status == 503
            turns.full = True
            assert (await door.ask(request)).status == 503
    assert turns.taken == [b"app"] * 6
    assert len(kept.records) == 2
    assert admission.in_flight_bytes == 0


# Bodies, as they come.


async def test_body_with_a_length(door: Door) -> None:
    """A body is taken and answered with compact JSON, and the connection stays open."""
    answer = await door.ask(post(b'{"a":1}\n{"a":2}\n'))
    assert (answer.status, answer.body) == (200, b'{"accepted":2,"rejected":0}')
    assert "connection" not in answer.headers
    assert door.kept.records == [b'{"a":1}\n', b'{"a":2}\n']


async def test_expect_continue(door: Door) -> None:
    """A client that asks first is told to go on, then answered."""
    async with dialled(door.port) as peer:
        peer.send(post(b"", extra="Expect: 100-continue\r\n", length=5))
        assert (await peer.answer()).status == 100
        peer.send(b"hello")
        assert (await peer.answer()).status == 200
    assert door.kept.records == [b"hello\n"]


async def test_expect_continue_refused(door: Door) -> None:
    """A client that asks first is refused without being told to go on, where its body would be too large."""
    async with dialled(door.port) as peer:
        peer.send(post(b"", extra="Expect: 100-continue\r\n", length=LIMIT + 1))
        answer = await peer.answer()
        assert (answer.status, answer.headers["connection"]) == (413, "close")


async def test_chunked(door: Door) -> None:
    """A chunked body is put together whatever its chunks are."""
    answer = await door.ask(CHUNKED + chunk(b"on") + chunk(b"e\ntw") + chunk(b"o") + chunk(b""))
    assert answer.body == b'{"accepted":2,"rejected":0}'
    assert door.kept.records == [b"one\n", b"two\n"]


async def test_endless_chunked_body(door: Door) -> None:
    """A body without an end is cut at the limit with 413, and nothing of it is taken."""
    async with dialled(door.port) as peer:
        peer.send(CHUNKED)
        for _ in range(LIMIT // 4096 + 1):
            peer.send(chunk(b"x" * 4095 + b"\n"))
        answer = await peer.answer()
        assert (answer.status, answer.headers["connection"]) == (413, "close")
    assert door.kept.records == []


async def test_exactly_the_limit(door: Door) -> None:
    """A body of exactly the limit is taken, announced or not; one byte more is not."""
    body = b"x" * LIMIT
    assert (await door.ask(post(body))).status == 200
    assert (await door.ask(CHUNKED + chunk(body) + chunk(b""))).status == 200
    assert (await door.ask(CHUNKED + chunk(body) + chunk(b"x") + chunk(b""))).status == 413


async def test_announced_too_large(door: Door) -> None:
    """A body over the limit is refused by its Content-Length alone: the answer comes before any of it."""
    answer = await door.ask(post(b"", length=LIMIT + 1))
    assert answer.status == 413
    assert str(LIMIT) in json.loads(answer.body)["error"]


async def test_refused_client_reads_its_answer(door: Door) -> None:
    """A client that sends its whole body before it looks still reads why it was refused."""
    async with dialled(door.port) as peer:
        peer.send(post(b"x" * (32 << 20)))  # more than the kernel keeps for us
        await peer.drained()
        assert (await peer.answer()).status == 413
        assert await peer.closed()


async def test_gzip_bomb(door: Door) -> None:
    """A body that inflates to a thousand times its size is refused, at the memory of the limit."""
    bomb = gzip.compress(b"\0" * (40 << 20), 9)
    assert len(bomb) < LIMIT
    tracemalloc.start()
    try:
        answer = await door.ask(post(bomb, extra="Content-Encoding: gzip\r\n"))
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert answer.status == 413
    assert peak_bytes < 8 << 20


async def test_client_gone_in_mid_body(door: Door) -> None:
    """A client that goes away in the middle of its body leaves nothing behind."""
    async with dialled(door.port) as peer:
        peer.send(post(b"half a body\n", length=100))
        await peer.drained()
    assert (await door.ask(post(b"whole"))).status == 200
    assert door.kept.records == [b"whole\n"]


async def test_slow_body() -> None:
    """A body that does not arrive in time is answered 408 and the connection closed."""
    kept, admission = Kept(), Admission(LIMIT)
    async with served(front(kept, admission, observe.Requests(), body_seconds=0.05)) as port, dialled(port) as peer:
        peer.send(post(b"half", length=100))
        answer = await peer.answer()
        assert (answer.status, answer.headers["retry-after"]) == (408, "1")
        assert admission.in_flight_bytes == 0
        assert await peer.closed()
    assert kept.records == []


# Overload.


async def test_bytes_in_flight(door: Door) -> None:
    """Where too many bytes are in memory a request is answered 503 with Retry-After; afterwards there is room again."""
    door.kept.gate.clear()
    async with dialled(door.port) as first:
        first.send(post(b"x" * LIMIT))
        async with dialled(door.port) as second:
            await until(lambda: door.admission.in_flight_bytes == LIMIT)
            door.admission.limit_bytes = LIMIT
            second.send(post(b"y"))
            answer = await second.answer()
            assert (answer.status, answer.headers["retry-after"]) == (503, "1")
        door.kept.gate.set()
        assert (await first.answer()).status == 200
    assert (await door.ask(post(b"y"))).status == 200


async def test_inflated_bytes_in_flight(door: Door) -> None:
    """What a body became counts, not what came over the wire: small bombs together are no way around the bound."""
    packed = post(gzip.compress(b"x" * 3 * LIMIT), extra="Content-Encoding: gzip\r\n")
    assert len(packed) < LIMIT
    door.kept.gate.clear()
    async with dialled(door.port) as first:
        first.send(packed)
        await until(lambda: door.admission.in_flight_bytes == 3 * LIMIT)
        door.admission.limit_bytes = 5 * LIMIT
        answer = await door.ask(packed)
        assert (answer.status, answer.headers["retry-after"]) == (503, "1")
        door.kept.gate.set()
        assert (await first.answer()).status == 200
    assert (await door.ask(packed)).status == 200
    door.admission.limit_bytes = 2 * LIMIT
    assert (await door.ask(packed)).status == 413


async def test_never_admitted_is_too_large(door: Door) -> None:
    """A body larger than all bytes that may be in flight is too large, not a matter of waiting."""
    door.admission.limit_bytes = 100
    assert (await door.ask(post(b"x" * 101))).status == 413


async def test_full_and_recovered(door: Door) -> None:
    """A full buffer answers 503 and says when to come back; when it has room the same request is taken."""
    door.kept.failure = Full("the buffer is full", 4.2)
    answer = await door.ask(post(b"x"))
    assert (answer.status, answer.headers["retry-after"]) == (503, "5")
    door.kept.failure = None
    assert (await door.ask(post(b"x"))).status == 200
    assert door.kept.records == [b"x\n"]


async def test_disk_failure(door: Door) -> None:
    """A disk that fails under a write is a 503, never a 500: agents throw data away on that."""
    door.kept.failure = Unsure("the disk failed: EIO")
    assert (await door.ask(post(b"x"))).status == 503


async def test_bug(door: Door) -> None:
    """A handler's bug is a 500 in the dialect's shape, logged once, and never with the payload."""
    door.kept.failure = ZeroDivisionError("a bug of ours")
    with capture_logs() as logs:
        answer = await door.ask(post(b"secret payload"))
    assert answer.status == 500
    assert set(json.loads(answer.body)) == {"error"}
    assert [(one["event"], one["exc_info"]) for one in logs] == [("request.bug", True)]
    assert "secret payload" not in repr(logs)


# The AWS dialect's own shape for what the front refuses.


@pytest.mark.parametrize(
    ("target", "length", "status", "code"),
    [
        ("X.Echo", LIMIT + 1, 413, "RequestEntityTooLargeException"),
        ("X.Slow", 2, 503, "ServiceUnavailableException"),
        ("X.Bug", 2, 500, "InternalFailure"),
        ("X.None", 2, 400, "UnknownOperationException"),
    ],
)
async def test_aws_shape(door: Door, target: str, length: int, status: int, code: str) -> None:
    """Whoever refuses, the AWS dialect's clients get its errors: type in the body, content type, request id."""
    with capture_logs():
        answer = await door.ask(post(b"{}", "/", f"X-Amz-Target: {target}\r\n", length))
    assert (answer.status, json.loads(answer.body)["__type"]) == (status, code)
    assert answer.headers["content-type"] == "application/x-amz-json-1.1"
    assert answer.headers["x-amzn-requestid"]


async def test_aws_overload(door: Door) -> None:
    """No room for the bytes of a request is ServiceUnavailableException with 503 and Retry-After there."""
    door.admission.in_flight_bytes = door.admission.limit_bytes
    answer = await door.ask(post(b"{}", "/", "X-Amz-Target: X.Echo\r\n"))
    door.admission.in_flight_bytes = 0
    assert (answer.status, answer.headers["retry-after"]) == (503, "1")
    assert json.loads(answer.body)["__type"] == "ServiceUnavailableException"


# Paths and methods.


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS"])
async def test_probes(door: Door, method: str) -> None:
    """Agents that ask before they send find the stream ready, and may use the connection on."""
    async with dialled(door.port) as peer:
        for _ in range(2):
            peer.send(f"{method} /ingest/app HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            answer = await peer.answer(head=method == "HEAD")
            assert answer.status == 200
            assert "POST" in answer.headers["allow"]


async def test_cloudevents_handshake(door: Door) -> None:
    """A sender of CloudEvents that asks for leave by OPTIONS gets it."""
    answer = await door.ask(
        b"OPTIONS /ingest/app HTTP/1.1\r\nHost: x\r\nWebHook-Request-Origin: events.example\r\n\r\n"
    )
    assert answer.headers["webhook-allowed-origin"] == "events.example"


async def test_wrong_method(door: Door) -> None:
    """A method that makes no sense is 405 and says which do."""
    answer = await door.ask(b"DELETE /ingest/app HTTP/1.1\r\nHost: x\r\n\r\n")
    assert (answer.status, answer.headers["allow"]) == (405, "GET, HEAD, OPTIONS, POST, PUT")


@pytest.mark.parametrize(
    "path",
    [
        "/ingest/none",
        "/ingest/",
        "/ingest/app/",
        "/ingest//app",
        "//ingest/app",
        "/ingest/app%2F",
        "/ingest/..%2fapp",
        "/ingest/%2e%2e%2f%2e%2e%2fetc%2fpasswd",
        "/ingest/../app",
        "/ingest/app%00",
        "/ingest/%00",
        "/ingest/%ff%fe",
        "/ingest/" + "a" * 5000,
        "/ingest/APP",
        "/ingest/app;x=1",
        "/ingest",
    ],
)
async def test_path_tricks(door: Door, path: str) -> None:
    """A path that is not exactly a stream's is 404, never a redirect and never another stream."""
    answer = await door.ask(post(b"x", path))
    assert answer.status == 404
    assert "location" not in answer.headers
    assert len(answer.body) < 1000
    assert door.kept.records == []


async def test_unknown_stream_shape(door: Door) -> None:
    """An unknown stream is told in the dialect's own shape."""
    answer = await door.ask(post(b"x", "/ingest/none"))
    assert "none" in json.loads(answer.body)["error"]
    assert answer.headers["content-type"] == "application/json"


async def test_unicode_and_query(door: Door) -> None:
    """Percent-encoded UTF-8 is the name it stands for, and a query changes nothing."""
    assert (await door.ask(post(b"x", "/ingest/%C3%BCn%C3%AF?a=b%2Fc"))).status == 200


async def test_wrong_encoding(door: Door) -> None:
    """A Content-Encoding that is unknown or untrue is 400, and the connection can be used on."""
    async with dialled(door.port) as peer:
        for encoding in ("br", "gzip", "zstd", "snappy", "deflate"):
            peer.send(post(b"not that", extra=f"Content-Encoding: {encoding}\r\n"))
            answer = await peer.answer()
            assert (answer.status, "Content-Encoding" in json.loads(answer.body)["error"]) == (400, True)
        peer.send(post(b"plain"))
        assert (await peer.answer()).status == 200
    assert door.kept.records == [b"plain\n"]


# Connections.


async def test_pipelined(door: Door) -> None:
    """Requests sent without waiting are answered one by one, in order."""
    async with dialled(door.port) as peer:
        peer.send(post(b"one") + post(b"x", extra="Content-Encoding: br\r\n") + post(b"two\nthree"))
        assert [(await peer.answer()).status for _ in range(3)] == [200, 400, 200]
    assert door.kept.records == [b"one\n", b"two\n", b"three\n"]


async def test_http_1_0(door: Door) -> None:
    """HTTP/1.0 is answered, and the connection closed behind the answer."""
    async with dialled(door.port) as peer:
        peer.send(b"POST /ingest/app HTTP/1.0\r\nContent-Length: 3\r\n\r\nold")
        answer = await peer.answer()
        assert (answer.status, answer.headers["connection"]) == (200, "close")
        assert await peer.closed()


async def test_bodies_never_mix(door: Door) -> None:
    """Two requests on two connections, their bytes interleaved, stay two requests."""
    bodies = [b"".join(b"%d-%d\n" % (who, n) for n in range(200)) for who in (1, 2)]
    async with dialled(door.port) as one, dialled(door.port) as two:
        for peer, body in ((one, bodies[0]), (two, bodies[1])):
            peer.send(post(b"", length=len(body)))
        for at in range(0, len(bodies[0]), 97):
            for peer, body in ((one, bodies[0]), (two, bodies[1])):
                peer.send(body[at : at + 97])
                await peer.drained()
        assert [(await peer.answer()).status for peer in (one, two)] == [200, 200]
    assert sorted(b"".join(door.kept.records).splitlines()) == sorted(b"".join(bodies).splitlines())


async def test_counted(door: Door) -> None:
    """Every answer is counted by dialect and status, and the bytes of the bodies that were read."""
    await door.ask(post(b"12345"))
    await door.ask(post(b"x", "/ingest/none"))
    await door.ask(post(b"{}", "/", "X-Amz-Target: X.Echo\r\n"))
    assert dict(door.requests.answered) == {("ingest", 200): 1, ("ingest", 404): 1, ("aws", 200): 1}
    assert dict(door.requests.body_bytes) == {"ingest": 5, "aws": 2}


@given(sizes=st.lists(st.integers(0, 2 * LIMIT), max_size=12), limit=st.integers(1, 3 * LIMIT))
def test_admission_adds_up(sizes: list[int], limit: int) -> None:
    """What was admitted is never over the limit, and is all given back."""
    admission = Admission(limit)
    admitted = [size for size in sizes if admission.admit(size)]
    assert admission.in_flight_bytes == sum(admitted) <= limit
    for size in admitted:
        admission.release(size)
    assert admission.in_flight_bytes == 0


async def until(true: Callable[[], bool]) -> None:
    """Lets the event loop run until that is so; the test's own time-out is the bound."""
    while not true():  # noqa: ASYNC110  # what it waits for has no event
        await asyncio.sleep(0)
