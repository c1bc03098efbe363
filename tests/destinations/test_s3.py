"""What S3 promises beyond the laws of every destination: headers, conditions, uploads, failures."""

from __future__ import annotations

import asyncio
import gzip
import json
import tracemalloc
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
from batches import Notes, batch
from hypothesis import given
from hypothesis import strategies as st
from programs import wait_for
from pydantic import ValidationError
from s3_server import KEYS, Answer, Fault, HoldReply, LoseReply, Reset, S3Server, running
from sites import site

from destinations import s3 as module
from destinations.s3 import S3, S3Options, pieces
from firehose.blocks import MIB
from firehose.contracts import Refused, Retry
from firehose.model import Receipt
from firehose.runtime import Runtime, Threads

SMALL = [b'{"n":1}', b'{"n":2}']
LARGE = [bytes([65 + number]) * MIB for number in range(12)]  # three parts of 5 MiB at most


@pytest.fixture(scope="module")
def server() -> Iterator[S3Server]:
    yield from running()


@pytest.fixture
def threads() -> Iterator[Threads]:
    pool = Runtime().threads("test", 2)
    yield pool
    pool.close()


@pytest.fixture(autouse=True)
def _no_ambient_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever AWS set-up the developer's machine has is none of these tests' business."""
    for name in (
        "PROFILE",
        "DEFAULT_PROFILE",
        "ACCESS_KEY_ID",
        "SECRET_ACCESS_KEY",
        "SESSION_TOKEN",
        "CA_BUNDLE",
    ):
        monkeypatch.delenv(f"AWS_{name}", raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")


class Lake:
    """A bucket of its own, and destinations that write there."""

    def __init__(self, server: S3Server, threads: Threads) -> None:
        self.server = server
        self.bucket = server.new_bucket()
        self.memo = Notes()
        self._threads = threads

    def s3(self, purpose: Any = "data", **keys: Any) -> S3:
        block = {
            "bucket": self.bucket,
            "endpoint_url": self.server.url,
            "multipart_threshold_mib": 5,
            "part_size_mib": 5,
            **KEYS,
            **keys,
        }
        given = {key: value for key, value in block.items() if value is not None}
        return S3(S3Options.model_validate(given), site(self._threads, purpose=purpose))

    async def deliver(self, to: S3, records: list[bytes] = SMALL) -> Receipt:
        return await to.deliver(batch(records, rows_per_slice=1), self.memo)

    def script(self, *faults: tuple[str, Fault]) -> None:
        self.server.script.extend(faults)

    def stored(self) -> list[bytes]:
        return list(self.server.objects(self.bucket).values())

    def uploads(self) -> list[str]:
        return self.server.uploads(self.bucket)


@pytest.fixture
def lake(server: S3Server, threads: Threads) -> Lake:
    return Lake(server, threads)


# What an object is stored with


async def test_stored_as_aws_does(lake: Lake) -> None:
    """By default an object has AWS's content type and encoding, and no header that a bucket could refuse."""
    receipt = await lake.deliver(lake.s3(compression="gzip"))
    stored = lake.server.read(lake.bucket, receipt.objects[0])
    assert gzip.decompress(stored["Body"].read()) == b"".join(SMALL)
    assert stored["ContentType"] == "application/octet-stream"
    assert stored["ContentEncoding"] == "gzip"
    sent = lake.server.requests[-1].headers
    assert not [name for name in sent if name.startswith(("x-amz-acl", "x-amz-server-side", "x-amz-checksum"))]
    assert receipt.sent_bytes == int(sent["content-length"])


@pytest.mark.parametrize("records", [SMALL, LARGE], ids=["small", "large"])
async def test_stored_as_asked(lake: Lake, records: list[bytes]) -> None:
    """Every header that the block asks for is sent, whether an object goes in one request or in parts."""
    s3 = lake.s3(
        compression="zstd" if records is SMALL else "none",
        content_type="application/x-ndjson",
        content_encoding=False,
        storage_class="STANDARD_IA",
        server_side_encryption="aws:kms",
        kms_key_id="arn:aws:kms:us-east-1:123456789012:key/one",
        acl="bucket-owner-full-control",
        tags={"team": "logs + data=1", "kind": "raw"},
    )
    receipt = await lake.deliver(s3, records)
    begin = next(request.headers for request in lake.server.requests if request.operation in ("put", "begin"))
    wanted = {
        "content-type": "application/x-ndjson",
        "x-amz-storage-class": "STANDARD_IA",
        "x-amz-server-side-encryption": "aws:kms",
        "x-amz-server-side-encryption-aws-kms-key-id": "arn:aws:kms:us-east-1:123456789012:key/one",
        "x-amz-acl": "bucket-owner-full-control",
    }
    assert {name: begin.get(name) for name in wanted} == wanted
    assert "content-encoding" not in begin
    assert lake.server.tags(lake.bucket, receipt.objects[0]) == {"team": "logs + data=1", "kind": "raw"}


@pytest.mark.parametrize("style", ["auto", "path"])
async def test_addressing(lake: Lake, style: str) -> None:
    """A store of one's own is addressed by path unless asked otherwise: few have names for buckets."""
    await lake.deliver(lake.s3(addressing_style=style))
    assert lake.server.requests[-1].path.startswith(f"/{lake.bucket}/")


# A name is given once


async def test_a_taken_name_is_a_delivery(lake: Lake) -> None:
    """Data is sent on the condition that its name is free, and a 412 under our own name is a success."""
    s3 = lake.s3()
    first = await lake.deliver(s3)
    again = await lake.deliver(s3)
    assert first.objects == again.objects
    assert [request.headers["if-none-match"] for request in lake.server.requests] == ["*", "*"]


async def test_a_taken_name_ends_a_large_delivery(lake: Lake) -> None:
    """A large object that is there already is not replaced, and the upload of its repeat is aborted."""
    s3 = lake.s3()
    await lake.deliver(s3, LARGE)
    await lake.deliver(s3, LARGE)
    assert lake.server.seen()[-2:] == ["complete", "abort"]
    assert lake.uploads() == []
    assert lake.stored() == [b"".join(LARGE)]


async def test_errors_are_overwritten(lake: Lake) -> None:
    """An object of the error output has no condition: a repeat may bring other rows, and the newest stand."""
    s3 = lake.s3("errors")
    of = batch(SMALL).segment
    for said in ([b"old"], [b"new"]):
        await s3.deliver(batch(said, of=of, partition="processing-failed"), lake.memo)
    assert lake.stored() == [b"new\n"]
    assert "if-none-match" not in lake.server.requests[-1].headers


@pytest.mark.parametrize("answer", [Answer(501, "NotImplemented"), Answer(400, "InvalidArgument")])
async def test_a_store_without_conditions_is_remembered(lake: Lake, answer: Answer) -> None:
    """A store that refuses the condition gets the object without it, and is not asked again."""
    s3 = lake.s3()
    lake.script(("put", answer))
    await lake.deliver(s3)
    await s3.deliver(batch(SMALL, first=2), lake.memo)
    conditions = [request.headers.get("if-none-match") for request in lake.server.requests]
    assert conditions == ["*", None, None]
    assert len(lake.stored()) == 2


async def test_a_refused_completion_is_repeated_without(lake: Lake) -> None:
    """The same holds for the completion of a large object."""
    lake.script(("complete", Answer(501, "NotImplemented")))
    await lake.deliver(lake.s3(), LARGE)
    assert lake.stored() == [b"".join(LARGE)]


async def test_another_refusal_is_no_sign(lake: Lake) -> None:
    """A store that refuses the object either way is not taken for one without conditions."""
    s3 = lake.s3()
    lake.script(("put", Answer(400, "InvalidArgument")), ("put", Answer(400, "InvalidArgument")))
    with pytest.raises(Refused):
        await lake.deliver(s3)
    await lake.deliver(s3)
    assert lake.server.requests[-1].headers["if-none-match"] == "*"


async def test_if_none_match_on(lake: Lake) -> None:
    """`on` insists: a store that refuses the condition refuses the delivery."""
    lake.script(("put", Answer(501, "NotImplemented")))
    with pytest.raises(Refused, match="NotImplemented"):
        await lake.deliver(lake.s3(if_none_match="on"))
    assert lake.server.seen() == ["put"]


async def test_if_none_match_off(lake: Lake) -> None:
    """`off` never sends the condition; the name alone makes a repeat harmless."""
    s3 = lake.s3(if_none_match="off")
    await lake.deliver(s3)
    await lake.deliver(s3)
    assert [request.headers.get("if-none-match") for request in lake.server.requests] == [None, None]
    assert lake.stored() == [b"".join(SMALL)]


# What goes wrong


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (Answer(500, "InternalError"), "InternalError"),
        (Answer(502), "502"),
        (Answer(503, "SlowDown"), "SlowDown"),
        (Answer(429, "TooManyRequests"), "TooManyRequests"),
        (Answer(409, "ConditionalRequestConflict"), "ConditionalRequestConflict"),
        (Answer(403, "AccessDenied"), "AccessDenied: as scripted; grant s3:PutObject"),
        (Answer(403, "InvalidAccessKeyId"), "check access_key_id"),
        (Answer(403, "SignatureDoesNotMatch"), "check access_key_id"),
        (Answer(400, "ExpiredToken"), "ExpiredToken"),
        (Answer(400, "RequestTimeout"), "RequestTimeout"),
        (Answer(400, "KMS.DisabledException"), "KMS.DisabledException"),
        (Answer(400), "400"),
        (Answer(404, "NoSuchBucket"), "create it with: aws s3 mb s3://lake-"),
    ],
    ids=lambda value: value.code or str(value.status) if isinstance(value, Answer) else "",
)
async def test_what_may_pass_is_a_retry(lake: Lake, answer: Answer, reason: str) -> None:
    """Failures that time or a person can mend ask for a retry; the reason tells bucket, code and way out."""
    s3 = lake.s3()
    lake.script(("put", answer))
    with pytest.raises(Retry) as told:
        await lake.deliver(s3)
    assert told.value.reason.startswith(f"s3://{lake.bucket}: ")
    assert reason in told.value.reason
    assert told.value.code == (f"S3.{answer.code}" if answer.code else None)
    assert KEYS["secret_access_key"] not in told.value.reason
    await lake.deliver(s3)
    assert lake.stored() == [b"".join(SMALL)]


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (400, "InvalidArgument"),
        (400, "InvalidStorageClass"),
        (400, "EntityTooLarge"),
        (400, "KeyTooLongError"),
        (501, "NotImplemented"),
        (413, "RequestEntityTooLarge"),
    ],
)
async def test_what_never_passes_is_refused(lake: Lake, status: int, code: str) -> None:
    """Failures that no repetition mends are refused."""
    lake.script(*[("put", Answer(status, code))] * 2)
    with pytest.raises(Refused, match=code):
        await lake.deliver(lake.s3())
    assert lake.stored() == []


@pytest.mark.parametrize(("header", "wanted"), [("7", 7.0), ("soon", None), ("-1", None), ("nan", None)])
async def test_the_stores_wish_is_told(lake: Lake, header: str, wanted: float | None) -> None:
    """A Retry-After in seconds reaches the pipeline; nonsense does not."""
    lake.script(("put", Answer(503, "SlowDown", {"Retry-After": header})))
    with pytest.raises(Retry) as told:
        await lake.deliver(lake.s3())
    assert told.value.after_seconds == wanted


@pytest.mark.parametrize("fault", [Answer(500, "InternalError"), Answer(503, "SlowDown"), LoseReply()])
async def test_one_attempt_per_delivery(lake: Lake, fault: Fault) -> None:
    """Nothing below the pipeline retries."""
    lake.script(("put", fault))
    with pytest.raises(Retry):
        await lake.deliver(lake.s3())
    assert lake.server.seen() == ["put"]


@pytest.mark.parametrize("fault", [LoseReply(), HoldReply(), Reset()], ids=lambda fault: type(fault).__name__)
async def test_a_broken_connection_is_a_retry(lake: Lake, fault: Fault) -> None:
    """A lost answer, a silent store or a reset within the body asks for a retry, which succeeds."""
    said = [b"x" * 100_000]
    s3 = lake.s3(timeout_seconds=0.5 if isinstance(fault, HoldReply) else 60)
    lake.script(("put", fault))
    with pytest.raises(Retry):
        await lake.deliver(s3, said)
    await asyncio.to_thread(wait_for, lambda: not lake.server.script, "the store to read it")
    await lake.deliver(lake.s3(), said)
    assert lake.stored() == said


@pytest.mark.parametrize(
    ("operation", "answer"),
    [
        ("put", Answer(200)),
        ("put", Answer(200, text="<html><body>Welcome</body></html>")),
        ("put", Answer(200, headers={"x-amz-object-size": "much"})),
        ("put", Answer(500, text="<Error><Code>One</Code><Code>Two</Code></Error>")),
        ("put", Answer(400, text="<html>Bad Request</html>")),
        ("begin", Answer(200)),
        ("begin", Answer(200, headers={"x-amz-abort-date": "soon"})),
        ("part", Answer(200)),
        ("complete", Answer(200)),
        ("complete", Answer(200, text="<html/>")),
        ("complete", Answer(200, "InternalError")),
    ],
    ids=str,
)
async def test_a_strange_answer_is_no_success(lake: Lake, operation: str, answer: Answer) -> None:
    """An answer that no store gives, whatever its status, asks for a retry: nothing was done, and nothing is held."""
    s3 = lake.s3()
    lake.script((operation, answer))
    said = SMALL if operation == "put" else LARGE
    with pytest.raises(Retry):
        await lake.deliver(s3, said)
    await lake.deliver(s3, said)
    assert lake.stored() == [b"".join(said)]
    assert lake.uploads() == []


async def test_nobody_listens(lake: Lake) -> None:
    """A refused connection asks for a retry and says where to look."""
    with pytest.raises(Retry, match="check that the store runs, and the key endpoint_url"):
        await lake.deliver(lake.s3(endpoint_url="http://127.0.0.1:1"))


async def test_no_credentials(lake: Lake) -> None:
    """Missing credentials ask for a retry and name every way to give them."""
    s3 = lake.s3(access_key_id=None, secret_access_key=None)
    with pytest.raises(Retry, match="give access_key_id and secret_access_key, a profile or a role_arn"):
        await lake.deliver(s3)


async def test_a_profile_that_comes_later(lake: Lake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A profile that is not there yet asks for a retry, and works as soon as it is there."""
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    s3 = lake.s3(access_key_id=None, secret_access_key=None, profile="lake")
    with pytest.raises(Retry, match="change the key profile"):
        await lake.deliver(s3)
    text = "[lake]\naws_access_key_id = late\naws_secret_access_key = hush\n"
    (tmp_path / "credentials").write_text(text)
    await lake.deliver(s3)
    assert "Credential=late/" in lake.server.requests[-1].headers["authorization"]


@pytest.mark.parametrize("ca_file", [None, "/nowhere/ca.pem"])
async def test_tls_trouble(lake: Lake, ca_file: str | None) -> None:
    """A handshake that fails, or a CA file that is not there, asks for a retry and says where to look."""
    url = lake.server.url.replace("http:", "https:")
    with pytest.raises(Retry, match="check ca_file, or whether endpoint_url should begin with http://"):
        await lake.deliver(lake.s3(endpoint_url=url, ca_file=ca_file))


# Large objects


async def test_parts(lake: Lake) -> None:
    """A large object goes in parts, and its upload is noted before it begins and before the first part."""
    await lake.deliver(lake.s3(), LARGE)
    assert lake.server.seen() == ["begin", "part", "part", "part", "complete"]
    assert [len(request.body) for request in lake.server.requests[1:4]] == [5 * MIB, 5 * MIB, 2 * MIB]
    assert lake.stored() == [b"".join(LARGE)]


async def test_an_upload_is_noted_before_it_begins_and_before_its_first_part(lake: Lake) -> None:
    """Whenever the process is killed, the notes that it leaves tell of the upload; afterwards there is one."""
    noted: list[tuple[set[str], list[str]]] = []

    class Watched(Notes):
        def write(self, note: str) -> None:
            super().write(note)
            noted.append((set(json.loads(note)), lake.server.seen()))

    lake.memo = Watched()
    await lake.deliver(lake.s3(), LARGE)
    assert noted == [({"beginning"}, []), ({"upload", "name"}, ["begin"])]
    assert [set(json.loads(note)) for note in lake.memo.written] == [{"upload", "name"}]


@pytest.mark.parametrize(
    ("faults", "notes"),
    [
        ([("part", Answer(500, "InternalError"))], 0),
        ([("begin", LoseReply())], 1),
        ([("begin", LoseReply()), ("uploads", Answer(501, "NotImplemented"))], 1),
        ([("part", Answer(500, "InternalError")), *[("abort", Answer(503, "SlowDown"))] * 1], 1),
        ([("part", Answer(500, "InternalError")), *[("abort", Answer(403, "AccessDenied"))] * 9], 3),
    ],
    ids=["failed", "unheard of", "untold", "slow", "forbidden"],
)
async def test_few_notes_however_often_it_fails(
    lake: Lake, monkeypatch: pytest.MonkeyPatch, faults: list[tuple[str, Fault]], notes: int
) -> None:
    """What an upload left is forgotten when it is gone, and of what cannot be aborted only so many are remembered."""
    monkeypatch.setattr(module, "REMEMBERED", 3)
    s3 = lake.s3()
    for _ in range(6):
        lake.server.script[:] = faults
        with pytest.raises(Retry):
            await lake.deliver(s3, LARGE)
        assert len(lake.memo.written) <= notes
    assert len(lake.memo.written) == notes
    lake.server.script.clear()
    await lake.deliver(s3, LARGE)
    assert lake.stored() == [b"".join(LARGE)]


@pytest.mark.parametrize(("extra", "seen"), [(b"", ["put"]), (b"!", ["begin", "part", "part", "complete"])])
async def test_the_threshold(lake: Lake, extra: bytes, seen: list[str]) -> None:
    """An object of just the threshold goes in one request, one byte more in parts."""
    await lake.deliver(lake.s3(), [*LARGE[:5], extra])
    assert lake.server.seen() == seen


@pytest.mark.parametrize("step", ["part", "complete"])
async def test_a_failed_upload_is_aborted(lake: Lake, step: str) -> None:
    """An upload that fails half way is aborted at once, and the next attempt does not abort it again."""
    s3 = lake.s3()
    lake.script((step, Answer(500, "InternalError")))
    with pytest.raises(Retry):
        await lake.deliver(s3, LARGE)
    assert lake.uploads() == []
    await lake.deliver(s3, LARGE)
    assert lake.server.seen().count("abort") == 1
    assert lake.stored() == [b"".join(LARGE)]


async def test_a_killed_upload_is_aborted(lake: Lake) -> None:
    """The upload that a kill left is aborted when the segment is delivered by the next process."""
    lake.script(("part", Answer(500, "InternalError")), ("abort", Answer(503, "SlowDown")))
    with pytest.raises(Retry, match="InternalError"):
        await lake.deliver(lake.s3(), LARGE)
    assert len(lake.uploads()) == 1
    await lake.deliver(lake.s3(), LARGE)
    assert lake.uploads() == []
    assert lake.stored() == [b"".join(LARGE)]


async def test_only_its_own_uploads_are_aborted(lake: Lake) -> None:
    """Cuts of one segment share a memo; the delivery of one leaves the upload of another alone."""
    s3 = lake.s3()
    client = lake.server.client()
    other = client.create_multipart_upload(Bucket=lake.bucket, Key="other")["UploadId"]
    lake.memo.write(json.dumps({"upload": other, "name": "other"}))
    await lake.deliver(s3)
    assert lake.uploads() == [other]


async def test_an_upload_that_is_gone_is_no_trouble(lake: Lake) -> None:
    """An upload of the memo that the store does not know any more ended some other way."""
    s3 = lake.s3()
    await lake.deliver(s3, LARGE)
    lake.script(("abort", Answer(404, "NoSuchUpload")))
    await lake.deliver(lake.s3(), LARGE)
    assert lake.stored() == [b"".join(LARGE)]
    assert lake.uploads() == []


async def test_without_the_right_to_abort(lake: Lake) -> None:
    """A store that forbids aborting holds up no delivery; a check finds the missing right."""
    s3 = lake.s3()
    forbidden = ("abort", Answer(403, "AccessDenied"))
    lake.script(("part", Answer(500, "InternalError")), *[forbidden] * 4)
    with pytest.raises(Retry):
        await lake.deliver(s3, LARGE)
    await lake.deliver(s3, LARGE)
    assert lake.stored() == [b"".join(LARGE)]
    assert len(lake.uploads()) == 1
    with pytest.raises(Retry, match="grant s3:PutObject and s3:AbortMultipartUpload"):
        await s3.check()


async def test_an_abort_forbidden_for_a_while(lake: Lake) -> None:
    """An upload whose abort was forbidden is aborted as soon as that is allowed, at the latest after the delivery."""
    s3 = lake.s3()
    forbidden = ("abort", Answer(403, "AccessDenied"))
    lake.script(("part", Answer(500, "InternalError")), forbidden, forbidden)
    with pytest.raises(Retry):
        await lake.deliver(s3, LARGE)
    await lake.deliver(s3, LARGE)
    assert lake.uploads() == []


@pytest.mark.parametrize("fault", [LoseReply(), Answer(500, "InternalError")], ids=["lost", "failed"])
async def test_an_upload_that_nobody_heard_of_is_aborted(lake: Lake, fault: Fault) -> None:
    """Where the answer that names an upload was lost, the next attempt asks the store for it and aborts it."""
    lake.script(("begin", fault))
    with pytest.raises(Retry):
        await lake.deliver(lake.s3(), LARGE)
    other = lake.server.client().create_multipart_upload(Bucket=lake.bucket, Key="other")["UploadId"]
    await lake.deliver(lake.s3(), LARGE)
    assert lake.uploads() == [other]
    assert lake.stored() == [b"".join(LARGE)]


@pytest.mark.parametrize("answer", [Answer(403, "AccessDenied"), Answer(501, "NotImplemented")])
async def test_a_store_that_lists_no_uploads(lake: Lake, answer: Answer) -> None:
    """Whoever may not ask for uploads, or cannot, delivers all the same."""
    lake.script(("begin", LoseReply()), ("uploads", answer), ("uploads", answer))
    with pytest.raises(Retry):
        await lake.deliver(lake.s3(), LARGE)
    await lake.deliver(lake.s3(), LARGE)
    assert lake.stored() == [b"".join(LARGE)]
    assert len(lake.uploads()) == 1


async def test_a_part_that_the_store_has_lost(lake: Lake) -> None:
    """A completion that misses a part asks for a retry, which sends all parts again."""
    s3 = lake.s3()
    lake.script(("complete", Answer(400, "InvalidPart")))
    with pytest.raises(Retry, match="InvalidPart"):
        await lake.deliver(s3, LARGE)
    await lake.deliver(s3, LARGE)
    assert lake.stored() == [b"".join(LARGE)]
    assert lake.uploads() == []


@pytest.mark.parametrize("fault", [LoseReply(), Answer(404, "NoSuchUpload")], ids=["lost", "gone"])
async def test_a_completion_in_doubt_is_done_anew(lake: Lake, fault: Fault) -> None:
    """A completion that was lost, or whose upload is gone, asks for a retry; its name makes it harmless."""
    s3 = lake.s3()
    lake.script(("complete", fault))
    with pytest.raises(Retry):
        await lake.deliver(s3, LARGE)
    await lake.deliver(s3, LARGE)
    assert lake.stored() == [b"".join(LARGE)]
    assert lake.uploads() == []


@given(st.lists(st.binary(max_size=40)), st.integers(1, 30), st.integers(1, 30))
def test_pieces(chunks: list[bytes], first: int, then: int) -> None:
    """Pieces hold the chunks' bytes, have the sizes asked for, and only the last one is called the last."""
    cut = [(bytes(piece), last) for piece, last in pieces(chunks, first, then)]
    assert b"".join(piece for piece, _ in cut) == b"".join(chunks)
    assert [last for _, last in cut] == [False] * (len(cut) - 1) + [True]
    assert [len(piece) for piece, _ in cut[:-1]] == [first, *[then] * (len(cut) - 2)][: len(cut) - 1]
    assert len(cut[-1][0]) <= (first if len(cut) == 1 else then)
    assert cut[-1][0] or len(cut) == 1


async def test_memory_is_bounded(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    """However large the object, about one part of it is in memory."""

    def call(_: object, operation: str, **arguments: Any) -> dict[str, Any]:
        return {"UploadId": "one", "ETag": "two"}

    def chunks(*_: object) -> Iterable[bytes]:
        return (bytes(MIB) for _ in range(90))

    monkeypatch.setattr("firehose.aws.Client.call", call)
    monkeypatch.setattr("firehose.formats.Raw.chunks", chunks)
    s3 = lake.s3(multipart_threshold_mib=20, part_size_mib=20)
    await lake.deliver(s3)  # with the modules that the first delivery of a process loads
    tracemalloc.start()
    try:
        receipt = await lake.deliver(s3)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert receipt.sent_bytes == 90 * MIB
    assert peak < 32 * MIB


# Check, role, options


async def test_check_needs_no_more_than_a_delivery(lake: Lake) -> None:
    """A check begins an upload and aborts it: the rights that a delivery needs, and no trace."""
    await lake.s3().check()
    assert lake.server.seen() == ["begin", "abort"]
    assert (lake.stored(), lake.uploads()) == ([], [])


async def test_check_of_a_missing_bucket(lake: Lake) -> None:
    """A check of a bucket that is not there tells the command that makes it."""
    way_out = f"create it with: aws s3 mb s3://no-such-bucket --endpoint-url {lake.server.url}"
    with pytest.raises(Retry) as told:
        await lake.s3(bucket="no-such-bucket").check()
    assert told.value.reason.endswith(way_out)


async def test_role(lake: Lake) -> None:
    """With a role, deliveries are signed with the credentials that STS gives for it, asked for once."""
    s3 = lake.s3(role_arn="arn:aws:iam::123456789012:role/lake", sts_endpoint_url=lake.server.moto_url)
    await lake.deliver(s3)
    await s3.deliver(batch(SMALL, first=2), lake.memo)
    signed = {request.headers["authorization"].split("/")[0] for request in lake.server.requests}
    tokens = {request.headers.get("x-amz-security-token") for request in lake.server.requests}
    assert signed != {"AWS4-HMAC-SHA256 Credential=test"}
    assert len(signed) == len(tokens) == 1
    assert None not in tokens


async def test_a_role_that_cannot_be_had(lake: Lake) -> None:
    """An STS that cannot be reached asks for a retry like any other trouble."""
    s3 = lake.s3(role_arn="arn:aws:iam::123456789012:role/lake", sts_endpoint_url="http://127.0.0.1:1")
    with pytest.raises(Retry, match=r"127\.0\.0\.1:1"):
        await lake.deliver(s3)


@pytest.mark.parametrize(
    "keys",
    [
        {"access_key_id": "only"},
        {"secret_access_key": "only"},
        {"session_token": "only"},
        {**KEYS, "profile": "too"},
        {"kms_key_id": "one"},
        {"part_size_mib": 4},
        {"endpoint_url": "localhost:9000"},
        {"endpoint_url": "http://user:secret@localhost"},
        {"bucket": "s3://lake"},
        {"acl": "everyone"},
    ],
    ids=str,
)
def test_wrong_options_are_refused(keys: dict[str, Any]) -> None:
    """Blocks that cannot work are refused when they are read."""
    with pytest.raises(ValidationError):
        S3Options.model_validate({"bucket": "lake", **keys})


def test_secrets_do_not_show() -> None:
    """The options show no secret when they are printed."""
    assert "hush-hush" not in repr(S3Options.model_validate({"bucket": "lake", **KEYS}))


def test_places_of_buckets() -> None:
    """A place is endpoint, bucket and prefix: whatever else differs does not tell two places apart."""

    def place(**keys: Any) -> tuple[str, ...]:
        return S3Options.model_validate({"bucket": "lake", **keys}).place()

    assert place(endpoint_url="http://a:1/") == place(endpoint_url="http://a:1", compression="gzip")
    assert len({place(), place(prefix="x/"), place(bucket="pond"), place(endpoint_url="http://a:1")}) == 4


async def test_small_objects_beside(lake: Lake) -> None:
    """A small object replaces what has its name, is not said to be compressed, and can be removed twice."""
    s3 = lake.s3(compression="gzip")
    for content in (b"first", b"second"):
        await s3.put("manifests/one", content)
    stored = lake.server.read(lake.bucket, "manifests/one")
    assert stored["Body"].read() == b"second"
    assert "ContentEncoding" not in stored
    for _ in range(2):
        await s3.remove("manifests/one", "manifests/none")
    await s3.close()
    assert lake.stored() == []


async def test_small_objects_fail(lake: Lake) -> None:
    """What the store says to them is told as for any other object."""
    s3 = lake.s3()
    lake.script(("put", Answer(503, "SlowDown")), ("delete", Answer(403, "AccessDenied")))
    with pytest.raises(Retry, match="SlowDown"):
        await s3.put("one", b"")
    with pytest.raises(Retry, match="AccessDenied"):
        await s3.remove("one")
    await s3.close()
