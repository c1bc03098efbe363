"""A lane's own steps, in the order that durability asks for."""

from __future__ import annotations

import pytest
from disk_buffer import ROOT, STREAM, batch
from faulty_disk import Fault, FaultyDisk

from firehose.buffer import frame, layout
from firehose.buffer.lane import Group, Lane, joined

NAME = "20260301T120000-00"
FOLDER = layout.lane_folder(ROOT, STREAM, NAME)
OPEN = layout.numbered(FOLDER, 0, layout.OPEN)


def lane(disk: FaultyDisk) -> Lane:
    made = Lane(disk, ROOT, STREAM, NAME)
    made.create()
    return made


def group(*records: bytes, origins: frame.Origins | None = None, arrival_ms: int = 7) -> Group:
    return Group([batch(*records)], origins or {}, arrival_ms, len(records), sum(map(len, records)))


def test_every_folder_on_the_way_is_synced() -> None:
    """The stream's folder is made durable also where one who died before the sync had made it."""
    disk = FaultyDisk()
    disk.stop_at = 5  # mkdir and sync of data and buffer, mkdir of the stream and not its sync
    with pytest.raises(OSError, match="power"):
        lane(disk)
    again = disk.after_kill()
    lane(again).append(group(b"x"))
    assert again.after_power_cut().size(OPEN) > 0


def test_steps_of_an_append() -> None:
    """The first append creates and syncs file and folder; each later one is one write and one sync."""
    disk = FaultyDisk()
    made = lane(disk)
    before = len(disk.steps)
    made.append(group(b"a"))
    made.append(group(b"b", b"c"))
    assert [step for step, _ in disk.steps[before:]] == ["create", "sync_folder", "write", "sync", "write", "sync"]
    assert made.next == 3


def test_steps_of_a_seal() -> None:
    """A seal syncs the trailer before it renames, leaves the count, and syncs the folder before the old count goes."""
    disk = FaultyDisk()
    made = lane(disk)
    for _ in range(2):
        made.append(group(b"a"))
        before = len(disk.steps)
        assert made.seal(3).version == 3
    assert [step for step, _ in disk.steps[before:]] == ["write", "sync", "create", "rename", "sync_folder", "remove"]
    assert layout.numbers(disk.list(FOLDER), layout.HEAD) == [2]


def test_summary_of_origins() -> None:
    """A sealed segment sums up the newest origin of each partition, and the next one begins without them."""
    disk = FaultyDisk()
    made = lane(disk)
    for turn in (1, 2):
        made.append(group(b"a", origins={"p": (turn, str(turn)), f"q{turn}": (turn, "x")}))
    made.seal(1)
    made.append(group(b"b"))
    made.seal(1)
    found = []
    for first in (0, 2):
        buffer = disk.view(layout.numbered(FOLDER, first, layout.SEALED)).buffer
        trailer = frame.read_trailer(buffer, frame.seed(NAME), first)
        assert trailer is not None
        said = frame.read_frame(buffer, trailer.summary_at, frame.seed(NAME)) if trailer.summary_at else None
        found.append(frame.read_origins(buffer, said) if said else {})
    assert found == [{"p": (2, "2"), "q1": (1, "x"), "q2": (2, "x")}, {}]


def test_a_file_whose_name_is_not_durable_can_be_let_go() -> None:
    """Where the folder's sync fails after the create, the file is known, so that it can be closed and mended."""
    disk = FaultyDisk()
    made = lane(disk)
    disk.faults.append(Fault("sync_folder"))
    with pytest.raises(OSError, match="error"):
        made.append(group(b"a"))
    assert made.open is not None
    made.close()
    assert disk.lock(FOLDER) is not None


def test_joined_keeps_one_as_it_is() -> None:
    """A lone batch in the right order is not copied; none is an empty one."""
    lone = batch(b"a", meta=["{}"])
    assert joined([lone]) is lone
    assert joined([]).num_rows == 0
