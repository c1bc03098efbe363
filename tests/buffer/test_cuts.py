"""Dynamic partitions gather over segments, are cut at their thresholds, and arrive once each, whatever happens."""

from __future__ import annotations

import errno
import json
from base64 import b64decode
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable
from functools import partial
from random import Random

import pyarrow as pa
import pytest
from disk_buffer import LEDGER, ROOT, STREAM, batch
from faulty_disk import Fault
from parted import Objects, PartedBuffer, name_of
from virtual_time import passed, run

from firehose.buffer import layout
from firehose.buffer.cuts import Thresholds
from firehose.buffer.groups import is_cut
from firehose.buffer.ledger import read_book
from firehose.contracts import Memo, Refused, Retry
from firehose.delivery.dead_letters import CONVERSION
from firehose.model import Batch, Range, Receipt, Rejections, Totals

BOTH = ("far", "near")


def in_buffer(
    scenario: Callable[[PartedBuffer], Awaitable[None]], destinations: tuple[str, ...] = ("far",), splits: bool = False
) -> None:
    """Runs it where records may be changed; and, unless it splits some, where rows go on without their records."""

    async def whole(bare: bool) -> None:
        buffer = PartedBuffer(destinations)
        if bare:
            buffer.leave_records_as_they_come()
        await buffer.start()
        await scenario(buffer)
        for task in buffer.tasks:
            task.cancel()

    run(whole(bare=False))
    if not splits:
        run(whole(bare=True))


def objects(buffer: PartedBuffer, destination: str = "far") -> list[list[bytes]]:
    return sorted(buffer.far[destination].stored.values())


def test_groups_gather_over_segments() -> None:
    """Nothing is sent before its threshold; at it, each partition is one object of all its segments' rows, in order;
    then the segments' files go.
    """

    async def scenario(buffer: PartedBuffer) -> None:
        for records in ((b"a1", b"b1", b"a2"), (b"b2", b"a3")):
            await buffer.put(*records)
        await buffer.idle()
        assert objects(buffer) == []
        buffer.check_sums()
        await passed(601)
        assert objects(buffer) == [[b"a1", b"a2", b"a3"], [b"b1", b"b2"]]
        assert buffer.far["far"].rows(name_of(b"a")).total() == 3
        assert buffer.paths(layout.SEALED) + buffer.paths(layout.OUT) == []
        assert len(buffer.gone) == 2
        buffer.check_sums()
        assert buffer.shelf.standings()[STREAM, "far"].totals == Totals(delivered=5, sent_bytes=10, objects=2)

    in_buffer(scenario)


def test_records_with_one_number_in_several_segments_are_several_in_a_cut() -> None:
    """Side by side in a slice, they are told apart by the piece that they came in."""

    async def scenario(buffer: PartedBuffer) -> None:
        for record in (b"a1", b"a2", b"a3"):
            await buffer.put(record)
        await passed(601)
        assert objects(buffer) == [[b"a1", b"a2", b"a3"]]
        assert buffer.far["far"].rows(name_of(b"a")).total() == 3
        buffer.check_sums()
        assert buffer.shelf.standings()[STREAM, "far"].totals == Totals(delivered=3, sent_bytes=6, objects=1)

    in_buffer(scenario)


def test_a_full_partition_is_cut_at_once() -> None:
    """A partition that reaches the size is cut without the others, and what comes then opens it anew."""

    async def scenario(buffer: PartedBuffer) -> None:
        buffer.thresholds = Thresholds(6, 600, buffer.limits.limit_bytes)
        for records in ((b"a111", b"b1"), (b"a2", b"b2"), (b"a3", b"b3")):
            await buffer.put(*records)
            await buffer.idle()
        assert objects(buffer) == [[b"a111", b"a2"], [b"b1", b"b2", b"b3"]]
        assert buffer.shelf.standings()[STREAM, "far"].pending == 1
        buffer.check_sums()

    in_buffer(scenario)


def test_age_is_that_of_the_oldest_record() -> None:
    """A partition is due when its own oldest record is as old as the interval, by a clock that does not jump."""

    async def scenario(buffer: PartedBuffer) -> None:
        await buffer.put(b"a1")
        await passed(300)
        await buffer.put(b"b1", b"a2")
        await passed(1)
        buffer.runtime.wall_ms += 3_600_000
        await passed(298)
        assert objects(buffer) == []
        await passed(2)
        assert objects(buffer) == [[b"a1", b"a2"]]
        await passed(300)
        assert objects(buffer) == [[b"a1", b"a2"], [b"b1"]]

    in_buffer(scenario)


def test_newest_thresholds_count() -> None:
    """A shorter interval, told while partitions are open, holds for them too."""

    async def scenario(buffer: PartedBuffer) -> None:
        await buffer.put(b"a1")
        await passed(100)
        buffer.thresholds = Thresholds(1000, 60, buffer.limits.limit_bytes)
        buffer.shelf.rescheduled()
        await passed(1)
        assert objects(buffer) == [[b"a1"]]

    in_buffer(scenario)


def test_another_version_is_another_partition() -> None:
    """Rows of segments sealed under different definitions never share an object."""

    async def scenario(buffer: PartedBuffer) -> None:
        await buffer.put(b"a1")
        buffer.version = 2
        await buffer.put(b"a2")
        await buffer.flush()
        assert objects(buffer) == [[b"a1"], [b"a2"]]
        assert sorted(segment.version for _, segment in buffer.far["far"].attempts) == [1, 2]

    in_buffer(scenario, splits=True)


MIXED = (b"a1|b1|!1|~1", b"!2", b"~2", b"a2|a3", b"b2|a4", b"c1|!3", b"!4|~3", b"d")


def test_split_records_add_up() -> None:
    """A record whose rows go to several partitions, the error output and nowhere is still one record: the sums hold
    after each cut, and so does the ledger's word when it is read anew.
    """

    async def scenario(buffer: PartedBuffer) -> None:
        await buffer.put(*MIXED)
        await buffer.idle()
        buffer.check_sums()
        for _ in range(2):
            await buffer.crash(power=False)
            buffer.check_sums()
            await buffer.idle()
            buffer.check_sums()
        await buffer.flush()
        buffer.check_sums()
        totals = buffer.shelf.standings()[STREAM, "far"].totals
        assert totals == Totals(delivered=8, dropped=3, dead=4, split=7, sent_bytes=15, objects=4)
        assert totals.records == len(MIXED)
        assert buffer.letters() == 4
        assert objects(buffer) == [[b"a1", b"a2", b"a3", b"a4"], [b"b1", b"b2"], [b"c1"], [b"d"]]

    in_buffer(scenario, splits=True)


def test_destinations_are_owed_separately() -> None:
    """Each destination has its own cuts; the file goes with the last."""

    async def scenario(buffer: PartedBuffer) -> None:
        buffer.far["near"].always = Retry("busy")
        await buffer.put(*MIXED)
        buffer.shelf.flush(STREAM)
        await passed(30)
        assert len(objects(buffer)) == 4
        assert buffer.paths(layout.SEALED)
        buffer.check_sums()
        buffer.far["near"].always = None
        await passed(600)
        assert objects(buffer) == objects(buffer, "near")
        assert buffer.paths(layout.SEALED) == []
        assert buffer.letters() == 4
        buffer.check_sums()

    in_buffer(scenario, BOTH, splits=True)


def test_a_far_side_that_fails_does_not_keep_segments_from_parting() -> None:
    """While cuts wait for their far side, what is sealed gathers on."""

    async def scenario(buffer: PartedBuffer) -> None:
        buffer.far["far"].always = Retry("busy")
        for number in range(6):
            await buffer.put(b"a%d" % number)
            buffer.shelf.flush(STREAM)
        await passed(5)
        assert len(buffer.shelf.ledger.book.parted) == 6
        buffer.far["far"].always = None
        await passed(600)
        assert buffer.far["far"].rows() == Counter(b"a%d" % number for number in range(6))

    in_buffer(scenario)


def test_flush_waits_for_what_is_not_parted_yet() -> None:
    """A flush cuts everything that was sealed before it, each partition once, and nothing that comes after."""

    async def scenario(buffer: PartedBuffer) -> None:
        for number in range(5):
            await buffer.put(b"a%d" % number)
        await buffer.flush()
        await buffer.put(b"a5")
        await buffer.idle()
        assert objects(buffer) == [[b"a0", b"a1", b"a2", b"a3", b"a4"]]

    in_buffer(scenario)


def test_room_is_made_before_the_buffer_is_full() -> None:
    """At three quarters of the stream's bound the oldest partitions are cut early, and no more than need be."""

    async def scenario(buffer: PartedBuffer) -> None:
        buffer.thresholds = Thresholds(1000, 600, 40)
        for record in (b"a" * 10, b"b" * 10, b"c" * 10, b"d" * 5):
            await buffer.put(record)
            await passed(1)
        await buffer.idle()
        assert objects(buffer) == [[b"a" * 10]]

    in_buffer(scenario)


def test_held_and_released() -> None:
    """A cut that is refused is held, also over a crash, and counts so; released, it is delivered under its name."""

    async def scenario(buffer: PartedBuffer) -> None:
        buffer.far["far"].script = [Refused("no")]
        await buffer.put(b"a1|b1", b"a2")
        await buffer.flush()
        standing = buffer.shelf.standings()[STREAM, "far"]
        ((key, _),) = buffer.shelf.ledger.book.held
        assert is_cut(key)
        assert 0 < standing.held == standing.pending
        await buffer.crash()
        await buffer.flush()
        assert len(objects(buffer)) == 1
        buffer.check_sums()
        assert buffer.shelf.release(key) == ["far"]
        await buffer.idle()
        assert objects(buffer) == [[b"a1", b"a2"], [b"b1"]]
        assert len(set(buffer.far["far"].names)) == 2
        buffer.check_sums()

    in_buffer(scenario, splits=True)


def test_letters_of_a_cut_given_up() -> None:
    """Past the deadline a record that is in the cut whole becomes one letter with the user's bytes; of one that other
    cuts have rows of, each row is a letter.
    """

    async def scenario(buffer: PartedBuffer) -> None:
        buffer.deadline_seconds = 0
        buffer.far["far"].script = [Retry("busy")] * 2
        await buffer.put(b"a1|a2", b"a3|b1|a4", b"b2")
        await buffer.flush()
        await passed(100)
        buffer.check_sums()
        totals = buffer.shelf.standings()[STREAM, "far"].totals
        assert totals == Totals(dead=5, split=2)

    in_buffer(scenario, splits=True)


def test_lost_outcome_is_made_anew() -> None:
    """Where the durable outcome of a parted segment is gone or damaged after a crash it is made again: cuts keep their
    rows, and what was delivered is not delivered again.
    """

    async def scenario(buffer: PartedBuffer) -> None:
        buffer.thresholds = Thresholds(4, 600, buffer.limits.limit_bytes)
        await buffer.put(b"a1", b"a2", b"b1", b"!")
        await buffer.idle()
        assert objects(buffer) == [[b"a1", b"a2"]]
        (path,) = buffer.paths(layout.OUT)
        buffer.disk.remove(path)
        await buffer.crash(power=False)
        await buffer.flush()
        assert objects(buffer) == [[b"a1", b"a2"], [b"b1"]]
        assert buffer.letters() == 1
        buffer.check_sums()

    in_buffer(scenario)


def test_rows_that_go_on_as_they_came_are_written_once() -> None:
    """Their durable outcome goes without the records, and says so to an older release by its format."""

    async def formats(bare: bool) -> tuple[int, bool]:
        buffer = PartedBuffer()
        if bare:
            buffer.leave_records_as_they_come()
        await buffer.start()
        await buffer.put(b"a" * 100, b"b")
        await buffer.idle()
        (path,) = buffer.paths(layout.OUT)
        content = buffer.disk.read(path)
        await buffer.flush()
        assert objects(buffer) == [[b"a" * 100], [b"b"]]
        for task in buffer.tasks:
            task.cancel()
        return int.from_bytes(content[8:12], "little"), b"a" * 100 in content

    assert run(formats(bare=True)) == (4, False)
    assert run(formats(bare=False)) == (3, True)


async def ended_with_held_cuts() -> tuple[PartedBuffer, str]:
    """A process that has ended, its outcome kept without the records; and the segment that has them, in two frames."""
    buffer = PartedBuffer()
    buffer.leave_records_as_they_come()
    buffer.far["far"].script = [Refused("not yet")] * 2
    await buffer.start()
    for records in ((b"a1" * 20, b"b1" * 20), (b"a2" * 20, b"c2" * 20)):
        await buffer.appender.append(batch(*records))
    await buffer.appender.seal()
    await buffer.flush()
    (path,) = buffer.paths(layout.SEALED)
    await buffer._end_tasks()
    return buffer, path


async def delivered_after_a_restart(buffer: PartedBuffer) -> None:
    await buffer.crash(power=False)
    for key, _ in list(buffer.shelf.ledger.book.held):
        buffer.shelf.release(key)
    await buffer.flush()
    await passed(60)


def test_damage_to_a_segment_whose_rows_are_parted() -> None:
    """Where an outcome goes without its records, and a restart finds some of these damaged, it is made anew from the
    others: these arrive in the cuts they are in, nothing wrong does, and what is lost is counted and told.
    """

    async def scenario() -> None:
        buffer, path = await ended_with_held_cuts()
        buffer.disk.flip(path, buffer.disk.read(path).index(b"a1a1"))
        await delivered_after_a_restart(buffer)
        assert objects(buffer) == [[b"a2" * 20], [b"c2" * 20]]
        assert any("made anew" in report for report in buffer.reports)
        assert buffer.shelf.standings()[STREAM, "far"].totals.damaged == 2
        assert buffer.paths(layout.SEALED) == []
        buffer.check_sums()

    run(scenario())


def test_records_of_parted_rows_that_lie_elsewhere_now() -> None:
    """Where damage has moved whole frames, all of them can be read, but not where the outcome says: it is made anew."""

    async def scenario() -> None:
        buffer, path = await ended_with_held_cuts()
        buffer.disk.put(path, bytes(64) + buffer.disk.read(path))
        await delivered_after_a_restart(buffer)
        assert objects(buffer) == [[b"a1" * 20, b"a2" * 20], [b"b1" * 20], [b"c2" * 20]]
        assert any("made anew" in report for report in buffer.reports)
        assert buffer.paths(layout.SEALED) == []
        buffer.check_sums()

    run(scenario())


@pytest.mark.parametrize("folded", [False, True])
def test_each_damaged_line_of_the_ledger(folded: bool) -> None:
    """Whichever line a restart cannot read, before a fold or behind it: it is told, rows arrive once, in the cuts that
    they were in, those of the others arrive too, and the books balance.
    """

    async def opened(damaged: int) -> bool:
        buffer = PartedBuffer()
        buffer.thresholds = Thresholds(6, 600, buffer.limits.limit_bytes)
        buffer.far["far"].script = [None, Refused("not yet")]
        await buffer.start()
        await buffer.put(b"a1a", b"b1b", b"c1")
        await buffer.put(b"a2a", b"b2b", b"d2")
        await buffer.idle()
        if folded:
            await buffer.crash(power=False)
        await buffer._end_tasks()
        lines = buffer.disk.read(LEDGER).splitlines(keepends=True)
        buffer.disk.flip(LEDGER, sum(map(len, lines[:damaged])) + 20)
        await buffer.crash(power=False)
        for key, _ in list(buffer.shelf.ledger.book.held):
            buffer.shelf.release(key)
        await buffer.put(b"a3")
        await buffer.flush()
        assert objects(buffer) == [[b"a1a", b"a2a"], [b"a3"], [b"b1b", b"b2b"], [b"c1"], [b"d2"]], lines[damaged]
        assert any("the line at offset" in report for report in buffer.reports)
        assert buffer.paths(layout.SEALED) == [], lines[damaged]
        if b'"totals"' not in lines[damaged]:
            buffer.check_sums()
        return damaged + 1 < len(lines)

    async def whole() -> None:
        damaged = 1  # the line before says which format it is
        while await opened(damaged):
            damaged += 1
        assert damaged >= 8

    run(whole())


def test_each_damaged_line_where_one_destination_has_everything() -> None:
    """Its cuts are forgotten by a fold, while the other's still wait for their far side: whichever line is damaged
    then, both have each row once.
    """

    async def opened(damaged: int) -> bool:
        buffer = PartedBuffer(BOTH)
        buffer.far["near"].always = Retry("busy")
        await buffer.start()
        await buffer.put(b"a1", b"b1")
        await buffer.put(b"a2")
        buffer.shelf.flush(STREAM)
        await passed(10)
        await buffer.crash(power=False)  # the next process folds
        await buffer._end_tasks()
        lines = buffer.disk.read(LEDGER).splitlines(keepends=True)
        buffer.disk.flip(LEDGER, sum(map(len, lines[:damaged])) + 20)
        buffer.far["near"].always = None
        await buffer.crash(power=False)
        await buffer.flush()
        assert objects(buffer) == objects(buffer, "near") == [[b"a1", b"a2"], [b"b1"]], lines[damaged]
        assert buffer.paths(layout.SEALED) == []
        for task in buffer.tasks:
            task.cancel()
        return damaged + 1 < len(lines)

    async def whole() -> None:
        damaged = 1
        while await opened(damaged):
            damaged += 1
        assert damaged >= 8

    run(whole())


def test_a_byte_between_two_lines_of_the_ledger() -> None:
    """Two lines become one that nobody can read: neither is all that says what would bring rows twice."""

    async def opened(damaged: int) -> bool:
        buffer = PartedBuffer()
        buffer.thresholds = Thresholds(4, 600, buffer.limits.limit_bytes)
        await buffer.start()
        await buffer.put(b"a1")
        await buffer.put(b"a2", b"b2")
        await buffer.idle()
        assert objects(buffer) == [[b"a1", b"a2"]]
        await buffer.crash(power=False)  # the next process folds
        await buffer._end_tasks()
        lines = buffer.disk.read(LEDGER).splitlines(keepends=True)
        buffer.disk.flip(LEDGER, sum(map(len, lines[:damaged])) - 1)
        await buffer.crash(power=False)
        await buffer.put(b"a3")
        await buffer.flush()
        assert objects(buffer) == [[b"a1", b"a2"], [b"a3"], [b"b2"]], lines[damaged - 1 : damaged + 1]
        assert buffer.paths(layout.SEALED) == []
        for task in buffer.tasks:
            task.cancel()
        return damaged < len(lines)

    async def whole() -> None:
        damaged = 2
        while await opened(damaged):
            damaged += 1
        assert damaged >= 6

    run(whole())


class LostAnswers(Objects):
    """Stores, and then nobody hears of it."""

    loses = True

    async def deliver(self, batch: Batch, memo: Memo) -> Receipt:
        receipt = await Objects.deliver(self, batch, memo)
        if self.loses:
            raise Retry("the answer was lost")
        return receipt


def damaged_lines(buffer: PartedBuffer, *chosen: bytes) -> int:
    """Damages each line of the ledger in which all these bytes are; how many."""
    lines = buffer.disk.read(LEDGER).splitlines(keepends=True)
    hit = [number for number, line in enumerate(lines) if all(one in line for one in chosen)]
    for number in hit:
        buffer.disk.flip(LEDGER, sum(map(len, lines[:number])) + 20)
    return len(hit)


def test_each_damaged_line_where_the_answer_was_lost() -> None:
    """A cut is stored, and the process ends before it hears of that. Whichever line is damaged then, before a fold and
    behind it: it is the same cut that is delivered again.
    """

    async def opened(damaged: int, folded: bool) -> bool:
        buffer = PartedBuffer()
        buffer.thresholds = Thresholds(4, 600, buffer.limits.limit_bytes)
        buffer.far["far"] = far = LostAnswers()
        await buffer.start()
        await buffer.put(b"a1", b"b1")
        await buffer.put(b"a2")
        await passed(3)
        assert objects(buffer) == [[b"a1", b"a2"]]
        if folded:
            await buffer.crash(power=False)
        await buffer._end_tasks()
        lines = buffer.disk.read(LEDGER).splitlines(keepends=True)
        buffer.disk.flip(LEDGER, sum(map(len, lines[:damaged])) + 20)
        far.loses = False
        await buffer.crash(power=False)
        await buffer.put(b"a3")
        await buffer.flush()
        assert objects(buffer) == [[b"a1", b"a2"], [b"a3"], [b"b1"]], lines[damaged]
        assert buffer.paths(layout.SEALED) == []
        for task in buffer.tasks:
            task.cancel()
        return damaged + 1 < len(lines)

    async def whole(folded: bool) -> None:
        damaged = 1
        while await opened(damaged, folded):
            damaged += 1
        assert damaged >= 5

    for folded in (False, True):
        run(whole(folded))


def test_a_cut_made_anew_of_others_takes_nobodys_place() -> None:
    """All lines about a cut are damaged, one of its segments is gone, and another one came: what is made of these has
    as many records as the first had, and is another object.
    """

    async def scenario(buffer: PartedBuffer) -> None:
        buffer.thresholds = Thresholds(4, 600, buffer.limits.limit_bytes)
        await buffer.put(b"a1", b"b1")
        await buffer.put(b"a2")
        await buffer.idle()
        assert objects(buffer) == [[b"a1", b"a2"]]
        await buffer._end_tasks()
        assert damaged_lines(buffer, b'"of"') == 3
        await buffer.crash(power=False)
        await buffer.put(b"a3")
        await buffer.flush()
        assert objects(buffer) == [[b"a1", b"a2"], [b"a1", b"a3"], [b"b1"]]
        assert buffer.paths(layout.SEALED) == []

    in_buffer(scenario)


@pytest.mark.parametrize("said_of_the_cut", [1, 2])
def test_no_segment_waits_for_one_that_is_gone(said_of_the_cut: int) -> None:
    """A cut is delivered, and one of its segments gone. Is a line damaged that says so, the other is not delivered
    again; are both, it is, and does not wait for the first for ever.
    """

    async def scenario(buffer: PartedBuffer) -> None:
        buffer.thresholds = Thresholds(4, 600, buffer.limits.limit_bytes)
        await buffer.put(b"a1")
        await buffer.put(b"a2", b"b2")
        await buffer.idle()
        assert (objects(buffer), len(buffer.paths(layout.SEALED))) == ([[b"a1", b"a2"]], 1)
        await buffer.crash(power=False)  # the next process folds, and forgets the first
        await buffer._end_tasks()
        lines = [line for line in buffer.disk.read(LEDGER).splitlines(keepends=True) if b"#" in line]
        ends = [line for line in lines if b'"delivered"' in line]
        assert len(ends) == 2
        for line in ends[:said_of_the_cut]:
            buffer.disk.flip(LEDGER, buffer.disk.read(LEDGER).index(line) + 20)
        await buffer.crash(power=False)
        await buffer.flush()
        again = [[b"a2"]] if said_of_the_cut == 2 else []
        assert objects(buffer) == [[b"a1", b"a2"], *again, [b"b2"]]
        assert buffer.paths(layout.SEALED) == []
        assert buffer.shelf.standings()[STREAM, "far"].pending == 0
        await buffer.crash(power=False)
        assert buffer.shelf.ledger.book.cuts == {}

    in_buffer(scenario)


def test_a_segment_that_has_arrived_says_so_of_its_cuts() -> None:
    """Both lines are damaged that say so of a cut, while the first of its segments is still owed elsewhere, which needs
    its file: the second does not deliver the cut again, nor wait for it.
    """

    async def scenario(buffer: PartedBuffer) -> None:
        buffer.thresholds = Thresholds(4, 600, buffer.limits.limit_bytes)
        buffer.far["near"].always = Retry("busy")
        await buffer.put(b"a1")
        await buffer.put(b"a2", b"b2")
        await passed(5)
        assert objects(buffer) == [[b"a1", b"a2"]]
        await buffer._end_tasks()
        assert damaged_lines(buffer, b'"delivered"', b"#", b'"far"') == 2
        buffer.far["near"].always = None
        await buffer.crash(power=False)
        await buffer.flush()
        assert objects(buffer) == objects(buffer, "near") == [[b"a1", b"a2"], [b"b2"]]
        assert buffer.paths(layout.SEALED) == []

    in_buffer(scenario, BOTH)


@pytest.mark.parametrize("suffix", [layout.SEALED, layout.OUT])
@pytest.mark.parametrize("how", ["exists", "size", "view"])
def test_a_file_that_cannot_be_read_for_a_while(how: str, suffix: str) -> None:
    """Cuts wait for a look at their segments, and nobody has to release them: those that are being sent, and those of
    an earlier process that are taken up.
    """

    async def scenario(buffer: PartedBuffer) -> None:
        await buffer.put(b"a1", b"b1")
        await buffer.put(b"a2")
        await buffer.idle()
        buffer.far["far"].always = Retry("busy")
        for restarted in (False, True):
            if restarted:
                buffer.far["far"].always = None
                await buffer.crash(power=False)
            buffer.disk.blind = (how, suffix)
            buffer.shelf.flush(STREAM)
            await passed(5)
            buffer.disk.blind = ("", "")
            await passed(30)
        await passed(100)
        assert dict(buffer.shelf.ledger.book.held) == {}
        assert objects(buffer) == [[b"a1", b"a2"], [b"b1"]]
        assert buffer.paths(layout.SEALED) == []
        buffer.check_sums()

    in_buffer(scenario)


def test_a_damaged_segment_is_kept_whose_cuts_were_under_way() -> None:
    """The cuts account for what is lost, the segment's own end for nothing: its file stays, and its damage is told."""

    async def scenario() -> None:
        buffer = PartedBuffer()
        buffer.leave_records_as_they_come()
        buffer.far["far"].always = Retry("busy")
        await buffer.start()
        for records in ((b"a1" * 20, b"b1" * 20), (b"a2" * 20, b"c2" * 20)):
            await buffer.appender.append(batch(*records))
        await buffer.appender.seal()
        await buffer.put(b"a3" * 20)
        buffer.shelf.flush(STREAM)
        await passed(5)
        damaged, _ = buffer.paths(layout.SEALED)
        await buffer._end_tasks()
        buffer.disk.flip(damaged, buffer.disk.read(damaged).index(b"a1a1"))
        buffer.far["far"].always = None
        await buffer.crash(power=False)
        await buffer.flush()
        assert objects(buffer) == [[b"a2" * 20, b"a3" * 20], [b"c2" * 20]]
        (kept,) = buffer.paths(layout.DAMAGED)
        assert any(kept in report and "offset 0" in report for report in buffer.reports)
        assert buffer.paths(layout.SEALED) == []
        buffer.check_sums()

    run(scenario())


def test_an_outcome_lost_meanwhile_is_made_anew() -> None:
    """A cut whose durable outcome is gone from under the process waits for it to be made again."""

    async def scenario(buffer: PartedBuffer) -> None:
        await buffer.put(b"a1", b"b1", b"!")
        await buffer.put(b"a2")
        await buffer.idle()
        for path in buffer.paths(layout.OUT):
            buffer.disk.remove(path)
        await buffer.flush()
        await passed(30)
        assert objects(buffer) == [[b"a1", b"a2"], [b"b1"]]
        assert buffer.letters() == 1
        assert buffer.paths(layout.SEALED) + buffer.paths(layout.OUT) == []
        buffer.check_sums()

    in_buffer(scenario)


def test_a_parted_segment_is_not_let_go() -> None:
    """Not by itself, wherever its destination has gone: each of its cuts is, and no record would be counted once."""

    async def scenario(buffer: PartedBuffer) -> None:
        segment = await buffer.put(b"a1", b"b1")
        await buffer.idle()
        (of_segments,) = (one for one in buffer.pipelines if one.parts is not None)
        with pytest.raises(Retry, match="parted"):
            await of_segments.let_go(segment)
        buffer.check_sums()
        await buffer.flush()
        assert objects(buffer) == [[b"a1"], [b"b1"]]
        buffer.check_sums()

    in_buffer(scenario)


def test_where_the_records_of_a_cut_lie() -> None:
    """A cut tells which runs of the log its records were taken from, and each letter of it its record's own sequence
    number, also after a crash.
    """

    async def scenario(buffer: PartedBuffer) -> None:
        far = buffer.far["far"] = Inconvertible()
        await buffer.put(b"a1|b1", b"b2")
        await buffer.put(b"a2", b"b3|b4", b"b5")
        await buffer.crash()
        await buffer.put(b"a3", b"!", b"b6")
        await buffer.flush()
        one, other = (segment.lane for segment in buffer.sealed[1:])
        assert far.ranges == [(Range(one, 0, 5), Range(other, 0, 3))] * 2
        letters = [json.loads(letter) for rows in buffer.errors.stored.values() for letter in rows]
        told = {(b64decode(one["rawData"]), one["sequenceNumber"]) for one in letters if "sequenceNumber" in one}
        a, b = {(b"a1", "0"), (b"a2", "2"), (b"a3", "0")}, {(b"b1", "0"), (b"b2", "1"), (b"b5", "4"), (b"b6", "2")}
        assert told == a | b | {(b"b3|b4", "3")}
        buffer.check_sums()

    in_buffer(scenario, splits=True)


def test_damage_between_a_delivery_and_its_letters() -> None:
    """Which records letters are of is read from the outcome again: it is checked, and made anew where damaged."""

    async def scenario(buffer: PartedBuffer) -> None:
        far = buffer.far["far"] = Inconvertible()
        await buffer.put(b"a1|b1", b"b2")
        await buffer.idle()
        (path,) = buffer.paths(layout.OUT)
        far.behind = [partial(buffer.disk.flip, path, at) for at in range(0, buffer.disk.size(path), 97)]
        await buffer.flush()
        await passed(90_000)
        letters = [json.loads(letter) for rows in buffer.errors.stored.values() for letter in rows]
        assert {(b64decode(one["rawData"]), one["sequenceNumber"]) for one in letters} == {
            (b"a1", "0"),
            (b"b1", "0"),
            (b"b2", "1"),
        }
        assert far.behind == []
        buffer.check_sums()

    in_buffer(scenario, splits=True)


class Inconvertible(Objects):
    """Remembers what came from where, and takes none of it. Something may happen behind each delivery."""

    def __init__(self) -> None:
        super().__init__()
        self.ranges: list[tuple[Range, ...]] = []
        self.behind: list[Callable[[], None]] = []

    async def deliver(self, batch: Batch, memo: Memo) -> Receipt:
        self.ranges.append(batch.ranges)
        refused = [Rejections.of(rows, CONVERSION, "Malformed", "no number").table for rows in batch.slices()]
        if self.behind:
            self.behind.pop()()
        return Receipt(refused=Rejections(pa.concat_tables(refused)))


def test_fold_forgets_what_is_gone() -> None:
    """While a segment is owed a fold keeps its parting and the cuts of its groups; once it is gone, sums alone."""

    async def scenario(buffer: PartedBuffer) -> None:
        buffer.thresholds = Thresholds(4, 600, buffer.limits.limit_bytes)
        await buffer.put(b"a1", b"a2", b"b1")
        await buffer.idle()
        buffer.shelf.ledger.fold()
        book, _ = read_book(buffer.disk, LEDGER)
        assert (len(book.parted), len(book.cuts)) == (1, 1)
        await buffer.crash()
        await buffer.flush()
        buffer.shelf.ledger.fold()
        book, bad = read_book(buffer.disk, LEDGER)
        assert (bad, dict(book.parted), book.cuts, dict(book.delivered), dict(book.placed)) == ([], {}, {}, {}, {})
        assert book.totals[STREAM, "far"] == Totals(delivered=3, sent_bytes=6, objects=2)

    in_buffer(scenario)


def test_an_older_release_refuses_only_what_it_would_misread() -> None:
    """The ledger says the newer format from the first parted segment on, and until none is left."""

    def format_said(buffer: PartedBuffer) -> bytes:
        return buffer.disk.read(LEDGER).split(b"\n")[0].split(b" ", 2)[2]

    async def scenario(buffer: PartedBuffer) -> None:
        buffer.shelf.ledger.fold()
        assert format_said(buffer) == b'{"ledger":2}'
        await buffer.put(b"a1")
        await buffer.idle()
        assert format_said(buffer) == b'{"ledger":4}'
        await buffer.flush()
        buffer.shelf.ledger.fold()
        assert format_said(buffer) == b'{"ledger":2}'

    in_buffer(scenario)


@pytest.mark.parametrize("kind", ["write", "sync"])
def test_a_disk_that_fails_now_and_then(kind: str) -> None:
    """Whatever write or sync of the ledger fails, it is tried again, and nothing is doubled or lost."""

    async def scenario(buffer: PartedBuffer) -> None:
        for number in range(1, 12):
            await buffer.put(b"a%d" % number, b"b%d" % number)
            buffer.disk.faults.append(Fault(kind, ending="ledger", times=1 + number % 4))
            await buffer.flush()
            await passed(100)
            await buffer.flush()
        expected = Counter(b"%c%d" % (letter, number) for letter in b"ab" for number in range(1, 12))
        assert buffer.far["far"].rows() == expected
        buffer.check_sums()

    in_buffer(scenario)


def test_any_one_call_of_the_disk_that_fails() -> None:
    """Whichever call fails on the way of two segments, it is tried again: each record is counted as delivered once."""

    async def steps_with_failure_at(number: int | None) -> int:
        buffer = PartedBuffer()
        await buffer.start()
        await buffer.put(b"a1", b"b1")
        await buffer.put(b"a2")
        before = len(buffer.disk.steps)
        if number is not None:
            buffer.disk.fail_at[before + number] = errno.EIO
        await buffer.flush()
        await passed(100)
        steps = len(buffer.disk.steps) - before
        await buffer.crash(power=False)
        await buffer.flush()
        totals = buffer.shelf.standings()[STREAM, "far"].totals
        assert (totals.delivered, totals.split, totals.damaged) == (3, 0, 0), number
        assert buffer.paths(layout.SEALED) + buffer.paths(layout.DAMAGED) == []
        for task in buffer.tasks:
            task.cancel()
        return steps

    steps = run(steps_with_failure_at(None))
    assert steps > 20
    for number in range(steps):
        run(steps_with_failure_at(number))


def test_a_cut_is_durable_before_it_is_sent() -> None:
    """Whatever a power cut takes while a far side is at it: which groups the object has stands in the ledger."""

    async def scenario(buffer: PartedBuffer) -> None:
        durable: list[bool] = []

        class Looking(Objects):
            async def deliver(self, batch: Batch, memo: Memo) -> Receipt:
                book, _ = read_book(buffer.disk.after_power_cut(), LEDGER)
                durable.append((batch.segment.key, "far") in book.cuts)
                return await Objects.deliver(self, batch, memo)

        buffer.far["far"] = Looking()
        await buffer.put(b"a1", b"b1")
        await buffer.flush()
        assert durable == [True, True]

    in_buffer(scenario)


ROUNDS = (MIXED, (b"a5|b3", b"c2", b"!5"), (b"b4", b"~4", b"a6"))
STEP_SECONDS = 0.0007


def rows_of(rounds: Iterable[Iterable[bytes]]) -> Counter[bytes]:
    rows = (row for records in rounds for record in records for row in record.split(b"|"))
    return Counter(row for row in rows if row[:1] not in (b"!", b"~"))


@pytest.mark.parametrize("bare", [False, True], ids=["split", "as they came"])
@pytest.mark.parametrize("power", [False, True], ids=["kill", "power cut"])
def test_crashes_at_every_step(power: bool, bare: bool) -> None:
    """Ended between any two calls of the disk, and again a little later, it goes on: every row is in an object of its
    own partition, once, no object ever changes, no letter is written twice, and the sums are right all along.
    """
    rounds = tuple(tuple(row for record in records for row in record.split(b"|")) for records in ROUNDS)

    async def life(moment: float, dice: Random) -> int:
        buffer = PartedBuffer(BOTH)
        if bare:
            buffer.leave_records_as_they_come()
        buffer.thresholds = Thresholds(8, 600, buffer.limits.limit_bytes)
        await buffer.start()
        for records in rounds if bare else ROUNDS:
            await buffer.put(*records)
        for wait in (moment, dice.random() * moment):
            buffer.shelf.flush(STREAM)
            await passed(wait)
            await buffer.crash(power, dice if power else None)
            buffer.check_sums()
        parted = len(buffer.shelf.ledger.book.parted)
        await buffer.idle()
        await buffer.flush()
        buffer.check_sums()
        for far in buffer.far.values():
            assert far.rows() == rows_of(ROUNDS)
            for name, rows in far.stored.items():
                assert all(name.endswith(name_of(row[:1])) for row in rows)
        assert buffer.letters() == 5
        assert buffer.paths(layout.SEALED) == []
        await buffer.crash(power=False)  # a power cut may have left outcomes of segments that are gone
        assert buffer.paths(layout.OUT) == []
        for task in buffer.tasks:
            task.cancel()
        return parted

    found = {run(life(number * STEP_SECONDS, Random(number))) for number in range(90)}
    assert found >= {0, len(ROUNDS)}


def test_every_record_of_an_unusual_kind() -> None:
    """Empty records and one partition of everything go their way too."""

    async def scenario(buffer: PartedBuffer) -> None:
        await buffer.put(b"", b"", b"a")
        await buffer.flush()
        assert objects(buffer) == [[b"", b""], [b"a"]]
        assert buffer.disk.exists(f"{ROOT}/ledger")
        buffer.check_sums()

    in_buffer(scenario)
