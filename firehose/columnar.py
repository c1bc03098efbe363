"""Turns batches of JSON records into files of columns, row group by row group.

A block of records becomes a table, tables gather into a row group, and what the file's writer makes of it is handed on
at once: however long the batch, one row group of it is in memory. Rows that are not as the schema has it are refused,
each for itself. Which schema a batch follows is durable before the first byte is out (schemas/source.py), so that a
repeat makes the same rows of the same records. It must never guess at a value: json_table.py alone reads them.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol

import pyarrow as pa

from firehose.compression import Written
from firehose.contracts import Chunk, Memo
from firehose.deserializers.deserializer import Deserializer
from firehose.formats import Anew, Encoded
from firehose.json_table import JsonTable, Unforeseen
from firehose.model import ROW_SCHEMA, Batch, Rejections
from firehose.partitions import columns_in_path
from firehose.schemas.source import SchemaSource
from firehose.set_aside import Scratch, SetAside

BLOCK_BYTES = 4 << 20  # of records that are read at once: the size that Arrow's JSON reader likes best


class FileWriter(Protocol):
    """A file of columns that is being written."""

    def write(self, table: pa.Table) -> None:
        """One row group, or one stretch of a stripe."""
        ...

    def close(self) -> None: ...


class FileKind(Protocol):
    """Which files are written, and how."""

    @property
    def extension(self) -> str: ...

    @property
    def group_bytes(self) -> int:
        """How much is written at once, as it lies in memory."""
        ...

    def begun(self, sink: Written, first: pa.Table, notes: Mapping[str, str]) -> FileWriter:
        """A file that tells `notes`, as far as its kind can. Not written yet: `first` shows what will be."""
        ...


@dataclass(frozen=True, slots=True)
class Columnar:
    """Files of one kind with the columns of a schema."""

    kind: FileKind
    schema: SchemaSource
    deserializer: Deserializer
    scratch: Scratch | None = None  # for refused rows, where they are many

    @property
    def extension(self) -> str:
        return self.kind.extension

    def encoded(self, batch: Batch, memo: Memo) -> Encoded:
        return Conversion(self, batch, memo)

    def check(self) -> None:
        self.schema.check()

    def close(self) -> None:
        self.schema.close()


class Conversion:
    """One batch on its way to being a file."""

    def __init__(self, format: Columnar, batch: Batch, memo: Memo) -> None:
        self._format = format
        self._batch = batch
        self._memo = memo
        self._version = format.schema.of(batch, memo)
        self.chunks = self._chunks()
        self._refused = SetAside(format.scratch, batch.segment.key)

    @property
    def refused(self) -> Rejections:
        return self._refused.all()

    @property
    def companions(self) -> Mapping[str, bytes]:
        document = self._format.schema.document(self._version)
        name = f"{self._batch.segment.stream}-v{self._version.number:04d}.json"
        return {} if document is None else {name: document}

    def _chunks(self) -> Iterator[Chunk]:
        sink, kind = Written(), self._format.kind
        writer: FileWriter | None = None
        for group in gathered(self._tables(), kind.group_bytes):
            writer = writer or kind.begun(sink, group, self._notes())
            writer.write(group)
            yield from sink.taken()
        if writer is not None:
            writer.close()
            yield from sink.taken()

    def _tables(self) -> Iterator[pa.Table]:
        source = self._format.schema
        whole = self._version.whole
        reader = JsonTable(self._version.schema, self._format.deserializer, source.grows, full=whole)
        told = self._told_by_folders()
        try:
            for block in blocks(self._batch.slices(), min(BLOCK_BYTES, self._format.kind.group_bytes)):
                read = reader.read(block)
                if len(read.refused):
                    self._refused.add(self._with_catalog_table(read.refused))
                if read.table.num_rows:
                    yield without(read.table, told)
        except Unforeseen:
            assert not whole, "all that the batch holds is in the schema, or has no room there"
            source.widened(self._batch, self._memo)
            raise Anew from None

    def _told_by_folders(self) -> frozenset[str]:
        """Columns that are read from the very key which a folder of that name was made of. One that is merely called
        so holds another value, which the file alone has.
        """
        keys = self._format.deserializer.keys
        folders = {name.lower(): keys.folded(name) for name in columns_in_path(self._batch.partition)}
        names = [name for name, _ in self._version.schema.columns]
        return frozenset(name for name in names if folders.get(name.lower()) == keys.of_column(name))

    def _with_catalog_table(self, refused: Rejections) -> Rejections:
        """As AWS has it in the documents of these rows."""
        if (table := self._format.schema.catalog_table) is None:
            return refused
        extra = pa.scalar(json.dumps({"dataCatalogTable": dict(table)}), pa.string())
        return refused.with_extra(pa.repeat(extra, len(refused)))

    def _notes(self) -> dict[str, str]:
        """What leads from a file back to the log: the records that it was made of are among these."""
        segment = self._batch.segment
        ranges = [{"lane": one.lane, "first": one.first, "last": one.end - 1} for one in self._batch.ranges]
        return {
            "firehose.stream": segment.stream,
            "firehose.segment": f"{segment.lane}/{segment.first:020d}",
            "firehose.records": json.dumps(ranges),
            "firehose.schema_version": str(self._version.number),
        }


def without(table: pa.Table, columns: Collection[str]) -> pa.Table:
    """The table without these columns; whole where none would be left, which no file can hold."""
    left = [name for name in table.schema.names if name not in columns]
    return table.select(left) if left and len(left) < table.num_columns else table


def blocks(slices: Iterator[pa.RecordBatch], wanted_bytes: int) -> Iterator[pa.RecordBatch]:
    """The slices' rows, in blocks of no more than that many bytes; a slice that has as many is one, and not copied."""
    held: list[pa.RecordBatch] = []
    size_bytes = 0
    for rows in slices:
        if held and size_bytes + rows.nbytes > wanted_bytes:
            yield _joined(held)
            held, size_bytes = [], 0
        held.append(rows.select(ROW_SCHEMA.names))
        size_bytes += rows.nbytes
    if held:
        yield _joined(held)


def _joined(held: list[pa.RecordBatch]) -> pa.RecordBatch:
    return held[0] if len(held) == 1 else pa.concat_batches(held)


def gathered(tables: Iterator[pa.Table], wanted_bytes: int) -> Iterator[pa.Table]:
    """Tables joined, without a copy, until they have that many bytes together."""
    held: list[pa.Table] = []
    size_bytes = 0
    for table in tables:
        held.append(table)
        size_bytes += table.nbytes
        if size_bytes >= wanted_bytes:
            yield pa.concat_tables(held)
            held, size_bytes = [], 0
    if held:
        yield pa.concat_tables(held)
