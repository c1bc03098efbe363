"""Which columns documents have: an inferred schema, or what one lacks.

A few documents are looked at one by one; pyarrow.json then reads all that follow, told to fail at anything that was
not seen so far, and where it fails some more are looked at one by one. So memory is bounded whatever comes, and a
stream whose documents are alike is read as fast as it is converted. Which of them convert is not asked here: what is
no document is passed over.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.json as pj

from firehose.formats import contents, delimited
from firehose.hive_type import Struct
from firehose.schemas.sight import TEXTS, Limits, Sight
from firehose.table_schema import TableSchema

MAX_COLUMNS, MAX_DEPTH = 2000, 32
CLOSELY = 256  # records looked at one by one, before all others are tried again; twice as many each time
SPACE = " \t\r\n"


def widened(
    schema: TableSchema | None,
    slices: Iterable[pa.RecordBatch],
    max_columns: int = MAX_COLUMNS,
    max_depth: int = MAX_DEPTH,
) -> TableSchema:
    """The schema with all columns and struct fields of these documents added behind those it has, in the order in
    which they came; the types that it has stay. `max_columns` counts fields of structs and items of arrays, too.
    """
    top = Sight.documents(_struct(schema))
    limits = Limits(max_columns - top.places(), max_depth)
    for rows in slices:
        _see(rows.column("record"), top, limits)
    type_ = top.type()
    return TableSchema(type_.fields if isinstance(type_, Struct) else ())


def places(schema: TableSchema) -> int:
    """How many of `max_columns` it takes."""
    return Sight.documents(_struct(schema)).places()


def _struct(schema: TableSchema | None) -> Struct | None:
    return Struct(schema.columns) if schema and schema.columns else None


def _see(records: pa.BinaryArray, top: Sight, limits: Limits) -> None:
    """Takes note of all that the records hold."""
    start, closely = 0, CLOSELY
    while start < len(records):
        piece = records.slice(start)
        if not _nothing_new(piece, top):
            piece = piece.slice(0, closely)
            closely *= 2
            for record in piece:
                for document in _documents(record.as_py()):
                    top.see(document, limits)
        start += len(piece)


def _nothing_new(records: pa.BinaryArray, top: Sight) -> bool:
    """Whether all of it is as what was seen so far; then it is seen, too.

    A place that a document lacks costs as much as one that it has: with more of them than bytes, nothing is tried.
    """
    content = contents(delimited(records, b"\n"))
    if content.size < len(records) * top.places():
        return False
    try:
        table = pj.read_json(
            pa.BufferReader(content),
            pj.ReadOptions(use_threads=False, block_size=content.size + 1),
            pj.ParseOptions(explicit_schema=pa.schema(top.arrow()), unexpected_field_behavior="error"),
        )
    except (pa.ArrowException, ValueError):  # also what it cannot put into words
        return False
    for name, column in zip(table.column_names, table.columns, strict=True):
        for chunk in column.chunks:
            _see_texts(chunk, top.fields[name])
    return True


def _see_texts(values: pa.Array, place: Sight) -> None:
    """Makes strings of places whose texts are not all dates or times."""
    if place.kind == "struct":
        for name, below in place.fields.items():
            _see_texts(pc.struct_field(values, name), below)
    elif place.item is not None:
        _see_texts(values.flatten(), place.item)
    elif place.known is None and place.kind in TEXTS:
        alike = pc.match_substring_regex(values, f"^(?:{TEXTS[place.kind]})$")
        if pc.all(alike).as_py() is False:
            place.kind = "string"


def _documents(record: bytes) -> Iterable[Mapping[str, Any]]:
    """Those of one record; none where anything in it is no document."""
    try:
        values = [msgspec.json.decode(record)]
    except (msgspec.MsgspecError, ValueError, RecursionError):
        values = _several(record)
    return values if all(isinstance(value, dict) for value in values) else ()


def _several(record: bytes) -> list[Any]:
    """Documents back to back, which only the slower parser can tell apart."""
    try:
        return list(_back_to_back(record.decode()))
    except (ValueError, RecursionError):
        return []


def _back_to_back(text: str) -> Iterator[Any]:
    parser, end = json.JSONDecoder(parse_constant=_refused), len(text) - len(text.lstrip(SPACE))
    while end < len(text):
        value, end = parser.raw_decode(text, end)
        yield value
        while text[end : end + 1] in set(SPACE):
            end += 1


def _refused(constant: str) -> Any:
    raise ValueError(f"{constant} is no JSON")
