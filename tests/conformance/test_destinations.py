"""Every shipped destination keeps the laws of its door, and no law is so weak that a wrong one keeps it."""

from __future__ import annotations

import asyncio
import errno
import gzip
import json
from base64 import b64decode, b64encode
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import ClassVar

import endpoint
import hec_server
import postgres
import pyarrow as pa
import pytest
import redshift_proxy
import s3_server
import small_opensearch
from conformance import destination as suite
from conformance.destination import LAWS, Harness, Law
from endpoint import Endpoint, listening
from hec_server import Hec
from postgres import Postgres
from programs import Programs, free_port
from redshift_copy import Bucket
from redshift_proxy import RedshiftProxy
from s3_server import S3Server
from sites import FlakyDisk, site
from small_opensearch import SmallOpenSearch

from destinations.folder import Folder, FolderOptions
from destinations.http import Http, HttpOptions
from destinations.opensearch import OpenSearch, OpenSearchOptions
from destinations.redshift import Redshift, RedshiftOptions
from destinations.s3 import S3, S3Options
from destinations.splunk import Splunk, SplunkOptions
from firehose.blocks import MIB
from firehose.contracts import Destination, Memo, Retry
from firehose.model import Batch, Receipt
from firehose.rows import replaced
from firehose.runtime import Runtime, Threads


class FolderHarness:
    """A folder of gzip files."""

    large_bytes = MIB

    def __init__(self, root: Path, threads: Threads) -> None:
        self._root = root / "lake"
        self._threads = threads
        self._disk = FlakyDisk()

    def make(self) -> Destination:
        return self._at(self._root)

    def missing(self) -> Destination:
        blocked = self._root.parent / "a-file"
        blocked.touch()
        return self._at(blocked / "lake")

    def _at(self, path: Path) -> Destination:
        options = FolderOptions(path=str(path), compression="gzip")
        return Folder(options, site(self._threads, self._disk))

    def contents(self) -> Mapping[str, bytes]:
        files = (path for path in self._root.rglob("*") if path.is_file() and ".partial" not in path.parts)
        return {str(path.relative_to(self._root)): gzip.decompress(path.read_bytes()) for path in files}

    def fail_next(self) -> None:
        self._disk.faults.append(("write", errno.ENOSPC))

    def lose_next_reply(self) -> None:
        self._disk.faults.append(("renamed", errno.EIO))


class S3Harness:
    """A bucket of plain objects in moto."""

    large_bytes = 5 * MIB

    def __init__(self, server: S3Server, threads: Threads) -> None:
        self._server = server
        self._threads = threads
        self._bucket = server.new_bucket()

    def make(self) -> Destination:
        return self._at(self._bucket)

    def missing(self) -> Destination:
        return self._at("nobody-made-this")

    def _at(self, bucket: str) -> Destination:
        block = {
            "bucket": bucket,
            "endpoint_url": self._server.url,
            "multipart_threshold_mib": 5,
            "part_size_mib": 5,
            **s3_server.KEYS,
        }
        return S3(S3Options.model_validate(block), site(self._threads))

    def contents(self) -> Mapping[str, bytes]:
        return self._server.objects(self._bucket)

    def fail_next(self) -> None:
        self._server.script.append(("put", s3_server.Answer(503, "SlowDown")))

    def lose_next_reply(self) -> None:
        self._server.script.append(("put", s3_server.LoseReply()))


class HttpHarness:
    """An endpoint that speaks the delivery protocol and keeps its promise: an id is taken once."""

    large_bytes = MIB

    def __init__(self, endpoint: Endpoint, threads: Threads) -> None:
        self._endpoint = endpoint
        self._threads = threads

    def make(self) -> Destination:
        return self._at(self._endpoint.url)

    def missing(self) -> Destination:
        return self._at(f"http://127.0.0.1:{free_port()}/")

    def _at(self, url: str) -> Destination:
        return Http(HttpOptions(url=url, content_encoding="gzip"), site(self._threads))

    def contents(self) -> Mapping[str, bytes]:
        return {id: b"".join(asked.records()) for id, asked in self._endpoint.stored.items()}

    def fail_next(self) -> None:
        self._endpoint.script.append(endpoint.says("503 Service Unavailable"))

    def lose_next_reply(self) -> None:
        self._endpoint.script.append(endpoint.lose_reply)


class SplunkHarness:
    """A collector; what it stored is named for the request, and the copies of one are counted."""

    large_bytes = MIB

    def __init__(self, far: Hec, threads: Threads) -> None:
        self._far = far
        self._threads = threads

    def make(self) -> Destination:
        return self._at(self._far.url)

    def missing(self) -> Destination:
        return self._at(f"http://127.0.0.1:{free_port()}")

    def _at(self, url: str) -> Destination:
        said = {"hec_endpoint": url, "hec_token": hec_server.TOKEN, "ack_poll_seconds": 0.1, "verify_tls": False}
        return Splunk(SplunkOptions.model_validate(said), site(self._threads))

    def contents(self) -> Mapping[str, bytes]:
        found: dict[str, bytes] = {}
        for asked in self._far.indexed:
            id = asked.headers["x-request-id"]
            found[id if id not in found else f"{id}, copy {len(found)}"] = asked.body
        return found

    def fail_next(self) -> None:
        self._far.script.append(hec_server.tells(9))

    def lose_next_reply(self) -> None:
        self._far.script.append(hec_server.lose_number)


class RedshiftHarness:
    """A table, and beside each load what came in its transaction, which is what the system column xmin tells."""

    large_bytes = MIB

    def __init__(self, proxy: RedshiftProxy, postgres: Postgres, server: S3Server, threads: Threads) -> None:
        self._proxy = proxy
        self._postgres = postgres
        self._server = server
        self._threads = threads
        self._bucket = server.new_bucket()
        self._database = postgres.new_database()
        postgres.query("CREATE TABLE events (record text)", self._database)

    def make(self) -> Destination:
        return self._at("events")

    def missing(self) -> Destination:
        return self._at("nobody_made_this")

    def _at(self, table: str) -> Destination:
        staging = {"bucket": self._bucket, "endpoint_url": self._server.url, "format": {"type": "json_lines"}}
        said = {
            **redshift_proxy.login(self._proxy, self._database),
            "table": table,
            "copy_options": r"DELIMITER '\001'",  # which no record has: each is one value
            "staging": {**staging, **s3_server.KEYS},
        }
        return Redshift(RedshiftOptions.model_validate(said), site(self._threads))

    def contents(self) -> Mapping[str, bytes]:
        if self._postgres.query("SELECT to_regclass('firehose_loads') IS NULL", self._database) == [["t"]]:
            assert self._postgres.query("SELECT * FROM events", self._database) == []
            return {}
        loaded = """SELECT l.manifest, string_agg(e.record, '' ORDER BY e.ctid) FROM firehose_loads l
            FULL JOIN events e ON e.xmin = l.xmin GROUP BY l.manifest, l.load_id"""
        return {self._object(url): content.encode() for url, content in self._postgres.query(loaded, self._database)}

    def _object(self, url: str) -> str:
        """The only one that the manifest names."""
        manifest = self._server.read(self._bucket, url.removeprefix(f"s3://{self._bucket}/"))["Body"].read()
        (entry,) = json.loads(manifest)["entries"]
        return str(entry["url"]).removeprefix(f"s3://{self._bucket}/")

    def fail_next(self) -> None:
        self._proxy.script.append(
            (redshift_proxy.LOGIN, redshift_proxy.Say("53300", "sorry, too many clients already"))
        )

    def lose_next_reply(self) -> None:
        self._proxy.script += [("copy", redshift_proxy.Pass()), ("commit", redshift_proxy.LoseReply())]


# COPY reads text: a table of text holds no NUL.
OF_REDSHIFT = [law for law in LAWS if law not in (suite.any_bytes_are_stored, suite.large_batch_is_whole)]
OF_SPLUNK = [law for law in LAWS if law is not suite.empty_records_are_stored]  # it takes no request without data
BY_IDS = {suite.lost_reply_is_once, suite.names_come_from_the_segment}


class OpenSearchHarness:
    """A server of documents. A record's bytes go inside of one, since it takes nothing else."""

    large_bytes = MIB

    def __init__(self, server: SmallOpenSearch, threads: Threads) -> None:
        self._server = server
        self._threads = threads

    def make(self) -> Destination:
        return self._at(self._server.url)

    def missing(self) -> Destination:
        return self._at(f"http://127.0.0.1:{free_port()}")

    def _at(self, endpoint: str) -> Destination:
        return InDocuments(OpenSearch(OpenSearchOptions(endpoint=endpoint, index="app"), site(self._threads)))

    def contents(self) -> Mapping[str, bytes]:
        """The documents of a request stand for an object."""
        requests = self._server.by_request()
        return {id: b"".join(b64decode(json.loads(one)["said"]) for one in said) for id, said in requests.items()}

    def fail_next(self) -> None:
        self._server.script.append(endpoint.says("503 Service Unavailable"))

    def lose_next_reply(self) -> None:
        self._server.script.append(small_opensearch.lose_reply)


class InDocuments:
    """Hands each record over as a JSON document that holds its bytes."""

    error_type: ClassVar[str] = OpenSearch.error_type

    def __init__(self, destination: Destination) -> None:
        self._destination = destination
        self.check = destination.check
        self.close = destination.close

    async def deliver(self, batch: Batch, memo: Memo) -> Receipt:
        return await self._destination.deliver(replace(batch, read=partial(self._read, batch)), memo)

    def _read(self, batch: Batch) -> Iterator[pa.RecordBatch]:
        for rows in batch.slices():
            said = [b'{"said":"%b"}' % b64encode(record) for record in rows.column("record").to_pylist()]
            yield replaced(rows, pa.array(said, pa.binary()))


@pytest.fixture(scope="module")
def server() -> Iterator[S3Server]:
    yield from s3_server.running()


@pytest.fixture
def threads() -> Iterator[Threads]:
    pool = Runtime().threads("test", 4)
    yield pool
    pool.close()


@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.__name__)
async def test_folder_keeps(law: Law, tmp_path: Path, threads: Threads) -> None:
    """The folder keeps every law."""
    await law(FolderHarness(tmp_path, threads))


@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.__name__)
async def test_s3_keeps(law: Law, server: S3Server, threads: Threads) -> None:
    """S3 keeps every law, multipart uploads among them."""
    await law(S3Harness(server, threads))


@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.__name__)
async def test_http_keeps(law: Law, threads: Threads) -> None:
    """An endpoint that knows ids again keeps every law."""
    async with listening(Endpoint()) as far:
        await law(HttpHarness(far, threads))


@pytest.mark.parametrize("law", OF_SPLUNK, ids=lambda law: law.__name__)
async def test_splunk_keeps(law: Law, threads: Threads) -> None:
    """A collector keeps the laws; some of them only where it knows requests again, which Splunk does not."""
    async with listening(Hec(knows_ids=law in BY_IDS)) as far:
        assert isinstance(far, Hec)
        await law(SplunkHarness(far, threads))


@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.__name__)
async def test_opensearch_keeps(law: Law, threads: Threads) -> None:
    """A server that knows documents by their ids has each record once, whatever happens."""
    async with listening(SmallOpenSearch()) as far:
        assert isinstance(far, SmallOpenSearch)
        await law(OpenSearchHarness(far, threads))


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Postgres]:
    with Programs(tmp_path_factory.mktemp("programs")) as programs:
        yield from postgres.running(programs)


@pytest.mark.live
@pytest.mark.parametrize("law", OF_REDSHIFT, ids=lambda law: law.__name__)
async def test_redshift_keeps(law: Law, cluster: Postgres, server: S3Server, threads: Threads) -> None:
    """A table keeps the laws of what is text."""
    with RedshiftProxy(cluster.port, Bucket(server.moto_url)) as proxy:
        await law(RedshiftHarness(proxy, cluster, server, threads))


# Canaries: a destination that is right, and wrong ones that differ from it in one thing.


@dataclass
class FarSide:
    objects: dict[str, bytes] = field(default_factory=dict)
    there: bool = True
    fails: bool = False
    loses_reply: bool = False


class Right:
    """Keeps objects in a dictionary, and every law."""

    error_type: ClassVar[str] = "delivery-failed"

    def __init__(self, far: FarSide) -> None:
        self.far = far
        self.closed = 0

    async def check(self) -> None:
        if not self.far.there:
            raise Retry("the far side is not there")

    async def deliver(self, batch: Batch, memo: Memo) -> Receipt:
        await self.check()
        content, name = await self.content(batch), self.name(batch)
        self.store(name, content)
        return Receipt((name,), len(content))

    async def close(self) -> None:
        self.closed += 1

    def name(self, batch: Batch) -> str:
        return f"{batch.segment}-{batch.segment.version}-{batch.segment.opened_at}-{batch.partition}"

    async def content(self, batch: Batch) -> bytes:
        held = []
        for rows in batch.slices():
            held += rows.column("record").to_pylist()
            await asyncio.sleep(0)
        return b"".join(held)

    def store(self, name: str, content: bytes) -> None:
        if self.far.fails:
            self.far.fails = False
            raise Retry("the far side is busy")
        self.far.objects[name] = content
        if self.far.loses_reply:
            self.far.loses_reply = False
            raise Retry("no answer")


class NewNameEachTime(Right):
    def name(self, batch: Batch) -> str:
        return f"{len(self.far.objects)}-{batch.partition}"


class NameOfTheInstance(Right):
    def name(self, batch: Batch) -> str:
        return f"{super().name(batch)}-{id(self)}"


class NameForgetsPartition(Right):
    def name(self, batch: Batch) -> str:
        return str(batch.segment)


class NameForgetsFirst(Right):
    def name(self, batch: Batch) -> str:
        return super().name(batch).replace(f"{batch.segment.first:020d}", "")


class NameForgetsVersion(Right):
    def name(self, batch: Batch) -> str:
        return f"{batch.segment}-{batch.segment.opened_at}-{batch.partition}"


class NameOfTheSlices(Right):
    def name(self, batch: Batch) -> str:
        return f"{super().name(batch)}-{len(list(batch.slices()))}"


class NameOfTheContent(Right):
    def name(self, batch: Batch) -> str:
        return f"{super().name(batch)}-{hash(b''.join(batch.slices().__next__().column('record').to_pylist()))}"


class BelievesInLuck(Right):
    def store(self, name: str, content: bytes) -> None:
        try:
            super().store(name, content)
        except Retry:
            pass


class StoresThenFails(Right):
    def store(self, name: str, content: bytes) -> None:
        if self.far.fails:
            self.far.objects[name] = content
        super().store(name, content)


class AppendsToWhatIsThere(Right):
    def store(self, name: str, content: bytes) -> None:
        super().store(name, self.far.objects.get(name, b"") + content)


class TellsOwnErrors(Right):
    def store(self, name: str, content: bytes) -> None:
        try:
            super().store(name, content)
        except Retry as told:
            raise OSError(told.reason) from told


class PassesOverEmpty(Right):
    def store(self, name: str, content: bytes) -> None:
        if content:
            super().store(name, content)


class ReadsText(Right):
    async def content(self, batch: Batch) -> bytes:
        return (await super().content(batch)).decode(errors="replace").encode()


class CutsShort(Right):
    async def content(self, batch: Batch) -> bytes:
        return (await super().content(batch))[:MIB]


class WritesAsItReads(Right):
    async def content(self, batch: Batch) -> bytes:
        name, held = self.name(batch), b""
        for rows in batch.slices():
            held += b"".join(rows.column("record").to_pylist())
            if not self.far.fails:
                self.far.objects[name] = held
        return held


class SharesItsPage(Right):
    def __init__(self, far: FarSide) -> None:
        super().__init__(far)
        self.page = b""

    async def content(self, batch: Batch) -> bytes:
        self.page = b""
        for rows in batch.slices():
            self.page += b"".join(rows.column("record").to_pylist())
            await asyncio.sleep(0)
        return self.page


class ClosesOnce(Right):
    async def close(self) -> None:
        await super().close()
        if self.closed > 1:
            raise RuntimeError("closed already")


class ChecksNothing(Right):
    async def check(self) -> None:
        """Never looks."""


class LeavesProbes(Right):
    async def check(self) -> None:
        await super().check()
        self.far.objects["probe"] = b""

    async def deliver(self, batch: Batch, memo: Memo) -> Receipt:
        await Right.check(self)
        content = await self.content(batch)
        self.store(self.name(batch), content)
        return Receipt((self.name(batch),), len(content))


class TellsNothing(Right):
    async def deliver(self, batch: Batch, memo: Memo) -> Receipt:
        await super().deliver(batch, memo)
        return Receipt()


@dataclass
class MemoryHarness:
    """A destination over a dictionary."""

    make_one: Callable[[FarSide], Destination]
    large_bytes: int = MIB
    far: FarSide = field(default_factory=FarSide)
    made: list[Destination] = field(default_factory=list)  # kept, so that no two have the same id

    def make(self) -> Destination:
        self.made.append(self.make_one(self.far))
        return self.made[-1]

    def missing(self) -> Destination:
        return self.make_one(FarSide(there=False))

    def contents(self) -> Mapping[str, bytes]:
        return self.far.objects

    def fail_next(self) -> None:
        self.far.fails = True

    def lose_next_reply(self) -> None:
        self.far.loses_reply = True


REPEATS: set[Law] = {
    suite.twice_is_once,
    suite.restart_is_once,
    suite.lost_reply_is_once,
    suite.large_batch_is_whole,
}
CANARIES: Mapping[type[Right], set[Law]] = {
    NewNameEachTime: {*REPEATS, suite.names_come_from_the_segment},
    NameOfTheInstance: {suite.restart_is_once},
    NameForgetsPartition: {suite.partitions_stay_apart, suite.segments_stay_apart},
    NameForgetsFirst: {
        suite.segments_stay_apart,
        suite.deliveries_run_together,
        suite.empty_records_are_stored,
    },
    NameForgetsVersion: {suite.segments_stay_apart},
    NameOfTheSlices: {suite.names_come_from_the_segment},
    NameOfTheContent: {suite.names_come_from_the_segment},
    BelievesInLuck: {suite.lost_reply_is_once, suite.failure_is_a_retry},
    StoresThenFails: {suite.failure_is_a_retry},
    AppendsToWhatIsThere: REPEATS,
    TellsOwnErrors: {suite.lost_reply_is_once, suite.failure_is_a_retry},
    PassesOverEmpty: {suite.empty_records_are_stored},
    ReadsText: {suite.any_bytes_are_stored},
    CutsShort: {suite.large_batch_is_whole},
    WritesAsItReads: {suite.half_a_batch_is_nothing},
    SharesItsPage: {suite.deliveries_run_together},
    ClosesOnce: {suite.close_may_be_repeated},
    ChecksNothing: {suite.check_finds_what_is_missing},
    LeavesProbes: {suite.check_leaves_no_trace},
    TellsNothing: {suite.stored_once, suite.names_come_from_the_segment},
}


async def broken_by(make_one: Callable[[FarSide], Destination]) -> set[Law]:
    """The laws that a destination does not keep."""
    broken = set()
    for law in LAWS:
        harness: Harness = MemoryHarness(make_one)
        try:
            await law(harness)
        except (Exception, pytest.fail.Exception):  # how a law complains, or the wrong thing itself
            broken.add(law)
    return broken


async def test_the_right_one_passes() -> None:
    """The destination that the canaries are made from keeps every law, so each fails by its own fault."""
    assert await broken_by(Right) == set()


@pytest.mark.parametrize("canary", CANARIES, ids=lambda canary: canary.__name__)
async def test_canary_fails(canary: type[Right]) -> None:
    """A wrong destination breaks just the laws that forbid what it does."""
    assert {law.__name__ for law in await broken_by(canary)} == {law.__name__ for law in CANARIES[canary]}


def test_every_law_can_fail() -> None:
    """Each law has a canary that breaks it."""
    assert set().union(*CANARIES.values()) == set(LAWS)
