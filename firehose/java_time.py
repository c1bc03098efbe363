"""Java's `DateTimeFormatter` patterns, rendered by Python: the language of `!{timestamp:...}` in prefixes.

Source: firehose.md section 5.1 for what Firehose accepts; Java 17 with Locale US for what each letter means
(weeks start on Sunday, the week of January 1 is week 1). The letters that Firehose refuses are those that
Java 17 refuses as a pattern of one letter, so Java 17's rules on letter counts are taken as well.

It must never guess: what cannot be rendered as Java does is refused, by `compile_pattern` or, where it
depends on the time zone (its names), when an instant is rendered. The differences that remain are on purpose:
- `F` is the aligned week of the month, as it is documented; Java before 19 printed a day of the week there;
- fractions of a second render as zeros, in `S` and `n` and at the end of `A` and `N`;
- `VV` and `p` padding, which Java knows, are refused, as Firehose does;
- `z` is the time zone database's abbreviation; Java's is an older one for Adak, Windhoek and Johnston.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from datetime import date, datetime, timedelta
from functools import lru_cache

Render = Callable[[datetime], str]
Value = Callable[[datetime], int]
Field = Callable[[int], Render]  # takes how often its letter stands in a row

REMEMBERED = 1000  # patterns: streams by the thousand have a few between them
REFUSAL = "Invalid conversion character used in the value of the expression"


class InvalidPattern(ValueError):
    """A pattern that Firehose would refuse, or that we cannot render. `detail` tells people why."""

    def __init__(self, detail: str) -> None:
        super().__init__(f"{REFUSAL}: {detail}")
        self.detail = detail


@lru_cache(maxsize=REMEMBERED)
def compile_pattern(pattern: str) -> Render:
    """The function that renders zoned instants by `pattern`. Raises `InvalidPattern`, a ValueError."""
    renders: list[Render] = []
    depth = 0
    for token in _TOKEN.finditer(pattern):
        text = token[0]
        if text in "[]":
            # An optional section vanishes where one of its fields is missing; a zoned instant lacks none.
            depth += 1 if text == "[" else -1
            _require(depth >= 0, "']' without a '[' before it")
        else:
            renders.append(_field(text) if token["letter"] else _literal(text))
    return lambda at: "".join([render(at) for render in renders])


_TOKEN = re.compile(r"'(?:[^']|'')*'|(?P<letter>[A-Za-z])(?P=letter)*|.", re.DOTALL)


def _require(fine: bool, detail: str) -> None:
    if not fine:
        raise InvalidPattern(detail)


def _literal(text: str) -> Render:
    _require(text != "'", "a single quote that is never closed")
    _require(text not in "#{}", f"'{text}' is reserved; put it in single quotes")
    quoted = len(text) > 1
    content = (text[1:-1].replace("''", "'") or "'") if quoted else text
    return lambda at: content


def _field(letters: str) -> Render:
    field = _FIELDS.get(letters[0])
    if field is None:
        raise InvalidPattern(f"'{letters[0]}' is not a pattern letter; put plain text in single quotes")
    try:
        return field(len(letters))
    except _WrongCount:
        raise InvalidPattern(f"'{letters}' has a number of letters without a meaning") from None


class _WrongCount(Exception):
    """So many of this letter mean nothing in Java."""


def _number(value: Value, widest: int) -> Field:
    def field(count: int) -> Render:
        if count > widest:
            raise _WrongCount
        return lambda at: f"{value(at):0{count}d}"

    return field


def _year(value: Value, widest: int = 19) -> Field:
    plain = _number(value, widest)
    return lambda count: plain(count) if count != 2 else lambda at: f"{value(at) % 100:02d}"


def _text(styles: Mapping[int, Render]) -> Field:
    """Texts by letter count."""

    def field(count: int) -> Render:
        if count not in styles:
            raise _WrongCount
        return styles[count]

    return field


def _names(value: Value, names: Sequence[str]) -> Mapping[int, Render]:
    """Days and months in English: short, full and narrow. `value` counts from 1."""
    return {
        3: lambda at: names[value(at) - 1][:3],
        4: lambda at: names[value(at) - 1],
        5: lambda at: names[value(at) - 1][:1],
    }


def _number_or_text(value: Value, widest: int, styles: Mapping[int, Render]) -> Field:
    """A number up to `widest` letters, then texts."""
    number, text = _number(value, widest), _text(styles)
    return lambda count: number(count) if count <= widest else text(count)


# Calendar


def _quarter(at: datetime) -> int:
    return (at.month + 2) // 3


def _day_of_year(at: date) -> int:
    return at.timetuple().tm_yday


def _day_of_week(at: datetime) -> int:
    """1 is Sunday."""
    return at.isoweekday() % 7 + 1


def _week_end(at: datetime) -> date:
    """The week's Saturday: a week that holds a January 1 is week 1 of that Saturday's year."""
    return at.date() + timedelta(days=7 - _day_of_week(at))


def _week_year(at: datetime) -> int:
    return _week_end(at).year


def _week_of_year(at: datetime) -> int:
    return (_day_of_year(_week_end(at)) + 6) // 7


def _week_of_month(at: datetime) -> int:
    return (at.day + _day_of_week(at.replace(day=1)) + 5) // 7


def _aligned_week_of_month(at: datetime) -> int:
    return (at.day + 6) // 7


def _modified_julian_day(at: datetime) -> int:
    return at.toordinal() - _JULIAN_EPOCH


_JULIAN_EPOCH = date(1858, 11, 17).toordinal()


# Clock


def _second_of_day(at: datetime) -> int:
    return at.hour * 3600 + at.minute * 60 + at.second


def _half_day(at: datetime) -> str:
    return "AM" if at.hour < 12 else "PM"


def _day_period(at: datetime, midnight: str = "midnight", noon: str = "noon") -> str:
    if at.minute == 0 and at.hour % 12 == 0:
        return noon if at.hour else midnight
    if 6 <= at.hour < 21:
        return ("in the morning", "in the afternoon", "in the evening")[at.hour // 6 - 1]
    return "at night"


# Zone


def _offset(zero: str, separator: str = "", lead: str = "", width: int = 2, terse: bool = False) -> Render:
    """`zero` at no offset, else `lead`, sign, hours, minutes; `terse` leaves minutes of 00 out."""

    def render(at: datetime) -> str:
        offset = at.utcoffset()
        assert offset is not None, "instants carry their zone"
        if not offset:
            return zero
        # Whole minutes: no zone has had seconds since 1972.
        hours, minutes = divmod(abs(offset) // timedelta(minutes=1), 60)
        end = f"{separator}{minutes:02d}" if minutes or not terse else ""
        return f"{lead}{'-' if offset < timedelta(0) else '+'}{hours:0{width}d}{end}"

    return render


def _abbreviation(at: datetime) -> str:
    """The database has none for many zones, and says "-03" where Java has a name."""
    name = at.tzname() or ""
    _require(name.isalpha(), f"'z' has no name for the time zone {at.tzinfo}; use X, Z or O")
    return name


def _utc_name(name: str) -> Render:
    def render(at: datetime) -> str:
        _require(at.tzname() == "UTC", f"'zzzz' and 'v' have no name for the time zone {at.tzinfo}; use X, Z or O")
        return name

    return render


_MONTHS = (
    *("January", "February", "March", "April", "May", "June"),
    *("July", "August", "September", "October", "November", "December"),
)
_DAYS = ("Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday")
_MONTH_NAMES = _names(lambda at: at.month, _MONTHS)
_DAY_NAMES = _names(_day_of_week, _DAYS)
_QUARTER_NAMES: Mapping[int, Render] = {
    3: lambda at: f"Q{_quarter(at)}",
    4: lambda at: ("1st", "2nd", "3rd", "4th")[_quarter(at) - 1] + " quarter",
    5: lambda at: f"{_quarter(at)}",
}
_LONG_OFFSET = _offset("GMT", ":", "GMT")
_LONG_UTC = _utc_name("Coordinated Universal Time")


def _same(styles: Mapping[int, Render], *counts: int) -> Mapping[int, Render]:
    """`styles`, with the short one (3 letters) for these counts too."""
    return {**styles, **dict.fromkeys(counts, styles[3])}


# The letters of Java 17, apart from V and p.
_FIELDS: Mapping[str, Field] = {
    "A": _number(lambda at: _second_of_day(at) * 1_000, 19),
    "B": _text({1: _day_period, 4: _day_period, 5: lambda at: _day_period(at, "mi", "n")}),
    "D": _number(_day_of_year, 3),
    "E": _text(_same(_DAY_NAMES, 1, 2)),
    "F": _number(_aligned_week_of_month, 1),
    "G": _text(_same({3: lambda at: "AD", 4: lambda at: "Anno Domini", 5: lambda at: "A"}, 1, 2)),
    "H": _number(lambda at: at.hour, 2),
    "K": _number(lambda at: at.hour % 12, 2),
    "L": _number_or_text(lambda at: at.month, 2, _MONTH_NAMES),
    "M": _number_or_text(lambda at: at.month, 2, _MONTH_NAMES),
    "N": _number(lambda at: _second_of_day(at) * 1_000_000_000, 19),
    "O": _text({1: _offset("GMT", ":", "GMT", width=1, terse=True), 4: _LONG_OFFSET}),
    "Q": _number_or_text(_quarter, 2, _QUARTER_NAMES),
    "S": _number(lambda at: 0, 9),
    "W": _number(_week_of_month, 1),
    "X": _text(
        {
            1: _offset("Z", terse=True),
            **dict.fromkeys((2, 4), _offset("Z")),
            **dict.fromkeys((3, 5), _offset("Z", ":")),
        }
    ),
    "Y": _year(_week_year, widest=512),  # Java knows no limit here; a prefix has this one
    "Z": _text({**dict.fromkeys((1, 2, 3), _offset("+0000")), 4: _LONG_OFFSET, 5: _offset("Z", ":")}),
    "a": _text({1: _half_day}),
    "c": _number_or_text(_day_of_week, 1, _DAY_NAMES),
    "d": _number(lambda at: at.day, 2),
    "e": _number_or_text(_day_of_week, 2, _DAY_NAMES),
    "g": _number(_modified_julian_day, 19),
    "h": _number(lambda at: (at.hour + 11) % 12 + 1, 2),
    "k": _number(lambda at: (at.hour + 23) % 24 + 1, 2),
    "m": _number(lambda at: at.minute, 2),
    "n": _number(lambda at: 0, 19),
    "q": _number_or_text(_quarter, 2, _QUARTER_NAMES),
    "s": _number(lambda at: at.second, 2),
    "u": _year(lambda at: at.year),
    "v": _text({1: _utc_name("UTC"), 4: _LONG_UTC}),
    "w": _number(_week_of_year, 2),
    "x": _text(
        {
            1: _offset("+00", terse=True),
            **dict.fromkeys((2, 4), _offset("+0000")),
            **dict.fromkeys((3, 5), _offset("+00:00", ":")),
        }
    ),
    "y": _year(lambda at: at.year),
    "z": _text({**dict.fromkeys((1, 2, 3), _abbreviation), 4: _LONG_UTC}),
}
