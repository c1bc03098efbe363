"""From sealed to its end: what follows a failed delivery, in virtual time."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable

import pyarrow as pa
import pytest
from far_sides import Bench, retries
from structlog.testing import capture_logs
from virtual_time import passed, run

from firehose.contracts import Refused, Retry
from firehose.delivery.slots import Slots
from firehose.model import Outcome


def fill(bench: Bench, count: int) -> None:
    for number in range(count):
        bench.outbox.add(b"%d" % number, first=number)


async def until(condition: Callable[[], bool], seconds: float = 3600) -> None:
    """Lets time pass until the condition holds; AssertionError where it does not come to hold in time."""
    loop = asyncio.get_running_loop()
    end = loop.time() + seconds
    while not condition():
        assert loop.time() < end, f"waited {seconds} s in vain"
        await passed(0.25)


def test_segments_are_delivered_side_by_side() -> None:
    """As many segments of a stream are under way at once as the options say, and all find their end."""
    bench = Bench(segments_per_stream=3)
    bench.far.always = 1.0
    fill(bench, 10)
    run(bench.work_off())
    assert len(bench.outbox.committed) == bench.ended == 10
    assert bench.far.together == 3
    assert (bench.deliveries.under_way, bench.deliveries.waiting, bench.outbox.trying) == (0, 0, set())


def test_retry_waits_longer_each_time_and_keeps_the_name() -> None:
    """A delivery that may succeed later is tried again after 1, 2, 4 and 8 seconds, as the same object."""
    bench = Bench()
    bench.far.script = retries(4)
    segment = bench.outbox.add(b"a")
    run(bench.work_off())
    assert bench.far.times == [0, 1, 3, 7, 15]
    assert {tried for _, tried in bench.far.attempts} == {segment}
    assert bench.far.names == [str(segment)] * 5
    assert bench.far.stored == {str(segment): [b"a"]}


def test_far_side_wish_is_kept() -> None:
    """Where the far side says when it wants to be asked again, it is not asked before."""
    bench = Bench()
    bench.far.script = [Retry("slow down", 90.0)]
    bench.outbox.add(b"a")
    run(bench.work_off())
    assert bench.far.times == [0, 90]


def test_without_deadline_it_never_ends() -> None:
    """Without a deadline a segment is tried for weeks, at most an hour apart, and then delivered."""
    bench = Bench(backoff_limit_seconds=3600)
    bench.far.script = retries(600)
    bench.outbox.add(b"a")
    run(bench.work_off())
    assert bench.far.times[-1] > 20 * 86400
    assert bench.deliveries.status.failures == 600
    assert len(bench.outbox.committed) == 1


def test_waiting_takes_no_slot() -> None:
    """While one stream waits for a retry, another has the only worker."""
    slots = Slots(1, 1000)
    sick, well = Bench(slots=slots, stream="sick"), Bench(slots=slots, stream="well")
    sick.far.always = Retry("down")
    fill(sick, 4)
    fill(well, 20)

    async def scene() -> None:
        async with sick.running():
            await well.work_off()
            assert asyncio.get_running_loop().time() < 0.5

    run(scene())
    assert len(well.outbox.committed) == 20


def test_a_waiting_segment_stops_no_other() -> None:
    """Segments of the same stream go on beside one that waits."""
    bench = Bench()
    bench.far.script = [Retry("only this one")]
    fill(bench, 10)
    run(bench.work_off())
    assert bench.far.times == [0] * 10 + [1]


def test_deadline_sends_rows_to_the_error_output() -> None:
    """Past the deadline the rows are set down as AWS writes them, with the last reason, and counted dead."""
    bench = Bench()
    bench.deadline_seconds = 10
    bench.far.always = Retry("no route")
    segment = bench.outbox.add(b"a", b"b")
    run(bench.work_off())
    assert bench.far.times == [0, 1, 3, 7, 10]
    totals = bench.outbox.committed[segment.key]
    assert (totals.dead, totals.delivered) == (2, 0)
    letters = [json.loads(line) for line in bench.errors.stored[f"{segment}delivery-failed"]]
    assert [letter["rawData"] for letter in letters] == ["YQ==", "Yg=="]
    assert letters[0]["errorCode"] == "Delivery.DeadlineExceeded"
    assert (letters[0]["errorMessage"], letters[0]["attemptsMade"]) == ("no route", 5)
    assert letters[0]["attemptEndingTimestamp"] == bench.runtime.wall_ms + 10_000


def test_time_before_the_first_failure_does_not_count() -> None:
    """However long the first attempt took, the deadline begins when it failed."""
    bench = Bench()
    bench.deadline_seconds = 10
    tries: list[float] = []

    async def slow(*_: object) -> None:
        tries.append(asyncio.get_running_loop().time())
        if len(tries) == 1:
            await passed(1000)
        raise Retry("busy")

    bench.far.deliver = slow  # type: ignore[method-assign, assignment]
    bench.outbox.add(b"a")
    run(bench.work_off())
    assert tries == [0, 1001, 1003, 1007, 1010]


@pytest.mark.parametrize("jump_ms", [-10 * 86_400_000, 10 * 86_400_000])
def test_wall_clock_jumps_change_nothing(jump_ms: int) -> None:
    """When somebody sets the clock, forwards or back, waits and deadline stay what they were."""
    bench = Bench()
    bench.deadline_seconds = 10
    bench.far.always = Retry("busy")
    bench.outbox.add(b"a")

    async def scene() -> None:
        asyncio.get_running_loop().call_later(2, lambda: setattr(bench.runtime, "wall_ms", 1_772_366_400_000 + jump_ms))
        await bench.work_off()

    run(scene())
    assert bench.far.times == [0, 1, 3, 7, 10]


def test_changed_deadline_holds_for_those_who_wait() -> None:
    """A deadline that is given while a segment is being tried ends it too."""
    bench = Bench()
    bench.far.always = Retry("busy")
    segment = bench.outbox.add(b"a")

    async def scene() -> None:
        asyncio.get_running_loop().call_later(100, lambda: setattr(bench, "deadline_seconds", 150))
        await bench.work_off()
        assert asyncio.get_running_loop().time() == pytest.approx(150)

    run(scene())
    assert bench.outbox.committed[segment.key].dead == 1


def test_buffer_trouble_does_not_make_dead_letters() -> None:
    """A disk that does not take the commit for longer than the deadline costs no delivered record its place."""
    bench = Bench()
    bench.deadline_seconds = 10
    bench.outbox.fails["commit"] = [Retry("disk full") for _ in range(20)]
    segment = bench.outbox.add(b"a")
    run(bench.work_off())
    assert bench.outbox.committed[segment.key].delivered == 1
    assert bench.errors.attempts == []


def test_refused_is_held() -> None:
    """A delivery that can never succeed is set aside with its reason; the stream goes on."""
    bench = Bench()
    bench.far.script = [Refused("name too long")]
    fill(bench, 3)
    run(bench.work_off())
    assert list(bench.outbox.held.values()) == ["refused: name too long"]
    assert len(bench.outbox.committed) == 2
    assert bench.deliveries.status.paused == ""


@pytest.mark.parametrize("bug", [ValueError("no such key"), AssertionError(), RecursionError("deep"), OSError("odd")])
def test_bug_is_held(bug: Exception) -> None:
    """Whatever else is raised is a bug: the segment is set aside, named with it, and the stream goes on."""
    bench = Bench()
    bench.far.script = [bug]
    fill(bench, 2)
    run(bench.work_off())
    assert list(bench.outbox.held.values()) == [f"a bug: {type(bug).__name__}: {bug}"]
    assert len(bench.outbox.committed) == 1


def test_bug_in_a_transform_is_held() -> None:
    """User code that raises holds its segment and sends nothing of it."""

    class Broken:
        repeatable = True

        def __call__(self, rows: pa.RecordBatch) -> Outcome:
            raise ZeroDivisionError

    bench = Bench(Broken())
    segment = bench.outbox.add(b"a")
    run(bench.work_off())
    assert bench.outbox.held == {segment.key: "a bug: ZeroDivisionError: "}
    assert bench.far.attempts == []


def test_bug_while_giving_up_is_held() -> None:
    """An error output that breaks in a way of its own holds the segment too: nothing is lost from sight."""
    bench = Bench()
    bench.deadline_seconds = 0
    bench.far.always = Retry("busy")
    bench.errors.always = KeyError("bug")
    segment = bench.outbox.add(b"a")
    run(bench.work_off())
    assert list(bench.outbox.held) == [segment.key]


@pytest.mark.parametrize("failure", [Retry("disk full"), OSError("odd"), RuntimeError("odder")])
def test_what_cannot_be_held_is_tried_again(failure: Exception) -> None:
    """Where not even the holding can be made durable the segment stays in hand, until one or the other succeeds."""
    bench = Bench()
    bench.far.script = [Refused("bad"), Refused("bad")]
    bench.outbox.fails["hold"] = [failure]
    segment = bench.outbox.add(b"a")
    run(bench.work_off())
    assert list(bench.outbox.held) == [segment.key]
    assert len(bench.far.attempts) == 2


def test_mark_that_cannot_be_written_stops_nothing() -> None:
    """A disk that does not take the mark of a failed attempt does not end the retries."""
    bench = Bench()
    bench.far.script = retries(3)
    bench.outbox.fails["rest"] = [Retry("disk full") for _ in range(3)]
    fill(bench, 1)
    run(bench.work_off())
    assert len(bench.outbox.committed) == 1


def test_no_attempt_is_open_while_a_segment_waits() -> None:
    """A process that dies between two attempts blames nobody."""
    bench = Bench()
    bench.far.always = Retry("busy")
    fill(bench, 3)

    async def scene() -> None:
        async with bench.running():
            await passed(1000.5)
            assert bench.deliveries.status.retrying == 3
            assert bench.outbox.trying == set()

    run(scene())


def test_three_held_in_a_row_pause_the_stream() -> None:
    """After the third held in a row one segment a minute is tried; the first that succeeds resumes the stream."""
    bench = Bench(segments_per_stream=1)
    bench.far.script = [Refused("no")] * 5
    fill(bench, 12)

    async def scene() -> None:
        async with bench.running():
            await passed(30)
            assert len(bench.outbox.held) == 3
            assert bench.deliveries.status.paused == "3 segments held in a row, the last one: refused: no"
            await until(lambda: len(bench.outbox.committed) == 7)
            assert bench.deliveries.status.paused == ""

    run(scene())
    assert bench.far.times == [0, 0, 0, 60, 120] + [180] * 7


def test_paused_stream_probes_with_one_segment_at_a_time() -> None:
    """However many segments are under way, a paused stream asks its destination once a minute."""
    bench = Bench(segments_per_stream=8)
    bench.far.always = Refused("no")
    fill(bench, 30)

    async def scene() -> None:
        async with bench.running():
            await passed(601)

    run(scene())
    late = [time for time in bench.far.times if time > 0]
    assert late == [60.0 * minute for minute in range(1, 11)]


def test_success_between_makes_no_row() -> None:
    """Held segments with successes between them do not pause a stream."""
    bench = Bench(segments_per_stream=1)
    bench.far.script = [Refused("no"), Refused("no"), None] * 5
    fill(bench, 15)
    run(bench.work_off())
    assert len(bench.outbox.held) == 10
    assert set(bench.far.times) == {0}


def test_resume_ends_a_pause_at_once() -> None:
    """Somebody who mended something need not wait for the probe."""
    bench = Bench(segments_per_stream=2)
    bench.far.script = [Refused("no")] * 4
    fill(bench, 10)

    async def scene() -> None:
        async with bench.running():
            await passed(10)
            bench.deliveries.resume()
            assert bench.deliveries.status.paused == ""
            await passed(1)
            assert len(bench.outbox.committed) + len(bench.outbox.held) == 10

    run(scene())


def test_resume_ends_waits_for_a_retry() -> None:
    """A reload has every waiting segment tried at once."""
    bench = Bench()
    bench.far.script = retries(40)
    fill(bench, 4)

    async def scene() -> None:
        async with bench.running():
            await passed(300.3)
            bench.far.script = []
            bench.deliveries.resume()
            await passed(0.1)
            assert len(bench.outbox.committed) == 4

    run(scene())


def test_failing_error_output_pauses_and_recovers_by_itself() -> None:
    """While dead letters cannot be set down the stream says that it is paused, in the log once, probes, loses nothing,
    and goes on when they can.
    """
    bench = Bench()
    bench.errors.script = retries(3, "errors bucket is gone")
    segment = bench.outbox.add(b"a", b"b", refused=["Bad: x", None])

    async def scene() -> None:
        async with bench.running():
            await passed(1)
            assert bench.deliveries.status.paused == "the error output fails: errors bucket is gone"
            assert (bench.outbox.committed, bench.outbox.held, bench.outbox.trying) == ({}, {}, set())
            await until(lambda: bool(bench.outbox.committed))
            assert bench.deliveries.status.paused == ""

    with capture_logs() as logs:
        run(scene())
    (told,) = [log for log in logs if log["event"] == "delivery.paused"]
    assert (told["log_level"], told["reason"]) == ("error", "the error output fails: errors bucket is gone")
    assert [round(time) for time, _ in bench.errors.attempts] == [0, 60, 120, 180]
    assert bench.outbox.committed[segment.key].dead == 1
    assert bench.far.stored == {str(segment): [b"b"]}


def test_failing_error_output_past_the_deadline_skips_nothing() -> None:
    """When destination and error output both fail, nothing is passed over once dead letters are taken."""
    bench = Bench()
    bench.deadline_seconds = 5
    bench.far.always = Retry("down")
    bench.errors.script = [Refused("forbidden")] * 10
    fill(bench, 6)
    run(bench.work_off())
    assert [totals.dead for totals in bench.outbox.committed.values()] == [1] * 6
    assert bench.outbox.held == {}
    gaps = [later - sooner for sooner, later in zip(bench.errors.times, bench.errors.times[1:], strict=False)]
    assert all(gap == 60 for gap in gaps[4:9]), "probes are a minute apart"


def test_obstructed_while_giving_up_does_not_spin() -> None:
    """A disk that fails past the deadline is waited for, and the rows are set down when it works again."""
    bench = Bench()
    bench.deadline_seconds = 1
    bench.far.always = Retry("down")
    segment = bench.outbox.add(b"a")

    async def scene() -> None:
        async with bench.running():
            await passed(0.5)
            bench.outbox.fails["commit"] = [Retry("disk full") for _ in range(5)]
            await until(lambda: bool(bench.outbox.committed))
            assert asyncio.get_running_loop().time() > 30

    run(scene())
    assert bench.outbox.committed[segment.key].dead == 1


def test_third_death_holds_without_another_try() -> None:
    """A segment that was being tried at three deaths of the process is set aside untouched."""
    bench = Bench()
    killer = bench.outbox.add(b"a")
    bench.outbox.died[killer.key] = 3
    run(bench.work_off())
    assert bench.outbox.held == {killer.key: "the delivery process died 3 times while delivering it"}
    assert bench.far.attempts == []


def test_last_chance_comes_when_the_process_has_lived_for_a_while() -> None:
    """After two deaths a segment is tried as late as any retry may be, so that a burst of kills does not condemn it;
    the others go on meanwhile. One death alone makes nobody wait.
    """
    bench = Bench(backoff_limit_seconds=60)
    fill(bench, 4)
    twice, once, *innocent = [segment.key for segment in bench.outbox._offered]
    bench.outbox.died = {twice: 2, once: 1}
    run(bench.work_off())
    assert {segment.key: at for at, segment in bench.far.attempts} == {twice: 60, once: 0} | dict.fromkeys(innocent, 0)


def test_last_chance_comes_at_once_when_somebody_mends() -> None:
    """A reload, or the end, does not wait for a segment's last chance."""
    bench = Bench(backoff_limit_seconds=3600)
    bench.outbox.died[bench.outbox.add(b"a").key] = 2

    async def scene() -> None:
        async with bench.running():
            await passed(5)
            bench.deliveries.resume()
            await until(lambda: bool(bench.outbox.committed))

    run(scene())
    assert bench.far.times == [5]


def test_a_survived_attempt_clears_of_suspicion() -> None:
    """Deaths count in a row: who fails without ending the process was not what ended it before."""
    bench = Bench()
    segment = bench.outbox.add(b"a")
    bench.outbox.died[segment.key] = 1
    bench.far.script = retries(1)
    run(bench.work_off())
    assert bench.outbox.deaths(segment) == 0


def test_conversions_are_bounded_in_bytes() -> None:
    """Segments that become columns are under way at once as far as they fit into the bound; a larger one goes alone."""

    def together(size_bytes: int, converts: bool) -> int:
        bench = Bench(segments_per_stream=3, columns_in_flight_mib=1)
        bench.converts, bench.far.always = converts, 1.0
        for number in range(4):
            bench.outbox.add(b"x" * size_bytes, first=number)
        run(bench.work_off())
        assert len(bench.outbox.committed) == 4
        return bench.far.together

    assert [together(size, True) for size in (100, 400_000, 600_000, 3_000_000)] == [3, 2, 1, 1]
    assert together(600_000, False) == 3


def test_a_failing_conversion_leaves_its_turn() -> None:
    """While one waits to be tried again, others of its stream are made into columns."""
    bench = Bench(columns_in_flight_mib=1)
    bench.converts, bench.far.script = True, retries(1)
    for number in range(2):
        bench.outbox.add(b"x" * 1_000_000, first=number)
    run(bench.work_off())
    assert [segment.first for _, segment in bench.far.attempts] == [0, 1, 0]


def test_suspects_are_tried_alone() -> None:
    """Nobody is under way beside a segment at which the process died before; the innocent work together."""
    bench = Bench(segments_per_stream=8)
    bench.far.always = 1.0
    fill(bench, 6)
    suspects = {(segment.stream, segment.lane, 2) for segment in bench.outbox._offered}
    bench.outbox.died = dict.fromkeys(suspects, 1)
    company: list[int] = []
    follow = bench.far._follow_script

    async def watched(name: str, batch: object) -> object:
        made = await follow(name, batch)  # type: ignore[arg-type]
        if batch.segment.first == 2:  # type: ignore[attr-defined]
            company.append(bench.far.working)
        return made

    bench.far._follow_script = watched  # type: ignore[method-assign, assignment]
    run(bench.work_off())
    assert company == [1]
    assert bench.far.together > 1
    assert len(bench.outbox.committed) == 6


def test_stop_tries_nothing_twice() -> None:
    """Once told to stop, what is there is tried once more at most, and what fails stays in the buffer."""
    bench = Bench()
    bench.far.always = Retry("down")
    fill(bench, 9)

    async def scene() -> None:
        async with bench.running():
            await passed(0.5)
            bench.deliveries.stop()
            await until(lambda: not bench.deliveries.under_way and not bench.deliveries.waiting, 1)
            assert len(bench.far.attempts) == 9

    run(scene())
    assert (bench.outbox.committed, bench.outbox.held) == ({}, {})


def test_stop_does_not_wait_for_a_paused_stream() -> None:
    """A paused stream too is tried once and left."""
    bench = Bench(segments_per_stream=1)
    bench.far.script = [Refused("no")] * 3 + retries(1)
    fill(bench, 6)

    async def scene() -> None:
        async with bench.running():
            await passed(1)
            bench.deliveries.stop()
            await until(lambda: not bench.deliveries.under_way and not bench.deliveries.waiting, 1)

    run(scene())
    assert len(bench.outbox.committed) == 2


def test_cancel_leaves_nothing_under_way() -> None:
    """Cancelling drops attempts in the middle and those that wait; their segments stay, their slots are free."""
    slots = Slots(2, 1000)
    bench = Bench(slots=slots, segments_per_stream=4)
    bench.far.script = [1e6, 1e6]
    fill(bench, 6)

    async def scene() -> None:
        async with bench.running():
            await passed(1)
            assert bench.deliveries.under_way == 4
        assert (bench.deliveries.under_way, slots.bytes_in_flight) == (0, 0)
        assert len(asyncio.all_tasks()) == 1

    run(scene())
    assert (bench.outbox.committed, bench.outbox.held) == ({}, {})


def test_status_tells_what_went_wrong_last() -> None:
    """The last error, its time, how many there were, and when something was delivered last, are there to be told."""
    bench = Bench()
    bench.far.script = [Retry("first"), Retry("second")]
    fill(bench, 1)
    run(bench.work_off())
    status, start = bench.deliveries.status, bench.runtime.wall_ms
    assert (status.failures, status.last_error, status.last_error_ms - start) == (2, "second", 1000)
    assert status.last_delivered_ms - start == 3000
    assert status.retrying == 0
