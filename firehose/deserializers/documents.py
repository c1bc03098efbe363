"""A record's JSON documents: objects, one or several back to back. What is none says why, in Firehose's words.

Nothing here may run out of stack: how deep a record is nested is looked at before it is read.
"""

from __future__ import annotations

import json
import re
from typing import Any

import numpy as np

from firehose.deserializers.values import Number

DEEPEST = 512  # levels of arrays and objects in one another
PARSE_ERROR = "DataFormatConversion.ParseError"
MALFORMED = "DataFormatConversion.MalformedData"
BLANK = "The record was empty or contained only whitespace."
_SPACE = re.compile(r"[ \t\n\r]*+")
STRING = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"', re.DOTALL)
_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")


class Flaw(Exception):
    """Why a record becomes no row: a code of Firehose's and its message."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


def malformed_json(cause: str) -> Flaw:
    return Flaw(PARSE_ERROR, f"Encountered malformed JSON. {cause}")


def no_match(cause: object) -> Flaw:
    return Flaw(MALFORMED, f"Data does not match the schema. {cause}")


def documents(record: bytes) -> list[dict[str, Any]]:
    """The objects in the record, at least one. Raises `Flaw`."""
    text = _text(record)
    found: list[dict[str, Any]] = []
    at = _past_space(text, 0)
    if at == len(text):
        raise Flaw(MALFORMED, BLANK)
    while at < len(text):
        value, end = _value(text, at)
        if not isinstance(value, dict):
            raise no_match(f"A record holds objects, and there is another value at character {at}")
        found.append(value)
        at = _past_space(text, end)
    if _SURROGATE.search(text):
        _require_characters(found)
    return found


def _text(record: bytes) -> str:
    try:
        text = record.decode()
    except UnicodeDecodeError as error:
        raise malformed_json(f"It is not UTF-8 at byte {error.start}") from None
    if too_deep(record):
        raise malformed_json(f"It is nested more than {DEEPEST} levels deep")
    return text


def too_deep(record: bytes) -> bool:
    """Whether arrays and objects stand in one another more than `DEEPEST` deep. Cheap for what cannot be."""
    if len(record) <= DEEPEST or record.count(b"{") + record.count(b"[") <= DEEPEST:
        return False
    signs = np.frombuffer(STRING.sub(b"", record), np.uint8)
    opening = (signs == ord("{")) | (signs == ord("["))
    closing = (signs == ord("}")) | (signs == ord("]"))
    levels = np.cumsum(opening.astype(np.int32) - closing)
    return bool(levels.max(initial=0) > DEEPEST)


def _past_space(text: str, at: int) -> int:
    found = _SPACE.match(text, at)
    assert found, "nothing at all is space enough"
    return found.end()


def _value(text: str, at: int) -> tuple[Any, int]:
    try:
        return _DECODER.raw_decode(text, at)
    except json.JSONDecodeError as error:
        raise malformed_json(f"{error.msg.removesuffix(' at')} at character {error.pos}") from None


def _no_constant(word: str) -> Any:
    raise malformed_json(f"{word} is no JSON")


def _by_last(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Of a key that is there twice the last value counts, and its place."""
    made = dict(pairs)
    if len(made) < len(pairs):
        made = {}
        for key, value in pairs:
            made.pop(key, None)
            made[key] = value
    return made


_DECODER = json.JSONDecoder(
    object_pairs_hook=_by_last, parse_float=Number, parse_int=Number, parse_constant=_no_constant
)


def _require_characters(found: list[dict[str, Any]]) -> None:
    """Half a surrogate pair is valid JSON and no character: no column can hold it."""
    try:
        json.dumps(found, ensure_ascii=False, default=lambda number: number.text).encode()
    except UnicodeEncodeError as error:
        half = ord(error.object[error.start])
        raise no_match(f"The lone surrogate \\u{half:04x} is no character") from None
