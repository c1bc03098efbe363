"""Makes JSON objects of records that are CSV lines: one line, one record, one object.

Fields are named by `columns`, in their order. A field in quotes may hold delimiters, doubled quotes and newlines; after
its closing quote the rest of the field is taken as it stands. Text stays text unless `types: infer` is given: then what
is spelled as JSON spells a number, true or false is written so, digit for digit, each field by itself, so that a record
becomes the same object in whatever company. A record that ends with a newline makes one that does.

A slice is parsed as a whole, by Arrow. Where that could tell lines wrongly (a newline in quotes, a quote that is never
closed, bytes that are not UTF-8), each record of the slice is parsed by itself to the same rules.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
from pydantic import Field, field_validator, model_validator

from firehose.formats import contents, delimited
from firehose.model import Outcome
from firehose.registry import Site
from firehose.rows import parted, replaced
from firehose.stream_config import TransformBlock

ERROR_TYPE = "processing-failed"
CODE = "Csv.NotParsable"

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"  # Arrow swallows one at the start of what it parses
_EMPTY = pa.array([b"", b"\n", b"\r", b"\r\n"], pa.binary())
_ESCAPED = r'["\\\x00-\x1f]'  # in JSON text
_NOT_TEXT = r"\A(?:-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?|true|false)\z"

ColumnName = Annotated[str, Field(min_length=1, max_length=128)]


class CsvToJsonOptions(TransformBlock):
    """`type: csv_to_json`."""

    type: Literal["csv_to_json"] = "csv_to_json"
    columns: Annotated[tuple[ColumnName, ...], Field(min_length=1, max_length=1000)]
    delimiter: str = ","
    quote: str = '"'
    types: Literal["string", "infer"] = "string"
    null_values: Annotated[tuple[str, ...], Field(max_length=100)] = ()

    @field_validator("columns")
    @classmethod
    def _columns(cls, columns: tuple[str, ...]) -> tuple[str, ...]:
        twice = sorted({name for name in columns if columns.count(name) > 1})
        if twice:
            raise ValueError(f"an object has each name once; rename one of the columns called {', '.join(twice)}")
        return columns

    @field_validator("delimiter", "quote")
    @classmethod
    def _one_character(cls, character: str) -> str:
        if len(character) != 1 or not character.isascii() or character in "\r\n\0":
            raise ValueError('must be one ASCII character and no newline, such as "," or ";" or "\\t"')
        return character

    @model_validator(mode="after")
    def _told_apart(self) -> CsvToJsonOptions:
        if self.delimiter == self.quote:
            raise ValueError("delimiter and quote are the same character; choose two")
        return self


@dataclass(frozen=True, slots=True)
class Parsed:
    """Fields column by column, of the records that have no flaw; and what is wrong with the others, by index."""

    columns: Sequence[pa.StringArray]
    flaws: dict[int, str]


class CsvToJson:
    """Parses and writes column by column."""

    Options: ClassVar[type[TransformBlock]] = CsvToJsonOptions
    repeatable = True

    def __init__(self, options: CsvToJsonOptions, site: Site) -> None:
        self._options = options
        self._field = _field(options.delimiter, options.quote)
        names = [msgspec.json.encode(name).decode() for name in options.columns]
        self._keys = [f"{',' if at else '{'}{name}:" for at, name in enumerate(names)]
        self._null_values = pa.array(options.null_values, pa.string())

    def __call__(self, rows: pa.RecordBatch) -> Outcome:
        if not rows.num_rows:
            return Outcome(rows)
        records = rows.column("record")
        parsed = self._together(records) or self._one_by_one(records)
        good, refused = parted(rows, parsed.flaws, ERROR_TYPE, CODE)
        return Outcome(replaced(good, self._objects(good.column("record"), parsed.columns)), refused)

    # CSV to fields.

    def _together(self, records: pa.BinaryArray) -> Parsed | None:
        """None where it is not certain that Arrow's lines are the records."""
        text = contents(delimited(records, b"\n")).to_pybytes()
        if not _lines_are_records(records, text):
            return None
        flaws: dict[int, str] = {}

        def skip(row: pa.csv.InvalidRow) -> str:
            flaws[row.number - 1] = self._miscounted(row.actual_columns)
            return "skip"

        # A quote that is never closed swallows the empty line at the end, or another: then their number is wrong.
        try:
            table = self._table(text + b"\n", skip)
        except pa.ArrowInvalid:
            return None
        if table.num_rows + len(flaws) != len(records) + 1:
            return None
        return Parsed([column.combine_chunks() for column in table.slice(0, table.num_rows - 1).columns], flaws)

    def _table(self, text: bytes, skip: Callable[[pa.csv.InvalidRow], str]) -> pa.Table:
        names = self._options.columns
        return pa.csv.read_csv(
            pa.BufferReader(text),
            pa.csv.ReadOptions(use_threads=False, block_size=len(text) + 1, column_names=names),
            pa.csv.ParseOptions(
                delimiter=self._options.delimiter,
                quote_char=self._options.quote,
                ignore_empty_lines=False,
                invalid_row_handler=skip,
            ),
            pa.csv.ConvertOptions(column_types={name: pa.string() for name in names}),
        )

    def _one_by_one(self, records: pa.BinaryArray) -> Parsed:
        kept: list[list[str]] = []
        flaws: dict[int, str] = {}
        for index, record in enumerate(records.to_pylist()):
            try:
                kept.append(self._fields(record))
            except ValueError as flaw:
                flaws[index] = str(flaw)
        columns = zip(*kept, strict=True) if kept else [()] * len(self._options.columns)
        return Parsed([pa.array(column, pa.string()) for column in columns], flaws)

    def _fields(self, record: bytes) -> list[str]:
        """The fields of one line. Raises ValueError saying what is wrong with it."""
        text = record.decode().removesuffix("\n").removesuffix("\r")
        wanted, quote = len(self._options.columns), self._options.quote
        fields: list[str] = []
        count, position = 0, -1
        while position < len(text):
            field = self._field.match(text, position + 1)
            if field is None:
                raise ValueError("a quote is opened and never closed")
            if count < wanted:
                quoted, rest = field.groups("")
                fields.append(quoted.replace(quote * 2, quote) + rest)
            count, position = count + 1, field.end()
            if text[position : position + 1] in ("\n", "\r"):
                raise ValueError("a line ends inside the record: one record is one line, newlines stand in quotes")
        if count != wanted:
            raise ValueError(self._miscounted(count))
        return fields

    def _miscounted(self, found: int) -> str:
        expected = len(self._options.columns)
        return f"expected {expected} fields, found {found}; `columns` names each field of the line, in order"

    # Fields to JSON.

    def _objects(self, records: pa.BinaryArray, columns: Sequence[pa.StringArray]) -> pa.BinaryArray:
        ends = pc.if_else(pc.ends_with(records, b"\n"), "}\n", "}")
        pieces = [
            piece for key, column in zip(self._keys, columns, strict=True) for piece in (key, self._value(column))
        ]
        return pc.binary_join_element_wise(*pieces, ends, "").cast(pa.binary())

    def _value(self, column: pa.StringArray) -> pa.StringArray:
        value = _quoted(column)
        if self._options.types == "infer":
            value = pc.if_else(pc.match_substring_regex(column, _NOT_TEXT), column, value)
        if len(self._null_values):
            value = pc.if_else(pc.is_in(column, self._null_values), "null", value)
        return value


def _field(delimiter: str, quote: str) -> re.Pattern[str]:
    """One field, up to the delimiter, newline or end behind it; none where a quote is not closed. Nothing in it is
    tried twice.
    """
    d, q = re.escape(delimiter), re.escape(quote)
    return re.compile(rf"(?:{q}([^{q}]*+(?:{q}{q}[^{q}]*+)*+){q}|(?!{q}))([^{d}\r\n]*+)")


def _lines_are_records(records: pa.BinaryArray, text: bytes) -> bool:
    """Whether each record is one line of the text, as far as newlines tell. An empty line is none to Arrow."""
    if text.count(b"\n") != len(records) or (b"\r" in text and text.count(b"\r") != text.count(b"\r\n")):
        return False
    empty = pc.is_in(pc.binary_slice(records, 0, 3), _EMPTY)
    return not empty.true_count and not text.startswith(_BYTE_ORDER_MARK) and _is_text(text)


def _is_text(text: bytes) -> bool:
    """Arrow would say so only of the columns that it keeps, and complain on standard error of a line that it skips."""
    try:
        return text.isascii() or bool(text.decode())
    except UnicodeDecodeError:
        return False


def _quoted(texts: pa.StringArray) -> pa.StringArray:
    """JSON text. Only what has to be escaped becomes a Python object."""
    if _may_need_escapes(texts):
        escaped = pc.match_substring_regex(texts, _ESCAPED)
        inside = [msgspec.json.encode(text).decode()[1:-1] for text in texts.filter(escaped).to_pylist()]
        texts = pc.replace_with_mask(texts, escaped, pa.array(inside, pa.string()))
    return pc.binary_join_element_wise('"', texts, '"', "")


def _may_need_escapes(texts: pa.StringArray) -> bool:
    """A look at all bytes at once: a tenth of the price of asking text by text."""
    inside = texts.buffers()[2]
    if inside is None:
        return False
    characters = np.frombuffer(inside, np.uint8)
    return bool((characters < ord(" ")).any() or (characters == ord('"')).any() or (characters == ord("\\")).any())
