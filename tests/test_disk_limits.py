"""A disk that is full, and files that may not grow, for real: the kernel says no to the service as people run it.

`test_disk_faults` reaches every step; here the errors are the system's own, short writes and all. A full disk of one's
own takes a user namespace. Where a machine forbids them the test is skipped; where it only lacks a tool for it (and CI
must not) that is a failure in CI.
"""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import httpx
import pytest
from programs import PATIENCE_SECONDS
from running import Started, imbalances, places_told, started, to_folder
from sent import Sent

STREAMS = ("app", "web")
MOUNTED = 'mount -t tmpfs -o size=4m none "$0" && exec "$@"'


@dataclass(frozen=True, slots=True)
class Machine:
    """A service in processes of its own."""

    started: Started
    client: httpx.AsyncClient

    async def post(self, stream: str, body: bytes) -> httpx.Response:
        return await self.client.post(f"/ingest/{stream}", content=body)

    async def pids(self) -> tuple[int, int]:
        """Of the service, and of its delivery half."""
        pid = self.started.process.pid
        while not (children := _children(pid)):
            assert (await self.client.get("/livez")).status_code == 200
        return pid, children[0]

    async def all_well(self, *sent: Sent) -> None:
        """It takes records as ever, delivers them all once, and the books balance."""
        for one in sent:
            await one.post_until(200, self)
        assert (await self.client.get("/readyz")).status_code == 200
        while any(await self.buffered()):
            for one in sent:
                await self.client.post(f"/v1/streams/{one.stream}/flush", params={"wait_seconds": PATIENCE_SECONDS})
        assert set(imbalances(await places_told(self.client)).values()) == {0}
        for one in sent:
            one.check(self.started.files.records(one.stream))

    async def buffered(self) -> list[int]:
        """Records that have not found their end, of each stream; what is abandoned and not mended yet too."""
        told = (await self.client.get("/v1/streams")).json()
        return [place["buffered"] for stream in told for place in stream["destinations"]] or [1]


@asynccontextmanager
async def machine(root: Path, **options: Any) -> AsyncIterator[Machine]:
    quick = {"size_mib": 0.01, "interval_seconds": 0.1}
    streams = {name: {"buffering": quick, "destination": to_folder(root, name)} for name in STREAMS}
    async with started(root, streams, **options) as one, one.client() as client:
        yield Machine(one, client)


def _children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def _within_small_disk(disk: Path) -> Sequence[str]:
    """The command within which others find a small disk mounted there."""
    within = ("unshare", "-rm", "sh", "-c", MOUNTED, str(disk))
    if shutil.which("unshare") is None:
        _left_out("no unshare: util-linux has it")
    if said := _refusal("unshare", "-rm", "true"):
        pytest.skip(f"this machine forbids user namespaces: {said}")
    if said := _refusal(*within, "true"):
        _left_out(f"no small file system: {said}")
    return within


def _refusal(*command: str) -> str:
    """What is said against it; nothing where it works."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stderr.strip() or f"exit code {done.returncode}" if done.returncode else ""


def _left_out(why: str) -> NoReturn:
    if os.environ.get("CI") == "true":
        pytest.fail(f"{why}; this test is required here, so a skip is a failure")
    pytest.skip(why)


def _fill(path: Path) -> None:
    with path.open("wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))


@pytest.mark.parametrize("limit_bytes", [0, 5000])
async def test_files_that_may_not_grow(tmp_path: Path, limit_bytes: int) -> None:
    """Where a file may not grow past a size, short writes and EFBIG: 503, no false 200, and all well once it may."""
    app, web = Sent("app"), Sent("web")
    async with machine(tmp_path) as one:
        await app.post_until(200, one)
        for pid in await one.pids():
            _, hard = resource.prlimit(pid, resource.RLIMIT_FSIZE)
            resource.prlimit(pid, resource.RLIMIT_FSIZE, (limit_bytes, hard))
        for sent in (app, web):
            while not sent.in_doubt:
                await sent.post(one, lines=60)
        for pid in await one.pids():
            resource.prlimit(pid, resource.RLIMIT_FSIZE, (hard, hard))
        await one.all_well(app, web)


async def test_full_disk(tmp_path: Path) -> None:
    """A small disk that fills up under intake and ledger: 503 until there is room again, then all well."""
    disk = tmp_path / "disk"
    disk.mkdir()
    within = _within_small_disk(disk)
    app, web = Sent("app"), Sent("web")
    async with machine(tmp_path, within=within, data_dir=str(disk / "data"), reserve_mib=0) as one:
        await app.post_until(200, one)
        pid, _ = await one.pids()
        filler = Path(f"/proc/{pid}/root{disk}/filler")
        with pytest.raises(OSError, match="No space left"):
            _fill(filler)
        for sent in (app, web):
            await sent.post_until(503, one)
        assert (await one.client.get("/readyz")).status_code == 503
        os.unlink(filler)
        await one.all_well(app, web)


FORBIDS = 'echo "unshare failed: Operation not permitted" >&2; exit 1'
CANNOT_MOUNT = '[ "$2" = true ] || { echo "mount: permission denied" >&2; exit 1; }'


@pytest.mark.parametrize(
    ("unshare", "said", "fails"),
    [
        pytest.param("", "no unshare", True, id="missing"),
        pytest.param(CANNOT_MOUNT, "no small file system: mount: permission denied", True, id="nothing to mount"),
        pytest.param(FORBIDS, "forbids user namespaces: unshare failed: Op", False, id="forbidden"),
    ],
)
def test_a_skip_is_a_failure_in_ci_unless_the_machine_forbids_it(
    unshare: str, said: str, fails: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A machine that could give a small disk and does not fails the test in CI; one that forbids it skips it, and a
    developer's is always skipped.
    """
    if unshare:
        (tmp_path / "unshare").write_text(f"#!/bin/sh\n{unshare}\n")
        (tmp_path / "unshare").chmod(0o700)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CI", raising=False)
    with pytest.raises(pytest.skip.Exception, match=said):
        _within_small_disk(tmp_path)
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception if fails else pytest.skip.Exception, match=said):
        _within_small_disk(tmp_path)
