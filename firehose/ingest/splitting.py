"""Cuts a decoded request body of the generic dialect into records.

Source: ingest-clients.md section 3 (what agents send) and 4.1 (sniffing). The first byte that is no blank decides, not
the Content-Type: `{` is one object or several in a row, `[` an array whose elements are the records, anything else
plain lines. A record keeps the sender's own bytes: spelling of numbers, order of keys, duplicate keys; only a value
that spans lines loses the blanks around its tokens, since a newline ends a record. It must never lose a byte that is
no blank: what cannot be a record becomes a row with a reason in `refused`. It must never take longer than in
proportion to the body, nor fail, whatever the body holds; a body of more than `max_records` is not taken at all, for
a value of one byte costs sixty of memory on its way.

NDJSON is not parsed. Where a cheap look shows that each line holds one object, lines are cut and stored as they are,
even one that is broken inside (`validate` refuses that one). All other bodies are decoded.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice
from typing import Literal

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from firehose.ingest.salvage import (
    MALFORMED_BODY,
    MALFORMED_RECORD,
    Piece,
    TooMany,
    salvaged_elements,
    salvaged_objects,
)
from firehose.model import INTAKE_SCHEMA

RECORD_TOO_LARGE = "RecordTooLarge"

JOINED_VALUES = 1 << 16  # at once: a join costs more than a hundred bytes for each value meanwhile
SHAPE_LEVELS = 16  # of nesting that are folded away before values are counted

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_BLANKS = b" \t\r\n\0"  # JSON's, and the NUL that ends a GELF message
_NOT_BLANK = r"[^ \t\r\x00]"
_SEVERAL_ON_A_LINE = r"\}[ \t\r\x00]*\{"
_SEVERAL_ON_THE_LINE = re.compile(_SEVERAL_ON_A_LINE.encode())
_ARRAY_OF_OBJECTS = re.compile(rb"\[[ \t\r\n]*\{")

_VALUE = msgspec.json.Decoder(msgspec.Raw)
_ELEMENTS = msgspec.json.Decoder(list[msgspec.Raw])
# Of JSON's text all that tells where a value begins or ends, and of that the containers that hold no container.
_SHAPELESS = r'(?s)"(?:[^"\\]|\\.)*"|[^"{}\[\],]+'
_INNERMOST = r"\{[v,]*\}|\[[v,]*\]"

_NEWLINE_CODE, _OPENING_CODE = b"\n{"
_NEWLINE = pa.scalar(b"\n", pa.binary())
_NOTHING = pa.scalar(b"", pa.binary())
_NO_REASON = pa.scalar(None, pa.string())
_TAKEN = pa.schema([INTAKE_SCHEMA.field("record")])
_TAKEN_AND_REFUSED = pa.schema([INTAKE_SCHEMA.field("record"), INTAKE_SCHEMA.field("refused")])


@dataclass(frozen=True, slots=True)
class SplitOptions:
    """How a stream wants its bodies cut."""

    delimiter: bytes = b"\n"  # what every stored record ends with
    wrap: Literal["none", "message"] = "none"  # message: a plain line becomes {"message": line}
    validate: bool = False  # refuse what is not JSON through and through
    max_record_bytes: int = 1_024_000  # of the record, before our delimiter
    max_records: int = 1_000_000  # of one body


@dataclass(frozen=True, slots=True)
class Split:
    """The rows of a body, in its order. `records` has `refused` beside `record` only where some are."""

    records: pa.RecordBatch
    accepted: int
    rejected: int


@dataclass(frozen=True, slots=True)
class _Rows:
    """`sent` holds the sender's bytes, `stored` what becomes of them, `refused` why a row must not be taken."""

    sent: pa.BinaryArray
    stored: pa.BinaryArray
    refused: pa.StringArray | None = None


def split(body: bytes, content_type: str, options: SplitOptions) -> Split:
    """The records of a body whose encodings have been undone. The Content-Type only says what must not be lines.

    Raises `TooMany`.
    """
    assert len(body) < 1 << 30, "offsets have 32 bits, with room for delimiters"
    if not options.validate and options.delimiter == b"\n":
        lines = _object_lines(body, options)
        if lines is not None:
            return _taken(lines)
    body = body.removeprefix(_BYTE_ORDER_MARK)
    inside = body.strip(_BLANKS)
    rows = _rows_of_json(inside, options.max_records)
    if rows is None and inside and content_type.lower().startswith("application/cloudevents"):
        rows = _rows_of_pieces([(inside.decode("latin-1"), f"{MALFORMED_BODY}: CloudEvents not in JSON")], 1)
    return _finished(rows or _rows_of_text(body if inside else b"", options), options)


def _object_lines(body: bytes, options: SplitOptions) -> pa.BinaryArray | None:
    """NDJSON as most agents send it: the body is what is stored, and only the newlines have to be found.

    None where `_rows_of_lines` must look, or where some line may be no record. No line without a second `{` holds
    several objects; where one has, RE2 looks.
    """
    if not body.startswith(b"{") or body.find(b"\n", 0, -1) < 0:
        return None
    if len(body) > options.max_records and body.count(b"\n") >= options.max_records:
        return None
    body = body if body.endswith(b"\n") else body + b"\n"
    characters = np.frombuffer(body, np.uint8)
    ends = (characters == _NEWLINE_CODE).nonzero()[0]
    count = len(ends)
    offsets = np.zeros(count + 1, np.int32)
    offsets[1:] = ends
    offsets[1:] += 1
    if characters[ends - 1].tobytes() != b"}" * count or characters[offsets[:-1]].tobytes() != b"{" * count:
        return None
    if len(body) > options.max_record_bytes and np.diff(offsets).max() > options.max_record_bytes + 1:
        return None
    if np.count_nonzero(characters == _OPENING_CODE) > count and _several_on_a_line(body):
        return None
    return pa.Array.from_buffers(pa.binary(), count, [None, pa.py_buffer(offsets), pa.py_buffer(body)])


def one_object(body: bytes, options: SplitOptions) -> bytes | None:
    """The only record of a body that is one object by the same look as at NDJSON; None where `split` must look.

    For agents that send each event by itself: a tenth of the price.
    """
    end = body.rfind(b"}") + 1
    if not body.startswith(b"{") or body.find(b"\n", 0, -1) >= 0 or body[end:].strip(_BLANKS) or not end:
        return None
    if body.find(b"}", 0, end - 1) >= 0 and _SEVERAL_ON_THE_LINE.search(body, 0, end):
        return None
    if end > options.max_record_bytes or options.validate:
        return None
    if options.delimiter == body[end:]:
        return body
    inside = body[:end]
    return inside if inside.endswith(options.delimiter) else inside + options.delimiter


def _rows_of_json(body: bytes, limit: int) -> _Rows | None:
    """None where the body is plain text. Its ends are no blanks."""
    if body.startswith(b"{"):
        return _rows_of_lines(body, limit) or _rows_of_values(body, limit)
    if body.startswith(b"["):
        return _rows_of_arrays(body, limit)
    return None


# NDJSON and plain lines: no Python object for a record.


def _rows_of_lines(body: bytes, limit: int) -> _Rows | None:
    """None unless each line that is not blank starts with `{`, ends with `}` and holds no `}`, blanks, `{`.

    Inside one JSON value no `}` is followed by `{` outside of a string, on one line or across two, so where this holds
    and the body is JSON, each line is one object. More lines than the limit may still be few objects.
    """
    if body.count(b"\n") >= limit or _several_on_a_line(body):
        return None
    lines = _lines(body)
    if not _each_is_an_object_by_look(lines):
        lines = _not_blank(lines)
        if not _each_is_an_object_by_look(lines):
            return None
    return _rows_of_array(lines)


def _several_on_a_line(body: bytes) -> bool:
    """One scan of the whole body: RE2 leaps from `}` to `}` and costs a tenth of looking line by line."""
    return bool(pc.match_substring_regex(_as_array(body), _SEVERAL_ON_A_LINE).true_count)


def _each_is_an_object_by_look(lines: pa.BinaryArray) -> bool:
    starting = pc.starts_with(lines, b"{").true_count
    return bool(starting == len(lines) == pc.ends_with(lines, b"}").true_count)


def _rows_of_text(body: bytes, options: SplitOptions) -> _Rows:
    if body.count(b"\n") > options.max_records:
        raise TooMany(options.max_records)
    lines = _not_blank(_lines(body))
    return _Rows(lines, _wrap_each(lines) if options.wrap == "message" else lines)


def _lines(body: bytes) -> pa.BinaryArray:
    if b"\r" in body:
        body = body.replace(b"\r\n", b"\n").removesuffix(b"\r")
    return pc.split_pattern(_as_array(body), b"\n").values


def _as_array(body: bytes | memoryview) -> pa.BinaryArray:
    """The body as the only row of an array, not copied."""
    offsets = pa.py_buffer(struct.pack("=ii", 0, len(body)))
    return pa.Array.from_buffers(pa.binary(), 1, [None, offsets, pa.py_buffer(body)])


def _not_blank(lines: pa.BinaryArray) -> pa.BinaryArray:
    return lines.filter(pc.match_substring_regex(lines, _NOT_BLANK))


def _wrap_each(lines: pa.BinaryArray) -> pa.BinaryArray:
    starts = range(0, len(lines), JOINED_VALUES)
    return pa.concat_arrays([_wrapped(lines[start : start + JOINED_VALUES]) for start in starts] or [lines])


def _wrapped(lines: pa.BinaryArray) -> pa.BinaryArray:
    objects = [msgspec.json.encode({"message": line.decode("utf-8", "replace")}) for line in lines.to_pylist()]
    return pa.array(objects, pa.binary())


def _rows_of_array(records: pa.BinaryArray) -> _Rows:
    return _Rows(records, records)


# Bodies that are decoded: one object over several lines, objects on one line, arrays.


def _rows_of_values(body: bytes, limit: int) -> _Rows:
    """Objects back to back, blanks or nothing between them. Other values would be shreds of text: `17-3` is two."""
    try:
        records = None if _may_hold_more(body, limit) else _without_newlines(_VALUE.decode_lines(body))
    except (msgspec.DecodeError, RecursionError):
        records = None
    if records is None or pc.starts_with(records, b"{").true_count < len(records):
        return _rows_of_pieces(salvaged_objects(body.decode("latin-1"), limit), limit)
    return _rows_of_array(records)


def _rows_of_arrays(body: bytes, limit: int) -> _Rows | None:
    """None where the body is plain text that happens to start with `[`, as many logs do.

    That is so where it is broken somewhere and no object follows the bracket.
    """
    may_be_text = not _ARRAY_OF_OBJECTS.match(body)
    try:
        if not _may_hold_more(body, limit):
            return _rows_of_array(_without_newlines(_elements_of_each(body, limit)))
    except msgspec.DecodeError:
        pass
    except RecursionError:
        may_be_text = False  # no text has brackets that deep
    pieces = _bounded(salvaged_elements(body.decode("latin-1"), limit), limit)
    broken = any(reason for _, reason in pieces)
    return None if may_be_text and broken else _rows_of_pieces(pieces, limit)


def _elements_of_each(body: bytes, limit: int) -> list[msgspec.Raw]:
    """The elements of one array, or of several back to back."""
    try:
        return _ELEMENTS.decode(body)
    except msgspec.DecodeError:
        arrays = _VALUE.decode_lines(body)
    elements: list[msgspec.Raw] = []
    for array in arrays:
        if len(elements) > limit or _may_hold_more(bytes(array), limit):
            raise TooMany(limit)
        elements += _ELEMENTS.decode(array)
    return elements


def _may_hold_more(body: bytes, limit: int) -> bool:
    """Whether decoding the body would make more objects than the limit: false only where it would not.

    Exact where it is JSON and not nested too deeply. Bodies of fewer commas and brackets cost no more than a count of
    these; of the others strings and scalars are left out, then containers folded from the inside.
    """
    if body.count(b",") < limit and body.count(b"{") + body.count(b"[") <= limit:
        return False
    is_array = body.startswith(b"[")
    shape = pc.replace_substring_regex(_as_array(memoryview(body)[is_array:]), _SHAPELESS, "")
    for _ in range(SHAPE_LEVELS):
        shape = pc.replace_substring_regex(shape, _INNERMOST, "v")
    left: bytes = shape[0].as_py()
    return left.count(b"v") > limit or (is_array and left.count(b",") >= limit)


def _without_newlines(values: list[msgspec.Raw]) -> pa.BinaryArray:
    if len(values) <= JOINED_VALUES:
        return _joined(values)
    starts = range(0, len(values), JOINED_VALUES)
    return pa.concat_arrays([_joined(values[start : start + JOINED_VALUES]) for start in starts])


def _joined(values: list[msgspec.Raw]) -> pa.BinaryArray:
    joined = b"\n".join(values)
    if joined.count(b"\n") < len(values):  # no value spans lines: nothing is done for each of them
        return pc.split_pattern(_as_array(joined), b"\n").values
    return pa.array([_compact(bytes(value)) for value in values], pa.binary())


def _compact(value: bytes) -> bytes:
    """A JSON value without newlines. They are blanks between tokens: a string cannot hold one."""
    if b"\n" not in value:
        return value
    try:
        return msgspec.json.format(value, indent=-1)
    except (msgspec.DecodeError, RecursionError):  # JSON only for the tolerant
        return value.translate(None, b"\r\n")


def _bounded(pieces: Iterable[Piece], limit: int) -> list[Piece]:
    kept = list(islice(pieces, limit + 1))
    if len(kept) > limit:
        raise TooMany(limit)
    return kept


def _rows_of_pieces(pieces: Iterable[Piece], limit: int) -> _Rows:
    kept = _bounded(pieces, limit)
    raw = [text.encode("latin-1") for text, _ in kept]
    reasons = [reason for _, reason in kept]
    records = [value if reason else _compact(value) for value, reason in zip(raw, reasons, strict=True)]
    rows = pa.array(records, pa.binary())
    return _Rows(rows, rows, pa.array(reasons, pa.string()))


# What holds for rows of every kind.


def _finished(rows: _Rows, options: SplitOptions) -> Split:
    if len(rows.sent) > options.max_records:
        raise TooMany(options.max_records)
    refused = _refused(rows, options)
    records = _delimited(rows.stored, options.delimiter)
    if refused is None or refused.null_count == len(refused):
        return _taken(records)
    records = pc.if_else(refused.is_null(), records, rows.sent)
    batch = pa.RecordBatch.from_arrays([records, refused], schema=_TAKEN_AND_REFUSED)
    return Split(batch, refused.null_count, len(refused) - refused.null_count)


def _taken(records: pa.BinaryArray) -> Split:
    return Split(pa.RecordBatch.from_arrays([records], schema=_TAKEN), len(records), 0)


def _refused(rows: _Rows, options: SplitOptions) -> pa.StringArray | None:
    """The first reason that holds: it was broken, it is too large, it is not valid."""
    reasons = [] if rows.refused is None else [rows.refused]
    if rows.stored.nbytes > options.max_record_bytes:
        large = pc.greater(pc.binary_length(rows.stored), options.max_record_bytes)
        reason = f"{RECORD_TOO_LARGE}: more than {options.max_record_bytes} bytes"
        reasons.append(pc.if_else(large, pa.scalar(reason), _NO_REASON))
    if options.validate:
        reasons.append(_flaw_of_each(rows.stored))
    return pc.coalesce(*reasons) if reasons else None


def _flaw_of_each(records: pa.BinaryArray) -> pa.StringArray:
    return pa.array([_flaw(record) for record in records.to_pylist()], pa.string())


def _flaw(record: bytes) -> str | None:
    try:
        _VALUE.decode(record)
        record.decode("utf-8")
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as problem:
        return f"{MALFORMED_RECORD}: {problem}"
    return None


def _delimited(records: pa.BinaryArray, delimiter: bytes) -> pa.BinaryArray:
    if delimiter == b"\n":  # no record of ours ends with one
        return pc.binary_join_element_wise(records, _NEWLINE, _NOTHING)
    if not delimiter:
        return records
    longer = pc.binary_join_element_wise(records, pa.scalar(delimiter, pa.binary()), _NOTHING)
    return pc.if_else(pc.ends_with(records, delimiter), records, longer)
