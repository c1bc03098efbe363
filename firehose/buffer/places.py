"""Where in a segment's file its records lie, and how they are found again there.

Rows that go on by partition as they came need not be written a second time: their durable outcome holds the place and
the size of each record, a few bytes, and the segment stays for as long as a row of it is owed. The file's frames have
been checked when places were taken (`reading`), and are again after a restart (`kept`).
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import Any

import numpy as np
import pyarrow as pa

from firehose.model import PLACE, ROW_SCHEMA, SIZE
from firehose.rows import is_bare

Places = np.ndarray[tuple[int], np.dtype[np.int64]]
Sizes = np.ndarray[tuple[int], np.dtype[np.int32]]
Piece = tuple[pa.RecordBatch, pa.Buffer]  # rows, and the file that their records lie in
INLINE_BYTES = 12  # a view has so short a value in itself
REACH_BYTES = 1 << 30  # of a file, as one of the buffers that views point into: their places have 31 bits


def places_in(file: pa.Buffer, records: pa.BinaryArray) -> Places:
    """Of records that point into the mapped file."""
    _, offsets, values = records.buffers()
    bounds = np.frombuffer(offsets, np.int32)[records.offset : records.offset + len(records)]
    start = values.address - file.address if values is not None and values.size else 0
    assert 0 <= start <= file.size, "the records point into the file"
    return bounds.astype(np.int64) + start


def whole(pieces: Sequence[Piece]) -> pa.RecordBatch:
    """The rows of all pieces, of one kind, with their records. Where they go without these, a piece's file is where
    they are read from.
    """
    rows = pa.concat_batches([rows for rows, _ in pieces]) if len(pieces) > 1 else pieces[0][0]
    if not is_bare(rows):
        return rows
    records = _records([file for _, file in pieces], [given.num_rows for given, _ in pieces], rows)
    return rows.drop_columns([PLACE, SIZE]).add_column(0, ROW_SCHEMA.field("record"), records)


def _records(files: Sequence[pa.Buffer], counts: Sequence[int], rows: pa.RecordBatch) -> pa.BinaryArray:
    """The records side by side: seen in the files as views first, of which a copy takes as much memory as they have.
    (To take them from an array of all that lies between sets aside memory for that, too.)
    """
    places, sizes = rows.column(PLACE).to_numpy(), rows.column(SIZE).to_numpy()
    reaches = [[file.slice(start) for start in range(0, max(1, file.size), REACH_BYTES)] for file in files]
    firsts = np.cumsum([0, *map(len, reaches[:-1])]).repeat(counts)
    views = np.zeros((len(places), 4), np.int32)  # size; either the value, or bytes to compare it by, number and place
    views[:, 0] = sizes
    views[:, 2] = firsts + places // REACH_BYTES
    views[:, 3] = places % REACH_BYTES
    start = 0
    for file, count in zip(files, counts, strict=True):
        own = slice(start, start + count)
        short = np.flatnonzero(sizes[own] <= INLINE_BYTES) + start
        views.view(np.uint8)[short, 4:] = _padded(file, places[short], sizes[short])
        start += count
    seen = pa.Array.from_buffers(pa.binary_view(), len(places), [None, pa.py_buffer(views), *chain(*reaches)])
    return seen.cast(pa.binary())


def _padded(file: pa.Buffer, places: Places, sizes: Sizes) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Short records, with zeros behind them."""
    column = np.arange(INLINE_BYTES)
    at = np.minimum(places[:, None] + column, file.size - 1)
    padded: np.ndarray[Any, np.dtype[np.uint8]] = np.frombuffer(file, np.uint8)[at]
    padded[column >= sizes[:, None]] = 0
    return padded
