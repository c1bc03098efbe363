"""A shard's log on its disk: what it leaves there, what it makes of damage, and what it costs."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from random import Random

import pytest
import shard_writer
from crash_states import crashes
from faulty_disk import Fault, Folder
from hypothesis import given, settings
from hypothesis import strategies as st
from recording_disk import Noted, RecordingDisk
from shard_disk import ALL, ROOT, SEGMENT, SHARD, DiskShard, arrivals_of, counters_of, everything, records_of, rows
from virtual_time import Inline, Stuck, passed, run

from firehose.buffer import frame, layout
from firehose.buffer.disk import LocalDisk
from firehose.buffer.retained import LATELY_COST, InUse
from firehose.contracts import Full, Unavailable, Unsure
from firehose.datastream import log
from firehose.datastream.log import FILE_SEGMENTS, DiskShardLog, LogOptions, ShardLogs, Told
from firehose.runtime import Runtime, Threads

TESTS = Path(__file__).parents[1]
ENVIRONMENT = {**os.environ, "PYTHONPATH": f"{TESTS.parent}:{TESTS}:{TESTS / 'support'}"}
Scenario = Callable[[DiskShard], Awaitable[None]]


class SlowReads(DiskShard):
    """Whatever needs a thread to be read takes long."""

    def reading(self) -> Threads:
        return Inline(1.0)


def in_log(scenario: Scenario, shard: DiskShard | None = None) -> None:
    """Runs the scenario over a started log."""

    async def whole() -> None:
        made = shard or DiskShard()
        await made.start()
        await scenario(made)

    run(whole())


def test_a_lane_is_a_generation() -> None:
    """Each process writes a lane of the next generation, which counters begin with; the first is 1."""

    async def scenario(shard: DiskShard) -> None:
        firsts = []
        for _ in range(3):
            firsts.append((await shard.log.append(rows(b"x"))).first)
            await shard.restart()
        assert firsts == [1 << 40, 2 << 40, 3 << 40]
        lanes = layout.lanes(shard.disk, ROOT, SHARD.id)
        assert [layout.generation(lane) for lane in lanes] == [1, 2, 3]

    in_log(scenario)


def test_a_lane_has_so_many_counters(monkeypatch: pytest.MonkeyPatch) -> None:
    """Counters of one lane never run into those of the next: past them nothing is taken until the next start."""
    monkeypatch.setattr(log, "LANE_RECORDS", 5)

    async def scenario(shard: DiskShard) -> None:
        for _ in range(3):
            for size in (3, 2):
                await shard.log.append(rows(*[b"x"] * size))
            with pytest.raises(Full):
                await shard.log.append(rows(b"x"))
            await shard.restart()
        run = await everything(shard.log)
        assert [counter >> 40 for counter in counters_of(run)] == [1] * 5 + [2] * 5 + [3] * 5

    in_log(scenario)


def test_an_idle_log_waits_for_nothing() -> None:
    """A log that has been written to holds no timer: nothing would ever wake the loop."""

    async def scenario(shard: DiskShard) -> None:
        await shard.log.append(rows(b"x"))
        await asyncio.get_running_loop().create_future()

    with pytest.raises(Stuck):
        in_log(scenario)


def test_what_was_never_written_leaves_nothing() -> None:
    """A log that took no record has no file and no folder of its own."""

    async def scenario(shard: DiskShard) -> None:
        await shard.log.expire(shard.runtime.now_ms())
        await shard.restart()
        await shard.log.delete()
        assert not shard.disk.exists(layout.stream_folder(ROOT, SHARD.id))
        assert shard.log.stored_bytes == 0

    in_log(scenario)


def test_stored_bytes_are_those_of_the_files() -> None:
    """What a log says it holds is the size of its files, but for their trailers, before and after it frees some."""

    async def scenario(shard: DiskShard) -> None:
        for size in (400, 700, 10, 900, 30):
            await shard.log.append(rows(b"x" * size))
            await passed(1)
        for _ in range(3):
            sizes = [shard.disk.size(path) for path in shard.paths()]
            assert 0 <= sum(sizes) - shard.log.stored_bytes <= 64 * len(sizes)
            await shard.log.expire(shard.runtime.now_ms() - 2500)
            await shard.restart()

    in_log(scenario)


def test_empty_records_expire() -> None:
    """Records without a byte fill files with their keys: those are sealed, too, and freed in their time."""

    async def scenario(shard: DiskShard) -> None:
        for _ in range(40):
            await shard.log.append(rows(b"", keys=("k" * 500,)))
            await passed(1)
        held = shard.log.stored_bytes
        await shard.log.expire(shard.runtime.now_ms() - 20_000)
        assert shard.log.stored_bytes < held
        assert len(records_of(await everything(shard.log))) >= 20
        assert max(map(shard.disk.size, shard.paths())) < FILE_SEGMENTS * SEGMENT + 2000

    in_log(scenario)


def test_empty_lanes_are_removed() -> None:
    """Of lanes whose records have expired only the one that says how far the counters went is left at a start."""

    async def scenario(shard: DiskShard) -> None:
        for _ in range(4):
            await shard.log.append(rows(b"x"))
            await shard.restart()
        await passed(1)
        await shard.log.expire(shard.runtime.now_ms())
        tip = shard.log.tip
        await shard.restart()
        assert [layout.generation(lane) for lane in layout.lanes(shard.disk, ROOT, SHARD.id)] == [4]
        assert shard.log.tip == tip
        assert (await shard.log.append(rows(b"y"))).first == 5 << 40

    in_log(scenario)


def test_readers_at_the_tip_share_a_look() -> None:
    """Many who read the same at the tip get one and the same run, until more is written."""

    async def scenario(shard: DiskShard) -> None:
        placed = await shard.log.append(rows(b"1"))
        same = await asyncio.gather(*(shard.log.read(placed.first, *ALL) for _ in range(9)))
        assert all(one is same[0] for one in same)
        await shard.log.append(rows(b"2"))
        assert records_of(await shard.log.read(placed.first, *ALL)) == [b"1", b"2"]

    in_log(scenario)


def test_small_frames_are_read_together() -> None:
    """Appends that were each a frame come as one piece, with their own arrivals; what a file's end or damage keeps
    apart does not, and a large frame is not copied with others.
    """

    async def scenario(shard: DiskShard) -> None:
        told = []
        for number in range(20):
            told.append((await shard.log.append(rows(b"%d" % number))).arrival_ms)
            await passed(0.1)
        run = await everything(shard.log)
        assert [piece.num_rows for _, piece in run.pieces] == [20]
        assert arrivals_of(run) == told
        assert len(set(told)) == 20
        for few in (1, 2, 19):
            part = await shard.log.read(run.pieces[0][0], few, 1 << 20)
            assert (part.count, part.waiting_ms) == (few, told[few])
        await shard.restart()
        path = shard.paths(layout.SEALED)[0]
        shard.disk.flip(path, shard.disk.read(path).index(frame.FRAME_MAGIC, shard.disk.size(path) // 2))
        pieces = (await everything(shard.log)).pieces
        assert sum(piece.num_rows for _, piece in pieces) == 19
        assert len(pieces) == 2
        assert pieces[0][0] + pieces[0][1].num_rows + 1 == pieces[1][0]

    in_log(scenario)


def test_what_was_written_last_is_read_from_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody looks at the disk for it, as far as it fits, and it is what the disk has: record by record, piece by
    piece, from wherever and however much is asked for.
    """

    async def scenario(shard: DiskShard) -> None:
        beside = DiskShard()  # the same records, none of them in memory
        await beside.start()
        dice, total = Random(7), 0
        for _ in range(60):
            sent = [dice.randbytes(dice.choice([0, 3, 300, 40_000])) for _ in range(dice.randint(1, 4))]
            total += len(sent)
            one, other = await asyncio.gather(shard.log.append(rows(*sent)), beside.log.append(rows(*sent)))
            assert one == other
            await passed(0.001)
        position = shard.log.oldest()
        monkeypatch.setattr(shard.disk, "view", None)
        for _ in range(200):
            place, bounds = position + dice.randrange(total), (dice.randint(1, 20), dice.randint(1, 200_000))
            assert await shard.log.read(place, *bounds) == await beside.log.read(place, *bounds)
        assert await everything(shard.log) == await everything(beside.log)

    in_log(scenario, DiskShard(lately_bytes=1 << 30))


def test_memory_of_what_was_written_last_is_bounded() -> None:
    """It holds so many bytes of all shards and no more, however many frames these are; the oldest is let go first."""

    async def scenario(shard: DiskShard) -> None:
        lately = shard.log._logs.lately
        for size in (1, 200, 7000, 1, 1, 90_000, 300, 3):
            await shard.log.append(rows(b"x" * size))
            kept = [one for file in shard.log._kept for one in file.lately]
            assert lately.size_bytes == sum(one.size + LATELY_COST for one in kept) <= shard.lately_bytes
        assert [one.count for one in kept] == [1, 1]

    in_log(scenario, DiskShard(lately_bytes=8000))


def test_a_look_that_was_overtaken_is_not_shared() -> None:
    """What was appended while another still read is in the next read of the same position."""

    async def scenario(shard: DiskShard) -> None:
        await shard.log.append(rows(b"1" * 2000))
        await shard.log.append(rows(b"2"))
        reading = asyncio.ensure_future(everything(shard.log))
        await passed(0)
        await shard.log.append(rows(b"3"))
        await reading
        assert records_of(await everything(shard.log)) == [b"1" * 2000, b"2", b"3"]

    in_log(scenario, SlowReads())


# What the disk does to it.


def test_failed_sync() -> None:
    """Who waited is told that nothing is sure; no reader sees the frame, while it waits to be mended and after."""

    async def scenario(shard: DiskShard) -> None:
        await shard.log.append(rows(b"before"))
        shard.fail_next_sync()
        with pytest.raises(Unsure):
            await shard.log.append(rows(b"lost"))
        placed = await shard.log.append(rows(b"after"))
        assert placed.first == 2 << 40
        for seconds in (0, 0.5, 5):
            await passed(seconds)
            assert records_of(await everything(shard.log)) == [b"before", b"after"]
        assert len(shard.paths(layout.OPEN)) == len(shard.paths(layout.SEALED)) == 1
        await shard.crash()
        assert records_of(await everything(shard.log)) == [b"before", b"after"]

    in_log(scenario)


def test_expiry_waits_for_a_file_to_be_mended() -> None:
    """What a failing disk left open is freed once it is mended, and holds up nothing but what is younger."""

    async def scenario(shard: DiskShard) -> None:
        await shard.log.append(rows(b"before"))
        shard.fail_next_sync()
        with pytest.raises(Unsure):
            await shard.log.append(rows(b"lost"))
        await shard.log.append(rows(b"after"))
        await shard.log.expire(shard.runtime.now_ms() + 1)
        assert records_of(await everything(shard.log)) == [b"before", b"after"]
        await passed(5)
        await shard.log.expire(shard.runtime.now_ms())
        assert shard.log.oldest() == shard.log.tip
        assert not shard.paths(layout.OPEN) + shard.paths(layout.SEALED)

    in_log(scenario)


def test_a_file_that_cannot_be_removed() -> None:
    """Where the disk refuses to free a file it is told, and the file can still be read and goes the next time."""

    async def scenario(shard: DiskShard) -> None:
        await shard.log.append(rows(b"x" * 2000))
        await passed(1)
        shard.disk.faults.append(Fault("remove", ending=layout.SEALED))
        with pytest.raises(OSError, match="Input/output error"):
            await shard.log.expire(shard.runtime.now_ms())
        assert records_of(await everything(shard.log)) == [b"x" * 2000]
        await shard.log.expire(shard.runtime.now_ms())
        assert not shard.paths(layout.SEALED)

    in_log(scenario)


def test_a_torn_tail_is_cut() -> None:
    """Half a frame at the end of what a killed process left is cut, reported, and never read."""

    async def scenario(shard: DiskShard) -> None:
        await shard.log.append(rows(b"whole"))
        shard.disk.faults.append(Fault("write", ending=layout.OPEN))
        with pytest.raises(Unavailable):
            await shard.log.append(rows(b"torn" * 50))
        await shard.crash(power=False)
        assert records_of(await everything(shard.log)) == [b"whole"]
        assert len(shard.torn) == 1
        assert not shard.reports
        assert len(shard.failures) == 1

    in_log(scenario)


async def _frames(shard: DiskShard) -> list[bytes]:
    """Two sealed files of five frames each."""
    sent = [b"%d" % number * 200 for number in range(10)]
    for record in sent:
        await shard.log.append(rows(record))
    assert len(shard.paths(layout.SEALED)) == 2
    return sent


def test_damage_is_read_around() -> None:
    """A damaged frame is left out, whoever finds it; the others keep their counters, and it is reported once."""

    async def scenario(shard: DiskShard) -> None:
        sent = await _frames(shard)
        counters = counters_of(await everything(shard.log))
        path = shard.paths(layout.SEALED)[0]
        shard.disk.flip(path, 2 * shard.disk.size(path) // 5)
        for _ in range(2):
            await shard.crash(power=False)
            shard.reports.clear()
            for _ in range(2):
                run = await everything(shard.log)
                assert len(counters_of(run)) == 9
                for counter, record in zip(counters_of(run), records_of(run), strict=True):
                    assert sent[counters.index(counter)] == record
            assert len(shard.reports) == 1
            assert path in shard.reports[0]

    in_log(scenario)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 1), st.integers(0, 10**6), st.integers(1, 255)), min_size=1, max_size=4))
def test_any_damage(flips: list[tuple[int, int, int]]) -> None:
    """Whatever bytes of its files are damaged, a log opens, invents nothing, and keeps what the damage left whole."""

    async def scenario(shard: DiskShard) -> None:
        sent = await _frames(shard)
        counters = counters_of(await everything(shard.log))
        paths = shard.paths(layout.SEALED)
        for which, offset, mask in flips:
            shard.disk.flip(paths[which], offset % shard.disk.size(paths[which]), mask)
        await shard.crash(power=False)
        run = await everything(shard.log)
        found = dict(zip(counters_of(run), records_of(run), strict=True))
        assert list(found) == sorted(found)
        assert all(sent[counters.index(counter)] == record for counter, record in found.items())
        assert len(sent) - len(found) <= len(flips)
        arrivals = arrivals_of(run)
        for ms in {*arrivals, arrivals[-1] + 1}:
            expected = [record for record, at in zip(records_of(run), arrivals, strict=True) if at >= ms]
            assert records_of(await everything(shard.log, shard.log.since(ms))) == expected
        placed = await shard.log.append(rows(b"after"))
        assert placed.first > counters[-1]
        await shard.log.expire(shard.runtime.now_ms() + 1)
        assert shard.log.oldest() == shard.log.tip

    in_log(scenario)


@pytest.mark.parametrize("stop", range(12))
def test_a_deletion_that_was_cut_short(stop: int) -> None:
    """A deletion that dies at any step leaves a log that opens, and that the next attempt removes to the last file."""

    async def scenario(shard: DiskShard) -> None:
        for _ in range(2):
            await shard.log.append(rows(b"x" * 600, b"y" * 600))
            await shard.log.append(rows(b"z"))
            await shard.restart()
        shard.disk.stop_at = len(shard.disk.steps) + stop
        try:
            await shard.log.delete()
        except OSError:
            await passed(1)
        await shard.crash(dice=Random(stop))
        await shard.log.delete()
        await shard.crash()
        assert not shard.disk.exists(layout.stream_folder(ROOT, SHARD.id))

    in_log(scenario)


def test_power_cuts() -> None:
    """In every state that a power cut may leave, what was acknowledged and has not expired is there, and counters that
    were given out are not given out again.
    """

    async def life(disk: RecordingDisk) -> None:
        shard = DiskShard(disk)
        await shard.start()
        for number in range(4):
            for record in (b"a%d" % number * 100, b"b%d" % number * 500):
                placed = await shard.log.append(rows(record))
                disk.note("acknowledged", (placed.first, record))
                await passed(1)
            if number == 1:
                await shard.log.close()
                disk.restarted()
                shard.log = shard.opened()
            if number == 2:
                horizon_ms = shard.runtime.now_ms() - 2500
                disk.note("expired", horizon_ms)
                await shard.log.expire(horizon_ms)

    disk, looked = RecordingDisk(), 0
    run(life(disk))
    for crash in crashes(disk, 6, Random(1)):
        noted = [step for step in disk.record[: crash.at] if isinstance(step, Noted)]
        run(_after(crash.root(), noted))
        looked += 1
    assert looked > 100


async def _after(root: Folder, noted: list[Noted]) -> None:
    shard = DiskShard(RecordingDisk(root))
    await shard.start()
    run_of_all = await everything(shard.log)
    found = dict(zip(counters_of(run_of_all), records_of(run_of_all), strict=True))
    given_out = dict(step.what for step in noted if step.kind == "acknowledged")
    expired = any(step.kind == "expired" for step in noted)
    missing = given_out.keys() - found.keys()
    assert not missing or expired
    assert missing <= set(sorted(given_out)[:4]), "a record that had not expired is lost"
    assert all(given_out.get(counter, record) == record for counter, record in found.items())
    assert (await shard.log.append(rows(b"next"))).first > max([*found, *given_out], default=0)


# On a real disk.


class RealShard:
    """A log in a folder, with real threads."""

    def __init__(self, folder: Path, segment_bytes: int = 100_000) -> None:
        self.folder = str(folder)
        self.runtime = Runtime()
        self._pools = self.runtime.threads("sync", 2), self.runtime.threads("read", 3)
        self._options = LogOptions(0, segment_bytes)
        self.log = self.opened()

    def opened(self) -> DiskShardLog:
        told = Told(print, print, print)
        self.logs = ShardLogs(LocalDisk(), self.runtime, *self._pools, self._options, told)
        return self.logs.open(self.folder, SHARD)

    async def close(self) -> None:
        await self.log.close()
        for pool in self._pools:
            pool.close()


async def test_an_open_reader_keeps_what_it_has(tmp_path: Path) -> None:
    """What was read stays readable, byte for byte, when its files have expired and when all of the shard is deleted."""
    shard = RealShard(tmp_path)
    sent = [b"%05d" % number * 2000 for number in range(50)]
    for record in sent:
        await shard.log.append(rows(record))
    held = await everything(shard.log)
    await shard.log.expire(shard.runtime.now_ms() + 1000)
    assert (await everything(shard.log)).count == 0
    assert records_of(held) == sent
    await shard.log.append(rows(b"last"))
    last = await everything(shard.log)
    await shard.log.delete()
    assert not (tmp_path / "buffer" / SHARD.id).exists()
    assert records_of(last) == [b"last"]
    assert records_of(held) == sent
    await shard.close()


async def test_readers_beside_a_writer(tmp_path: Path) -> None:
    """While one writes and files are sealed, mapped and let go, readers anywhere see each record once and in order."""
    shard = RealShard(tmp_path, 40_000)
    shard.logs.files = InUse(2)
    total = 3000

    async def write() -> None:
        number = 0
        while number < total:
            count = min(1 + number % 17, total - number)
            await shard.log.append(rows(*(b"%d" % row + b"x" * (row % 300) for row in range(number, number + count))))
            number += count

    async def follow(start: int, most_records: int) -> None:
        position, number = shard.log.tip, start
        while number < total:
            await shard.log.beyond(position)
            run = await shard.log.read(position, most_records, 1 << 20)
            for record in records_of(run):
                assert record == b"%d" % number + b"x" * (number % 300)
                number += 1
            position = run.next

    readers = [follow(0, most) for most in (10_000, 7, 100)]
    await asyncio.gather(write(), *readers)
    assert len([one for one in LocalDisk().tree(shard.folder) if one.name.endswith(layout.SEALED)]) > 5
    run = await everything(shard.log)
    for back in (1, 700, 1500, 2999):
        counter = counters_of(run)[-back]
        assert records_of(await shard.log.read(counter, 1, 1))[0].startswith(b"%d" % (total - back))
    await shard.close()


async def test_small_frames_are_found(tmp_path: Path) -> None:
    """In a file of many small frames any record and any instant is found, by its writer's marks and by new ones."""
    shard = RealShard(tmp_path, 1 << 20)
    placed = [await shard.log.append(rows(b"%d" % number * 60)) for number in range(500)]
    for _ in range(2):
        for number in (0, 1, 2, 200, 377, 498, 499):
            found = await shard.log.read(placed[number].first, 1, 1)
            assert records_of(found) == [b"%d" % number * 60]
        for ms in {one.arrival_ms for one in placed}:
            first = next(one.first for one in placed if one.arrival_ms >= ms)
            assert shard.log.since(ms) == first
        await shard.log.close()
        shard.log = shard.opened()
    await shard.close()


async def test_kills(tmp_path: Path) -> None:
    """Killed in the middle of everything, again and again, a log keeps all that it acknowledged, under its counters."""
    acknowledged: dict[int, bytes] = {}
    for lines in (5, 30, 80):
        writer = await asyncio.create_subprocess_exec(
            sys.executable, shard_writer.__file__, str(tmp_path), env=ENVIRONMENT, stdout=asyncio.subprocess.PIPE
        )
        assert writer.stdout is not None
        for _ in range(lines):
            first, count, number = map(int, (await writer.stdout.readline()).split())
            for counter in range(first, first + count):
                assert acknowledged.setdefault(counter, b"%d:" % number) == b"%d:" % number
        writer.kill()
        await writer.communicate()
        shard = RealShard(tmp_path, 20_000)
        run = await everything(shard.log)
        found = dict(zip(counters_of(run), records_of(run), strict=True))
        assert all(found[counter].startswith(record) for counter, record in acknowledged.items())
        assert list(found) == sorted(found)
        await shard.close()
    assert max(acknowledged) >> 40 == 3
