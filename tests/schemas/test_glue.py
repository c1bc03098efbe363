"""A schema in the Glue Data Catalog: what each answer means to a batch, and to those behind it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from threading import Event, Thread
from typing import Any

import boto3
import glue_server
import pytest
from batches import Notes, batch
from glue_server import GlueServer, refusal
from lambda_server import Answer, Fault, HangUp, Hold
from moto.server import ThreadedMotoServer
from programs import PATIENCE_SECONDS, wait_for
from pydantic import ValidationError
from sites import schema_site

from firehose import observe
from firehose.contracts import Retry
from firehose.runtime import Runtime
from firehose.schemas.followed import Followed
from firehose.schemas.glue import GlueOptions
from firehose.schemas.options import SchemaBlock, made

NARROW = {"id": "bigint", "tags": "array<string>"}
WIDE = {**NARROW, "at": "timestamp"}
PLACE = "Glue table db.t in us-east-1: "


@pytest.fixture(autouse=True)
def _no_ambient_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever AWS set-up the developer's machine has is none of these tests' business."""
    for name in ("PROFILE", "DEFAULT_PROFILE", "ACCESS_KEY_ID", "SECRET_ACCESS_KEY", "SESSION_TOKEN", "CA_BUNDLE"):
        monkeypatch.delenv(f"AWS_{name}", raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")


@pytest.fixture(scope="module")
def endpoint() -> Iterator[GlueServer]:
    yield from glue_server.running()


@pytest.fixture
def server(endpoint: GlueServer) -> GlueServer:
    """The endpoint as if nobody had asked yet, with a table of one version."""
    endpoint.forget()
    endpoint.add(NARROW)
    return endpoint


class Clock(Runtime):
    """A wall clock that stands still unless a test moves it, read where no event loop is."""

    wall_ms = 1_772_366_400_000

    def now_ms(self) -> int:
        return self.wall_ms


class Stream:
    """One stream's destination that follows a table; `restart` puts it to work anew, as a new process would."""

    def __init__(self, root: Path, keys: Mapping[str, Any]) -> None:
        self.runtime = Clock()
        self._root = root
        self._keys = keys
        self.restart()

    def restart(self, **more: Any) -> None:
        site = schema_site(self._root, runtime=self.runtime)
        options = SchemaBlock.model_validate({"glue": {**self._keys, **more}})
        self.source = made(options, site)

    def follows(self, memo: Notes | None = None) -> dict[str, str]:
        """The columns that a batch follows; a new one unless its memo is given."""
        return self.source.of(batch([b"{}"]), Notes() if memo is None else memo).schema.types()

    def waits(self, memo: Notes | None = None) -> str:
        """Why a batch cannot go on."""
        with pytest.raises(Retry) as waits:
            self.follows(memo)
        return waits.value.reason


@pytest.fixture
def stream(tmp_path: Path, server: GlueServer) -> Iterator[Stream]:
    one = Stream(tmp_path, server.keys())
    yield one
    one.source.close()


def later(stream: Stream, seconds: float = 60) -> None:
    stream.runtime.wall_ms += int(seconds * 1000)


# The table and its versions


def test_columns(server: GlueServer, stream: Stream) -> None:
    """A batch follows the table's columns; those that it is partitioned by are not among them."""
    assert stream.follows() == NARROW
    assert server.asked == [("GetTable", {"DatabaseName": "db", "Name": "t"})]


def test_one_question_for_many_batches(server: GlueServer, stream: Stream) -> None:
    """Within refresh_seconds Glue is asked once, and then again; a wall clock that goes back keeps nothing in force."""
    assert [stream.follows() for _ in range(3)] == [NARROW] * 3
    later(stream, 59.9)
    stream.follows()
    assert len(server.asked) == 1
    later(stream, 0.1)
    stream.follows()
    assert len(server.asked) == 2
    later(stream, -3600)
    stream.follows()
    assert len(server.asked) == 3


def test_a_change_is_for_those_that_come(server: GlueServer, stream: Stream) -> None:
    """A batch under way keeps the version that it began with, also after a restart; the next one has the new."""
    under_way = Notes()
    assert stream.follows(under_way) == NARROW
    server.add(WIDE)
    later(stream)
    assert stream.follows() == WIDE
    assert stream.follows(under_way) == NARROW
    stream.restart()
    assert stream.follows(under_way) == NARROW
    assert stream.follows() == WIDE


def test_versions_are_numbered_once(server: GlueServer, stream: Stream) -> None:
    """The same columns are the same version, also after a restart; a change back is a new one."""
    memos = [Notes() for _ in range(5)]
    stream.follows(memos[0])
    server.add(NARROW, Description="another one")
    later(stream)
    stream.follows(memos[1])
    stream.restart()
    stream.follows(memos[2])
    for memo, columns in zip(memos[3:], (WIDE, NARROW), strict=True):
        server.add(columns)
        later(stream)
        stream.follows(memo)
    assert [json.loads(memo.written[-1]) for memo in memos] == [{"schema": number} for number in (1, 1, 1, 2, 3)]


def test_notes_of_others(server: GlueServer, stream: Stream) -> None:
    """What else a destination notes about the batch is passed over."""
    memo = Notes()
    memo.write('{"upload": "x", "name": "y"}')
    assert stream.follows(memo) == NARROW
    memo.write("no JSON")
    server.versions.clear()
    later(stream)
    assert stream.follows(memo) == NARROW


def test_a_version_by_its_number(server: GlueServer, tmp_path: Path) -> None:
    """A numbered version is followed whatever comes after it, and never asked for again."""
    server.add(WIDE)
    stream = Stream(tmp_path, server.keys(version=0, catalog_id="123456789012"))
    assert stream.follows() == NARROW
    later(stream, 86400)
    assert stream.follows() == NARROW
    asked = {"DatabaseName": "db", "TableName": "t", "VersionId": "0", "CatalogId": "123456789012"}
    assert server.asked == [("GetTableVersion", asked)]
    stream.restart(version=7)
    assert "Glue table db.t version 7 in us-east-1: EntityNotFoundException" in stream.waits()


def test_catalog_table(tmp_path: Path, server: GlueServer) -> None:
    """A dead letter names the table as AWS does."""
    stream = Stream(tmp_path, server.keys())
    assert stream.source.catalog_table == {
        "catalogId": "000000000000",
        "databaseName": "db",
        "tableName": "t",
        "region": "us-east-1",
        "versionId": "LATEST",
        "catalogArn": "arn:aws:glue:us-east-1:000000000000:catalog",
    }
    stream.restart(version=3, region="eu-west-1", role_arn="arn:aws:iam::123456789012:role/lake", catalog_id="42")
    said = stream.source.catalog_table
    assert said is not None
    assert said["roleArn"] == "arn:aws:iam::123456789012:role/lake"
    assert (said["versionId"], said["catalogArn"]) == ("3", "arn:aws:glue:eu-west-1:42:catalog")


# What goes wrong


def test_a_table_that_vanishes(server: GlueServer, stream: Stream) -> None:
    """New batches wait, told which table is missing; those that began go on, and all go on once it is back."""
    under_way = Notes()
    stream.follows(under_way)
    gone = server.versions[:]
    server.versions.clear()
    later(stream)
    reason = stream.waits()
    assert reason.startswith(PLACE + "EntityNotFoundException: Entity Not Found; create it, or check database, table")
    assert stream.follows(under_way) == NARROW
    server.script.append(refusal(503, "ServiceUnavailable"))
    assert "ServiceUnavailable" in stream.waits(), "what it said before is in force no more"
    server.versions.extend(gone)
    assert stream.follows() == NARROW


NO_NEWS: list[Fault] = [
    refusal(400, "ThrottlingException", "Rate exceeded"),
    refusal(500, "InternalServiceException"),
    refusal(503, "ServiceUnavailable"),
    Answer(b"<html>bad gateway</html>", 502),
    Answer(b"no JSON"),
    Answer(b"{}"),
    HangUp(),
]


@pytest.mark.parametrize("fault", NO_NEWS, ids=str)
def test_what_says_nothing_of_the_table(
    server: GlueServer, stream: Stream, fault: Fault, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where Glue cannot be asked its last answer stands, with a warning; without one, batches wait."""
    said: list[dict[str, Any]] = []
    monkeypatch.setattr(observe.log, "warning", lambda event, **more: said.append({"event": event, **more}))
    server.script.append(fault)
    assert stream.waits().startswith(PLACE)
    assert stream.follows() == NARROW
    later(stream)
    server.script.append(fault)
    assert stream.follows() == NARROW
    (warning,) = said
    assert (warning["event"], warning["stream"]) == ("schema.not_refreshed", "app")
    assert warning["reason"].startswith(PLACE)
    server.add(WIDE)
    later(stream)
    assert stream.follows() == WIDE


@pytest.mark.parametrize(
    ("code", "way_out"),
    [
        ("AccessDeniedException", "grant glue:GetTable and glue:GetTableVersion"),
        ("UnrecognizedClientException", "check access_key_id"),
        ("ExpiredTokenException", "check access_key_id"),
        ("GlueEncryptionException", "as scripted"),
    ],
)
def test_what_says_something(server: GlueServer, stream: Stream, code: str, way_out: str) -> None:
    """Whoever may not read the table any more does not go on with it; the reason says what to do, and no secret."""
    stream.follows()
    later(stream)
    server.script.append(refusal(400, code))
    reason = stream.waits()
    assert reason.startswith(f"{PLACE}{code}: as scripted")
    assert way_out in reason
    assert "hush" not in reason


def test_a_wish(server: GlueServer, stream: Stream) -> None:
    """A Retry-After is passed on to whoever decides when to try again."""
    server.script.append(refusal(400, "ThrottlingException", **{"Retry-After": "7"}))
    with pytest.raises(Retry) as waits:
        stream.follows()
    assert waits.value.after_seconds == 7


@pytest.mark.parametrize(
    ("columns", "more", "says"),
    [
        ({"id": "bigint", "tags": "set<string>"}, {}, "column 'tags': invalid type 'set<string>'"),
        ({"u": "uniontype<int,string>"}, {}, "column 'u': invalid type"),
        ({"u": ""}, {}, "column 'u': invalid type ''"),
        ({"a": "int", "A": "int"}, {}, "two columns 'a' and 'A'"),
        ({}, {}, "has no columns; give it some"),
        (
            {},
            {"TargetTable": {"CatalogId": "1", "DatabaseName": "d", "Name": "n"}, "StorageDescriptor": {}},
            "is a link to another table; name that one: catalog_id 1, database d, table n",
        ),
    ],
)
def test_a_table_of_no_use(
    server: GlueServer, stream: Stream, columns: dict[str, str], more: dict[str, Any], says: str
) -> None:
    """A table that changes to what we cannot write makes batches wait, told which column, until it is mended."""
    stream.follows()
    server.add(columns, **more)
    later(stream)
    assert says in stream.waits()
    assert stream.waits().startswith(PLACE)
    server.add(WIDE)
    assert stream.follows() == WIDE


def test_nobody_there(tmp_path: Path, server: GlueServer) -> None:
    """An endpoint where nobody listens is named with the way out."""
    stream = Stream(tmp_path, server.keys(endpoint_url="http://127.0.0.1:1"))
    assert "check that Glue can be reached" in stream.waits()


def test_a_slow_answer(tmp_path: Path, server: GlueServer) -> None:
    """An answer that takes longer than timeout_seconds is none: batches wait, and do not hang."""
    hold = Hold()
    server.script.append(hold)
    stream = Stream(tmp_path, server.keys(timeout_seconds=0.5))
    assert "ReadTimeout" in stream.waits()
    assert server.met.wait(PATIENCE_SECONDS)
    hold.until.set()

    def followed() -> bool:
        try:
            return stream.follows() == NARROW
        except Retry:
            return False  # half a second may be too short for an honest answer, too: a batch asks again

    wait_for(followed, "an answer in time")


def test_side_by_side(server: GlueServer, stream: Stream) -> None:
    """Segments that are under way side by side ask once for all, and follow one version; those that began need not
    wait for a slow answer.
    """
    under_way = Notes()
    stream.follows(under_way)
    server.add(WIDE)
    later(stream)
    hold = Hold(Event())
    server.script.append(hold)
    memos = [Notes() for _ in range(4)]
    threads = [Thread(target=stream.follows, args=(memo,)) for memo in memos]
    for thread in threads:
        thread.start()
    assert server.met.wait(PATIENCE_SECONDS)
    assert stream.follows(under_way) == NARROW
    hold.until.set()
    for thread in threads:
        thread.join()
    assert [memo.written for memo in memos] == [['{"schema": 2}']] * 4
    assert len(server.asked) == 2


# `firehose check`, and the configuration


def test_check(server: GlueServer, stream: Stream, tmp_path: Path) -> None:
    """A check asks Glue each time and leaves nothing behind; what it finds is what batches would wait for."""
    stream.source.check()
    stream.source.check()
    assert len(server.asked) == 2
    assert list(tmp_path.iterdir()) == []
    server.add({"a": "set<int>"})
    with pytest.raises(Retry, match="column 'a'"):
        stream.source.check()
    server.versions.clear()
    with pytest.raises(Retry, match="create it"):
        stream.source.check()


def test_it_does_not_grow(stream: Stream) -> None:
    """Others write the schema: what records hold beyond it is dropped, and nothing is set down beside the data."""
    assert not stream.source.grows
    assert stream.source.document(stream.source.of(batch([b"{}"]), Notes())) is None


@pytest.mark.parametrize(
    ("keys", "place"),
    [
        ({"table": "t"}, "database"),
        ({"database": "my db", "table": "t"}, "database"),
        ({"database": "db", "table": "t", "version": "newest"}, "version"),
        ({"database": "db", "table": "t", "version": -1}, "version"),
        ({"database": "db", "table": "t", "version": True}, "version"),
        ({"database": "db", "table": "t", "refresh_seconds": 0}, "refresh_seconds"),
    ],
)
def test_options(keys: dict[str, Any], place: str) -> None:
    """What cannot be right is refused with its key."""
    with pytest.raises(ValidationError) as refused:
        GlueOptions.model_validate(keys)
    assert [error["loc"] for error in refused.value.errors()] == [(place,)]


# A Glue that is none of ours


@pytest.fixture(scope="module")
def moto() -> Iterator[tuple[str, Any]]:
    """Moto's Glue, and a client that writes its tables."""
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    url = "http://{}:{}".format(*server.get_host_and_port())
    client = boto3.Session("test", "test").client("glue", endpoint_url=url, region_name="us-east-1")
    client.create_database(DatabaseInput={"Name": "lake"})
    yield url, client
    client.close()
    server.stop()


def described(columns: Mapping[str, str]) -> Any:
    """A table as moto's client takes it."""
    return {key: said for key, said in glue_server.table(columns).items() if key != "Name"} | {"Name": "orders"}


def test_moto(moto: tuple[str, Any], tmp_path: Path) -> None:
    """A table that is made, changed, deleted and made again in another implementation of Glue is followed alike."""
    url, client = moto
    where = {"database": "lake", "table": "orders", "endpoint_url": url}
    stream = Stream(tmp_path, {**where, "access_key_id": "test", "secret_access_key": "hush-hush"})
    assert "orders not found" in stream.waits()
    client.create_table(DatabaseName="lake", TableInput=described(NARROW))
    under_way = Notes()
    assert stream.follows(under_way) == NARROW
    client.update_table(DatabaseName="lake", TableInput=described(WIDE))
    later(stream)
    assert stream.follows() == WIDE
    assert stream.follows(under_way) == NARROW
    client.delete_table(DatabaseName="lake", Name="orders")
    later(stream)
    assert "orders not found" in stream.waits()
    client.create_table(DatabaseName="lake", TableInput=described(NARROW))
    assert stream.follows() == NARROW
    stream.restart(version=1)
    assert stream.follows() == NARROW
    stream.source.close()


def test_closing(server: GlueServer, tmp_path: Path) -> None:
    """Whoever is closed lets go of its connections, twice too, and may be used again."""
    stream = Stream(tmp_path, server.keys())
    assert isinstance(stream.source, Followed)
    for _ in range(2):
        stream.source.close()
    assert stream.follows() == NARROW
    stream.source.close()
