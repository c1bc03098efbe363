"""One attempt: who is sent what, what is kept, and how it all adds up."""

from __future__ import annotations

import base64
import json
import re
from dataclasses import dataclass, field

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from batches import Notes, rows
from far_sides import Bench
from hypothesis import given
from hypothesis import strategies as st
from virtual_time import run

from firehose.contracts import Refused, Retry, Transform
from firehose.delivery.outcomes import BrokenLaw
from firehose.delivery.pipeline import ErrorOutputFailed, Obstructed
from firehose.model import Batch, Outcome, Receipt, Rejections, Segment, Totals


@dataclass
class Choose:
    """Ends a record as its first byte says: d drop, r refuse, 2 deliver two rows, anything else as it is."""

    repeatable: bool = True
    runs: int = 0

    def __call__(self, given: pa.RecordBatch) -> Outcome:
        self.runs += 1
        said = [bytes(record)[:1] for record in given.column("record").to_pylist()]
        picked = {kind: [n for n, one in enumerate(said) if one == kind] for kind in (b"d", b"r")}
        kept = [n for n, one in enumerate(said) if one not in (b"d", b"r") for _ in range(1 + (one == b"2"))]
        delivered = given.take(pa.array(kept, pa.int64()))
        parts = [int(at > 0 and kept[at - 1] == n) for at, n in enumerate(kept)]
        delivered = delivered.set_column(2, delivered.schema.field("part"), pa.array(parts, pa.int32()))
        refused = given.take(pa.array(picked[b"r"], pa.int64()))
        dropped = given.take(pa.array(picked[b"d"], pa.int64())).column("row")
        return Outcome(delivered, Rejections.of(refused, "processing-failed", "Chosen", "as it says"), dropped)


def attempt(bench: Bench, segment: Segment, attempts: int = 1) -> Totals:
    return run(bench.pipeline.attempt(segment, attempts))


def letters(bench: Bench, segment: Segment, kind: str) -> list[dict[str, object]]:
    """The documents of one error object."""
    return [json.loads(line) for line in bench.errors.stored[f"{segment}{kind}"]]


def test_passes_records_on() -> None:
    """Without transforms the destination gets the segment's records, in order, and the totals say so."""
    bench = Bench()
    segment = bench.outbox.add(b"a", b"bb", b"ccc")
    assert attempt(bench, segment) == Totals(delivered=3, sent_bytes=6, objects=1)
    assert bench.far.stored == {str(segment): [b"a", b"bb", b"ccc"]}
    assert bench.outbox.committed[segment.key].delivered == 3
    assert bench.errors.stored == {}


def test_what_intake_refused_becomes_a_dead_letter_once() -> None:
    """A refused row goes to the error output as AWS writes such, is counted dead, and is not delivered."""
    bench = Bench()
    segment = bench.outbox.add(b"a", b"b", b"c", refused=[None, "TooLarge: more: than\nallowed", None])
    assert attempt(bench, segment) == Totals(delivered=2, dead=1, sent_bytes=2, objects=1)
    assert bench.far.stored[str(segment)] == [b"a", b"c"]
    assert letters(bench, segment, "ingest-failed") == [
        {
            "rawData": "Yg==",
            "errorCode": "Ingest.TooLarge",
            "errorMessage": "more: than\nallowed",
            "attemptsMade": 1,
            "arrivalTimestamp": 1772366407000,
            "attemptEndingTimestamp": 1772366400000,
        }
    ]


def test_members_of_a_dead_letter_stand_in_order() -> None:
    """Error documents are lines whose members stand as AWS has them."""
    bench = Bench()
    segment = bench.outbox.add(b"a", refused=["Broken: said so"])
    attempt(bench, segment)
    (line,) = bench.errors.stored[f"{segment}ingest-failed"]
    assert line.endswith(b"}\n")
    assert list(json.loads(line)) == [
        "rawData",
        "errorCode",
        "errorMessage",
        "attemptsMade",
        "arrivalTimestamp",
        "attemptEndingTimestamp",
    ]


@pytest.mark.parametrize("transforms", [[], [Choose()], [Choose(repeatable=False)]], ids=["none", "one", "kept"])
def test_all_refused_writes_no_data_object(transforms: list[Transform]) -> None:
    """A segment without a row to deliver asks nothing of its destination, and still finds its end."""
    bench = Bench(*transforms)
    segment = bench.outbox.add(b"a", b"b", b"c", refused=["X: y"] * 3)
    assert attempt(bench, segment) == Totals(dead=3)
    assert bench.far.attempts == []
    assert len(bench.errors.stored) == 1


def test_all_dropped_writes_nothing() -> None:
    """A segment that the transforms drop whole leaves no object anywhere."""
    bench = Bench(Choose())
    segment = bench.outbox.add(b"d1", b"d2", b"d3")
    assert attempt(bench, segment) == Totals(dropped=3)
    assert (bench.far.attempts, bench.errors.attempts) == ([], [])


@pytest.mark.parametrize("repeatable", [True, False])
@given(said=st.lists(st.sampled_from([b"a", b"d", b"r", b"2", b"x", b"!"]), min_size=1, max_size=30))
def test_everything_adds_up(repeatable: bool, said: list[bytes]) -> None:
    """However records end (delivered, split, dropped, refused by intake or a transform), the totals are their count."""
    bench = Bench(Choose(repeatable))
    refused = [f"Bad: {one!r}" if one == b"!" else None for one in said]
    segment = bench.outbox.add(*said, refused=refused)
    totals = attempt(bench, segment)
    assert totals.records == len(said)
    assert totals == Totals(
        delivered=sum(1 + (one == b"2") for one in said if one in (b"a", b"2", b"x")),
        dropped=said.count(b"d"),
        dead=said.count(b"r") + said.count(b"!"),
        split=said.count(b"2"),
        sent_bytes=totals.sent_bytes,
        objects=totals.objects,
    )
    assert sum(map(len, bench.errors.stored.values())) == totals.dead


def test_parts_of_a_split_row_may_end_apart() -> None:
    """Behind a transform that splits, another may drop or refuse one part and pass the other on."""

    def second(rows: pa.RecordBatch) -> Outcome:
        first = pa.compute.equal(rows.column("part"), 0)
        return Outcome(rows.filter(first), dropped=rows.filter(pa.compute.invert(first)).column("row"))

    second.repeatable = True  # type: ignore[attr-defined]
    bench = Bench(Choose(), second)  # type: ignore[arg-type]
    segment = bench.outbox.add(b"2", b"a")
    assert attempt(bench, segment) == Totals(delivered=2, dropped=1, split=1, sent_bytes=2, objects=1)


def test_repeatable_transforms_run_each_time() -> None:
    """What can be computed again is: nothing is kept beside the segment."""
    transform = Choose()
    bench = Bench(transform)
    bench.far.script = [Retry("busy")]
    segment = bench.outbox.add(b"a", b"b")
    with pytest.raises(Retry, match="busy"):
        attempt(bench, segment)
    attempt(bench, segment)
    assert transform.runs == 2
    assert bench.outbox.outcomes == {}


def test_outcome_that_cannot_be_repeated_is_kept_before_anything_is_sent() -> None:
    """While the outcome cannot be made durable nothing is sent; once it is, it is never computed again."""
    transform = Choose(repeatable=False)
    bench = Bench(transform)
    segment = bench.outbox.add(b"a", b"d", b"2")
    bench.outbox.fails["keep"] = [Retry("disk full")]
    with pytest.raises(Obstructed):
        attempt(bench, segment)
    assert bench.far.attempts == []
    bench.far.script = [Retry("busy")]
    with pytest.raises(Retry, match="busy"):
        attempt(bench, segment)
    assert transform.runs > 0
    bench.transforms = [again := Choose(repeatable=False)]  # as after a kill
    totals = attempt(bench, segment)
    assert again.runs == 0
    assert totals == Totals(delivered=3, dropped=1, split=1, sent_bytes=3, objects=1)


def test_kept_outcome_does_not_depend_on_slices() -> None:
    """A kept outcome is delivered as it was, though the segment would be cut into other slices today."""
    bench = Bench(Choose(repeatable=False))
    segment = bench.outbox.add(b"a", b"b", b"c", b"d", b"r")
    bench.far.script = [Retry("busy")]
    with pytest.raises(Retry):
        attempt(bench, segment)
    bench.outbox.rows_per_slice = 1
    assert attempt(bench, segment).to_json() == {"delivered": 3, "dropped": 1, "dead": 1, "sent_bytes": 3, "objects": 1}


def test_damaged_rows_are_counted() -> None:
    """Rows that the segment's file no longer holds are neither delivered nor dead: they are counted as damaged."""
    bench = Bench(Choose())
    segment = bench.outbox.add(b"a", b"2", b"r", b"lost", b"lost", lost=2)
    assert attempt(bench, segment) == Totals(delivered=3, dead=1, split=1, damaged=2, sent_bytes=3, objects=1)


def test_kept_outcome_counts_damage_too() -> None:
    """What was damaged when the outcome was kept is counted so at every later attempt."""
    bench = Bench(Choose(repeatable=False))
    segment = bench.outbox.add(b"2", b"d", b"lost", lost=1)
    assert attempt(bench, segment).damaged == 1


def test_destination_that_reads_nothing_is_counted_all_the_same() -> None:
    """A destination that finds its object there need not read the batch: no row is taken for damaged."""
    bench = Bench(Choose())
    bench.far.reads = False
    segment = bench.outbox.add(b"a", b"d", b"r", b"2", b"x")
    totals = attempt(bench, segment)
    assert (totals.delivered, totals.dropped, totals.dead, totals.damaged) == (4, 1, 1, 0)


def test_destination_may_read_twice_at_once() -> None:
    """Passes do not disturb each other, whatever their order: the counts are those of one pass."""
    bench = Bench(Choose())

    async def deliver(batch: Batch, memo: object) -> Receipt:
        one, other = batch.slices(), batch.slices()
        next(one), next(other)
        assert len(list(one)) == len(list(other)) == 1
        assert [part.num_rows for part in batch.slices()] == [1, 1]
        return Receipt(("x",), 1)

    bench.far.deliver = deliver  # type: ignore[method-assign]
    segment = bench.outbox.add(b"a", b"d", b"b", b"r")
    assert attempt(bench, segment) == Totals(delivered=2, dropped=1, dead=1, sent_bytes=1, objects=1)


def test_rows_the_destination_refuses_become_dead_letters() -> None:
    """Rows refused one by one go to the error output, with the number of attempts that were made."""
    bench = Bench()
    segment = bench.outbox.add(b"a", b"b", b"c")
    refused = Rejections.of(rows([b"a", b"b", b"c"]).slice(1, 1), "far-failed", "400", "no such field")
    bench.far.script = [Receipt(("x",), 2, refused)]
    assert attempt(bench, segment, attempts=7) == Totals(delivered=2, dead=1, sent_bytes=2, objects=1)
    (letter,) = letters(bench, segment, "far-failed")
    assert (letter["rawData"], letter["errorCode"], letter["attemptsMade"]) == ("Yg==", "400", 7)


@dataclass
class Particular:
    """A far side that refuses what holds `bad`."""

    bad: bytes

    async def deliver(self, batch: Batch, memo: object) -> Receipt:
        given = pa.Table.from_batches(batch.slices())
        chosen = given.filter(pc.match_substring(given.column("record"), self.bad))
        refused = Rejections.of(chosen.combine_chunks(), "far-failed", "400", "no such field")
        return Receipt(("x",) if len(chosen) < len(given) else (), len(given), refused)


@dataclass
class Rewrite:
    """Makes a row of each half of a record that has a comma; `!` stands before all that it has touched."""

    repeatable: bool = True

    def __call__(self, given: pa.RecordBatch) -> Outcome:
        made = []
        for row in given.to_pylist():
            halves = enumerate(row["record"].split(b","))
            made += [{**row, "part": part, "record": b"!" + half} for part, half in halves if half != b"drop"]
        return Outcome(pa.RecordBatch.from_pylist(made, schema=given.schema))


@pytest.mark.parametrize("repeatable", [True, False])
def test_what_the_destination_refuses_is_a_letter_as_it_came(repeatable: bool) -> None:
    """Where nothing of a record is delivered its letter has the user's own bytes, once; where a part is, the letter has
    just the part that is not. The books balance, and a repeat says the same.
    """
    bench = Bench(Rewrite(repeatable))
    segment = bench.outbox.add(b"bad", b"good", b"bad 1,bad 2", b"good,bad 3", b"drop,bad 4", b"a,b")
    bench.far.deliver = Particular(b"bad").deliver  # type: ignore[method-assign]
    for _ in range(2):
        totals = attempt(bench, segment)
        assert (totals.delivered, totals.dead, totals.split) == (4, 4, 2)
        told = [base64.b64decode(str(one["rawData"])) for one in letters(bench, segment, "far-failed")]
        assert told == [b"bad", b"bad 1,bad 2", b"!bad 3", b"drop,bad 4"]


def test_destination_that_refuses_too_much_is_found_out() -> None:
    """More rows refused than were given is a bug, and nothing is committed."""
    bench = Bench()
    segment = bench.outbox.add(b"a")
    bench.far.script = [Receipt((), 0, Rejections.of(rows([b"a", b"b"]), "t", "c", "m"))]
    with pytest.raises(BrokenLaw):
        attempt(bench, segment)
    assert bench.outbox.committed == {}


def test_each_error_type_has_an_object_of_its_own() -> None:
    """Dead letters of one segment are grouped by error-output-type, each group one object."""
    bench = Bench(Choose())
    segment = bench.outbox.add(b"r1", b"a", b"b", b"r2", refused=[None, None, "Bad: x", None])
    attempt(bench, segment)
    assert {name: len(lines) for name, lines in bench.errors.stored.items()} == {
        f"{segment}ingest-failed": 1,
        f"{segment}processing-failed": 2,
    }
    assert [letter["rawData"] for letter in letters(bench, segment, "processing-failed")] == ["cjE=", "cjI="]


def test_many_dead_letters_are_one_object() -> None:
    """However many rows are refused, their documents are written a few at a time, none lost, in order."""
    bench = Bench()
    records = [b"%d" % number for number in range(5000)]
    segment = bench.outbox.add(*records, refused=["Bad: x"] * 5000)
    bench.outbox.rows_per_slice = 3000
    slices: list[int] = []
    follow = bench.errors._follow_script

    async def counted(name: str, batch: Batch) -> Receipt:
        slices.extend(part.num_rows for part in batch.slices())
        return await follow(name, batch)

    bench.errors._follow_script = counted  # type: ignore[method-assign]
    assert attempt(bench, segment).dead == 5000
    assert len(bench.errors.stored[f"{segment}ingest-failed"]) == 5000
    assert max(slices) <= 1024
    assert sum(slices) == 5000


@pytest.mark.parametrize("failure", [Retry("full"), Refused("forbidden")])
def test_failing_error_output_commits_nothing(failure: Exception) -> None:
    """While dead letters cannot be set down the segment has not ended, in whichever way they fail."""
    bench = Bench()
    bench.errors.script = [failure]
    segment = bench.outbox.add(b"a", b"b", refused=[None, "Bad: x"])
    with pytest.raises(ErrorOutputFailed, match="the error output fails: "):
        attempt(bench, segment)
    assert bench.outbox.committed == {}
    assert attempt(bench, segment).dead == 1
    assert len(set(bench.far.names)) == 1, "the repeat has the same name"


@pytest.mark.parametrize("step", ["open", "commit"])
def test_failing_buffer_is_not_the_destinations_fault(step: str) -> None:
    """A disk that fails before or after the delivery asks for a retry that no deadline counts."""
    bench = Bench()
    segment = bench.outbox.add(b"a")
    bench.outbox.fails[step] = [Retry("disk failed", 3.0)]
    with pytest.raises(Obstructed) as told:
        attempt(bench, segment)
    assert told.value.after_seconds == 3.0
    assert bench.outbox.committed == {}


def test_giving_up_makes_dead_letters_of_what_would_be_delivered() -> None:
    """Past the deadline every record that was to be delivered is one dead letter, as it came, and nothing is sent."""
    bench = Bench(Choose())
    segment = bench.outbox.add(b"a", b"d", b"2", b"r", b"b", refused=[None] * 4 + ["Bad: x"])
    totals = run(bench.pipeline.give_up(segment, Retry("too slow"), 9))
    assert totals == Totals(dropped=1, dead=4)
    assert totals.records == 5
    assert bench.far.attempts == []
    given_up = letters(bench, segment, "delivery-failed")
    assert [letter["rawData"] for letter in given_up] == ["YQ==", "Mg=="]
    assert {(one["errorCode"], one["errorMessage"], one["attemptsMade"]) for one in given_up} == {
        ("Delivery.DeadlineExceeded", "too slow", 9)
    }


def test_giving_up_tells_what_the_destination_told() -> None:
    """What has arrived counts as delivered; the rest is told of with the destination's error type and AWS's code."""
    bench = Bench()
    bench.far.error_type = "http-endpoint-failed"  # type: ignore[misc]
    segment = bench.outbox.add(b"a", b"b", b"c")
    failure = Retry("no answer", done_rows=pa.array([0, 2], pa.int32()), code="HttpEndpoint.RequestTimeout")
    assert run(bench.pipeline.give_up(segment, failure, 4)) == Totals(delivered=2, dead=1)
    (letter,) = letters(bench, segment, "http-endpoint-failed")
    assert (letter["rawData"], letter["errorCode"]) == ("Yg==", "HttpEndpoint.RequestTimeout")
    assert re.fullmatch(r"\d{55}1\.0", str(letter["dataId"]))
    assert letter["subsequenceNumber"] == 0


def test_giving_up_tells_what_aws_has_beside() -> None:
    """Members that the destination has for a row stand in its letter, of the rows that have not arrived."""
    bench = Bench()
    segment = bench.outbox.add(b"a", b"b")

    def extra(given: pa.RecordBatch) -> pa.StringArray:
        return pa.array([json.dumps({"esDocumentId": f"{row}.0"}) for row in given.column("row").to_pylist()])

    failure = Retry("busy", done_rows=pa.array([0], pa.int32()), code="429", extra=extra)
    run(bench.pipeline.give_up(segment, failure, 1))
    (letter,) = letters(bench, segment, bench.far.error_type)
    assert (letter["rawData"], letter["errorCode"], letter["esDocumentId"]) == ("Yg==", "429", "1.0")


def test_letters_have_what_aws_has_for_their_type() -> None:
    """Members that AWS's document has beyond the usual ones stand in a refused row's letter, whatever their type."""
    bench = Bench()
    segment = bench.outbox.add(b"a", b"b")
    refused = Rejections.of(rows([b"a", b"b"]), "processing-failed", "C", "m")
    extra = pa.array(['{"dataId":"7.0","subsequenceNumber":0}', None], pa.string())
    bench.far.script = [Receipt(refused=refused.with_extra(extra))]
    attempt(bench, segment)
    with_extra, without = letters(bench, segment, "processing-failed")
    assert {name: with_extra[name] for name in ("dataId", "subsequenceNumber")} == {
        "dataId": "7.0",
        "subsequenceNumber": 0,
    }
    assert set(with_extra) - set(without) == {"dataId", "subsequenceNumber"}


@dataclass
class Breaking:
    """A transform that breaks the law on what is given."""

    repeatable: bool = field(default=True, init=False)

    def __call__(self, given: pa.RecordBatch) -> Outcome:
        return Outcome(given.slice(1))


@pytest.mark.parametrize("repeatable", [True, False])
def test_transform_that_breaks_the_law_is_found_before_anything_is_sent(repeatable: bool) -> None:
    """A row lost by a transform is a bug: it is neither delivered without the row, nor is such an outcome kept."""
    bench = Bench(breaking := Breaking())
    breaking.repeatable = repeatable
    segment = bench.outbox.add(b"a", b"b")
    with pytest.raises(BrokenLaw, match="Breaking loses rows: 0"):
        attempt(bench, segment)
    assert (bench.far.stored, bench.outbox.outcomes, bench.outbox.committed) == ({}, {}, {})


def test_memo_is_the_segments_own() -> None:
    """A destination finds its notes of earlier attempts at the same segment."""
    bench = Bench()
    segment = bench.outbox.add(b"a")
    seen: list[tuple[str, ...]] = []

    async def deliver(batch: Batch, memo: Notes) -> Receipt:
        seen.append(memo.read())
        memo.write("note")
        if len(seen) == 1:
            raise Retry("again")
        return Receipt(("x",))

    bench.far.deliver = deliver  # type: ignore[method-assign, assignment]
    with pytest.raises(Retry):
        attempt(bench, segment)
    attempt(bench, segment)
    assert seen == [(), ("note",)]
