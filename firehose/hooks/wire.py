"""What passes between the service and a worker process: messages of a kind and a few parts, over a socket.

    0  1  kind
    1  3  count of parts
    4  8  size in bytes of each part
    .     the parts

To the worker: LOAD (JSON: maker, options, bounds), then again and again ROWS (an Arrow IPC stream). From it: READY,
OUTCOME (three IPC streams: rows, refused, dropped), FAILED (JSON: code, message, at, final), or the same as SPOILT,
where the process ends with it. Both ends are ours and of one release; the worker's is believed no further than its
sizes allow.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any, TypeAlias

import msgspec
import pyarrow as pa

from firehose.hooks.program import Failed
from firehose.model import Outcome, Rejections

LOAD, ROWS, READY, OUTCOME, FAILED, SPOILT = range(1, 7)
HEAD = struct.Struct("<I")
SIZE = struct.Struct("<Q")
MARK = struct.Struct("<q")  # in the page of shared memory: the index of the row that is being worked on
NOWHERE = -1
MOST_PARTS = 3
MOST_BYTES = 64 * 1024 * 1024  # of one message: a hook that makes more of a payload has failed

Part: TypeAlias = bytes | pa.Buffer


def message(kind: int, *parts: Part) -> list[Part]:
    """The message as buffers, to be sent one after the other."""
    sizes = b"".join(SIZE.pack(len(memoryview(part))) for part in parts)
    return [HEAD.pack(kind | len(parts) << 8) + sizes, *parts]


def head(data: bytes) -> tuple[int, int]:
    """Kind and count of parts."""
    (both,) = HEAD.unpack(data)
    kind, count = both & 0xFF, both >> 8
    if count > MOST_PARTS:
        raise ValueError(f"a message of {count} parts")
    return kind, count


def sizes(data: bytes) -> list[int]:
    found = [size for (size,) in SIZE.iter_unpack(data)]
    if sum(found) > MOST_BYTES:
        raise ValueError(f"it answered {sum(found)} bytes, more than {MOST_BYTES}")
    return found


def of_rows(rows: pa.RecordBatch) -> list[Part]:
    return message(ROWS, _stream(pa.Table.from_batches([rows])))


def rows(part: pa.Buffer) -> pa.RecordBatch:
    return _one_batch(pa.ipc.open_stream(part).read_all())


def of_outcome(outcome: Outcome) -> list[Part]:
    dropped = pa.table({"row": outcome.dropped})
    tables = (pa.Table.from_batches([outcome.rows]), outcome.refused.table, dropped)
    return message(OUTCOME, *(_stream(table) for table in tables))


def outcome(parts: Sequence[pa.Buffer]) -> Outcome:
    made, refused, dropped = (pa.ipc.open_stream(part).read_all() for part in parts)
    return Outcome(_one_batch(made), Rejections(refused), dropped.column("row").combine_chunks())


def of_failure(failed: Failed, *, spoilt: bool = False) -> list[Part]:
    said = {"code": failed.code, "message": failed.message, "at": failed.at, "final": failed.final}
    return message(SPOILT if spoilt else FAILED, msgspec.json.encode(said))


def failure(part: pa.Buffer) -> Failed:
    said: dict[str, Any] = msgspec.json.decode(part.to_pybytes())
    return Failed(said["code"], said["message"], said["at"], final=said["final"])


def _stream(table: pa.Table) -> pa.Buffer:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as stream:
        stream.write_table(table)
    return sink.getvalue()


def _one_batch(table: pa.Table) -> pa.RecordBatch:
    batches = table.combine_chunks().to_batches()
    return batches[0] if batches else pa.RecordBatch.from_pylist([], schema=table.schema)
