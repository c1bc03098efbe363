"""The times that logs write, as ISO 8601 with an offset.

Known are the Common Log Format's (`17/May/2015:10:05:03 +0000`), RFC 3339's and its relatives' (a blank for the T, a
comma for the point, no offset), and BSD syslog's (`Oct 11 22:14:15`), which has neither year nor offset.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import date, datetime, timedelta
from zoneinfo import ZoneInfo

EPOCH = date(1970, 1, 1)
MONTHS = {
    name: number
    for number, name in enumerate(
        ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"), start=1
    )
}
COMMON = re.compile(r"(\d\d)/([A-Z][a-z]{2})/(\d{4}):(\d\d:\d\d:\d\d) ([+-]\d\d)(\d\d)", re.ASCII)
YEARLESS = re.compile(r"([A-Z][a-z]{2}) ([ \d]?\d) (\d\d:\d\d:\d\d(?:\.\d{1,9})?)", re.ASCII)
FULL = re.compile(r"(\d{4}-\d\d-\d\d)[T ](\d\d:\d\d:\d\d)(?:[.,](\d{1,9}))?(?:(Z)|([+-]\d\d):?(\d\d))?", re.ASCII)


def iso(text: str, arrival_day: int, zone: ZoneInfo) -> str | None:
    """The time in ISO 8601; None where it is none. `arrival_day` counts days since the epoch: a time without a year is
    of the year that puts it nearest to then. `zone` is that of times without an offset.
    """
    try:
        if match := FULL.fullmatch(text):
            day, clock, fraction, utc, hours, minutes = match.groups()
            time = f"{day}T{clock}" + (f".{fraction}" if fraction else "")
            offset = f"{hours}:{minutes}" if hours else utc
            return _checked(time + offset) if offset else _local(time, zone)
        if match := COMMON.fullmatch(text):
            day, month, year, clock, hours, minutes = match.groups()
            return _checked(f"{year}-{MONTHS[month]:02}-{day}T{clock}{hours}:{minutes}")
        if match := YEARLESS.fullmatch(text):
            return _nearest(match[1], int(match[2]), match[3], arrival_day, zone)
    except (ValueError, KeyError, OverflowError):  # no such day, hour or month
        pass
    return None


def _checked(time: str) -> str:
    """The time itself: none of the digits of its fraction is lost. Raises ValueError."""
    datetime.fromisoformat(time)
    return time


def _local(time: str, zone: ZoneInfo) -> str:
    """The time with the zone's offset then; of an hour that comes twice, the first."""
    whole = datetime.fromisoformat(time).replace(tzinfo=zone, microsecond=0).isoformat()
    return time + whole[len("2015-05-17T10:05:03") :]


def _nearest(month: str, day: int, clock: str, arrival_day: int, zone: ZoneInfo) -> str:
    arrival = EPOCH + timedelta(days=arrival_day)
    dates = _dates(arrival.year, MONTHS[month], day)
    nearest = min(dates, key=lambda one: abs(one - arrival))  # no such day in any of these years: ValueError
    return _local(f"{nearest.isoformat()}T{clock}", zone)


def _dates(year: int, month: int, day: int) -> Iterator[date]:
    """That day in the year, and in those beside it, where they have one."""
    for one in (year - 1, year, year + 1):
        if not (month == 2 and day == 29) or _is_leap(one):
            yield date(one, month, day)


def _is_leap(year: int) -> bool:
    return year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)
