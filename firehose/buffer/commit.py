"""One commit: the appends that wait for it, the group that they make, and what the disk made of that."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

import pyarrow as pa

from firehose.buffer.lane import Group, Lane
from firehose.contracts import Unsure
from firehose.model import Origin, Position, Records
from firehose.rows import pieces


@dataclass(slots=True)
class Waiting:
    """An append that waits for its commit."""

    records: Records
    size_bytes: int
    origin: Origin | None
    done: asyncio.Future[Position]


@dataclass(frozen=True, slots=True)
class Written:
    """A group that is durable."""

    first: int
    file_bytes: int  # of the open file, up to its end
    records: list[pa.RecordBatch]  # with the columns of their frame


def group_of(waiting: list[Waiting], arrival_ms: int, turn: int) -> Group:
    return Group(
        [piece for one in waiting for piece in pieces(one.records)],
        {one.origin.partition: (turn, one.origin.cursor) for one in waiting if one.origin},
        arrival_ms,
        sum(one.records.num_rows for one in waiting),
        sum(one.size_bytes for one in waiting),
    )


def write(lane: Lane, new: bool, group: Group) -> Written:
    """The blocking part of a commit. Raises OSError where the records may not be durable."""
    if new:
        lane.create()
    first, records = lane.append(group)
    return Written(first, lane.file_bytes, records)


def fail(waiting: list[Waiting], error: Exception) -> None:
    for one in waiting:
        if not one.done.done():
            one.done.set_exception(Unsure(f"the disk failed: {error}"))
