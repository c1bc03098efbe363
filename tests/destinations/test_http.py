"""The HTTP endpoint destination: the protocol to the letter, and every way an endpoint can fail it."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

import endpoint
import pytest
import trustme
from batches import Notes, batch, segment
from endpoint import Act, Endpoint, acknowledges, lies, listening, overdue, says
from programs import free_port
from pydantic import ValidationError
from sites import site

from destinations.http import BODY_BYTES, Http, HttpOptions
from firehose.contracts import Retry
from firehose.endpoint_bodies import RECORD_BYTES
from firehose.model import Batch
from firehose.runtime import Runtime, Threads

Make = Callable[..., Http]
TIMEOUT_SECONDS = 60


@pytest.fixture
def threads() -> Iterator[Threads]:
    pool = Runtime().threads("test", 2)
    yield pool
    pool.close()


@pytest.fixture
async def far() -> AsyncIterator[Endpoint]:
    async with listening(Endpoint()) as one:
        yield one


@pytest.fixture
async def make(far: Endpoint, threads: Threads) -> AsyncIterator[Make]:
    """Makes destinations over `far`, with the options given."""
    made: list[Http] = []

    def make(**options: Any) -> Http:
        made.append(Http(HttpOptions.model_validate({"url": far.url, **options}), site(threads)))
        return made[-1]

    yield make
    for one in made:
        await one.close()


async def failure(destination: Http, of: Batch | None = None, memo: Notes | None = None) -> Retry:
    with pytest.raises(Retry) as told:
        await destination.deliver(of or batch([b"a", b"b"]), memo or Notes())
    return told.value


def many(count: int, size: int) -> list[bytes]:
    return [b"%08d" % number * (size // 8) for number in range(count)]


async def test_the_request(far: Endpoint, make: Make) -> None:
    """A request has the protocol's headers and body, and nothing that was not asked for."""
    await make().deliver(batch([b"a", b"", b"\xff\n"]), Notes())
    (asked,) = far.asked
    said = json.loads(asked.body)
    assert (asked.method, asked.path) == ("POST", "/in/app?key=hush")
    assert asked.headers["x-amz-firehose-protocol-version"] == "1.0"
    assert asked.headers["x-amz-firehose-source-arn"] == "arn:aws:firehose:us-east-1:000000000000:deliverystream/app"
    assert asked.headers["content-type"] == "application/json"
    assert asked.headers["content-length"] == str(len(asked.body))
    assert asked.headers["user-agent"] == "Amazon Kinesis Data Firehose Agent/1.0"
    absent = {"content-encoding", "transfer-encoding", "x-amz-firehose-access-key"}
    assert not {*absent, "x-amz-firehose-common-attributes"} & set(asked.headers)
    assert set(said) == {"requestId", "timestamp", "records"}
    assert said["requestId"] == asked.headers["x-amz-firehose-request-id"] == str(UUID(said["requestId"]))
    assert isinstance(said["timestamp"], int)
    assert said["timestamp"] > 1_700_000_000_000
    assert said["records"] == [{"data": "YQ=="}, {"data": ""}, {"data": "/wo="}]


async def test_what_is_asked_for(far: Endpoint, make: Make) -> None:
    """Access key, common attributes, headers of one's own and gzip are sent as the protocol has them."""
    options = {"access_key": "k k", "attributes": {"team": "\u00e9"}, "headers": {"X-Mine": "1"}}
    receipt = await make(**options, content_encoding="gzip").deliver(batch([b"a" * 1000]), Notes())
    (asked,) = far.asked
    assert asked.headers["x-amz-firehose-access-key"] == "k k"
    assert json.loads(asked.headers["x-amz-firehose-common-attributes"]) == {"commonAttributes": {"team": "\u00e9"}}
    assert (asked.headers["x-mine"], asked.headers["content-encoding"]) == ("1", "gzip")
    assert asked.records() == [b"a" * 1000]
    assert receipt.sent_bytes == len(asked.body) < 500


CODES: list[tuple[str, Act]] = [
    ("DestinationException", says("500 Oh", b'{"errorMessage":"no"}')),
    ("DestinationException", says("400 No")),
    ("DestinationException", says("403 No", b"I do not know the key hush")),
    ("DestinationException", acknowledges("201 Created")),
    ("DestinationException", acknowledges("202 Accepted")),
    ("DestinationException", says("204 None")),
    ("InvalidStatusCode", says("302 There", Location="/elsewhere")),
    ("InvalidStatusCode", says("304 Same")),
    ("InvalidStatusCode", acknowledges("600 Odd")),
    ("InvalidResponseFromDestination", says("200 OK")),
    ("InvalidResponseFromDestination", says("200 OK", b"garbage")),
    ("InvalidResponseFromDestination", says("200 OK", b"[" * 100_000)),
    ("InvalidResponseFromDestination", lies(requestId=...)),
    ("InvalidResponseFromDestination", lies(requestId="00000000-0000-0000-0000-000000000000")),
    ("InvalidResponseFromDestination", lies(timestamp=...)),
    ("InvalidResponseFromDestination", lies(timestamp="1772366400000")),
    ("InvalidResponseFromDestination", lies(more=1)),
    ("InvalidResponseFromDestination", lies(errorMessage="x" * 8193)),
    ("InvalidResponseFromDestination", acknowledges(Content_Type="text/plain")),
    ("InvalidResponseFromDestination", acknowledges(Content_Type="")),
    ("InvalidResponseFromDestination", acknowledges(Content_Encoding="gzip")),
    ("InvalidResponseFromDestination", acknowledges(length=False)),
    ("ResponseReasonPhraseExceededLimit", acknowledges("200 " + "x" * 65)),
    ("ResponseTooLarge", endpoint.flood),
    ("ConnectionReset", endpoint.hang_up),
    ("ConnectionReset", endpoint.reset),
    ("IllegalResponseFailure", endpoint.speak_garbage),
    ("RequestTimeout", overdue(endpoint.be_silent, TIMEOUT_SECONDS)),
    ("RequestTimeout", overdue(endpoint.stop_halfway, TIMEOUT_SECONDS)),
]


@pytest.mark.parametrize(("code", "act"), CODES)
async def test_failures_have_aws_codes(far: Endpoint, make: Make, code: str, act: Act) -> None:
    """Whatever is no success by the protocol is tried again, has AWS's code, and tells no secret of the URL."""
    destination = make(timeout_seconds=TIMEOUT_SECONDS, access_key="hush")
    far.script = [act]
    told = await failure(destination)
    assert told.code == f"HttpEndpoint.{code}", told.reason
    assert far.url.partition("?")[0] in told.reason
    assert "hush" not in told.reason
    await destination.deliver(batch([b"a", b"b"]), Notes())
    first, again = far.asked
    assert first.id == again.id
    assert [one.records() for one in far.stored.values()] == [[b"a", b"b"]]


@pytest.mark.parametrize(
    "keys",
    [
        {"access_key": "hush"},
        {"headers": {"X-Key": "hush"}},
        {"auth": {"type": "bearer", "token": "hush"}},
        {"auth": {"type": "basic", "username": "me", "password": "hush"}},
    ],
)
async def test_an_endpoint_that_repeats_the_key(far: Endpoint, make: Make, keys: dict[str, Any]) -> None:
    """No secret is in a reason, whatever the endpoint says, wherever it is configured."""
    far.script = [says("403 No", b"I do not know the key hush")]
    assert "I do not know the key ***" in (await failure(make(**keys))).reason


@pytest.mark.parametrize("body", ["json", "ndjson"])
@pytest.mark.parametrize("status", ["200 OK", "201 Created", "202 Accepted", "204 None"])
async def test_plain_bodies_are_welcome_with_any_success(far: Endpoint, make: Make, body: str, status: str) -> None:
    """Endpoints that do not speak the protocol take a request with any 2xx, whatever they say."""
    far.script = [says(status, b"" if status[:3] == "204" else b"hello")]
    assert len((await make(body=body).deliver(batch([b"1"]), Notes())).objects) == 1
    far.script = [says("302 There", Location="/")]
    assert (await failure(make(body=body), batch([b"1"]))).code == "HttpEndpoint.InvalidStatusCode"


async def test_json(far: Endpoint, make: Make) -> None:
    """A JSON body is an array of the records; one that is no JSON is refused by itself, the others go."""
    receipt = await make(body="json", method="PUT").deliver(batch([b'{"a":1}\n', b"{", b"2", b"", b"3 4"]), Notes())
    (asked,) = far.asked
    assert (asked.method, asked.headers["content-type"], asked.plain) == ("PUT", "application/json", b'[{"a":1},2]')
    assert receipt.refused.table.column("row").to_pylist() == [1, 3, 4]
    assert set(receipt.refused.table.column("code").to_pylist()) == {"HttpEndpoint.InvalidJson"}
    assert asked.id == receipt.objects[0]


async def test_ndjson(far: Endpoint, make: Make) -> None:
    """An NDJSON body has each record on a line, whether it ended with a newline or not."""
    await make(body="ndjson").deliver(batch([b'{"a":1}\n', b"2", b"x"]), Notes())
    assert far.asked[0].plain == b'{"a":1}\n2\nx\n'
    assert far.asked[0].headers["content-type"] == "application/x-ndjson"


async def test_too_large_a_record(far: Endpoint, make: Make) -> None:
    """A record beyond the protocol's limit is refused by itself; one at the limit goes."""
    receipt = await make().deliver(batch([b"a", b"x" * (RECORD_BYTES + 1), b"y" * RECORD_BYTES]), Notes())
    assert [len(one) for one in far.asked[0].records()] == [1, RECORD_BYTES]
    assert receipt.refused.table.select(["row", "code", "error_type"]).to_pylist() == [
        {"row": 1, "code": "HttpEndpoint.RecordTooLarge", "error_type": "http-endpoint-failed"}
    ]


async def test_requests_are_bounded(far: Endpoint, make: Make) -> None:
    """A batch goes in requests of at most 10,000 records and a bounded body, in order, each with an id of its own."""
    await make().deliver(batch(many(20_001, 8), rows_per_slice=7_000), Notes())
    assert [len(one.records()) for one in far.asked] == [10_000, 10_000, 1]
    assert [record for one in far.asked for record in one.records()] == many(20_001, 8)
    far.asked.clear()
    large = many(30, 1_000_000)
    await make().deliver(batch(large, rows_per_slice=4), Notes())
    assert len(far.asked) == 3
    assert max(len(one.body) for one in far.asked) <= BODY_BYTES + 200
    assert [record for one in far.asked for record in one.records()] == large
    assert len(far.stored) == 6


async def test_413_is_for_good(far: Endpoint, make: Make) -> None:
    """A request answered 413 is not repeated: its records are dead letters, the other requests of the batch go on."""
    far.script = [endpoint.take, says("413 Too Large", b"at most 1 MB"), endpoint.take]
    receipt = await make().deliver(batch(many(20_001, 8)), Notes())
    assert receipt.refused.table.column("row").to_pylist() == list(range(10_000, 20_000))
    said = receipt.refused.table.slice(0, 1).to_pylist()[0]
    assert (said["error_type"], said["code"]) == ("http-endpoint-failed", "HttpEndpoint.DestinationException")
    assert "413" in said["message"]
    assert "at most 1 MB" in said["message"]
    assert len(receipt.objects) == 2


@pytest.mark.parametrize("restarted", [True, False])
async def test_what_arrived_is_not_sent_again(far: Endpoint, make: Make, restarted: bool) -> None:
    """After a failure in the middle, and a restart too, only what did not arrive is sent, under the ids it had."""
    destination, memo, of = make(), Notes(), batch(many(30_000, 8))
    far.script = [endpoint.take, says("503 Busy", Retry_After="7")]
    told = await failure(destination, of, memo)
    assert told.after_seconds == 7
    assert told.done_rows is not None
    assert told.done_rows.to_pylist() == list(range(10_000))
    tried = far.asked[1].id
    far.asked.clear()
    await (make() if restarted else destination).deliver(of, memo)
    assert [len(one.records()) for one in far.asked] == [10_000, 10_000]
    assert far.asked[0].id == tried
    assert [record for one in far.stored.values() for record in one.records()] == many(30_000, 8)


async def test_what_is_refused_stays_refused_in_a_repeat(far: Endpoint, make: Make) -> None:
    """Rows that cannot be sent are no rows that arrived: neither beside those that did, nor after a restart."""
    records = many(20_000, 8)
    records[3] = b"x" * (RECORD_BYTES + 1)
    memo, of = Notes(), batch(records)
    far.script = [endpoint.take, says("500 No")]
    told = await failure(make(), of, memo)
    assert told.done_rows is not None
    assert told.done_rows.to_pylist() == [row for row in range(10_000) if row != 3]
    assert (await make().deliver(of, memo)).refused.table.column("row").to_pylist() == [3]


async def test_ids_name_the_rows(far: Endpoint, make: Make) -> None:
    """The id is of the segment, the partition and the range alone: not of the instance, nor of how slices are cut."""
    for rows_per_slice in (1, 5):
        await make().deliver(batch([b"a"] * 9, rows_per_slice=rows_per_slice), Notes())
    assert len({one.id for one in far.asked}) == 1
    await make().deliver(batch([b"a"] * 9, partition="red"), Notes())
    await make().deliver(batch([b"a"] * 9, of=segment([b"a"] * 9, version=2)), Notes())
    await make().deliver(batch([b"a"] * 8), Notes())
    assert len({one.id for one in far.asked}) == 4


async def test_waiting_is_told(far: Endpoint, make: Make) -> None:
    """How long an attempt waited for answers is told with its failure: the deadline does not run meanwhile."""
    far.script = [overdue(endpoint.be_silent, TIMEOUT_SECONDS)]
    told = await failure(make(timeout_seconds=TIMEOUT_SECONDS))
    assert TIMEOUT_SECONDS <= told.waited_seconds < 2 * TIMEOUT_SECONDS


async def test_nobody_listens(make: Make) -> None:
    """An endpoint that is not there is a failed connection, with a way out."""
    told = await failure(make(url=f"http://127.0.0.1:{free_port()}/"))
    assert told.code == "HttpEndpoint.ConnectionFailed"
    assert "check the key url" in told.reason
    told = await failure(make(url="http://no-such-host.invalid/"))
    assert told.code == "HttpEndpoint.ConnectionFailed"


def certified(folder: Path, host: str) -> tuple[ssl.SSLContext, str]:
    """A server's TLS for that host name, and the file of the certificate that vouches for it."""
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(host).configure_cert(context)
    file = folder / "ca.pem"
    authority.cert_pem.write_to_path(str(file))
    return context, str(file)


async def test_tls(tmp_path: Path, make: Make) -> None:
    """A certificate is believed where ca_file vouches for it and it is for the host; anything else has AWS's code."""
    right, ca_file = certified(tmp_path, "127.0.0.1")
    async with listening(Endpoint(), right) as far:
        await make(url=far.url, ca_file=ca_file).deliver(batch([b"a"]), Notes())
        await make(url=far.url, verify_tls=False).deliver(batch([b"b"]), Notes())
        assert len(far.asked) == 2
        told = await failure(make(url=far.url))
        assert told.code == "HttpEndpoint.SSLHandshakeCertificatePathValidationFailure"
        assert "check ca_file" in told.reason
        told = await failure(make(url=far.url, ca_file=str(tmp_path / "none.pem")))
        assert told.code == "HttpEndpoint.SSLHandshakeCertificatePathFailure"
    wrong, ca_file = certified(tmp_path, "elsewhere.example")
    async with listening(Endpoint(), wrong) as far:
        told = await failure(make(url=far.url, ca_file=ca_file))
        assert told.code == "HttpEndpoint.SSLHandshakeCertificatePathValidationFailure"


async def test_tls_to_one_that_has_none(make: Make) -> None:
    """https to a server that speaks plain HTTP is a failed handshake."""

    async def plain(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
        await reader.read()
        writer.close()

    async with await asyncio.start_server(plain, "127.0.0.1", 0) as server:
        told = await failure(make(url=f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}/"))
    assert told.code == "HttpEndpoint.SSLHandshakeFailure"
    assert "http://" in told.reason


async def test_fixed_auth(far: Endpoint, make: Make) -> None:
    """Bearer tokens and Basic credentials stand in Authorization, and in no options that are shown."""
    bearer = make(body="ndjson", auth={"type": "bearer", "token": "s3cret"})
    await bearer.deliver(batch([b"a"]), Notes())
    await make(auth={"type": "basic", "username": "u", "password": "p"}).deliver(batch([b"a"]), Notes())
    assert [one.headers["authorization"] for one in far.asked] == ["Bearer s3cret", "Basic dTpw"]
    assert "s3cret" not in repr(HttpOptions(url=far.url, auth={"type": "bearer", "token": "s3cret"}))


async def test_oauth2(far: Endpoint, make: Make) -> None:
    """A token is asked for once, kept, and asked for anew once an endpoint has refused it."""
    tokens = [json.dumps({"access_token": f"t{n}", "token_type": "bearer", "expires_in": 3600}) for n in range(2)]
    async with listening(Endpoint(always=says("500 No"))) as issuer:
        issuer.script = [says("200 OK", one.encode()) for one in tokens]
        auth = {"type": "oauth2", "token_url": issuer.url, "client_id": "me", "client_secret": "s", "scope": "in"}
        destination = make(auth=auth)
        far.script = [endpoint.take, endpoint.take, says("401 Expired")]
        for first in (0, 1):
            await destination.deliver(batch([b"a"], first=first), Notes())
        assert "check access_key, or auth" in (await failure(destination)).reason
        await destination.deliver(batch([b"a"]), Notes())
        assert [one.headers["authorization"] for one in far.asked] == ["Bearer t0"] * 3 + ["Bearer t1"]
        assert [one.plain for one in issuer.asked] == [b"grant_type=client_credentials&scope=in"] * 2
        assert issuer.asked[0].headers["authorization"] == "Basic bWU6cw=="
        told = await failure(make(auth=auth))
        assert "answers 500; check client_id" in told.reason


async def test_oauth2_that_expires(far: Endpoint, make: Make) -> None:
    """A token that lives for no time is asked for before every request; one that cannot be read is a failure."""
    token = says("200 OK", b'{"access_token":"t","expires_in":0}')
    async with listening(Endpoint(script=[token, token, says("200 OK", b"{}")])) as issuer:
        auth = {"type": "oauth2", "token_url": issuer.url, "client_id": "me", "client_secret": "s"}
        destination = make(auth=auth)
        for first in (0, 1):
            await destination.deliver(batch([b"a"], first=first), Notes())
        assert len(issuer.asked) == 2
        assert "without a token that can be read" in (await failure(destination)).reason


async def test_sigv4(far: Endpoint, make: Make) -> None:
    """A request is signed for the service and region given, over the body and headers that are sent."""
    from botocore.auth import SigV4Auth
    from botocore.awsrequest import AWSRequest
    from botocore.credentials import Credentials

    keys = {"access_key_id": "AKID", "secret_access_key": "hush"}
    auth = {"type": "sigv4", "service": "execute-api", "region": "eu-west-1", **keys}
    await make(auth=auth).deliver(batch([b"a"]), Notes())
    (asked,) = far.asked
    said = asked.headers["authorization"]
    assert "Credential=AKID/" in said
    assert "/eu-west-1/execute-api/aws4_request" in said
    signed = said.partition("SignedHeaders=")[2].partition(",")[0].split(";")
    again = AWSRequest("POST", far.url, headers={name: asked.headers[name] for name in signed}, data=asked.body)
    again.context["timestamp"] = asked.headers["x-amz-date"]
    signer = SigV4Auth(Credentials("AKID", "hush"), "execute-api", "eu-west-1")
    wanted = signer.signature(signer.string_to_sign(again, signer.canonical_request(again)), again)
    assert said.endswith(f"Signature={wanted}")


async def test_check(far: Endpoint, make: Make) -> None:
    """A check asks what the endpoint can do, with the key and without a record, and says what to mend."""
    await make(access_key="k").check()
    assert [one.headers["x-amz-firehose-access-key"] for one in far.probed] == ["k"]
    assert far.asked == []
    for status, hint in (("401 No", "access_key"), ("404 None", "path in url"), ("301 There", "301"), ("502 x", "502")):
        far.probe_status = status
        with pytest.raises(Retry, match=hint):
            await make().check()


@pytest.mark.parametrize(
    ("key", "options"),
    [
        ("method", {"method": "PUT"}),
        ("access_key", {"body": "json", "access_key": "k"}),
        ("attributes", {"body": "ndjson", "attributes": {"a": "b"}}),
        ("attributes", {"attributes": {str(n): "" for n in range(51)}}),
        ("access_key", {"access_key": "two\nlines"}),
        ("access_key", {"access_key": "x" * 4097}),
        ("headers", {"headers": {"X-Mine": "two\r\nlines"}}),
        ("headers", {"headers": {"no good": "x"}}),
        ("Content-Type", {"headers": {"Content-Type": "x"}}),
        ("X-Amz-Firehose-Request-Id", {"headers": {"X-Amz-Firehose-Request-Id": "x"}}),
        ("url", {"url": "ftp://there/"}),
        ("url", {"url": "http://user:password@there/"}),
        ("auth", {"auth": {"type": "magic"}}),
        ("access_key_id", {"auth": {"type": "sigv4", "service": "es", "access_key_id": "a"}}),
    ],
)
def test_options_that_cannot_be(key: str, options: dict[str, Any]) -> None:
    """What no request could carry, or the protocol does not have, is refused before anything is sent."""
    with pytest.raises(ValidationError, match=key):
        HttpOptions.model_validate({"url": "https://there/", **options})
