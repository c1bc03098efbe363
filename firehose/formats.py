"""Encodes batches into the bytes of an object; here, records byte for byte, with or without a delimiter.

Amazon Data Firehose concatenates records with no delimiter (firehose.md section 5.3). Where one is asked
for, it follows each record that does not end with it already, the last one too, so that objects can be
concatenated; AWS's AppendDelimiterToRecord (section 8.6) differs there and leaves it out behind the last
record.

Raw and JsonLines must never look at, mend or re-order records, and no format makes a Python object per record.
Formats of columns: columnar.py.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import chain
from typing import ClassVar, Protocol

import pyarrow as pa
import pyarrow.compute as pc

from firehose.compression import unknown
from firehose.contracts import Chunk, Memo
from firehose.model import Batch, Rejections

FORMATS = ("raw", "json_lines")


class Anew(Exception):
    """The batch must be encoded again from its start: its schema has grown meanwhile, durably. Not a failed attempt."""


class Encoded(Protocol):
    """A batch on its way to being an object."""

    @property
    def chunks(self) -> Iterator[Chunk]:
        """The object's bytes, to be read once; none at all where no row is left: then there is no object. Raises
        `Anew`, `Retry` or `Refused`.
        """
        ...

    @property
    def refused(self) -> Rejections:
        """Rows that cannot be encoded. Complete once the chunks are exhausted."""
        ...

    @property
    def companions(self) -> Mapping[str, bytes]:
        """Schemas to be stored beside the data before this object, by name; a repeat overwrites them."""
        ...


class Format(Protocol):
    """How the rows of a batch become an object. `extension` goes before the codec's; some have none."""

    @property
    def extension(self) -> str: ...

    def encoded(self, batch: Batch, memo: Memo) -> Encoded:
        """The same rows for the same batch, as often as it is asked for. `memo` is the batch's own."""
        ...

    def check(self) -> None:
        """Reaches what it takes to encode, such as the catalogue of a schema. Raises `Retry` or `Refused`."""
        ...

    def close(self) -> None:
        """Lets go of that. May be called twice."""
        ...


@dataclass(frozen=True, slots=True)
class Unchanged:
    """Rows that are encoded as they are: each one can be."""

    chunks: Iterator[Chunk]
    refused: ClassVar[Rejections] = Rejections()
    companions: ClassVar[Mapping[str, bytes]] = {}


@dataclass(frozen=True, slots=True)
class Raw:
    """Records one after the other, each followed by `delimiter` unless it ends with it."""

    extension: ClassVar[str] = ""
    delimiter: bytes = b""

    def encoded(self, batch: Batch, memo: Memo) -> Encoded:
        """Records without a byte are an object too, an empty one."""
        return Unchanged(chain((b"",), self.chunks(batch)))

    def check(self) -> None:
        """It takes nothing."""

    def close(self) -> None:
        """It holds nothing."""

    def chunks(self, batch: Batch) -> Iterator[Chunk]:
        """The object's bytes, slice by slice; the same chunks for the same batch."""
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
