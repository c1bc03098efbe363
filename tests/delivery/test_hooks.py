"""Hooks in the pipeline: what the user's code makes of a segment is durable before anything is sent, made once for all
destinations, in order, and holds nobody up while it is being made.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

import pyarrow as pa
import pytest
from batches import rows
from far_sides import Bench
from virtual_time import passed, run

from firehose.contracts import Hook, Retry
from firehose.delivery.outcomes import Passage, awaited
from firehose.delivery.pipeline import Obstructed
from firehose.model import Batch, Outcome, Rejections
from firehose.rows import replaced, spread


@dataclass
class Waits:
    """A hook that marks each record with the call it met, and takes as long as it is told to for a record."""

    seconds: Callable[[bytes], float] = lambda record: 0.0
    name: str = "waits"
    at_once: int = 1
    payload_bytes: int = 1
    calls: list[list[bytes]] = field(default_factory=list)
    most: int = 0
    under_way: int = 0

    async def check(self) -> None:
        """It can always be called."""

    async def outcome(self, given: pa.RecordBatch) -> Outcome:
        records = given.column("record").to_pylist()
        self.calls.append(records)
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        await asyncio.sleep(max(map(self.seconds, records)))
        self.under_way -= 1
        marked = [b"%b/%d" % (record, len(self.calls)) for record in records]
        return Outcome(replaced(given, pa.array(marked, pa.binary())))

    async def close(self) -> None:
        """Nothing is held."""


class Refuses:
    """Refuses whatever comes, as it came."""

    repeatable = True

    def __call__(self, given: pa.RecordBatch) -> Outcome:
        return Outcome(given.slice(0, 0), Rejections.of(given, "t", "c", "m"))


async def asked(hook: Hook, given: pa.RecordBatch) -> Outcome:
    return await hook.outcome(given)


def hanging(record: bytes) -> float:
    return 1000.0 if record.startswith(b"hang") else 0.0


def test_an_outcome_is_made_once() -> None:
    """However often a delivery fails, and after a restart, the user's code is not called again for the segment."""
    bench = Bench(hook := Waits())
    segment = bench.outbox.add(b"a", b"b")
    bench.far.script = [Retry("busy"), Retry("busy")]
    run(bench.work_off())
    assert len(hook.calls) == 1
    assert bench.far.stored[str(segment)] == [b"a/1", b"b/1"]
    assert bench.outbox.committed[segment.key].delivered == 2


def test_hooks_are_counted() -> None:
    """How often a hook was asked, for how long, and what it refused is known of each stream."""

    class Picky(Waits):
        async def outcome(self, given: pa.RecordBatch) -> Outcome:
            await super().outcome(given)
            return Outcome(given.slice(1), Rejections.of(given.slice(0, 1), "t", "c", "m"))

    bench = Bench(Picky(lambda record: 2.0))
    bench.outbox.rows_per_slice = 2
    bench.outbox.add(b"a", b"b", b"c", b"d")
    run(bench.work_off())
    said = {"stream": "app", "hook": "waits", "requests": 2, "seconds": 4.0, "refused": 2}
    assert bench.pipeline.watch.said() == [said]


def test_two_destinations_share_an_outcome() -> None:
    """Both prepare the same segment at the same time: one makes the outcome, the other reads it."""
    bench = Bench(hook := Waits(lambda record: 1.0))
    segment = bench.outbox.add(b"a")

    async def both() -> None:
        await asyncio.gather(*(bench.pipeline.attempt(segment, 1) for _ in range(2)))

    run(both())
    assert len(hook.calls) == 1


def test_a_segment_that_hangs_holds_up_no_other() -> None:
    """While the user's code has one segment for long, more than fit side by side are delivered, and it still ends."""
    bench = Bench(Waits(hanging), segments_per_stream=1, workers=1)
    slow = bench.outbox.add(b"hang")
    others = [bench.outbox.add(b"x%d" % n, first=1 + n) for n in range(5)]

    async def lived() -> None:
        working = asyncio.create_task(bench.work_off())
        await passed(10.0)
        assert set(bench.outbox.committed) == {one.key for one in others}
        await working

    run(lived())
    assert slow.key in bench.outbox.committed


def test_many_segments_wait_for_the_users_code() -> None:
    """However many there are, and however few are delivered at once, none waits for another for ever."""
    bench = Bench(Waits(lambda record: 1.0, at_once=4), segments_per_stream=1, workers=1)
    for number in range(40):
        bench.outbox.add(b"x", first=number)
    run(bench.work_off())
    assert len(bench.outbox.committed) == 40


def test_slices_are_worked_on_side_by_side_and_kept_in_order() -> None:
    """As many payloads as the hook takes at once are with it, and outcomes come back in the records' order."""
    bench = Bench(hook := Waits(lambda record: 10.0 - int(record), at_once=3))
    bench.outbox.rows_per_slice = 1
    segment = bench.outbox.add(*(b"%d" % n for n in range(8)))
    run(bench.work_off())
    assert [record[:1] for record in bench.far.stored[str(segment)]] == [b"%d" % n for n in range(8)]
    assert 3 <= hook.most <= 4


def test_slices_are_joined_up_to_a_payload() -> None:
    """A hook that takes more at once than a slice is handed several slices as one."""
    bench = Bench(hook := Waits(payload_bytes=1 << 20))
    bench.outbox.rows_per_slice = 1
    bench.outbox.add(b"a", b"b", b"c")
    run(bench.work_off())
    assert hook.calls == [[b"a", b"b", b"c"]]


def test_a_hook_that_was_loaded_anew_is_asked_again() -> None:
    """Closing a hook costs no record and starts no deadline: the newest code is asked."""

    class Gone(Waits):
        async def outcome(self, given: pa.RecordBatch) -> Outcome:
            raise Retry("the hook was loaded anew")

    bench = Bench(Gone())
    segment = bench.outbox.add(b"a")
    with pytest.raises(Obstructed, match="loaded anew"):
        run(bench.pipeline.attempt(segment, 1))
    assert bench.outbox.outcomes == {}
    bench.transforms = [Waits()]
    assert run(bench.pipeline.attempt(segment, 1)).delivered == 1


def test_nothing_is_left_under_way_when_preparing_is_given_up() -> None:
    """Cancelling what waits for the user's code cancels its calls."""
    hook = Waits(lambda record: 1000.0, at_once=4)
    given = [rows([b"%d" % n]) for n in range(4)]
    segment = Bench().outbox.add(b"x")

    async def lived() -> None:
        bench = Bench()
        made = awaited(Batch(segment, lambda: iter(given)), [hook], bench.runtime.threads("t", 1), asked)
        asking = asyncio.create_task(anext(made))
        await passed(1.0)
        assert hook.under_way == 4
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
        await made.aclose()
        assert len(asyncio.all_tasks()) == 1

    run(lived())


def test_what_a_later_step_refuses_is_kept_as_it_came() -> None:
    """A dead letter holds the user's own bytes, whatever earlier transforms made of them."""
    given = rows([b"a", b"b"])
    passage = Passage.of(given)
    upper = replaced(given, pa.array([b"A", b"B"], pa.binary()))
    passage.take(Refuses(), Outcome(upper))
    passage.take(Refuses(), Refuses()(upper))
    assert passage.outcome().refused.table.column("record").to_pylist() == [b"a", b"b"]


def test_a_refused_part_of_a_split_record_is_kept_by_itself() -> None:
    """Its siblings may have been delivered: sending the whole record again would double them."""
    given = rows([b"a1,a2", b"b"])
    passage = Passage.of(given)
    split = spread(given, [0, 0, 1], pa.array([b"a1", b"a2", b"B"], pa.binary()))
    passage.take(Refuses(), Outcome(split))
    refused = Rejections.of(split.slice(1), "t", "c", "m")
    passage.take(Refuses(), Outcome(split.slice(0, 1), refused))
    assert passage.outcome().refused.table.column("record").to_pylist() == [b"a2", b"b"]
