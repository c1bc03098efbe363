"""What passes between the service and a worker process: messages of a kind and a few parts.

    0  1  kind
    1  3  count of parts
    4  8  size in bytes of each part

goes over a socket. The parts lie one after the other in memory that both processes share, which costs half of what the
socket would take for them. Whoever is told of them copies them first: the next message comes to the same place.

To the worker: LOAD (JSON: maker, options, bounds), then again and again ROWS (an Arrow IPC stream). From it: READY,
OUTCOME (three IPC streams: rows, refused, dropped), FAILED (JSON: code, message, final), or the same as SPOILT, where
the process ends with it. Both ends are ours and of one release, but the user's code may write to any descriptor that it
finds: what comes from a worker is looked at before it is believed, and whatever is no message raises ValueError.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import TypeAlias

import msgspec
import pyarrow as pa

from firehose.hooks.program import Failed
from firehose.model import REJECTION_SCHEMA, ROW_SCHEMA, Outcome, Rejections

LOAD, ROWS, READY, OUTCOME, FAILED, SPOILT = range(1, 7)
PARTS = {LOAD: 1, ROWS: 1, READY: 0, OUTCOME: 3, FAILED: 1, SPOILT: 1}
HEAD = struct.Struct("<I")
SIZE = struct.Struct("<Q")
MARK = struct.Struct("<q")  # at the begin of the shared memory: the index of the row that is being worked on
NOWHERE = -1  # the user's code has the rows, and nobody knows at which of them it is
UNTOUCHED = -2  # it has not got them yet
DROPPED_SCHEMA = pa.schema([pa.field("row", pa.int32())])
MOST_BYTES = 64 * 1024 * 1024  # of one message: a hook that makes more of a payload has failed
PARTS_AT = 4096
SHARED_BYTES = PARTS_AT + MOST_BYTES  # of address space: only what is written takes memory
KEPT_BYTES = 8 * 1024 * 1024  # of shared memory, that stay with an idle worker

Part: TypeAlias = bytes | pa.Buffer


def message(kind: int, *parts: Part) -> list[Part]:
    """The message as buffers: what goes over the socket, and the parts. Raises ValueError where these are too large."""
    counts = [len(memoryview(part)) for part in parts]
    _bounded(counts)
    return [HEAD.pack(kind | len(parts) << 8) + b"".join(map(SIZE.pack, counts)), *parts]


def put(shared: memoryview, parts: Sequence[Part]) -> None:
    """Lays the parts of a message down, to be told of then."""
    at = PARTS_AT
    for part in parts:
        with memoryview(part).cast("B") as content:
            shared[at : at + len(content)] = content
            at += len(content)


def taken(shared: memoryview, sizes: Sequence[int]) -> list[pa.Buffer]:
    """Copies of the parts of a message that one has been told of."""
    at, parts = PARTS_AT, []
    for size in sizes:
        part = pa.allocate_buffer(size)
        with memoryview(part).cast("B") as content:
            content[:] = shared[at : at + size]
        parts.append(part)
        at += size
    return parts


def head(data: bytes) -> tuple[int, int]:
    """Kind and count of parts."""
    (both,) = HEAD.unpack(data)
    kind, count = both & 0xFF, both >> 8
    if PARTS.get(kind) != count:
        raise ValueError(f"no message begins with {data.hex()}")
    return kind, count


def sizes(data: bytes) -> list[int]:
    found = [size for (size,) in SIZE.iter_unpack(data)]
    _bounded(found)
    return found


def _bounded(sizes: Sequence[int]) -> None:
    if sum(sizes) > MOST_BYTES:
        raise ValueError(f"a message of {sum(sizes)} bytes, more than {MOST_BYTES}")


def of_rows(rows: pa.RecordBatch) -> list[Part]:
    return message(ROWS, _stream(pa.Table.from_batches([rows])))


def rows(part: pa.Buffer) -> pa.RecordBatch:
    return _one_batch(_table(part))


def of_outcome(outcome: Outcome) -> list[Part]:
    dropped = pa.table([outcome.dropped], schema=DROPPED_SCHEMA)
    tables = (pa.Table.from_batches([outcome.rows]), outcome.refused.table, dropped)
    return message(OUTCOME, *(_stream(table) for table in tables))


def outcome(parts: Sequence[pa.Buffer]) -> Outcome:
    made, refused, dropped = (_table(part) for part in parts)
    if pa.schema(list(made.schema)[: len(ROW_SCHEMA)]) != ROW_SCHEMA:
        raise ValueError("its rows have other columns than were agreed on")
    if refused.schema != REJECTION_SCHEMA or dropped.schema != DROPPED_SCHEMA:
        raise ValueError("its refused or dropped rows have other columns than were agreed on")
    return Outcome(_one_batch(made), Rejections(refused), dropped.column("row").combine_chunks())


class Said(msgspec.Struct):
    """A failure, as it travels."""

    code: str
    message: str
    final: bool


def of_failure(failed: Failed, *, spoilt: bool = False) -> list[Part]:
    said = Said(failed.code, failed.message, failed.final)
    return message(SPOILT if spoilt else FAILED, msgspec.json.encode(said))


def failure(part: pa.Buffer, at: int | None) -> Failed:
    try:
        said = msgspec.json.decode(part.to_pybytes(), type=Said)
    except msgspec.MsgspecError as error:
        raise ValueError(f"its failure cannot be read: {error}") from error
    return Failed(said.code, said.message, at, final=said.final)


def _table(part: pa.Buffer) -> pa.Table:
    try:
        table = pa.ipc.open_stream(part).read_all()
        table.validate(full=True)
    except (OSError, pa.ArrowException) as error:  # Arrow's own I/O errors are OSErrors
        raise ValueError(f"no Arrow stream: {error}") from error
    return table


def _stream(table: pa.Table) -> pa.Buffer:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as stream:
        stream.write_table(table)
    return sink.getvalue()


def _one_batch(table: pa.Table) -> pa.RecordBatch:
    batches = table.combine_chunks().to_batches()
    return batches[0] if batches else pa.RecordBatch.from_pylist([], schema=table.schema)
