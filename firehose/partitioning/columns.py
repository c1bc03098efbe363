"""Keys by column, for Hive's way of naming folders: `day(ts)` and `country` make `ts_day=2026-11-22/country=DE/`.

A record without the value, or with an empty one, falls to the partition that Hive and Spark have for it. Times are UTC:
ISO 8601 with or without a zone, or numbers of seconds (below 10^12) or milliseconds since 1970, as text too.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from firehose.json_text import paths
from firehose.partitioning.documents import Flaw, Fold, Found, Value, kind, text_of
from firehose.runtime import utc

NO_VALUE = "__HIVE_DEFAULT_PARTITION__"
FROM_MILLIS = 1_000_000_000_000  # numbers below are seconds: firehose.md section 7
LAST_MS = 253_402_300_799_999  # of the year 9999
SHOWN_CHARACTERS = 100
_COLUMN = re.compile(r"(?:([a-z]+)\s*\(\s*([^()]+?)\s*\)|([^()]+))")
_ISO = re.compile(
    r"\d{4}-\d\d-\d\d(?:[T ]\d\d:\d\d(?::\d\d(?:[.,]\d{1,9})?)?(?P<zone>Z|[+-]\d\d(?::?\d\d)?)?)?", re.ASCII
)
_USUAL = re.compile(rb'"\d{4}-\d\d-\d\d[T ]\d\d:[0-5]\d(?::[0-5]\d(?:\.\d{1,9})?)?Z?"')
HOUR_BYTES = 14  # of such a time, with the quotation mark that it begins with
_NUMBER = re.compile(r"-?\d{1,15}(?:\.\d{1,15})?(?:[eE]\+?\d\d?)?", re.ASCII)
UNITS: Mapping[str, int] = {"year": 4, "month": 7, "day": 10, "hour": 13}  # so much of an ISO time tells it


@dataclass(frozen=True, slots=True)
class Column:
    """A value of a record, as it is or cut down to a unit of time. `fold`: as the stream's deserializer reads keys."""

    names: tuple[str, ...]
    unit: str = ""
    fold: Fold | None = None

    @staticmethod
    def parsed(text: str) -> Column:
        """Raises ValueError saying what a column may be."""
        match = _COLUMN.fullmatch(text.strip())
        if match is None or (match[1] or "day") not in UNITS:
            units = ", ".join(f"{unit}(ts)" for unit in UNITS)
            raise ValueError(f"'{text}' is no column; write a field's name, such as country or user.id, or {units}")
        return Column(paths.names(match[2] or match[3]), match[1] or "")

    @property
    def name(self) -> str:
        """As it stands in folders' names: dots within a column's name would confuse engines."""
        return "_".join((*self.names, *([self.unit] if self.unit else ())))

    @property
    def made_of(self) -> tuple[str, ...]:
        """What the values were made of; nothing where they are those of the field of this name."""
        if self.names == (self.name,):
            return ()
        field = ".".join(self.names)
        return (f"{self.unit}({field})" if self.unit else field,)

    def values(self, found: Found) -> list[Value]:
        return found.values(self.names, self._value, _to_the_hour if self.unit else bytes, self.fold)

    def _value(self, value: bytes) -> Value:
        if kind(value) in ("object", "array"):
            return Flaw(f"{self.name}: {kind(value)}s are no partitions")
        text = text_of(value) if value != b"null" else ""
        if not text:
            return NO_VALUE
        return self._cut(text) if self.unit else text

    def _cut(self, text: str) -> Value:
        try:
            return _utc(text)[: UNITS[self.unit]].replace("T", "-").replace(" ", "-")
        except (ValueError, OverflowError):
            return Flaw(f"{self.name}: {text[:SHOWN_CHARACTERS]!r} is no time")


def _to_the_hour(written: bytes) -> bytes:
    """What alone of a time in UTC, as most are, tells its unit."""
    return written[:HOUR_BYTES] if _USUAL.fullmatch(written) else written


def _utc(text: str) -> str:
    """The time in ISO 8601 and UTC, to the hour at least. Raises ValueError or OverflowError."""
    if iso := _ISO.fullmatch(text):
        at = datetime.fromisoformat(text.replace(",", "."))
        if iso["zone"] in (None, "Z"):
            return text if len(text) > UNITS["day"] else f"{text}T00"
        return at.astimezone(UTC).isoformat()
    if _NUMBER.fullmatch(text):
        number = float(text)
        milliseconds = int(number * 1000) if abs(number) < FROM_MILLIS else int(number)
        if abs(milliseconds) <= LAST_MS:
            return utc(milliseconds).isoformat()
    raise ValueError(text)
