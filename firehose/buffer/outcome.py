"""The durable outcome of transforms that cannot be repeated: one file beside the segment, there when it is whole.

 0   8  magic "FHOUT..\\n"
 8   4  format version: 4 where rows go without their records (`places`), else 3
12   4  CRC-32 of bytes 0 to 11
16      for each outcome three parts: rows, refused, dropped (a table of one int32 column `row`), each
            0   8  size in bytes of an Arrow IPC stream
            8   4  CRC-32 of its size and the stream
           12   4  0
           16      the stream, then zeros up to a multiple of 8
        and at the end one more of these, whose size is 2^64 - 1, with no stream

The first CRC starts from that of the lane's name and the file's, each other one from the one before it: no part of
another segment's outcome, none that is missing, there twice or in another place is taken for one of this. Format 2,
which is still read, has no end mark but the count of outcomes at 12, the CRC at 16 and 0 at 20; format 1 has the count
alone, no such starts, and leaves out the sizes.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

import pyarrow as pa
from isal.isal_zlib import crc32

from firehose.contracts import Disk
from firehose.model import REJECTION_SCHEMA, NewerFormat, Outcome, Rejections
from firehose.rows import is_bare

FORMAT, BARE_FORMAT = 3, 4
MAGIC = b"FHOUT..\n"
HEAD = struct.Struct("<8sI")
WORD = struct.Struct("<I")
PART = struct.Struct("<QII")
END = 2**64 - 1  # the size of the end mark
CONTENT_AT = {1: 16, 2: 24, 3: 16, 4: 16}
Part = tuple[pa.Buffer, pa.Buffer, pa.Buffer]  # of one outcome: rows, refused, dropped


class Keeping:
    """Outcomes on their way to becoming durable under `path`, one by one. `close` without `finish` leaves none."""

    def __init__(self, disk: Disk, path: str) -> None:
        self._disk = disk
        self._path = path
        self._beside = f"{path}.new"
        if disk.exists(self._beside):
            disk.remove(self._beside)
        self._writer = disk.create(self._beside)
        self._crc: int | None = None

    def add(self, outcome: Outcome) -> None:
        """All of a file have their records, or none has."""
        if self._crc is None:
            self._crc = self._begun(BARE_FORMAT if is_bare(outcome.rows) else FORMAT)
        for part in _parts(outcome):
            self._crc = _crc(part.size, part, self._crc)
            self._writer.write(PART.pack(part.size, self._crc, 0), part, bytes(-part.size % 8))

    def finish(self) -> None:
        if self._crc is None:
            self._crc = self._begun(FORMAT)
        self._writer.write(PART.pack(END, _crc(END, b"", self._crc), 0))
        self._writer.sync()
        self._writer.close()
        self._disk.rename(self._beside, self._path)
        self._disk.sync_folder(self._path.rpartition("/")[0])

    def close(self) -> None:
        self._writer.close()

    def _begun(self, version: int) -> int:
        head = HEAD.pack(MAGIC, version)
        crc = int(crc32(head, _seed(self._path)))
        self._writer.write(head + WORD.pack(crc))
        return crc


def read(disk: Disk, path: str) -> list[Outcome] | None:
    """The outcomes, their rows without their records where they were kept so; None where there is no such file or it
    is damaged. Raises `NewerFormat`.
    """
    if not disk.exists(path):
        return None
    buffer = disk.view(path).buffer
    if len(buffer) < CONTENT_AT[FORMAT]:
        return None
    magic, version = HEAD.unpack_from(buffer)
    crc_at = CONTENT_AT[2] - 8 if version == 2 else HEAD.size
    if magic != MAGIC or len(buffer) < crc_at + WORD.size:
        return None
    (crc,) = WORD.unpack_from(buffer, crc_at)
    if version != 1 and crc != crc32(buffer.slice(0, crc_at), _seed(path)):
        return None
    if version > BARE_FORMAT:
        raise NewerFormat(path, version, BARE_FORMAT)
    parts = list(_read_parts(buffer, CONTENT_AT[version], None if version == 1 else crc))
    if version >= FORMAT:
        whole = bool(parts) and parts.pop() is None
    else:
        whole = len(parts) == 3 * WORD.unpack_from(buffer, HEAD.size)[0]
    return [_outcome(*parts[at : at + 3]) for at in range(0, len(parts), 3)] if whole else None


def parts(buffer: pa.Buffer) -> Iterator[Part]:
    """The outcomes of a file that `read` has found good: no checksum is looked at again."""
    offset, found = CONTENT_AT[FORMAT], list[pa.Buffer]()
    while (size := PART.unpack_from(buffer, offset)[0]) != END:
        found.append(buffer.slice(offset + PART.size, size))
        offset += PART.size + size + -size % 8
        if len(found) == 3:
            yield found[0], found[1], found[2]
            found = []


def rows(part: Part) -> pa.RecordBatch:
    """The rows to deliver: a view, not one byte of which is read before it is used."""
    stream = pa.ipc.open_stream(part[0])
    try:
        return stream.read_next_batch()  # they are one
    except StopIteration:
        return pa.RecordBatch.from_pylist([], schema=stream.schema)


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


def _crc(size: int, part: pa.Buffer | bytes, before: int) -> int:
    return int(crc32(part, crc32(struct.pack("<Q", size), before)))


def _read_parts(buffer: pa.Buffer, offset: int, before: int | None) -> Iterator[pa.Table | None]:
    """Parts up to the first that is cut short or damaged; None for the end mark. `before` is the CRC before them, in
    format 1 none.
    """
    while offset + PART.size <= len(buffer):
        size, crc, _ = PART.unpack_from(buffer, offset)
        offset += PART.size
        if size == END:
            if before is not None and crc == _crc(END, b"", before):
                yield None
            return
        if offset + size > len(buffer):
            return
        part = buffer.slice(offset, size)
        if crc != (crc32(part) if before is None else _crc(size, part, before)):
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
