"""Damage to the files of rows that wait for their partition, beside the running service: it is found before they go."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from itertools import chain
from random import Random

import pyarrow as pa
import pytest
from damage import Damaged, damages, may_be_lost
from disk_buffer import STREAM, batch
from far_sides import FarSide
from faulty_disk import MemoryView
from parted import DROPPED, REFUSED, FirstByte, Objects, PartedBuffer
from structlog.testing import capture_logs
from virtual_time import passed, run

from firehose.buffer import cut_rows, kept, layout, outcome, pieces, places, reading
from firehose.buffer.cuts import Thresholds
from firehose.contracts import Memo, Retry
from firehose.delivery import parting
from firehose.model import Batch, Outcome, Receipt
from firehose.rows import spread

FAR, NEAR = "far", "near"
ROWS = [[b"a1" * 20, b"b1" * 20, REFUSED + b"1"], [b"a2" * 20, b"a3"], [b"b4" * 20, DROPPED + b"4", b"c4"]]
GOING = Counter(row for row in chain(*ROWS) if row[:1] not in (REFUSED, DROPPED))


async def gathering(bare: bool) -> PartedBuffer:
    """Two segments whose rows wait, the first of two frames."""
    buffer = PartedBuffer((FAR, NEAR))
    if bare:
        buffer.leave_records_as_they_come()
    await buffer.start()
    await buffer.appender.append(batch(*ROWS[0]))
    await buffer.put(*ROWS[1])
    await buffer.put(*ROWS[2])
    await buffer.idle()
    return buffer


def end(buffer: PartedBuffer) -> None:
    for task in buffer.tasks:
        task.cancel()


def possible(bare: bool, suffix: str, share: float) -> list[Damaged]:
    """A share of what can befall the files with this suffix."""

    async def tree() -> dict[str, bytes | None]:
        buffer = await gathering(bare)
        end(buffer)
        return {path: buffer.disk.read(path) for path in buffer.paths(suffix)}

    return list(damages(run(tree()), Random(7), share))


@pytest.mark.parametrize("suffix", [layout.SEALED, layout.OUT])
@pytest.mark.parametrize("bare", [True, False])
def test_every_kind_of_damage(bare: bool, suffix: str) -> None:
    """No row arrives that was not sent, none twice, and none is held. What is missing was in a damaged frame, nowhere
    else, and is counted and told.
    """

    async def scenario(damaged: Damaged) -> int:
        buffer = await gathering(bare)
        content = buffer.disk.read(damaged.path)
        buffer.disk.put(damaged.path, damaged.content)
        buffer.shelf.flush(STREAM)
        await passed(300)
        name = damaged.path.rpartition(".")[0]  # the file is kept under another ending
        lost = may_be_lost({damaged.path: content}, damaged) if bare else set()
        standings = buffer.shelf.standings()
        for destination in (FAR, NEAR):
            missing, standing = GOING - buffer.far[destination].rows(), standings[STREAM, destination]
            assert buffer.far[destination].rows() - GOING == Counter(), damaged.how
            assert missing.keys() <= lost, damaged.how
            assert missing.total() == standing.totals.damaged, damaged.how
            assert (standing.pending, standing.held) == (0, 0), damaged.how
            assert not missing or any(name in said and "offset" in said for said in buffer.reports), damaged.how
        buffer.check_sums()
        end(buffer)
        return missing.total()

    ends = [run(scenario(damaged)) for damaged in possible(bare, suffix, share=0.01)]
    assert len(ends) > 20
    assert any(ends) == (bare and suffix == layout.SEALED)


@pytest.mark.parametrize("bare", [True, False])
def test_nothing_is_doubted_without_damage(bare: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of outcomes that have no row, or none of a partition, either."""
    monkeypatch.setattr(parting, "SLICE_BYTES", 1)
    monkeypatch.setattr(parting, "BARE_ROWS", 1)
    monkeypatch.setattr(reading, "WHOLE_BYTES", 1)

    async def scenario() -> None:
        buffer = PartedBuffer()
        if bare:
            buffer.leave_records_as_they_come()
        await buffer.start()
        for records in ([b"a1"], [REFUSED], [b"b2", DROPPED], [DROPPED], [b"a3"]):
            await buffer.appender.append(batch(*records))
        await buffer.appender.seal()
        await buffer.idle()
        (path,) = buffer.paths(layout.OUT)
        outcomes = outcome.read(buffer.disk, path) or []
        with capture_logs() as log:
            await buffer.flush()
        end(buffer)
        assert [one.rows.num_rows for one in outcomes] == ([1, 1, 1] if bare else [1, 0, 1, 0, 1])
        assert sorted(buffer.far[FAR].stored.values()) == [[b"a1", b"a3"], [b"b2"]]
        assert [event for event in log if event["log_level"] in ("warning", "error")] == []

    run(scenario())


def test_a_file_that_is_another_by_now() -> None:
    """A cut was read before, so that the old file is mapped: the outcome that is made anew is read from the new one."""

    async def scenario() -> None:
        buffer = PartedBuffer()
        buffer.leave_records_as_they_come()
        await buffer.start()
        for number in range(2):
            await buffer.appender.append(batch(b"a%d" % number * 20, b"b%d" % number * 20))
        await buffer.appender.seal()
        await buffer.idle()
        buffer.far[FAR].script = [Retry("busy")] * 2
        buffer.shelf.flush(STREAM)
        await passed(0.5)
        (sealed,), (out,) = buffer.paths(layout.SEALED), buffer.paths(layout.OUT)
        buffer.disk.put(sealed, bytes(64) + buffer.disk.read(sealed))
        buffer.disk.put(out, buffer.disk.read(out)[:100])
        await passed(300)
        assert buffer.far[FAR].rows().total() == 4
        end(buffer)

    run(scenario())


def numbers_of_offsets(content: bytes) -> list[int]:
    """Where the head of an outcome's rows says how large the offsets of a text are: all that may be such a number."""
    return list(range(560, min(len(content), 1400), 8))


@pytest.mark.parametrize("bare", [True, False])
def test_offsets_that_are_no_whole_numbers(bare: bool) -> None:
    """One bit more in the size of a buffer, which Arrow takes for padding: nothing is held."""

    async def scenario(at: int | None) -> list[int]:
        buffer = PartedBuffer()
        if bare:
            buffer.leave_records_as_they_come()
        await buffer.start()
        await buffer.appender.append(batch(b"a1" * 20, b"b1" * 20, meta=[None, "{}"]))
        await buffer.put(b"a2" * 20, b"a3")
        await buffer.idle()
        (path,) = buffer.paths(layout.OUT)
        content = buffer.disk.read(path)
        if at is not None:
            buffer.disk.flip(path, at, 1)
        buffer.shelf.flush(STREAM)
        await passed(300)
        standing = buffer.shelf.standings()[STREAM, FAR]
        assert (standing.pending, standing.held) == (0, 0), at
        end(buffer)
        return numbers_of_offsets(content)

    for at in run(scenario(None)):
        run(scenario(at))


def test_damage_is_no_failure_of_the_destination() -> None:
    """Not where it is met in the middle of a delivery: no row becomes a letter for it."""

    async def scenario() -> None:
        buffer = PartedBuffer()
        buffer.leave_records_as_they_come()
        buffer.deadline_seconds = 0
        await buffer.start()
        for number in range(3):
            await buffer.put(b"a%d" % number * 40)
        await buffer.idle()
        buffer.disk.flip(buffer.paths(layout.OUT)[2], 400)
        buffer.shelf.flush(STREAM)
        await passed(300)
        assert (buffer.far[FAR].rows().total(), buffer.letters()) == (3, 0)
        end(buffer)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cut_rows, "PIECE_BYTES", 100)
        run(scenario())


class Noting:
    """Somebody's own step: it leaves notes, in a column of its own and beside the columns."""

    repeatable = True

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, rows: pa.RecordBatch, /) -> Outcome:
        self.calls += 1
        noted = rows.append_column("seen", pa.array([0] * rows.num_rows))
        return Outcome(noted.replace_schema_metadata({"call": str(self.calls)}))


def test_notes_of_a_step_are_no_damage() -> None:
    """Other columns go no further than the outcome, and what is noted of a slice is nobody's checksum."""

    async def scenario() -> None:
        buffer = PartedBuffer()
        buffer.steps = (Noting(), FirstByte())
        await buffer.start()
        await buffer.put(b"a1", b"b1")
        await buffer.put(b"a2", b"b2")
        await buffer.idle()
        kept = outcome.read(buffer.disk, buffer.paths(layout.OUT)[0]) or []
        assert all("seen" not in one.rows.schema.names for one in kept)
        with capture_logs() as log:
            await buffer.flush()
        end(buffer)
        assert buffer.far[FAR].rows().total() == 4
        assert [event for event in log if event["log_level"] in ("warning", "error")] == []

    run(scenario())


class Whimsical:
    """Somebody's own code, that says something else when it is asked again."""

    repeatable = False

    def __init__(self, later: Callable[[bytes], list[bytes]]) -> None:
        self.later, self.calls = later, 0

    def __call__(self, rows: pa.RecordBatch, /) -> Outcome:
        self.calls += 1
        records = rows.column("record").to_pylist()
        said = [[record] if self.calls == 1 else self.later(record) for record in records]
        came = [index for index, parts in enumerate(said) for _ in parts]
        ended = rows.column("row").filter(pa.array([not parts for parts in said]))
        return Outcome(
            spread(rows, came, pa.array([one for parts in said for one in parts], pa.binary())), dropped=ended
        )


@pytest.mark.parametrize(
    ("later", "arrived", "damaged"),
    [
        (lambda record: [b"a" + record[1:]], [[b"a1", b"a2", b"a3"]], 1),
        (lambda record: [b"z" + record[1:]], [], 3),
        (lambda record: [], [], 3),
        (lambda record: [record] if record != b"a2" else [], [[b"a1"], [b"b3"]], 1),
        (lambda record: [b"z2" if record == b"a2" else record], [[b"a1"], [b"b3"]], 1),
        (lambda record: [record, record + b"x"], [[b"a1", b"a1x", b"a2", b"a2x"], [b"b3", b"b3x"]], 0),
    ],
)
def test_code_that_says_something_else(
    later: Callable[[bytes], list[bytes]], arrived: list[list[bytes]], damaged: int
) -> None:
    """Where an outcome is made anew otherwise nothing waits for ever, the books are right, and what is lost is kept."""

    async def scenario() -> None:
        buffer = PartedBuffer()
        buffer.steps = (Whimsical(later), FirstByte())
        await buffer.start()
        await buffer.put(b"a1", b"a2", b"b3")
        await buffer.idle()
        buffer.disk.flip(buffer.paths(layout.OUT)[0], 400)
        buffer.shelf.flush(STREAM)
        await passed(300)
        standing = buffer.shelf.standings()[STREAM, FAR]
        assert (standing.pending, standing.held, standing.totals.damaged) == (0, 0, damaged)
        assert sorted(buffer.far[FAR].stored.values()) == arrived
        assert len(buffer.paths(layout.DAMAGED)) == bool(damaged)
        assert any("its file will be kept" in report for report in buffer.reports) == bool(damaged)
        buffer.check_sums()
        end(buffer)

    run(scenario())


@pytest.mark.parametrize("restarted", [True, False])
def test_code_that_moves_a_row_to_what_is_delivered(restarted: bool) -> None:
    """Its partition has gone before: the row is in nothing that is delivered, and its file is kept."""

    async def scenario() -> None:
        buffer = PartedBuffer()
        buffer.thresholds = Thresholds(6, 600, buffer.limits.limit_bytes)
        buffer.steps = (Whimsical(lambda record: [b"a2" if record == b"b2" else record]), FirstByte())
        await buffer.start()
        await buffer.put(b"a1aaaa", b"b2", b"b3")
        await buffer.idle()
        assert list(buffer.far[FAR].stored.values()) == [[b"a1aaaa"]]
        buffer.disk.flip(buffer.paths(layout.OUT)[0], 400)
        if restarted:
            await buffer.crash(power=False)
        buffer.shelf.flush(STREAM)
        await passed(300)
        standing = buffer.shelf.standings()[STREAM, FAR]
        assert (standing.pending, standing.held, standing.totals.damaged) == (0, 0, 1)
        assert len(buffer.paths(layout.DAMAGED)) == 1
        buffer.check_sums()
        end(buffer)

    run(scenario())


def test_code_that_moves_a_row_to_a_cut_that_was_made_before() -> None:
    """A row of one that waits since before a restart is in another one's part of the segment now, which has gone."""

    async def scenario() -> None:
        buffer = PartedBuffer()
        buffer.thresholds = Thresholds(6, 600, buffer.limits.limit_bytes)
        buffer.steps = (Whimsical(lambda record: [b"a2" if record == b"b2" else record]), FirstByte())
        await buffer.start()
        await buffer.put(b"a1aaaa", b"b2", b"b3")
        await buffer.idle()
        buffer.far[FAR].always = Retry("busy")
        buffer.shelf.flush(STREAM)
        await passed(1)
        buffer.disk.flip(buffer.paths(layout.OUT)[0], 400)
        await buffer.crash(power=False)
        buffer.far[FAR].always = None
        buffer.shelf.flush(STREAM)
        await passed(300)
        standing = buffer.shelf.standings()[STREAM, FAR]
        assert sorted(buffer.far[FAR].stored.values()) == [[b"a1aaaa"], [b"b3"]]
        assert (standing.pending, standing.held, standing.totals.damaged) == (0, 0, 1)
        assert len(buffer.paths(layout.DAMAGED)) == 1
        buffer.check_sums()
        end(buffer)

    run(scenario())


def test_code_that_drops_a_row_after_a_restart() -> None:
    """Nothing but the ledger knows then that there was one more: the file is kept all the same."""

    async def scenario() -> None:
        buffer = PartedBuffer()
        buffer.steps = (Whimsical(lambda record: [record] if record != b"a2" else []), FirstByte())
        await buffer.start()
        await buffer.put(b"a1", b"a2", b"b3")
        await buffer.idle()
        buffer.disk.flip(buffer.paths(layout.OUT)[0], 400)
        await buffer.crash(power=False)
        buffer.shelf.flush(STREAM)
        await passed(300)
        standing = buffer.shelf.standings()[STREAM, FAR]
        assert sorted(buffer.far[FAR].stored.values()) == [[b"a1"], [b"b3"]]
        assert (standing.pending, standing.held, standing.totals.damaged) == (0, 0, 1)
        assert any("its file will be kept" in report for report in buffer.reports)
        assert len(buffer.paths(layout.DAMAGED)) == 1
        buffer.check_sums()
        end(buffer)

    run(scenario())


class Meanwhile(FarSide):
    """An error output: something happens once, while it takes letters."""

    def __init__(self, happens: Callable[[], None]) -> None:
        super().__init__()
        self.happens = [happens]

    async def deliver(self, batch: Batch, memo: Memo) -> Receipt:
        if self.happens:
            self.happens.pop()()
        return await FarSide.deliver(self, batch, memo)


@pytest.mark.parametrize("bare", [True, False])
def test_damage_while_letters_are_set_down(bare: bool) -> None:
    """Between the making of an outcome and its parting, which takes as long as the error output does: nothing is held,
    and the process lives.
    """

    async def scenario(at: int) -> int:
        buffer = PartedBuffer()
        if bare:
            buffer.leave_records_as_they_come()
        buffer.errors = Meanwhile(lambda: buffer.disk.flip(buffer.paths(layout.OUT)[0], at))
        await buffer.start()
        rows = [b"a1" * 20, b"b1" * 20, b"a2" * 20]
        await buffer.put(*rows, REFUSED)
        await buffer.idle()
        (path,) = buffer.paths(layout.OUT)
        size = buffer.disk.size(path)
        buffer.shelf.flush(STREAM)
        await passed(300)
        standing = buffer.shelf.standings()[STREAM, FAR]
        assert (standing.pending, standing.held, standing.totals.damaged) == (0, 0, 0), at
        assert buffer.far[FAR].rows() == Counter(rows), at
        assert buffer.letters() == 1, at
        end(buffer)
        return size

    for at in range(16, run(scenario(16)), 41):
        run(scenario(at))


def test_damage_to_records_while_letters_are_set_down() -> None:
    """The records of rows that go on without them are summed up before: what is damaged since does not arrive."""

    async def scenario() -> None:
        buffer = PartedBuffer()
        buffer.leave_records_as_they_come()

        def flip() -> None:
            (path,) = buffer.paths(layout.SEALED)
            buffer.disk.flip(path, buffer.disk.read(path).index(b"a1a1"))

        buffer.errors = Meanwhile(flip)
        await buffer.start()
        await buffer.appender.append(batch(b"a1" * 20, REFUSED))
        await buffer.appender.append(batch(b"b1" * 20, b"a2" * 20))
        await buffer.appender.seal()
        await buffer.idle()
        buffer.shelf.flush(STREAM)
        await passed(300)
        standing = buffer.shelf.standings()[STREAM, FAR]
        assert buffer.far[FAR].rows() == Counter([b"b1" * 20, b"a2" * 20])
        assert (standing.pending, standing.held, standing.totals.damaged, standing.totals.dead) == (0, 0, 1, 1)
        assert len(buffer.paths(layout.DAMAGED)) == 1
        buffer.check_sums()
        end(buffer)

    run(scenario())


@pytest.mark.parametrize("error", [MemoryError("no"), pa.ArrowMemoryError("no")])
@pytest.mark.parametrize("call", [(pieces, "check_values"), (pieces, "checksums"), (places, "whole")])
@pytest.mark.parametrize("bare", [True, False])
def test_too_little_memory_is_no_damage(
    bare: bool, call: tuple[object, str], error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor a bug: the cut waits, and nothing else is done about it."""

    async def scenario() -> None:
        buffer = await gathering(bare)
        failing, as_it_is = [error], getattr(*call)

        def fails_once(*given: object) -> object:
            if failing:
                raise failing.pop()
            return as_it_is(*given)

        monkeypatch.setattr(*call, fails_once)
        with capture_logs() as log:
            buffer.shelf.flush(STREAM)
            await passed(300)
        end(buffer)
        assert failing == []
        assert buffer.far[FAR].rows() == buffer.far[NEAR].rows() == GOING
        (failure,) = [event for event in log if event["log_level"] in ("warning", "error")]
        assert "memory" in failure["reason"]

    run(scenario())


class Typed:
    """Somebody's own step, that leaves columns in types of its own."""

    repeatable = True

    def __call__(self, rows: pa.RecordBatch, /) -> Outcome:
        rows = rows.set_column(0, "record", rows.column("record").cast(pa.large_binary()))
        place = rows.schema.get_field_index("part")
        return Outcome(rows.set_column(place, "part", rows.column("part").cast(pa.int64())))


def test_types_of_a_steps_own() -> None:
    """They are those of all rows behind it."""

    async def scenario() -> None:
        buffer = PartedBuffer()
        buffer.steps = (FirstByte(), Typed())
        await buffer.start()
        await buffer.put(b"a1", b"b1")
        await buffer.put(b"a2")
        await buffer.idle()
        await buffer.flush()
        end(buffer)
        assert sorted(buffer.far[FAR].stored.values()) == [[b"a1", b"a2"], [b"b1"]]

    run(scenario())


def test_columns_that_an_earlier_release_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """Such an outcome is made anew, not doubted for ever."""

    async def scenario() -> None:
        buffer = PartedBuffer()
        buffer.steps = (FirstByte(), Noting())
        with monkeypatch.context() as earlier:
            earlier.setattr(parting, "_known", lambda rows: rows)
            earlier.setattr(kept, "_may_wait", lambda rows: True)
            await buffer.start()
            await buffer.put(b"a1", b"b1")
            await buffer.idle()
        await buffer.crash(power=False)
        buffer.shelf.flush(STREAM)
        await passed(300)
        end(buffer)
        assert sorted(buffer.far[FAR].stored.values()) == [[b"a1"], [b"b1"]]
        assert any("columns" in report for report in buffer.reports)

    run(scenario())


class Busy:
    """A step that asks for patience."""

    repeatable = True
    busy = False

    def __call__(self, rows: pa.RecordBatch, /) -> Outcome:
        if self.busy:
            raise Retry("busy")
        return Outcome(rows)


@pytest.mark.parametrize("folded", [True, False])
def test_cuts_let_go_while_their_outcome_is_made_anew(folded: bool) -> None:
    """Their segment ends with the last of them: nobody looks for its file for ever, or counts its records again."""

    async def scenario() -> None:
        buffer, busy = PartedBuffer(), Busy()
        buffer.steps = (busy, FirstByte())
        await buffer.start()
        await buffer.put(b"a1", b"b1", b"a2")
        await buffer.idle()
        buffer.disk.flip(buffer.paths(layout.OUT)[0], 400)
        busy.busy = True
        for one in buffer.deliveries:
            one._is_wanted = lambda _: False
        buffer.shelf.flush(STREAM)
        await passed(300)
        if folded:
            buffer.shelf.ledger.fold()
        busy.busy = False
        await passed(300)
        assert [one.under_way for one in buffer.deliveries] == [0, 0]
        assert buffer.shelf.ledger.book.totals[STREAM, FAR].dropped == 3
        buffer.check_sums()
        end(buffer)

    run(scenario())


def test_numbers_of_records_are_checked() -> None:
    """What is damaged when letters ask for the numbers of their records is doubted, and no bug."""

    async def scenario() -> None:
        buffer = PartedBuffer()
        buffer.far[FAR].always = Retry("busy")
        await buffer.start()
        segment = await buffer.put(b"a1", b"a2")
        buffer.shelf.flush(STREAM)
        await passed(0.5)
        cut = await buffer.cuts().read(buffer.far[FAR].attempts[0][1])
        assert cut.numbers is not None
        assert cut.numbers() == [0, 1]
        buffer.disk.flip(buffer.paths(layout.OUT)[0], 400)
        with pytest.raises(Retry, match="not what they were"):
            cut.numbers()
        assert buffer.cuts()._doubted == {segment.key}
        end(buffer)

    run(scenario())


class Forgetful(Objects):
    """It has what it says it has not, and knows so when it is asked for the last time."""

    async def deliver(self, batch: Batch, memo: Memo) -> Receipt:
        await Objects.deliver(self, batch, memo)
        raise Retry("the answer is lost")

    async def give_up(self, batch: Batch, memo: Memo) -> Receipt:
        return await Objects.deliver(self, batch, memo)


def test_a_last_word_that_our_side_spoils_is_asked_for_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whichever look at an outcome fails then: what has arrived becomes no letter."""
    monkeypatch.setattr(cut_rows, "PIECE_BYTES", 100)

    async def scenario(failing: int) -> int:
        buffer = PartedBuffer()
        buffer.leave_records_as_they_come()
        buffer.deadline_seconds = 0
        buffer.far[FAR] = Forgetful()
        await buffer.start()
        for number in range(3):
            await buffer.put(b"a%d" % number * 40)
        await buffer.idle()
        views, view = 0, buffer.disk.view

        def fails_once(path: str) -> MemoryView:
            nonlocal views
            views += path.endswith(layout.OUT)
            if views == failing and path.endswith(layout.OUT):
                raise OSError("it cannot be read")
            return view(path)

        buffer.disk.view = fails_once  # type: ignore[method-assign]
        buffer.shelf.flush(STREAM)
        await passed(300)
        assert (buffer.far[FAR].rows().total(), buffer.letters()) == (3, 0), failing
        end(buffer)
        return views

    for failing in range(1, run(scenario(0)) + 1):
        run(scenario(failing))
