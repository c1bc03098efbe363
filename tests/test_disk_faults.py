"""The disk fails under the whole service: no false 200, 503 while it lasts, all well again without a restart.

Both halves in the test's event loop over a door to the real disk that fails where it is told to; records come over
real HTTP. What a kill -9 would leave in the middle of it is opened by a second service.
"""

from __future__ import annotations

import asyncio
import errno
import shutil
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
import structlog
from failing_disk import CHANGES, FailingDisk, FailingWriter, Fault
from programs import PATIENCE_SECONDS
from running import Running, imbalances, running, to_folder
from sent import Sent
from structlog.testing import capture_logs

from firehose import courier, delivery_half, observe
from firehose.buffer import mending
from firehose.service import StartError

QUICK = {"size_mib": 0.001, "interval_seconds": 0.05}
WHOLE = "*/data*"
APP = "*/data/buffer/app*"


def fault(number: int, *steps: str) -> Callable[[str], Fault]:
    return lambda pattern: Fault(frozenset(steps), number, pattern)


# What stops intake where it meets the buffer.
INTAKE = {
    "full at a create": fault(errno.ENOSPC, "create", "mkdir"),
    "full at a write": fault(errno.ENOSPC, "write"),
    "full at a sync": fault(errno.ENOSPC, "sync"),
    "EIO on create": fault(errno.EIO, "create", "mkdir"),
    "EIO on write": fault(errno.EIO, "write"),
    "EIO on sync": fault(errno.EIO, "sync"),
    "EIO on a folder's sync": fault(errno.EIO, "sync_folder"),
    "EIO on rename": fault(errno.EIO, "rename"),
    "read-only": fault(errno.EROFS, *CHANGES),
}
# What keeps nothing from being taken, but from being noted as delivered; and what is delivered from being removed.
LEDGER = {
    "full": (Fault(frozenset({"write"}), errno.ENOSPC, "*/ledger*"),),
    "EIO on write": (Fault(frozenset({"write"}), errno.EIO, "*/ledger*"),),
    "EIO on sync": (Fault(frozenset({"sync"}), errno.EIO, "*/ledger*"),),
    "EIO on the sync, then on the rename": (
        Fault(frozenset({"sync"}), errno.EIO, "*/ledger"),
        Fault(frozenset({"rename"}), errno.EIO, "*/ledger"),
    ),
    "EIO on the sync, then on the folder's": (
        Fault(frozenset({"sync"}), errno.EIO, "*/ledger"),
        Fault(frozenset({"sync_folder"}), errno.EIO, "*/data"),
    ),
    "read-only": (Fault(CHANGES, errno.EROFS, "*/ledger*"),),
}
CLEARING = {"EIO on unlink": fault(errno.EIO, "remove"), "read-only unlink": fault(errno.EROFS, "remove", "rmdir")}


class House:
    """A service with two streams on a failing disk, and what was sent to each."""

    def __init__(self, root: Path, one: Running, disk: FailingDisk) -> None:
        self.root = root
        self.one = one
        self.disk = disk
        self.app, self.web = Sent("app"), Sent("web")

    async def begin(self) -> None:
        """Some records of each stream are delivered, others are open."""
        for sent in (self.app, self.web):
            assert [await sent.post(self.one) for _ in range(2)] == [200, 200]
            await self.one.flush(sent.stream)
            assert await sent.post(self.one) == 200

    async def end(self) -> None:
        """Takes records as ever, delivers all, and has it all add up."""
        for sent in (self.app, self.web):
            await sent.post_until(200, self.one)
            assert [await sent.post(self.one) for _ in range(3)] == [200] * 3
        assert (await self.one.client.get("/readyz")).status_code == 200
        await self.settled()
        for sent in (self.app, self.web):
            sent.check(self.one.files.records(sent.stream))
        assert not list(self.root.glob("*/.partial/*"))

    async def settled(self) -> None:
        """All that was taken is delivered, what was abandoned on the way too, and no file is left of it."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            while await self.buffered():
                for sent in (self.app, self.web):
                    await self.one.flush(sent.stream)
        assert set(imbalances(await self.one.metrics()).values()) == {0}
        assert [place["held"] for place in await self.places()] == [0, 0]

    async def buffered(self) -> int:
        """Records without an end, and bytes of files."""
        files = sum(stream["buffered_bytes"] for stream in (await self.one.streams()).values())
        return int(files + sum(place["buffered"] for place in await self.places()))

    async def places(self) -> list[dict[str, Any]]:
        told = (await self.one.streams()).values()
        return [place for stream in told for place in stream["destinations"].values()]

    async def reopened(self) -> None:
        """What kill -9 would leave now holds every acknowledged record: a second service delivers what the first did
        not.
        """
        left = self.root / "left"
        _copy(self.root / "data", left / "data")
        done = {sent.stream: self.one.files.records(sent.stream) for sent in (self.app, self.web)}
        async with running(left, streams(left)) as two:
            for sent in (self.app, self.web):
                await two.flush(sent.stream)
                found = set(two.files.records(sent.stream)) | set(done[sent.stream])
                assert set(sent.acknowledged) - found == set()
                assert found - set(sent.acknowledged) - set(sent.in_doubt) == set()


def streams(root: Path, **more: Any) -> dict[str, Any]:
    return {name: {"buffering": QUICK, "destination": to_folder(root, name, **more)} for name in ("app", "web")}


def _copy(source: Path, target: Path) -> None:
    """The folder as it was at one moment: where a file goes while it is copied, the copy is begun anew."""
    while True:
        try:
            shutil.copytree(source, target)
            return
        except shutil.Error:
            shutil.rmtree(target)


@pytest.fixture
async def house(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[House]:
    monkeypatch.setattr(mending, "MEND_SECONDS", 0.05)
    monkeypatch.setattr(courier, "RESTART_SECONDS", 0.05)
    monkeypatch.setattr(delivery_half, "AGAIN_SECONDS", 0.05)
    async with opened(tmp_path) as one:
        await one.begin()
        yield one


@asynccontextmanager
async def opened(root: Path) -> AsyncIterator[House]:
    disk = FailingDisk()
    async with running(root, streams(root), disk=disk, commit_seconds=300) as one:
        yield House(root, one, disk)


async def test_a_disk_that_lies_is_found(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where records are acknowledged that the disk has not taken, the look at what a kill leaves says so."""
    with monkeypatch.context() as lying, house.disk.holding_up("*/ledger"):
        lying.setattr(FailingWriter, "write", lambda writer, *chunks: sum(map(len, chunks)))
        assert await house.app.post(house.one) == 200
        # In the middle of a seal the lane's count is there already, and what it counts is waited for in vain.
        with pytest.raises(AssertionError, match=r"left set|'delivered': False"):
            await house.reopened()


@pytest.mark.parametrize("make", INTAKE.values(), ids=INTAKE)
async def test_buffer_of_one_stream(house: House, make: Callable[[str], Fault]) -> None:
    """One stream's buffer fails: it answers 503, the other one takes and delivers as ever."""
    with house.disk.failing(make(APP)):
        await house.app.post_until(503, house.one)
        for _ in range(3):
            await house.app.post(house.one)
            assert await house.web.post(house.one) == 200
        await house.one.flush("web")
        house.web.check(house.one.files.records("web"))
        await house.reopened()
    await house.end()


@pytest.mark.parametrize("make", INTAKE.values(), ids=INTAKE)
async def test_whole_disk(house: House, make: Callable[[str], Fault]) -> None:
    """The whole data folder fails, the ledger and the catalogue with the buffers: 503 everywhere, and unready."""
    with house.disk.failing(make(WHOLE)):
        for sent in (house.app, house.web):
            await sent.post_until(503, house.one)
        assert (await house.one.client.get("/readyz")).status_code == 503
        await house.reopened()
    await house.end()


async def test_whole_disk_and_the_log(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """The log lies on the disk that is full: what was abandoned is mended all the same."""
    said = Mock(**{"write.side_effect": OSError(errno.ENOSPC, "full"), "flush.side_effect": None})
    try:
        observe.configure("json", "info")
        with house.disk.failing(INTAKE["full at a write"](WHOLE)), monkeypatch.context() as full:
            full.setattr(sys, "stderr", said)
            for sent in (house.app, house.web):
                await sent.post_until(503, house.one)
        assert said.write.called
        await house.end()
    finally:
        structlog.reset_defaults()


async def test_below_the_reserve(house: House) -> None:
    """A disk that is full takes nothing, and delivers what it has: there is always room for that."""
    house.disk.full = True
    for sent in (house.app, house.web):
        assert [await sent.post(house.one) for _ in range(3)] == [503] * 3
        await house.one.flush(sent.stream)
        assert (sent.in_doubt, len(sent.refused)) == ([], 15)
        sent.check(house.one.files.records(sent.stream))
    assert (await house.one.client.get("/readyz")).status_code == 503
    house.disk.full = False
    await house.end()


@pytest.mark.parametrize("make", CLEARING.values(), ids=CLEARING)
async def test_what_is_delivered_cannot_be_removed(house: House, make: Callable[[str], Fault]) -> None:
    """Files that stay though they are delivered are not delivered again, and go when they can."""
    with house.disk.failing(make(WHOLE)):
        for sent in (house.app, house.web):
            await sent.post_until(200, house.one)
            await house.one.flush(sent.stream)
            sent.check(house.one.files.records(sent.stream))
        assert house.disk.met
        await house.reopened()
    await house.end()


@pytest.mark.parametrize("faults", LEDGER.values(), ids=LEDGER)
async def test_ledger(house: House, faults: tuple[Fault, ...]) -> None:
    """While nothing can be noted as delivered, records are taken; what is sent again meanwhile is there once."""
    with house.disk.failing(*faults):
        for sent in (house.app, house.web):
            assert [await sent.post(house.one) for _ in range(3)] == [200] * 3
        await house.disk.until(lambda: house.disk.met > 3)
        last = [place["last_error"] for place in await house.places()]
        assert any("disk failed" in said for said in last), last
        await house.reopened()
    await house.end()


@pytest.mark.parametrize("make", INTAKE.values(), ids=INTAKE)
async def test_destination(house: House, make: Callable[[str], Fault]) -> None:
    """A folder that cannot be delivered to keeps its own stream waiting, and no other."""
    with house.disk.failing(make(f"{house.root}/app*")):
        for sent in (house.app, house.web):
            assert [await sent.post(house.one) for _ in range(3)] == [200] * 3
        await house.disk.until(lambda: house.disk.met > 1)
        await house.one.flush("web")
        house.web.check(house.one.files.records("web"))
        assert (await house.one.client.get("/readyz")).status_code == 200
        await house.reopened()
    await house.end()


@pytest.mark.parametrize("name", ["full at a write", "EIO on sync", "EIO on rename", "read-only"])
async def test_catalogue(house: House, name: str) -> None:
    """A change that cannot be written down is not followed, and said; everything goes on as it was. Later it is."""
    with house.disk.failing(INTAKE[name]("*/data/catalog*")):
        with capture_logs() as logs:
            await house.one.reload(streams(house.root, prefix="new/"))
        assert [log["log_level"] for log in logs if log["event"] == "config.not_followed"] == ["error"]
        for sent in (house.app, house.web):
            assert await sent.post(house.one) == 200
            await house.one.flush(sent.stream)
        assert not list(house.root.glob("app/new/*"))
        await house.reopened()
    await house.one.reload(streams(house.root, prefix="new/"))
    await house.end()
    assert list(house.root.glob("app/new/*"))


async def test_slow_sync_of_one_stream(house: House) -> None:
    """Nobody is answered before the sync has ended; records that come meanwhile wait together; other streams go on."""
    with house.disk.holding_up(APP):
        first = asyncio.create_task(house.app.post(house.one))
        await house.disk.until(lambda: house.disk.waiting == 1)
        late = [asyncio.create_task(house.one.post("app", b"late")) for _ in range(20)]
        assert [await house.web.post(house.one) for _ in range(5)] == [200] * 5
        await house.one.flush("web")
        assert (await house.one.client.get("/readyz")).status_code == 200
        assert not any(post.done() for post in (first, *late))
    assert await first == 200
    assert [(await answer).status_code for answer in late] == [200] * 20
    await house.settled()
    lines = house.one.files.records("app")
    assert lines.count("late") == 20
    house.app.check([line for line in lines if line != "late"])


async def test_slow_disk(house: House) -> None:
    """While every sync hangs nothing is acknowledged, and whoever waits is answered when it goes on."""
    with house.disk.holding_up("*"):
        posts = [asyncio.create_task(sent.post(house.one)) for sent in (house.app, house.web)]
        await house.disk.until(lambda: house.disk.waiting >= 2)
        assert (await house.one.client.get("/livez")).status_code == 200
        assert not any(post.done() for post in posts)
    assert await asyncio.gather(*posts) == [200, 200]
    await house.end()


@pytest.mark.parametrize("make", INTAKE.values(), ids=INTAKE)
async def test_start_on_a_failing_disk(house: House, make: Callable[[str], Fault]) -> None:
    """A start that cannot make whole what a kill left says why; the next one finds everything."""
    left = house.root / "left"
    with house.disk.holding_up("*/ledger"):
        assert await house.app.post(house.one) == 200
        _copy(house.root / "data", left / "data")
    disk = FailingDisk()
    with disk.failing(make("*/left/data*")), pytest.raises(StartError, match="data_dir"):
        async with running(left, streams(left), disk=disk):
            pass
    assert disk.met
    await house.settled()
    async with running(left, streams(left), disk=disk) as two:
        await two.flush("app")
        found = set(two.files.records("app")) | set(house.one.files.records("app"))
    assert set(house.app.acknowledged) <= found
