"""Sealed segments on their way out: which are on disk, which destinations each still owes, and their outboxes.

A segment goes to the destinations that its version of the stream's definition names, and its file goes when the
ledger calls it delivered to all of them.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict, deque
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from typing import TypeVar

from firehose.buffer import frame, layout, outcome, reading, recovery
from firehose.buffer.ledger import Book, Ledger
from firehose.contracts import Disk, Memo, Retry
from firehose.model import Batch, Outcome, Segment, SegmentKey, Totals
from firehose.runtime import Threads

T = TypeVar("T")


@dataclass(slots=True)
class Shelved:
    """A sealed segment on disk, and the destinations that still owe it an end."""

    segment: Segment
    owed: set[str]


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a stream's records stand at one destination, all of it known to the delivery half."""

    totals: Totals
    pending: int  # records of sealed segments, held ones included
    held: int
    oldest_ms: int | None  # arrival of the oldest record that is not delivered


class Shelf:
    """All sealed segments of a data folder, for its one delivery half. Lives in the event loop."""

    def __init__(
        self,
        disk: Disk,
        data_dir: str,
        threads: Threads,
        report: Callable[[str], None],
        destinations: Callable[[str, int], tuple[str, ...]],
        opened: Callable[[str, str, DiskOutbox], None],
        removed: Callable[[SegmentKey], None],
        stays: Callable[[], None],
    ) -> None:
        """`destinations` names those of a stream's version; `opened` is told of each outbox when it is first needed;
        `removed` of each file that is gone; `stays` when one that should be gone cannot be removed: `rescan` does so
        later.
        """
        self.ledger = Ledger(disk, f"{data_dir}/ledger", report, self._gone)
        self.report = report
        self._disk = disk
        self._data_dir = data_dir
        self._threads = threads
        self._destinations = destinations
        self._opened = opened
        self._removed = removed
        self._stays = stays
        self._shelved: dict[SegmentKey, Shelved] = {}
        self._outboxes: dict[tuple[str, str], DiskOutbox] = {}
        # The book's own totals run ahead of `_shelved`, since threads write it: a record would be counted twice.
        self._totals = defaultdict(Totals, self.ledger.book.totals)

    def start(self, died: bool) -> None:
        """Takes in everything on disk. `died`: the process before us ended without leave, so that what it was trying
        is under suspicion.
        """
        book = self.ledger.book
        entries: list[dict[str, object]] = []
        for key, destination in sorted(book.trying):
            entries.append({"t": "resting", "s": key, "d": destination})
            if count := book.deaths.get((key, destination), 0) + died:
                entries.append({"t": "deaths", "s": key, "d": destination, "n": count})
        self.ledger.append(*entries)
        self.rescan()

    def rescan(self) -> None:
        """Takes in what is on disk and not known yet."""
        for stream in layout.streams(self._disk, self._data_dir):
            for segment in recovery.segments(self._disk, self._data_dir, stream):
                if segment.key not in self._shelved or not self._shelved[segment.key].owed:
                    self.add(segment)

    def reconsider(self) -> None:
        """The catalogue has changed: segments that nobody wanted may be wanted now."""
        for shelved in [shelved for shelved in self._shelved.values() if not shelved.owed]:
            self.add(shelved.segment)

    def announce(self, key: SegmentKey) -> None:
        """A segment has been sealed just now. Where a look at the disk found it before its writer could tell, and it is
        delivered already, the writer has counted its file after we said that it is gone, and is told again.
        """
        if key not in self._shelved:
            segment = recovery.read_segment(self._disk, self._data_dir, key)
            if segment is not None:
                self.add(segment)
            elif not self._disk.exists(layout.file_of(self._data_dir, key)):
                self._removed(key)

    def add(self, segment: Segment) -> None:
        wanted = self._destinations(segment.stream, segment.version)
        owed = {name for name in wanted if name not in self.ledger.book.delivered.get(segment.key, {})}
        shelved = Shelved(segment, owed)
        if wanted and not owed:
            self._remove(shelved)
            return
        self._shelved[segment.key] = shelved
        for name in sorted(owed):
            if (segment.key, name) not in self.ledger.book.held:
                self.outbox(segment.stream, name).offer(segment)

    def outbox(self, stream: str, destination: str) -> DiskOutbox:
        outbox = self._outboxes.get((stream, destination))
        if outbox is None:
            outbox = self._outboxes[stream, destination] = DiskOutbox(
                stream, destination, self, self._disk, self._data_dir, self._threads
            )
            self._opened(stream, destination, outbox)
        return outbox

    def release(self, key: SegmentKey) -> list[str]:
        """Offers a held segment again; the destinations that it was held for."""
        names = [name for held, name in tuple(self.ledger.book.held) if held == key]
        self.ledger.append(*({"t": "released", "s": key, "d": name} for name in names))
        shelved = self._shelved.get(key)
        for name in names:
            if shelved and name in shelved.owed:
                self.outbox(key[0], name).offer(shelved.segment)
        return names

    def standings(self) -> dict[tuple[str, str], Standing]:
        """Where every stream stands at every destination that it has or had."""
        book, owed = self.ledger.book, defaultdict[tuple[str, str], list[Segment]](list)
        for shelved in self._shelved.values():
            for name in shelved.owed:
                owed[shelved.segment.stream, name].append(shelved.segment)
        places = sorted({*owed, *self._totals})
        return {place: _standing(book, place, self._totals[place], owed[place]) for place in places}

    def deaths(self, segment: Segment, destination: str) -> int:
        """How often in a row the delivery process died while it was trying this."""
        return self.ledger.book.deaths.get((segment.key, destination), 0)

    def versions(self) -> dict[str, set[int]]:
        """Versions of each stream's definition that a segment still needs."""
        needed = defaultdict[str, set[int]](set)
        for shelved in self._shelved.values():
            needed[shelved.segment.stream].add(shelved.segment.version)
        return needed

    def close(self) -> None:
        for outbox in self._outboxes.values():
            outbox.close()
        self.ledger.close()

    def delivered(self, segment: Segment, destination: str, totals: Totals) -> None:
        """The ledger has it: the file goes when it was the last one owed."""
        shelved = self._shelved.get(segment.key)
        if shelved is None or destination not in shelved.owed:
            return
        shelved.owed.remove(destination)
        self._totals[segment.stream, destination] += totals
        if not shelved.owed:
            del self._shelved[segment.key]
            self._remove(shelved)

    def _remove(self, shelved: Shelved) -> None:
        """Removes the files of a segment that is delivered everywhere; a damaged one is kept under another name."""
        key = shelved.segment.key
        path = layout.file_of(self._data_dir, key)
        out = layout.file_of(self._data_dir, key, layout.OUT)
        try:
            if any(totals.damaged for totals in self.ledger.book.delivered.get(key, {}).values()):
                kept = layout.file_of(self._data_dir, key, layout.DAMAGED)
                self._disk.rename(path, kept)
                for damage in recovery.damage(self._disk, kept, key):
                    self.report(str(damage))
            else:
                self._disk.remove(path)
            if self._disk.exists(out):
                self._disk.remove(out)
        except FileNotFoundError:
            pass  # removed before a crash, or by hand
        except OSError:
            self._stays()  # the ledger says that it is delivered: whoever looks at the disk next removes it
            return
        self._removed(key)

    def _gone(self, keys: Iterable[SegmentKey]) -> set[SegmentKey]:
        """Those whose file is gone and will not come back after a power cut. Each folder is synced once for all."""
        gone = {key for key in keys if not self._disk.exists(layout.file_of(self._data_dir, key))}
        for folder in sorted({layout.lane_folder(self._data_dir, stream, lane) for stream, lane, _ in gone}):
            if self._disk.exists(folder):
                self._disk.sync_folder(folder)
        return gone


def _standing(book: Book, place: tuple[str, str], totals: Totals, owed: list[Segment]) -> Standing:
    oldest = min((segment.opened_at for segment in owed), default=None)
    return Standing(
        totals,
        sum(segment.count for segment in owed),
        sum(segment.count for segment in owed if (segment.key, place[1]) in book.held),
        int(oldest.timestamp() * 1000) if oldest else None,
    )


@dataclass(slots=True)
class DiskOutbox:
    """The `Outbox` of one destination of a stream."""

    stream: str
    destination: str
    _shelf: Shelf
    _disk: Disk
    _data_dir: str
    _threads: Threads
    _offered: deque[Segment] = field(default_factory=deque)
    _more: asyncio.Event = field(default_factory=asyncio.Event)
    _closed: bool = False

    @property
    def waiting(self) -> int:
        """Segments offered and not yet taken up."""
        return len(self._offered)

    def offer(self, segment: Segment) -> None:
        self._offered.append(segment)
        self._more.set()

    def close(self) -> None:
        self._closed = True
        self._more.set()

    async def sealed(self) -> AsyncIterator[Segment]:
        while not self._closed:
            while self._offered and not self._closed:
                yield self._offered.popleft()
            self._more.clear()
            if not self._offered and not self._closed:
                await self._more.wait()

    async def open(self, segment: Segment) -> Batch:
        return await self._blocking(partial(self._open, segment))

    async def read(self, segment: Segment) -> Batch:
        return await self._blocking(partial(reading.batch, self._disk, self._data_dir, segment))

    async def kept(self, segment: Segment) -> Iterable[Outcome] | None:
        path = layout.file_of(self._data_dir, segment, layout.OUT)
        found = await self._blocking(partial(outcome.read, self._disk, path))
        if found is None and self._disk.exists(path):
            self._shelf.report(f"{path}: the outcome at offset 0 is damaged, and is made anew from the segment")
        return found

    async def keep(self, segment: Segment, outcomes: AsyncIterator[Outcome]) -> None:
        path = layout.file_of(self._data_dir, segment, layout.OUT)
        if await self.kept(segment) is not None:
            return
        keeping = await self._blocking(partial(outcome.Keeping, self._disk, path))
        try:
            async for made in outcomes:
                await self._blocking(partial(keeping.add, made))
            await self._blocking(keeping.finish)
        finally:
            keeping.close()

    async def commit(self, segment: Segment, totals: Totals) -> None:
        assert totals.records == segment.count, f"{totals} do not account for the {segment.count} records of {segment}"
        await self._blocking(partial(self._commit, segment, totals))
        self._shelf.delivered(segment, self.destination, totals)

    async def hold(self, segment: Segment, reason: str) -> None:
        await self._blocking(partial(self._log, {"t": "held", "why": reason}, segment))

    async def rest(self, segment: Segment) -> None:
        """An attempt failed, and the process has survived it: earlier deaths were not this segment's doing."""
        await self._blocking(partial(self._log, {"t": "resting"}, segment, sync=False))

    def deaths(self, segment: Segment) -> int:
        return self._shelf.deaths(segment, self.destination)

    def memo(self, segment: Segment) -> Memo:
        return LedgerMemo(self._shelf.ledger, segment.key, self.destination)

    def _open(self, segment: Segment) -> Batch:
        self._log({"t": "trying"}, segment, sync=False)
        return reading.batch(self._disk, self._data_dir, segment)

    def _commit(self, segment: Segment, totals: Totals) -> None:
        self._log({"t": "delivered", "n": totals.to_json(), "o": self._origins(segment)}, segment)

    def _origins(self, segment: Segment) -> frame.Origins:
        try:
            view = self._disk.view(layout.file_of(self._data_dir, segment))
        except FileNotFoundError:
            return {}
        try:
            return recovery.summary(view.buffer, frame.seed(segment.lane), segment.first)
        finally:
            view.close()

    def _log(self, entry: dict[str, object], segment: Segment, sync: bool = True) -> None:
        self._shelf.ledger.append({**entry, "s": segment.key, "d": self.destination}, sync=sync)

    async def _blocking(self, call: Callable[[], T]) -> T:
        """Runs disk calls in a thread: what belongs together goes in one call, since each hand-over costs more than
        most of them. A disk that fails is a reason to try again.
        """
        try:
            return await self._threads.run(call)
        except OSError as error:
            raise Retry(f"the buffer's disk failed: {error}") from error


@dataclass(frozen=True, slots=True)
class LedgerMemo:
    """A `Memo` in the ledger."""

    _ledger: Ledger
    _key: SegmentKey
    _destination: str

    def read(self) -> tuple[str, ...]:
        return tuple(self._ledger.book.memos.get((self._key, self._destination), ()))

    def write(self, note: str) -> None:
        entry = {"t": "memo", "s": self._key, "d": self._destination, "note": note}
        try:
            self._ledger.append(entry)
        except OSError as error:
            raise Retry(f"the buffer's disk failed: {error}") from error
