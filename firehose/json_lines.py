"""Records as JSON lines in one buffer, and the cheap looks that say whether a parser of lines reads them exactly.

Such a parser (pyarrow's) knows nothing of records. It cannot mix them up where each begins with '{' and ends with '}'
and a newline: behind that newline a document begins, since inside of one no '{' may follow a '}', and a string holds no
newline. What it takes and JSON is not (NaN, wrong UTF-8, no end of depth) is looked for here, before it is asked.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from firehose.deserializers.documents import DEEPEST, STRING, too_deep
from firehose.formats import contents, delimited

Places = np.ndarray[tuple[int], np.dtype[np.int32]]
Flags = np.ndarray[tuple[int], np.dtype[np.bool_]]
# The last one is JSON; but an integer that was read has no sign, and a column of text wants it as it was sent.
_ODD_NUMBERS = r"NaN\s*[,}\]]", r"Inf(?:inity)?\s*[,}\]]", r"-0\s*[,}\]]"
_NULL_DOCUMENT = re.compile(rb"\}\s*null")


@dataclass(frozen=True, slots=True)
class JsonLines:
    """Records with a newline behind each; `bounds` are where they begin, and the end of the last."""

    content: pa.Buffer
    bounds: Places

    @staticmethod
    def of(records: pa.BinaryArray) -> JsonLines:
        lines = delimited(records, b"\n")
        ends = np.frombuffer(lines.buffers()[1], np.int32)[lines.offset : lines.offset + len(lines) + 1]
        return JsonLines(contents(lines), (ends - ends[0]).astype(np.int32))

    def __len__(self) -> int:
        return len(self.bounds) - 1

    def record(self, at: int) -> bytes:
        return self.piece(at, at + 1).to_pybytes()  # type: ignore[no-any-return]

    def piece(self, start: int, end: int) -> pa.Buffer:
        first, behind = int(self.bounds[start]), int(self.bounds[end])
        return self.content.slice(first, behind - first)

    def framed(self) -> Flags:
        """Which records begin and end as one object does, with nothing around it."""
        signs = np.frombuffer(self.content, np.uint8)
        lengths = np.diff(self.bounds)
        ends = self.bounds[1:]
        last = signs[
            np.maximum(ends - 2, 0)
        ]  # before the newline: of an empty record some other's, and the length tells
        last = np.where(last == ord("\r"), signs[np.maximum(ends - 3, 0)], last)
        framed: Flags = (lengths > 2) & (signs[self.bounds[:-1]] == ord("{")) & (last == ord("}"))
        return framed

    def is_exact(self, start: int, end: int) -> bool:
        """Whether the parser refuses whatever in these records is no JSON. Wrong the safe way alone."""
        piece = self.piece(start, end)
        if not _is_text(piece) or _has_odd_numbers(piece):
            return False
        long = np.flatnonzero(np.diff(self.bounds[start : end + 1]) > 2 * DEEPEST)
        return not any(too_deep(self.record(start + int(at))) for at in long)

    def has_null_documents(self, start: int, end: int) -> bool:
        """Whether `null` may stand among the documents of a record: the parser takes it for an object."""
        return _NULL_DOCUMENT.search(self.piece(start, end)) is not None


def _is_text(piece: pa.Buffer) -> bool:
    """Whether it is UTF-8 without a NUL."""
    signs = np.frombuffer(piece, np.int8)
    if not signs.all():
        return False
    try:
        if signs.min() < 0:  # not ASCII alone
            _text(piece).validate(full=True)
        return True
    except pa.ArrowInvalid:
        return False


def _has_odd_numbers(piece: pa.Buffer) -> bool:
    """NaN, Infinity or -0 outside of strings."""
    return any(_matches(piece, form) and _matches(_without_strings(piece), form) for form in _ODD_NUMBERS)


def _without_strings(piece: pa.Buffer) -> pa.Buffer:
    return pa.py_buffer(STRING.sub(b"", piece))


def _matches(piece: pa.Buffer, form: str) -> bool:
    """Arrow's patterns go through a block much faster than Python's."""
    found: bool = pc.match_substring_regex(_text(piece), form)[0].as_py()
    return found


def _text(piece: pa.Buffer) -> pa.StringArray:
    """All of it as one value, without a copy: a block is large, and fresh memory is dearer than a look at it."""
    ends = pa.py_buffer(np.array([0, piece.size], np.int32))
    return pa.StringArray.from_buffers(1, ends, piece)
