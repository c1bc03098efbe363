"""Columns of text made into columns of JSON, and those into objects: one for each row, no Python object for most.

Every function works on a whole column. A value that has no JSON of the kind asked for becomes null, the column's own,
and makes the object that it goes into null; JSON's `null` is text like any other.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from typing import Literal

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

Change = Callable[[pa.StringArray], pa.StringArray]  # as many values as it is given, in their order
NULL = "null"
NUMBER = r"^-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?$"
INTEGER = r"^-?(?:0|[1-9][0-9]*)$"
NEEDS_ESCAPE = r'[\x00-\x1f"\\]'


def texts(records: pa.BinaryArray, errors: Literal["refuse", "replace"]) -> pa.StringArray:
    """The records as text. What is not UTF-8 becomes null, or gets U+FFFD in the place of each wrong byte."""
    try:
        return records.cast(pa.string())
    except pa.ArrowInvalid:
        return pa.array([_text(record, errors) for record in records.to_pylist()], pa.string())


def _text(record: bytes, errors: Literal["refuse", "replace"]) -> str | None:
    try:
        return record.decode(errors="strict" if errors == "refuse" else "replace")
    except UnicodeDecodeError:
        return None


def changed(column: pa.StringArray, where: pa.BooleanArray, change: Change) -> pa.StringArray:
    """The column with what `change` makes of the values at `where`; it is given no others."""
    if not pc.any(where, min_count=0).as_py():
        return column
    return pc.replace_with_mask(column, where, change(column.filter(where)))


def each(change: Callable[[str], str | None]) -> Change:
    """For what no kernel does: goes through the values one by one, through equal ones once."""

    def go_through(column: pa.StringArray) -> pa.StringArray:
        coded = column.dictionary_encode()
        return pa.array(map(change, coded.dictionary.to_pylist()), pa.string()).take(coded.indices)

    return go_through


def quoted(column: pa.StringArray) -> pa.StringArray:
    """Texts as JSON strings."""
    if _may_need_escape(column):
        needs = pc.fill_null(pc.match_substring_regex(column, NEEDS_ESCAPE), False)
        column = changed(column, needs, each(lambda text: msgspec.json.encode(text)[1:-1].decode()))
    return pc.binary_join_element_wise('"', column, '"', "")


def _may_need_escape(column: pa.StringArray) -> bool:
    """A cheap look at the bytes of all values at once."""
    size = pc.sum(pc.binary_length(column)).as_py()
    if not size:
        return False
    content = np.frombuffer(column.buffers()[2], np.uint8)
    return bool(((content < 0x20) | (content == ord('"')) | (content == ord("\\"))).any())


def integers(column: pa.StringArray) -> pa.StringArray:
    """Whole numbers of any length, digit for digit, but for a plus sign and leading zeros, which JSON has not."""
    plain = pc.and_(pc.ascii_is_decimal(column), pc.invert(pc.starts_with(column, "0")))
    return changed(column, pc.fill_null(pc.invert(plain), False), lambda odd: _of_shape(odd, INTEGER))


def numbers(column: pa.StringArray) -> pa.StringArray:
    """Numbers digit for digit: nothing is rounded, and nothing overflows."""
    odd = pc.invert(pc.match_substring_regex(column, NUMBER))
    return changed(column, pc.fill_null(odd, False), lambda odd: _of_shape(odd, NUMBER))


def _of_shape(column: pa.StringArray, shape: str) -> pa.StringArray:
    bare = pc.replace_substring_regex(column, r"^(?:\+|(-))?0*([0-9])", r"\1\2")
    bare = pc.replace_substring_regex(bare, r"^(?:\+|(-))?\.([0-9])", r"\10.\2")
    return pc.if_else(pc.match_substring_regex(bare, shape), bare, pa.scalar(None, pa.string()))


def objects(fields: Iterable[tuple[str, pa.StringArray]], ending: pa.StringArray | str = "") -> pa.StringArray:
    """A JSON object for each row, with `ending` behind it; null where one of its values is."""
    parts: list[pa.StringArray | str] = []
    for name, column in fields:
        parts += [("," if parts else "{") + json.dumps(name, ensure_ascii=False) + ":", column]
    return pc.binary_join_element_wise(*parts, "}", ending, "")
