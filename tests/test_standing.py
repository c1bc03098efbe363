"""Where records stand: law 7 as arithmetic."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from firehose.model import Totals
from firehose.standing import PlaceStanding, StreamStanding, view

COUNT = st.integers(0, 1000)


@given(COUNT, COUNT, COUNT, COUNT, COUNT, COUNT, COUNT, st.integers(-5, 5))
def test_imbalance(
    delivered: int, dropped: int, filtered: int, dead: int, damaged: int, split: int, pending: int, lost: int
) -> None:
    """The imbalance is what was owed and has no end: each kind of end counts once, a split row not again."""
    totals = Totals(delivered + split, dropped, filtered, dead, damaged, split)
    owed = delivered + dropped + filtered + dead + damaged + pending + lost
    assert PlaceStanding("lake", owed, 0, totals, pending, 0, None).imbalance == lost


def test_age() -> None:
    """The age is that of the oldest record, 0 without one, and never below 0 when the clock went back."""

    def age(oldest_ms: int | None) -> float:
        return PlaceStanding("lake", 0, 0, Totals(), 0, 0, oldest_ms).age_seconds(10_000)

    assert [age(ms) for ms in (None, 8_500, 10_000, 99_000)] == [0, 1.5, 0, 0]


def test_view() -> None:
    """What people are told of a place: its open records are buffered, too."""
    place = PlaceStanding("lake", 7, 2, Totals(delivered=4), 3, 1, 9_000, last_error="why")
    told = view(StreamStanding("app", "ACTIVE", 3, 9, 10, 20, (place,)), 10_000)
    assert (told["name"], told["version"], told["accepted"]) == ("app", 3, 9)
    (one,) = told["destinations"]
    assert (one["buffered"], one["delivered"], one["held"], one["imbalance"]) == (5, 4, 1, 0)
    assert (one["oldest_age_seconds"], one["last_error"]) == (1.0, "why")


def test_view_adds_up() -> None:
    """Every way a record can end is told, so that the sum of law 7 can be checked by whoever reads it."""
    totals = Totals(delivered=5, dropped=2, filtered=1, dead=3, damaged=4, split=1)
    place = PlaceStanding("lake", 20, 1, totals, 6, 0, None)
    (one,) = view(StreamStanding("app", "ACTIVE", 1, 21, 0, 0, (place,)), 0)["destinations"]
    ends = ("delivered", "dropped", "filtered", "dead", "damaged", "buffered", "imbalance")
    assert 21 + one["split"] == sum(one[end] for end in ends)
