"""Power cuts: whatever of the unsynced the disk kept, nothing acknowledged is lost, nothing invented, nothing doubled.

The whole service lives on a disk that keeps a record; states that a power cut may leave are opened by the real code.
The longer run is `python tests/torture/power_cuts.py`.
"""

from __future__ import annotations

import os
from random import Random

import pytest
from crash_states import Crash, crashes
from faulty_disk import File
from lives import REMOTE, STAMP, FarAndDisk
from power import Life, Wrong, busy, lived, look, parting, small, survey, wide
from recording_disk import RecordingDisk, RecordingWriter
from side_by_side import PACE, Eager

import destinations
import transforms
from firehose.contracts import Writer


@pytest.fixture(autouse=True)
def installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The far side and the transform of these lives, as if a third party had installed them."""
    monkeypatch.setitem(destinations.TABLE, *REMOTE)
    monkeypatch.setitem(transforms.TABLE, *STAMP)


@pytest.mark.parametrize(
    ("life", "limit", "share", "again"),
    [(small, 4, 1.0, 0.0), (busy, 8, 0.06, 0.0), (parting, 8, 0.02, 0.0), (small, 8, 0.006, 0.02)],
    ids=[
        "every moment of a small life",
        "a sample of a busy one",
        "a sample of one with partitions",
        "cut again while the first cut is mended",
    ],
)
def test_power_cuts(life: Life, limit: int, share: float, again: float) -> None:
    """Each state opens; what was acknowledged is delivered once, the sums are right, names keep their content."""
    looked, wrong = 0, list[Wrong]()
    for at, found in survey(lived(life), 1, limit, share, again):
        looked += 1
        wrong += [(at, found)] if found else []
    print(f"{looked} states looked at")
    assert wrong == []
    assert looked > 100


def test_power_cuts_of_several_lanes(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same where a stream writes several lanes side by side, with a sync of each under way."""
    monkeypatch.setattr(PACE, Eager)
    disk = lived(wide)
    assert len({path.split("/")[-2] for step, path in disk.steps if step == "write" and path.endswith(".open")}) > 4
    found = [found for _, found in survey(disk, 1, 8, 0.12)]
    print(f"{len(found)} states looked at")
    assert not any(found)
    assert len(found) > 100


# The proof that it can fail: disks that break a promise, which the service believes.


class ForgetsFolders(FarAndDisk):
    """A folder sync that does nothing."""

    def sync_folder(self, path: str) -> None:
        """Nothing becomes durable."""


class ForgetsFiles(FarAndDisk):
    """A file sync that does nothing."""

    def synced(self, file: File) -> None:
        """Nothing becomes durable."""


class SyncsLate(FarAndDisk):
    """A sync that takes effect when the next one is asked for."""

    def __init__(self) -> None:
        super().__init__()
        self._late: File | None = None

    def synced(self, file: File) -> None:
        if self._late is not None:
            super().synced(self._late)
        self._late = file


class RenamesFirst(FarAndDisk):
    """A replaced file takes its name before its bytes are synced."""

    def replace(self, path: str, content: bytes) -> None:
        beside = f"{path}.new"
        if self.exists(beside):
            self.remove(beside)
        writer = self.create(beside)
        writer.write(content)
        self.rename(beside, path)
        self.sync_folder(os.path.dirname(path))


class ForgetsOne(FarAndDisk):
    """A sync that does nothing for files with one ending."""

    ending = ""

    def create(self, path: str) -> Writer:
        return self._forgetful(super().create(path), path)

    def reopen(self, path: str, size_bytes: int) -> Writer:
        return self._forgetful(super().reopen(path, size_bytes), path)

    def _forgetful(self, writer: Writer, path: str) -> Writer:
        return Forgetful(self, path, self._file(path)) if path.endswith(self.ending) else writer


class Forgetful(RecordingWriter):
    def sync(self) -> None:
        """Nothing becomes durable."""


class ForgetsLedger(ForgetsOne):
    ending = "ledger"


class ForgetsOutcomes(ForgetsOne):
    ending = ".out.new"


@pytest.mark.parametrize(
    ("disk", "life", "sign"),
    [
        (ForgetsFolders, small, "missing"),
        (ForgetsFiles, small, "missing"),
        (SyncsLate, small, "missing"),
        (RenamesFirst, small, "unopenable"),
        (ForgetsLedger, small, "unaccounted"),
        (ForgetsOutcomes, busy, "changed"),
        (ForgetsOutcomes, parting, "changed"),
        (ForgetsLedger, parting, "doubled"),
    ],
)
def test_canaries(disk: type[FarAndDisk], life: Life, sign: str) -> None:
    """A disk that breaks this promise is found out, by this sign."""
    assert any(getattr(found, sign) for _, found in survey(lived(life, disk()), 1, 8, 0.03))


def test_canary_of_dice() -> None:
    """A restart that draws the name of an earlier lane again is found out."""
    disk = lived(small, seed=1)
    ends = (look(crash, disk.record[: crash.at], seed=1)[0] for crash in crashes(disk, 4, Random(1)))
    assert any(found.unopenable or found.changed or found.missing for found in ends)


# The states themselves.


def states(disk: RecordingDisk) -> list[dict[str, bytes | None]]:
    return [crash.tree for crash in crashes(disk, 10_000, Random(1))]


def test_states_of_a_write() -> None:
    """An unsynced write is there, not there, torn, zeros, or has zeros in it; a synced one is there."""
    disk = RecordingDisk()
    writer = disk.create("/a")
    disk.sync_folder("/")
    writer.write(b"old")
    writer.sync()
    writer.write(b"new")
    found = {tree.get("/a") for tree in states(disk)}
    assert {b"oldnew", b"old", b"oldn", b"oldne", b"old\0\0\0", b"oldn\0\0", b"old\0ew"} <= found
    assert all(tree["/a"] for tree in states(disk)[-8:])  # of the last moment: what was synced is in each


def test_states_of_two_writes() -> None:
    """A later write may be there without an earlier one, in a file that a cut has made shorter or not."""
    disk = RecordingDisk(Crash(0, {"/a": b"123456"}).root())
    writer = disk.reopen("/a", 2)
    writer.write(b"b")
    writer.write(b"cd")
    found = {tree["/a"] for tree in states(disk)}
    assert {b"123456", b"12", b"12bcd", b"12\0cd", b"12b", b"12bcd6", b"123cd6", b"123cd"} - found == {b"123cd"}


def test_states_of_names() -> None:
    """Changes of names come to pass in any order; a rename whole, not at all, or with both names."""
    disk = RecordingDisk(Crash(0, {"/a": b"1", "/b": b"2"}).root())
    disk.rename("/a", "/c")
    disk.remove("/b")
    found = {frozenset(tree) for tree in states(disk)}
    assert found == {frozenset([*one, *rest]) for one in (["/a"], ["/c"], ["/a", "/c"]) for rest in ([], ["/b"])}


def test_a_synced_folder_keeps_its_names() -> None:
    """What was synced is in every state; what lies in a folder that is not durable may be gone with it."""
    disk = RecordingDisk()
    disk.make_folder("/d")
    disk.create("/d/a")
    assert {"/d/a" in tree for tree in states(disk)} == {True, False}
    disk.sync_folder("/d")
    disk.create("/d/b")
    last = {frozenset(tree) for tree in states(disk)[-2:]}
    assert last == {frozenset({"/d", "/d/a"}), frozenset({"/d", "/d/a", "/d/b"})}
