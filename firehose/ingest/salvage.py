"""What can be saved of a body that is broken somewhere: the good values are records, the rest is refused with a reason.

Slow, a Python object for each value, and therefore bounded: a body of more than `limit` values is given up whole. A
text has one character for each byte of the body (Latin-1), so positions in it are the body's and its pieces turn into
the sender's bytes again. It must never lose a byte that is no blank, nor take longer than in proportion to the body.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

MALFORMED_BODY = "MalformedBody"
MALFORMED_RECORD = "MalformedRecord"
MAX_BROKEN_VALUES = 10_000  # of one body, each refused by itself

_BLANKS = " \t\r\n\0"  # JSON's, and the NUL that ends a GELF message
_BLANK_TEXT = re.compile(rf"[{_BLANKS}]*")
_NEXT_OBJECT_LINE = re.compile(r"\n(?=\{)")
# Tells where a value ends. Numbers stay text, so that no number is too long for it. It takes NaN and lone surrogates,
# which real senders write and the look at NDJSON lets pass, too.
_TOLERANT = json.JSONDecoder(parse_int=str, parse_float=str)

Piece = tuple[str, str | None]  # the text of a row, and why it is refused


class TooMany(Exception):
    """The body has more than `limit` records."""

    def __init__(self, limit: int) -> None:
        super().__init__(f"the body has more than {limit} records")
        self.limit = limit


def salvaged_objects(text: str, limit: int) -> Iterator[Piece]:
    """After an object that is broken, decoding resumes at the next line that starts with `{`.

    From there on each such line starts a block that is decoded by itself, so that the time stays in proportion to the
    body whatever stands in it; and past `MAX_BROKEN_VALUES` all the rest is one piece.
    """
    objects, rest, reason = _scan(text, 0, limit)
    yield from objects
    blocks = _NEXT_OBJECT_LINE.split(rest) if rest else []
    broken = 0
    for number, block in enumerate(blocks, 1):
        if broken == MAX_BROKEN_VALUES:
            yield "\n".join(blocks[number - 1 :]), f"{MALFORMED_BODY}: behind {broken} broken values"
            return
        objects, rest, reason = _scan(block, 0, limit)
        yield from objects
        if rest:
            broken += 1
            yield rest, f"{MALFORMED_BODY if number == len(blocks) else MALFORMED_RECORD}: {reason}"


def salvaged_elements(text: str, limit: int) -> Iterator[Piece]:
    """Arrays back to back. From the first element that is broken on, or that no comma follows, all is one piece."""
    position = arrays = 0
    while text.startswith("[", position):
        arrays += 1
        if arrays > limit:  # empty ones are no records, but take their time
            raise TooMany(limit)
        elements, position, reason = _scan_array(text, position, limit)
        yield from elements
        if reason:
            # An array that is never closed leaves nothing behind its elements: then a bracket stands for it.
            yield text[position:] or "[", f"{MALFORMED_BODY}: {reason}"
            return
    objects, rest, reason = _scan(text, position, limit)
    yield from objects
    if rest:
        yield rest, f"{MALFORMED_BODY}: {reason}"


def _scan(text: str, start: int, limit: int) -> tuple[list[Piece], str, str]:
    """The objects from `start` on, the rest from the first thing on that is none, and why it is none."""
    objects: list[Piece] = []
    position = _behind_blanks(text, start)
    while position < len(text):
        end, reason = _end_of_value(text, position) if text[position] == "{" else (position, "no JSON object")
        if reason:
            return objects, text[position:].rstrip(_BLANKS), reason
        _take(objects, text[position:end], limit)
        position = _behind_blanks(text, end)
    return objects, "", ""


def _scan_array(text: str, start: int, limit: int) -> tuple[list[Piece], int, str]:
    """The elements of the array at `start`, the position behind all that is good, what is wrong there if anything."""
    elements: list[Piece] = []
    position = _behind_blanks(text, start + 1)
    if text.startswith("]", position):
        return elements, _behind_blanks(text, position + 1), ""
    while True:
        end, reason = _end_of_value(text, position)
        if reason:
            return elements, position, reason
        _take(elements, text[position:end], limit)
        position = _behind_blanks(text, end)
        if text.startswith("]", position):
            return elements, _behind_blanks(text, position + 1), ""
        if not text.startswith(",", position):
            return elements, position, "an array neither goes on nor ends"
        position = _behind_blanks(text, position + 1)


def _take(values: list[Piece], value: str, limit: int) -> None:
    if len(values) == limit:
        raise TooMany(limit)
    values.append((value, None))


def _end_of_value(text: str, start: int) -> tuple[int, str]:
    """Where the JSON value at `start` ends, or why there is none."""
    try:
        return _TOLERANT.raw_decode(text, start)[1], ""
    except json.JSONDecodeError as problem:
        return start, f"{problem.msg} at byte {problem.pos - start}"
    except RecursionError:
        return start, "nested too deeply"


def _behind_blanks(text: str, position: int) -> int:
    blanks = _BLANK_TEXT.match(text, position)
    assert blanks is not None, "the pattern matches nothing at all, too"
    return blanks.end()
