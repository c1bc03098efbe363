"""The values that the two halves exchange. Frozen, free of I/O, importing nothing of ours.

Records travel as Arrow record batches. The columns have fixed names and types:

| column       | type   | where                 | meaning                                                          |
|--------------|--------|-----------------------|------------------------------------------------------------------|
| `record`     | binary | always                | the user's bytes                                                 |
| `arrival_ms` | int64  | intake: optional      | milliseconds since the epoch; without it the frame's arrival time |
| `meta`       | string | optional              | JSON: partition key, hash key, source                            |
| `refused`    | string | optional              | why intake refused this record: it goes to the error output      |
| `row`        | int32  | delivery: always      | ordinal of the record in its segment                             |
| `part`       | int32  | delivery: always      | ordinal in that row, once a transform split it                   |
| `place`      | int64  | parting               | where in the segment's file the record lies                      |
| `size_bytes` | int32  | parting               | of that record, where the rows go without it                     |
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from datetime import datetime
from typing import Any

import pyarrow as pa

INTAKE_SCHEMA = pa.schema(
    [
        pa.field("record", pa.binary(), nullable=False),
        pa.field("arrival_ms", pa.int64()),
        pa.field("meta", pa.string()),
        pa.field("refused", pa.string()),
    ]
)
Records = pa.RecordBatch | pa.Table  # the latter where they lie in several pieces
ROW_SCHEMA = pa.schema(
    [
        pa.field("record", pa.binary(), nullable=False),
        pa.field("row", pa.int32(), nullable=False),
        pa.field("part", pa.int32(), nullable=False),
        pa.field("arrival_ms", pa.int64(), nullable=False),
    ]
)
PLACE, SIZE = "place", "size_bytes"
REJECTION_SCHEMA = pa.schema(
    [
        pa.field("row", pa.int32(), nullable=False),
        pa.field("record", pa.binary(), nullable=False),
        pa.field("arrival_ms", pa.int64(), nullable=False),
        pa.field("error_type", pa.string(), nullable=False),
        pa.field("code", pa.string(), nullable=False),
        pa.field("message", pa.string(), nullable=False),
        pa.field("attempts", pa.int32(), nullable=False),
        pa.field("function", pa.string()),  # the ARN or the name of the user's code that it met
        pa.field("extra", pa.string()),  # a JSON object: further members of the document, as AWS has them for its type
        pa.field("part", pa.int32()),  # of the row that was refused; null where it was kept before parts were
    ]
)
NO_REJECTED = pa.Table.from_batches(
    [], REJECTION_SCHEMA
)  # one for all: each slice has a set of rejections, nearly all are empty


class NewerFormat(Exception):
    """Something on disk was written by a later release, whose format this one must not guess at."""

    def __init__(self, what: str, found: int, known: int) -> None:
        super().__init__(
            f"{what} has format version {found}, this release reads up to {known}: "
            f"run a release that knows format {found}, or point service.data_dir elsewhere"
        )


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a run of records came from: a source partition and the cursor just behind the run."""

    partition: str
    cursor: str


@dataclass(frozen=True, slots=True)
class Position:
    """Where an append landed: `count` records of `lane`, the first of them numbered `first`."""

    lane: str
    first: int
    count: int
    arrival_ms: int = 0  # of the frame that they are in


@dataclass(frozen=True, slots=True, order=True)
class Segment:
    """Identity of a sealed run of records. Every deterministic name derives from it."""

    stream: str
    lane: str
    first: int
    count: int
    size_bytes: int  # of the records, before compression
    opened_at: datetime  # arrival of its oldest record, UTC: the instant of object names
    version: int  # of the stream's definition when it was sealed

    def __post_init__(self) -> None:
        assert self.count > 0, "a sealed segment holds at least one record"
        assert self.first >= 0
        assert self.opened_at.tzinfo is not None, "instants carry their zone"

    @property
    def end(self) -> int:
        """Sequence number just behind the last record."""
        return self.first + self.count

    @property
    def opened_ms(self) -> int:
        """`opened_at` as milliseconds since the epoch. Rounded: as a fraction it may be the least bit below them."""
        return round(self.opened_at.timestamp() * 1000)

    @property
    def key(self) -> SegmentKey:
        return (self.stream, self.lane, self.first)

    def __str__(self) -> str:
        return f"{self.stream}/{self.lane}/{self.first:020d}"


SegmentKey = tuple[str, str, int]


@dataclass(frozen=True, slots=True, order=True)
class Range:
    """A run of a lane's records: from sequence number `first` to just before `end`."""

    lane: str
    first: int
    end: int


@dataclass(frozen=True, slots=True)
class Batch:
    """A segment (or one partition's cut of it) read as Arrow, slice by slice.

    `slices()` may be called again and again: each call yields the same rows, cut at the same places. A slice
    has the columns of `ROW_SCHEMA`, then `meta` and `refused` where a row of it has one. `ranges` are what its records
    were taken from; of a cut, they hold others' records too. `numbers` tells for each `row` the sequence number of its
    record, where that is not as many behind the segment's first.
    """

    segment: Segment
    read: Callable[[], Iterator[pa.RecordBatch]]
    partition: str = ""
    common: bool = False  # of error documents: every destination of the stream sets down these very ones
    ranges: tuple[Range, ...] = ()  # left out: the segment's own
    numbers: Callable[[], Sequence[int]] | None = None

    def __post_init__(self) -> None:
        if not self.ranges:
            own = Range(self.segment.lane, self.segment.first, self.segment.end)
            object.__setattr__(self, "ranges", (own,))

    def slices(self) -> Iterator[pa.RecordBatch]:
        return self.read()


@dataclass(frozen=True, slots=True)
class Rejections:
    """Rows that will never be delivered, as a table of `REJECTION_SCHEMA`."""

    table: pa.Table = field(default_factory=lambda: NO_REJECTED)

    def __len__(self) -> int:
        return int(self.table.num_rows)

    @staticmethod
    def of(
        rows: pa.RecordBatch | pa.Table,
        error_type: str,
        code: str,
        message: str,
        attempts: int = 1,
        function: str | None = None,
    ) -> Rejections:
        """All of `rows` refused for one and the same reason."""
        count = rows.num_rows
        table = pa.table(
            [
                rows.column("row"),
                rows.column("record"),
                rows.column("arrival_ms"),
                *(pa.repeat(pa.scalar(text, pa.string()), count) for text in (error_type, code, message)),
                pa.repeat(pa.scalar(attempts, pa.int32()), count),
                pa.repeat(pa.scalar(function, pa.string()), count),
                pa.nulls(count, pa.string()),
                rows.column("part"),
            ],
            schema=REJECTION_SCHEMA,
        )
        return Rejections(table)

    def with_extra(self, extra: pa.StringArray) -> Rejections:
        """The same with further members of their documents: a JSON object for each row."""
        place = REJECTION_SCHEMA.get_field_index("extra")
        return Rejections(self.table.set_column(place, REJECTION_SCHEMA.field(place), extra))

    def __add__(self, other: Rejections) -> Rejections:
        return Rejections(pa.concat_tables([self.table, other.table]))


NO_ROWS: pa.Int32Array = pa.nulls(0, pa.int32())


@dataclass(frozen=True, slots=True)
class Outcome:
    """What transforms made of one slice. The three parts name every input row exactly once (by `row`)."""

    rows: pa.RecordBatch
    refused: Rejections = field(default_factory=Rejections)
    dropped: pa.Int32Array = field(default_factory=lambda: NO_ROWS)


@dataclass(frozen=True, slots=True)
class Stored:
    """A file or an object as a listing tells of it. `name` begins below what was listed, with '/' between folders."""

    name: str
    size_bytes: int
    written_ms: int


@dataclass(frozen=True, slots=True)
class Receipt:
    """A delivery that succeeded: the objects written (names, ids), their bytes, and rows refused one by one."""

    objects: tuple[str, ...] = ()
    sent_bytes: int = 0
    refused: Rejections = field(default_factory=Rejections)


@dataclass(frozen=True, slots=True)
class Totals:
    """How the records of a segment (or of all of a stream's) ended, for one destination."""

    delivered: int = 0
    dropped: int = 0  # by the user's own transform, or with a destination that the user took out
    filtered: int = 0  # by the destination's own filter
    dead: int = 0  # to the error output
    damaged: int = 0  # lost to a damaged file that was kept for inspection
    split: int = 0  # rows beyond the first of a record
    sent_bytes: int = 0
    objects: int = 0

    @property
    def records(self) -> int:
        """Accepted records that these totals account for."""
        return self.delivered + self.dropped + self.filtered + self.dead + self.damaged - self.split

    def __add__(self, other: Totals) -> Totals:
        return Totals(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(Totals)))

    def to_json(self) -> dict[str, int]:
        return {f.name: value for f in fields(Totals) if (value := getattr(self, f.name))}

    @staticmethod
    def from_json(values: Mapping[str, Any]) -> Totals:
        return Totals(**{f.name: int(values.get(f.name, 0)) for f in fields(Totals)})
