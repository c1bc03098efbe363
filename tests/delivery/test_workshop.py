"""What a segment runs through: by its own version, and by the newest."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from batches import Notes, batch, segment
from structlog.testing import capture_logs

from firehose import config, registry
from firehose.buffer.disk import LocalDisk
from firehose.catalogue import Catalogue
from firehose.contracts import Destination, Refused, Retry
from firehose.delivery.pipeline import Obstructed
from firehose.delivery.workshop import Workshop, merged_definition
from firehose.model import Outcome, Receipt
from firehose.partitioning.step import Partition
from firehose.runtime import Runtime, Threads
from firehose.stream_config import DestinationBlock

Block = Mapping[str, Any]


class Place:
    """A data folder whose catalogue is written and read as the two halves do, and a workshop over it."""

    def __init__(self, root: Path, threads: Threads) -> None:
        self.root = root
        self.variables: dict[str, str] = {}
        self.lookups = 0
        self._writes = Catalogue(LocalDisk(), str(root))
        self.catalogue = Catalogue(LocalDisk(), str(root))
        self.workshop = Workshop(self.catalogue, str(root), "us-east-1", LocalDisk(), threads, Runtime(), self._lookup)

    def _lookup(self, name: str) -> str | None:
        self.lookups += 1
        return self.variables.get(name)

    def follow(self, **streams: Block) -> None:
        """A new configuration, of which every version is still needed."""
        kept = {name: set(entry.definitions) for name, entry in self._writes.entries.items()}
        self._writes.reconcile(streams, 0, lambda stream: 0, lambda stream: kept.get(stream, set()))
        self.catalogue.reload()
        self.workshop.forget()

    def folder(self, path: str, **more: Any) -> Block:
        return {"type": "folder", "path": str(self.root / path), **more}

    async def deliver(self, version: int, *, to: str = "folder", errors: bool = False) -> Receipt:
        of = segment([b"x"], version=version)
        async with self.workshop.line(of, to) as line:
            door = line.errors if errors else line.destination
            return await door.deliver(batch([b"x"], of=of, partition="t" if errors else ""), Notes())

    async def partitions(self, version: int, to: str = "folder") -> list[tuple[str, str]]:
        """Namespace and name of the keys that a segment's partitions are made of."""
        async with self.workshop.line(segment([b"x"], version=version), to) as line:
            steps = [one for one in line.transforms if isinstance(one, Partition)]
            assert line.partitioned == bool(steps)
            return [key for step in steps for key in step.keys]

    def files(self, path: str) -> list[str]:
        folder = self.root / path
        found = (one for one in folder.rglob("*") if one.is_file() and ".partial" not in one.parts)
        return sorted(str(one.relative_to(folder)) for one in found)


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    threads = Runtime().threads("test", 2)
    yield Place(tmp_path, threads)
    threads.close()


async def test_shape_follows_the_segment_and_place_the_newest(place: Place) -> None:
    """Prefix, compression and delimiter are those that held when the segment was sealed; the bucket is today's."""
    place.follow(app={"destination": place.folder("old", prefix="a/", compression="gzip", delimiter="none")})
    place.follow(app={"destination": place.folder("new", prefix="b/", compression="none", delimiter="newline")})
    await place.deliver(1)
    await place.deliver(2)
    assert place.files("old") == []
    first, second = place.files("new")
    assert first.startswith("a/")
    assert first.endswith(".gz")
    assert second.startswith("b/")
    assert (place.root / "new" / second).read_bytes() == b"x\n"


async def test_key_that_an_old_version_left_out_stays_out(place: Place) -> None:
    """What was not said when the segment was sealed is not taken from today's definition."""
    place.follow(app={"destination": place.folder("out")})
    place.follow(app={"destination": place.folder("out", prefix="b/", compression="gzip")})
    await place.deliver(1)
    (name,) = place.files("out")
    assert not name.startswith("b/")
    assert not name.endswith(".gz")


async def test_removed_destination_still_gets_what_is_its(place: Place) -> None:
    """A destination taken out of the file gets its old segments, as it was defined then."""
    place.follow(app={"destinations": [place.folder("one", name="one"), place.folder("two", name="two")]})
    place.follow(app={"destinations": [place.folder("one", name="one")]})
    await place.deliver(1, to="two")
    assert len(place.files("two")) == 1


async def test_removed_stream_still_gets_delivered(place: Place) -> None:
    """A stream taken out of the file keeps its definition as long as a segment needs it."""
    place.follow(app={"destination": place.folder("out")})
    place.follow(other={"destination": place.folder("elsewhere")})
    await place.deliver(1)
    assert len(place.files("out")) == 1


async def test_changed_type_keeps_the_old_one_for_old_segments(place: Place) -> None:
    """Keys of another type of destination are not mixed into an old segment's block."""
    place.follow(app={"destination": place.folder("out", name="main", prefix="a/")})
    place.follow(app={"destination": {"type": "s3", "name": "main", "bucket": "lake"}})
    await place.deliver(1, to="main")
    assert len(place.files("out/a")) == 1


async def test_missing_reference_names_the_variable_and_recovers(place: Place) -> None:
    """A reference that does not resolve asks for patience in words that name it; once it resolves all goes on."""
    place.follow(app={"destination": {"type": "folder", "path": "${LAKE}"}})
    with pytest.raises(Obstructed, match="LAKE"):
        await place.deliver(1)
    place.variables["LAKE"] = str(place.root / "out")
    await place.deliver(1)
    assert len(place.files("out")) == 1


async def test_unknown_stream_says_what_to_do(place: Place) -> None:
    """A stream that the catalogue does not know asks for patience, not for anything to be thrown away."""
    with pytest.raises(Obstructed, match="add it to the configuration"):
        await place.deliver(1)


HANDED = "!{partitionKeyFromLambda:%s}/"


async def test_partitions_follow_the_segments_version(place: Place) -> None:
    """Whether there are partitions, and what they are made of, is what held when the segment was sealed."""
    by = {"transforms": [{"type": "append_delimiter"}], "destination": place.folder("out", prefix="logs/")}
    place.follow(app=by)
    place.follow(app={**by, "dynamic_partitioning": {"columns": ["old"]}})
    place.follow(app={**by, "dynamic_partitioning": {"columns": ["new", "newer"]}})
    assert await place.partitions(1) == []
    assert await place.partitions(2) == [("column", "old")]
    assert await place.partitions(3) == [("column", "new"), ("column", "newer")]


async def test_partitions_come_before_delimiters(place: Place) -> None:
    """Keys are read from records to which nothing is appended yet, as with AWS."""
    transforms = [{"type": "append_delimiter", "delimiter": "|"}, {"type": "csv_to_json", "columns": ["a"]}]
    out = place.folder("out", prefix="logs/")
    place.follow(app={"transforms": transforms, "dynamic_partitioning": {"columns": ["a"]}, "destination": out})
    async with place.workshop.line(segment([b"x"]), "folder") as line:
        assert [type(step).__name__ for step in line.transforms] == ["CsvToJson", "Partition", "AppendDelimiter"]


async def test_one_partition_for_all_destinations(place: Place) -> None:
    """A partition has the keys of every destination's prefix, whichever destination asks first; a backup has none."""
    two = [place.folder("one", name="one", prefix=HANDED % "a"), place.folder("two", name="two", prefix=HANDED % "b")]
    place.follow(app={"destinations": two, "backup": place.folder("all"), "dynamic_partitioning": {}})
    keys = [("partitionKeyFromLambda", "a"), ("partitionKeyFromLambda", "b")]
    assert await place.partitions(1, to="two") == await place.partitions(1, to="one") == keys
    async with place.workshop.line(segment([b"x"]), "backup") as line:
        assert not line.partitioned
        assert not line.transforms


async def test_errors_left_out_go_under_data_dir(place: Place) -> None:
    """Without an errors block dead letters lie in a folder of the stream's own under the data folder."""
    place.follow(app={"destination": place.folder("out")})
    await place.deliver(1, errors=True)
    assert len(place.files("errors/app")) == 1


async def test_errors_block_is_the_newest(place: Place) -> None:
    """Dead letters of old segments go where today's errors block says."""
    place.follow(app={"destination": place.folder("out"), "errors": place.folder("e1")})
    place.follow(app={"destination": place.folder("out"), "errors": place.folder("e2")})
    await place.deliver(1, errors=True)
    assert (place.files("e1"), len(place.files("e2"))) == ([], 1)


async def test_schemas_are_kept_by_stream_and_destination(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """A change of the definition leads to no other folder of a schema's versions; another destination does."""
    folders: list[str] = []
    made = registry.destination

    def noted(block: DestinationBlock, site: registry.Site) -> Destination:
        folders.extend([site.schemas] if site.purpose == "data" else [])
        return made(block, site)

    monkeypatch.setattr(registry, "destination", noted)
    place.follow(app={"destination": place.folder("a")})
    await place.deliver(1)
    place.follow(app={"destination": place.folder("b", prefix="x/")})
    await place.deliver(2)
    place.follow(app={"destination": place.folder("b", name="other")})
    await place.deliver(3, to="other")
    above = str(place.root / "schemas" / "app")
    assert folders == [f"{above}/folder", f"{above}/folder", f"{above}/other"]


async def test_line_is_built_once(place: Place) -> None:
    """The definition is read once for all segments of a version, and anew after a reload."""
    place.follow(app={"destination": {"type": "folder", "path": "${LAKE}"}})
    place.variables["LAKE"] = str(place.root / "one")
    await place.deliver(1)
    read = place.lookups
    for _ in range(3):
        await place.deliver(1)
    assert place.lookups == read
    place.variables["LAKE"] = str(place.root / "two")
    place.workshop.forget()
    await place.deliver(1)
    assert len(place.files("two")) == 1


def test_retry_options_are_the_newest_and_read_once(place: Place) -> None:
    """A deadline follows the newest definition, a destination's own before the stream's, read once for all segments."""
    place.follow(app={"destination": place.folder("out", prefix="${X}"), "retry": {"deadline_seconds": 5}})
    place.variables["X"] = "x/"
    assert [place.workshop.retry("app", "folder").deadline_seconds for _ in range(3)] == [5] * 3
    assert place.lookups == 1
    place.follow(
        app={"destination": place.folder("out", retry={"deadline_seconds": 7}), "retry": {"deadline_seconds": 5}}
    )
    assert place.workshop.retry("app", "folder").deadline_seconds == 7


def test_retry_options_that_cannot_be_read_set_no_deadline(place: Place) -> None:
    """While the definition does not resolve nothing is given up, and the next look is a fresh one."""
    place.follow(app={"destination": place.folder("${GONE}", retry={"deadline_seconds": 7})})
    assert place.workshop.retry("app", "folder").deadline_seconds is None
    place.variables["GONE"] = "here"
    assert place.workshop.retry("app", "folder").deadline_seconds == 7
    assert place.workshop.retry("nobody", "folder").deadline_seconds is None


class Door:
    """A destination that only knows whether it was closed."""

    def __init__(self) -> None:
        self.closed = 0

    async def close(self) -> None:
        self.closed += 1
        raise RuntimeError("a bug of its own")


class Hooked:
    """A hook that can be called unless it says why not."""

    name = "clean"
    payload_bytes = at_once = 1

    def __init__(self, trouble: Exception | None) -> None:
        self.trouble = trouble
        self.closed = 0

    async def check(self) -> None:
        if self.trouble is not None:
            raise self.trouble

    async def outcome(self, rows: pa.RecordBatch) -> Outcome:
        raise AssertionError("a look at hooks calls none")

    async def close(self) -> None:
        self.closed += 1


async def test_hooks_that_are_not_ready_are_told(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each hook of the newest definitions is tried, none is called, and what is wrong is logged by stream."""
    troubles = [None, Refused("no such module"), Retry("nobody answers"), RuntimeError("a bug")]
    made = [Hooked(trouble) for trouble in troubles]
    waiting = iter(made)
    monkeypatch.setattr("firehose.registry.transform", lambda *_: next(waiting))
    hook = {"type": "python", "handler": "a:b"}
    place.follow(app={"destination": place.folder("out"), "transforms": [hook] * 3})
    place.follow(
        app={"destination": place.folder("out"), "transforms": [hook, hook]},
        bad={"destination": place.folder("${GONE}"), "transforms": [hook]},
        web={"destination": place.folder("web"), "transforms": [hook, hook]},
    )
    with capture_logs() as logs:
        await place.workshop.try_hooks()
    assert [(one["event"], one["stream"], one["hook"], one["reason"]) for one in logs] == [
        ("hook.not_ready", "app", "clean", "no such module"),
        ("hook.not_ready", "web", "clean", "nobody answers"),
        ("hook.not_ready", "web", "clean", "RuntimeError: a bug"),
    ]
    assert [one.closed for one in made] == [1, 1, 1, 1]


async def test_line_in_use_is_closed_after_use(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """A reload closes what is idle; what an attempt is using it lets the attempt finish with, then closes it once."""
    doors: list[Door] = []

    def make(*_: object) -> Door:
        doors.append(Door())
        return doors[-1]

    monkeypatch.setattr("firehose.registry.destination", make)
    place.follow(app={"destination": place.folder("out")})
    async with place.workshop.line(segment(), "folder"), place.workshop.line(segment(), "folder"):
        assert place.workshop.forget() == []
        async with place.workshop.line(segment(), "folder"):
            assert len(doors) == 4, "the next attempt gets a line of its own"
        assert [door.closed for door in doors] == [0, 0, 0, 0]
    assert [door.closed for door in doors] == [1, 1, 0, 0]
    await place.workshop.close(place.workshop.forget())
    assert [door.closed for door in doors] == [1, 1, 1, 1]


def test_merged_definition_is_a_stream_of_its_own(place: Place) -> None:
    """What a segment follows reads as an ordinary stream with one destination."""
    place.follow(app={"destinations": [place.folder("one", name="one"), place.folder("two", name="two", prefix="p/")]})
    merged = merged_definition(place.catalogue.entries["app"], 1, "two")
    read = config.stream("app", merged)
    assert list(read.destinations) == ["two"]
