"""Joda-Time's `DateTimeFormat` patterns, for reading: what HiveJsonSerDe's timestamp formats are written in.

Only for instants that are all there: a pattern without a year has no meaning here. Letters that need a locale's or a
calendar's own tables (eras, weeks, weekdays as numbers) are refused when the pattern is compiled. Numbers are read as
Joda reads them: of as many digits as come, or of their letters' count where digits follow at once. Two-digit years are
1950 to 2049; Joda lets that window move with the clock.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, tzinfo
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from firehose.deserializers.times import EPOCH, in_range, no_time

MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
MONTH_NAMES = (
    *("january", "february", "march", "april", "may", "june"),
    *("july", "august", "september", "october", "november", "december"),
)
DAY_NAMES = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
NUMBERS = "yYMdDHkKhmsS"
LONGEST = 100  # characters of a pattern
_TOKEN = re.compile(r"'((?:[^']|'')*)'|([A-Za-z])\2*|.", re.DOTALL)

Compiled = Callable[[str], int]  # to microseconds since the epoch; raises Mismatch


def compiled(pattern: str) -> Compiled:
    """Raises ValueError that says which letter cannot be read."""
    tokens = list(_TOKEN.finditer(pattern))
    if not pattern or len(pattern) > LONGEST:
        raise ValueError(f"a timestamp format has 1 to {LONGEST} characters")
    groups: dict[str, str] = {}  # name of a group to its letter
    written = ""
    for at, token in enumerate(tokens):
        if not token[2]:
            written += re.escape((token[1] or "").replace("''", "'") or token[0].replace("''", "'"))
            continue
        following = tokens[at + 1][0] if at + 1 < len(tokens) else ""
        if token[2] in groups.values():
            raise ValueError(f"{pattern!r} has {token[2]!r} twice")
        name = f"g{at}"
        groups[name] = token[2]
        written += f"(?P<{name}>{_shape(token[2], len(token[0]), following, pattern)})"
    if not {"y", "Y"} & set(groups.values()):
        raise ValueError(f"{pattern!r} has no year")
    return _reader(re.compile(written, re.IGNORECASE | re.ASCII), groups)


def _shape(letter: str, count: int, following: str, pattern: str) -> str:
    """What a field looks like."""
    if letter == "M" and count >= 3:
        return "|".join(f"{long}|{short}" for long, short in zip(MONTH_NAMES, MONTHS, strict=True))
    if letter == "E":
        return "|".join(f"{name}|{name[:3]}" for name in DAY_NAMES)
    if letter == "a":
        return "am|pm"
    if letter == "Z":
        return r"Z|[+-]\d\d:?\d\d" if count < 3 else r"[A-Za-z_]+(?:/[A-Za-z0-9_+-]+)*"
    if letter == "z":
        return "UTC|GMT|Z"
    if letter not in NUMBERS:
        raise ValueError(f"timestamp format {pattern!r}: {letter!r} cannot be read; put plain text in single quotes")
    if letter == "S":
        return rf"\d{{1,{count}}}"
    if following[:1] in set(NUMBERS) and not (following[:1] == "M" and len(following) >= 3):
        return rf"\d{{{count}}}"
    return r"\d{4}" if letter in "yY" and count != 2 else rf"\d{{1,{max(count, 3 if letter == 'D' else 2)}}}"


def _reader(form: re.Pattern[str], groups: dict[str, str]) -> Compiled:
    def read(text: str) -> int:
        found = form.fullmatch(text)
        if not found:
            raise no_time(text)
        try:
            return in_range(_instant({letter: found[name] for name, letter in groups.items()}), text)
        except (ValueError, OverflowError, ZoneInfoNotFoundError):
            raise no_time(text) from None

    return read


def _instant(said: dict[str, str]) -> int:
    year = int(said.get("y", said.get("Y", "")))
    if len(said.get("y", said.get("Y", ""))) <= 2:
        year += 1900 if year >= 50 else 2000
    zone = said.get("Z", "Z")
    at = datetime(year, _month(said.get("M", "1")), int(said.get("d", 1)), tzinfo=_zone(zone))
    at = at.replace(hour=_hour(said), minute=int(said.get("m", 0)), second=int(said.get("s", 0)))
    if "D" in said:
        at += timedelta(days=int(said["D"]) - 1)
        if at.year != year:
            raise ValueError
    return (at.astimezone(UTC) - EPOCH) // timedelta(microseconds=1) + int(f"{said.get('S', ''):0<6.6}")


def _month(text: str) -> int:
    return int(text) if text.isdecimal() else MONTHS.index(text[:3].lower()) + 1


def _hour(said: dict[str, str]) -> int:
    half = 12 if said.get("a", "").lower() == "pm" else 0
    for letter, first in (("K", 0), ("h", 1)):
        if letter in said:
            if not first <= int(said[letter]) <= 11 + first:
                raise ValueError
            return int(said[letter]) % 12 + half
    if "k" in said:
        if not 1 <= int(said["k"]) <= 24:
            raise ValueError
        return int(said["k"]) % 24
    return int(said.get("H", 0))


def _zone(text: str) -> tzinfo | None:
    if text.upper() in ("Z", "UTC", "GMT"):
        return UTC
    if text[0] in "+-":
        return datetime.strptime(text, "%z").tzinfo
    return ZoneInfo(text)
