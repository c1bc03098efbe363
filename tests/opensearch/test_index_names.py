"""Index rotation: AWS's table, and the turns of days, weeks and years."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta, timezone

import pyarrow as pa
import pytest

from firehose.opensearch.index_names import LONGEST, Rotation, index_name, index_names, week_of

TABLE: list[tuple[Rotation, str]] = [
    ("none", "myindex"),
    ("hour", "myindex-2016-02-25-13"),
    ("day", "myindex-2016-02-25"),
    ("week", "myindex-2016-w09"),  # AWS's page prints w08, against its own rule
    ("month", "myindex-2016-02"),
]


@pytest.mark.parametrize(("rotation", "name"), TABLE)
def test_table(rotation: Rotation, name: str) -> None:
    """The names are those of AWS's table, in UTC wherever the instant was taken."""
    at = datetime(2016, 2, 25, 13, tzinfo=UTC)
    assert index_name("myindex", rotation, at) == name
    assert index_name("myindex", rotation, at.astimezone(timezone(timedelta(hours=12)))) == name
    assert len(name) <= len("myindex") + LONGEST


@pytest.mark.parametrize(
    ("day", "week"),
    [
        (date(2015, 12, 26), (2015, 52)),
        (date(2015, 12, 27), (2016, 1)),
        (date(2016, 1, 2), (2016, 1)),
        (date(2016, 1, 3), (2016, 2)),
        (date(2017, 1, 1), (2017, 1)),
        (date(2016, 12, 31), (2016, 53)),
        (date(2022, 1, 1), (2022, 1)),
        (date(2022, 1, 2), (2022, 2)),
    ],
)
def test_weeks(day: date, week: tuple[int, int]) -> None:
    """Weeks begin on Sunday; the first of a year holds its first Saturday, and belongs to that year as a whole."""
    assert week_of(day) == week


def test_weeks_have_no_gaps() -> None:
    """Over forty years a week has seven days, and the next one follows it."""
    days = [date(2000, 1, 2) + timedelta(days=n) for n in range(7 * 52 * 40)]
    weeks = [week_of(day) for day in days]
    for start in range(0, len(weeks), 7):
        assert len(set(weeks[start : start + 7])) == 1
        year, week = weeks[start]
        assert start == 0 or weeks[start - 1] in {(year, week - 1), (year - 1, 52), (year - 1, 53)}


def test_many_at_once() -> None:
    """A batch's records each have the name of their own arrival, before 1970 and far ahead too."""
    instants = [datetime(2026, 2, 28, 23, 59, 59, 999000, UTC), datetime(2026, 3, 1, tzinfo=UTC)]
    instants += [datetime(1969, 12, 31, 23, tzinfo=UTC), instants[0], datetime(2200, 1, 1, tzinfo=UTC)]
    arrivals = pa.array([round(at.timestamp() * 1000) for at in instants], pa.int64())
    names = index_names("a", "day", arrivals).to_pylist()
    assert names == ["a-2026-02-28", "a-2026-03-01", "a-1969-12-31", "a-2026-02-28", "a-2200-01-01"]
