"""The versions of a schema on disk: durable before anything follows them, read back as they were or not at all."""

from __future__ import annotations

import errno
import json
from random import Random

import pytest
from crash_states import crashes
from faulty_disk import Fault, FaultyDisk
from recording_disk import Noted, RecordingDisk

from firehose import checked_json
from firehose.contracts import Disk, Retry
from firehose.schemas.source import SchemaVersion
from firehose.schemas.versions import Versions, folder
from firehose.table_schema import TableSchema

FOLDER = "/data/schemas/app/far"
FIRST = TableSchema.parsed({"id": "bigint", "a b": "struct<`x y`:array<timestamp>>"})
SECOND = TableSchema.parsed({**FIRST.types(), "Ü": "string"})
NOTE = {"stream": "app", "since": "2026-03-01T12:00:07+00:00"}


def two(disk: Disk) -> Versions:
    versions = Versions(disk, FOLDER)
    versions.add(FIRST, NOTE)
    versions.add(SECOND, NOTE)
    return versions


def test_versions() -> None:
    """Versions count from one; each is read back as it was, by another process too, and the newest is the last one."""
    disk = FaultyDisk()
    versions = Versions(disk, FOLDER)
    assert versions.newest() is None
    assert versions.add(FIRST, NOTE) == SchemaVersion(1, FIRST)
    assert versions.add(SECOND, NOTE) == SchemaVersion(2, SECOND)
    again = Versions(disk.after_power_cut(), FOLDER)
    assert again.newest() == SchemaVersion(2, SECOND)
    assert again.read(1) == SchemaVersion(1, FIRST)
    assert again.numbers() == [1, 2]


def test_file() -> None:
    """A version's file is JSON that says whose it is, since when, and the columns; with a checksum."""
    versions = two(FaultyDisk())
    said = json.loads(versions.content(1))
    assert said == {"format": 2, **NOTE, "version": 1, "columns": FIRST.types(), "crc": said["crc"]}
    assert versions.note(1) == {**NOTE, "version": 1}


def test_no_file() -> None:
    """Version 0 is there without a file: no column yet."""
    assert Versions(FaultyDisk(), FOLDER).read(0).schema.columns == ()


def test_strange_names() -> None:
    """What a system or a person leaves in the folder is no version; a destination's dots never lead out of it."""
    disk = FaultyDisk()
    versions = two(disk)
    for name in ("v000003.json.new", "v.json", "vx.json", "v000009", "notes.txt", "v٣.json"):
        disk.put(f"{FOLDER}/{name}", b"?")
    assert versions.numbers() == [1, 2]
    assert folder("data", "app", "..") == "data/schemas/app/%2E%2E"
    assert folder("data", "app", "s3.a") == "data/schemas/app/s3.a"


def test_after_the_newest_is_taken_away() -> None:
    """A number is the next one behind those there are."""
    disk = FaultyDisk()
    versions = two(disk)
    disk.remove(f"{FOLDER}/v000001.json")
    assert versions.add(FIRST, NOTE).number == 3


@pytest.mark.parametrize("byte", range(0, 200, 7))
def test_damage(byte: int) -> None:
    """A file with a changed byte is told by name, with the way out, and never read as another schema."""
    disk = FaultyDisk()
    versions = two(disk)
    disk.flip(f"{FOLDER}/v000002.json", byte, 0x04)
    with pytest.raises(Retry, match=rf"{FOLDER}/v000002.json.*lies beside the data|release"):
        versions.newest()
    assert versions.read(1).schema == FIRST


@pytest.mark.parametrize("content", [b"", b"{}", b"[]", b"null", b"\0" * 50, b'{"format": 2', b"[" * 10_000])
def test_nonsense(content: bytes) -> None:
    """Likewise for a file that is none."""
    disk = FaultyDisk()
    versions = two(disk)
    for name in ("v000002.json", "pinned"):
        disk.put(f"{FOLDER}/{name}", content)
    for read in (versions.newest, versions.pinned):
        with pytest.raises(Retry, match="damaged"):
            read()


def test_under_another_name() -> None:
    """A version that lies under another one's name is not taken for it."""
    disk = FaultyDisk()
    versions = two(disk)
    disk.put(f"{FOLDER}/v000002.json", disk.read(f"{FOLDER}/v000001.json"))
    with pytest.raises(Retry, match="it holds version 1"):
        versions.newest()


def test_written_back() -> None:
    """A file that is lost or damaged is mended with the copy beside the data: the same bytes."""
    disk = FaultyDisk()
    versions = two(disk)
    beside = versions.content(2)
    disk.flip(f"{FOLDER}/v000002.json", 20)
    disk.put(f"{FOLDER}/v000002.json", beside)
    assert versions.newest() == SchemaVersion(2, SECOND)


def test_a_later_release() -> None:
    """A file of a later format is refused by name."""
    disk = FaultyDisk()
    versions = two(disk)
    later = checked_json.encode({"format": 9, "version": 2, "columns": {}})
    disk.put(f"{FOLDER}/v000002.json", later)
    with pytest.raises(Retry, match="format version 9"):
        versions.newest()


def test_pin() -> None:
    """A pinned version stays pinned over a restart, until it is taken away or another one is pinned."""
    disk = FaultyDisk()
    versions = two(disk)
    assert versions.pinned() is None
    versions.pin(1)
    assert Versions(disk.after_power_cut(), FOLDER).pinned() == 1
    versions.pin(2)
    assert versions.pinned() == 2
    for _ in range(2):
        versions.pin(None)
        assert Versions(disk.after_power_cut(), FOLDER).pinned() is None


@pytest.mark.parametrize("step", ["mkdir", "create", "write", "sync", "rename", "sync_folder"])
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO])
def test_a_disk_that_fails(step: str, number: int) -> None:
    """A version that the disk does not take is none: it is told, tried again, and then there once."""
    disk = FaultyDisk()
    disk.make_folder("/data")
    disk.faults = [Fault(step, number)]
    versions = Versions(disk, FOLDER)
    with pytest.raises(Retry, match=FOLDER):
        versions.add(FIRST, NOTE)
    added = versions.newest() or versions.add(FIRST, NOTE)
    versions.settle()
    assert added.schema == FIRST
    assert Versions(disk.after_power_cut(), FOLDER).newest() == added


def test_power_cuts() -> None:
    """Whenever the power goes: what was added is there as it was, and nothing there is damaged."""
    disk = RecordingDisk()
    disk.make_folder("/data")
    versions = Versions(disk, FOLDER)
    for schema in (FIRST, SECOND):
        versions.add(schema, NOTE)
        disk.note("added", schema)
    versions.pin(1)
    disk.note("pinned", 1)
    looked = 0
    for crash in crashes(disk, 200, Random(1)):
        noted = [step for step in disk.record[: crash.at] if isinstance(step, Noted)]
        added = [step.what for step in noted if step.kind == "added"]
        found = Versions(FaultyDisk(crash.root()), FOLDER)
        kept = [found.read(number).schema for number in found.numbers()]
        assert kept[: len(added)] == added
        assert kept == [FIRST, SECOND][: len(kept)]
        assert found.pinned() in ((1,) if len(noted) > len(added) else (None, 1))
        looked += 1
    assert looked > 20


def test_power_cuts_canary() -> None:
    """A disk that names a file before its bytes are durable is found out."""

    class Hasty(RecordingDisk):
        def replace(self, path: str, content: bytes) -> None:
            self.create(path).write(content)
            self.sync_folder(FOLDER)

    disk = Hasty()
    Versions(disk, FOLDER).add(FIRST, NOTE)
    found = [Versions(FaultyDisk(crash.root()), FOLDER) for crash in crashes(disk, 200, Random(1))]
    assert any(_damaged(versions) for versions in found)


def _damaged(versions: Versions) -> bool:
    try:
        versions.newest()
    except Retry:
        return True
    return False
