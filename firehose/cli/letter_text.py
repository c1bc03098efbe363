"""Dead letters for people to read. What records and messages hold must never reach a terminal as more than text."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from datetime import date, datetime, time

from firehose.letters.letter import Letter
from firehose.runtime import utc

TEXT_CHARACTERS = 4000
HEX_BYTES = 512
HEX_ROW = 16
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
_BREAK = re.compile(r"[\t\n]")


def one_line(text: str) -> str:
    """Without anything that moves a cursor or breaks the line."""
    return _BREAK.sub(lambda found: {"\t": "\\t", "\n": "\\n"}[found[0]], _tame(text))


def when(milliseconds: int | None) -> str:
    return "-" if milliseconds is None else f"{utc(milliseconds):%Y-%m-%d %H:%M:%S}Z"


def paragraph(letter: Letter) -> str:
    """All of a letter; of a long record the beginning."""
    attempts = "" if letter.attempts is None else f", {letter.attempts} attempts"
    told = {
        "stream": letter.stream,
        "error type": letter.error_type,
        "reason": letter.code,
        "message": letter.message,
        "function": letter.function or "",
        "details": letter.details or "",
    }
    lines = [f"{one_line(letter.object)}:{letter.line}"]
    lines += [f"  {name:<11}{one_line(text)}" for name, text in told.items() if text]
    lines += [f"  arrived    {when(letter.arrived_ms)}, ended {when(letter.ended_ms)}{attempts}"]
    return "\n".join([*lines, *(f"    {line}" for line in _record(letter.data)), ""])


def _record(data: bytes) -> list[str]:
    try:
        text = data.decode()
    except UnicodeDecodeError:
        return _hex(data)
    if "\x00" in text:
        return _hex(data)
    lines = _tame(text[:TEXT_CHARACTERS]).split("\n")
    more = len(text) - TEXT_CHARACTERS
    return lines[:-1] if lines[-1] == "" else [*lines, *_cut(more, "characters")]


def _hex(data: bytes) -> list[str]:
    rows = [data[start : start + HEX_ROW] for start in range(0, min(len(data), HEX_BYTES), HEX_ROW)]
    lines = [f"{row.hex(' '):<{3 * HEX_ROW}} {re.sub(r'[^ -~]', '.', row.decode('latin-1'))}" for row in rows]
    return lines + _cut(len(data) - HEX_BYTES, "bytes")


def _cut(more: int, of: str) -> list[str]:
    return [f"... {more:,} {of} more; --raw prints all"] if more > 0 else []


def _tame(text: str) -> str:
    return _CONTROL.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def jsonable(value: object) -> object:
    """As JSON has it: bytes are text where they are UTF-8, else hexadecimal digits; other things are text."""
    match value:
        case None | bool() | int() | str():
            return value
        case float():
            return value if math.isfinite(value) else str(value)
        case bytes() | bytearray() | memoryview():
            return _text(bytes(value))
        case datetime() | date() | time():
            return value.isoformat()
        case Mapping():
            return {str(key): jsonable(one) for key, one in value.items()}
        case Sequence():
            return [jsonable(one) for one in value]
    return str(value)


def _text(data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError:
        return data.hex()
