"""The catalogue: versions, spans and what a restart reads back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from faulty_disk import Fault, FaultyDisk

from firehose import checked_json
from firehose.catalogue import Catalogue, opened
from firehose.model import NewerFormat

ROOT, PATH = "/data", "/data/catalog"


def definition(*destinations: str, **more: Any) -> dict[str, Any]:
    return {"destinations": [{"type": "folder", "name": name} for name in destinations], **more}


class Streams:
    """A catalogue, and what the buffers would say of a stream."""

    def __init__(self, disk: FaultyDisk | None = None) -> None:
        self.disk = disk or FaultyDisk()
        self.disk.make_folder(ROOT)
        self.catalogue = Catalogue(self.disk, ROOT)
        self.sealed = 0
        self.needed: set[int] = set()
        self.now_ms = 1000

    def follow(self, **definitions: Mapping[str, Any]) -> None:
        self.now_ms += 1
        self.catalogue.reconcile(definitions, self.now_ms, lambda stream: self.sealed, lambda stream: self.needed)

    def owed(self, destination: str) -> int:
        return self.catalogue.entries["app"].owed(destination, self.sealed)

    def again(self) -> Streams:
        return Streams(self.disk.after_power_cut())


def test_versions_bump_on_change_alone() -> None:
    """The same definition keeps its version and writes nothing; another has the next one."""
    streams = Streams()
    streams.follow(app=definition("far"))
    before = len(streams.disk.steps)
    streams.follow(app=definition("far"))
    assert len(streams.disk.steps) == before
    assert streams.catalogue.version("app") == 1
    streams.follow(app=definition("far", validate=True))
    entry = streams.catalogue.entries["app"]
    assert (entry.version, entry.created_ms, entry.updated_ms) == (2, 1001, 1003)
    assert streams.catalogue.version("unknown") == 1


def test_what_is_written_is_read_back() -> None:
    """After a power cut the entries are those that `reconcile` left."""
    streams = Streams()
    streams.follow(app=definition("far"), web=definition("near"))
    streams.sealed = 7
    streams.follow(app=definition("far", "near"))
    assert streams.again().catalogue.entries == streams.catalogue.entries


def test_spans_add_up() -> None:
    """A destination is owed what was sealed while the stream had it: added, removed and added again."""
    streams = Streams()
    streams.follow(app=definition("far"))
    for sealed, names in ((10, ["far", "near"]), (30, ["near"]), (60, ["near", "far"])):
        streams.sealed = sealed
        streams.follow(app=definition(*names))
    streams.sealed = 100
    assert (streams.owed("far"), streams.owed("near"), streams.owed("never")) == (30 + 40, 90, 0)
    again = streams.again()
    again.sealed = 100
    assert (again.owed("far"), again.owed("near")) == (70, 90)


def test_stream_taken_out_and_back() -> None:
    """A stream that leaves the YAML is kept as deleting, with its version, and active again when it comes back."""
    streams = Streams()
    streams.follow(app=definition("far"))
    streams.sealed = 5
    streams.follow()
    entry = streams.again().catalogue.entries["app"]
    assert (entry.state, entry.version, entry.owed("far", 5)) == ("DELETING", 1, 5)
    streams.follow(app=definition("far"))
    back = streams.catalogue.entries["app"]
    assert (back.state, back.version, back.created_ms, back.owed("far", 9)) == ("ACTIVE", 1, 1001, 9)
    streams.follow()
    streams.follow(app=definition("near"))
    assert (streams.catalogue.version("app"), streams.owed("far"), streams.owed("near")) == (2, 5, 0)


def test_definitions_are_pruned() -> None:
    """Old definitions are kept as long as a segment needs them; a lost one is stood in for by the newest."""
    streams = Streams()
    for number in range(1, 5):
        streams.follow(app=definition("far", limit_gib=number))
        streams.needed = {2}
    entry = streams.catalogue.entries["app"]
    assert set(entry.definitions) == {2, 4}
    assert entry.definition(2)["limit_gib"] == 2
    assert entry.definition(1) == entry.newest
    streams.needed = set()
    streams.follow(app=definition("far", limit_gib=4))
    assert set(streams.catalogue.entries["app"].definitions) == {4}


def test_destinations_follow_the_version() -> None:
    """A segment goes where its version says; one of an unknown stream nowhere."""
    streams = Streams()
    streams.needed = {1}
    streams.follow(app={"destination": {"type": "s3", "bucket": "lake"}})
    streams.follow(app=definition("far", "near"))
    assert streams.catalogue.destinations("app", 1) == ("s3",)
    assert streams.catalogue.destinations("app", 2) == ("far", "near")
    assert streams.catalogue.destinations("unknown", 1) == ()


def test_no_secret_is_stored() -> None:
    """References stand in the file as they were written."""
    streams = Streams()
    streams.follow(app={"destination": {"type": "redshift", "password": "${REDSHIFT_PASSWORD}"}})
    assert b'"${REDSHIFT_PASSWORD}"' in streams.disk.read(PATH)


@pytest.mark.parametrize("step", ["create", "write", "sync", "rename"])
def test_failed_write_changes_nothing(step: str) -> None:
    """Where the file cannot be written the entries stay, here and on disk, and a repeat succeeds."""
    streams = Streams()
    streams.follow(app=definition("far"))
    before = dict(streams.catalogue.entries)
    streams.disk.faults.append(Fault(step))
    with pytest.raises(OSError, match="error"):
        streams.follow(app=definition("near"))
    assert streams.catalogue.entries == before == streams.again().catalogue.entries
    streams.follow(app=definition("near"))
    assert streams.again().catalogue.version("app") == 2


def test_newer_format_is_refused() -> None:
    """A catalogue of a later release is refused by name."""
    disk = FaultyDisk()
    disk.make_folder(ROOT)
    disk.put(PATH, checked_json.encode({"format": 3, "streams": {}}))
    with pytest.raises(NewerFormat, match="/data/catalog has format version 3, this release reads up to 2"):
        Catalogue(disk, ROOT)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"format": 1}', b'{"format": 1, "streams": {"app": {}}}'])
def test_damaged_file_is_kept_aside(content: bytes) -> None:
    """A catalogue that no release wrote does not stop the start: it is kept, reported, and begun anew."""
    disk, said = FaultyDisk(), list[str]()
    disk.make_folder(ROOT)
    disk.put(PATH, content)
    assert opened(disk, ROOT, said.append).entries == {}
    assert disk.read(f"{PATH}.damaged") == content
    assert len(said) == 1
    assert PATH in said[0]


def test_versions_go_on_after_a_loss() -> None:
    """A stream that is known anew does not go back behind the versions that its segments carry."""
    streams = Streams()
    streams.needed = {1, 4}
    streams.follow(app=definition("far"))
    assert streams.catalogue.version("app") == 4


def test_damage_is_told_without_what_the_file_holds() -> None:
    """A byte that is no text is told with its offset; the rest of the file, which may have secrets, is not told."""
    streams = Streams()
    streams.follow(app=definition("far", access_key="a secret"))
    content = bytearray(streams.disk.read(PATH))
    assert b"a secret" in content
    content[20] ^= 0xFF
    with pytest.raises(ValueError, match="offset 20") as told:
        checked_json.decode(PATH, bytes(content))
    assert "secret" not in repr(told.value)
