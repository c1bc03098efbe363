"""Groups: all rows of one segment's durable outcome that have one partition; and cuts, which several groups make.

A group is never divided and belongs to one cut for all time. Rows lie sorted by partition within each outcome of the
file (`delivery.parting` sees to that), so a group is one range of each: it is found by two binary searches, and of
the mapped file no page beside its own is touched.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from firehose.buffer import layout, outcome, pieces
from firehose.contracts import Disk, Retry
from firehose.model import SIZE, Segment, SegmentKey
from firehose.partitions import COLUMN
from firehose.rows import is_bare
from firehose.runtime import utc

Codes = np.ndarray[tuple[int], np.dtype[np.int32]]
Counts = np.ndarray[tuple[int], np.dtype[np.int64]]
MARK = "#"  # in the lane of a cut: no lane on disk has one


@dataclass(frozen=True, slots=True)
class Group:
    """One partition's rows of one segment."""

    partition: str
    records: int  # that have a row in it
    accounted: int  # of these, the ones that no group before it has a row of
    size_bytes: int  # of the rows' records
    oldest_ms: int  # arrival of the oldest, no earlier than the segment's own
    sums: bytes  # of its pieces, in order


@dataclass(frozen=True, slots=True)
class Cut:
    """Groups of one partition that are delivered together."""

    segment: Segment
    partition: str
    of: Mapping[SegmentKey, int]  # the segments of its groups, in order, and how many records each group accounts for

    @property
    def accounted(self) -> int:
        return sum(self.of.values())

    @property
    def hash(self) -> str:
        return hash_of(self.partition, self.segment.version)

    def entry(self) -> dict[str, Any]:
        """As the ledger keeps it, beside key and destination."""
        of: dict[str, list[tuple[int, int]]] = {}
        for (_, lane, first), accounted in self.of.items():
            of.setdefault(lane, []).append((first, accounted))
        segment = self.segment
        numbers = {"n": segment.count, "b": segment.size_bytes, "at": segment.opened_ms, "v": segment.version}
        return {"t": "cut", "of": of, **numbers, "p": self.partition}

    @staticmethod
    def read(key: SegmentKey, entry: Mapping[str, Any]) -> Cut:
        segment = Segment(*key, entry["n"], entry["b"], utc(entry["at"]), entry["v"])
        of = {(key[0], lane, first): n for lane, groups in entry["of"].items() for first, n in groups}
        return Cut(segment, entry["p"], of)


def lane_of(partition: str, version: int, members: Sequence[SegmentKey]) -> str:
    """The lane in a cut's name. It tells of which segments the cut has groups: was that forgotten, a cut that is made
    anew of others is another one, and takes no name, and so no object's place, from the first.
    """
    return f"{members[0][1]}{MARK}{hash_of(json.dumps([partition, *members]), version)}"


def is_cut(key: SegmentKey) -> bool:
    return MARK in key[1]


def hash_of(partition: str, version: int) -> str:
    """What tells partitions apart in names: the same keys under another definition are another partition."""
    return hashlib.sha256(f"{version}:{partition}".encode()).hexdigest()[:16]


def groups(disk: Disk, data_dir: str, segment: Segment) -> list[Group]:
    """The groups of a segment, of its whole durable outcome, which is checked once more. Raises `Retry`."""
    outcomes = outcome.read(disk, layout.file_of(data_dir, segment, layout.OUT))
    if outcomes is None:
        raise Retry("the durable outcome is damaged since it was read")
    found: dict[str, Group] = {}
    file = disk.view(layout.file_of(data_dir, segment))
    try:
        for made in outcomes:
            for one in _of_outcome(made.rows, file.buffer, segment):
                found[one.partition] = _added(found.get(one.partition), one)
    finally:
        file.close()
    return list(found.values())


def _added(old: Group | None, new: Group) -> Group:
    if old is None:
        return new
    return Group(
        new.partition,
        old.records + new.records,
        old.accounted + new.accounted,
        old.size_bytes + new.size_bytes,
        min(old.oldest_ms, new.oldest_ms),
        old.sums + new.sums,
    )


def _of_outcome(rows: pa.RecordBatch, file: pa.Buffer, segment: Segment) -> Iterator[Group]:
    if not rows.num_rows:
        return
    codes, names = _codes(rows), rows.column(COLUMN).dictionary.to_pylist()
    starts = np.searchsorted(codes, np.arange(len(names)))
    sizes = (rows.column(SIZE) if is_bare(rows) else pc.binary_length(rows.column("record"))).to_numpy()
    oldest = np.minimum.reduceat(rows.column("arrival_ms").to_numpy(), starts)
    columns = (
        *_records(rows, codes, len(names)),
        np.add.reduceat(sizes, starts, dtype=np.int64),
        np.maximum(oldest, segment.opened_ms),
    )
    sums = pieces.sums(rows.drop_columns([COLUMN]), file, starts.tolist())
    yield from (Group(*one) for one in zip(names, *(column.tolist() for column in columns), sums, strict=True))


def _records(rows: pa.RecordBatch, codes: Codes, count: int) -> tuple[Counts, Counts]:
    """How many records each group has a row of, and how many no group before it has. Rows without their records are
    each the only one of theirs: no transform has touched them.
    """
    if is_bare(rows):
        each = np.bincount(codes, minlength=count)
        return each, each
    numbers = rows.column("row").to_numpy()
    changes = (np.diff(codes, prepend=-1) != 0) | (np.diff(numbers, prepend=-1) != 0)
    firsts = np.unique(numbers, return_index=True)[1]
    return np.bincount(codes[changes], minlength=count), np.bincount(codes[firsts], minlength=count)


def chosen(rows: pa.RecordBatch, partition: str) -> tuple[int, int]:
    """From where to where the partition's rows lie in an outcome. Asked of each outcome for each cut: the plainer calls
    of Arrow and numpy take longer to find out what they are called with than to search.
    """
    sought = pc.IndexOptions(pa.scalar(partition, pa.string()))
    code = pc.call_function("index", [rows.column(COLUMN).dictionary], sought).as_py()
    if code < 0:
        return 0, 0
    start, end = np.searchsorted(_codes(rows), np.array([code, code + 1], np.int32)).tolist()
    return start, end


def _codes(rows: pa.RecordBatch) -> Codes:
    codes: Codes = rows.column(COLUMN).indices.to_numpy()
    return codes
