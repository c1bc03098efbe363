"""Durable outcomes as they are read back: whether they are good, and with the records that they may go without.

An outcome without records is worth what its segment's file is worth. Frames are checked there when it is made; a
process that finds one made by another checks them again before it believes it. Must never give an outcome some of
whose records cannot be read: that is made anew from what can be, and the loss is counted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pyarrow as pa

from firehose.buffer import layout, outcome, pieces, places, reading
from firehose.buffer.places import Places
from firehose.contracts import Disk
from firehose.model import PLACE, Outcome, SegmentKey
from firehose.partitions import COLUMN
from firehose.rows import is_bare


@dataclass(slots=True)
class Outcomes:
    """Those of a data folder. Threads share it."""

    disk: Disk
    data_dir: str
    report: Callable[[str], None]
    damaged: reading.Damaged  # told of damage that is met in a segment
    checked: set[SegmentKey] = field(default_factory=set)  # segments that have all the records of their outcomes

    def read(self, key: SegmentKey) -> Sequence[Outcome] | None:
        """None where there is none that is good. Rows that were kept without their records are left so."""
        path = layout.file_of(self.data_dir, key, layout.OUT)
        found = outcome.read(self.disk, path)
        if found is None and self.disk.exists(path):
            self.report(f"{path}: the outcome at offset 0 is damaged, and is made anew from the segment")
        if found is not None and not all(_may_wait(one.rows) for one in found):
            self.report(f"{path}: its rows have columns that none have now; it is made anew")
            return None
        if found is not None and key not in self.checked and _are_bare(found):
            if not self._lie_where_they_lay(key, found):
                self.report(f"{path}: some of its records are damaged now, or lie elsewhere; it is made anew")
                return None
            self.checked.add(key)
        return found

    def _lie_where_they_lay(self, key: SegmentKey, outcomes: Sequence[Outcome]) -> bool:
        """Whether all of the segment's records can be read, each at its place: damage may have moved a good frame."""
        view = self.disk.view(layout.file_of(self.data_dir, key))
        none = (np.zeros(0, np.int64),) * 2
        found = zip(none, *_places(reading.slices(view, key, self.damaged, with_places=True)), strict=True)
        numbers, at = map(np.concatenate, found)
        if len(numbers) != sum(one.rows.num_rows + len(one.refused) + len(one.dropped) for one in outcomes):
            return False
        known = np.full(numbers.max(initial=-1) + 1, -1)
        known[numbers] = at
        return all(_lie_there(one.rows, known) for one in outcomes if is_bare(one.rows))


@dataclass(frozen=True, slots=True)
class Whole:
    """Outcomes with their records, at each pass."""

    found: Sequence[Outcome]
    disk: Disk
    path: str  # of the segment

    def __iter__(self) -> Iterator[Outcome]:
        if not _are_bare(self.found):
            yield from self.found
            return
        view = self.disk.view(self.path)
        try:
            for one in self.found:
                yield replace(one, rows=places.whole([(one.rows, view.buffer)]))
        finally:
            view.close()


def _may_wait(rows: pa.RecordBatch) -> bool:
    """Rows with partitions that an earlier release kept may have other columns than they may have now."""
    return not rows.num_rows or COLUMN not in rows.schema.names or pieces.are_known(rows.schema)


def _are_bare(outcomes: Sequence[Outcome]) -> bool:
    return any(is_bare(one.rows) for one in outcomes)


def _places(slices: Iterator[pa.RecordBatch]) -> Iterator[tuple[Places, Places]]:
    for rows in slices:
        yield rows.column("row").to_numpy().astype(np.int64), rows.column(PLACE).to_numpy()


def _lie_there(rows: pa.RecordBatch, known: Places) -> bool:
    numbers = rows.column("row").to_numpy()
    return bool(numbers.max(initial=-1) < len(known) and np.array_equal(known[numbers], rows.column(PLACE).to_numpy()))
