"""The durable outcome of transforms that cannot be repeated: one file beside the segment, written whole.

 0   8  magic "FHOUT..\\n"
 8   4  format version, 2
12   4  count of outcomes, one for each slice of the segment
16   4  CRC-32 of bytes 0 to 15
20   4  0
24      for each outcome three parts: rows, refused, dropped (a table of one int32 column `row`), each
            0   8  size in bytes of an Arrow IPC stream
            8   4  CRC-32 of its size and the stream
           12   4  0
           16      the stream, then zeros up to a multiple of 8

The first CRC starts from that of the lane's name and the file's, each other one from the one before it: no part of
another segment's outcome, none that is missing, there twice or in another place is taken for one of this. Format 1,
which is still read, has 8 bytes less at its begin, no such starts, and leaves out the sizes.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator

import pyarrow as pa
from isal.isal_zlib import crc32

from firehose.contracts import Disk
from firehose.model import REJECTION_SCHEMA, NewerFormat, Outcome, Rejections

FORMAT = 2
MAGIC = b"FHOUT..\n"
OLD_HEAD = struct.Struct("<8sII")
HEAD = struct.Struct("<8sIIII")
PART = struct.Struct("<QII")


def write(disk: Disk, path: str, outcomes: Iterable[Outcome]) -> None:
    """Makes the outcomes durable under `path`, all or none."""
    beside = f"{path}.new"
    if disk.exists(beside):
        disk.remove(beside)
    kept = list(outcomes)
    writer = disk.create(beside)
    try:
        head = OLD_HEAD.pack(MAGIC, FORMAT, len(kept))
        crc = crc32(head, _seed(path))
        writer.write(head + struct.pack("<II", crc, 0))
        for outcome in kept:
            for part in _parts(outcome):
                crc = _crc(part, crc)
                writer.write(PART.pack(part.size, crc, 0), part, bytes(-part.size % 8))
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
    magic, version, count, crc, _ = HEAD.unpack_from(buffer)
    if magic != MAGIC:
        return None
    if version != 1 and crc != crc32(buffer.slice(0, OLD_HEAD.size), _seed(path)):
        return None
    if version > FORMAT:
        raise NewerFormat(path, version, FORMAT)
    parts = list(_read_parts(buffer, None if version == 1 else crc))
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


def _seed(path: str) -> int:
    """What the CRCs of the file begin with: its lane and its own name."""
    return int(crc32("/".join(path.split("/")[-2:]).encode()))


def _crc(part: pa.Buffer, before: int) -> int:
    return int(crc32(part, crc32(struct.pack("<Q", part.size), before)))


def _read_parts(buffer: pa.Buffer, before: int | None) -> Iterator[pa.Table]:
    """Parts up to the first that is cut short or damaged. `before` is the CRC before them, in format 1 none."""
    offset = OLD_HEAD.size if before is None else HEAD.size
    while offset + PART.size <= len(buffer):
        size, crc, _ = PART.unpack_from(buffer, offset)
        offset += PART.size
        if offset + size > len(buffer):
            return
        part = buffer.slice(offset, size)
        if crc != (crc32(part) if before is None else _crc(part, before)):
            return
        before = None if before is None else crc
        yield pa.ipc.open_stream(part).read_all()
        offset += size + -size % 8


def _outcome(rows: pa.Table, refused: pa.Table, dropped: pa.Table) -> Outcome:
    batches = rows.combine_chunks().to_batches()
    batch = batches[0] if batches else pa.RecordBatch.from_pylist([], schema=rows.schema)
    return Outcome(batch, Rejections(_as_now(refused)), dropped.column("row").combine_chunks())


def _as_now(refused: pa.Table) -> pa.Table:
    """What an earlier release kept lacks the columns that came since; all of these may be null."""
    for field in REJECTION_SCHEMA:
        if field.name not in refused.schema.names:
            refused = refused.append_column(field, pa.nulls(refused.num_rows, field.type))
    return refused
