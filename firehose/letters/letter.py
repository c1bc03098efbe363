"""One dead letter, from the JSON document that stands for it.

firehose.md sections 5.2, 7, 8.4, 10 and 12.4: what our own error output holds, what AWS was seen to write, and what its
guide prints, where numbers may be strings and names differ in case. Members without a field here are kept in `details`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pybase64 import b64decode

LATEST_MS = 253_402_300_799_999  # the end of the year 9999
MOST_ATTEMPTS = (1 << 31) - 1


@dataclass(frozen=True, slots=True)
class Letter:
    """`object` and `line` say where it lies, `stream` and `error_type` are told by the object's name, or empty."""

    object: str
    line: int
    stream: str
    error_type: str
    code: str
    message: str
    attempts: int | None
    arrived_ms: int | None
    ended_ms: int | None
    function: str | None
    data: bytes
    details: str | None  # a JSON object: document id and index at OpenSearch, event id at Splunk ...


@dataclass(frozen=True, slots=True)
class Damage:
    """What cannot be read as a letter. `line` is 0 where it is the object as a whole."""

    object: str
    line: int
    offset: int
    problem: str

    def __str__(self) -> str:
        place = f", document {self.line}, from byte {self.offset}" if self.line else ""
        return f"{self.object}{place}: {self.problem}"


class NoLetter(Exception):
    """A JSON document that is no dead letter."""


@dataclass(frozen=True, slots=True)
class Spot:
    """Where a document stands."""

    object: str
    line: int
    stream: str
    error_type: str


def letter(spot: Spot, members: Mapping[str, Any]) -> Letter:
    """Raises `NoLetter`."""
    known = {name.lower(): value for name, value in members.items()}
    rest = {name: value for name, value in members.items() if name.lower() not in KNOWN}
    return Letter(
        spot.object,
        spot.line,
        spot.stream,
        spot.error_type,
        _text(known, "errorcode", "lasterrorcode") or "",
        _text(known, "errormessage", "lasterrormessage") or "",
        _number(known.get("attemptsmade"), MOST_ATTEMPTS),
        _number(known.get("arrivaltimestamp"), LATEST_MS),
        _number(known.get("attemptendingtimestamp"), LATEST_MS),
        _text(known, "lambdaarn"),
        _data(known.get("rawdata")),
        clean(json.dumps(rest, ensure_ascii=False)) if rest else None,
    )


KNOWN = frozenset(
    {
        "rawdata",
        "errorcode",
        "lasterrorcode",
        "errormessage",
        "lasterrormessage",
        "attemptsmade",
        "arrivaltimestamp",
        "attemptendingtimestamp",
        "lambdaarn",
    }
)


def _data(raw: object) -> bytes:
    if not isinstance(raw, str):
        raise NoLetter("has no rawData: it is no dead letter" if raw is None else "rawData is no text")
    try:
        return b64decode(raw, validate=True)
    except ValueError as error:
        raise NoLetter(f"rawData is no base64: {error}") from None


def _text(known: Mapping[str, Any], *names: str) -> str | None:
    for name in names:
        value = known.get(name)
        if value is not None:
            return clean(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))
    return None


def _number(value: object, most: int) -> int | None:
    """A count or a time, which may be text; None where it is neither."""
    if isinstance(value, str) and value.strip().isascii() and value.strip().isdigit() and len(value) < 20:
        value = int(value)
    fits = isinstance(value, int | float) and 0 <= value <= most
    return int(value) if fits else None  # type: ignore[call-overload]


def clean(text: str) -> str:
    """Text that can be stored and printed: of what is no Unicode, a question mark."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode()
