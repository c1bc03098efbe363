"""The OpenSearch destination: its requests, what becomes of each document, and every way a server can fail it."""

from __future__ import annotations

import asyncio
import hashlib
import json
import ssl
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import endpoint
import pyarrow as pa
import pytest
import small_opensearch
import trustme
from batches import Notes, batch, segment
from botocore.credentials import ReadOnlyCredentials
from endpoint import Act, Exchange, listening, overdue, says
from programs import free_port
from pydantic import ValidationError
from sites import site
from small_opensearch import SmallOpenSearch, speaks_of

from destinations.opensearch import OpenSearch, OpenSearchOptions
from firehose.aws import Credentials
from firehose.contracts import Retry
from firehose.model import ROW_SCHEMA, Batch, Receipt
from firehose.runtime import Runtime, Threads

Make = Callable[..., OpenSearch]
TIMEOUT_SECONDS = 60


@pytest.fixture
def threads() -> Iterator[Threads]:
    pool = Runtime().threads("test", 4)
    yield pool
    pool.close()


@pytest.fixture
async def far() -> AsyncIterator[SmallOpenSearch]:
    async with listening(SmallOpenSearch()) as one:
        assert isinstance(one, SmallOpenSearch)
        yield one


@pytest.fixture
async def make(far: SmallOpenSearch, threads: Threads) -> AsyncIterator[Make]:
    """Makes destinations over `far`, with the options given."""
    made: list[OpenSearch] = []

    def make(**options: Any) -> OpenSearch:
        block = {"endpoint": far.url, "index": "app", **options}
        made.append(OpenSearch(OpenSearchOptions.model_validate(block), site(threads)))
        return made[-1]

    yield make
    for one in made:
        await one.close()


def many(count: int) -> list[bytes]:
    return [b'{"n":%d}' % number for number in range(count)]


def split(rows: list[int], parts: list[int]) -> Batch:
    """Numbered documents that are these parts of these rows."""
    columns = [many(len(rows)), rows, parts, [0] * len(rows)]
    arrays = [pa.array(one, field.type) for one, field in zip(columns, ROW_SCHEMA, strict=True)]
    slice = pa.record_batch(arrays, schema=ROW_SCHEMA)
    return Batch(segment([b"x"] * (rows[-1] + 1)), lambda: iter([slice]))


async def failure(destination: OpenSearch, of: Batch | None = None, memo: Notes | None = None) -> Retry:
    with pytest.raises(Retry) as told:
        await destination.deliver(of or batch(many(2)), memo or Notes())
    return told.value


def refused(receipt: Receipt) -> list[tuple[int, str]]:
    return [(one["row"], one["code"]) for one in receipt.refused.table.to_pylist()]


def refuse_odd(document: Any) -> tuple[int, str] | None:
    return (400, f"odd: {document['n']}") if document["n"] % 2 else None


def busy_at(*numbers: int) -> Callable[[Any], tuple[int, str] | None]:
    return lambda document: (429, "rejected execution") if document["n"] in numbers else None


async def test_the_request(far: SmallOpenSearch, make: Make) -> None:
    """A document has its index of the day and an id of AWS's shape, made of segment, row and part."""
    await make().deliver(batch([b'{"a":1}', b'{"b":2}\n', b'{"c":3}\r\n'], first=40), Notes())
    (asked,) = far.asked
    assert (asked.method, asked.path.partition("?")[0]) == ("POST", "/os/_bulk")
    assert asked.headers["content-type"] == "application/x-ndjson"
    names = [action["index"] for action in far.actions]
    assert {one["_index"] for one in names} == {"app-2026-03-01"}
    assert [one["_id"][38:] for one in names] == [f"{row:018d}.0" for row in (40, 41, 42)]
    assert len({one["_id"][:38] for one in names}) == 1
    assert names[0]["_id"][:38].isdigit()
    assert all(set(one) == {"_index", "_id"} for one in names)
    assert far.sources() == [{"a": 1}, {"b": 2}, {"c": 3}]


async def test_options_of_the_action(far: SmallOpenSearch, make: Make) -> None:
    """Without ids none is sent; a data stream takes creations; an old type is named where it is asked for."""
    await make(document_id="none", index_rotation="none").deliver(batch(many(1)), Notes())
    await make(data_stream=True).deliver(batch(many(1)), Notes())
    await make(type_name="doc", index_rotation="month").deliver(batch(many(1)), Notes())
    id = far.actions[1]["create"]["_id"]
    assert far.actions == [
        {"index": {"_index": "app"}},
        {"create": {"_index": "app", "_id": id}},
        {"index": {"_index": "app-2026-03", "_type": "doc", "_id": id}},
    ]


async def test_parts_are_documents_of_their_own(far: SmallOpenSearch, make: Make) -> None:
    """Rows that a record was split into all survive, each under an id of its own."""
    await make().deliver(split([0, 0, 1], [0, 1, 0]), Notes())
    assert [action["index"]["_id"][-3:] for action in far.actions] == ["0.0", "0.1", "1.0"]
    assert len(far.documents) == 3


async def test_what_is_no_document(far: SmallOpenSearch, make: Make) -> None:
    """JSON over several lines is put on one; what is no JSON object is refused by itself, and can be no command."""
    command = b'{"delete":{"_index":"app","_id":"1"}}'
    records = [b'{"a":\n "x\\ny",\r\n"b":1.10}\n', b"text", b"[1]", b"", command, command + b"\n" + command, b'{"z":1}']
    receipt = await make().deliver(batch(records), Notes())
    assert far.asked[0].body.split(b"\n")[1::2] == [b'{"a":  "x\\ny",  "b":1.10}', command, b'{"z":1}']
    assert {tuple(action) for action in far.actions} == {("index",)}
    assert refused(receipt) == [(row, "OS.MalformedData") for row in (1, 2, 3, 5)]


async def test_nothing_but_garbage(far: SmallOpenSearch, make: Make) -> None:
    """Where no record is a document, nothing is sent and each is refused."""
    receipt = await make().deliver(batch([b"a", b"b"]), Notes())
    assert (len(receipt.refused), receipt.objects) == (2, ())
    assert far.asked == []


async def test_documents_that_are_refused(far: SmallOpenSearch, make: Make) -> None:
    """A document that the server will never take is a dead letter as AWS writes it; the others are delivered."""
    far.judge = refuse_odd
    receipt = await make().deliver(batch(many(4)), Notes())
    assert far.sources() == [{"n": 0}, {"n": 2}]
    assert refused(receipt) == [(1, "400"), (3, "400")]
    (first, _) = receipt.refused.table.to_pylist()
    assert (first["error_type"], first["message"]) == ("AmazonOpenSearchService-failed", "some_exception: odd: 1")
    id = far.actions[1]["index"]["_id"]
    assert json.loads(first["extra"]) == {"esDocumentId": id, "esIndexName": "app-2026-03-01", "esTypeName": ""}


@pytest.mark.parametrize("status", [401, 403, 404, 429, 500, 503])
async def test_what_may_pass_is_tried_again(far: SmallOpenSearch, make: Make, status: int) -> None:
    """A document that the cluster does not take now is tried again; those that arrived are told, and there once."""
    far.judge = lambda document: (status, "not now") if document["n"] == 1 else None
    told = await failure(make(), batch(many(3)))
    assert told.code == str(status)
    assert "1 of 3 documents are not taken" in told.reason
    assert told.done_rows is not None
    assert told.done_rows.to_pylist() == [0, 2]
    far.judge = small_opensearch.taken
    assert not len((await make().deliver(batch(many(3)), Notes())).refused)
    assert far.sources() == [{"n": 0}, {"n": 1}, {"n": 2}]


async def test_refused_beside_what_may_pass(far: SmallOpenSearch, make: Make) -> None:
    """A refusal is heard again in the attempt that succeeds, after a restart too, and is no row that arrived."""
    far.judge = refuse_odd
    far.script = [small_opensearch.take, says("503 Busy", Retry_After="7")]
    memo = Notes()
    told = await failure(make(bulk_records=2, document_id="none"), batch(many(4)), memo)
    assert told.after_seconds == 7
    assert told.done_rows is not None
    assert told.done_rows.to_pylist() == [0]
    receipt = await make(bulk_records=2, document_id="none").deliver(batch(many(4)), memo)
    assert refused(receipt) == [(1, "400"), (3, "400")]
    assert far.sources() == [{"n": 0}, {"n": 2}]


STATUSES: list[tuple[str, str, Act]] = [
    ("401", "AccessDenied", says("401 No")),
    ("403", "AccessDenied", says("403 No")),
    ("404", "ResourceNotFound", says("404 None")),
    ("302", "ServiceException", says("302 There", Location="/elsewhere")),
    ("400", "ServiceException", says("400 Bad", b"explicit index in bulk is not allowed")),
    ("429", "ServiceException", says("429 Busy")),
    ("500", "ServiceException", says("500 Oh")),
    ("204", "ServiceException", says("204 None")),
    ("502", "BadGateway", says("502 Oh")),
    ("504", "GatewayTimeout", says("504 Oh")),
]


@pytest.mark.parametrize(("status", "code", "act"), STATUSES)
async def test_statuses(far: SmallOpenSearch, make: Make, status: str, code: str, act: Act) -> None:
    """Whatever the whole request is answered beside 200 is tried again; letters have the status, people AWS's name."""
    far.script = [act]
    told = await failure(make())
    assert (told.code, f"answers {status}, OS.{code}" in told.reason) == (status, True)
    assert (await make().deliver(batch(many(2)), Notes())).sent_bytes
    assert far.sources() == [{"n": 0}, {"n": 1}]


async def garbage_in_gzip(at: Exchange) -> None:
    await at.say("200 OK", b"\x1f\x8b garbage", Content_Encoding="gzip")


CODES: list[tuple[str, Act]] = [
    ("AmazonOpenSearchServiceParseException", says("200 OK", b"garbage")),
    ("AmazonOpenSearchServiceParseException", says("200 OK", b"\xff\xfe", Content_Type="text/html")),
    ("AmazonOpenSearchServiceParseException", says("200 OK")),
    ("AmazonOpenSearchServiceParseException", says("200 OK", b"[" * 100_000)),
    ("AmazonOpenSearchServiceParseException", says("200 OK", b'{"errors":false}')),
    ("AmazonOpenSearchServiceParseException", garbage_in_gzip),
    ("ResponseEntryCountMismatch", speaks_of(0)),
    ("ResponseEntryCountMismatch", speaks_of(1)),
    ("ResponseEntryCountMismatch", speaks_of(3)),
    ("ConnectionReset", endpoint.hang_up),
    ("ConnectionReset", endpoint.reset),
    ("ConnectionReset", small_opensearch.lose_reply),
    ("ConnectionError", endpoint.speak_garbage),
]


@pytest.mark.parametrize(("code", "act"), CODES)
async def test_failures_have_aws_codes(far: SmallOpenSearch, make: Make, code: str, act: Act) -> None:
    """Whatever is no answer to a bulk request is tried again, has AWS's code, and leaves each document there once."""
    destination = make()
    far.script = [act]
    told = await failure(destination)
    assert told.code == f"OS.{code}", told.reason
    assert far.url in told.reason
    await destination.deliver(batch(many(2)), Notes())
    assert far.sources() == [{"n": 0}, {"n": 1}]


def drips(beginning: bytes) -> Act:
    """An answer that begins so, goes on byte by byte, and never ends."""

    async def act(at: Exchange) -> None:
        at.writer.write(b"HTTP/1.1 200 OK\r\n" + beginning)
        with suppress(ConnectionError):
            while True:
                at.writer.write(b" ")
                await at.writer.drain()
                await asyncio.sleep(0.02)

    return act


SLOW = {
    "silent": small_opensearch.store_in_silence,
    "halfway": endpoint.stop_halfway,
    "slow headers": drips(b"X-Long: "),
    "slow body": drips(b"Content-Length: 1000000\r\n\r\n"),
}


@pytest.mark.parametrize("act", SLOW.values(), ids=SLOW)
@pytest.mark.parametrize("secure", [False, True], ids=["plain", "tls"])
async def test_a_request_has_its_time(make: Make, tmp_path: Path, act: Act, secure: bool) -> None:
    """However a server keeps a connection busy, the request ends in time, and so does the thread that was at it; what
    was stored meanwhile is there once.
    """
    async with listening(SmallOpenSearch(), certified(tmp_path) if secure else None) as far:
        assert isinstance(far, SmallOpenSearch)
        far.script = [overdue(act, TIMEOUT_SECONDS)]
        where = {"endpoint": far.url, "ca_file": str(tmp_path / "ca.pem") if secure else None}
        destination = make(**where, timeout_seconds=TIMEOUT_SECONDS)
        told = await failure(destination)
        assert (told.code, f"no answer within {TIMEOUT_SECONDS} seconds" in told.reason) == ("OS.RequestTimeout", True)
        await make(**where).deliver(batch(many(2)), Notes())
        assert far.sources() == [{"n": 0}, {"n": 1}]
        await at_rest(destination)


async def test_nobody_waits(far: SmallOpenSearch, make: Make) -> None:
    """A delivery that is stopped ends its requests: their threads are free long before the time-out."""
    asked = asyncio.Event()

    async def be_silent(at: Exchange) -> None:
        asked.set()
        await asyncio.Event().wait()

    far.script = [be_silent]
    destination = make(timeout_seconds=600)
    delivery = asyncio.create_task(destination.deliver(batch(many(2)), Notes()))
    await asyncio.wait_for(asked.wait(), 30)
    delivery.cancel()
    await asyncio.wait([delivery])
    await at_rest(destination)


async def at_rest(destination: OpenSearch) -> None:
    """Once none of its threads is at anything, which closing waits for."""
    await asyncio.wait_for(destination.close(), 30)


async def test_a_dead_server_holds_up_nobody_else(far: SmallOpenSearch, make: Make, threads: Threads) -> None:
    """While requests wait for a server that says nothing, the site's threads are free for other destinations."""
    silent = asyncio.Semaphore(0)

    async def be_silent(at: Exchange) -> None:
        silent.release()
        await asyncio.Event().wait()

    far.script = [be_silent] * 4
    delivery = asyncio.create_task(make(bulk_records=1, timeout_seconds=600).deliver(batch(many(9)), Notes()))
    for _ in range(4):
        await asyncio.wait_for(silent.acquire(), 30)
    barrier = threading.Barrier(4)  # of a size that only free threads reach together
    await asyncio.wait_for(asyncio.gather(*(threads.run(lambda: barrier.wait(300)) for _ in range(4))), 300)
    delivery.cancel()
    await asyncio.wait([delivery])


@pytest.mark.parametrize(("idle_seconds", "connections"), [(30, 1), (0, 2)])
async def test_idle_connections(
    far: SmallOpenSearch, make: Make, monkeypatch: pytest.MonkeyPatch, idle_seconds: float, connections: int
) -> None:
    """A connection is used again, but not when it was idle for long: what lies between may have forgotten it."""
    monkeypatch.setattr("firehose.opensearch.connection.IDLE_SECONDS", idle_seconds)
    seen = set()

    async def look(at: Exchange) -> None:
        seen.add(at.writer.get_extra_info("peername"))
        await small_opensearch.take(at)

    far.script = [look, look]
    destination = make()
    for _ in range(2):
        await destination.deliver(batch(many(1)), Notes())
    assert len(seen) == connections


async def test_connections_are_bounded(far: SmallOpenSearch, make: Make) -> None:
    """However many batches are under way, no more requests are than there may be connections."""
    under_way = [0]

    async def look(at: Exchange) -> None:
        under_way.append(under_way[-1] + 1)
        await asyncio.sleep(0)
        await small_opensearch.take(at)
        under_way.append(under_way[-1] - 1)

    far.script = [look] * 40
    destination = make(connections=2, bulk_records=2)
    await asyncio.gather(*(destination.deliver(batch(many(10), first=n * 10), Notes()) for n in range(8)))
    assert len(far.documents) == 80
    assert max(under_way) <= 2


async def test_compressed(far: SmallOpenSearch, make: Make) -> None:
    """Requests go in gzip where that is asked for."""
    await make(content_encoding="gzip").deliver(batch(many(100)), Notes())
    (asked,) = far.asked
    assert asked.headers["content-encoding"] == "gzip"
    assert len(asked.body) < 2000
    assert len(far.sources()) == 100


async def test_too_large_an_answer(far: SmallOpenSearch, make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """An answer is not read without end."""
    monkeypatch.setattr("firehose.opensearch.cluster.ANSWER_BYTES", 1 << 20)
    far.script = [endpoint.flood]
    assert (await failure(make())).code == "OS.ConnectionError"


async def test_requests_are_bounded(far: SmallOpenSearch, make: Make) -> None:
    """A batch goes in requests of as many documents and bytes as are asked for."""
    await make(bulk_records=10).deliver(batch(many(25), rows_per_slice=7), Notes())
    assert sorted(one.body.count(b"\n") // 2 for one in far.asked) == [5, 10, 10]
    far.asked.clear()
    large = [b'{"n":%d,"x":"%b"}' % (number, b"x" * 100_000) for number in range(30)]
    await make(bulk_mib=1, index="large").deliver(batch(large), Notes())
    assert len(far.asked) == 3
    assert max(len(one.body) for one in far.asked) <= 1 << 20
    assert len(far.documents) == 55


async def test_413_halves(far: SmallOpenSearch, make: Make) -> None:
    """A request that is too large goes in halves; a document that is so by itself is refused, the others go."""
    far.limit_bytes = 1000
    records = many(20)
    records[7] = b'{"n":7,"x":"%b"}' % (b"x" * 1000)
    receipt = await make().deliver(batch(records), Notes())
    assert refused(receipt) == [(7, "413")]
    assert [one["n"] for one in far.sources()] == [n for n in range(20) if n != 7]


async def test_a_failure_between_halves(far: SmallOpenSearch, make: Make) -> None:
    """Of a request in halves, the half that did not arrive is not told as done."""
    far.script = [says("413 Too Large"), small_opensearch.take, says("500 Oh")]
    told = await failure(make(), batch(many(4)))
    assert told.done_rows is not None
    assert told.done_rows.to_pylist() == [0, 1]


@pytest.mark.parametrize("document_id", ["record", "none"])
async def test_what_arrived_is_not_sent_again(far: SmallOpenSearch, make: Make, document_id: str) -> None:
    """After a failure and a restart, requests that arrived whole are not repeated."""
    memo, of = Notes(), batch(many(30))
    far.judge = busy_at(25)
    told = await failure(make(bulk_records=10, document_id=document_id), of, memo)
    assert told.done_rows is not None
    assert sorted(told.done_rows.to_pylist()) == [n for n in range(30) if n != 25]
    far.judge = small_opensearch.taken
    far.asked.clear()
    await make(bulk_records=10, document_id=document_id).deliver(of, memo)
    assert len(far.asked) == 1
    assert sorted(one["n"] for one in far.sources()) == list(range(30))


async def test_without_ids_what_arrived_in_part_is_not_sent_again(far: SmallOpenSearch, make: Make) -> None:
    """Without ids, of a request of which some documents arrived only the others are sent, whatever came between."""
    memo, of, destination = Notes(), batch(many(9)), make(document_id="none")
    for waiting in ((1, 4, 8), (4, 8), (4,)):
        far.judge = busy_at(*waiting)
        await failure(destination, of, memo)
    far.judge = small_opensearch.taken
    far.asked.clear()
    await make(document_id="none").deliver(of, memo)
    assert [one.body.split(b"\n")[1] for one in far.asked] == [b'{"n":4}']
    assert sorted(one["n"] for one in far.sources()) == list(range(9))


async def test_notes_are_bounded(far: SmallOpenSearch, make: Make) -> None:
    """However often documents without ids fail, the memo does not grow without end."""
    memo, destination = Notes(), make(document_id="none")
    far.judge = busy_at(1)
    for _ in range(300):
        await failure(destination, batch(many(3)), memo)
    assert len(memo.written) <= 256


async def test_created_twice_is_once(far: SmallOpenSearch, make: Make) -> None:
    """In a data stream a document whose id is there already is one that arrived."""
    for _ in range(2):
        assert not len((await make(data_stream=True).deliver(batch(many(3)), Notes())).refused)
    assert len(far.documents) == 3


async def test_parts_of_a_row_in_two_requests(far: SmallOpenSearch, make: Make) -> None:
    """A record of which one part arrived and another was never sent is not told as done."""
    far.judge = busy_at(1)
    told = await failure(make(bulk_records=3, document_id="none"), split([0, 1, 2, 2], [0, 0, 0, 1]))
    assert told.done_rows is not None
    assert told.done_rows.to_pylist() == [0]


async def test_auth(far: SmallOpenSearch, make: Make) -> None:
    """Basic credentials and API keys stand in Authorization, and in no options that are shown."""
    key = {"type": "api_key", "api_key": "s3cret"}
    await make(auth=key).deliver(batch(many(1)), Notes())
    await make(auth={"type": "basic", "username": "u", "password": "p"}).deliver(batch(many(1)), Notes())
    assert [one.headers["authorization"] for one in far.asked] == ["ApiKey s3cret", "Basic dTpw"]
    assert "s3cret" not in repr(OpenSearchOptions(endpoint=far.url, index="app", auth=key))


@pytest.mark.parametrize("service", ["es", "aoss"])
async def test_sigv4(far: SmallOpenSearch, make: Make, service: str) -> None:
    """Requests are signed for the service, with the body's hash; letters from a serverless collection have other
    members.
    """
    keys = {"access_key_id": "AKID", "secret_access_key": "hush"}
    far.judge = refuse_odd
    destination = make(auth={"type": "sigv4", "service": service, "region": "eu-west-1", **keys})
    receipt = await destination.deliver(batch(many(2)), Notes())
    (asked,) = far.asked
    assert f"/eu-west-1/{service}/aws4_request" in asked.headers["authorization"]
    assert asked.headers["x-amz-content-sha256"] == hashlib.sha256(asked.body).hexdigest()
    members = set(json.loads(receipt.refused.table.to_pylist()[0]["extra"]))
    aws = {"es": {"esDocumentId", "esIndexName", "esTypeName"}, "aoss": {"osDocumentId", "osIndexName"}}
    assert members == aws[service]


async def test_credentials_that_have_expired(far: SmallOpenSearch, make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each request is signed with the credentials of its moment: one after those of the last have expired goes well."""
    names = iter(["OLD", "NEW"])
    monkeypatch.setattr(
        Credentials, "get_frozen_credentials", lambda self: ReadOnlyCredentials(next(names), "hush", None)
    )
    far.script = [says("403 Forbidden", b'{"message":"The security token included in the request is expired"}')]
    destination = make(auth={"type": "sigv4", "service": "es"})
    told = await failure(destination)
    assert "security token included in the request is expired" in told.reason
    await destination.deliver(batch(many(2)), Notes())
    assert ["Credential=NEW/" in one.headers["authorization"] for one in far.asked] == [False, True]


@pytest.mark.parametrize(
    "auth",
    [
        {"type": "basic", "username": "me", "password": "hush"},
        {"type": "api_key", "api_key": "hush"},
        {"type": "bearer", "token": "hush"},
    ],
)
async def test_a_cluster_that_repeats_the_key(far: SmallOpenSearch, make: Make, auth: dict[str, str]) -> None:
    """No secret is in a reason, whatever the server says, at a delivery or at a check."""
    far.script, far.status, far.said = [says("401 No", b"I do not know the key hush")], "401 No", b"hush"
    destination = make(auth=auth)
    assert "I do not know the key ***" in (await failure(destination)).reason
    with pytest.raises(Retry, match=r"401; check auth: \*\*\*$"):
        await destination.check()


async def test_no_credentials(far: SmallOpenSearch, make: Make) -> None:
    """Where there are none to sign with, nothing is sent, and the complaint says what to mend."""
    told = await failure(make(auth={"type": "sigv4", "service": "es", "profile": "no-such-profile"}))
    assert (told.code, "change the key profile" in told.reason) == ("OS.AccessDenied", True)
    assert far.asked == []


async def test_a_key_that_no_header_can_hold(far: SmallOpenSearch, make: Make) -> None:
    """It is not sent, and not told either."""
    told = await failure(make(auth={"type": "api_key", "api_key": "s3cret\nkey"}))
    assert "check auth" in told.reason
    assert "s3cret" not in told.reason
    assert far.asked == []


def certified(folder: Path, host: str = "127.0.0.1") -> ssl.SSLContext:
    """What a server needs to be believed as that host by those who believe the folder's ca.pem."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(folder / "ca.pem"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(host).configure_cert(context)
    return context


async def test_tls(tmp_path: Path, make: Make) -> None:
    """A certificate is believed where ca_file vouches for it, or nobody asks; else the complaint says what to mend."""
    ca_file = str(tmp_path / "ca.pem")
    async with listening(SmallOpenSearch(), certified(tmp_path)) as far:
        await make(endpoint=far.url, ca_file=ca_file).deliver(batch(many(1)), Notes())
        await make(endpoint=far.url, verify_tls=False).deliver(batch(many(1)), Notes())
        for keys, said in (({}, "check ca_file"), ({"ca_file": str(tmp_path / "none")}, "check ca_file")):
            with pytest.raises(Retry, match=said):
                await make(endpoint=far.url, **keys).check()
        with pytest.raises(Retry, match="https://"):
            await make(endpoint=far.url.replace("https", "http")).check()
    async with listening(SmallOpenSearch(), certified(tmp_path, "elsewhere.example")) as wrong:
        with pytest.raises(Retry, match="certificate is for the host"):
            await make(endpoint=wrong.url, ca_file=ca_file).check()


async def test_check(far: SmallOpenSearch, make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """A check passes where the index is there, or would be made by the first document; it writes nothing."""
    monkeypatch.setattr(Runtime, "now_ms", lambda self: 1_772_366_400_000)
    await make().check()
    far.indices = {"app-2026-03-01"}
    await make().check()
    assert far.probed[-1].body == b'{"delete":{"_index":"app-2026-03-01","_id":"firehose-check"}}\n'
    await make(type_name="log").check()
    assert json.loads(far.probed[-1].body)["delete"]["_type"] == "log"  # without, an old server takes no deletion
    far.auto_create = "-other*,+app*,-*"
    far.indices = set()
    await make().check()
    far.templates = [{"index_patterns": ["ap*"], "data_stream": {}}]
    await make(data_stream=True).check()
    far.indices = {"app"}
    await make(data_stream=True).check()
    assert far.asked == []
    assert far.documents == {}


def refusal(type: str, reason: str) -> bytes:
    item = {"status": 400, "error": {"type": type, "reason": reason}}
    return json.dumps({"errors": True, "items": [{"delete": item}]}).encode()


CLOSED = refusal("index_closed_exception", "closed")
NO_INDEX = refusal("illegal_argument_exception", "no write index is defined for alias [app]")


@pytest.mark.parametrize(
    ("said", "far_side", "options"),
    [
        ("check auth", {"status": "401 No"}, {}),
        ("check auth", {"status": "403 No"}, {}),
        ("check endpoint", {"status": "404 No"}, {}),
        ("answers 503", {"status": "503 Busy"}, {}),
        ("check auth", {"status": "403 No"}, {"data_stream": True}),
        ("redirects are not followed", {"status": "302 There"}, {}),
        ("auto_create_index", {"auto_create": "false"}, {}),
        ("auto_create_index", {"auto_create": "-app*,*"}, {}),
        ("auto_create_index", {"auto_create": ["+other*"]}, {}),
        ("no permissions for .* check auth", {"indices": {"app"}, "may_write": False}, {"index_rotation": "none"}),
        ("open it: POST http.*/app/_open", {"indices": {"app"}, "said": CLOSED}, {"index_rotation": "none"}),
        ("no write index .*; check the index", {"indices": {"app"}, "said": NO_INDEX}, {"index_rotation": "none"}),
        ("_data_stream/app", {"templates": [{"index_patterns": ["ap*"]}]}, {"data_stream": True}),
        ("_data_stream/app", {"templates": [{"index_patterns": ["b*"], "data_stream": {}}]}, {"data_stream": True}),
    ],
)
async def test_check_says_what_to_mend(
    far: SmallOpenSearch, make: Make, said: str, far_side: dict[str, Any], options: dict[str, Any]
) -> None:
    """What keeps documents from being written is told in one line, with the way out."""
    for name, value in far_side.items():
        setattr(far, name, value)
    with pytest.raises(Retry, match=said) as told:
        await make(**options).check()
    assert "\n" not in told.value.reason


async def test_check_by_one_who_may_only_write(far: SmallOpenSearch, make: Make) -> None:
    """A login that may write, and ask nothing, passes: deliveries need no more."""
    far.forbidden = ("/", "/_cluster/settings")
    await make().check()
    far.may_write = False
    with pytest.raises(Retry, match="no permissions for"):
        await make().check()


DEEP = pytest.param({"app"}, "[" * 100_000, id="deep")
NO_SETTINGS = ("<html>", "", "1", "[]", '{"transient":1}')
NO_ANSWERS = (
    "<html>",
    "",
    "1",
    "[]",
    "{}",
    '{"items":[]}',
    '{"items":[1]}',
    '{"items":[{"delete":{}}]}',
    "[" * 100_000,
)


@pytest.mark.parametrize(
    ("indices", "said"),
    [*((set[str](), one) for one in NO_SETTINGS), *(({"app"}, one) for one in NO_ANSWERS), DEEP],
)
async def test_check_of_another_kind_of_server(far: SmallOpenSearch, make: Make, indices: set[str], said: str) -> None:
    """A server that answers 200 with what OpenSearch never says is told as that, with the key to look at."""
    far.indices, far.said = indices, said.encode()
    with pytest.raises(Retry, match="check endpoint") as told:
        await make(index_rotation="none").check()
    assert told.value.reason.startswith(far.url)


async def test_nobody_listens(make: Make) -> None:
    """A server that is not there, or has no such name, is told with the key to look at."""
    for url in (f"http://127.0.0.1:{free_port()}", "http://no-such-host.invalid"):
        told = await failure(make(endpoint=url))
        assert (told.code, "check the key endpoint" in told.reason) == ("OS.ConnectionFailed", True)
        with pytest.raises(Retry, match="check the key endpoint"):
            await make(endpoint=url).check()


@pytest.mark.parametrize(
    ("key", "options"),
    [
        ("endpoint", {"endpoint": "ftp://there"}),
        ("endpoint", {"endpoint": "http://u:p@there"}),
        ("endpoint", {"endpoint": "http://there/?a=b"}),
        ("index", {"index": "Upper"}),
        ("index", {"index": "_all"}),
        ("index", {"index": "a*"}),
        ("index", {"index": 'a"b'}),
        ("index", {"index": "a" * 250}),
        ("index_rotation", {"data_stream": True, "index_rotation": "day"}),
        ("auth.service", {"auth": {"type": "sigv4", "service": "s3"}}),
        ("bulk_mib", {"bulk_mib": 0}),
        ("type_name", {"type_name": 'a"'}),
    ],
)
def test_options_that_cannot_be(key: str, options: dict[str, Any]) -> None:
    """What no request could carry, or no server takes, is refused before anything is sent."""
    with pytest.raises(ValidationError, match=key):
        OpenSearchOptions.model_validate({"endpoint": "https://there", "index": "app", **options})
