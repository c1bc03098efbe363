"""The durable outcome of transforms that cannot be repeated: one file beside the segment, written whole.

 0   8  magic "FHOUT..\\n"
 8   4  format version, 1
12   4  count of outcomes, one for each slice of the segment
16      for each outcome three parts: rows, refused, dropped (a table of one int32 column `row`), each
            0   8  size in bytes of an Arrow IPC stream
            8   4  CRC-32 of the stream
           12   4  0
           16      the stream, then zeros up to a multiple of 8
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator

import pyarrow as pa
from isal.isal_zlib import crc32

from firehose.contracts import Disk
from firehose.model import NewerFormat, Outcome, Rejections

FORMAT = 1
MAGIC = b"FHOUT..\n"
HEAD = struct.Struct("<8sII")
PART = struct.Struct("<QII")


def write(disk: Disk, path: str, outcomes: Iterable[Outcome]) -> None:
    """Makes the outcomes durable under `path`, all or none."""
    beside = f"{path}.new"
    if disk.exists(beside):
        disk.remove(beside)
    kept = list(outcomes)
    writer = disk.create(beside)
    try:
        writer.write(HEAD.pack(MAGIC, FORMAT, len(kept)))
        for outcome in kept:
            for part in _parts(outcome):
                writer.write(PART.pack(part.size, crc32(part), 0), part, bytes(-part.size % 8))
        writer.sync()
    finally:
        writer.close()
    disk.rename(beside, path)
    disk.sync_folder(path.rpartition("/")[0])


def read(disk: Disk, path: str) -> list[Outcome] | None:
    """The outcomes; None where there is no such file or it is damaged. Raises `NewerFormat`."""
    if not disk.exists(path):
        return None
    buffer = disk.view(path).buffer
    if len(buffer) < HEAD.size:
        return None
    magic, version, count = HEAD.unpack_from(buffer)
    if magic != MAGIC:
        return None
    if version > FORMAT:
        raise NewerFormat(path, version, FORMAT)
    parts = list(_read_parts(buffer))
    if len(parts) != 3 * count:
        return None
    return [_outcome(*parts[index : index + 3]) for index in range(0, len(parts), 3)]


def _parts(outcome: Outcome) -> Iterator[pa.Buffer]:
    dropped = pa.table({"row": outcome.dropped})
    for table in (pa.table(outcome.rows), outcome.refused.table, dropped):
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, table.schema) as stream:
            stream.write_table(table)
        yield sink.getvalue()


def _read_parts(buffer: pa.Buffer) -> Iterator[pa.Table]:
    """Parts up to the first that is cut short or damaged."""
    offset = HEAD.size
    while offset + PART.size <= len(buffer):
        size, crc, _ = PART.unpack_from(buffer, offset)
        offset += PART.size
        if offset + size > len(buffer):
            return
        part = buffer.slice(offset, size)
        if crc32(part) != crc:
            return
        yield pa.ipc.open_stream(part).read_all()
        offset += size + -size % 8


def _outcome(rows: pa.Table, refused: pa.Table, dropped: pa.Table) -> Outcome:
    batches = rows.combine_chunks().to_batches()
    batch = batches[0] if batches else pa.RecordBatch.from_pylist([], schema=rows.schema)
    return Outcome(batch, Rejections(refused), dropped.column("row").combine_chunks())
