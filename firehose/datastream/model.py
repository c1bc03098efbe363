"""The values of a data stream: what is known of it beside its records. Frozen, free of I/O.

A shard's records are numbered by counters: each is above the one before it, for all time, also across restarts; not
every counter has a record. A position in a shard is the counter of the first record that may come next.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import pyarrow as pa

from firehose.datastream import sequence
from firehose.model import Records
from firehose.rows import values_bytes

Status = Literal["CREATING", "ACTIVE", "UPDATING", "DELETING"]
Mode = Literal["PROVISIONED", "ON_DEMAND"]
GENERATION_BITS = 40  # of a counter: the number of a record in its lane; above them stands the generation
SHARD_SCHEMA = pa.schema(  # a shard's records on disk: `meta` is the partition key itself
    [
        pa.field("record", pa.binary(), nullable=False),
        pa.field("arrival_ms", pa.int64()),
        pa.field("meta", pa.string()),
    ]
)


@dataclass(frozen=True, slots=True)
class Shard:
    """One shard of a stream: open while `closed_ms` is None. A closed one stays until its records have expired."""

    number: int  # running number in its stream, never used again
    start: int  # hash keys, both ends inclusive
    end: int
    created_s: int  # as in its sequence numbers: seconds since the epoch, above its parents' close
    opened_ms: int  # since when it takes records
    parents: tuple[int, ...] = ()  # of a split: one; of a merge: the one merged, then its neighbour
    closed_ms: int | None = None

    @property
    def id(self) -> str:
        return sequence.shard_id(self.number)

    @property
    def open(self) -> bool:
        return self.closed_ms is None

    @property
    def base(self) -> int:
        return sequence.base(self.created_s, self.number)

    @property
    def starting_number(self) -> str:
        return sequence.number(self.base, 0, self.created_s)

    @property
    def ending_number(self) -> str | None:
        """None while it is open. Never before the shard's creation, whatever the clock said at its close."""
        if self.closed_ms is None:
            return None
        return sequence.number(self.base, sequence.CLOSED_COUNTER, max(self.created_s, self.closed_ms // 1000))


@dataclass(frozen=True, slots=True)
class Consumer:
    """A registered consumer, of enhanced fan-out."""

    name: str
    created_ms: int
    status: Literal["CREATING", "ACTIVE", "DELETING"] = "CREATING"
    tags: Mapping[str, str] = field(default_factory=dict)
    policy: str | None = None


@dataclass(frozen=True, slots=True)
class Definition:
    """A data stream as it stands: made durable as a whole at each change."""

    name: str
    id: str  # drawn once, unique for all time: a stream deleted and created again has another
    created_ms: int
    status: Status
    mode: Mode
    shards: tuple[Shard, ...] = ()  # by number; expired ones are gone
    next_shard: int = 0
    retention_hours: int = 24
    max_record_kib: int = 1024
    limits: Literal["aws", "none"] = "none"
    declared: bool = False  # in the configuration file: the API may not delete it
    key_id: str | None = None  # of encryption; None: off
    distribution: Literal["USER_PARTITION_KEY", "AUTO"] = "USER_PARTITION_KEY"
    warm_mib_per_second: int = 0
    metrics: tuple[str, ...] = ()  # shard-level ones that were asked for
    tags: Mapping[str, str] = field(default_factory=dict)
    policy: str | None = None
    consumers: tuple[Consumer, ...] = ()

    def children(self, shard: int) -> tuple[Shard, ...]:
        return tuple(one for one in self.shards if shard in one.parents)


@dataclass(frozen=True, slots=True)
class Placed:
    """Where an append landed: the counter of its first record, and when all of them arrived. What a producer is told
    of a record and what a reader is told later are the same number, which holds both.
    """

    first: int
    arrival_ms: int


@dataclass(frozen=True, slots=True)
class Run:
    """Consecutive records of a shard as they lie on disk, nothing copied but what lies there in small bits.

    `pieces` are record batches of `SHARD_SCHEMA`, each with the counter of its first row; within a piece counters rise
    by one. `next` is the position behind them. `waiting_ms` is the arrival of the first record behind `next`; None at
    the tip.
    """

    pieces: tuple[tuple[int, pa.RecordBatch], ...]
    next: int
    waiting_ms: int | None = None

    @property
    def count(self) -> int:
        return sum(piece.num_rows for _, piece in self.pieces)

    @property
    def last_ms(self) -> int | None:
        """When the last of them arrived; None without one."""
        last: int | None = self.pieces[-1][1].column("arrival_ms")[-1].as_py() if self.pieces else None
        return last


def bytes_of(records: Records) -> int:
    """Of the records and their keys."""
    return sum(values_bytes(records.column(name)) for name in ("record", "meta"))
