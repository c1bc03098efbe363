"""Takes apart records that hold several: JSON objects one after the other, or pieces with a delimiter between them.

Source: firehose.md section 8.6 (RecordDeAggregation). A record of more than 500 sub-records passes whole. Of JSON, what
stands between objects is lost, as is a delimiter, also one at the record's end; a record that is one object, the usual
case, passes as it is, and so does an empty one, which CloudWatch Logs' control messages become. Anything else where
objects are asked for (an array, a number, broken JSON) is refused. Only where objects end is looked at: a record passes
though it is not UTF-8.

It must never take longer than in proportion to the slice, nor much more memory than a slice has, whatever it holds.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import chain, islice
from typing import Annotated, ClassVar, Literal

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pybase64 import b64decode
from pydantic import Field, field_validator, model_validator

from firehose.blocks import MIB
from firehose.formats import contents
from firehose.model import Outcome
from firehose.registry import Site
from firehose.rows import parted, replaced, spread
from firehose.stream_config import SPLITTING, TransformBlock, delimiter_bytes

MOST = 500  # sub-records of one record; AWS's bound
ERROR_TYPE = "processing-failed"
CODE = "Deaggregation.NotJsonObjects"
AT_ONCE_BYTES = MIB  # of a record whose values are all found at once: a value of two bytes costs fifty meanwhile
DEEPEST = 10_000  # no parser of ours follows so far

_SOMETHING_ELSE = "the record holds something that is no JSON object; only objects in a row are taken apart"
_BLANKS = b" \t\r\n"
_OPENING = ord("{")
_NOTHING = pa.scalar(b"", pa.binary())
_VALUE = msgspec.json.Decoder(msgspec.Raw)
_STEPS = {b"{": 1, b"}": -1}
# A string, closed or not, or a brace outside of one. Nothing in it is tried twice.
_TOKEN = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+(?:"|\\?\Z)|[{}]', re.DOTALL)


class DeaggregateOptions(TransformBlock):
    """`type: deaggregate`."""

    STAGE: ClassVar[int] = SPLITTING

    type: Literal["deaggregate"] = "deaggregate"
    sub_record_type: Literal["json", "delimited"]
    delimiter: Annotated[str, Field(min_length=1, max_length=256)] | None = None
    delimiter_base64: Annotated[str, Field(min_length=1, max_length=344)] | None = None

    @field_validator("delimiter")
    @classmethod
    def _delimiter(cls, delimiter: str | None) -> str | None:
        if delimiter == "none":
            raise ValueError("none separates nothing; give newline, or the text between sub-records")
        return delimiter

    @field_validator("delimiter_base64")
    @classmethod
    def _delimiter_base64(cls, encoded: str | None) -> str | None:
        try:
            b64decode(encoded or "", validate=True)
        except ValueError:
            raise ValueError("is not base64; give the delimiter as plain text under delimiter") from None
        return encoded

    @model_validator(mode="after")
    def _one_delimiter(self) -> DeaggregateOptions:
        given = [one for one in (self.delimiter, self.delimiter_base64) if one is not None]
        if self.sub_record_type == "json" and given:
            raise ValueError("no delimiter stands between JSON objects; leave it out, or split delimited records")
        if self.sub_record_type == "delimited" and len(given) != 1:
            raise ValueError("sub_record_type delimited needs delimiter or delimiter_base64, and one of them only")
        return self

    @property
    def separator(self) -> bytes:
        if self.delimiter_base64 is not None:
            return b64decode(self.delimiter_base64)
        return delimiter_bytes(self.delimiter or "newline")


class Deaggregate:
    """One record to many, numbered by `rows.spread`."""

    Options: ClassVar[type[TransformBlock]] = DeaggregateOptions
    repeatable = True

    def __init__(self, options: DeaggregateOptions, site: Site) -> None:
        self._separator = options.separator if options.sub_record_type == "delimited" else b""

    def __call__(self, rows: pa.RecordBatch) -> Outcome:
        return _pieces(rows, self._separator) if self._separator else _objects(rows)


# Pieces with a delimiter between them: column by column.


def _pieces(rows: pa.RecordBatch, separator: bytes) -> Outcome:
    records = _without_end(rows.column("record"), separator)
    if separator not in contents(records).to_pybytes():
        return Outcome(replaced(rows, records))
    whole = pc.greater_equal(pc.count_substring(records, separator), MOST)
    # A record of too many pieces is one empty piece meanwhile, and then itself again.
    lists = pc.split_pattern(pc.if_else(whole, _NOTHING, records), separator)
    came = pa.array(np.repeat(np.arange(len(records), dtype=np.int32), pc.list_value_length(lists).to_numpy()))
    pieces = lists.flatten()
    if whole.true_count:
        kept = pc.if_else(whole, rows.column("record"), _NOTHING)
        pieces = pc.if_else(whole.take(came), kept.take(came), pieces)
    return Outcome(spread(rows, came, pieces))


def _without_end(records: pa.BinaryArray, separator: bytes) -> pa.BinaryArray:
    """A delimiter at a record's end separates it from nothing."""
    ended = pc.ends_with(records, separator)
    return pc.if_else(ended, pc.binary_slice(records, 0, -len(separator)), records) if ended.true_count else records


# JSON objects one after the other: record by record, but the usual one costs one call of a parser in C.


class NotObjects(Exception):
    """Why a record is no run of JSON objects."""


def _objects(rows: pa.RecordBatch) -> Outcome:
    split: dict[int, list[bytes]] = {}
    flaws: dict[int, str] = {}
    for index, record in enumerate(rows.column("record").to_pylist()):
        try:
            objects = _objects_of(record)
            if 1 < len(objects) <= MOST:
                split[index] = objects
        except NotObjects as flaw:
            flaws[index] = str(flaw)
    good, refused = parted(rows, flaws, ERROR_TYPE, CODE)
    return Outcome(_split(rows, good, split, flaws) if split else good, refused)


def _split(
    rows: pa.RecordBatch, good: pa.RecordBatch, split: dict[int, list[bytes]], flaws: dict[int, str]
) -> pa.RecordBatch:
    """The good rows, those in `split` as their parts. Both mappings are by index in all rows."""
    kept = [index for index in range(rows.num_rows) if index not in flaws]
    records = good.column("record").to_pylist()
    parts = [split.get(index) or [record] for index, record in zip(kept, records, strict=True)]
    came = np.repeat(np.arange(len(parts), dtype=np.int32), [len(each) for each in parts])
    return spread(good, pa.array(came), pa.array(list(chain.from_iterable(parts)), pa.binary()))


def _objects_of(record: bytes) -> list[bytes]:
    """The objects that the record holds, at most one more than may be taken apart if it is large."""
    try:
        if len(record) <= AT_ONCE_BYTES:
            found = _VALUE.decode_lines(record)
            if len(found) == 1 and record[0] == _OPENING:
                return [record]  # nearly always, and nothing is copied
            values = list(map(bytes, found))
        else:
            values = _only_value(record) or list(islice(_objects_by_braces(record), MOST + 1))
    except msgspec.DecodeError as problem:
        raise NotObjects(f"the record is no run of JSON objects: {problem}") from None
    except RecursionError:
        raise NotObjects("the record is nested too deeply") from None
    if {value[0] for value in values} - {_OPENING}:
        raise NotObjects(_SOMETHING_ELSE)
    return values


def _only_value(record: bytes) -> list[bytes]:
    """The value that the whole record is; nothing where it is none, or more than one."""
    try:
        return [bytes(_VALUE.decode(record))]
    except msgspec.DecodeError:
        return []


def _objects_by_braces(record: bytes) -> Iterator[bytes]:
    """The objects, by looking at braces: several times slower, but nothing is held for those that nobody asks for."""
    begin = depth = 0
    for token in _TOKEN.finditer(record):
        depth += _STEPS.get(token[0], 0)
        if depth == 0:
            yield _valid(record[begin : token.end()])
            begin = token.end()
        elif not 0 < depth < DEEPEST:
            break
    if record[begin:].strip(_BLANKS):
        yield _valid(record[begin:])


def _valid(text: bytes) -> bytes:
    value = text.strip(_BLANKS)
    if value[0] != _OPENING:
        raise NotObjects(_SOMETHING_ELSE)
    _VALUE.decode(value)
    return value
