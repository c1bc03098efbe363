"""`firehose buffer`: what lies on disk is told as it is, and changed only where a person asks for it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import batches
import pyarrow as pa
import pytest
from cli.running import failing, firehose, good

from firehose import checked_json, partitions
from firehose.buffer import groups, layout, outcome
from firehose.buffer.disk import LocalDisk
from firehose.buffer.lane import Group, Lane
from firehose.buffer.ledger import Ledger, read_book
from firehose.catalogue import Catalogue
from firehose.model import Outcome, SegmentKey

ARRIVAL_MS = 1_767_225_600_000

LANE = "20260301T120000-00"


@dataclass(frozen=True, slots=True)
class Folder:
    """A data folder without a service: a stream `app` with destinations `one` and `two`."""

    path: Path

    @property
    def data_dir(self) -> str:
        return str(self.path / "data")

    @property
    def config(self) -> str:
        return str(self.path / "firehose.yaml")

    def lane(self) -> Lane:
        lane = Lane(LocalDisk(), self.data_dir, "app", LANE)
        lane.create()
        return lane

    def log(self, *entries: dict[str, Any]) -> None:
        """Appends to the ledger as a delivery half would."""
        ledger = Ledger(LocalDisk(), f"{self.data_dir}/ledger", print, lambda keys: set())
        ledger.append(*entries)
        ledger.close()

    def held(self, key: SegmentKey) -> set[str]:
        book, _ = read_book(LocalDisk(), f"{self.data_dir}/ledger")
        return {destination for one, destination in book.held if one == key}

    def file(self, first: int, suffix: str) -> Path:
        return Path(layout.file_of(self.data_dir, ("app", LANE, first), suffix))

    def listed(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = json.loads(good("buffer", "ls", "-c", self.config, "--json"))
        return found

    def damage(self) -> dict[str, list[int]]:
        """Offsets of damage by file, as `verify` reports them; fails if its exit status says something else."""
        result = firehose("buffer", "verify", "-c", self.config, "--json")
        said = {one["path"]: [bad["offset"] for bad in one["damage"]] for one in json.loads(result.stdout)}
        found = {path: offsets for path, offsets in said.items() if offsets}
        assert result.exit_code == (1 if found else 0)
        return found


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    one = Folder(tmp_path)
    blocks = ", ".join(f"{{type: folder, name: {name}, path: {tmp_path}/{name}}}" for name in ("one", "two"))
    service = f"{{data_dir: {one.data_dir}, listen: '127.0.0.1:1'}}"  # where no service listens
    Path(one.config).write_text(f"service: {service}\ndelivery_streams: {{app: {{destinations: [{blocks}]}}}}")
    LocalDisk().make_folder(one.data_dir)
    definition = {"destinations": [{"type": "folder", "name": name} for name in ("one", "two")]}
    Catalogue(LocalDisk(), one.data_dir).reconcile({"app": definition}, 0, lambda stream: 0, lambda stream: set())
    return one


def append(lane: Lane, *records: bytes) -> None:
    batch = pa.record_batch({"record": pa.array(records, pa.binary())})
    lane.append(Group([batch], {}, ARRIVAL_MS, len(records), sum(map(len, records))))


def sealed(folder: Folder, *frames: tuple[bytes, ...]) -> str:
    """Seals a segment of these frames; its name."""
    lane = folder.lane()
    for records in frames:
        append(lane, *records)
    lane.seal(1)
    lane.close()
    return "app/20260301T120000-00/00000000000000000000"


def held(folder: Folder, destination: str) -> None:
    folder.log({"t": "held", "s": ("app", LANE, 0), "d": destination, "why": "a bug"})


def flip(path: Path, offset: int) -> None:
    content = bytearray(path.read_bytes())
    content[offset] ^= 1
    path.write_bytes(content)


def test_ls_tells_of_every_file(folder: Folder) -> None:
    """Sealed and open segments are listed with what is in them and who still owes their delivery."""
    lane = folder.lane()
    append(lane, b"one\n", b"two\n")
    lane.seal(1)
    append(lane, b"three\n")
    lane.close()
    folder.log({"t": "delivered", "s": ("app", LANE, 0), "d": "one", "n": {"delivered": 2}})
    first, second = folder.listed()
    assert (first["state"], first["count"], first["size_bytes"], first["version"]) == ("sealed", 2, 8, 1)
    assert (first["owed"], first["opened_ms"]) == (["two"], ARRIVAL_MS)
    assert (second["segment"], second["state"], second["count"]) == (
        "app/20260301T120000-00/00000000000000000002",
        "open",
        1,
    )


def test_ls_tells_what_is_held_and_why(folder: Folder) -> None:
    """A held segment is shown with the reason, in the table too."""
    name = sealed(folder, (b"one\n",))
    held(folder, "two")
    (file,) = folder.listed()
    assert (file["state"], file["held"]) == ("held", {"two": "a bug"})
    said = good("buffer", "ls", "-c", folder.config)
    assert name in said
    assert "two: a bug" in said


def cut(folder: Folder) -> str:
    """A segment parted at `two`, and a cut of one of its partitions; the cut's name."""
    sealed(folder, (b"a1", b"b1", b"a2"))
    rows = batches.rows([b"a1", b"a2", b"b1"])
    names = pa.array(["a", "a", "b"]).dictionary_encode()
    kept = outcome.Keeping(LocalDisk(), str(folder.file(0, layout.OUT)))
    kept.add(Outcome(rows.append_column(partitions.COLUMN, names)))
    kept.finish()
    kept.close()
    lane, place = f"{LANE}#{groups.hash_of('a', 1)}", {"d": "two"}
    entry = {"of": {LANE: [(0, 2)]}, "n": 2, "b": 4, "at": ARRIVAL_MS, "v": 1, "p": "a"}
    folder.log(
        {"t": "parted", "s": ("app", LANE, 0), **place, "n": {}}, {"t": "cut", "s": ("app", lane, 0), **place, **entry}
    )
    return f"app/{lane}/00000000000000000000"


def test_cuts_are_shown_and_come_out(folder: Folder) -> None:
    """A cut is listed behind the segments, with whom it is owed to, and its rows come out as they are delivered."""
    name = cut(folder)
    segment, of_it = folder.listed()
    assert (segment["state"], segment["owed"]) == ("parted", ["one", "two"])
    assert (of_it["segment"], of_it["state"], of_it["count"], of_it["owed"]) == (name, "cut", 2, ["two"])
    assert good("buffer", "export", name, "-", "-c", folder.config) == "a1\na2\n"
    assert firehose("buffer", "cat", name, "-c", folder.config).stdout_bytes == b"a1a2"
    assert "no segment" in failing("buffer", "cat", f"{name[:-1]}1", "-c", folder.config)
    assert folder.damage() == {}


def test_a_held_cut_is_released(folder: Folder) -> None:
    """A held cut is shown with the reason, and is let go under the name that is shown."""
    name = cut(folder)
    key = ("app", name.split("/")[1], 0)
    folder.log({"t": "held", "s": key, "d": "two", "why": "a bug"})
    assert [(one["state"], one["held"]) for one in folder.listed()] == [("parted", {}), ("held", {"two": "a bug"})]
    good("buffer", "release", name, "-c", folder.config)
    assert folder.held(key) == set()
    assert folder.listed()[1]["state"] == "cut"


def test_ls_of_nothing(folder: Folder) -> None:
    """An empty buffer is no failure; that there is no folder at all is told otherwise."""
    assert folder.listed() == []
    for rename, said in ((False, "is empty"), (True, f"there is no folder {folder.data_dir}")):
        if rename:
            Path(folder.data_dir).rename(f"{folder.data_dir}.elsewhere")
        result = firehose("buffer", "ls", "-c", folder.config)
        assert (result.exit_code, result.stdout) == (0, "")
        assert said in " ".join(result.stderr.split())


def test_cat_is_byte_for_byte(folder: Folder) -> None:
    """Records come out as they were taken in, one after the other, whatever bytes they hold."""
    name = sealed(folder, (b"one", b"", b"\x00\xff\r\n"), (b"two\n",))
    result = firehose("buffer", "cat", name, "-c", folder.config)
    assert result.stdout_bytes == b"one\x00\xff\r\ntwo\n"


def test_export_ends_each_record(folder: Folder) -> None:
    """An export has each record on a line of its own, and goes to a file or on."""
    name = sealed(folder, (b"one", b"two\n"), (b"three",))
    target = folder.path / "out.txt"
    good("buffer", "export", name, str(target), "-c", folder.config)
    assert target.read_bytes() == b"one\ntwo\nthree\n"
    assert good("buffer", "export", name, "-", "-c", folder.config) == "one\ntwo\nthree\n"


def test_export_reads_damaged_files(folder: Folder) -> None:
    """Of a damaged file that was kept, all that is whole comes out."""
    name = sealed(folder, (b"one\n",), (b"two\n",), (b"six\n",))
    path = folder.file(0, layout.SEALED)
    flip(path, path.read_bytes().index(b"two"))
    path.rename(folder.file(0, layout.DAMAGED))
    assert good("buffer", "export", name, "-c", folder.config) == "one\nsix\n"
    assert folder.listed()[0]["state"] == "damaged"


def test_verify_finds_nothing(folder: Folder) -> None:
    """A sound folder passes, with an open file whose last write was cut short, which nobody was told was durable."""
    lane = folder.lane()
    append(lane, b"one\n")
    lane.seal(1)
    append(lane, b"two\n")
    append(lane, b"three\n")
    lane.close()
    path = folder.file(1, layout.OPEN)
    path.write_bytes(path.read_bytes()[:-10])
    assert folder.damage() == {}


def test_verify_finds_a_flipped_bit(folder: Folder) -> None:
    """One bit that is not as it was written is reported with its file and the offset of its frame."""
    sealed(folder, (b"one\n",), (b"two\n",))
    path = folder.file(0, layout.SEALED)
    second = path.read_bytes().index(b"FHFRAME", 8)
    flip(path, path.read_bytes().index(b"two"))
    assert folder.damage() == {str(path): [second, second]}  # the bytes, and the record that was in them


def test_verify_finds_a_cut_file(folder: Folder) -> None:
    """A sealed file without its end is damaged."""
    sealed(folder, (b"one\n",))
    path = folder.file(0, layout.SEALED)
    path.write_bytes(path.read_bytes()[:-1])
    assert str(path) in folder.damage()


def test_verify_reads_ledger_and_catalogue(folder: Folder) -> None:
    """A damaged line of the ledger and a broken catalogue are reported, with their offsets."""
    sealed(folder, (b"one\n",))
    held(folder, "one")
    held(folder, "two")
    ledger, catalogue = Path(f"{folder.data_dir}/ledger"), Path(f"{folder.data_dir}/catalog")
    start = ledger.read_bytes().index(b"\n") + 1
    flip(ledger, start + 12)
    catalogue.write_bytes(b"{")
    found = folder.damage()
    assert found[str(ledger)] == [start]
    assert str(catalogue) in found
    assert "verify" in failing("buffer", "ls", "-c", folder.config)


def data_stream(folder: Folder, *records: bytes) -> tuple[str, Path]:
    """A data stream with these records in its shard, sealed: the segment's name, and the stream's folder."""
    id, shard, lane_name = "clicks-20260301T120000-00", "shardId-000000000000", f"g0000001-{LANE}"
    own = layout.data_stream_folder(folder.data_dir, id)
    lane = Lane(LocalDisk(), own, shard, lane_name)
    lane.create()
    append(lane, *records)
    lane.seal(1)
    lane.close()
    Path(layout.definition_of(folder.data_dir, id)).write_bytes(checked_json.encode({"definition": {"name": "clicks"}}))
    return f"{id}/{shard}/{lane_name}/{0:020d}", Path(own)


def test_data_streams_are_told_of(folder: Folder) -> None:
    """The files of a data stream's shards are listed beside those of the buffer, nobody being owed them, and read."""
    name, _ = data_stream(folder, b"one", b"two")
    mine = sealed(folder, (b"three\n",))
    assert [(one["segment"], one["count"], one["owed"]) for one in folder.listed()] == [
        (mine, 1, ["one", "two"]),
        (name, 2, []),
    ]
    assert good("buffer", "cat", name, "-c", folder.config) == "onetwo"
    assert good("buffer", "export", name, "-c", folder.config) == "one\ntwo\n"


def test_verify_reads_data_streams(folder: Folder) -> None:
    """A bit that is not as it was written is found in a shard's records, and in the definition of its stream."""
    name, own = data_stream(folder, b"one", b"two")
    assert folder.damage() == {}
    _, shard, lane, first = name.split("/")
    path = own / "buffer" / shard / lane / f"{first}{layout.SEALED}"
    flip(path, path.read_bytes().index(b"two"))
    flip(own / "stream", 3)
    assert folder.damage().keys() == {str(path), str(own / "stream")}


def test_a_newer_folder_is_refused(folder: Folder) -> None:
    """A folder of a later release is not guessed at: the message names the version."""
    Path(f"{folder.data_dir}/catalog").write_bytes(checked_json.encode({"format": 99, "streams": {}}))
    for command in ("ls", "verify"):
        assert "format version 99" in failing("buffer", command, "-c", folder.config)


def test_release_without_a_service(folder: Folder) -> None:
    """A held segment is released in the ledger where no service runs; asking again says that nothing is held."""
    name = sealed(folder, (b"one\n",))
    held(folder, "one")
    held(folder, "two")
    assert "one, two" in good("buffer", "release", name, "-c", folder.config)
    assert folder.held(("app", LANE, 0)) == set()
    assert "not held" in failing("buffer", "release", name, "-c", folder.config)


def test_release_never_writes_beside_a_delivery_half(folder: Folder) -> None:
    """While a delivery half holds its lock, the ledger is its own."""
    name = sealed(folder, (b"one\n",))
    held(folder, "one")
    lock = LocalDisk().lock(f"{folder.data_dir}/delivery.lock")
    assert lock is not None
    assert "delivery half" in failing("buffer", "release", name, "-c", folder.config)
    assert folder.held(("app", LANE, 0)) == {"one"}
    lock.close()


@pytest.mark.parametrize("name", ["app/lane", "app/lane/x", "../lane/0", "app/../0", "/lane/0"])
def test_names_that_are_none(folder: Folder, name: str) -> None:
    """What is no segment's name, or leads out of the folder, is a mistake of usage."""
    failing("buffer", "cat", name, "-c", folder.config, status=2)


def test_a_segment_that_is_not_there(folder: Folder) -> None:
    """A segment that was delivered, or never was, is told."""
    assert "there is no segment app/20260301T120000-00/00000000000000000007" in failing(
        "buffer", "cat", f"app/{LANE}/7", "-c", folder.config
    )
