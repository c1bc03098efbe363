"""Back-off and deadline, on a clock given by hand."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from firehose.contracts import Retry
from firehose.delivery.retry import WISH_LIMIT_SECONDS, Patience

SECONDS = st.floats(0, 1e6, allow_nan=False)


def test_waits_double_up_to_the_limit() -> None:
    """Without jitter the waits are 1, 2, 4, 8, and never more than the limit."""
    patience, waits = Patience(1, 10), []
    for attempt in range(6):
        patience.failed(float(attempt), Retry("busy"))
        waits.append(patience.wait_seconds(float(attempt), 0.0))
    assert waits == [1, 2, 4, 8, 10, 10]


@given(jitter=st.floats(-1, 1), attempts=st.integers(1, 5000))
def test_jitter_is_15_percent(jitter: float, attempts: int) -> None:
    """However many attempts there were, a wait is the doubled one, 15 % more or less: AWS's back-off."""
    patience = Patience(1, 120, attempts=attempts)
    whole = patience.wait_seconds(0.0, 0.0)
    assert patience.wait_seconds(0.0, jitter) == pytest.approx(whole * (1 + 0.15 * jitter))
    assert whole <= 120


@pytest.mark.parametrize(("wished", "wait"), [(30.0, 30.0), (0.1, 1.0), (120.0, 120.0), (1e9, WISH_LIMIT_SECONDS)])
def test_far_side_wish_is_honoured(wished: float, wait: float) -> None:
    """A wait is never shorter than the far side asked for, within reason."""
    patience = Patience(1, 60)
    patience.failed(0.0, Retry("busy"))
    assert patience.wait_seconds(0.0, -0.9, wished) == pytest.approx(max(wait, 0.865) if wished > 1 else 0.865)


def test_deadline_runs_from_the_first_failure() -> None:
    """It is the first failed attempt that starts the deadline, and the reason of the last one that is told."""
    patience = Patience(1, 60, deadline_seconds=100)
    patience.failed(1000.0, Retry("first"))
    patience.failed(1099.0, Retry("second"))
    assert patience.given_up is None
    patience.failed(1100.0, Retry("third"))
    patience.failed(1200.0, Retry("fourth"))
    assert str(patience.given_up) == "third"


def test_waiting_for_answers_does_not_count() -> None:
    """The deadline stands still while an attempt waits for its answer, where the destination says for how long."""
    patience = Patience(1, 60, deadline_seconds=100)
    patience.failed(1000.0, Retry("first", waited_seconds=180.0))
    patience.failed(1181.0, Retry("second", waited_seconds=180.0))
    assert patience.given_up is None
    assert patience.wait_seconds(1181.0, 0.0, wished=500.0) == pytest.approx(99)
    patience.failed(1460.0, Retry("third", waited_seconds=180.0))
    assert str(patience.given_up) == "third"


def test_no_wait_passes_the_deadline() -> None:
    """The last attempt is made when the deadline comes, whatever the far side wished."""
    patience = Patience(8, 60, deadline_seconds=5)
    patience.failed(0.0, Retry("busy"))
    assert patience.wait_seconds(0.0, 0.0, wished=50.0) == 5


def test_no_deadline_no_end() -> None:
    """Without a deadline nothing is ever given up."""
    patience = Patience(1, 60)
    for year in range(100):
        patience.failed(year * 3.2e7, Retry("busy"))
    assert patience.given_up is None


def test_zero_deadline_gives_up_at_once() -> None:
    """With a deadline of zero seconds the first failure is the last."""
    patience = Patience(1, 60, deadline_seconds=0)
    patience.failed(7.0, Retry("busy"))
    assert str(patience.given_up) == "busy"


def test_obstruction_costs_no_patience() -> None:
    """A failure on our own side neither starts the deadline nor ends it, but is waited for like any other."""
    patience = Patience(1, 60, deadline_seconds=10)
    patience.failed(0.0, Retry("disk"), obstructed=True)
    assert patience.failed_at is None
    patience.failed(100.0, Retry("busy"))
    patience.failed(200.0, Retry("disk"), obstructed=True)
    assert patience.given_up is None
    assert patience.wait_seconds(200.0, 0.0) == 4


@given(st.lists(st.tuples(st.floats(0, 100), st.booleans()), max_size=30), SECONDS, st.one_of(st.none(), SECONDS))
def test_wait_is_never_negative_or_nothing(
    failures: list[tuple[float, bool]], deadline: float, wished: float | None
) -> None:
    """Whatever happened before, the next attempt is a while away: failing never spins."""
    patience, now = Patience(1, 60, deadline), 0.0
    for passed, obstructed in failures:
        now += passed
        patience.failed(now, Retry("x"), obstructed=obstructed)
        assert patience.wait_seconds(now, 0.5, wished) > 0.0005
