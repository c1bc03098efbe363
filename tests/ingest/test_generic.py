"""Dialect A without a server: heads and bodies in, replies out."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from typing import TypeVar

import pyarrow as pa
import pytest
from virtual_time import Inline

from firehose.contracts import Full, Unavailable, Unsure
from firehose.http.admission import Admission
from firehose.http.wire import Head, Reply
from firehose.ingest.dialects.generic import LARGE_BYTES, Generic
from firehose.ingest.intake import Intake
from firehose.ingest.splitting import SplitOptions
from firehose.model import Origin, Position

T = TypeVar("T")


class Kept:
    """An appender in memory."""

    def __init__(self) -> None:
        self.batches: list[pa.RecordBatch] = []
        self.failure: Unavailable | None = None

    async def append(self, records: pa.RecordBatch, origin: Origin | None = None) -> Position:
        if self.failure:
            raise self.failure
        self.batches.append(records)
        return Position("lane", 0, records.num_rows)

    def origins(self) -> dict[str, Origin]:
        return {}


class Counted:
    """Threads that are none, and count what they are given."""

    def __init__(self) -> None:
        self.calls = 0

    async def run(self, call: Callable[[], T]) -> T:
        self.calls += 1
        return call()

    def close(self) -> None: ...

    def leave(self) -> None: ...


@pytest.fixture
def kept() -> Kept:
    return Kept()


@pytest.fixture
def intakes(kept: Kept) -> dict[str, Intake]:
    checked = SplitOptions(validate=True)
    return {
        "app": Intake("app", kept, SplitOptions()),
        "strict": Intake("strict", kept, checked, strict=True),
        "kafka": Intake("kafka", kept, SplitOptions(), source="kafka"),
    }


@pytest.fixture
def generic(intakes: dict[str, Intake]) -> Generic:
    return Generic(intakes, Inline(), lambda head: b"x-refuse" not in head.headers, Admission(10_000), 1000, 2000)


def head(stream: str = "app", method: str = "POST", **headers: bytes) -> Head:
    return Head(method, f"/ingest/{stream}", b"", {name.replace("_", "-").encode(): v for name, v in headers.items()})


async def ask(generic: Generic, asked: Head, body: bytes = b"x") -> Reply:
    route = generic.route()
    return route.begin(asked) or await route.finish(asked, body)


async def test_put_is_post(generic: Generic, kept: Kept) -> None:
    """Agents that PUT are served like those that POST."""
    assert (await ask(generic, head(method="PUT"), b"a\nb")).body == b'{"accepted":2,"rejected":0}'
    assert len(kept.batches) == 1


async def test_empty_body(generic: Generic, kept: Kept) -> None:
    """A body without a record is a success of none, and nothing is stored."""
    for body in (b"", b"\n \n", b"[]"):
        assert (await ask(generic, head(), body)).body == b'{"accepted":0,"rejected":0}'
    assert kept.batches == []


async def test_too_many_records(generic: Generic, intakes: dict[str, Intake], kept: Kept) -> None:
    """A body of more records than one may hold is a 413 that names the bound, and nothing of it is stored."""
    intakes["few"] = Intake("few", kept, SplitOptions(max_records=3))
    for body in (b"[1,2,3,4]", b"{}{}{}{}", b"a\nb\nc\nd", b"{}\n{}\n{}\n{}"):
        reply = await ask(generic, head("few"), body)
        assert (reply.status, kept.batches) == (413, [])
        assert b"3 records (service.body_limit_records)" in reply.body
    assert (await ask(generic, head("few"), b"[1,2,3]")).body == b'{"accepted":3,"rejected":0}'
    assert generic.admission.in_flight_bytes == 0


async def test_rejected_are_stored(generic: Generic, kept: Kept) -> None:
    """What is no record is stored with its reason beside the others, for the error output."""
    assert (await ask(generic, head(), b'[{"a":1},{"b":')).body == b'{"accepted":1,"rejected":1}'
    assert [bool(reason) for reason in kept.batches[0].column("refused").to_pylist()] == [False, True]


async def test_strict(generic: Generic, kept: Kept) -> None:
    """A strict stream takes all or nothing, and its refusal says why without the record."""
    reply = await ask(generic, head("strict"), b'{"a":1}\n{"secret":}\n')
    said = json.loads(reply.body)
    assert (reply.status, said["accepted"], said["rejected"], kept.batches) == (400, 0, 1, [])
    assert "secret" not in said["error"]
    assert (await ask(generic, head("strict"), b'{"a":1}\n')).status == 200


@pytest.mark.parametrize(
    ("failure", "wait"), [(Full("full", 4.2), b"5"), (Full("full", 0), b"1"), (Unsure("the disk failed"), b"1")]
)
async def test_unavailable(generic: Generic, kept: Kept, failure: Unavailable, wait: bytes) -> None:
    """A buffer that cannot take records is 503, with whole seconds to wait and never fewer than it wishes."""
    kept.failure = failure
    reply = await ask(generic, head())
    assert (reply.status, dict(reply.headers)[b"retry-after"]) == (503, wait)


async def test_other_source(generic: Generic) -> None:
    """A stream that reads from elsewhere takes nothing over HTTP, and says where from."""
    reply = await ask(generic, head("kafka"))
    assert (reply.status, "kafka" in json.loads(reply.body)["error"]) == (400, True)


async def test_refused_key(generic: Generic, kept: Kept) -> None:
    """A request without leave is 401 with a challenge, before its body is looked at; probes need none."""
    reply = await ask(generic, head(x_refuse=b"1"))
    assert (reply.status, b"www-authenticate" in dict(reply.headers), kept.batches) == (401, True, [])
    assert (await ask(generic, head(method="HEAD", x_refuse=b"1"))).status == 200


async def test_inflated_size(generic: Generic, kept: Kept) -> None:
    """The bound on decoded bytes holds for bodies that were never encoded, too."""
    assert (await ask(generic, head(), b"x" * 2001)).status == 413
    packed = gzip.compress(b"x" * 2001)
    assert (await ask(generic, head(content_encoding=b"gzip"), packed)).status == 413
    assert (await ask(generic, head(), b"x" * 2000)).status == 200


async def test_stream_gone_meanwhile(generic: Generic, intakes: dict[str, Intake]) -> None:
    """A stream taken out while a body arrives is a 404, and nothing is stored."""
    route, asked = generic.route(), head()
    assert route.begin(asked) is None
    del intakes["app"]
    assert (await route.finish(asked, b"x")).status == 404


async def test_large_object(intakes: dict[str, Intake], kept: Kept) -> None:
    """A large object is looked through in a thread, like any large body; a small one is not worth it."""
    threads = Counted()
    generic = Generic(intakes, threads, lambda head: True, Admission(10 * LARGE_BYTES), 1, 2 * LARGE_BYTES)
    for size, calls in ((100, 0), (LARGE_BYTES, 2)):  # to be decoded, and to be cut
        body = b'{"a":"%s"}' % (b"x" * size)
        assert (await ask(generic, head(), body)).body == b'{"accepted":1,"rejected":0}'
        assert threads.calls == calls
        assert kept.batches[-1].column("record").to_pylist() == [body + b"\n"]


async def test_unsure_says_so(generic: Generic, kept: Kept) -> None:
    """A 503 after which nobody knows whether the records were stored says so, for clients that can decide."""
    kept.failure = Unsure("the disk failed")
    reply = await ask(generic, head())
    assert (reply.status, json.loads(reply.body)) == (503, {"error": "the disk failed", "stored": "unknown"})
    kept.failure = Full("full")
    assert "stored" not in json.loads((await ask(generic, head())).body)


async def test_names_are_not_told_to_strangers(generic: Generic) -> None:
    """A post without a key is told nothing of which streams there are."""
    known, unknown = head(x_refuse=b"1"), head("nobody", x_refuse=b"1")
    assert (await ask(generic, known)).status == (await ask(generic, unknown)).status == 401


async def test_no_room(intakes: dict[str, Intake], generic: Generic, kept: Kept) -> None:
    """A large body that could not be taken is refused by its head alone; a small one is not asked about."""
    asked: list[int] = []

    def room(size_bytes: int) -> None:
        asked.append(size_bytes)
        raise Full("the buffer is at its limit", 5.0)

    intakes["app"] = Intake("app", kept, SplitOptions(), room=room)
    reply = generic.route().begin(head(content_length=b"50000"))
    assert reply is not None
    assert (reply.status, dict(reply.headers)[b"retry-after"], asked) == (503, b"5", [50_000])
    assert generic.route().begin(head(content_length=b"500")) is None
    assert asked == [50_000]
