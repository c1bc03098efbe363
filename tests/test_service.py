"""The whole service, both halves in the test's event loop: intake, reload, restart, trouble, and the sums that hold."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import socket
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hooking import until
from running import NEVER, Running, imbalances, running, text, to_folder
from sites import FlakyDisk
from structlog.testing import capture_logs

from firehose import checked_json, config
from firehose.buffer.disk import LocalDisk
from firehose.contracts import Lock
from firehose.http.aws_json import BODY_LIMIT_BYTES
from firehose.model import NewerFormat
from firehose.runtime import Runtime
from firehose.service import Service, StartError, warn_of_exposure

QUICK = {"size_mib": 0.01, "interval_seconds": 0.05}


def stream(root: Path, folder: str = "out", **keys: Any) -> dict[str, Any]:
    """A stream that delivers to a folder, and seals only when it is told to."""
    return {"buffering": NEVER, "destination": to_folder(root, folder), **keys}


def document(root: Path, streams: dict[str, Any], **options: Any) -> dict[str, Any]:
    return {
        "service": {"listen": "127.0.0.1:0", "data_dir": str(root / "data"), "delivery": "inline", **options},
        "delivery_streams": streams,
    }


def service(root: Path, streams: dict[str, Any], disk: LocalDisk | None = None, **options: Any) -> Service:
    """One that is not started yet."""
    loaded = config.parse("firehose.yaml", json.dumps(document(root, streams, **options)))
    return Service(loaded, lambda: loaded, disk or LocalDisk(), Runtime())


# The main job.


async def test_records_become_an_object(tmp_path: Path) -> None:
    """What was posted is delivered whole and in order when it is flushed, and all counts agree."""
    async with running(tmp_path, {"app": stream(tmp_path)}) as one:
        for number in range(3):
            answer = await one.post("app", f"line {number}\n".encode())
            assert (answer.status_code, answer.json()) == (200, {"accepted": 1, "rejected": 0})
        assert (await one.flush("app"))["records"] == 3
        assert one.files.records() == ["line 0", "line 1", "line 2"]
        told = (await one.streams())["app"]
        assert (told["accepted"], told["destinations"]["folder"]["delivered"]) == (3, 3)


async def test_rejected_records(tmp_path: Path) -> None:
    """What is no record is answered 200, counted as rejected, and ends in the error output."""
    streams = {"app": stream(tmp_path, max_record_kib=1)}
    async with running(tmp_path, streams) as one:
        answer = await one.post("app", b'{"a":1}\n{"b":"' + b"x" * 2000 + b'"}\n')
        assert answer.json() == {"accepted": 1, "rejected": 1}
        await one.flush("app")
        told = (await one.streams())["app"]["destinations"]["folder"]
        assert (told["delivered"], told["dead"], told["imbalance"]) == (1, 1, 0)
        (letter,) = [json.loads(line) for line in one.files.records("data/errors/app")]
        assert "RecordTooLarge" in json.dumps(letter)


async def test_strict(tmp_path: Path) -> None:
    """A strict stream answers 400 and takes nothing of a request that holds anything but records."""
    async with running(tmp_path, {"app": stream(tmp_path, strict=True, validate=True)}) as one:
        answer = await one.post("app", b'{"a":1}\n{"b":}\n')
        assert (answer.status_code, answer.json()["accepted"], answer.json()["rejected"]) == (400, 0, 1)
        assert (await one.post("app", b'{"a":1}\n')).status_code == 200
        assert (await one.streams())["app"]["accepted"] == 1


async def test_aws_dialect(tmp_path: Path) -> None:
    """PutRecord stores the bytes as they are; a stream that is not there is AWS's own error."""
    headers = {"X-Amz-Target": "Firehose_20150804.PutRecord"}
    async with running(tmp_path, {"app": stream(tmp_path)}) as one:
        put = {"DeliveryStreamName": "app", "Record": {"Data": "aGVsbG8="}}
        assert (await one.client.post("/", json=put, headers=headers)).status_code == 200
        missing = await one.client.post("/", json={**put, "DeliveryStreamName": "none"}, headers=headers)
        assert (missing.status_code, missing.json()["__type"]) == (400, "ResourceNotFoundException")
        await one.flush("app")
        assert one.files.records() == ["hello"]


async def test_aws_body_limit(tmp_path: Path) -> None:
    """A body that no request of the AWS dialect can need is refused, however large /ingest may be."""
    headers = {"X-Amz-Target": "Firehose_20150804.PutRecordBatch"}
    async with running(tmp_path, {"app": stream(tmp_path)}) as one:
        answer = await one.client.post("/", content=b" " * (BODY_LIMIT_BYTES + 1), headers=headers)
        assert (answer.status_code, answer.json()["__type"]) == (413, "RequestEntityTooLargeException")
        assert (await one.post("app", b" " * (BODY_LIMIT_BYTES + 1))).status_code == 200


async def test_two_destinations(tmp_path: Path) -> None:
    """Each destination of a stream gets every record once."""
    both = [to_folder(tmp_path, "one", name="one"), to_folder(tmp_path, "two", name="two", compression="gzip")]
    async with running(tmp_path, {"app": {"buffering": NEVER, "destinations": both}}) as one:
        await one.post("app", b"a\nb\n")
        await one.flush("app")
        assert one.files.records("one") == one.files.records("two") == ["a", "b"]
        assert set(imbalances(await one.metrics()).values()) == {0}


# Who may ask.


async def test_api_keys(tmp_path: Path) -> None:
    """With keys, records and orders need one, in any of the three ways; health, metrics and probes do not."""
    async with running(tmp_path, {"app": stream(tmp_path)}, api_keys=["first", "second"]) as one:
        for way in ({}, {"X-Api-Key": "third"}, {"Authorization": "Bearer firs"}, {"Authorization": "Basic !"}):
            refused = await one.post("app", b"x", **way)
            assert (refused.status_code, refused.json().keys()) == (401, {"error"})
            assert refused.headers["www-authenticate"]
            assert (await one.client.get("/v1/streams", headers=way)).status_code == 401
            assert (await one.client.post("/v1/streams/app/flush", headers=way)).status_code == 401
        basic = {"Authorization": "Basic dXNlcjpzZWNvbmQ="}
        for way in ({"X-Api-Key": "first"}, {"Authorization": "bearer second"}, basic):
            assert (await one.post("app", b"x", **way)).status_code == 200
            assert (await one.client.get("/v1/streams", headers=way)).status_code == 200
        for path in ("/livez", "/readyz", "/metrics", "/ingest/app"):
            assert (await one.client.get(path)).status_code == 200


async def test_no_redirects(tmp_path: Path) -> None:
    """No path of ours answers with a redirect."""
    async with running(tmp_path, {"app": stream(tmp_path)}) as one:
        for path in ("/ingest", "/ingest/", "/ingest/app/", "/v1/streams/", "/readyz/", "/docs/"):
            for method in ("GET", "POST"):
                assert (await one.client.request(method, path)).status_code in (404, 405)


async def test_pages(tmp_path: Path) -> None:
    """The pages for people and machines are there, and an unknown stream cannot be flushed."""
    async with running(tmp_path, {"app": stream(tmp_path)}) as one:
        for path in ("/", "/livez", "/health", "/ready", "/docs", "/openapi.json"):
            assert (await one.client.get(path)).status_code == 200
        assert (await one.client.post("/v1/streams/none/flush")).status_code == 404
        wrong = await one.client.post("/v1/segments/release", params={"segment": "nonsense"})
        assert (wrong.status_code, "stream/lane/first" in wrong.json()["detail"]) == (400, True)
        held = await one.client.post("/v1/segments/release", params={"segment": "app/lane/1"})
        assert (held.status_code, "not held" in held.json()["detail"]) == (400, True)


# Sums.


async def load(one: Running, streams: list[str], ended: asyncio.Event, sent: Counter[str]) -> None:
    """Posts until told to end, and counts what was acknowledged."""
    number = 0
    while not ended.is_set():
        name = streams[number % len(streams)]
        answer = await one.post(name, b"".join(b'{"n":%d}\n' % (number * 100 + n) for n in range(100)))
        sent[name] += 100 if answer.status_code == 200 else 0
        number += 1


async def watch(one: Running, polls: int) -> list[dict[str, float]]:
    """The imbalances of every poll that had one."""
    pages = [imbalances(await one.metrics()) for _ in range(polls)]
    assert all(pages), "each page tells of every place"
    return [page for page in pages if any(page.values())]


async def test_conservation_at_every_moment(tmp_path: Path) -> None:
    """While records come in and are delivered, the imbalance is 0 whenever one looks."""
    streams = {name: stream(tmp_path, name, buffering=QUICK) for name in ("app", "web")}
    async with running(tmp_path, streams) as one:
        ended, sent = asyncio.Event(), Counter[str]()
        loads = [asyncio.create_task(load(one, ["app", "web"], ended, sent)) for _ in range(3)]
        assert await watch(one, 60) == []
        ended.set()
        await asyncio.gather(*loads)
        for name in streams:
            await one.flush(name)
            assert len(one.files.records(name)) == sent[name] == (await one.streams())[name]["accepted"]


async def test_destinations_change_under_load(tmp_path: Path) -> None:
    """A destination added, and later taken away, under load: no imbalance, and each gets what fell to it once."""
    first, second = (to_folder(tmp_path, name, name=name) for name in ("one", "two"))
    both, alone = ({"app": {"buffering": QUICK, "destinations": some}} for some in ([first, second], [first]))
    async with running(tmp_path, alone) as one:
        ended, sent = asyncio.Event(), Counter[str]()
        loads = [asyncio.create_task(load(one, ["app"], ended, sent)) for _ in range(3)]
        for streams in (both, alone, both, alone):
            await one.reload(streams)
            assert await watch(one, 12) == []
        ended.set()
        await asyncio.gather(*loads)
        await one.flush("app")
        places = (await one.streams())["app"]["destinations"]
        assert [place["imbalance"] for place in places.values()] == [0, 0]
        assert len(one.files.records("one")) == sent["app"] == places["one"]["delivered"]
        assert len(one.files.records("two")) == places["two"]["delivered"] < sent["app"]


async def test_restart_keeps_counts(tmp_path: Path) -> None:
    """A restart forgets nothing that was counted, and delivers what had not been delivered."""
    streams = {"app": stream(tmp_path)}
    async with running(tmp_path, streams) as one:
        await one.post("app", b"a\nb\n")
        await one.flush("app")
        await one.post("app", b"c\n")
    async with running(tmp_path, streams) as one:
        await one.flush("app")
        told = (await one.streams())["app"]
        place = told["destinations"]["folder"]
        assert (told["accepted"], place["delivered"], place["objects"], place["imbalance"]) == (3, 3, 2, 0)
    assert sorted(one.files.records()) == ["a", "b", "c"]


async def test_stop_delivers_what_is_open(tmp_path: Path) -> None:
    """A stop seals and delivers what is buffered, and refuses nothing that was acknowledged."""
    async with running(tmp_path, {"app": stream(tmp_path)}) as one:
        await one.post("app", b"last\n")
    assert one.files.records() == ["last"]


# Reload.


async def test_reload_invalid(tmp_path: Path) -> None:
    """An invalid file changes nothing, and every problem is logged."""
    async with running(tmp_path, {"app": stream(tmp_path)}) as one:
        with capture_logs() as logs:
            await one.reload({"app": stream(tmp_path, bufering=1), "web": {}})
        (said,) = [log for log in logs if log["event"] == "config.invalid"]
        assert len(said["problems"]) == 2
        assert (await one.post("app", b"x")).status_code == 200
        assert (await one.post("web", b"x")).status_code == 404


async def test_reload_empty(tmp_path: Path) -> None:
    """A file that is empty, as it is while it is being written, takes no stream away."""
    async with running(tmp_path, {"app": stream(tmp_path)}) as one:
        one.files.config.write_text("")
        await one.service.reload()
        assert (await one.post("app", b"x")).status_code == 200


async def test_reload_during_the_start(tmp_path: Path) -> None:
    """What was changed while the service starts is followed once it has; where it cannot start nothing is."""
    before, after = (
        config.parse("firehose.yaml", json.dumps(document(tmp_path, {name: stream(tmp_path) for name in names})))
        for names in (["app"], ["app", "web"])
    )
    one = Service(before, lambda: after, LocalDisk(), Runtime())
    await asyncio.gather(one.start(), one.reload())
    assert sorted(one.config.streams) == ["app", "web"]
    other = Service(before, lambda: after, LocalDisk(), Runtime())
    failed, reloaded = await asyncio.gather(other.start(), other.reload(), return_exceptions=True)
    assert (type(failed), reloaded, other.config) == (StartError, None, before)
    await one.stop()


async def test_reload_new_stream(tmp_path: Path) -> None:
    """A stream that is new in the file takes records at once."""
    async with running(tmp_path, {"app": stream(tmp_path)}) as one:
        await one.reload({"app": stream(tmp_path), "web": stream(tmp_path, "web")})
        await one.post("web", b"hello")
        await one.flush("web")
        assert one.files.records("web") == ["hello"]


async def test_reload_changed_prefix(tmp_path: Path) -> None:
    """A changed prefix is a new version, which new objects carry; what was sealed before keeps its own."""

    def prefixed(prefix: str) -> dict[str, Any]:
        return {"app": {"buffering": NEVER, "destination": to_folder(tmp_path, prefix=prefix)}}

    async with running(tmp_path, prefixed("old/")) as one:
        await one.post("app", b"before")
        await one.flush("app")
        await one.reload(prefixed("new/"))
        assert (await one.streams())["app"]["version"] == 2
        await one.post("app", b"after")
        await one.flush("app")
        objects = {str(p.relative_to(tmp_path / "out")): text(p) for p in (tmp_path / "out").rglob("app-*")}
        assert {name.partition("/")[0]: said for name, said in objects.items()} == {"old": "before\n", "new": "after\n"}
        assert all(f"app-{version}-" in name for name, version in zip(sorted(objects), (2, 1), strict=True))


async def test_reload_stream_taken_out_and_put_back(tmp_path: Path) -> None:
    """A stream taken out takes nothing more and still delivers what it has; put back, it goes on where it was."""
    streams = {"app": stream(tmp_path), "web": stream(tmp_path, "web")}
    async with running(tmp_path, streams) as one:
        await one.post("web", b"buffered")
        await one.reload({"app": streams["app"]})
        assert (await one.post("web", b"x")).status_code == 404
        await one.flush("web")
        assert one.files.records("web") == ["buffered"]
        assert (await one.streams())["web"]["state"] == "DELETING"
        await one.reload({**streams, "web": stream(tmp_path, "web", strict=True)})
        told = (await one.streams())["web"]
        assert (told["state"], told["version"], told["accepted"]) == ("ACTIVE", 2, 1)
        await one.post("web", b"again")
        await one.flush("web")
        assert sorted(one.files.records("web")) == ["again", "buffered"]
        assert set(imbalances(await one.metrics()).values()) == {0}


async def test_stream_taken_out_while_stopped(tmp_path: Path) -> None:
    """What a stream had buffered when the service stopped is delivered although the file no longer has it."""
    streams = {"app": stream(tmp_path), "web": stream(tmp_path, "web")}
    async with running(tmp_path, streams, drain_seconds=0) as one:
        await one.post("web", b"buffered")
    async with running(tmp_path, {"app": streams["app"]}) as one:
        await one.flush("web")
        assert one.files.records("web") == ["buffered"]


async def test_reload_says_what_needs_a_restart(tmp_path: Path) -> None:
    """Options of the process do not follow a reload, and it says so."""
    async with running(tmp_path, {"app": stream(tmp_path)}) as one:
        one.files.service = {**one.files.service, "region": "eu-west-1"}
        with capture_logs() as logs:
            await one.reload({"app": stream(tmp_path)})
        assert "config.restart_needed" in [log["event"] for log in logs]


# Trouble.


async def test_disk_fails_and_recovers(tmp_path: Path) -> None:
    """A failing disk is 503 here and at /readyz, and once it works again everything does, without traffic's help."""
    disk = FlakyDisk()
    async with running(tmp_path, {"app": stream(tmp_path)}, disk=disk) as one:
        disk.faults.append(("sync", errno.EIO))
        assert (await one.post("app", b"x")).status_code == 503
        disk.faults.append(("create", errno.EROFS))
        ready = await one.client.get("/readyz")
        assert (ready.status_code, "cannot be written" in ready.json()["checks"]["disk"]) == (503, True)
        assert (await one.client.get("/readyz")).status_code == 200
        answer = await one.post("app", b"y")
        assert answer.status_code == 200
        metrics = await one.metrics()
        assert metrics["firehose_disk_failures_total"] == 1
        await one.flush("app")
        assert set(one.files.records()) - {"x"} == {"y"}
        assert set(imbalances(await one.metrics()).values()) == {0}


async def test_full_disk(tmp_path: Path) -> None:
    """Below reserve_mib of free space nothing is taken: 503 with Retry-After, and /readyz says what to do."""
    streams = {"app": stream(tmp_path)}
    async with running(tmp_path, streams, reserve_mib=10**9) as one:
        answer = await one.post("app", b"x")
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
        ready = await one.client.get("/readyz")
        assert (ready.status_code, "reserve_mib" in ready.json()["checks"]["disk"]) == (503, True)
    async with running(tmp_path, streams) as one:
        assert (await one.post("app", b"x")).status_code == 200
        assert (await one.client.get("/readyz")).status_code == 200


async def test_full_buffer(tmp_path: Path) -> None:
    """At limit_gib a stream answers 503, others go on, and the service stays ready; delivered, it takes again."""
    blocked = tmp_path / "out"
    blocked.write_text("a file where the folder should be")
    streams = {"app": stream(tmp_path, limit_gib=0.00001), "web": stream(tmp_path, "web")}
    async with running(tmp_path, streams) as one:
        statuses = [(await one.post("app", b"x" * 4000)).status_code for _ in range(4)]
        assert (statuses[0], statuses[-1]) == (200, 503)
        assert (await one.post("web", b"x")).status_code == 200
        assert (await one.client.get("/readyz")).status_code == 200
        blocked.unlink()
        await one.flush("app")
        assert (await one.post("app", b"x" * 4000)).status_code == 200


async def failed(one: Running, stream: str) -> dict[str, Any]:
    """How the stream stands at its folder, once a delivery there has failed."""
    while not (place := (await one.streams())[stream]["destinations"]["folder"])["last_error"]:
        pass
    return dict(place)


async def test_unreachable_destination(tmp_path: Path) -> None:
    """A destination that does not work keeps nobody from starting; its last error is told, and it is tried again."""
    (tmp_path / "out").write_text("a file where the folder should be")
    async with running(tmp_path, {"app": stream(tmp_path)}) as one:
        await one.post("app", b"x")
        answer = await one.client.post("/v1/streams/app/flush", params={"wait_seconds": 0.1})
        assert answer.json()["delivered"] is False
        place = await failed(one, "app")
        assert (str(tmp_path / "out") in place["last_error"], place["buffered"], place["imbalance"]) == (True, 1, 0)
        (tmp_path / "out").unlink()
        await one.flush("app")
        assert one.files.records() == ["x"]


async def test_lost_credential(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stream that only the catalogue knows, whose credential is gone, waits and says so; others are not harmed."""
    monkeypatch.setenv("LAKE", str(tmp_path / "lake"))
    lost = {"buffering": NEVER, "destination": {"type": "folder", "path": "${LAKE}"}}
    (tmp_path / "lake").write_text("in the way")
    async with running(tmp_path, {"app": stream(tmp_path), "web": lost}, drain_seconds=0.1) as one:
        await one.post("web", b"kept")
    monkeypatch.delenv("LAKE")
    (tmp_path / "lake").unlink()
    async with running(tmp_path, {"app": stream(tmp_path)}) as one:
        answer = await one.client.post("/v1/streams/web/flush", params={"wait_seconds": 0.2})
        assert answer.json()["delivered"] is False
        assert "LAKE is not set" in (await failed(one, "web"))["last_error"]
        monkeypatch.setenv("LAKE", str(tmp_path / "lake"))
        await one.service.reload()
        await one.flush("web")
        assert one.files.records("lake") == ["kept"]


async def test_secrets_never_show(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A secret of the configuration is in no log, answer, catalogue or representation."""
    monkeypatch.setenv("LAKE_SECRET", "s3cr3t-value")
    lake = {
        "type": "s3",
        "bucket": "lake",
        "endpoint_url": "http://127.0.0.1:9",
        "access_key_id": "key",
        "secret_access_key": "${LAKE_SECRET}",
    }
    streams = {"app": {"buffering": NEVER, "destination": lake}}
    with capture_logs() as logs:
        async with running(tmp_path, streams, api_keys=["k3y-value"], drain_seconds=0) as one:
            await one.post("app", b"x", **{"X-Api-Key": "k3y-value"})
            one.client.headers["X-Api-Key"] = "k3y-value"
            await one.client.post("/v1/streams/app/flush", params={"wait_seconds": 0})
            await until(lambda: "delivery.failed" in repr(logs))
            pages = [(await one.client.get(path)).text for path in ("/v1/streams", "/metrics", "/readyz")]
            said = [*pages, repr(one.service.config), (one.files.data / "catalog").read_text()]
    whole = "\n".join([*said, repr(logs)])
    assert "s3cr3t-value" not in whole
    assert "k3y-value" not in whole


# Starting.


async def test_data_dir_in_use(tmp_path: Path) -> None:
    """A second service on the same data folder does not start, and says why."""
    async with running(tmp_path, {"app": stream(tmp_path)}):
        with pytest.raises(StartError, match="in use by another process"):
            await service(tmp_path, {"app": stream(tmp_path)}).start()


class LettingGo(LocalDisk):
    """A disk on which another has a lock until it was seen."""

    def __init__(self, held: Lock) -> None:
        self._held = held

    def lock(self, path: str) -> Lock | None:
        lock = super().lock(path)
        self._held.close()
        return lock


async def test_data_dir_of_one_that_was_killed(tmp_path: Path) -> None:
    """What a killed service had just forked has its lock until it is a program of its own: that is waited for."""
    (tmp_path / "data").mkdir()
    held = LocalDisk().lock(str(tmp_path / "data/service.lock"))
    assert held is not None
    one = service(tmp_path, {"app": stream(tmp_path)}, LettingGo(held))
    await one.start()
    await one.stop()


async def test_data_dir_not_writable(tmp_path: Path) -> None:
    """A data folder that cannot be made is a StartError that names the option."""
    (tmp_path / "data").write_text("a file")
    with pytest.raises(StartError, match=r"service\.data_dir: .*cannot be written"):
        await service(tmp_path, {"app": stream(tmp_path)}).start()


async def test_port_taken(tmp_path: Path) -> None:
    """A port that another holds is a StartError that names it, and leaves the data folder alone."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(StartError, match=str(port)):
            await service(tmp_path, {}, listen=f"127.0.0.1:{port}").start()
    assert not (tmp_path / "data").exists()


async def test_no_descriptors_to_listen_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the process may have too few a start says so, and does not wait for connections that it never takes."""

    def none_left(listening: socket.socket) -> Iterator[socket.socket]:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    monkeypatch.setattr("firehose.http.server._others", none_left)
    one = service(tmp_path, {"app": stream(tmp_path)})
    with pytest.raises(StartError, match=r"service\.listen: .*Too many open files"):
        await one.start()
    await one.stop()


async def test_newer_data_dir(tmp_path: Path) -> None:
    """A data folder of a newer release is refused by the version that it needs, and is free for that one."""
    (tmp_path / "data").mkdir()
    (tmp_path / "data/catalog").write_bytes(checked_json.encode({"format": 7, "streams": {}}))
    with pytest.raises(NewerFormat, match="format 7"):
        await service(tmp_path, {}).start()
    (tmp_path / "data/catalog").unlink()
    async with running(tmp_path, {}) as one:
        assert (await one.client.get("/readyz")).status_code == 200


async def test_relative_data_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A relative data folder is where the service was started, wherever it goes later."""
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)
    async with running(tmp_path, {"app": stream(tmp_path)}, data_dir="here") as one:
        monkeypatch.chdir(tmp_path / "elsewhere")
        await one.post("app", b"x")
        await one.flush("app")
    assert (tmp_path / "here/catalog").exists()
    assert one.files.records() == ["x"]


@pytest.mark.parametrize(
    ("listen", "keys", "warned"),
    [("0.0.0.0:1", [], True), ("0.0.0.0:1", ["k"], False), ("127.0.0.1:1", [], False), ("[::1]:1", [], False)],
)
def test_exposure(tmp_path: Path, listen: str, keys: list[str], warned: bool) -> None:
    """Listening beyond this machine without keys is warned of."""
    with capture_logs() as logs:
        warn_of_exposure(service(tmp_path, {}, listen=listen, api_keys=keys).config)
    assert ("service.open_to_all" in [log["event"] for log in logs]) is warned


def test_shared_place(tmp_path: Path) -> None:
    """Two streams that write to one place are warned of, by name."""
    with capture_logs() as logs:
        warn_of_exposure(service(tmp_path, {name: stream(tmp_path) for name in ("app", "web")}).config)
    (said,) = [log["what"] for log in logs if log["event"] == "config.shared_place"]
    assert "'app' and 'web'" in said
