"""Pieces of groups: as many rows as are read and checked at once, and the checksum of each.

The rows of a group wait in files that were found good, for as long as their partition gathers. What they are, records
and all, is summed up when they begin to wait, and again before they are sent.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from itertools import accumulate, pairwise
from typing import Any

import numpy as np
import pyarrow as pa
from isal.isal_zlib import crc32

from firehose.buffer import places, reading
from firehose.model import PLACE, SIZE
from firehose.partitions import COLUMN, COLUMNS
from firehose.rows import is_bare

PIECE_BYTES = 4 * 1024 * 1024  # what columns are read from at once: of that size, it is not joined again for them
SUM = struct.Struct("<I")  # as a checksum is kept
NULLABLE = {"meta", "refused"}
TEXTS = {"record", *NULLABLE}
Numbers = np.ndarray[tuple[int], np.dtype[Any]]


def check(rows: pa.RecordBatch) -> None:
    """That a partition may be looked for in an outcome's rows, which may be damaged. Raises ValueError."""
    if not are_known(rows.schema):
        raise ValueError(f"the rows have other columns: {rows.schema}")
    rows.column(COLUMN).dictionary.validate(full=True)


def are_known(columns: pa.Schema) -> bool:
    """Whether these are columns that rows may wait with."""
    return all(COLUMNS.get(field.name) == field.type for field in columns)


def check_values(rows: pa.RecordBatch, file: pa.Buffer) -> None:
    """That all values of these rows may be read, and their records, wherever they are said to lie. Raises ValueError or
    KeyError.
    """
    rows.validate(full=True)
    for name, column in zip(rows.schema.names, rows.columns, strict=True):
        if column.null_count and name not in NULLABLE:
            raise ValueError(f"{name} is null somewhere, which it never is")
        if name in TEXTS and column.buffers()[1].size % 4:
            raise ValueError(f"the offsets of {name} are not whole numbers")
    if not is_bare(rows):
        rows.column("record")
        return
    places, sizes = rows.column(PLACE).to_numpy(), rows.column(SIZE).to_numpy()
    if places.min() < 0 or sizes.min() < 0 or (places > file.size - sizes).any():
        raise ValueError("a record does not lie in the segment's file")


def ends(rows: pa.RecordBatch) -> list[int]:
    """Where the pieces end of what a group has in one outcome. Rows that have their records are one piece, for which it
    takes no memory; of others none has more than PIECE_BYTES or SLICE_ROWS, unless it is one row.
    """
    count = rows.num_rows
    if not is_bare(rows) or (count <= reading.SLICE_ROWS and rows.column(SIZE).to_numpy().sum() <= PIECE_BYTES):
        return [count] if count else []
    return _ends(_bytes_to(rows), 0, count)


def _bytes_to(rows: pa.RecordBatch) -> Numbers:
    """How large the records are before each row, and those of all."""
    return np.concatenate([[0], np.cumsum(rows.column(SIZE).to_numpy(), dtype=np.int64)])


def _ends(bytes_to: Numbers, start: int, last: int) -> list[int]:
    found = list[int]()
    while start < last:
        end = int(np.searchsorted(bytes_to[: last + 1], bytes_to[start] + PIECE_BYTES, side="right")) - 1
        start = min(max(end, start + 1), start + reading.SLICE_ROWS)
        found.append(start)
    return found


def sums(rows: pa.RecordBatch, file: pa.Buffer, starts: Sequence[int]) -> Iterator[bytes]:
    """Of each group in one outcome, the checksums of its pieces, one behind the other. `starts` says where the groups
    do. Records that are in the segment's `file` alone are read as many at once as small groups have together.
    """
    groups = pairwise([*starts, rows.num_rows])
    if not is_bare(rows):
        yield from map(SUM.pack, checksums(rows, [end - start for start, end in groups]))
        return
    bytes_to = _bytes_to(rows)
    pieces = [_ends(bytes_to, start, end) for start, end in groups]
    edges = [0, *(end for group in pieces for end in group)]
    found, first, bytes_to = list[bytes](), 0, bytes_to[edges]
    while first + 1 < len(edges):
        last = int(np.searchsorted(bytes_to, bytes_to[first] + PIECE_BYTES, side="right")) - 1
        few = edges[first : max(last, first + 1) + 1]
        whole = places.whole([(rows.slice(few[0], few[-1] - few[0]), file)])
        found += map(SUM.pack, checksums(whole, [end - start for start, end in pairwise(few)]))
        first += len(few) - 1
    sums = iter(found)
    yield from (b"".join(next(sums) for _ in group) for group in pieces)


def checksums(rows: pa.RecordBatch, counts: Sequence[int]) -> list[int]:
    """A CRC-32 of each so many of the rows, which have their records: columns and values, wherever these lie."""
    edges = [0, *accumulate(counts)]
    found = [int(crc32(_named(rows.schema).encode()))] * len(counts)
    for bounds, values in _columns(rows, edges):
        for place, (start, end) in enumerate(pairwise(bounds)):
            found[place] = int(crc32(values[start:end], found[place]))
    return found


def _named(schema: pa.Schema) -> str:
    """The columns, without what a step may have noted beside them: rows are joined whatever that is."""
    return str(schema.to_string(show_field_metadata=False, show_schema_metadata=False))


def _columns(rows: pa.RecordBatch, edges: Sequence[int]) -> Iterator[tuple[list[int], memoryview]]:
    """All values as bytes, and where those of the rows at the edges begin: numbers; of texts their sizes and they, and
    which are there.
    """
    for name, column in zip(rows.schema.names, rows.columns, strict=True):
        if name not in TEXTS:
            yield _flat(column.to_numpy(), edges)
            continue
        _, offsets, values = column.buffers()
        bounds = np.frombuffer(offsets, np.int32)[column.offset : column.offset + len(column) + 1]
        yield _flat(np.diff(bounds), edges)
        yield bounds[edges].tolist(), memoryview(values if values is not None else b"")
        if name in NULLABLE:
            yield _flat(column.is_null().to_numpy(zero_copy_only=False), edges)


def _flat(numbers: Numbers, edges: Sequence[int]) -> tuple[list[int], memoryview]:
    return [edge * numbers.itemsize for edge in edges], numbers.data.cast("B")
