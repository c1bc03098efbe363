"""Encodes batches into the bytes of an object: records byte for byte, with or without a delimiter.

Amazon Data Firehose concatenates records with no delimiter (firehose.md section 5.3). Where one is asked
for, it follows each record that does not end with it already, the last one too, so that objects can be
concatenated; AWS's AppendDelimiterToRecord (section 8.6) differs there and leaves it out behind the last
record.

A format must never look at, mend or re-order records, and never make a Python object per record.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import ClassVar, Protocol

import pyarrow as pa
import pyarrow.compute as pc

from firehose.compression import Chunk, unknown
from firehose.model import Batch

FORMATS = ("raw", "json_lines")


class Format(Protocol):
    """How the rows of a batch become an object. `extension` goes before the codec's; most have none."""

    @property
    def extension(self) -> str: ...

    def encode(self, batch: Batch) -> Iterator[Chunk]:
        """The object's bytes, slice by slice; the same chunks for the same batch."""
        ...


@dataclass(frozen=True, slots=True)
class Raw:
    """Records one after the other, each followed by `delimiter` unless it ends with it."""

    extension: ClassVar[str] = ""
    delimiter: bytes = b""

    def encode(self, batch: Batch) -> Iterator[Chunk]:
        for rows in batch.slices():
            content = contents(delimited(rows.column("record"), self.delimiter))
            if content.size:
                yield content


@dataclass(frozen=True, slots=True)
class JsonLines(Raw):
    """Records one a line.

    Records are not parsed: one that holds newlines inside, such as indented JSON or several objects, is
    passed on as it is and makes several lines; an empty record makes an empty one.
    """

    delimiter: bytes = field(default=b"\n", init=False)


def format_named(type: str, delimiter: bytes | None) -> Format:
    """The format of that name in the configuration.

    `delimiter` is the stream's own; None and b"" both mean that it names none, and the format's own holds.
    """
    if type not in FORMATS:
        raise unknown("format", type, FORMATS)
    if type == "raw":
        return Raw(delimiter or b"")
    if delimiter not in (None, b"", b"\n"):
        raise ValueError("json_lines ends records with a newline; for another delimiter use format raw")
    return JsonLines()


def delimited(records: pa.BinaryArray, delimiter: bytes) -> pa.BinaryArray:
    """Each record with the delimiter at its end: the same array where nothing is missing."""
    if not delimiter or not len(records):
        return records
    ended = pc.ends_with(records, pattern=delimiter)
    if pc.all(ended).as_py():
        return records
    nothing = pa.scalar(b"", pa.binary())
    missing = pc.if_else(ended, nothing, pa.scalar(delimiter, pa.binary()))
    return pc.binary_join_element_wise(records, missing, nothing)


def contents(records: pa.BinaryArray) -> pa.Buffer:
    """The bytes of all records, one after the other: a view of the array's own memory."""
    assert records.type == pa.binary(), "the record column is binary (32-bit offsets)"
    assert records.null_count == 0, "the record column has no nulls"
    if not len(records):
        return pa.py_buffer(b"")
    _, offsets, values = records.buffers()
    bounds = memoryview(offsets).cast("B").cast("i")
    first, end = bounds[records.offset], bounds[records.offset + len(records)]
    return values.slice(first, end - first) if end > first else pa.py_buffer(b"")
