"""The service as people run it, in processes of its own: signals, kills, and what it leaves behind."""

from __future__ import annotations

import asyncio
import os
import select
import signal
import socket
import sys
from pathlib import Path
from typing import Any

from programs import PATIENCE_SECONDS
from running import NEVER, Files, Started, imbalances, places_told, samples, started, to_folder


def streams(root: Path, **keys: Any) -> dict[str, Any]:
    return {"app": {"buffering": NEVER, "destination": to_folder(root, compression="gzip"), **keys}}


async def post(one: Started, body: bytes) -> int:
    async with one.client() as client:
        return (await client.post("/ingest/app", content=body)).status_code


async def test_sigterm_drains(tmp_path: Path) -> None:
    """SIGTERM delivers what is buffered and ends with 0."""
    async with started(tmp_path, streams(tmp_path)) as one:
        assert await post(one, b"a\nb\n") == 200
        one.signal(signal.SIGTERM)
        assert await one.ended() == 0
        assert one.files.records() == ["a", "b"]
        assert one.log[-1]["event"] == "service.stopped"


async def test_killed_and_restarted(tmp_path: Path) -> None:
    """After kill -9 of the service a restart on the same folder delivers every acknowledged record once."""
    async with started(tmp_path, streams(tmp_path)) as one:
        sent = [f"{n:04d}" for n in range(500)]
        for at in range(0, 500, 50):
            assert await post(one, "\n".join(sent[at : at + 50]).encode()) == 200
        one.signal(signal.SIGKILL)
        await one.ended()
    async with started(tmp_path, streams(tmp_path)) as two:
        async with two.client() as client:
            answer = await client.post("/v1/streams/app/flush", params={"wait_seconds": PATIENCE_SECONDS})
            assert answer.json()["delivered"]
            page = await places_told(client)
        assert page['firehose_accepted_records_total{stream="app"}'] == 500
        assert set(imbalances(page).values()) == {0}
    assert sorted(two.files.records()) == sent


async def test_sighup(tmp_path: Path) -> None:
    """SIGHUP follows a changed file, and keeps the old configuration where the file is wrong."""
    async with started(tmp_path, streams(tmp_path)) as one, one.client() as client:
        one.files.write({**streams(tmp_path), "web": {"nonsense": 1}})
        one.signal(signal.SIGHUP)
        said = await one.logged("config.invalid")
        assert "delivery_streams.web.nonsense" in "\n".join(said["problems"])
        one.files.write({**streams(tmp_path), "web": streams(tmp_path)["app"]})
        one.signal(signal.SIGHUP)
        await one.logged("config.reloaded")
        assert (await client.post("/ingest/web", content=b"x")).status_code == 200


async def test_delivery_stopped(tmp_path: Path) -> None:
    """A delivery process that does not move harms freshness alone: records are taken, and probes answered in time."""
    async with started(tmp_path, streams(tmp_path)) as one, one.client() as client:
        child = child_of(one)
        await places_told(client)  # the service takes records before that
        os.kill(child, signal.SIGSTOP)
        assert await post(one, b"x") == 200
        ready = await client.get("/readyz")  # that knows no answer yet, and so did not wait for the end of patience
        assert (ready.status_code, "does not answer" in ready.json()["checks"]["delivery"]) == (200, True)
        assert samples((await client.get("/metrics")).text)["firehose_delivery_up"] == 0
        os.kill(child, signal.SIGCONT)
        answer = await client.post("/v1/streams/app/flush", params={"wait_seconds": PATIENCE_SECONDS})
        assert answer.json()["delivered"]
        assert samples((await client.get("/metrics")).text)["firehose_delivery_up"] == 1


async def test_reloads_under_load(tmp_path: Path) -> None:
    """Destinations come and go under load: no imbalance, and the one that stays gets everything once."""
    quick = streams(tmp_path, buffering={"size_mib": 0.01, "interval_seconds": 0.05})
    both = {"app": {"buffering": quick["app"]["buffering"], "destinations": [
        to_folder(tmp_path, name="folder", compression="gzip"), to_folder(tmp_path, "two", name="two")]}}  # fmt: skip
    async with started(tmp_path, quick) as one, one.client() as client:
        await places_told(client)  # the service takes records before that
        sent = 0
        for round_number in range(6):
            if round_number % 2:
                one.files.write(both if round_number == 1 else quick)
                one.signal(signal.SIGHUP)
            for _ in range(40):
                body = "".join(f"{sent + n}\n" for n in range(50))
                assert (await client.post("/ingest/app", content=body.encode())).status_code == 200
                sent += 50
            assert set(imbalances(await places_told(client)).values()) == {0}
        answer = await client.post("/v1/streams/app/flush", params={"wait_seconds": PATIENCE_SECONDS})
        assert answer.json()["delivered"]
        assert set(imbalances(await places_told(client)).values()) == {0}
    assert sorted(map(int, one.files.records())) == list(range(sent))


async def test_first_delivery_half_is_a_fork_and_the_next_a_program(tmp_path: Path) -> None:
    """What begins with the service shares its memory. Where that is killed, one that begins by itself goes on."""
    async with started(tmp_path, streams(tmp_path)) as one, one.client() as client:
        first = child_of(one)
        assert command_of(first) == command_of(one.process.pid)
        await places_told(client)
        for sent in (b"a\n", b"b\n"):
            assert await post(one, sent) == 200
            answer = await client.post("/v1/streams/app/flush", params={"wait_seconds": PATIENCE_SECONDS})
            assert answer.json()["delivered"]
            if sent == b"a\n":
                os.kill(first, signal.SIGKILL)
                assert (await one.logged("delivery.died"))["why"] == "its process ended with exit code -9"
        assert b"firehose.delivery_half" in command_of(child_of(one))
        one.signal(signal.SIGTERM)
        assert await one.ended() == 0
    assert sorted(one.files.records()) == ["a", "b"]  # two objects: those of one second lie in either order


async def test_deliveries_leave_a_core_to_intake(tmp_path: Path) -> None:
    """The delivery half's threads keep off the first core, unless it is the only one; what it starts, hooks' workers
    for one, may run on all.
    """
    async with started(tmp_path, streams(tmp_path)) as one, one.client() as client:
        assert await post(one, b"a\n") == 200
        await client.post("/v1/streams/app/flush", params={"wait_seconds": PATIENCE_SECONDS})
        assert one.files.records() == ["a"]
        half = child_of(one)
        cores = sorted(os.sched_getaffinity(one.process.pid))
        assert sorted(os.sched_getaffinity(half)) == cores, "its main thread starts others"
        assert cores[1:] in [sorted(os.sched_getaffinity(int(task))) for task in os.listdir(f"/proc/{half}/task")] or (
            len(cores) == 1
        )
        assert all(
            sorted(os.sched_getaffinity(int(task))) == cores for task in os.listdir(f"/proc/{one.process.pid}/task")
        )


async def test_fork_dies_with_its_service(tmp_path: Path) -> None:
    """The delivery half of a service that was killed ends, whatever it is at, and frees the folder."""
    async with started(tmp_path, streams(tmp_path)) as one:
        child = os.pidfd_open(child_of(one))
        one.signal(signal.SIGKILL)
        await one.ended()  # with the end of its log, which the child has open, too
        assert select.select([child], [], [], PATIENCE_SECONDS)[0], "it outlives its service"
        os.close(child)


async def test_start_that_fails_leaves_nothing(tmp_path: Path) -> None:
    """It says why, once, and no process is left that could say more."""
    taken = socket.create_server(("127.0.0.1", 0))
    files = Files(tmp_path, {"delivery": "process", "listen": f"127.0.0.1:{taken.getsockname()[1]}"})
    files.write(streams(tmp_path))
    command = (sys.executable, "-W", "error", "-m", "firehose.cli", "serve", "-c", str(files.config))
    process = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    said, complaint = await process.communicate()  # until nobody has them open any more
    taken.close()
    assert (process.returncode, said) == (1, b"")
    assert complaint.startswith(b"service.listen: cannot listen on 127.0.0.1:"), complaint
    assert complaint.count(b"\n") == 1, complaint


async def test_exposure_is_warned_of(tmp_path: Path) -> None:
    """Listening beyond this machine without keys is said at the start."""
    async with started(tmp_path, streams(tmp_path), listen="0.0.0.0:0") as one:
        assert "service.open_to_all" in [said["event"] for said in one.log]


def command_of(pid: int) -> bytes:
    return Path(f"/proc/{pid}/cmdline").read_bytes()


def child_of(one: Started) -> int:
    pid = one.process.pid
    return int(Path(f"/proc/{pid}/task/{pid}/children").read_text().split()[0])
