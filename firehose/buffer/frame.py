"""The bytes of a segment file, and nothing else: no files, no clock, no state.

A segment file is a run of frames, and once it is sealed a trailer. All integers are little-endian.

    frame    0   8  magic  "FHFRAME\\n"
             8   2  format version, 1
            10   2  columns: bit 0 arrival_ms, 1 meta, 2 refused (`record` is always there)
            12   4  count of records
            16   8  first: sequence number of the first record in its lane
            24   8  arrival of the first record, milliseconds since the epoch
            32   4  origins: size in bytes of a JSON object {source partition: [turn, cursor]}; 0: none
            36   4  pad: bytes of zeros at the end, so that the frame's size is a multiple of 8
            40   8  arrow: size in bytes of an Arrow IPC record batch message without schema; 0 where count is 0
            48   4  CRC-32 of origins and arrow
            52   4  CRC-32 of bytes 0 to 51
            56      origins, then zeros up to a multiple of 8, arrow, pad
    trailer  0   8  magic  "FHSEAL.\\n"
             8   2  format version, 1
            10   2  0
            12   4  version of the stream's definition when the segment was sealed
            16   8  first: sequence number of the segment's first record
            24   8  count: of records, lost ones included
            32   8  size in bytes of the records
            40   8  arrival of the first record, milliseconds since the epoch
            48   8  offset of the origins-only frame that sums up the segment's origins; 0: it has none
            56   4  0
            60   4  CRC-32 of bytes 0 to 59

Every CRC starts from the CRC of the lane's name: bytes of another lane, left in a block or sent as a record, are
never taken for a frame of this one. Magic, format version and the CRC of the first 56 bytes (of a trailer: its 64)
stay where they are in every later format, so that this one can refuse it by name and not take it for damage.

A stream gives out turns, one to each frame with origins, that only ever grow: segments are delivered in any order and
lanes are found in any, but of two origins of a source partition the one with the higher turn is the newer.
"""

from __future__ import annotations

import json
import re
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any

import pyarrow as pa
from isal.isal_zlib import crc32

from firehose.buffer.message import message
from firehose.contracts import Chunk
from firehose.model import INTAKE_SCHEMA, NewerFormat

FORMAT = 1
FRAME_MAGIC = b"FHFRAME\n"
MAGIC_AHEAD = re.compile(FRAME_MAGIC)  # searches a view without a copy, which bytes.find cannot
SEARCH_BYTES = 64 * 1024  # how much is searched for a frame at a time, from behind
TRAILER_MAGIC = b"FHSEAL.\n"
Origins = dict[str, tuple[int, str]]  # turn and cursor, by source partition
FRAME = struct.Struct("<8sHHIQqIIQII")
TRAILER = struct.Struct("<8sHHIQQQqQII")
OPTIONAL = ("arrival_ms", "meta", "refused")
SCHEMAS = tuple(
    pa.schema(
        [INTAKE_SCHEMA.field("record")]
        + [INTAKE_SCHEMA.field(name) for bit, name in enumerate(OPTIONAL) if columns & (1 << bit)]
    )
    for columns in range(1 << len(OPTIONAL))
)
assert FRAME.size == 56
assert TRAILER.size == 64


@dataclass(frozen=True, slots=True)
class Frame:
    """A valid frame and where it lies."""

    offset: int
    size: int
    columns: int
    count: int
    first: int
    arrival_ms: int
    origins_size: int
    arrow_size: int

    @property
    def end(self) -> int:
        return self.first + self.count


@dataclass(frozen=True, slots=True)
class Gap:
    """Bytes that are no valid frame. Valid ones follow, except where it is the `torn` tail of the file."""

    offset: int
    size: int
    torn: bool


@dataclass(frozen=True, slots=True)
class Trailer:
    """What a sealed segment says of itself."""

    version: int
    first: int
    count: int
    size_bytes: int
    opened_ms: int
    summary_at: int = 0

    @property
    def end(self) -> int:
        return self.first + self.count


def seed(lane: str) -> int:
    """What every CRC of the lane starts from."""
    return int(crc32(lane.encode()))


def columns_of(batch: pa.RecordBatch) -> int:
    return sum(1 << bit for bit, name in enumerate(OPTIONAL) if name in batch.schema.names)


def encode_frame(
    batches: Sequence[pa.RecordBatch],
    first: int,
    arrival_ms: int,
    origins: Mapping[str, tuple[int, str]],
    crc_seed: int,
) -> list[Chunk]:
    """The frame's bytes, in pieces to be written one after the other. The batches have one schema, whose columns are
    in the order of `INTAKE_SCHEMA`, and rows; none need be there.
    """
    said = json.dumps(origins, separators=(",", ":")).encode() if origins else b""
    padded = said + bytes(-len(said) % 8)
    arrow = message(batches) if batches else []
    crc = reduce(lambda crc, piece: crc32(piece, crc), arrow, crc32(padded, crc_seed))
    count = sum(batch.num_rows for batch in batches)
    columns = columns_of(batches[0]) if batches else 0
    arrow_size = sum(memoryview(piece).nbytes for piece in arrow)
    head = FRAME.pack(FRAME_MAGIC, FORMAT, columns, count, first, arrival_ms, len(said), 0, arrow_size, crc, 0)[:-4]
    return [head + crc32(head, crc_seed).to_bytes(4, "little") + padded, *arrow]


def encode_trailer(trailer: Trailer, crc_seed: int) -> bytes:
    body = TRAILER.pack(
        TRAILER_MAGIC,
        FORMAT,
        0,
        trailer.version,
        trailer.first,
        trailer.count,
        trailer.size_bytes,
        trailer.opened_ms,
        trailer.summary_at,
        0,
        0,
    )[:-4]
    return body + crc32(body, crc_seed).to_bytes(4, "little")


def read_trailer(buffer: pa.Buffer | bytes, crc_seed: int, first: int) -> Trailer | None:
    """The trailer that ends the buffer; None where there is no valid one of the segment that begins with record
    `first`. Raises `NewerFormat`.
    """
    data = memoryview(buffer)[-TRAILER.size :]
    if len(data) < TRAILER.size or data[:8] != TRAILER_MAGIC:
        return None
    _, version_of_format, _, version, begin, count, size, opened, summary, _, crc = TRAILER.unpack(data)
    if crc32(data[:60], crc_seed) != crc:
        return None
    if version_of_format > FORMAT:
        raise NewerFormat("a segment", version_of_format, FORMAT)
    return Trailer(version, begin, count, size, opened, summary) if begin == first else None


def read_frame(buffer: pa.Buffer, offset: int, crc_seed: int) -> Frame | None:
    """The frame at `offset`, its checksums verified; None where there is no valid one. Raises `NewerFormat`."""
    data = memoryview(buffer)
    if len(data) - offset < FRAME.size or data[offset : offset + 8] != FRAME_MAGIC:
        return None
    fields = FRAME.unpack_from(data, offset)
    _, version, columns, count, first, arrival_ms, origins, pad, arrow, crc, head_crc = fields
    if crc32(data[offset : offset + 52], crc_seed) != head_crc:
        return None
    if version > FORMAT:
        raise NewerFormat("a frame", version, FORMAT)
    padded = origins + -origins % 8
    size = FRAME.size + padded + arrow + pad
    body = offset + FRAME.size
    if offset + size > len(data) or crc32(data[body : body + padded + arrow], crc_seed) != crc:
        return None
    return Frame(offset, size, columns, count, first, arrival_ms, origins, arrow)


def read_origins(buffer: pa.Buffer, frame: Frame) -> Origins:
    if not frame.origins_size:
        return {}
    start = frame.offset + FRAME.size
    return newest(json.loads(bytes(memoryview(buffer)[start : start + frame.origins_size])))


def newest(*many: Mapping[str, Sequence[Any]]) -> Origins:
    """All of them together, of each source partition the one with the highest turn."""
    found: Origins = {}
    for origins in many:
        add_newest(found, origins)
    return found


def add_newest(found: Origins, more: Mapping[str, Sequence[Any]]) -> None:
    """Adds some to those found, which may be many more: only the source partitions of what is added are looked at."""
    for partition, (turn, cursor) in more.items():
        if partition not in found or turn > found[partition][0]:
            found[partition] = (turn, cursor)


def read_records(buffer: pa.Buffer, frame: Frame) -> pa.RecordBatch:
    """The frame's records, pointing into the buffer: nothing is copied."""
    schema = SCHEMAS[frame.columns]
    if not frame.count:
        return pa.RecordBatch.from_pylist([], schema=schema)
    start = frame.offset + FRAME.size + frame.origins_size + -frame.origins_size % 8
    return pa.ipc.read_record_batch(buffer.slice(start, frame.arrow_size), schema)


def scan(
    buffer: pa.Buffer, crc_seed: int, first: int, last: int | None = None, offset: int = 0
) -> Iterator[Frame | Gap]:
    """Every valid frame in order, and the gaps between them; a valid trailer at the end is passed over.

    `first` is the number of the file's first record; `last` the one behind its last, where the lane knows that and a
    trailer does not say it. A frame whose records came already, or are not the segment's, is a gap and not a frame.
    It begins anywhere in the file where `offset` is that of a frame, and `first` its number.
    """
    trailer = read_trailer(buffer, crc_seed, first)
    end = len(buffer) - (TRAILER.size if trailer else 0)
    last = trailer.end if trailer else last
    while offset < end:
        frame = read_frame(buffer, offset, crc_seed)
        if frame is None or offset + frame.size > end:
            following = _next_frame(buffer, offset + 1, end, crc_seed)
            yield Gap(offset, following - offset, torn=following == end == len(buffer))
            offset = following
            continue
        if frame.first < first or (last is not None and frame.end > last):
            yield Gap(offset, frame.size, torn=False)
        else:
            yield frame
            first = frame.end
        offset += frame.size


def _next_frame(buffer: pa.Buffer, offset: int, end: int, crc_seed: int) -> int:
    """Offset of the first valid frame at or behind `offset`; `end` where there is none."""
    data = memoryview(buffer)
    while found := MAGIC_AHEAD.search(data, offset, end):
        if read_frame(buffer, found.start(), crc_seed) is not None:
            return found.start()
        offset = found.start() + 1
    return end


def last_frame(buffer: pa.Buffer, crc_seed: int) -> Frame | None:
    """The last valid frame, searched for from behind: whatever the file's size, little of it is looked at."""
    data, upto = memoryview(buffer), len(buffer)
    while upto > 0:
        start = max(0, upto - SEARCH_BYTES)
        for found in reversed([*MAGIC_AHEAD.finditer(data, start, upto + len(FRAME_MAGIC) - 1)]):
            frame = read_frame(buffer, found.start(), crc_seed)
            if frame is not None:
                return frame
        upto = start
    return None
