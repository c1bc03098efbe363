"""Rows become the lines of a bulk request: an action, then the record, column by column.

A record that is one JSON object on one line goes as it is. What such a line says is for the server to judge, document
by document; but nothing may go out that another line could be taken for, so a record that is no single line is looked
at by itself: JSON is put on one line, anything else is refused. Ids derive from the segment's identity, the record's
sequence number and its part: a repeat overwrites the very same documents.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from hashlib import blake2b
from typing import Literal

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from firehose.formats import contents, delimited
from firehose.json_lines import Flags, JsonLines
from firehose.model import ROW_SCHEMA, Segment
from firehose.opensearch.index_names import Rotation, index_names
from firehose.parcels import Parcel, Sizes

Operation = Literal["index", "create"]
SEQUENCE_DIGITS = 18
IDENTITY_DIGITS = 38  # 56 with the sequence number: AWS's shape
IDENTITY_BYTES = 15  # as many as 38 digits hold
LONGEST_PART = 10


@dataclass(frozen=True, slots=True)
class Documents:
    """How a destination writes its documents' actions."""

    index: str
    rotation: Rotation = "none"
    operation: Operation = "index"
    type_name: str = ""
    has_ids: bool = True

    def sizes(self, records: pa.BinaryArray) -> Sizes:
        """Of each record's two lines, at most."""
        around = len(self._head() + self._tail()) + len(self.index) + 16 + IDENTITY_DIGITS + SEQUENCE_DIGITS
        lengths = pc.binary_length(records).to_numpy(zero_copy_only=False).astype(np.int64)
        sizes: Sizes = lengths + around + LONGEST_PART
        return sizes

    def body(self, parcel: Parcel, rows: pa.Table) -> bytes:
        """Of the request that carries these rows of the parcel. Made chunk by chunk: only the whole of it is large."""
        return b"".join([self._lines(parcel, chunk) for chunk in rows.to_batches()])

    def _lines(self, parcel: Parcel, chunk: pa.RecordBatch) -> pa.Buffer:
        pieces = [_bytes(self._head()), self.indices(chunk)]
        if self.has_ids:
            pieces += [_bytes('","_id":"'), self.ids(parcel.segment, parcel.partition, chunk)]
        pieces += [_bytes(self._tail()), delimited(chunk.column("record"), b"\n")]
        binary = [piece.cast(pa.binary()) for piece in pieces]
        return contents(pc.binary_join_element_wise(*binary, _bytes("")))

    def indices(self, rows: pa.RecordBatch) -> pa.StringArray:
        return self.indices_at(rows.column("arrival_ms"))

    def indices_at(self, arrivals_ms: pa.Int64Array) -> pa.StringArray:
        return index_names(self.index, self.rotation, arrivals_ms)

    def ids(self, segment: Segment, partition: str, rows: pa.RecordBatch) -> pa.StringArray:
        sequence = pc.add(rows.column("row").cast(pa.int64()), segment.first)
        digits = pc.utf8_lpad(sequence.cast(pa.string()), SEQUENCE_DIGITS, "0")
        identity = pa.scalar(_identity(segment, partition))
        parts = rows.column("part").cast(pa.string())
        return pc.binary_join_element_wise(pc.binary_join_element_wise(identity, digits, ""), parts, ".")

    def _head(self) -> str:
        return f'{{"{self.operation}":{{"_index":"'

    def _tail(self) -> str:
        type_name = f'","_type":{json.dumps(self.type_name)}' if self.type_name else '"'
        return f"{type_name}}}}}\n"


def _bytes(text: str) -> pa.BinaryScalar:
    return pa.scalar(text.encode(), pa.binary())


def _identity(of: Segment, partition: str) -> str:
    """The lane's name alone is unique for all time; the rest keeps apart what a person may have put together."""
    said = json.dumps([of.stream, of.lane, of.version, of.opened_at.isoformat(), partition])
    number = int.from_bytes(blake2b(said.encode(), digest_size=IDENTITY_BYTES).digest())
    return f"{number:0{IDENTITY_DIGITS}d}"


def on_one_line(rows: pa.Table) -> tuple[pa.Table, pa.Table]:
    """The rows whose record is an object on a line of its own, some put there; and those that cannot be."""
    none = rows.slice(0, 0)
    looked_at = [_chunk_on_one_line(rows.from_batches([chunk])) for chunk in rows.to_batches()]
    kept, wrong = zip((none, none), *looked_at, strict=True)
    return pa.concat_tables(kept), pa.concat_tables(wrong)


def _chunk_on_one_line(rows: pa.Table) -> tuple[pa.Table, pa.Table]:
    records = rows.column("record").combine_chunks()
    lines = JsonLines.of(records)
    good = lines.framed() & (_newlines(lines) == 1)
    if good.all():
        return rows, rows.slice(0, 0)
    return _put_record_by_record(rows, records, good)


def _newlines(lines: JsonLines) -> Sizes:
    """How many each line has, the one at its end included."""
    places = np.flatnonzero(np.frombuffer(lines.content, np.uint8) == ord("\n"))
    counts: Sizes = np.diff(np.searchsorted(places, lines.bounds)).astype(np.int64)
    return counts


def _put_record_by_record(rows: pa.Table, records: pa.BinaryArray, good: Flags) -> tuple[pa.Table, pa.Table]:
    odd = np.flatnonzero(~good)
    mended = [_line(records[int(at)].as_py()) for at in odd]
    whole = pc.replace_with_mask(records, pa.array(~good), pa.array([line or b"" for line in mended], pa.binary()))
    wrong = np.zeros(len(records), bool)
    wrong[odd] = [line is None for line in mended]
    kept = rows.set_column(0, ROW_SCHEMA.field("record"), whole).filter(pa.array(~wrong))
    return kept, rows.filter(pa.array(wrong))


def _line(record: bytes) -> bytes | None:
    """The record on one line, where it is one JSON object: newlines stand only between its tokens."""
    try:
        document = msgspec.json.decode(record)
    except (ValueError, RecursionError):
        return None
    if not isinstance(document, dict):
        return None
    return record.strip().replace(b"\n", b" ").replace(b"\r", b" ")
