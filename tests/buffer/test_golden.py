"""A data folder that format version 1 wrote is read by every later release, to the last record.

`tests/data/golden-1` was left by a kill: four records folded away, a held segment, a damaged one, a sealed one with
optional columns and a durable outcome, an open file. `golden-4` was too, with partitions whose rows lie in the segments
alone (outcomes in format 4): one cut is held, one is delivered, one partition gathers. Neither is ever written again.
"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from disk_buffer import LEDGER, ROOT, STREAM, DiskBuffer, batch, delivered, offered, origins_of, read
from faulty_disk import FaultyDisk
from parted import PartedBuffer, name_of
from virtual_time import VirtualRuntime, run

from firehose.buffer import layout
from firehose.buffer.groups import lane_of
from firehose.buffer.ledger import read_book
from firehose.catalogue import Catalogue
from firehose.model import Segment, Totals

DATA = Path(__file__).parent.parent / "data"
LANE = "20260301T120000-e3e70682c2094cac"
LANE_4 = "20260301T120000-629f6fbed82c07cd"
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


def golden(left: str = "golden-1") -> FaultyDisk:
    """A copy of a golden folder."""
    disk = FaultyDisk()
    for path in sorted((DATA / left).rglob("*")):
        name = f"{ROOT}/{path.relative_to(DATA / left).as_posix()}"
        if path.is_dir():
            disk.make_folder(name)
        else:
            disk.make_folder(name.rpartition("/")[0])
            disk.put(name, path.read_bytes())
    return disk


async def started() -> DiskBuffer:
    buffer = DiskBuffer(golden(), VirtualRuntime(seed=1))
    await buffer.start()
    return buffer


def test_segments() -> None:
    """Every segment has the identity it had, and its records, columns and origins."""

    async def scenario() -> None:
        buffer = await started()
        held = Segment(STREAM, LANE, 0, 2, 12, next(iter(buffer.found.segments)).opened_at, 1)
        assert {(s.first, s.count, s.size_bytes, s.version) for s in buffer.found.segments} == {
            (0, 2, 12, 1),
            (6, 3, 16, 1),
            (9, 3, 18, 1),
        }
        assert {s.opened_at.replace(microsecond=0) for s in buffer.found.segments} == {NOON}
        assert buffer.appender.accepted == 4 + 12
        assert origins_of(buffer.appender) == {"shard-0": "7", "shard-1": "3"}
        sealed, opened = await offered(buffer.outbox())
        (rows,) = (await buffer.outbox().open(sealed)).slices()
        arrival = int(sealed.opened_at.timestamp() * 1000)
        assert rows.drop_columns(["part"]).to_pylist() == [
            {"record": b"sealed 0", "row": 0, "arrival_ms": arrival, "meta": '{"partition_key":"k"}', "refused": None},
            {"record": b"", "row": 1, "arrival_ms": 5, "meta": None, "refused": None},
            {"record": b"sealed 2", "row": 2, "arrival_ms": arrival, "meta": None, "refused": "too large"},
        ]
        assert await delivered(buffer.outbox(), opened) == [b"open 0", b"open 1", b"open 2"]
        assert buffer.shelf.release(held.key) == ["far"]
        (held,) = await offered(buffer.outbox())
        assert await delivered(buffer.outbox(), held) == [b"held 0", b"held 1"]

    run(scenario())


def test_outcome_and_memo() -> None:
    """The durable outcome of a segment and what a destination noted of it are read."""

    async def scenario() -> None:
        buffer = await started()
        sealed, _ = await offered(buffer.outbox())
        kept = await buffer.outbox().kept(sealed)
        assert kept is not None
        (outcome,) = kept
        assert outcome.rows.column("record").to_pylist() == [b"sealed 0"]
        assert outcome.refused.table.select(["row", "code"]).to_pylist() == [{"row": 2, "code": "TooLarge"}]
        assert outcome.dropped.to_pylist() == [1]
        assert buffer.outbox().memo(sealed).read() == ("upload-1",)

    run(scenario())


def test_damaged_file() -> None:
    """The damaged file is still there to be looked at, and its good frames can be read."""

    async def scenario() -> None:
        buffer = await started()
        (path,) = buffer.paths(layout.DAMAGED)
        buffer.disk.rename(path, path.replace(layout.DAMAGED, layout.SEALED))
        segment = Segment(STREAM, LANE, 2, 4, 24, NOON, 1)
        assert await read(buffer.outbox(), segment) == [b"kept", b"kept too"]

    run(scenario())


def test_ledger() -> None:
    """Totals, what is held and why, attempts under way."""
    book, bad = read_book(golden(), LEDGER)
    assert bad == []
    assert book.totals == {(STREAM, "far"): Totals(delivered=6, damaged=2)}
    assert book.held == {((STREAM, LANE, 0), "far"): "refused: no"}
    assert book.trying == {((STREAM, LANE, 6), "far")}
    assert book.origins == {STREAM: {"shard-0": (2, "1")}}


def test_catalogue() -> None:
    """The stream, its definition as it was written, its spans."""
    entry = Catalogue(golden(), ROOT).entries[STREAM]
    assert (entry.origin, entry.state, entry.version, entry.updated_ms) == ("yaml", "ACTIVE", 1, None)
    assert entry.newest == {"destination": {"type": "folder", "name": "far", "path": "${OUT}"}}
    assert entry.owed("far", 9) == 9


def test_it_goes_on_from_there() -> None:
    """What is appended to the old folder joins it, and everything adds up."""

    async def scenario() -> None:
        buffer = await started()
        buffer.shelf.release((STREAM, LANE, 0))
        await buffer.appender.append(batch(b"new"))
        await buffer.appender.seal()
        for segment in await offered(buffer.outbox()):
            await delivered(buffer.outbox(), segment)
        standing = buffer.shelf.standings()[STREAM, "far"]
        assert (standing.totals.records, standing.pending) == (buffer.appender.accepted, 0) == (17, 0)

    run(scenario())


def test_partitions_without_their_records() -> None:
    """Cuts and what gathers are what they were, and are delivered with the records that lie in the segments."""

    async def scenario() -> None:
        buffer = PartedBuffer()
        buffer.leave_records_as_they_come()
        buffer.disk = golden("golden-4")
        outcomes = [buffer.disk.read(path) for path in buffer.paths(layout.OUT)]
        assert [content[8] for content in outcomes] == [4, 4]
        await buffer.start()
        await buffer.idle()
        standing = buffer.shelf.standings()[STREAM, "far"]
        assert (standing.totals, standing.pending, standing.held) == (
            Totals(delivered=2, sent_bytes=31, objects=2),
            4,
            2,
        )
        ((key, _),) = buffer.shelf.ledger.book.held
        assert buffer.shelf.release(key) == ["far"]
        await buffer.flush()
        stored, members = buffer.far["far"].stored, [(STREAM, LANE_4, first) for first in (0, 3)]
        assert stored == {
            f"app/{LANE_4}#b653535d9287ada6/{0:020d}{name_of(b'a')}": [b"a1", b"a22"],
            f"app/{lane_of(name_of(b'b'), 1, members)}/{0:020d}{name_of(b'b')}": [b"b1", b"b2"],
        }
        standing = buffer.shelf.standings()[STREAM, "far"]
        assert (standing.totals.delivered, standing.pending) == (6, 0)
        assert buffer.paths(layout.SEALED) + buffer.paths(layout.OUT) == []
        for task in buffer.tasks:
            task.cancel()

    run(scenario())
