"""Dynamic partitions: groups gather by partition over several segments, and are cut when there is enough of one.

A cut is delivered as a segment is. It is made in memory, when its partition is full or old enough; which groups it has
is durable before anything of it is read to be sent (`open` sees to that), and then stands for all time. Until then a
crash only makes the groups gather anew.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import chain
from typing import Protocol

from firehose import observe
from firehose.buffer import layout
from firehose.buffer.cut_rows import CutRows, Mapped
from firehose.buffer.groups import Cut, Group, hash_of, lane_of
from firehose.buffer.outgoing import Outgoing
from firehose.contracts import Disk, Retry
from firehose.model import Batch, Outcome, Range, Segment, SegmentKey, Totals
from firehose.partitions import ActivePartitions
from firehose.runtime import Runtime, utc

ROOM = 3 / 4  # of the stream's bound: with that much on the shelf, partitions are cut early


@dataclass(frozen=True, slots=True)
class Thresholds:
    """When a partition is cut, as the newest definition of its stream says. `limit_bytes` bounds the whole buffer."""

    size_bytes: int
    interval_seconds: float
    limit_bytes: int


@dataclass(frozen=True, slots=True)
class Gathering:
    """What gathering needs from around it."""

    runtime: Runtime
    thresholds: Callable[[str], Thresholds]
    active: ActivePartitions


class Ends(Protocol):
    """Whoever keeps the segments, and is told what became of their records."""

    gathering: Gathering

    def ranges(self, keys: Iterable[SegmentKey]) -> Iterator[Range]: ...

    def ended(self, place: tuple[str, str], totals: Totals, records: Mapping[SegmentKey, int]) -> None: ...

    async def finish(self, key: SegmentKey, destination: str) -> None: ...

    def remake(self, keys: Iterable[SegmentKey], destination: str) -> None: ...


@dataclass(slots=True)
class Partition:
    """An open one. `born` is the arrival of its oldest record, on the monotonic clock."""

    name: str
    version: int
    born: float
    groups: dict[SegmentKey, Group] = field(default_factory=dict)
    size_bytes: int = 0
    hurried: bool = False
    timer: asyncio.TimerHandle | None = None

    def add(self, key: SegmentKey, group: Group, born: float) -> None:
        self.groups[key] = group
        self.size_bytes += group.size_bytes
        self.born = min(self.born, born)

    def cut(self) -> Cut:
        """All of it, named after its first group and all of them."""
        members = sorted(self.groups)
        stream, _, first = members[0]
        lane = lane_of(self.name, self.version, members)
        records = sum(group.records for group in self.groups.values())
        oldest = utc(min(group.oldest_ms for group in self.groups.values()))
        segment = Segment(stream, lane, first, records, self.size_bytes, oldest, self.version)
        return Cut(segment, self.name, {key: self.groups[key].accounted for key in members})


@dataclass(slots=True, kw_only=True)
class CutOutbox(Outgoing):
    """The `Outbox` of a stream's cuts at one destination."""

    _shelf: Ends
    _disk: Disk
    _data_dir: str
    made: int = 0  # cuts, since the delivery half began
    _open: dict[str, Partition] = field(default_factory=dict)  # by hash
    _cuts: dict[SegmentKey, Cut] = field(default_factory=dict)  # made and not delivered
    _lost: dict[SegmentKey, bool] = field(default_factory=dict)  # of those that an earlier process made
    _arrived: dict[SegmentKey, bool] = field(default_factory=dict)  # likewise
    _taken: Counter[SegmentKey] = field(default_factory=Counter)  # of a cut that waits for its segments: how many came
    _left: dict[SegmentKey, dict[str, bytes]] = field(default_factory=dict)  # of each segment taken: groups not
    # delivered, and the checksums of their pieces
    _doubted: set[SegmentKey] = field(default_factory=set)  # segments whose rows are not what they were
    _ending: set[SegmentKey] = field(default_factory=set)  # segments of which a cut was the last that was owed
    _active: Counter[str] = field(default_factory=Counter)  # partitions, open or cut, by how many of these
    _mapped: Mapped = field(init=False)

    def __post_init__(self) -> None:
        self._mapped = Mapped(self._disk)

    # What the shelf tells.

    def knows(self, key: SegmentKey) -> bool:
        return key in self._left

    def take(self, segment: Segment, found: list[Group], hurried: bool) -> bool:
        """The groups of a segment: some may be in cuts that an earlier process made, or delivered. Whether those of one
        that was known before are of another outcome: its file is to be kept then.
        """
        key = segment.key
        if not self.knows(key):
            self._take(segment, found, hurried)
        now = {hash_of(group.partition, segment.version): group for group in found}
        changed = self._has_changed(key, now)
        self._left[key] = {mark: now[mark].sums if mark in now else b"" for mark in self._left[key]}
        if key in self._doubted:
            self._mapped.forget()  # its file may be another one by now, or longer than it was
            self._doubted.discard(key)
        return changed

    def _has_changed(self, key: SegmentKey, now: Mapping[str, Group]) -> bool:
        """Whether rows may be gone of what is left of a segment, or where nobody looks for them: by its groups, their
        checksums where something has arrived already, and what the ledger has of their cuts.
        """
        book, left = self._ledger.book, self._left[key]
        placed = dict(book.placed.get((key, self.destination), {}))
        if not left:
            return False
        if not left.keys() <= now.keys() <= left.keys() | placed.keys():
            return True
        if placed.keys() - left.keys() and any(sums and now[mark].sums != sums for mark, sums in left.items()):
            return True
        cuts = {mark: book.cuts[cut, self.destination] for mark, cut in placed.items() if mark in now}
        return any(now[mark].accounted != cut.of[key] for mark, cut in cuts.items())

    def _take(self, segment: Segment, found: list[Group], hurried: bool) -> None:
        book, key = self._ledger.book, segment.key
        placed = {
            mark: cut for mark, cut in book.placed.get((key, self.destination), {}).items() if not self._is_lost(cut)
        }
        waiting = sorted(mark for mark, cut in placed.items() if not self._arrived[cut])
        self._left[key] = dict.fromkeys(waiting, b"")
        for group in found:
            mark = hash_of(group.partition, segment.version)
            if mark not in placed:
                self._left[key][mark] = b""
                self._gather(mark, segment, group, hurried)
        for mark in waiting:
            self._taken[placed[mark]] += 1
            self._again(book.cuts[placed[mark], self.destination])

    def _has_arrived(self, cut: SegmentKey) -> bool:
        """As the ledger says; also where it says so no more of the cut, but of a segment that waited for it."""
        book = self._ledger.book
        keys = chain((cut,), book.cuts[cut, self.destination].of)
        return any(self.destination in book.delivered.get(key, {}) for key in keys)

    def _is_lost(self, cut: SegmentKey) -> bool:
        """It can never be made again, for a segment of it is gone, and nothing says that it has arrived. Book and disk
        are asked once for each cut, not for each of its segments: it cannot arrive before all of these have come.
        """
        if cut not in self._lost:
            files = (layout.file_of(self._data_dir, key) for key in self._ledger.book.cuts[cut, self.destination].of)
            arrived = self._has_arrived(cut)
            self._lost[cut] = not arrived and not all(map(self._disk.exists, files))
            self._arrived[cut] = arrived
        return self._lost[cut]

    def released(self, key: SegmentKey) -> None:
        """A cut is not held any more."""
        if key in self._cuts:
            self.offer(self._cuts[key].segment)

    def hurry(self) -> None:
        for one in self._open.values():
            one.hurried = True

    def cut_hurried(self) -> None:
        for mark in [mark for mark, one in self._open.items() if one.hurried]:
            self._cut(mark)

    def reschedule(self) -> None:
        for mark in tuple(self._open):
            self._look(mark)

    def make_room(self, shelved_bytes: int) -> None:
        """Cuts the oldest partitions early where the stream's segments fill too much of its bound."""
        limit = self._shelf.gathering.thresholds(self.stream).limit_bytes
        too_many = shelved_bytes - int(limit * ROOM) - sum(cut.segment.size_bytes for cut in self._cuts.values())
        if too_many <= 0 or not self._open:
            return
        observe.log.warning("partitions.cut_early", stream=self.stream, destination=self.destination, bytes=too_many)
        for mark in sorted(self._open, key=lambda mark: self._open[mark].born):
            if too_many > 0:
                too_many -= self._open[mark].size_bytes
                self._cut(mark)

    def active(self) -> list[str]:
        """Partitions with a group that is not delivered. Asked by threads."""
        return list(self._active)

    def oldest_ms(self) -> int | None:
        """Arrival of the oldest record in any of the groups."""
        groups = [group.oldest_ms for one in self._open.values() for group in one.groups.values()]
        cuts = [cut.segment.opened_ms for cut in self._cuts.values()]
        return min((*groups, *cuts), default=None)

    def close(self) -> None:
        super(CutOutbox, self).close()
        self._mapped.forget()
        for one in self._open.values():
            if one.timer is not None:
                one.timer.cancel()

    # What the pipeline asks.

    async def open(self, segment: Segment) -> Batch:
        """Which groups the cut has is durable before anything of it is sent."""
        if lost := await self._blocking(partial(self._begin, segment)):
            self._shelf.remake(lost, self.destination)
            raise Retry(f"the durable outcome of {len(lost)} segments is damaged, and is being made anew")
        return await self.read(segment)

    async def read(self, segment: Segment) -> Batch:
        rows = self._rows(segment)
        ranges = joined(self._shelf.ranges(rows.cut.of))
        return Batch(segment, rows.records, rows.cut.partition, ranges=ranges, numbers=rows.sequence_numbers)

    async def kept(self, segment: Segment) -> Iterable[Outcome] | None:
        return self._rows(segment)

    async def keep(self, segment: Segment, outcomes: AsyncIterator[Outcome]) -> None:
        raise AssertionError("the outcome of a cut is that of its segments, and there before the cut")

    async def commit(self, segment: Segment, totals: Totals) -> None:
        """A record that another cut has a row of, too, is one in the first of them alone: here its rows are `split`."""
        assert totals.records == segment.count, f"{totals} do not account for the {segment.count} records of {segment}"
        cut = self._cuts.get(segment.key)
        if cut is None:
            return
        totals = replace(totals, split=totals.split + segment.count - cut.accounted)
        await self._blocking(partial(self._log, {"t": "delivered", "n": totals.to_json()}, segment))
        if any(cut.hash in self._left[key] for key in cut.of if key in self._left):
            self._shelf.ended((self.stream, self.destination), totals, cut.of)
            for key in cut.of:
                self._left.get(key, {}).pop(cut.hash, None)
        for key in [key for key in cut.of if self._left.get(key) == {} and key not in self._ending]:
            self._ending.add(key)
            try:
                await self.finish([key])
            except Retry:  # of that segment alone: the cut is delivered and counted, and others of its may be gone
                self._shelf.remake([key], self.destination)
        if self._cuts.pop(segment.key, None) is not None:
            self._forget(cut.partition)

    async def finish(self, keys: Iterable[SegmentKey]) -> None:
        """Ends those segments that have no group left."""
        for key in [key for key in keys if self._left.get(key) == {}]:
            self._mapped.forget()
            await self._shelf.finish(key, self.destination)
            self._left.pop(key, None)
            self._doubted.discard(key)
            self._ending.discard(key)

    def _begin(self, segment: Segment) -> list[SegmentKey]:
        """An attempt; none where outcomes are damaged, or gone: the segments whose."""
        members = self._rows(segment).cut.of
        lost = [key for key in members if key in self._doubted or not self._disk.exists(self._outcome(key))]
        if not lost:
            for key in members:
                self._disk.size(layout.file_of(self._data_dir, key))  # its records may lie there alone
            self._log({"t": "trying"}, segment, sync=not self._is_durable(segment))
        return lost

    def _outcome(self, key: SegmentKey) -> str:
        return layout.file_of(self._data_dir, key, layout.OUT)

    def _log(self, entry: dict[str, object], segment: Segment, sync: bool = True) -> None:
        """With the cut itself, twice, where it is the first entry about it, and twice that it is delivered: were the
        one line damaged, its groups would be gathered anew, and arrive twice.
        """
        about = {"s": segment.key, "d": self.destination}
        lines: tuple[Mapping[str, object], ...] = (entry,)
        if entry["t"] == "delivered":
            lines = (entry, self._cuts[segment.key].entry(), entry)
        elif not self._is_durable(segment):
            cut = self._cuts[segment.key].entry()
            lines = (cut, entry, cut)
        self._ledger.append(*({**one, **about} for one in lines), sync=sync)

    def _is_durable(self, segment: Segment) -> bool:
        return (segment.key, self.destination) in self._ledger.book.cuts

    def _rows(self, segment: Segment) -> CutRows:
        cut = self._cuts.get(segment.key) or self._ledger.book.cuts[segment.key, self.destination]
        sums = {key: self._left[key][cut.hash] for key in cut.of if cut.hash in self._left.get(key, {})}
        return CutRows(self._disk, self._data_dir, cut, self._mapped, sums, self._doubted.add)

    # How partitions gather.

    def _gather(self, mark: str, segment: Segment, group: Group, hurried: bool) -> None:
        """Its age is taken from the wall clock once, here, and never for more than the interval."""
        runtime = self._shelf.gathering.runtime
        interval = self._shelf.gathering.thresholds(self.stream).interval_seconds
        age = min(max(0.0, (runtime.now_ms() - group.oldest_ms) / 1000), interval)
        born = runtime.monotonic() - age
        if mark not in self._open:
            self._open[mark] = Partition(group.partition, segment.version, born)
            self._active[group.partition] += 1
        self._open[mark].add(segment.key, group, born)
        self._open[mark].hurried |= hurried
        self._look(mark)

    def _look(self, mark: str) -> None:
        """Cuts the partition if it is due, else sees to it that it will be."""
        one, runtime = self._open[mark], self._shelf.gathering.runtime
        thresholds = self._shelf.gathering.thresholds(self.stream)
        seconds = one.born + thresholds.interval_seconds - runtime.monotonic()
        if one.timer is not None:
            one.timer.cancel()
        if one.size_bytes >= thresholds.size_bytes or seconds <= 0:
            self._cut(mark)
        else:
            one.timer = runtime.after(seconds, partial(self._cut, mark))

    def _cut(self, mark: str) -> None:
        one = self._open.pop(mark)
        if one.timer is not None:
            one.timer.cancel()
        cut = one.cut()
        self._cuts[cut.segment.key] = cut
        self.made += 1
        observe.partition_cut(cut.segment)
        self.offer(cut.segment)

    def _again(self, cut: Cut) -> None:
        """A cut of an earlier process is offered when all of its segments are there again."""
        key = cut.segment.key
        if key in self._cuts or self._taken[key] < len(cut.of):
            return
        del self._taken[key]
        self._cuts[key] = cut
        self._active[cut.partition] += 1
        if (key, self.destination) not in self._ledger.book.held:
            self.offer(cut.segment)

    def _forget(self, partition: str) -> None:
        self._active[partition] -= 1
        if not self._active[partition]:
            del self._active[partition]


def joined(ranges: Iterable[Range]) -> tuple[Range, ...]:
    """Ranges that follow each other are one."""
    made: list[Range] = []
    for one in ranges:
        if made and (made[-1].lane, made[-1].end) == (one.lane, one.first):
            made[-1] = Range(one.lane, made[-1].first, one.end)
        else:
            made.append(one)
    return tuple(made)
