"""A destination that wants only some rows: what it gets, and how all the others are accounted for."""

from __future__ import annotations

import json
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pytest
from batches import rows
from far_sides import Bench, FarSide
from hypothesis import given
from hypothesis import strategies as st
from virtual_time import passed, run

from firehose.conditions.judging import AskedCondition, Condition, Judgement
from firehose.contracts import Refused, Retry
from firehose.model import Outcome, Receipt, Rejections, Segment, Totals
from firehose.rows import spread

REASON = ("Where.Error", "cannot be told")


@dataclass
class Here:
    """Wants what begins with `y`; of what begins with `?` it cannot tell."""

    closed: int = 0

    def judge(self, given: pa.RecordBatch) -> Judgement:
        said = [bytes(record)[:1] for record in given.column("record").to_pylist()]
        matches = np.array([one == b"y" for one in said], bool)
        return Judgement(matches, {at: REASON for at, one in enumerate(said) if one == b"?"})

    async def close(self) -> None:
        self.closed += 1


@dataclass
class Elsewhere:
    """The same, to be asked."""

    asked: int = 0

    async def ask(self, given: pa.RecordBatch) -> Judgement:
        self.asked += 1
        return Here().judge(given)

    async def close(self) -> None:
        """Nothing is held open."""


@dataclass
class Double:
    """Makes two rows of each record that has a `/` in it."""

    repeatable: bool = True

    def __call__(self, given: pa.RecordBatch) -> Outcome:
        parts = [bytes(record).split(b"/") for record in given.column("record").to_pylist()]
        came = [index for index, one in enumerate(parts) for _ in one]
        return Outcome(spread(given, came, pa.array([part for one in parts for part in one], pa.binary())))


WAYS = [Here, Elsewhere]


def attempt(bench: Bench, segment: Segment) -> Totals:
    return run(bench.pipeline.attempt(segment, 1))


def wanting(way: type[Here] | type[Elsewhere], *transforms: Double) -> Bench:
    bench = Bench(*transforms)
    bench.where = way()
    return bench


def raw_data(far: FarSide) -> list[str]:
    return sorted(json.loads(line)["rawData"] for lines in far.stored.values() for line in lines)


@pytest.mark.parametrize("way", WAYS)
def test_only_what_matches_is_delivered(way: type[Here] | type[Elsewhere]) -> None:
    """What does not match is filtered, what cannot be judged is a dead letter with its reason, and all are counted."""
    bench = wanting(way)
    segment = bench.outbox.add(b"y1", b"n1", b"?1", b"y2", b"n2")
    assert attempt(bench, segment) == Totals(delivered=2, filtered=2, dead=1, sent_bytes=4, objects=1)
    assert bench.far.stored == {str(segment): [b"y1", b"y2"]}
    ((line,),) = bench.errors.stored.values()
    letter = json.loads(line)
    assert (letter["rawData"], letter["errorCode"], letter["errorMessage"]) == ("PzE=", *REASON)


@pytest.mark.parametrize("way", WAYS)
def test_nothing_that_matches_is_no_object(way: type[Here] | type[Elsewhere]) -> None:
    """A segment of which the destination wants nothing asks nothing of it."""
    bench = wanting(way)
    assert attempt(bench, bench.outbox.add(b"n1", b"n2", b"n3")) == Totals(filtered=3)
    assert (bench.far.attempts, bench.errors.attempts) == ([], [])


@pytest.mark.parametrize("way", WAYS)
@given(said=st.lists(st.sampled_from(["y", "n", "?", "y/y", "y/n", "n/?", "?/?", "y/n/?"]), min_size=1, max_size=20))
def test_everything_adds_up(way: type[Here] | type[Elsewhere], said: list[str]) -> None:
    """Of rows that a transform split, each ends in its own way, and the totals are the count of the records."""
    bench = wanting(way, Double())
    totals = attempt(bench, bench.outbox.add(*(one.encode() for one in said)))
    parts = [part for one in said for part in one.split("/")]
    assert totals.records == len(said)
    whole = sum(one == "?/?" for one in said)  # of which no row goes its way: one letter, as the record came
    assert (totals.delivered, totals.filtered, totals.dead) == (
        parts.count("y"),
        parts.count("n"),
        parts.count("?") - whole,
    )
    assert sum(map(len, bench.errors.stored.values())) == totals.dead


def test_a_record_that_is_partly_filtered_is_not_sent_again_whole() -> None:
    """Where a record's other rows were filtered, or delivered, the letter of one holds that row alone."""
    bench = wanting(Here, Double())
    attempt(bench, bench.outbox.add(b"n/?a", b"y/?b", b"?c/?d"))
    assert raw_data(bench.errors) == ["P2E=", "P2I=", "P2MvP2Q="]


@pytest.mark.parametrize("way", WAYS)
def test_a_repeat_judges_alike(way: type[Here] | type[Elsewhere]) -> None:
    """After an attempt that failed the same rows go under the same name."""
    bench = wanting(way)
    bench.far.script = [Retry("busy")]
    segment = bench.outbox.add(b"y1", b"n1", b"y2")
    with pytest.raises(Retry):
        attempt(bench, segment)
    assert attempt(bench, segment) == Totals(delivered=2, filtered=1, sent_bytes=4, objects=1)
    assert len(set(bench.far.names)) == 1


@pytest.mark.parametrize("way", WAYS)
def test_giving_up(way: type[Here] | type[Elsewhere]) -> None:
    """Past the deadline what matches is dead, and what does not is filtered all the same."""
    bench = wanting(way)
    segment = bench.outbox.add(b"y1", b"n1", b"?1")
    assert run(bench.pipeline.give_up(segment, Retry("too slow"), 3)) == Totals(filtered=1, dead=2)
    assert raw_data(bench.errors) == ["PzE=", "eTE="]


def test_asked_once_for_many_slices() -> None:
    """A worker is not asked slice by slice."""
    bench = wanting(Elsewhere)
    assert isinstance(bench.where, Elsewhere)
    bench.outbox.rows_per_slice = 1
    attempt(bench, bench.outbox.add(*[b"y", b"n"] * 50))
    assert bench.where.asked == 1


def test_letters_of_a_destination_with_an_error_output_of_its_own() -> None:
    """What intake refused goes to the stream's error output, what this destination did not take to its own, by name."""
    bench = wanting(Here)
    bench.own_errors, bench.name = FarSide(), "eu"
    bench.far.script = [Receipt(refused=Rejections.of(rows([b"y2"]), "delivery-failed", "C", "m"))]
    segment = bench.outbox.add(b"y2", b"bad", b"?1", refused=[None, "Bad: x", None])
    assert run(bench.pipeline.attempt(segment, 1)).dead == 3
    assert raw_data(bench.errors) == ["YmFk"]
    assert raw_data(bench.own_errors) == ["PzE=", "eTI="]
    own = [json.loads(line) for lines in bench.own_errors.stored.values() for line in lines]
    assert [list(one)[-1] for one in own] == ["destination"] * 2
    assert {one["destination"] for one in own} == {"eu"}


def test_the_two_ways_are_told_apart() -> None:
    """What is asked has a way of its own: a condition is never taken for the other kind."""
    here, elsewhere = Here(), Elsewhere()
    condition: Condition = here
    assert isinstance(elsewhere, AskedCondition)
    assert not isinstance(condition, AskedCondition)


@pytest.mark.parametrize("failure", [Retry("gone"), Refused("no"), ValueError("bug")])
def test_what_is_not_wanted_any_more_is_let_go(failure: Exception) -> None:
    """Of a destination that its stream has no more, what fails is dropped at once; what succeeds is delivered."""
    bench = Bench()
    bench.is_wanted = False
    bench.far.script = [None, failure]
    segments = [bench.outbox.add(b"a", b"b", first=first) for first in (0, 2)]
    run(bench.work_off())
    assert [bench.outbox.committed[one.key].to_json() for one in segments] == [
        {"delivered": 2, "sent_bytes": 2, "objects": 1},
        {"dropped": 2},
    ]
    assert (bench.outbox.held, len(bench.far.attempts)) == ({}, 2)


def test_nobody_is_tried_again_and_again() -> None:
    """Where three in a row have found nobody the others are let go untried, each time-out spared; one success, or a
    destination that is wanted again, and everything is tried.
    """
    bench = Bench(segments_per_stream=1)
    bench.is_wanted = False
    bench.far.script = [Retry("silent"), Retry("silent"), None, *[Retry("silent")] * 3]
    segments = [bench.outbox.add(b"a", first=first) for first in range(9)]
    run(bench.work_off())
    assert [bench.outbox.committed[one.key].dropped for one in segments] == [1, 1, 0, 1, 1, 1, 1, 1, 1]
    assert len(bench.far.attempts) == 6


def test_who_is_wanted_again_is_tried() -> None:
    """What is said of one that is taken out is forgotten once it is back."""
    bench = Bench(segments_per_stream=1)
    bench.is_wanted = False
    bench.far.script = [Retry("silent")] * 3
    for first in range(4):
        bench.outbox.add(b"a", first=first)

    async def scene() -> None:
        async with bench.running():
            await passed(1)
            assert (len(bench.outbox.committed), len(bench.far.attempts)) == (4, 3)
            bench.is_wanted = True
            bench.far.script = [Retry("a moment"), None]
            bench.outbox.add(b"a", first=4)
            await passed(10)

    run(scene())
    assert (len(bench.outbox.committed), len(bench.far.attempts)) == (5, 5)


def test_what_is_in_our_own_way_is_waited_for() -> None:
    """What fails on our own side, as when a reload ends a hook, may still be delivered; what stays so is let go."""
    for failures, ends in ((1, {"delivered": 1, "sent_bytes": 1, "objects": 1}), (9, {"dropped": 1})):
        bench = Bench()
        bench.is_wanted = False
        bench.outbox.fails["open"] = [Retry("was loaded anew") for _ in range(failures)]
        segment = bench.outbox.add(b"a")
        run(bench.work_off())
        assert bench.outbox.committed[segment.key].to_json() == ends


def test_what_cannot_be_let_go_now_is_tried_again() -> None:
    """Where the ledger cannot take it the segment stays in hand, until one or the other succeeds."""
    bench = Bench()
    bench.is_wanted = False
    bench.far.script = [Retry("gone"), Refused("gone"), Retry("gone")]
    bench.outbox.fails["commit"] = [Retry("disk full")]
    segment = bench.outbox.add(b"a")
    run(bench.work_off())
    assert bench.outbox.committed[segment.key] == Totals(dropped=1)
    assert len(bench.far.attempts) == 2
