"""What `firehose.ingest.splitting` promises, written a second time: byte by byte, sharing nothing with it.

A body becomes rows: the sender's bytes, and whether they are refused. Blanks between the tokens of a value may go when
it is put on one line, so rows are compared `squeezed`.
"""

from __future__ import annotations

import re

Row = tuple[bytes, bool]  # and whether it is refused

BLANKS = b" \t\r\n\0"
STRING = re.compile(rb'"(?:[^"\\\x00-\x1f]|\\["\\/bfnrt]|\\u[0-9a-fA-F]{4})*"')
SCALAR = re.compile(rb"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?|true|false|null|NaN|-?Infinity")


class NoValue(Exception):
    """No JSON value starts here."""


def rows(body: bytes) -> list[Row]:
    body = body.removeprefix(b"\xef\xbb\xbf")
    inside = body.strip(BLANKS)
    if inside[:1] == b"{":
        return by_look(inside) or objects_saved(inside)
    if inside[:1] == b"[":
        found = arrays(inside)
        broken = any(refused for _, refused in found)
        if not broken or inside[1:].lstrip(b" \t\r\n").startswith(b"{"):
            return found
    return [(line, False) for line in lines(body)] if inside else []


def squeezed(record: bytes) -> bytes:
    """Without the blanks that are in no string."""
    return re.sub(rb'("(?:[^"\\]|\\.)*")|[ \t\r\n]+', lambda match: match[1] or b"", record, flags=re.DOTALL)


def lines(body: bytes) -> list[bytes]:
    whole = body.removesuffix(b"\r") if b"\r" in body else body
    return [line for part in whole.split(b"\n") if (line := without_cr(part, whole)).strip(BLANKS)]


def without_cr(line: bytes, body: bytes) -> bytes:
    """The carriage return before a newline belongs to the line's end; the last line has no newline."""
    return line.removesuffix(b"\r") if not body.endswith(line) or body.endswith(b"\n") else line


def by_look(body: bytes) -> list[Row]:
    """NDJSON that needs no parsing: each line starts and ends like one object, and none holds two."""
    if re.search(rb"\}[ \t\r\0]*\{", body):
        return []
    found = lines(body)
    return [(line, False) for line in found] if all(line[:1] + line[-1:] == b"{}" for line in found) else []


def objects_saved(body: bytes) -> list[Row]:
    """Objects back to back; behind a broken one, each line that starts an object is a new beginning."""
    found, rest = objects(body, 0)
    for block in re.split(rb"\n(?=\{)", rest) if rest else []:
        more, rest = objects(block, 0)
        found += more + ([(rest, True)] if rest else [])
    return found


def objects(body: bytes, start: int) -> tuple[list[Row], bytes]:
    found: list[Row] = []
    at = skipped(body, start, BLANKS)
    while at < len(body):
        try:
            if body[at : at + 1] != b"{":
                raise NoValue
            end = behind(body, at)
        except NoValue:
            return found, body[at:].rstrip(BLANKS)
        found.append((body[at:end], False))
        at = skipped(body, end, BLANKS)
    return found, b""


def arrays(body: bytes) -> list[Row]:
    """The elements of arrays back to back, then objects; from the first thing that is neither on all is one row."""
    found: list[Row] = []
    at = 0
    while body[at : at + 1] == b"[":
        more, at, fine = elements(body, at)
        found += more
        if not fine:
            return [*found, (body[at:] or b"[", True)]
    more, rest = objects(body, at)
    return found + more + ([(rest, True)] if rest else [])


def elements(body: bytes, start: int) -> tuple[list[Row], int, bool]:
    """Of one array; where they end, or the trouble begins, and whether all is fine."""
    found: list[Row] = []
    at = skipped(body, start + 1, BLANKS)
    if body[at : at + 1] == b"]":
        return found, skipped(body, at + 1, BLANKS), True
    while True:
        try:
            end = behind(body, at)
        except NoValue:
            return found, at, False
        found.append((body[at:end], False))
        at = skipped(body, end, BLANKS)
        if body[at : at + 1] == b"]":
            return found, skipped(body, at + 1, BLANKS), True
        if body[at : at + 1] != b",":
            return found, at, False
        at = skipped(body, at + 1, BLANKS)


def behind(body: bytes, at: int) -> int:
    """Where the JSON value that starts at `at` ends. NaN, Infinity and any bytes in strings are fine."""
    first = body[at : at + 1]
    if first in (b"{", b"["):
        return behind_container(body, at, b"}" if first == b"{" else b"]")
    match = (STRING if first == b'"' else SCALAR).match(body, at)
    if match is None:
        raise NoValue
    return match.end()


def behind_container(body: bytes, at: int, closing: bytes) -> int:
    at = skipped(body, at + 1)
    if body[at : at + 1] == closing:
        return at + 1
    while True:
        if closing == b"}":
            key = STRING.match(body, at)
            at = skipped(body, key.end()) if key else -1
            if key is None or body[at : at + 1] != b":":
                raise NoValue
            at = skipped(body, at + 1)
        at = skipped(body, behind(body, at))
        if body[at : at + 1] == closing:
            return at + 1
        if body[at : at + 1] != b",":
            raise NoValue
        at = skipped(body, at + 1)


def skipped(body: bytes, at: int, blanks: bytes = b" \t\r\n") -> int:
    while body[at : at + 1] and body[at] in blanks:
        at += 1
    return at
