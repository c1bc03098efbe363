"""Timestamps and dates as text and as numbers: the forms that are accepted, to microseconds since the epoch.

firehose.md section 7 says which. What a calendar does not have, such as February 30, is refused; digits behind the
microsecond are left out, since no column holds them. Years are 1 to 9999, which is what every engine reads.
"""

from __future__ import annotations

import math
import re
from datetime import UTC, date, datetime, timedelta

from firehose.deserializers.values import Mismatch

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
FIRST_US = -62_135_596_800_000_000  # year 1
END_US = 253_402_300_800_000_000  # year 10,000
MILLIS_FROM = 10**12  # numbers from here on, and down from its negative, are milliseconds
DATE = re.compile(r"(\d{4})-(\d{1,2})-(\d{1,2})", re.ASCII)
CLOCK = r"(\d{1,2}):(\d{1,2}):(\d{1,2})(?:\.(\d{1,9}))?"
SPACED = re.compile(rf"(\d{{4}})-(\d{{1,2}})-(\d{{1,2}}) {CLOCK}", re.ASCII)
ZULU = re.compile(r"(\d{4})-(\d\d)-(\d\d)T(\d\d):(\d\d):(\d\d)(?:\.(\d{1,9}))?Z", re.ASCII)
ISO = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)"
    r"(?:[T ](\d\d):(\d\d)(?::(\d\d)(?:\.(\d{1,9}))?)?(?:Z|([+-])(\d\d)(?::?(\d\d))?)?)?",
    re.ASCII,
)


def no_time(text: str, type_: str = "timestamp") -> Mismatch:
    return Mismatch(f"{text[:100]!r} is no {type_}")


def in_range(microseconds: int, text: str) -> int:
    if not FIRST_US <= microseconds < END_US:
        raise no_time(text)
    return microseconds


def of_parts(text: str, parts: tuple[str | None, ...]) -> int:
    """Year, month, day, hour, minute, second and fraction; None is zero."""
    try:
        at = datetime(*(int(part or 0) for part in parts[:6]), tzinfo=UTC)  # type: ignore[misc,arg-type]
    except ValueError:
        raise no_time(text) from None
    return (at - EPOCH) // timedelta(microseconds=1) + int(f"{parts[6] or '':0<6.6}")


def spaced(text: str) -> int | None:
    """`yyyy-[M]M-[d]d HH:mm:ss[.S]`, as `java.sql.Timestamp.valueOf`; None where the text is not of this form."""
    found = SPACED.fullmatch(text)
    return of_parts(text, found.groups()) if found else None


def zulu(text: str) -> int | None:
    """`yyyy-MM-dd'T'HH:mm:ss[.S]'Z'`, no other offset and no digit less."""
    found = ZULU.fullmatch(text)
    return of_parts(text, found.groups()) if found else None


def iso(text: str) -> int | None:
    """ISO 8601, with 'T' or a space, also without a time, seconds, or an offset; without one it is UTC."""
    found = ISO.fullmatch(text)
    if not found:
        return None
    *parts, sign, hours, minutes = found.groups()
    offset = int(hours or 0) * 60 + int(minutes or 0)
    if int(hours or 0) > 23 or int(minutes or 0) > 59:
        raise no_time(text)
    local = of_parts(text, tuple(parts))
    return in_range(local - (-offset if sign == "-" else offset) * 60_000_000, text)


def epoch(text: str) -> int:
    """Seconds since 1970, with or without a fraction; milliseconds from 1e12 on."""
    if text.lstrip("-").isdecimal() and len(text) < 19:
        number = int(text)
        return in_range(number * (1000 if abs(number) >= MILLIS_FROM else 1_000_000), text)
    value = float(text)
    if not math.isfinite(value) or abs(value) >= 1e18:
        raise no_time(text)
    # `round` to even, as the kernel that does whole columns.
    return in_range(round(value * (1000 if abs(value) >= MILLIS_FROM else 1_000_000)), text)


def day(text: str) -> date:
    found = DATE.fullmatch(text)
    try:
        if found:
            return date(*map(int, found.groups()))
    except ValueError:
        pass
    raise no_time(text, "date")
