"""The streams of the ingest half: how they follow a configuration, and what the delivery half hears when."""

from __future__ import annotations

import asyncio
import errno
import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hooking import until
from programs import PATIENCE_SECONDS
from sites import FlakyDisk
from virtual_time import VirtualRuntime, passed, run

from firehose import config
from firehose.buffer.disk import LocalDisk
from firehose.buffer.ledger import Ledger
from firehose.catalogue import Catalogue
from firehose.config import Config
from firehose.contracts import Lock
from firehose.delivery_half import Message
from firehose.model import Origin
from firehose.runtime import Runtime
from firehose.streams import Streams


class GatedDisk(FlakyDisk):
    """A disk on which a seal takes as long as the test wants, and something else is done before a lane is locked."""

    def __init__(self) -> None:
        super().__init__()
        self.before_lock: Callable[[], None] = lambda: None
        self.entered = threading.Event()
        self.gate = threading.Event()
        self.gate.set()

    def rename(self, source: str, target: str) -> None:
        self.entered.set()
        assert self.gate.wait(300)
        super().rename(source, target)

    def lock(self, path: str) -> Lock | None:
        self.before_lock()
        return super().lock(path)


@dataclass
class Half:
    """An ingest half alone. `told` is what the delivery half would hear."""

    root: Path
    disk: GatedDisk = field(default_factory=GatedDisk)
    told: list[Message] = field(default_factory=list)
    runtime: Runtime = field(default_factory=Runtime)
    options: dict[str, Any] = field(default_factory=dict)  # of the service

    def open(self, **streams: Any) -> Streams:
        first = self.read(**streams)
        catalogue = Catalogue(self.disk, str(self.root))
        opened = Streams(str(self.root), self.disk, self.runtime, first.service, catalogue)
        opened.recover()
        opened.follow(first)
        opened.send = self.told.append
        return opened

    def read(self, **streams: Any) -> Config:
        service = {"reserve_mib": 0, **self.options}
        return config.parse("f.yaml", json.dumps({"service": service, "delivery_streams": streams}))


def to(*names: str) -> dict[str, Any]:
    blocks = [{"type": "folder", "name": name, "path": name} for name in names]
    return {"buffering": {"size_mib": 64, "interval_seconds": 3600}, "destinations": blocks}


@pytest.fixture
def half(tmp_path: Path) -> Iterator[Half]:
    one = Half(tmp_path)
    yield one
    one.disk.gate.set()


async def put(streams: Streams, name: str, count: int) -> None:
    batch = pa.RecordBatch.from_arrays([pa.array([b"x\n"] * count, pa.binary())], names=["record"])
    await streams.intakes[name].appender.append(batch)


def spans(streams: Streams, name: str) -> dict[str, list[tuple[int, int | None]]]:
    return {
        place: [(span.since, span.until) for span in all_of] for place, all_of in streams.entries[name].spans.items()
    }


def test_intervals_that_end_together(half: Half) -> None:
    """Streams whose intervals end in the same second are sealed in others before it, once there are enough."""
    half.runtime, half.options = VirtualRuntime(), {"seals_per_second": 1}
    buffering = {"size_mib": 64, "interval_seconds": 10}

    async def scenario() -> None:
        names = "one", "two", "three"
        streams = half.open(**{name: {**to("out"), "buffering": buffering} for name in names})
        for name in names:
            await put(streams, name, 1)
        sealed = []
        for seconds in (7.9, 0.2, 1, 1):
            await passed(seconds)
            sealed.append([message["segment"][0] for message in half.told])
        assert sealed == [[], ["three"], ["three", "two"], ["three", "two", "one"]]

    run(scenario())


async def test_change_waits_for_a_seal(half: Half) -> None:
    """A segment whose version is chosen is sealed and told of before the catalogue changes, so that what each
    destination is owed is what is sent to it.
    """
    streams = half.open(app=to("one"))
    await put(streams, "app", 3)
    half.disk.gate.clear()
    half.disk.entered.clear()
    sealing = asyncio.create_task(streams.seal("app"))
    await asyncio.to_thread(half.disk.entered.wait, 20)
    following = asyncio.create_task(streams.refollow(half.read(app=to("one", "two"))))
    await asyncio.sleep(0)
    assert (streams.entries["app"].version, following.done()) == (1, False)
    half.disk.gate.set()
    await asyncio.gather(sealing, following)
    assert [message["do"] for message in half.told] == ["sealed", "reload"]
    assert spans(streams, "app") == {"one": [(0, None)], "two": [(3, None)]}
    await streams.close()


async def test_change_is_told_before_its_segments(half: Half) -> None:
    """The delivery half hears of a change before any segment that follows it, even of a stream that is gone."""
    streams = half.open(app=to("one"), web=to("one"))
    await put(streams, "web", 2)
    await streams.refollow(half.read(app=to("one")))
    assert [message["do"] for message in half.told] == ["reload", "sealed"]
    assert (sorted(streams.intakes), sorted(streams.entries)) == (["app"], ["app"])
    await streams.close()


async def test_destination_comes_and_goes(half: Half) -> None:
    """A destination is owed what was sealed while the stream had it, in as many spans as it came and went."""
    streams = half.open(app=to("one"))
    for number, names in enumerate([("one", "two"), ("one",), ("one", "two")], 1):
        await put(streams, "app", number)
        await streams.seal("app")
        await streams.refollow(half.read(app=to(*names)))
    assert spans(streams, "app") == {"one": [(0, None)], "two": [(1, 3), (6, None)]}
    await streams.close()


async def test_same_configuration(half: Half) -> None:
    """Following the same configuration again makes no version."""
    streams = half.open(app=to("one"))
    await streams.refollow(half.read(app=to("one")))
    assert streams.entries["app"].version == 1
    await streams.close()


async def test_limits_follow(half: Half) -> None:
    """Buffering hints and bounds follow a reload at once, and the records stay where they are."""
    streams = half.open(app=to("one"))
    await put(streams, "app", 1)
    await streams.refollow(half.read(app={**to("one"), "buffering": {"size_mib": 0.000002}}))
    await put(streams, "app", 1)
    async with asyncio.timeout(PATIENCE_SECONDS):
        await until(lambda: len(half.told) > 1)  # nobody waits for a seal
    assert [message["do"] for message in half.told] == ["reload", "sealed"]
    await streams.close()


async def test_catalogue_cannot_be_written(half: Half) -> None:
    """A change that cannot be made durable is not made at all."""
    streams = half.open(app=to("one"))
    half.disk.faults.append(("create", errno.ENOSPC))
    with pytest.raises(OSError, match="No space"):
        await streams.refollow(half.read(web=to("one")))
    assert (sorted(streams.intakes), sorted(streams.entries), half.told) == (["app"], ["app"], [])
    await streams.close()


async def test_disk_check(half: Half) -> None:
    """The check of the disk writes: it fails while writing does, and heals by itself; two at once do not disturb."""
    streams = half.open(app=to("one"))
    half.disk.faults.append(("sync", errno.EIO))
    assert "Input/output error" in await streams.disk_check()
    assert await asyncio.gather(*(streams.disk_check() for _ in range(8))) == ["ok"] * 8
    await streams.close()


async def test_seal_of_nothing(half: Half) -> None:
    """Sealing an empty stream does nothing; one that is not there is a KeyError."""
    streams = half.open(app=to("one"))
    assert await streams.seal("app") == 0
    assert half.told == []
    with pytest.raises(KeyError):
        await streams.seal("none")
    await streams.close()


async def test_stray_files_in_the_buffer(half: Half) -> None:
    """A file that somebody left among the folders of the buffer is passed over, by a start and by its stats."""
    streams = half.open(app=to("far"))
    await put(streams, "app", 2)
    await streams.close()
    for stray in ("buffer/notes", "buffer/app/copy"):
        (half.root / stray).write_text("mine")
    again = half.open(app=to("far"))
    assert [(standing.name, standing.accepted) for standing in again.standings({}, None)] == [("app", 2)]
    assert (half.root / "buffer/app/copy").exists()
    await again.close()


async def test_a_name_may_begin_with_a_dot(half: Half) -> None:
    """AWS allows such a name, and a start finds its records again."""
    streams = half.open(**{".app": to("far")})
    await put(streams, ".app", 2)
    await streams.close()
    again = half.open(**{".app": to("far")})
    assert [(standing.name, standing.accepted) for standing in again.standings({}, None)] == [(".app", 2)]
    await again.close()


async def test_origin_that_is_committed_meanwhile(half: Half) -> None:
    """A delivery half that outlived its service may commit a segment while the next start looks at the files: its
    origin is then found where it went.
    """
    streams = half.open(app=to("far"))
    batch = pa.RecordBatch.from_arrays([pa.array([b"x\n"], pa.binary())], names=["record"])
    await streams.intakes["app"].appender.append(batch, Origin("shard", "7"))
    await streams.close()
    (file,) = half.root.rglob("*.sealed")

    def commit() -> None:
        ledger = Ledger(LocalDisk(), str(half.root / "ledger"), print, lambda keys: set())
        place = {"s": ["app", file.parent.name, 0], "d": "far"}
        ledger.append({"t": "delivered", "n": {"delivered": 1}, "o": {"shard": [1, "7"]}, **place})
        ledger.close()
        file.unlink(missing_ok=True)

    half.disk.before_lock = commit
    again = half.open(app=to("far"))
    assert again.intakes["app"].appender.origins() == {"shard": Origin("shard", "7")}
    await again.close()


async def test_sealed_while_the_other_half_is_asked(half: Half) -> None:
    """What is sealed between the question to the delivery half and its answer counts as open, not as nothing."""
    streams = half.open(app=to("far"))
    await put(streams, "app", 3)
    before = streams.sealed_records()
    await streams.seal("app")
    (standing,) = streams.standings(before, {"places": []})
    assert (standing.accepted, standing.places[0].buffered, standing.places[0].imbalance) == (3, 3, 0)
    await streams.close()
