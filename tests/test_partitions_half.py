"""A delivery half with a partitioned stream cuts when told to, when it drains, and at the stream's thresholds."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import moody
import pytest
from data_folder import DataFolder
from parted import FirstByte
from virtual_time import passed, run

import destinations
from firehose.delivery.pipeline import Line
from firehose.delivery.workshop import Workshop


@pytest.fixture(autouse=True)
def _partitioned(monkeypatch: pytest.MonkeyPatch) -> None:
    built = Workshop._build

    def build(self: Workshop, *of: Any) -> Line:
        return replace(built(self, *of), transforms=(FirstByte(),), partitioned=True, gathered=True)

    monkeypatch.setattr(Workshop, "_build", build)
    monkeypatch.setitem(destinations.TABLE, "moody", moody.TABLE["moody"])


def objects(root: Path) -> list[str]:
    files = (one for one in (root / "out").rglob("*") if one.is_file() and ".partial" not in one.parts)
    return sorted(file.read_text().replace("\n", " ").strip() for file in files)


def test_thresholds_are_the_streams_own(tmp_path: Path) -> None:
    """A partition waits for the stream's interval; a reload that shortens it is followed at once."""

    async def scene() -> None:
        buffering = {"interval_seconds": 900}
        house = DataFolder(tmp_path, app={"buffering": buffering, "destination": moody.block(tmp_path)})
        await house.seal("a1", "b1")
        async with house.delivering() as half:
            await passed(800)
            assert objects(tmp_path) == []
            said = half.stats()
            assert (said["exceeding"], said["places"][0]["last_delivered_ms"]) == ({}, 0)
            assert (said["partitions"], said["places"][0]["pending"]) == ({"app": 2}, 2)
            buffering["interval_seconds"] = 100
            house.follow(app={"buffering": buffering, "destination": moody.block(tmp_path)})
            await half.handle({"do": "reload"})
            await passed(1)
            assert objects(tmp_path) == ["a1", "b1"]
            said = half.stats()
            assert (said["partitions"], said["places"][0]["pending"], said["places"][0]["cuts"]) == ({"app": 0}, 0, 2)
        assert house.sealed_files() == []

    run(scene())


def test_flush_cuts_what_was_announced_before(tmp_path: Path) -> None:
    """A flush that follows an announcement at once waits for its rows, and cuts them with what was there."""

    async def scene() -> None:
        house = DataFolder(tmp_path)
        await house.seal("a1")
        async with house.delivering() as half:
            await passed(1)
            await half.handle(await house.seal("a2", "b1"))
            await half.handle({"do": "flush", "stream": "app"})
            await passed(1)
        assert objects(tmp_path) == ["a1 a2", "b1"]

    run(scene())


def test_drain_cuts_and_delivers(tmp_path: Path) -> None:
    """What is told to stop first delivers what its partitions have gathered; where it cannot, it stays and is delivered
    later, once.
    """

    async def scene() -> None:
        house = DataFolder(tmp_path)
        await house.seal("a1")
        async with house.delivering() as half:
            await passed(1)
            await half.handle(await house.seal("a2", "b1"))
            await half.drain(30)
            assert objects(tmp_path) == ["a1 a2", "b1"]
        moody.feel(tmp_path, "busy")
        await house.seal("a3")
        async with house.delivering() as half:
            await half.drain(30)
        moody.feel(tmp_path, "good")
        async with house.delivering() as half:
            await passed(1)
            await half.drain(30)
        assert Counter(moody.delivered(tmp_path)) == Counter(["a1", "a2", "a3", "b1"])

    run(scene())
