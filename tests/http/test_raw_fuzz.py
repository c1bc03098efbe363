"""Raw bytes at the port: one answer for each request or a close, never a hang, and no body is taken for a request."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from itertools import pairwise

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from virtual_time import Inline, run
from wires import Said, Wire, answers, talked

from firehose import observe
from firehose.http.admission import Admission
from firehose.http.asgi import Receive, Scope, Send
from firehose.http.aws_json import AwsJson
from firehose.http.front import Front
from firehose.http.wire import Route
from firehose.ingest.dialects.generic import Generic
from firehose.ingest.intake import Intake
from firehose.ingest.splitting import SplitOptions
from firehose.model import Origin, Position

LIMIT = 4096
STATUSES = {200, 400, 404, 405, 408, 413, 415, 431, 503}


@dataclass
class Kept:
    """An appender in memory."""

    seconds: float
    records: list[bytes] = field(default_factory=list)

    async def append(self, records: pa.RecordBatch, origin: Origin | None = None) -> Position:
        await asyncio.sleep(self.seconds)
        self.records += records.column("record").to_pylist()
        return Position("lane", 0, records.num_rows)

    def origins(self) -> dict[str, Origin]:
        return {}


async def cold(scope: Scope, receive: Receive, send: Send) -> None:
    """Stands for FastAPI."""
    await send({"type": "http.response.start", "status": 404, "headers": [(b"content-length", b"0")]})
    await send({"type": "http.response.body", "body": b""})


@dataclass
class Talk:
    """One connection: what was answered, and what each stream took."""

    wire: Wire
    said: list[Said]
    taken: list[bytes]
    smuggled: list[bytes]

    @property
    def statuses(self) -> list[int]:
        return [one.status for one in self.said]


def talk(pieces: list[bytes], append_seconds: float = 0.001) -> Talk:
    """Says all of it to a front with the streams `app` and `other`, and proves what holds whatever was said."""
    app, other = Kept(append_seconds), Kept(append_seconds)
    admission, requests = Admission(64 * LIMIT), observe.Requests()
    intakes = {name: Intake(name, kept, SplitOptions()) for name, kept in (("app", app), ("other", other))}
    generic = Generic(intakes, Inline(), lambda head: True, admission, LIMIT, 4 * LIMIT).route()
    aws = AwsJson({}, lambda: "id", LIMIT).route()

    def routes(method: str, path: str, headers: object) -> tuple[str, Route] | None:
        if path.startswith("/ingest/"):
            return "ingest", generic
        return ("aws", aws) if method == "POST" and path == "/" else None

    front = Front(routes, cold, admission, 60, requests)
    wire = run(talked(front, pieces, header_limit_kib=8))
    assert wire.lost, "every connection ends"
    assert admission.in_flight_bytes == 0, "whatever ends a request gives its room back"
    said = answers(wire.sent)
    assert {one.status for one in said} <= STATUSES
    assert not any(one.closes for one in said[:-1]), "the last answer is the last one"
    return Talk(wire, said, app.records, other.records)


def post(body: bytes, path: bytes = b"/ingest/app", extra: bytes = b"") -> bytes:
    return b"POST %b HTTP/1.1\r\nHost: x\r\n%bContent-Length: %d\r\n\r\n%b" % (path, extra, len(body), body)


def chunked(body: bytes, sizes: list[int]) -> bytes:
    head, chunks = b"POST /ingest/app HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n", b""
    for size in sizes:
        chunk, body = body[:size], body[size:]
        chunks += b"%x\r\n%b\r\n" % (len(chunk), chunk) if chunk else b""
    return head + chunks + (b"%X;a=b\r\n%b\r\n" % (len(body), body) if body else b"") + b"0\r\n\r\n"


def cut(data: bytes, places: list[int]) -> list[bytes]:
    """The bytes in pieces."""
    ends = sorted({place % (len(data) + 1) for place in places} | {0, len(data)})
    return [data[start:end] for start, end in pairwise(ends)] or [data]


SMUGGLED = post(b"smuggled\n", b"/ingest/other")
GOOD = post(b"good\n")
APP = b"POST /ingest/app HTTP/1.1\r\nHost: x\r\n"
HIDDEN = b"%x\r\n%b\r\n0\r\n\r\n" % (len(SMUGGLED), SMUGGLED)
PLACES = st.lists(st.integers(0, 1 << 16), max_size=6)
BODY = st.lists(st.sampled_from([b"a", b"\r\n\r\n", b"\n", b"0\r\n\r\n", GOOD, b"\0"]), max_size=5).map(b"".join)

BAD = {
    "length and chunks": APP + b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "chunks and length": APP + b"Transfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n0\r\n\r\n",
    "two lengths": APP + b"Content-Length: 4\r\nContent-Length: 2\r\n\r\nab",
    "a list of lengths": APP + b"Content-Length: 2, 2\r\n\r\nab",
    "negative length": APP + b"Content-Length: -1\r\n\r\n",
    "signed length": APP + b"Content-Length: +2\r\n\r\nab",
    "hexadecimal length": APP + b"Content-Length: 0x2\r\n\r\nab",
    "length of two words": APP + b"Content-Length: 2 2\r\n\r\nab",
    "length past all numbers": APP + b"Content-Length: 99999999999999999999999999\r\n\r\n",
    "no length": APP + b"Content-Length: \r\n\r\n",
    "length with an underscore": APP + b"Content-Length: 1_0\r\n\r\n",
    "unknown coding": APP + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    "chunked is not last": APP + b"Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
    "two codings": APP + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n",
    "blank before the colon": APP + b"Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
    "folded length": APP + b"X-A: b\r\n Content-Length: 2\r\nContent-Length: 0\r\n\r\n",
    "folded coding": APP + b"Content-Length: 0\r\nTransfer-Encoding:\r\n chunked\r\n\r\n",
    "bare newlines": b"POST /ingest/app HTTP/1.1\nHost: x\nContent-Length: 0\n\n",
    "bare carriage return": APP + b"X-A: b\rContent-Length: 0\r\n\r\n",
    "NUL in a field": APP + b"X-A: b\0c\r\nContent-Length: 0\r\n\r\n",
    "no colon": APP + b"nonsense\r\n\r\n",
    "blank in a name": APP + b"Content Length: 0\r\n\r\n",
    "almost HTTP/2's first words": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\n",
    "a later version": b"POST /ingest/app HTTP/3.7\r\nContent-Length: 0\r\n\r\n",
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    "small letters": b"post /ingest/app HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n",
    "no such method": b"STEAL /ingest/app HTTP/1.1\r\nHost: x\r\n\r\n",
    "a head too large": APP + b"X-A: " + b"a" * 9000 + b"\r\nContent-Length: 0\r\n\r\n",
    "many fields": APP + b"".join(b"X-%d: a\r\n" % number for number in range(1500)) + b"Content-Length: 0\r\n\r\n",
}
CHUNKED = APP + b"Transfer-Encoding: chunked\r\n\r\n"
SIZES = [b"-2", b"+2", b"0x2", b"", b"g", b"f" * 17, b" 2", b"2\r", b"2;\n", b"2\n"]
BAD |= {f"chunk size {size!r}": CHUNKED + size + b"\r\nab\r\n0\r\n\r\n" for size in SIZES}
BAD |= {
    "chunk longer than it says": CHUNKED + b"1\r\nab\r\n0\r\n\r\n",
    "chunk without an end": CHUNKED + b"2\r\nab0\r\n\r\n",
    "trailer that is none": CHUNKED + b"2\r\nab\r\n0\r\nnonsense\r\n\r\n",
}


@pytest.mark.parametrize("bad", BAD.values(), ids=list(BAD))
def test_what_is_no_request(bad: bytes) -> None:
    """What is wrong or unclear ends the connection after at most one refusal: nothing behind it is a request."""
    for before in (b"", GOOD):
        whole = talk([before + bad + SMUGGLED + GOOD])
        in_pieces = talk(cut(before + bad + SMUGGLED + GOOD, list(range(0, 9999, 7))))
        for said in (whole, in_pieces):
            good = [200] if before else []
            assert said.statuses in (good, *([*good, status] for status in (400, 408, 413, 431)))
            assert said.taken == [b"good\n"] * len(good)
            assert said.smuggled == []


@pytest.mark.parametrize("first", [GOOD, chunked(b"good\n", [])], ids=["hot", "other"])
@pytest.mark.parametrize("second", [b"POST /", b"nonsense\r\n\r\n", APP + b"X-A: " + b"a" * 9000])
def test_an_answer_is_never_anothers(first: bytes, second: bytes) -> None:
    """Whatever is wrong with the next request, and however long the first takes, the first answer is the first's."""
    for pieces in ([first + second], [first, second]):
        said = talk(pieces, append_seconds=30)
        assert said.statuses[0] == 200
        assert said.taken == [b"good\n"]


def test_no_second_answer_when_a_refused_body_breaks() -> None:
    """A request that was refused before its body is not refused again for what is wrong with that body."""
    said = talk([CHUNKED.replace(b"app", b"none"), b"2\r\nab\r\n", b"oops\r\n"])
    assert said.statuses == [404]


REFUSED = {
    "too large": post(SMUGGLED * (LIMIT // len(SMUGGLED) + 1)),
    "too large in chunks": CHUNKED + b"%x\r\n" % (2 * LIMIT) + SMUGGLED * (2 * LIMIT // len(SMUGGLED) + 1),
    "no such stream": post(SMUGGLED, b"/ingest/none"),
    "no such operation": post(SMUGGLED, b"/", b"X-Amz-Target: X.None\r\n"),
    "no such page": post(SMUGGLED, b"/none"),
    "no such method here": post(SMUGGLED).replace(b"POST /ingest/app", b"PATCH /ingest/app"),
    "undecodable": post(SMUGGLED, extra=b"Content-Encoding: gzip\r\n"),
    "asked first": post(SMUGGLED * 70, extra=b"Expect: 100-continue\r\n"),
    "hidden in chunks": CHUNKED.replace(b"app", b"none") + HIDDEN,
    "an offer to upgrade": post(SMUGGLED, b"/ingest/none", b"Connection: upgrade\r\nUpgrade: h2c\r\n"),
}


@pytest.mark.parametrize("refused", REFUSED.values(), ids=list(REFUSED))
@settings(max_examples=15)
@given(places=PLACES)
def test_the_body_of_a_refused_request(refused: bytes, places: list[int]) -> None:
    """A request that is refused takes its body with it, in however many pieces it comes; one answer, then the next."""
    said = talk(cut(refused + GOOD, places))
    assert said.statuses[0] in (400, 404, 405, 413)
    assert said.statuses[1:] == ([200] if said.taken else [])
    assert said.smuggled == []


@given(st.lists(st.tuples(BODY, st.none() | st.lists(st.integers(1, 9), max_size=4)), min_size=1, max_size=5), PLACES)
def test_pipelined(requests: list[tuple[bytes, list[int] | None]], places: list[int]) -> None:
    """Requests in a row, with a length or in chunks, cut anywhere, are answered each once and stored in order."""
    data = b"".join(post(body) if sizes is None else chunked(body, sizes) for body, sizes in requests)
    said = talk(cut(data, places))
    assert said.statuses == [200] * len(requests)
    apart = [talk([post(body)]) for body, _ in requests]
    assert said.taken == [record for one in apart for record in one.taken]
    assert [one.body for one in said.said] == [one.said[0].body for one in apart]


OFFERS = [b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n", b"Upgrade: websocket\r\nConnection: upgrade\r\n"]


@pytest.mark.parametrize("offer", OFFERS, ids=["h2c", "websocket"])
@settings(max_examples=15)
@given(places=PLACES)
def test_an_offer_to_upgrade_is_passed_over(offer: bytes, places: list[int]) -> None:
    """As curl's --http2 and Java's client make it: the body is the request's, and what follows is the next request."""
    with_length = post(SMUGGLED, extra=offer)
    in_chunks = CHUNKED.replace(b"Host", offer + b"Host") + HIDDEN
    without_body = b"GET /ingest/app HTTP/1.1\r\n" + offer + b"\r\n"
    said = talk(cut(with_length + in_chunks + without_body + with_length + GOOD, places))
    assert said.statuses == [200] * 5
    assert b"".join(said.taken) == b"".join(talk([post(SMUGGLED)]).taken * 3) + b"good\n"
    assert said.smuggled == []


LINES = [b"Host: x\r\n", b"Content-Length: 5\r\n", b"Content-Length: ", b"Transfer-Encoding: chunked\r\n"]
LINES += [b"Expect: 100-continue\r\n", b"Connection: close\r\n", b"Connection: upgrade\r\nUpgrade: h2c\r\n"]
PARTS = [b"POST ", b"GET ", b"/ingest/app", b"/", b" HTTP/1.1", b" HTTP/1.0", b"\r\n", b"\r\n\r\n", b"\n", b"\r", b": "]
PARTS += [b"5\r\nabcde\r\n", b"0\r\n\r\n", b"abcde", b"5", b"0", b" ", b"%", b"%00", b"?a=b", b"#", b"\0", b"\xff"]
WORDS = st.sampled_from([*LINES, *PARTS, GOOD, APP, CHUNKED])


@given(st.lists(WORDS | st.binary(max_size=8), max_size=16).map(b"".join), PLACES)
def test_any_bytes(data: bytes, places: list[int]) -> None:
    """Whatever is sent is answered or not, but never twice, never by a 500; the connection ends; all room is free."""
    said = talk(cut(data, places))
    assert len(said.said) <= data.count(b"HTTP/") + 1
    assert 500 not in said.statuses


@given(BODY, st.integers(0, 1 << 16))
def test_cut_short(body: bytes, size: int) -> None:
    """A request that never ends is answered 408 or not at all, and nothing of it is stored."""
    for data in (post(body), chunked(body, [3, 1])):
        said = talk([data[: size % len(data)]])
        assert said.statuses in ([], [408])
        assert said.taken == []
