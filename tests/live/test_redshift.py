"""Redshift, whose part PostgreSQL plays: each batch once, whatever breaks at whichever step, and nothing lost."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from typing import Any

import pytest
from batches import Notes, batch
from postgres import OWNER_PASSWORD, Postgres, running
from programs import PATIENCE_SECONDS, Programs, free_port, wait_for
from redshift_copy import Bucket
from redshift_proxy import LOGIN, Cut, Fault, Garbage, Hold, LoseReply, Pass, RedshiftProxy, Say
from stores import Store
from warehouse import Warehouse, event, events, urls
from whole_service import StartService, WholeService

from destinations import redshift
from firehose.contracts import Retry
from firehose.runtime import Runtime, Threads

pytestmark = [
    pytest.mark.live,
    pytest.mark.filterwarnings("ignore:ssl.:DeprecationWarning"),  # of the driver's TLS context
]


@pytest.fixture(scope="module")
def cluster(programs: Programs) -> Iterator[Postgres]:
    yield from running(programs)


@pytest.fixture
def threads() -> Iterator[Threads]:
    pool = Runtime().threads("test", 4)
    yield pool
    pool.close()


@pytest.fixture
def proxy(cluster: Postgres, s3_server: Store) -> Iterator[RedshiftProxy]:
    with RedshiftProxy(cluster.port, Bucket(s3_server.url)) as one:
        yield one
    one.bucket.close()


@pytest.fixture
async def far(cluster: Postgres, proxy: RedshiftProxy, s3_server: Store, threads: Threads) -> AsyncIterator[Warehouse]:
    one = Warehouse(cluster, proxy, s3_server, threads)
    yield one
    await one.close()


async def failed(far: Warehouse, records: list[bytes], **keys: Any) -> Retry:
    """A delivery that fails."""
    with pytest.raises(Retry) as told:
        await far.destination(**keys).deliver(batch(records), Notes())
    assert OWNER_PASSWORD not in told.value.reason
    assert "testtest" not in told.value.reason
    return told.value


# What is loaded.


async def test_json(far: Warehouse) -> None:
    """JSON is loaded by its keys, with types; a manifest names the staged object, and our table names the manifest."""
    records = [event(1, "one", at="2026-03-01T12:00:07"), event(2, None), event(3, "dreißig")]
    receipt = await far.destination(columns=["id", "name", "at"]).deliver(batch(records), Notes())
    assert far.query("SELECT id, name, at FROM events ORDER BY id") == [
        ["1", "one", "2026-03-01 12:00:07"],
        ["2", "", ""],
        ["3", "dreißig", ""],
    ]
    ((url, stream, destination),) = far.query("SELECT manifest, stream, destination FROM firehose_loads")
    assert (stream, destination) == ("app", "far")
    manifest = far.read(url.removeprefix(f"s3://{far.bucket}/"))
    assert urls(manifest) == [{"url": f"s3://{far.bucket}/{receipt.objects[0]}", "mandatory": True}]
    assert url.removeprefix(f"s3://{far.bucket}/").startswith(
        "stage/manifests/2026/03/01/12/app-1-2026-03-01-12-00-07-"
    )
    assert far.names("stage/2026/03/01/12/") == [receipt.objects[0]]


@pytest.mark.parametrize(
    ("records", "copy_options", "staging"),
    [
        ([b"1,a", b'2,"b,c"'], "CSV", {"compression": "none"}),
        ([b"1|a\n", b"2|b,c\n"], "GZIP", {"format": {"type": "raw"}}),
        (
            [b'{"id":1,"name":"a"}', b'{"id":2,"name":"b,c"}'],
            "JSON 'auto'",
            {"compression": "none", "format": {"type": "raw"}},
        ),
    ],
    ids=["csv", "delimited", "documents without delimiters"],
)
async def test_formats(far: Warehouse, records: list[bytes], copy_options: str, staging: dict[str, Any]) -> None:
    """What COPY parses is loaded, whatever the options call it."""
    await far.destination(copy_options=copy_options, staging=staging).deliver(batch(records), Notes())
    assert far.query("SELECT id, name FROM events ORDER BY id") == [["1", "a"], ["2", "b,c"]]


async def test_json_paths(far: Warehouse) -> None:
    """Columns are found by the paths of a file in the bucket."""
    far.put("paths.json", b'{"jsonpaths": ["$.deep.id", "$[\'name\']"]}')
    copy_options = f"JSON 's3://{far.bucket}/paths.json' GZIP"
    await far.destination(copy_options=copy_options).deliver(batch([b'{"deep":{"id":7},"name":"a"}']), Notes())
    assert far.query("SELECT id, name FROM events") == [["7", "a"]]


async def test_parquet(far: Warehouse) -> None:
    """Columns are staged as such, with their size in the manifest; what does not convert is refused by itself, once."""
    columns = {"columns": {"id": "int", "name": "string"}}
    staging = {"compression": "none", "format": {"type": "parquet", "schema": columns}}
    one, memo = far.destination(copy_options="FORMAT AS PARQUET", staging=staging), Notes()
    for _ in range(2):
        receipt = await one.deliver(batch([event(1), b"no JSON", event(3)]), memo)
        assert receipt.refused.table.column("row").to_pylist() == [1]
    assert far.ids() == [1, 3]


async def test_large_batch(far: Warehouse) -> None:
    """A batch of many parts is loaded whole."""
    records = [event(number, "x" * 10, filler="y" * 1000) for number in range(7000)]
    staging = {"compression": "none", "multipart_threshold_mib": 5, "part_size_mib": 5}
    await far.destination(copy_options="JSON 'auto'", staging=staging).deliver(batch(records), Notes())
    assert far.ids() == list(range(7000))


async def test_without_columns(far: Warehouse) -> None:
    """Without columns they are the table's own."""
    await far.destination(columns=[], copy_options="CSV GZIP").deliver(batch([b"1,a,2026-03-01 12:00:07"]), Notes())
    assert far.query("SELECT * FROM events") == [["1", "a", "2026-03-01 12:00:07"]]


async def test_staged_once(far: Warehouse) -> None:
    """A repeat does not send the batch again, and a restart neither; only the manifest is."""
    memo = Notes()
    far.script(("copy", Say("XX000", "not today")))
    with pytest.raises(Retry):
        await far.destination().deliver(batch(events(3)), memo)
    (staged,) = far.names("stage/2026")
    before = far.store.client.head_object(Bucket=far.bucket, Key=staged)["LastModified"]
    far.put(f"{staged}-moved", far.read(staged))
    await far.destination().deliver(batch(events(3)), memo)
    assert far.store.client.head_object(Bucket=far.bucket, Key=staged)["LastModified"] == before
    assert far.ids() == [0, 1, 2]


async def test_staged_anew(far: Warehouse) -> None:
    """What has vanished from the bucket, or would be staged otherwise by now, is staged anew."""
    memo = Notes()
    far.script(("copy", Say("XX000", "not today")))
    with pytest.raises(Retry):
        await far.destination().deliver(batch(events(3)), memo)
    (staged,) = far.names("stage/2026")
    far.store.client.delete_object(Bucket=far.bucket, Key=staged)
    with pytest.raises(Retry) as told:
        await far.destination().deliver(batch(events(3)), memo)
    assert told.value.code == "Redshift.MissingS3File"
    far.script(("copy", Say("XX000", "not today")))
    with pytest.raises(Retry):
        await far.destination().deliver(batch(events(3)), memo)
    assert far.names("stage/2026") == [staged]
    plain: dict[str, Any] = {"copy_options": "JSON 'auto'", "staging": {"compression": "none"}}
    await far.destination(**plain).deliver(batch(events(3)), memo)
    assert far.ids() == [0, 1, 2]
    assert len(memo.written) == 1, "of what was staged before nothing is remembered"


async def test_cleanup(far: Warehouse) -> None:
    """What is loaded is removed where that is wanted, what failed is kept until it is; a second repeat is fine, too."""
    one, memo = far.destination(cleanup="after_copy"), Notes()
    far.script(("copy", Say("XX000", "not today")))
    with pytest.raises(Retry):
        await one.deliver(batch(events(3)), memo)
    assert len(far.names()) == 2
    for _ in range(2):
        await one.deliver(batch(events(3)), memo)
        assert far.names() == []
    assert far.ids() == [0, 1, 2]


async def test_old_loads_are_forgotten(far: Warehouse) -> None:
    """Rows of this destination that are older than `loads_days` go with its next load; others' stay."""
    for name, first in (("far", 0), ("other", 10)):
        await far.destination(name).deliver(batch(events(1, first), first=first), Notes())
    far.query("UPDATE firehose_loads SET loaded_at = loaded_at - interval '8 days'")
    await far.destination(loads_days=9).deliver(batch(events(1, 20), first=20), Notes())
    assert far.loads() == 3
    await far.destination(loads_days=7).deliver(batch(events(1, 30), first=30), Notes())
    assert far.query("SELECT destination, count(*) FROM firehose_loads GROUP BY 1 ORDER BY 1") == [
        ["far", "2"],
        ["other", "1"],
    ]
    assert far.ids() == [0, 10, 20, 30]


# Once.

STEPS = [LOGIN, "set", "lock", "select", "insert", "copy", "delete", "commit"]
BROKEN: list[tuple[str, Fault]] = [
    *((step, Cut()) for step in STEPS),
    *((step, LoseReply()) for step in STEPS),
    *((step, Say("XX000", "as told")) for step in (LOGIN, "lock", "copy", "commit")),
    *((step, Garbage(b"???" * 9)) for step in (LOGIN, "copy")),
]


@pytest.mark.parametrize(("step", "fault"), BROKEN, ids=[f"{type(fault).__name__} {step}" for step, fault in BROKEN])
async def test_broken_at_each_step(far: Warehouse, step: str, fault: Fault) -> None:
    """Wherever the connection breaks or the cluster says no, a retry is asked for, which leaves each row there once."""
    one, memo = far.destination(), Notes()
    await one.deliver(batch(events(1)), Notes())
    far.script(*([("copy", Pass())] if step == "commit" else []), (step, fault))
    with pytest.raises(Retry) as told:
        await one.deliver(batch(events(3, 1), first=1), memo)
    assert str(told.value.code).startswith("Redshift.")
    assert far.proxy.script == []
    wait_for(lambda: _idle(far), "the broken session to end")
    assert far.ids() == ([0, 1, 2, 3] if step == "commit" and isinstance(fault, LoseReply) else [0])
    await one.deliver(batch(events(3, 1), first=1), memo)
    assert far.ids() == [0, 1, 2, 3]
    assert far.loads() == 2


def _idle(far: Warehouse) -> bool:
    """No transaction of a client is open."""
    open_ones = f"""SELECT count(*) FROM pg_stat_activity WHERE datname = '{far.database}'
        AND pid <> pg_backend_pid() AND state <> 'idle'"""
    return far.query(open_ones) == [["0"]]


async def test_repeat_while_the_first_still_runs(far: Warehouse) -> None:
    """A repeat that comes while the cluster is still at the first transaction waits for that, and finds it done."""
    hold, memo = Hold(), Notes()
    await far.destination().deliver(batch(events(1)), Notes())
    far.script(("copy", Pass()), ("commit", hold))
    first = asyncio.create_task(far.destination().deliver(batch(events(3, 1), first=1), memo))
    await asyncio.to_thread(hold.begun.wait)
    second = asyncio.create_task(far.destination().deliver(batch(events(3, 1), first=1), memo))
    await asyncio.to_thread(wait_for, lambda: _waits_for_lock(far), "the repeat to wait")
    hold.until.set()
    await asyncio.gather(first, second)
    assert far.ids() == [0, 1, 2, 3]
    assert len(far.proxy.copies) == 2


def _waits_for_lock(far: Warehouse) -> bool:
    waiting = f"SELECT count(*) FROM pg_stat_activity WHERE datname = '{far.database}' AND wait_event_type = 'Lock'"
    return far.query(waiting) == [["1"]]


async def test_many_at_once(far: Warehouse) -> None:
    """Several instances that deliver the same batches at the same time, and make the table of loads, load each once."""
    batches = [batch(events(5, first), first=first) for first in range(0, 20, 5)]
    every = [far.destination().deliver(one, Notes()) for one in batches for _ in range(3)]
    done = await asyncio.gather(*every, return_exceptions=True)
    assert all(not isinstance(one, BaseException) or isinstance(one, Retry) for one in done), done
    for one in batches:  # who lost the race for making the table asks for a retry
        await far.destination().deliver(one, Notes())
    assert far.ids() == list(range(20))
    assert far.loads() == 4


async def test_loads_one_at_a_time(far: Warehouse) -> None:
    """One destination has one session at a time, however many batches are under way."""
    hold = Hold()
    one = far.destination()
    await one.deliver(batch(events(1)), Notes())
    far.script(("copy", hold))
    under_way = [asyncio.create_task(one.deliver(batch(events(1, n), first=n), Notes())) for n in (1, 2, 3)]
    await asyncio.to_thread(hold.begun.wait)
    await asyncio.to_thread(wait_for, lambda: len(far.names("stage/2026")) == 4, "all to be staged")
    assert not _waits_for_lock(far)
    hold.until.set()
    await asyncio.gather(*under_way)
    assert far.ids() == [0, 1, 2, 3]


async def test_other_identities(far: Warehouse) -> None:
    """Another destination of the stream, or another stream, loads what has the same numbers."""
    await far.destination("one").deliver(batch(events(2)), Notes())
    await far.destination("two").deliver(batch(events(2)), Notes())
    await far.destination("one").deliver(batch(events(2), of=replace(batch(events(2)).segment, stream="b")), Notes())
    assert far.ids() == [0, 0, 0, 1, 1, 1]


# The last word.


async def test_last_look(far: Warehouse) -> None:
    """A batch whose reply was lost counts as delivered when patience ends: no manifest is left for it."""
    one, memo = far.destination(), Notes()
    far.script(("copy", Pass()), ("commit", LoseReply()))
    with pytest.raises(Retry):
        await one.deliver(batch(events(3)), memo)
    receipt = await one.give_up(batch(events(3)), memo)
    assert receipt is not None
    assert receipt.objects == tuple(far.names("stage/2026"))
    assert far.names("stage/errors") == []


async def test_skipped(far: Warehouse) -> None:
    """Of a batch that is given up, a manifest stays where AWS leaves it, with which it can be loaded by hand."""
    one, memo = far.destination(cleanup="after_copy", table="nowhere"), Notes()
    with pytest.raises(Retry):
        await one.deliver(batch(events(3)), memo)
    for _ in range(2):
        assert await one.give_up(batch(events(3)), memo) is None
    (name,) = far.names("stage/errors/manifests/2026/03/01/12/app-1-2026-03-01-12-00-07-")
    (entry,) = urls(far.read(name))
    assert far.names("stage/2026") == [entry["url"].removeprefix(f"s3://{far.bucket}/")]


async def test_skipped_while_nobody_answers(far: Warehouse) -> None:
    """A cluster that cannot be asked any more leaves the manifest, too."""
    one = far.destination(port=free_port())
    assert await one.give_up(batch(events(3)), Notes()) is None
    assert len(far.names("stage/errors/manifests/")) == 1


# What is wrong, and how that is told.


async def test_broken_object(far: Warehouse) -> None:
    """A staged object that was spoilt, or is gone, fails the load, and leaves nothing of it in the table."""
    for spoil, code in (("truncate", "DataLoadFailed"), ("remove", "MissingS3File")):
        memo, hold = Notes(), Hold()
        far.script(("lock", hold))
        delivery = asyncio.create_task(far.destination().deliver(batch(events(300)), memo))
        await asyncio.to_thread(hold.begun.wait)
        (staged,) = far.names("stage/2026")
        whole = far.read(staged)
        if spoil == "truncate":
            far.put(staged, whole[: len(whole) // 2])
        else:
            far.store.client.delete_object(Bucket=far.bucket, Key=staged)
        hold.until.set()
        with pytest.raises(Retry) as told:
            await delivery
        assert told.value.code == f"Redshift.{code}"
        assert far.ids() == []
        far.put(staged, whole)


WRONG: list[tuple[str, dict[str, Any], bytes, str, str]] = [
    ("table", {"table": "nowhere"}, event(1), "TableNotFound", 'relation "nowhere" does not exist'),
    ("schema", {"table": "no.where"}, event(1), "TableNotFound", "does not exist"),
    ("column", {"columns": ["id", "nothing"]}, event(1), "ColumnNotFound", 'column "nothing"'),
    ("database", {"database": "nowhere"}, event(1), "DatabaseNotFound", 'database "nowhere" does not exist'),
    ("password", {"password": "hush-hush"}, event(1), "AuthenticationFailed", "password authentication failed"),
    ("nobody listens", {"port": 1}, event(1), "ConnectionFailed", "refused"),
    ("too long", {}, event(1, "eleven long"), "DataLoadFailed", "value too long"),
    ("null", {}, b'{"name":"x"}', "DataLoadFailed", "not-null constraint"),
    ("no number", {}, b'{"id":"one"}', "DataLoadFailed", "invalid input syntax"),
    ("no JSON", {}, b"{broken", "DataLoadFailed", "stl_load_errors"),
    ("role", {"iam_role": "arn:aws:iam::123456789012:role/r"}, event(1), "AccessDenied", "not authorized to assume"),
]  # fmt: skip


@pytest.mark.parametrize(("keys", "record", "code", "said"), [row[1:] for row in WRONG], ids=[row[0] for row in WRONG])
async def test_wrong(far: Warehouse, keys: dict[str, Any], record: bytes, code: str, said: str) -> None:
    """Each trouble asks for a retry that says what it is, by AWS's name, and loads nothing."""
    told = await failed(far, [event(0), record], **keys)
    assert told.code == f"Redshift.{code}"
    assert said in told.reason
    assert far.ids() == []


async def test_statement_timeout(far: Warehouse, monkeypatch: pytest.MonkeyPatch) -> None:
    """A load that takes too long is cancelled by the cluster itself; nothing of it stays, and it can be tried again."""
    monkeypatch.setattr(redshift, "GRACE_SECONDS", float(PATIENCE_SECONDS))
    far.query(
        "CREATE FUNCTION slow() RETURNS trigger AS 'BEGIN PERFORM pg_sleep(600); RETURN NEW; END' LANGUAGE plpgsql"
    )
    far.query("CREATE TRIGGER slow BEFORE INSERT ON events FOR EACH ROW EXECUTE FUNCTION slow()")
    told = await failed(far, events(1), copy_timeout_seconds=1)
    assert told.code == "Redshift.QueryCancelled"
    far.query("DROP TRIGGER slow ON events")
    await far.destination().deliver(batch(events(1)), Notes())
    assert far.ids() == [0]


async def test_silent_in_the_middle(far: Warehouse, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cluster that falls silent in a load is left after a while; while it still holds the lock, nothing is loaded."""
    monkeypatch.setattr(redshift, "GRACE_SECONDS", 0.2)
    hold, memo = Hold(), Notes()
    await far.destination().deliver(batch(events(1)), Notes())
    one = far.destination(copy_timeout_seconds=1)
    far.script(("copy", hold))
    with pytest.raises(Retry, match="does not answer in time") as told:
        await one.deliver(batch(events(3, 1), first=1), memo)
    assert told.value.code == "Redshift.ConnectionFailed"
    with pytest.raises(Retry):  # the lock is not to be had
        await one.deliver(batch(events(3, 1), first=1), memo)
    assert far.ids() == [0]
    hold.until.set()
    await asyncio.to_thread(wait_for, lambda: _idle(far), "the first session to end")
    await far.destination().deliver(batch(events(3, 1), first=1), memo)
    assert far.ids() == [0, 1, 2, 3]


# firehose check


async def checked(far: Warehouse, **keys: Any) -> str:
    with pytest.raises(Retry) as told:
        await far.destination(**keys).check()
    assert "\n" not in told.value.reason
    return told.value.reason


async def test_check(far: Warehouse) -> None:
    """A good place passes, before the table of loads is made and after, and nothing is left behind."""
    await far.destination(cleanup="after_copy").check()
    assert far.names() == []
    assert far.query("SELECT to_regclass('firehose_loads') IS NULL") == [["t"]]
    await far.destination().deliver(batch(events(1)), Notes())
    await far.destination().check()
    assert far.ids() == [0]


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"host": "no-such-host.invalid"}, "cannot be resolved"),
        ({"port": 1}, "refused; check host and port"),
        ({"sslmode": "verify-full"}, "the server takes no TLS; check sslmode"),
        ({"password": "hush-hush"}, "check user and password"),
        ({"database": "nowhere"}, "check the key database"),
        ({"table": "nowhere"}, 'relation "nowhere" does not exist'),
        ({"columns": ["id", "nothing"]}, 'column "nothing" of relation "events" does not exist'),
        ({"staging": {"bucket": "nobody-made-this"}}, "NoSuchBucket"),
        ({"staging": {"secret_access_key": "wrong-wrong"}}, "SignatureDoesNotMatch"),
    ],
    ids=str,
)
async def test_check_finds(far: Warehouse, keys: dict[str, Any], said: str) -> None:
    """Each thing that is wrong is told in one line."""
    assert said in await checked(far, **keys)


async def test_check_finds_missing_rights(far: Warehouse) -> None:
    """A right that is missing is found before any batch needs it; given, the load goes through."""
    far.query(f"CREATE ROLE r_{far.database} LOGIN PASSWORD 'pass-pass'; REVOKE CREATE ON SCHEMA public FROM public")
    who = {"user": f"r_{far.database}", "password": "pass-pass"}
    assert "no right to INSERT into events" in await checked(far, **who)
    far.query(f"GRANT INSERT ON events TO {who['user']}")
    assert "make it with: CREATE TABLE IF NOT EXISTS firehose_loads" in await checked(far, **who)
    await far.destination().deliver(batch(events(1)), Notes())  # as the owner, who makes the table
    assert "no right to SELECT in firehose_loads" in await checked(far, **who)
    far.query(f"GRANT SELECT, INSERT, DELETE ON firehose_loads TO {who['user']}")
    await far.destination(**who).check()
    await far.destination(**who).deliver(batch(events(1, 1), first=1), Notes())
    assert far.ids() == [0, 1]


async def test_check_while_a_load_is_under_way(far: Warehouse) -> None:
    """A check does not wait for a load that has locked the table."""
    hold = Hold()
    await far.destination().deliver(batch(events(1)), Notes())
    far.script(("copy", Pass()), ("commit", hold))
    loading = asyncio.create_task(far.destination().deliver(batch(events(1, 1), first=1), Notes()))
    await asyncio.to_thread(hold.begun.wait)
    await far.destination(columns=[]).check()
    hold.until.set()
    await loading


# The whole service.


def stream(far: Warehouse, **keys: Any) -> dict[str, Any]:
    return {"app": {"buffering": {"size_mib": 0.01, "interval_seconds": 1}, "destination": far.block(**keys)}}


def post(service: WholeService, first: int, count: int = 500) -> None:
    body = b"".join(one + b"\n" for one in events(count, first))
    assert service.post("/ingest/app", body).status_code == 200


async def test_delivered(far: Warehouse, start_service: StartService) -> None:
    """What a log agent posts is in the table, once, and the books balance."""
    service = start_service(stream(far))
    for first in range(0, 3000, 500):
        post(service, first)
    service.deliver_all("app")
    assert far.ids() == list(range(3000))
    assert service.place("app")["dead"] == 0
    assert far.loads() > 1


async def test_delivery_killed_at_commit(far: Warehouse, start_service: StartService) -> None:
    """Kill -9 of the delivery half while the cluster commits: the next one waits for that, and loads nothing twice."""
    hold = Hold()
    service = start_service(stream(far))
    post(service, 0)
    service.deliver_all("app")
    far.script(("copy", Pass()), ("commit", hold))
    post(service, 500)
    wait_for(hold.begun.is_set, "a commit")
    service.kill_delivery()
    wait_for(lambda: _waits_for_lock(far), "the next one to wait")
    hold.until.set()
    service.deliver_all("app")
    assert far.ids() == list(range(1000))


async def test_everything_killed_in_turn(
    far: Warehouse, start_service: StartService, cluster: Postgres, s3_server: Store
) -> None:
    """The cluster, the delivery half and the whole service are killed under load: each record is there, once."""
    service = start_service(stream(far))
    post(service, 0)
    wait_for(lambda: service.place("app")["delivered"] > 0, "a delivery")
    cluster.program.kill()
    post(service, 500)
    wait_for(lambda: "check host and port" in service.last_error("app"), "the failure to be told")
    service.kill_delivery()
    post(service, 1000)
    cluster.start()
    post(service, 1500)
    service.kill()
    service.start()
    post(service, 2000)
    service.deliver_all("app")
    assert far.ids() == list(range(2500))


async def test_past_the_deadline(far: Warehouse, start_service: StartService, tmp_path: Any) -> None:
    """What the cluster does not take in time is dead letters with AWS's code, and a manifest; the rest is delivered."""
    streams = stream(far, retry={"deadline_seconds": 0}, cleanup="after_copy")
    streams["app"]["errors"] = {"type": "folder", "path": str(tmp_path / "errors")}
    service = start_service(streams)
    post(service, 0)
    service.deliver_all("app")
    service.post("/ingest/app", event(7000) + b"\n" + event(7001, "eleven long") + b"\n")
    service.deliver_all("app")
    post(service, 500)
    service.deliver_all("app")
    assert far.ids() == list(range(1000))
    assert (service.place("app")["delivered"], service.place("app")["dead"]) == (1000, 2)
    files = [path for path in (tmp_path / "errors").rglob("*") if path.is_file() and ".partial" not in path.parts]
    assert all("redshift-failed" in str(path) for path in files)
    letters = [json.loads(line) for path in files for line in path.read_text().splitlines()]
    assert {letter["errorCode"] for letter in letters} == {"Redshift.DataLoadFailed"}
    assert sorted(json.loads(base64.b64decode(letter["rawData"]))["id"] for letter in letters) == [7000, 7001]
    assert len(far.names("stage/errors/manifests/")) == 1
    assert len(far.names()) == 3  # with the object that it names, and the manifest that was tried
