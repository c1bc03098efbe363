"""Names in the data folder: what is written there is read back, and nothing else is taken for ours."""

from __future__ import annotations

from faulty_disk import FaultyDisk

from firehose.buffer import layout
from firehose.model import Segment
from firehose.runtime import utc


def test_file_names() -> None:
    """A segment's files bear its first number in twenty digits, by key or by segment."""
    segment = Segment("app", "lane", 42, 1, 1, utc(0), 1)
    wanted = "/data/buffer/app/lane/00000000000000000042"
    assert layout.file_of("/data", segment) == layout.file_of("/data", segment.key) == f"{wanted}.sealed"
    assert layout.file_of("/data", segment, layout.OUT) == f"{wanted}.out"


def test_numbers() -> None:
    """Numbers come back in order; names that are not ours are passed over."""
    names = [f"{number:020d}.sealed" for number in (7, 3)]
    strange = ["3.sealed", f"{3:020d}.open", f"{3:020d}.sealed.new", "x" * 20 + ".sealed", "-" + "1" * 19 + ".sealed"]
    assert layout.numbers(names + strange, layout.SEALED) == [3, 7]


def test_streams_and_lanes() -> None:
    """Streams may have any name that AWS allows; a lane's is drawn by us, and no other folder is taken for one."""
    disk = FaultyDisk()
    for folder in ("a.b/20260301T120000-00", "a.b/.snapshot", "a.b/mine", "web", ".c"):
        disk.make_folder(f"/data/buffer/{folder}")
    for name in ("lanes", "lanes.new", "lanes.damaged"):
        disk.put(f"/data/buffer/a.b/{name}", b"")
    assert layout.streams(disk, "/data") == [".c", "a.b", "web"]
    assert layout.lanes(disk, "/data", "a.b") == ["20260301T120000-00"]
    assert layout.streams(disk, "/nowhere") == []


def test_generations() -> None:
    """A shard's lane is told by its generation, by which its names sort too; any other lane has none."""
    drawn = "20260301T120000-00ff"
    names = [layout.with_generation(generation, drawn) for generation in (2, 10, 1_000_000)]
    assert names == sorted(names)
    assert [layout.generation(name) for name in names] == [2, 10, 1_000_000]
    assert layout.generation(drawn) == 0
    disk = FaultyDisk()
    for name in [*names, f"g1-{drawn}", f"G0000001-{drawn}"]:
        disk.make_folder(f"/data/buffer/shard/{name}")
    assert layout.lanes(disk, "/data", "shard") == names
