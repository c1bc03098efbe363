"""How a batch is cut into requests, and which of them have arrived: for destinations whose requests are bounded.

A parcel is a range of the batch's rows. Where it begins and ends follows from the rows and the bounds alone, and its
id from the segment and the range: so a repeat, after any crash, brings the same rows under the same id. What has
arrived is noted in the segment's memo, so that a repeat does not bring it again; between an answer and its note a
process may die, and then the id is what tells. It must never hold more than one parcel's records beside the slice that
is read.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from firehose.contracts import Memo
from firehose.model import NO_ROWS, ROW_SCHEMA, Batch, Segment

Sizes = npt.NDArray[np.int64]
NAMESPACE = uuid.UUID("6f6e0c0a-2f1e-5d0b-9a53-3c2f5f1f7a11")
NOTES = 256  # for one batch: where it has more parcels than that, not each of them is noted


@dataclass(frozen=True, slots=True)
class Bounds:
    """Of one parcel. `sizes` says of each record how many bytes it has in a request; a larger one is a parcel alone."""

    rows: int
    size_bytes: int
    sizes: Callable[[pa.BinaryArray], Sizes]


@dataclass(frozen=True, slots=True)
class Parcel:
    """Rows `first` to `end` of the batch, counted from its beginning."""

    segment: Segment
    partition: str
    first: int
    end: int
    rows: pa.Table

    @property
    def id(self) -> str:
        of = self.segment
        identity = [of.stream, of.lane, of.first, of.count, of.version, of.opened_at.isoformat(), self.partition]
        return str(uuid.uuid5(NAMESPACE, json.dumps([*identity, self.first, self.end])))

    def chunks(self) -> Iterator[pa.BinaryArray]:
        """The records."""
        yield from self.rows.column("record").chunks

    def cut(self, places: Iterable[int]) -> Iterator[Parcel]:
        """The pieces between these places of the batch; what lies outside of the parcel cuts nothing."""
        within = {place for place in places if self.first < place < self.end}
        for first, end in pairwise([self.first, *sorted(within), self.end]):
            yield Parcel(self.segment, self.partition, first, end, self.rows.slice(first - self.first, end - first))


def parcels(batch: Batch, bounds: Bounds) -> Iterator[Parcel]:
    """All of the batch, in order."""
    held: list[pa.RecordBatch] = []
    first = rows = size = 0

    def parcel() -> Parcel:
        return Parcel(batch.segment, batch.partition, first, first + rows, pa.Table.from_batches(held))

    for piece in batch.slices():
        rest = piece.select(ROW_SCHEMA.names)
        while rest.num_rows:
            sizes = np.cumsum(bounds.sizes(rest.column("record")))
            fitting = int(np.searchsorted(sizes, bounds.size_bytes - size, side="right"))
            taken = min(fitting, bounds.rows - rows, rest.num_rows) or (0 if rows else 1)
            if taken:
                held.append(rest.slice(0, taken))
                rows, size, rest = rows + taken, size + int(sizes[taken - 1]), rest.slice(taken)
            if rest.num_rows:
                yield parcel()
                held, first, rows, size = [], first + rows, 0, 0
    if rows:
        yield parcel()


@dataclass(slots=True)
class Arrived:
    """What of a batch has arrived at the far side, as its memo knows and as this attempt finds."""

    memo: Memo
    batch: Batch
    ranges: list[tuple[int, int]] = field(default_factory=list)  # each noted in one go, and none of them empty
    rows: list[pa.Int32Array] = field(default_factory=list)
    left: list[pa.Int32Array] = field(default_factory=list)
    _unnoted: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        for note in map(json.loads, self.memo.read()):
            if "arrived" in note and note.get("of") == self.batch.partition:
                self.ranges.append((note["arrived"][0], note["arrived"][1]))

    def has(self, parcel: Parcel) -> bool:
        return self.covers(parcel.first, parcel.end)

    def covers(self, first: int, end: int) -> bool:
        return any(noted[0] <= first and end <= noted[1] for noted in self.ranges)

    def pieces(self, parcel: Parcel) -> Iterator[Parcel]:
        """The parcel cut so that each piece is noted as a whole, or not at all."""
        return parcel.cut(place for noted in self.ranges for place in noted)

    def know(self, first: int, end: int) -> None:
        """These rows have, as was found out otherwise; durable. Raises `Retry`."""
        self.memo.write(json.dumps({"arrived": [first, end], "of": self.batch.partition}))
        self.ranges.append((first, end))

    def add(self, parcel: Parcel) -> None:
        """This one has."""
        self.rows += parcel.rows.column("row").chunks
        if not self.has(parcel):
            before = self._unnoted if self._unnoted and self._unnoted[1] == parcel.first else None
            self._unnoted = (before[0] if before else parcel.first, parcel.end)

    def add_some(self, rows: pa.Table) -> None:
        """These rows have, of a parcel that has not as a whole."""
        self.rows += rows.column("row").chunks

    def leave(self, rows: pa.Table) -> None:
        """Of these it is known that they have not."""
        self.left += rows.column("row").chunks

    def note(self) -> None:
        """Makes durable what there is to tell, where that is enough to be worth a note. Raises `Retry`."""
        if self._unnoted is not None:
            first, end = self._unnoted
            if self.worth_a_note(first, end):
                self.know(first, end)
                self._unnoted = None

    def worth_a_note(self, first: int, end: int) -> bool:
        return (end - first) * NOTES >= self.batch.segment.count

    def done_rows(self) -> pa.Int32Array:
        """Rows all of whose parts have arrived, as far as the batch has been looked at."""
        if not self.rows:
            return NO_ROWS
        rows = pc.unique(pa.chunked_array(self.rows, pa.int32()))
        return rows.filter(pc.invert(pc.is_in(rows, pa.chunked_array(self.left, pa.int32()).combine_chunks())))
