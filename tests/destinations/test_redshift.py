"""The Redshift destination without a cluster: what is refused of its keys, and how failures are told."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, ClassVar

import pytest
import yaml
from batches import Notes, batch
from s3_server import KEYS, Answer, S3Server, running
from sites import site

from destinations import redshift
from destinations.redshift import Redshift, RedshiftOptions
from firehose import config
from firehose.contracts import Refused, Retry
from firehose.redshift.connection import Failed, Login
from firehose.runtime import Runtime, Threads
from firehose.yaml_file import ConfigError

CLUSTER = {"host": "far.example", "database": "dev", "user": "firehose", "password": "hush-hush"}
STAGING = {"bucket": "staging", "prefix": "stage/", "compression": "gzip", "format": {"type": "json_lines"}, **KEYS}


def block(**keys: Any) -> dict[str, Any]:
    said = {"table": "events", "copy_options": "JSON 'auto' GZIP", "staging": STAGING}
    return {"type": "redshift", **CLUSTER, **said, **keys}


def problems(*blocks: dict[str, Any], **stream: Any) -> str:
    """Everything that is wrong with a stream to these destinations."""
    document = {"delivery_streams": {"app": {"destinations": list(blocks), **stream}}}
    try:
        config.parse("firehose.yaml", yaml.safe_dump(document))
    except ConfigError as error:
        return "\n".join(str(problem) for problem in error.problems)
    return ""


def test_fine() -> None:
    """What the tests begin with is fine."""
    assert problems(block()) == ""


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"copy_options": "JSON 'auto'"}, "copy_options: must say GZIP"),
        ({"staging": {**STAGING, "compression": "none"}}, "copy_options: say GZIP"),
        ({"staging": {**STAGING, "compression": "zip"}}, "staging.compression"),
        (
            {"staging": {**STAGING, "prefix": "!{timestamp:yyyy}/"}},
            "Prefix Expressions or ErrorOutputPrefix is currently",
        ),
        ({"staging": {**STAGING, "prefix": "x" * 500}}, "staging.prefix: Length of evaluated prefix"),
        ({"staging": {**STAGING, "compression": "none", "format": {"type": "parquet"}}}, "must say FORMAT AS PARQUET"),
        ({"staging": {"bucket": "staging", "compression": "gzip"}}, "iam_role: says as whom"),
        ({"password": None}, "Redshift Database Password is required for Redshift Destination"),
        ({"table": "a b"}, "table"),
        ({"staging": None}, "staging"),
    ],
)
def test_refused(keys: dict[str, Any], said: str) -> None:
    """What could not be loaded is refused as the file is read, with its key."""
    assert said in problems(block(**keys))


def test_places_of_their_own() -> None:
    """Two destinations never stage in one place, whatever types they are."""
    assert "is that of another destination" in problems(block(name="a"), block(name="b"))
    assert problems(block(name="a"), block(name="b", staging={**STAGING, "prefix": "other/"})) == ""
    objects = {"type": "s3", **STAGING}
    assert "gives its objects the names" in problems(objects, block())


def test_secrets_stay_hidden() -> None:
    """No password shows where options are printed."""
    assert "hush" not in repr(RedshiftOptions.model_validate(block()))


# Failures, told by a connection that follows a script.


class Scripted:
    """A session whose statements fail as `script` says: what they begin with, and the failure."""

    script: ClassVar[list[tuple[str, Failed]]] = []
    run_statements: ClassVar[list[str]] = []

    def __init__(self, login: Login, timeout_seconds: float) -> None:
        self._fail("connect")

    def bound(self, seconds: float) -> None:
        """Needs no bound."""

    def run(self, statement: str, *values: object) -> list[tuple[Any, ...]]:
        self.run_statements.append(statement)
        self._fail(statement)
        return []

    def commit(self) -> None:
        self._fail("commit")

    def rollback(self) -> None:
        """Always fine."""

    def close(self) -> None:
        """Always fine."""

    def _fail(self, statement: str) -> None:
        for begins, failure in self.script:
            if statement.startswith(begins):
                raise failure


@pytest.fixture(scope="module")
def server() -> Iterator[S3Server]:
    yield from running()


@pytest.fixture
def threads() -> Iterator[Threads]:
    pool = Runtime().threads("test", 2)
    yield pool
    pool.close()


@pytest.fixture
def scripted(monkeypatch: pytest.MonkeyPatch) -> type[Scripted]:
    monkeypatch.setattr(redshift, "Connection", Scripted)
    monkeypatch.setattr(Scripted, "script", [])
    monkeypatch.setattr(Scripted, "run_statements", [])
    return Scripted


def made(server: S3Server, threads: Threads, **keys: Any) -> Redshift:
    staging = {**STAGING, "bucket": server.new_bucket(), "endpoint_url": server.url}
    return Redshift(RedshiftOptions.model_validate(block(staging=staging, **keys)), site(threads))


@pytest.mark.parametrize(
    ("begins", "failure", "code", "said"),
    [
        ("connect", Failed("ConnectionFailed", "does not answer in time"), "ConnectionFailed", "check host and port"),
        (
            "COPY",
            Failed("DataLoadFailed", "Load failed", "XX000"),
            "DataLoadFailed",
            "check copy_options",
        ),
        ("COPY", Failed("S3SlowDown", "SlowDown", "XX000"), "S3SlowDown", "SlowDown"),
        ("LOCK", Failed("QueryCancelled", "cancelled", "57014"), "QueryCancelled", "cancelled"),
        ("commit", Failed("ConnectionFailed", "the connection was closed"), "ConnectionFailed", "was closed"),
    ],
)
async def test_failures(
    server: S3Server,
    threads: Threads,
    scripted: type[Scripted],
    begins: str,
    failure: Failed,
    code: str,
    said: str,
) -> None:
    """Whatever the cluster says asks for a retry, with AWS's code, the cluster's words and a way out."""
    one = made(server, threads)
    scripted.script.append((begins, failure))
    with pytest.raises(Retry) as told:
        await one.deliver(batch([b"{}"]), Notes())
    await one.close()
    assert told.value.code == f"Redshift.{code}"
    assert str(failure) in told.value.reason
    assert said in told.value.reason
    assert told.value.reason.startswith("far.example:5439/dev: ")


async def test_secrets_in_messages(server: S3Server, threads: Threads, scripted: type[Scripted]) -> None:
    """A cluster that repeats the COPY it does not like tells no key of it."""
    one = made(server, threads)
    scripted.script.append(("COPY", Failed("SyntaxError", "at aws_secret_access_key=hush-hush near", "42601")))
    with pytest.raises(Retry) as told:
        await one.deliver(batch([b"{}"]), Notes())
    await one.close()
    assert "aws_secret_access_key=*** near" in told.value.reason


async def test_staging_fails(server: S3Server, threads: Threads, scripted: type[Scripted]) -> None:
    """Trouble with the bucket is S3's to tell, and no session is opened; a refusal of its is one of ours."""
    one = made(server, threads)
    refusal = Answer(400, "InvalidRequest")  # once under the condition that the name is free, once without
    for answers, kind in (([Answer(503, "SlowDown")], Retry), ([refusal, refusal], Refused)):
        server.script += [("put", answer) for answer in answers]
        with pytest.raises(kind, match="s3://lake-"):
            await one.deliver(batch([b"{}"]), Notes())
    await one.close()
    assert scripted.run_statements == []


async def test_order(server: S3Server, threads: Threads, scripted: type[Scripted]) -> None:
    """The lock comes before the look, the look before the load, and the note of it in between."""
    one = made(server, threads, iam_role="default", columns=["id"])
    receipt = await one.deliver(batch([b"{}"]), Notes())
    await one.close()
    words = [statement.split()[0] for statement in scripted.run_statements]
    assert words == ["SET", "LOCK", "SELECT", "INSERT", "COPY", "DELETE"]
    assert "IAM_ROLE default MANIFEST JSON 'auto' GZIP" in scripted.run_statements[4]
    assert len(receipt.objects) == 1


async def test_cleaning_that_fails(server: S3Server, threads: Threads, scripted: type[Scripted]) -> None:
    """A bucket that lets nothing be removed holds no delivery up."""
    one, memo = made(server, threads, cleanup="after_copy"), Notes()
    server.script.append(("delete", Answer(403, "AccessDenied")))
    receipt = await one.deliver(batch([b"{}"]), memo)
    await one.close()
    assert server.script == []
    assert json.loads(memo.written[-1])["staged"]["objects"] == list(receipt.objects)
