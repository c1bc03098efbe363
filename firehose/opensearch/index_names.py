"""Which index a record goes to: AWS's index rotation, by the instant of the record's arrival in UTC.

firehose.md section 10. The name follows from the arrival time alone, which is durable: so a repeat goes to the same
index, whenever it comes.
"""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Literal

import numpy as np
import pyarrow as pa

Rotation = Literal["none", "hour", "day", "week", "month"]
PATTERNS = {"hour": "-%Y-%m-%d-%H", "day": "-%Y-%m-%d", "month": "-%Y-%m"}
LONGEST = len("-2016-02-25-13")  # of what a rotation appends
HOUR_MS = 3_600_000


def index_name(index: str, rotation: Rotation, at: datetime) -> str:
    """The index of a record that arrived at that instant."""
    if rotation == "none":
        return index
    if rotation == "week":
        year, week = week_of(at.astimezone(UTC).date())
        return f"{index}-{year:04d}-w{week:02d}"
    return index + at.astimezone(UTC).strftime(PATTERNS[rotation])


def index_names(index: str, rotation: Rotation, arrivals_ms: pa.Int64Array) -> pa.StringArray:
    """The index of each of many records: every rotation turns at a full hour, and a batch has few of them."""
    hours, places = np.unique(arrivals_ms.to_numpy() // HOUR_MS, return_inverse=True)
    instants = (datetime.fromtimestamp(int(hour) * HOUR_MS / 1000, UTC) for hour in hours)
    names = pa.array([index_name(index, rotation, at) for at in instants], pa.string())
    return names.take(pa.array(places))


def week_of(day: date) -> tuple[int, int]:
    """Year and week as the United States count: weeks begin on Sunday, the first holds the year's first Saturday.

    This is what AWS's documentation says. The example that it prints (w08 for 2016-02-25, which by this rule is w09)
    follows another; should that turn out to be the truth, this is the one place to change.
    """
    sunday = day - timedelta(days=day.isoweekday() % 7)
    year = (sunday + timedelta(days=6)).year
    new_year = date(year, 1, 1)
    first_sunday = new_year - timedelta(days=new_year.isoweekday() % 7)
    return year, (sunday - first_sunday).days // 7 + 1
