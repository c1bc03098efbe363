"""One stream, several destinations: each gets what it wants, at its own pace, whatever becomes of the others."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from endpoint import Endpoint, Exchange, listening, take
from programs import PATIENCE_SECONDS
from running import NEVER, Running, imbalances, running, to_folder

from firehose.columnar import Columnar
from firehose.contracts import Memo
from firehose.delivery.pipeline import Line, Pipeline
from firehose.formats import Encoded
from firehose.model import Batch, Segment

EVENTS = [{"level": ("error", "info", "debug")[n % 3], "n": n} for n in range(30)]
LINES = "".join(json.dumps(event) + "\n" for event in EVENTS).encode()
ERRORS, REST = '.level == "error"', {"sql": "level <> 'error'"}


def to(root: Path, name: str, **keys: Any) -> dict[str, Any]:
    return to_folder(root, name, **{"name": Path(name).name, **keys})


def stream(*destinations: Mapping[str, Any], **keys: Any) -> dict[str, Any]:
    return {"app": {"buffering": NEVER, "destinations": [dict(one) for one in destinations], **keys}}


def numbers(one: Running, folder: str) -> list[int]:
    return sorted(json.loads(line)["n"] for line in one.files.records(folder))


def those(*levels: str) -> list[int]:
    return [event["n"] for event in EVENTS if event["level"] in levels]  # type: ignore[misc]


async def ends(one: Running) -> dict[str, tuple[int, ...]]:
    """Delivered, filtered, dropped and dead at each destination, once nobody misses a record."""
    assert set(imbalances(await one.metrics()).values()) == {0.0}
    places = (await one.streams())["app"]["destinations"]
    return {name: tuple(of[end] for end in ("delivered", "filtered", "dropped", "dead")) for name, of in places.items()}


async def test_each_gets_what_it_wants(tmp_path: Path) -> None:
    """Conditions in jq and SQL part a stream between two folders; a third one gets everything."""
    alarms, rest = to(tmp_path, "alarms", where=ERRORS), to(tmp_path, "rest", where=REST)
    async with running(tmp_path, stream(alarms, rest, to(tmp_path, "all"))) as one:
        await one.post("app", LINES)
        await one.flush("app")
        assert numbers(one, "alarms") == those("error")
        assert numbers(one, "rest") == those("info", "debug")
        assert numbers(one, "all") == [event["n"] for event in EVENTS]
        assert await ends(one) == {"alarms": (10, 20, 0, 0), "rest": (20, 10, 0, 0), "all": (30, 0, 0, 0)}
        metrics = await one.metrics()
        assert metrics['firehose_filtered_records_total{destination="rest",stream="app"}'] == 10


async def test_what_cannot_be_judged(tmp_path: Path) -> None:
    """It is a dead letter of the destination whose condition it is, in that one's own error output, and says so."""
    own = to_folder(tmp_path, "own", prefix="alarms/")
    alarms = to(tmp_path, "alarms", where=ERRORS, errors=own)
    async with running(tmp_path, stream(alarms, to(tmp_path, "all"), errors=to_folder(tmp_path, "common"))) as one:
        await one.post("app", LINES)
        await one.post("app", b"no json\n")
        await one.flush("app")
        assert await ends(one) == {"alarms": (10, 20, 0, 1), "all": (31, 0, 0, 0)}
        (letter,) = map(json.loads, one.files.records("own"))
        assert (letter["errorCode"], letter["destination"]) == ("Where.NotJson", "alarms")
        assert not (tmp_path / "common").exists()


async def test_with_partitions(tmp_path: Path) -> None:
    """Of a partitioned stream each destination's partitions hold what it wants; one without such rows has no object."""
    prefix = "level=!{partitionKeyFromQuery:level}/"
    alarms = to(tmp_path, "alarms", where='.level != "info"', prefix=prefix)
    late = to(tmp_path, "late", where={"sql": "n >= 20"}, prefix=prefix)
    keys = {"dynamic_partitioning": {"queries": {"level": ".level"}}}
    async with running(tmp_path, stream(alarms, late, **keys)) as one:
        await one.post("app", LINES)
        await one.flush("app")
        assert numbers(one, "alarms/level=error") == those("error")
        assert numbers(one, "late") == list(range(20, 30))
        assert not (tmp_path / "alarms" / "level=info").exists()
        assert await ends(one) == {"alarms": (20, 10, 0, 0), "late": (10, 20, 0, 0)}


@pytest.mark.parametrize("last", [True, False])
async def test_with_partitions_at_some(tmp_path: Path, last: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """A destination that knows no partitions gets the rows of a partitioned stream as they are, and whichever
    of the two has the outcome made, the objects of the other hold one partition each.
    """
    original, kept = Pipeline._keep, asyncio.Event()

    async def keep(self: Pipeline, segment: Segment, line: Line) -> None:
        if line.partitioned == last:
            await kept.wait()
        await original(self, segment, line)
        kept.set()

    monkeypatch.setattr(Pipeline, "_keep", keep)
    lake = to(tmp_path, "lake", prefix="level=!{partitionKeyFromQuery:level}/")
    keys = {"dynamic_partitioning": {"queries": {"level": ".level"}}}
    async with listening(Endpoint()) as sink:
        web = {"type": "http", "name": "web", "url": sink.url, "body": "ndjson"}
        async with running(tmp_path, stream(lake, web, **keys)) as one:
            await one.post("app", LINES)
            await one.flush("app")
            assert numbers(one, "lake/level=error") == those("error")
            assert numbers(one, "lake/level=info") == those("info")
            assert await ends(one) == {"lake": (30, 0, 0, 0), "web": (30, 0, 0, 0)}


async def test_with_columns(tmp_path: Path) -> None:
    """A Parquet file holds what the condition leaves."""
    alarms = to(tmp_path, "alarms", where=ERRORS, format={"type": "parquet"})
    async with running(tmp_path, stream(alarms, to(tmp_path, "all"))) as one:
        await one.post("app", LINES)
        await one.flush("app")
        (file,) = (tmp_path / "alarms").rglob("*.parquet")
        assert pq.read_table(file).column("n").to_pylist() == those("error")
        assert await ends(one) == {"alarms": (10, 20, 0, 0), "all": (30, 0, 0, 0)}


async def test_with_a_transform_that_splits_and_a_backup(tmp_path: Path) -> None:
    """Rows are judged as transforms leave them; a backup judges the source records by a condition of its own."""
    split = {"type": "jq", "query": "range(.n % 3) as $part | {n, $part}"}
    first = to(tmp_path, "first", where=".part == 0")
    backup = to_folder(tmp_path, "backup", where=ERRORS)
    async with running(tmp_path, stream(first, to(tmp_path, "all"), transforms=[split], backup=backup)) as one:
        await one.post("app", LINES)
        await one.flush("app")
        assert numbers(one, "first") == [n for n in range(30) if n % 3]
        assert numbers(one, "backup") == those("error")
        assert await ends(one) == {"first": (20, 10, 10, 0), "all": (30, 0, 10, 0), "backup": (10, 20, 0, 0)}


async def test_a_dead_one_holds_up_nobody(tmp_path: Path) -> None:
    """While one destination cannot be written to, the others get everything; it gets its own once it is mended."""
    (tmp_path / "dead").write_text("a file where a folder should be")
    async with running(tmp_path, stream(to(tmp_path, "dead/x"), to(tmp_path, "well"))) as one:
        for _ in range(5):
            await one.post("app", LINES)
            await one.client.post("/v1/streams/app/flush")
        await until(one, lambda places: places["well"]["delivered"] == 150)
        assert numbers(one, "well") == sorted([event["n"] for event in EVENTS] * 5)
        assert segments(tmp_path) == 5
        (tmp_path / "dead").unlink()
        await one.flush("app")
        assert numbers(one, "dead/x") == numbers(one, "well")
        assert segments(tmp_path) == 0


async def test_a_silent_one_holds_up_nobody(tmp_path: Path) -> None:
    """While an endpoint takes requests and does not answer, a sibling gets everything; it gets its own later."""
    mended = asyncio.Event()

    async def answer_late(at: Exchange) -> None:
        await mended.wait()
        await take(at)

    async with listening(Endpoint(always=answer_late)) as far:
        silent = {"name": "silent", "type": "http", "url": far.url}
        async with running(tmp_path, stream(silent, to(tmp_path, "well"))) as one:
            for _ in range(6):
                await one.post("app", LINES)
                await one.client.post("/v1/streams/app/flush")
            await until(one, lambda places: places["well"]["delivered"] == 180)
            assert len(far.asked) == 3
            mended.set()
            await one.flush("app")
            assert await ends(one) == dict.fromkeys(("silent", "well"), (180, 0, 0, 0))


def segments(root: Path) -> int:
    return len(list((root / "data" / "buffer").rglob("*.sealed")))


@pytest.mark.parametrize("held", [False, True])
async def test_taking_a_dead_one_out_frees_what_it_held(tmp_path: Path, held: bool) -> None:
    """Once the stream has the destination no more, its files go, and its records count as dropped there."""
    prefix = "a" * 300 if held else ""  # a name that no disk takes
    if not held:
        (tmp_path / "gone").write_text("a file where a folder should be")
    async with running(tmp_path, stream(to(tmp_path, "gone", prefix=prefix), to(tmp_path, "well"))) as one:
        await one.post("app", LINES)
        await one.client.post("/v1/streams/app/flush")
        await until(one, lambda places: places["well"]["delivered"] == 30)
        await until(one, lambda places: places["gone"]["held"] == 30 if held else places["gone"]["last_error"] != "")
        assert segments(tmp_path) == 1
        await one.reload(stream(to(tmp_path, "well")))
        await until(one, lambda places: places["gone"]["dropped"] == 30)
        assert segments(tmp_path) == 0
        await one.post("app", LINES)
        await one.flush("app")
        assert await ends(one) == {"gone": (0, 0, 30, 0), "well": (60, 0, 0, 0)}


async def until(one: Running, holds: Callable[[dict[str, Any]], bool]) -> None:
    """Returns once that can be said of the destinations: nobody tells of it by himself."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not holds((await one.streams())["app"]["destinations"]):  # noqa: ASYNC110
            await asyncio.sleep(0.02)


async def test_one_that_is_added_begins_with_the_next_segment(tmp_path: Path) -> None:
    """What was sealed before it came is not its, what is sealed after it came is, a condition included."""
    async with running(tmp_path, stream(to(tmp_path, "old"))) as one:
        await one.post("app", LINES)
        await one.flush("app")
        await one.reload(stream(to(tmp_path, "old"), to(tmp_path, "new", where=ERRORS)))
        await one.post("app", LINES)
        await one.flush("app")
        assert numbers(one, "new") == those("error")
        assert await ends(one) == {"old": (60, 0, 0, 0), "new": (10, 20, 0, 0)}


async def test_condition_follows_the_segments_version(tmp_path: Path) -> None:
    """What is sealed under one condition is judged by it, though another has come meanwhile."""
    (tmp_path / "out").write_text("a file where a folder should be")
    streams = [stream(to(tmp_path, "out", where=f".n < {most}")) for most in (3, 5)]
    async with running(tmp_path, streams[0]) as one:
        await one.post("app", LINES)
        await one.client.post("/v1/streams/app/flush")
        await one.reload(streams[1])
        await one.post("app", LINES)
        (tmp_path / "out").unlink()
        await one.flush("app")
        assert numbers(one, "out") == [0, 0, 1, 1, 2, 2, 3, 4]


async def test_retry_of_each(tmp_path: Path) -> None:
    """Each has a deadline of its own: one gives up and sets its letters down, another goes on trying."""
    (tmp_path / "dead").write_text("a file where a folder should be")
    hasty = to(tmp_path, "dead/hasty", retry={"deadline_seconds": 0}, errors=to_folder(tmp_path, "letters"))
    async with running(tmp_path, stream(hasty, to(tmp_path, "dead/patient"))) as one:
        await one.post("app", LINES)
        await one.client.post("/v1/streams/app/flush")
        await until(one, lambda places: places["hasty"]["dead"] == 30 and places["patient"]["buffered"] == 30)
        assert {json.loads(line)["destination"] for line in one.files.records("letters")} == {"hasty"}
        (tmp_path / "dead").unlink()
        await one.flush("app")
        assert await ends(one) == {"hasty": (0, 0, 0, 30), "patient": (30, 0, 0, 0)}


async def test_columns_are_encoded_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of destinations with the same columns each gets the same file, encoded once; a row that does not fit is a letter
    of each, and one that is away holds up nobody.
    """
    encoded: list[str] = []
    monkeypatch.setattr(Columnar, "encoded", _noted(Columnar.encoded, encoded))
    columns = {"format": {"type": "parquet", "schema": {"columns": {"n": "int", "level": "string"}}}}
    (tmp_path / "away").write_text("a file where a folder should be")
    names = ("a", "b", "away")
    async with running(tmp_path, stream(*(to(tmp_path, name, **columns) for name in names))) as one:
        await one.post("app", LINES + b'{"n":"many"}\n')
        await one.client.post("/v1/streams/app/flush")
        await until(one, lambda places: places["a"]["delivered"] == places["b"]["delivered"] == 30)
        (tmp_path / "away").unlink()
        await one.flush("app")
        files = [file for name in names for file in (tmp_path / name).rglob("*.parquet")]
        assert len(files) == 3
        assert len({file.read_bytes() for file in files}) == 1
        assert pq.read_table(files[0]).column("n").to_pylist() == list(range(30))
        assert await ends(one) == dict.fromkeys(names, (30, 0, 0, 1))
        letters = [json.loads(line)["destination"] for line in one.files.records("data/errors/app")]
        assert sorted(letters) == sorted(names)
    assert len(encoded) == 1
    assert list((tmp_path / "data" / "scratch").iterdir()) == []


def _noted(encode: Callable[..., Encoded], encoded: list[str]) -> Callable[..., Encoded]:
    def noted(self: Columnar, batch: Batch, memo: Memo) -> Encoded:
        encoded.append(str(batch.segment))
        return encode(self, batch, memo)

    return noted


async def test_taking_out_one_with_partitions(tmp_path: Path) -> None:
    """What was gathered by partition for a destination that is gone, and cannot be delivered there, is let go too."""
    keys = {"dynamic_partitioning": {"queries": {"level": ".level"}}}
    prefix = {"prefix": "level=!{partitionKeyFromQuery:level}/"}
    (tmp_path / "gone").write_text("a file where a folder should be")
    well = to(tmp_path, "well", **prefix)
    async with running(tmp_path, stream(to(tmp_path, "gone", **prefix), well, **keys)) as one:
        await one.post("app", LINES)
        await one.client.post("/v1/streams/app/flush")
        await until(one, lambda places: places["well"]["delivered"] == 30 and places["gone"]["last_error"] != "")
        await one.reload(stream(well, **keys))
        await until(one, lambda places: places["gone"]["dropped"] == 30)
        await until(one, lambda _: segments(tmp_path) == 0)  # it goes behind the last of its cuts
        assert await ends(one) == {"gone": (0, 0, 30, 0), "well": (30, 0, 0, 0)}
