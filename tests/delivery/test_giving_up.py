"""When the patience with a batch has ended, its destination may have a last word."""

from __future__ import annotations

from dataclasses import dataclass, field

from batches import rows
from far_sides import Bench, FarSide, retries
from structlog.testing import capture_logs
from virtual_time import run

from firehose.contracts import Memo, Retry
from firehose.model import Batch, Receipt, Rejections


@dataclass
class LastWord(FarSide):
    """Says what `words` say, one after the other; then that the batch has not arrived."""

    words: list[Receipt | Exception | None] = field(default_factory=list)
    asked: list[tuple[str, list[bytes]]] = field(default_factory=list)

    async def give_up(self, batch: Batch, memo: Memo) -> Receipt | None:
        self.asked.append((str(batch.segment), [one for part in batch.slices() for one in part["record"].to_pylist()]))
        said = self.words.pop(0) if self.words else None
        if isinstance(said, Exception):
            raise said
        return said


def bench(*words: Receipt | Exception | None) -> tuple[Bench, LastWord]:
    """One whose deliveries all fail, until patience ends at once."""
    one, far = Bench(), LastWord(always=Retry("busy"), words=list(words))
    one.far, one.deadline_seconds = far, 0
    return one, far


def test_nothing_more_to_say() -> None:
    """The rows are dead letters; the destination was asked once, with all of them."""
    one, far = bench()
    segment = one.outbox.add(b"a", b"b", b"c")
    run(one.work_off())
    assert far.asked == [(str(segment), [b"a", b"b", b"c"])]
    assert one.outbox.committed[segment.key].dead == 3
    assert len(one.errors.stored) == 1


def test_arrived_after_all() -> None:
    """A batch that turns out to have arrived counts as delivered, and is set down nowhere else."""
    one, _ = bench(Receipt(("there",), 10))
    segment = one.outbox.add(b"a", b"b")
    run(one.work_off())
    totals = one.outbox.committed[segment.key]
    assert (totals.delivered, totals.dead, totals.sent_bytes, totals.objects) == (2, 0, 10, 1)
    assert one.errors.stored == {}


def test_rows_refused_in_the_last_word() -> None:
    """What had arrived but for some rows is delivered but for these, which are dead letters."""
    refused = Rejections.of(rows([b"a"]), "delivery-failed", "Bad", "is bad")
    one, _ = bench(Receipt(("there",), 10, refused))
    segment = one.outbox.add(b"a", b"b")
    run(one.work_off())
    totals = one.outbox.committed[segment.key]
    assert (totals.delivered, totals.dead) == (1, 1)
    assert len(one.errors.stored) == 1


def test_a_last_word_that_fails() -> None:
    """Where the destination cannot even say so, that is told, and the rows are dead letters all the same."""
    one, _ = bench(Retry("still busy"))
    segment = one.outbox.add(b"a", b"b")
    with capture_logs() as logs:
        run(one.work_off())
    assert one.outbox.committed[segment.key].dead == 2
    assert [line["reason"] for line in logs if line["event"] == "delivery.given_up"] == ["still busy"]


def test_error_output_that_fails() -> None:
    """While the letters cannot be set down, the destination is asked again each time, and its new word counts."""
    one, far = bench(None, Receipt(("there",), 10))
    one.errors.script = retries(1)
    segment = one.outbox.add(b"a")
    run(one.work_off())
    assert len(far.asked) == 2
    assert (one.outbox.committed[segment.key].delivered, one.errors.stored) == (1, {})
