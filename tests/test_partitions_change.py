"""Partitions that change while a service runs: each record is delivered once, where the definition has it under which
it was sealed.
"""

from __future__ import annotations

import asyncio
import json
from base64 import b64decode
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import moody
import pytest
from data_folder import DataFolder
from layouts import LAYOUTS, Sent
from programs import PATIENCE_SECONDS
from running import DELIVERY, Running, imbalances, running, to_folder
from structlog.testing import capture_logs
from virtual_time import passed, run

import destinations

MANY = {**DELIVERY, "segments_per_stream": 16}  # so that those which cannot be delivered keep none from being parted
CHANGES = [
    ("a", "b", "asked"),
    ("a", "a elsewhere", "columns", "two columns", "a"),
    ("plain", "a", "plain", "columns"),
    ("columns", "parquet", "parquet by query", "plain"),
]


@pytest.fixture(autouse=True)
def _moody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(destinations.TABLE, "moody", moody.TABLE["moody"])


async def metric(one: Running, name: str) -> float:
    return (await one.metrics()).get(f'{name}{{stream="app"}}', 0.0)


async def grown(one: Running, name: str, before: float) -> None:
    """Waits until the metric is not what it was before."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while await metric(one, name) == before:
            pass


async def all_delivered(one: Running) -> None:
    await one.flush("app")
    assert set(imbalances(await one.metrics()).values()) == {0.0}


@pytest.mark.parametrize("change", CHANGES, ids=", then ".join)
async def test_each_record_once_and_where_it_belongs(tmp_path: Path, change: Sequence[str]) -> None:
    """What is delivered, cut, gathered and sealed before a change lies in the old layout; what is open, or comes
    later, in the new one.
    """
    sent, layouts = Sent(), [LAYOUTS[name] for name in change]
    streams = [{"app": one.stream(moody.block(tmp_path))} for one in layouts]
    async with running(tmp_path, streams[0], delivery=MANY) as one:
        await one.post("app", sent.body("kl", layouts[0]))
        await one.flush("app")
        moody.feel(tmp_path, "busy")
        for number, layout in enumerate(layouts):
            if number:
                await one.post("app", sent.body("k", layout))  # open when it changes
                await one.reload(streams[number])
            await one.post("app", sent.body("kl", layout))
            await one.client.post("/v1/streams/app/flush")  # sealed, and cut as soon as may be
            before = await metric(one, "firehose_active_partitions")
            await one.post("app", sent.body(["k", "l", f"m{number}"], layout, large=True))  # a segment, to be gathered
            if layout.partitioning is not None:
                await grown(one, "firehose_active_partitions", before)
        moody.feel(tmp_path, "good")
        await all_delivered(one)
    sent.check(tmp_path / "out")


@pytest.mark.parametrize(
    "change", [("a", "b"), ("b", "columns"), ("columns", "a elsewhere"), ("plain", "a"), ("parquet", "plain")]
)
def test_what_is_sealed_and_not_looked_at_yet(tmp_path: Path, change: tuple[str, str]) -> None:
    """A delivery half that first hears of segments when the change is over has them as they were sealed."""
    sent, layouts = Sent(), [LAYOUTS[name] for name in change]
    streams = [one.stream(to_folder(tmp_path)) for one in layouts]

    async def scene() -> None:
        house = DataFolder(tmp_path, app=streams[0])
        for layout, stream in zip(layouts, streams, strict=True):
            house.follow(app=stream)
            for keys in ("kl", "k"):
                await house.seal(*sent.body(keys, layout).decode().splitlines())
        async with house.delivering() as half:
            await half.handle({"do": "flush", "stream": "app"})
            await passed(1)
        assert house.sealed_files() == []

    run(scene())
    sent.check(tmp_path / "out")


async def test_changes_while_records_come(tmp_path: Path) -> None:
    """Through changes one upon the other, and back, with records in every state: each is delivered once, where one
    of the layouts has it.
    """
    sent, layouts = Sent(), [LAYOUTS[name] for name in ("a", "columns", "plain", "asked", "a")]
    quick = {"buffering": {"size_mib": 0.001, "interval_seconds": 0.2}}
    streams = [{"app": {**one.stream(to_folder(tmp_path)), **quick}} for one in layouts]
    async with running(tmp_path, streams[0], delivery=MANY) as one:

        async def post(times: int) -> None:
            for _ in range(times):
                assert (await one.post("app", sent.body("kl", *layouts))).status_code == 200

        posting = asyncio.create_task(post(40))
        for following in streams * 3:
            await one.reload(following)
        await posting
        await all_delivered(one)
    sent.check(tmp_path / "out")


async def test_a_limit_that_changes(tmp_path: Path) -> None:
    """A segment keeps to the limit that it is sealed under; partitions of before a change are active behind it."""
    layout, sent, refused = LAYOUTS["a"], Sent(), Sent("refused-")
    end = {"errors": to_folder(tmp_path, "errors", prefix="!{firehose:error-output-type}/")}
    streams = {limit: {"app": {**layout.stream(moody.block(tmp_path), limit=limit), **end}} for limit in (1, 2, 4)}
    moody.feel(tmp_path, "busy")
    async with running(tmp_path, streams[2], delivery=MANY) as one:

        async def post(taken: str, too_many: str) -> None:
            before = await metric(one, "firehose_exceeding_records_total")
            lines = sent.body(taken, layout, large=True) + refused.body(too_many, layout, large=True)
            await one.post("app", lines)
            await grown(one, "firehose_exceeding_records_total", before)

        await post("kl", "m")
        await one.post("app", sent.body("n", layout))  # open: it meets the next limit
        await one.reload(streams[4])
        await post("ko", "p")
        await one.reload(streams[1])
        await post("klo", "q")
        moody.feel(tmp_path, "good")
        await all_delivered(one)
    sent.check(tmp_path / "out")
    letters = [json.loads(line) for line in one.files.records("errors/activePartitionExceeded")]
    told = sorted(json.loads(b64decode(letter["rawData"]))["id"] for letter in letters)
    assert told == sorted(refused.places)


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"queries": {"key": ".b |"}}, "dynamic_partitioning.queries.key"),
        ({"queries": {"other": ".b"}}, "there is no query 'key'"),
        ({"columns": ["nonsense(b)"]}, "dynamic_partitioning.columns"),
    ],
)
async def test_what_is_wrong_changes_nothing(tmp_path: Path, wrong: Mapping[str, Any], says: str) -> None:
    """A change that is refused says why, and the partitions of before go on."""
    layout, sent = LAYOUTS["a"], Sent()
    stream = layout.stream(to_folder(tmp_path))
    async with running(tmp_path, {"app": stream}) as one:
        await one.post("app", sent.body("kl", layout))
        with capture_logs() as logs:
            await one.reload({"app": {**stream, "dynamic_partitioning": wrong}})
        (problems,) = [log["problems"] for log in logs if log["event"] == "config.invalid"]
        assert says in "\n".join(problems)
        await one.post("app", sent.body("kl", layout))
        assert (await one.streams())["app"]["version"] == 1
        await all_delivered(one)
    sent.check(tmp_path / "out")
