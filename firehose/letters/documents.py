"""Cuts an object's content into JSON documents, so that one that is damaged hides none of the others.

Documents stand one a line as a rule; they may also stand back to back on a line, or spread over several lines as a
person or a tool prints them. What begins a line with `{` begins a document: there reading takes up again after damage,
and within a line where `}` meets `{`. It must never hold more than one document, and `LIMIT_BYTES` of it at most.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import msgspec

LIMIT_BYTES = 64 << 20  # a record has 10 MiB at most, and base64 makes it a third longer
STRETCH_BYTES = 1 << 20  # without a line that begins a document: then it is looked for others
BEGIN = b"\n{"
SPACE = " \t\r\n\ufeff"
_decode = msgspec.json.Decoder().decode
_scan = json.JSONDecoder().raw_decode


@dataclass(frozen=True, slots=True)
class Document:
    """`line` counts the documents of the object from 1, damaged ones too: where each stands on a line of its own, it is
    the line. `offset` counts bytes of the content. `problem` says what is wrong with one that cannot be read.
    """

    line: int
    offset: int
    members: dict[str, Any]
    problem: str = ""


def documents(pieces: Iterable[bytes]) -> Iterator[Document]:
    """Lets pass what `pieces` raises, once all before it is read."""
    line = 0
    for offset, chunk in _chunks(pieces):
        for document in _documents(chunk, offset):
            line += 1
            yield Document(line, document.offset, document.members, document.problem)


def _chunks(pieces: Iterable[bytes]) -> Iterator[tuple[int, bytes]]:
    """The content cut before every `{` that begins a line, each chunk with its offset."""
    offset, held, stretch = 0, bytearray(), STRETCH_BYTES
    failed: Exception | None = None
    try:
        for piece in pieces:
            looked = max(0, len(held) - 1)
            held += piece
            end = held.rfind(BEGIN, looked) + 1
            if not end and len(held) > stretch:
                end = _end_without_lines(held)
                stretch = STRETCH_BYTES if end else min(2 * len(held), LIMIT_BYTES)
            for chunk in _cut(bytes(held[:end])):
                yield offset, chunk
                offset += len(chunk)
            del held[:end]
    except Exception as error:
        failed = error
    for chunk in _cut(bytes(held)):
        yield offset, chunk
    if failed is not None:
        raise failed


def _cut(content: bytes) -> Iterator[bytes]:
    start = 0
    while (end := content.find(BEGIN, start) + 1) > 0:
        yield content[start:end]
        start = end
    if start < len(content):
        yield content[start:]


def _end_without_lines(held: bytearray) -> int:
    """Where whole documents end that stand back to back; of what is too long to be one, all. 0: wait for more."""
    whole = 0
    for document in _documents(bytes(held), 0):
        whole = document.offset
        if document.problem:
            break
    return whole or (len(held) if len(held) > LIMIT_BYTES else 0)


def _documents(chunk: bytes, offset: int) -> Iterator[Document]:
    """Those of a chunk, without their lines."""
    try:
        members = _decode(chunk)
    except (ValueError, RecursionError):
        members = None
    if isinstance(members, dict):
        yield Document(0, offset, members)
    else:
        yield from _documents_one_by_one(chunk.decode("utf-8", "surrogateescape"), offset)


def _documents_one_by_one(text: str, offset: int) -> Iterator[Document]:
    end = 0
    while (start := _next(text, end)) < len(text):
        offset += len(text[end:start].encode("utf-8", "surrogateescape"))
        members, end, problem = _read(text, start)
        yield Document(0, offset, members, problem)
        offset += len(text[start:end].encode("utf-8", "surrogateescape"))


def _next(text: str, start: int) -> int:
    while start < len(text) and text[start] in SPACE:
        start += 1
    return start


def _read(text: str, start: int) -> tuple[dict[str, Any], int, str]:
    """A document's members, where it ends, and what is wrong with it."""
    try:
        members, end = _scan(text, start)
    except ValueError as error:
        wrong = getattr(error, "msg", str(error)).removesuffix(" at")
    except RecursionError:
        wrong = "nested too deep"
    else:
        return (members, end, "") if isinstance(members, dict) else ({}, end, "is no JSON object")
    resume = text.find("}{", start) + 1 if text[start] == "{" else text.find("{", start)
    return {}, resume if resume > 0 else len(text), f"cannot be read as JSON: {wrong}"
