"""Durable outcomes as they are read back: whether they are good, and with the records that they may go without.

An outcome without records is worth what its segment's file is worth. Frames are checked there when it is made; a
process that finds one made by another checks them again before it believes it. Must never give an outcome some of
whose records cannot be read: that is made anew from what can be, and the loss is counted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace

from firehose.buffer import frame, layout, outcome, places
from firehose.contracts import Disk
from firehose.model import Outcome, SegmentKey
from firehose.rows import is_bare


@dataclass(slots=True)
class Outcomes:
    """Those of a data folder. Threads share it."""

    disk: Disk
    data_dir: str
    report: Callable[[str], None]
    checked: set[SegmentKey] = field(default_factory=set)  # segments that have all the records of their outcomes

    def read(self, key: SegmentKey) -> Sequence[Outcome] | None:
        """None where there is none that is good. Rows that were kept without their records are left so."""
        path = layout.file_of(self.data_dir, key, layout.OUT)
        found = outcome.read(self.disk, path)
        if found is None and self.disk.exists(path):
            self.report(f"{path}: the outcome at offset 0 is damaged, and is made anew from the segment")
        if found is not None and key not in self.checked and _are_bare(found):
            if self._readable(key) != sum(one.rows.num_rows + len(one.refused) + len(one.dropped) for one in found):
                self.report(f"{path}: some of the records that it was made of are damaged now; it is made anew")
                return None
            self.checked.add(key)
        return found

    def _readable(self, key: SegmentKey) -> int:
        """How many of the segment's records can be read."""
        view = self.disk.view(layout.file_of(self.data_dir, key))
        try:
            found = frame.scan(view.buffer, frame.seed(key[1]), key[2])
            return sum(item.count for item in found if isinstance(item, frame.Frame))
        finally:
            view.close()


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


def _are_bare(outcomes: Sequence[Outcome]) -> bool:
    return any(is_bare(one.rows) for one in outcomes)
