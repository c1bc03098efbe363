"""Outcomes kept beside a segment: read back as they were, or not at all."""

from __future__ import annotations

import errno
import struct

import pyarrow as pa
import pytest
from batches import rows
from faulty_disk import Fault, FaultyDisk
from isal.isal_zlib import crc32

from firehose.buffer import outcome
from firehose.contracts import Disk
from firehose.model import NewerFormat, Outcome, Rejections

PATH = "/0.out"


def outcomes() -> list[Outcome]:
    three = rows([b"a", b"", b"c"])
    refused = Rejections.of(three.slice(1, 1), "processing-failed", "Code", "why")
    return [Outcome(three.slice(0, 1), refused, pa.array([2], pa.int32())), Outcome(three.slice(0, 0)), Outcome(three)]


def write(disk: Disk, given: list[Outcome]) -> None:
    keeping = outcome.Keeping(disk, PATH)
    try:
        for one in given:
            keeping.add(one)
        keeping.finish()
    finally:
        keeping.close()


def written() -> FaultyDisk:
    disk = FaultyDisk()
    write(disk, outcomes())
    return disk


def test_round_trip_is_durable() -> None:
    """Rows, refusals and drops of each slice come back after a power cut, empty ones too."""
    kept = outcome.read(written().after_power_cut(), PATH)
    assert kept is not None
    for one, other in zip(kept, outcomes(), strict=True):
        assert one.rows.to_pylist() == other.rows.to_pylist()
        assert one.refused.table.to_pylist() == other.refused.table.to_pylist()
        assert one.dropped.to_pylist() == other.dropped.to_pylist()


def test_no_outcomes() -> None:
    """No outcomes at all are outcomes too; no file is none."""
    disk = FaultyDisk()
    assert outcome.read(disk, PATH) is None
    write(disk, [])
    assert outcome.read(disk, PATH) == []


def test_cut_at_every_length() -> None:
    """A file cut anywhere before its last bytes of content is none."""
    whole = written().read(PATH)
    for length in range(len(whole) - 8):
        disk = FaultyDisk()
        disk.put(PATH, whole[:length])
        assert outcome.read(disk, PATH) is None


def test_flipped_bytes() -> None:
    """A file with a flipped byte is none, or says what it said: in zeros between nothing is said."""
    whole = written().read(PATH)
    for at in range(0, len(whole), 3):
        disk = FaultyDisk()
        disk.put(PATH, whole)
        disk.flip(PATH, at)
        try:
            kept = outcome.read(disk, PATH)
        except NewerFormat:
            assert 8 <= at < 12
            continue
        if kept is not None:
            assert [one.rows.to_pylist() for one in kept] == [one.rows.to_pylist() for one in outcomes()]


@pytest.mark.parametrize("step", ["create", "write", "sync", "rename"])
def test_all_or_none(step: str) -> None:
    """A disk that fails leaves no file under the name; a repeat makes it."""
    disk = FaultyDisk()
    disk.faults.append(Fault(step, errno.ENOSPC))
    with pytest.raises(OSError, match="No space"):
        write(disk, outcomes())
    assert outcome.read(disk, PATH) is None
    write(disk, outcomes())
    assert outcome.read(disk.after_power_cut(), PATH) is not None


def test_newer_format_is_refused() -> None:
    """A file of a later release is refused by name."""
    disk = written()
    head = b"FHOUT..\n" + (5).to_bytes(4, "little")
    disk.put(PATH, head + struct.pack("<I", crc32(head, outcome._seed(PATH))))
    with pytest.raises(NewerFormat, match=r"/0\.out has format version 5, this release reads up to 4"):
        outcome.read(disk, PATH)
