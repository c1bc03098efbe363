"""An Arrow IPC record batch message, made of record batches that stay where they lie.

Arrow's own way joins the batches, and then copies all of them once more behind the message's head. Here the bytes of
records are handed on as they are, to be written from there; only what is small is made anew.

Source: the Arrow columnar format, "Encapsulated message format", Message.fbs and Schema.fbs. The head is a flatbuffer
whose parts always lie at the same places, but for the lists of columns and of buffers, which stand last:

    8  prefix: the continuation mark, and the head's size in bytes, a multiple of 8
    0  place of the message, 16
    4  the message's own places: of version 16, kind 18, record batch 4, body size 8
   16  the message: 12 back to these; record batch 32 ahead; body size; version 5 (index 4), kind 3 (a record batch)
   40  the batch's own places: of length 4, columns 12, buffers 16
   52  the batch: 12 back to these; length; columns 12 ahead; buffers behind the columns
   76  count of columns; for each its length and its nulls
       0, count of buffers; for each its offset in the body and its size in bytes
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from firehose.contracts import Chunk

PREFIX = struct.Struct("<Ii")
CONTINUATION = 0xFFFFFFFF
HEAD = struct.Struct("<I 6H iI qhB5x 5H2x iqII 4xI")
MESSAGE_PLACES = (12, 20, 16, 18, 4, 8)  # the first two: bytes of these places, and of what they are places in
BATCH_PLACES = (10, 20, 4, 12, 16)
VERSION, RECORD_BATCH = 4, 3
assert HEAD.size == 80
Column = list[list[Chunk]]  # its buffers, each in pieces


def message(batches: Sequence[pa.RecordBatch]) -> list[Chunk]:
    """Pieces to be written one after the other, a multiple of 8 bytes together. The batches have one schema, of binary,
    text and 64-bit columns, and a row each at least.
    """
    rows = sum(batch.num_rows for batch in batches)
    nodes, buffers, body, end = list[int](), list[int](), list[Chunk](), 0
    for columns in zip(*(batch.columns for batch in batches), strict=True):
        nulls = sum(column.null_count for column in columns)
        nodes += (rows, nulls)
        for pieces in (_validity(columns) if nulls else [], *_values(columns)):
            size = sum(map(_size, pieces))
            buffers += (end, size)
            body += (*pieces, bytes(-size % 8))
            end += size + -size % 8
    return [_head(rows, nodes, buffers, end), *body]


def _head(rows: int, nodes: Sequence[int], buffers: Sequence[int], body_bytes: int) -> bytes:
    fixed = HEAD.pack(
        *(16, *MESSAGE_PLACES, 12, 32, body_bytes, VERSION, RECORD_BATCH),
        *(*BATCH_PLACES, 12, rows, 12, 16 + 8 * len(nodes)),
        len(nodes) // 2,
    )
    lists = struct.pack(f"<{len(nodes)}q4xI{len(buffers)}q", *nodes, len(buffers) // 2, *buffers)
    return PREFIX.pack(CONTINUATION, len(fixed) + len(lists)) + fixed + lists


def _validity(columns: Sequence[pa.Array]) -> list[Chunk]:
    flags = np.concatenate([column.is_valid().to_numpy(zero_copy_only=False) for column in columns])
    return [np.packbits(flags, bitorder="little").tobytes()]


def _values(columns: Sequence[pa.Array]) -> Column:
    if pa.types.is_int64(columns[0].type):
        return [[column.buffers()[1].slice(8 * column.offset, 8 * len(column)) for column in columns]]
    if len(columns) == 1 and (whole := _from_the_beginning(columns[0])):
        return whole
    offsets = np.empty(sum(map(len, columns)) + 1, np.int32)
    offsets[0] = 0
    pieces: list[Chunk] = []
    row = end = 0
    for column in columns:
        _, places, data = column.buffers()
        own = np.frombuffer(places, np.int32)[column.offset : column.offset + len(column) + 1]
        begin, size = int(own[0]), int(own[-1] - own[0])
        assert end + size < 1 << 31, "a group's bytes have a bound far below"
        np.add(own[1:], end - begin, out=offsets[row + 1 : row + 1 + len(column)])
        if size:
            pieces.append(data.slice(begin, size))
        row, end = row + len(column), end + size
    return [[offsets.data.cast("B")], pieces]


def _from_the_beginning(column: pa.Array) -> Column | None:
    """The buffers of one whose values begin where its data does: as a lone record's, whose offsets need not be new."""
    _, places, data = column.buffers()
    ends = memoryview(places).cast("i")
    if ends[column.offset]:
        return None
    size = ends[column.offset + len(column)]
    return [[places.slice(4 * column.offset, 4 * (len(column) + 1))], [data.slice(0, size)] if size else []]


def _size(piece: Chunk) -> int:
    return piece.size if isinstance(piece, pa.Buffer) else len(piece)
