"""Sealed segments on their way out: which are on disk, which destinations each still owes, and their outboxes.

A segment goes to the destinations that its version of the stream's definition names, and its file goes when the
ledger calls it delivered to all of them.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

from firehose.buffer import frame, kept, layout, leaving, outcome, reading, recovery
from firehose.buffer.cuts import CutOutbox, Gathering
from firehose.buffer.groups import Group, groups, is_cut
from firehose.buffer.ledger import Ledger, Place
from firehose.buffer.outgoing import Outgoing
from firehose.buffer.reading import told_as_retry
from firehose.contracts import Disk
from firehose.model import Batch, Outcome, Range, Segment, SegmentKey, Totals
from firehose.runtime import Threads


@dataclass(slots=True)
class Shelved:
    """A sealed segment on disk, and the destinations that still owe it an end."""

    segment: Segment
    owed: set[str]
    parted: set[str] = field(default_factory=set)  # destinations whose totals know it as parted
    ended: dict[str, int] = field(default_factory=dict)  # records that found theirs there
    remaking: set[str] = field(default_factory=set)  # destinations that wait for a lost outcome to be made anew


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a stream's records stand at one destination, all of it known to the delivery half."""

    totals: Totals
    pending: int  # records of sealed segments, held ones included
    held: int
    oldest_ms: int | None  # arrival of the oldest record that is not delivered
    cuts: int = 0  # made since this process began


class Shelf:
    """All sealed segments of a data folder, for its one delivery half. Lives in the event loop."""

    def __init__(
        self,
        disk: Disk,
        data_dir: str,
        threads: Threads,
        report: Callable[[str], None],
        destinations: Callable[[str, int], tuple[str, ...]],
        opened: Callable[[str, str, DiskOutbox | CutOutbox], None],
        removed: Callable[[SegmentKey], None],
        stays: Callable[[], None],
        gathering: Gathering,
    ) -> None:
        """`destinations` names those of a stream's version; `opened` is told of each outbox when it is first needed;
        `removed` of each file that is gone; `stays` when one that should be gone cannot be removed: `rescan` does so
        later.
        """
        self.ledger = Ledger(disk, f"{data_dir}/ledger", report, partial(leaving.gone, disk, data_dir))
        self.report = report
        self.damaged = set[SegmentKey]()  # of segments on the shelf those in whose files damage was met
        self.outcomes = kept.Outcomes(disk, data_dir, report, self.damaged.add)
        self._disk = disk
        self._data_dir = data_dir
        self._threads = threads
        self._destinations = destinations
        self._opened = opened
        self._removed = removed
        self._stays = stays
        self.gathering = gathering
        self._shelved: dict[SegmentKey, Shelved] = {}
        self._outboxes: dict[tuple[str, str], DiskOutbox] = {}
        self._cuts: dict[tuple[str, str], CutOutbox] = {}
        self._hurried = defaultdict[tuple[str, str], set[SegmentKey]](set)
        self._told = set[str]()  # what the last look at the disk found wrong
        self._bytes = Counter[str]()  # of the segments on the shelf, by stream
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
        """Takes in what is on disk and not known yet. A stream that cannot be looked at keeps no other waiting."""
        known = {key for key, shelved in self._shelved.items() if shelved.owed}
        said = set[str]()
        for stream in layout.streams(self._disk, self._data_dir):
            try:
                for segment in recovery.segments(self._disk, self._data_dir, stream, said.add, known):
                    self.add(segment)
            except OSError as error:
                said.add(f"the buffer of '{stream}' cannot be looked at: {error}")
                self._stays()
        for what in sorted(said - self._told):
            self.report(what)
        self._told = said

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
        """A segment that is parted is offered too: its outcome is read again, to know its groups."""
        wanted, book = self._destinations(segment.stream, segment.version), self.ledger.book
        owed = {name for name in wanted if name not in book.delivered.get(segment.key, {})}
        parted = owed & book.parted.get(segment.key, {}).keys()
        shelved = Shelved(segment, owed, parted, {name: book.ended(segment.key, name) for name in parted})
        if wanted and not owed:
            self._remove(shelved)
            return
        if segment.key not in self._shelved:
            self._bytes[segment.stream] += segment.size_bytes
        self._shelved[segment.key] = shelved
        for name in sorted(owed):
            if (segment.key, name) not in self.ledger.book.held:
                self.outbox(segment.stream, name).offer(segment)

    def outbox(self, stream: str, destination: str) -> DiskOutbox:
        outbox = self._outboxes.get((stream, destination))
        if outbox is None:
            outbox = self._outboxes[stream, destination] = DiskOutbox(
                stream, destination, self.ledger, self._threads, _shelf=self, _disk=self._disk, _data_dir=self._data_dir
            )
            self._opened(stream, destination, outbox)
        return outbox

    def cuts(self, stream: str, destination: str) -> CutOutbox:
        """The outbox of what is gathered by partition."""
        cuts = self._cuts.get((stream, destination))
        if cuts is None:
            place = (stream, destination)
            cuts = self._cuts[place] = CutOutbox(
                *place, self.ledger, self._threads, _shelf=self, _disk=self._disk, _data_dir=self._data_dir
            )
            self.gathering.active.follow(stream, destination, cuts.active)
            self._opened(stream, destination, cuts)
        return cuts

    async def take(self, segment: Segment, destination: str, found: list[Group]) -> None:
        """The ledger has it parted into these groups."""
        place, shelved = (segment.stream, destination), self._shelved.get(segment.key)
        cuts = self.cuts(*place)
        if shelved is None or destination not in shelved.owed:
            self.gathering.active.made(segment.stream, segment.key)
            return
        if destination not in shelved.parted:
            shelved.parted.add(destination)
            self._totals[place] += self.ledger.book.parted[segment.key][destination]
            shelved.ended[destination] = self.ledger.book.ended(segment.key, destination)
        shelved.remaking.discard(destination)
        if cuts.take(segment, found, hurried=segment.key in self._hurried[place]):
            self.keep(segment)
        self.settled(segment, destination)
        cuts.make_room(self._bytes[segment.stream])
        await cuts.finish([segment.key])

    def owes(self, key: SegmentKey, destination: str) -> bool:
        return key in self._shelved and destination in self._shelved[key].owed

    def ranges(self, keys: Iterable[SegmentKey]) -> Iterator[Range]:
        """Of those segments that are on the shelf, as all are of which a group is not delivered."""
        for segment in (self._shelved[key].segment for key in keys if key in self._shelved):
            yield Range(segment.lane, segment.first, segment.end)

    def ended(self, place: tuple[str, str], totals: Totals, records: Mapping[SegmentKey, int]) -> None:
        """The ledger has a cut as delivered: its totals, and how many records of each segment."""
        self._totals[place] += totals
        for key, count in records.items():
            if shelved := self._shelved.get(key):
                shelved.ended[place[1]] = shelved.ended.get(place[1], 0) + count

    async def finish(self, key: SegmentKey, destination: str) -> None:
        """No group of the segment is left."""
        shelved = self._shelved.get(key)
        if shelved is not None and destination in shelved.owed:
            rest = shelved.segment.count - shelved.ended.get(destination, 0)
            await self.outbox(key[0], destination).finish(shelved.segment, rest)

    def remake(self, keys: Iterable[SegmentKey], destination: str) -> None:
        """Offers parted segments again, to have their outcomes made anew, or what has no group left ended."""
        for shelved in [self._shelved[key] for key in keys if key in self._shelved]:
            self.outcomes.checked.discard(shelved.segment.key)
            if destination in shelved.owed - shelved.remaking:
                shelved.remaking.add(destination)
                self.outbox(shelved.segment.stream, destination).offer(shelved.segment)

    def keep(self, segment: Segment) -> None:
        """Its outcome has been made anew and is not what it was: what is in none of its cuts is in its file alone."""
        self.damaged.add(segment.key)
        self.report(f"{segment}: its outcome has changed, not all of it is delivered, and its file will be kept")

    def settled(self, segment: Segment, destination: str) -> None:
        """Nobody waits for its groups any more."""
        self.gathering.active.made(segment.stream, segment.key)
        self._arrived((segment.stream, destination), segment.key)

    def flush(self, stream: str) -> None:
        """Cuts everything of the stream that is gathered, and what its segments on the shelf still bring."""
        for key, shelved in self._shelved.items():
            for name in shelved.owed if key[0] == stream else ():
                cuts = self._cuts.get((stream, name))
                if (key, name) not in self.ledger.book.held and (cuts is None or not cuts.knows(key)):
                    self._hurried[stream, name].add(key)
        for place in [place for place in self._cuts if place[0] == stream]:
            self._cuts[place].hurry()
            if not self._hurried[place]:
                self._cuts[place].cut_hurried()

    def cut_all(self) -> None:
        """Cuts whatever is gathered now."""
        for cuts in self._cuts.values():
            cuts.hurry()
            cuts.cut_hurried()

    def rescheduled(self) -> None:
        """The thresholds may have changed."""
        for cuts in self._cuts.values():
            cuts.reschedule()

    def _arrived(self, place: tuple[str, str], key: SegmentKey) -> None:
        """One segment fewer to wait for before what was hurried is cut: together, not bit by bit."""
        self._hurried[place].discard(key)
        if not self._hurried[place] and place in self._cuts:
            self._cuts[place].cut_hurried()

    def held(self) -> list[Place]:
        return sorted(self.ledger.book.held)

    def release(self, key: SegmentKey) -> list[str]:
        """Offers a held segment again; the destinations that it was held for."""
        names = [name for held, name in tuple(self.ledger.book.held) if held == key]
        self.release_all([(key, name) for name in names])
        return names

    def release_all(self, held: Sequence[Place]) -> None:
        """Offers each again to the destination that it was held for: one sync of the ledger for all."""
        self.ledger.append(*({"t": "released", "s": key, "d": name} for key, name in held))
        for key, name in held:
            if is_cut(key):
                self.cuts(key[0], name).released(key)
            elif (shelved := self._shelved.get(key)) and name in shelved.owed:
                self.outbox(key[0], name).offer(shelved.segment)

    def standings(self) -> dict[tuple[str, str], Standing]:
        """Where every stream stands at every destination that it has or had."""
        owed = defaultdict[tuple[str, str], list[Shelved]](list)
        for shelved in self._shelved.values():
            for name in shelved.owed:
                owed[shelved.segment.stream, name].append(shelved)
        held, book = Counter[tuple[str, str]](), self.ledger.book  # records of cuts, by place
        for key, name in tuple(book.held):
            if (key, name) in book.cuts:
                held[key[0], name] += book.cuts[key, name].accounted
        places = sorted({*owed, *self._totals})
        return {place: self._standing(place, owed[place], held[place]) for place in places}

    def _standing(self, place: tuple[str, str], owed: list[Shelved], held_in_cuts: int) -> Standing:
        book, cuts, name = self.ledger.book, self._cuts.get(place), place[1]
        whole = [one.segment for one in owed if cuts is None or not cuts.knows(one.segment.key)]
        ages = [segment.opened_ms for segment in whole]
        if cuts is not None and (oldest_ms := cuts.oldest_ms()) is not None:
            ages.append(oldest_ms)
        left = {one.segment.key: one.segment.count - one.ended.get(name, 0) for one in owed}
        return Standing(
            self._totals[place],
            sum(left.values()),
            sum(count for key, count in left.items() if (key, name) in book.held) + held_in_cuts,
            min(ages, default=None),
            cuts.made if cuts is not None else 0,
        )

    def versions(self) -> dict[str, set[int]]:
        """Versions of each stream's definition that a segment still needs."""
        needed = defaultdict[str, set[int]](set)
        for shelved in self._shelved.values():
            needed[shelved.segment.stream].add(shelved.segment.version)
        return needed

    def close(self) -> None:
        for outbox in (*self._outboxes.values(), *self._cuts.values()):
            outbox.close()
        self.ledger.close()

    def delivered(self, segment: Segment, destination: str, totals: Totals) -> None:
        """The ledger has it: the file goes when it was the last one owed."""
        shelved = self._shelved.get(segment.key)
        if shelved is None or destination not in shelved.owed:
            return
        shelved.owed.remove(destination)
        self._totals[segment.stream, destination] += totals
        self.settled(segment, destination)
        if not shelved.owed:
            del self._shelved[segment.key]
            self.outcomes.checked.discard(segment.key)
            self._bytes[segment.stream] -= segment.size_bytes
            self._remove(shelved)

    def _remove(self, shelved: Shelved) -> None:
        """Removes the files of a segment that is delivered everywhere; a damaged one is kept under another name."""
        key = shelved.segment.key
        path = layout.file_of(self._data_dir, key)
        out = layout.file_of(self._data_dir, key, layout.OUT)
        try:
            if key in self.damaged or leaving.is_damaged(self._disk, path, self.ledger.book, key):
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
        self.damaged.discard(key)
        self._removed(key)


@dataclass(slots=True, kw_only=True)
class DiskOutbox(Outgoing):
    """The `Outbox` of one destination of a stream: its sealed segments, as they lie on disk."""

    _shelf: Shelf
    _disk: Disk
    _data_dir: str

    async def open(self, segment: Segment) -> Batch:
        return await self._blocking(partial(self._open, segment))

    async def read(self, segment: Segment) -> Batch:
        return await self._blocking(partial(self._batch, segment))

    async def kept(self, segment: Segment) -> Iterable[Outcome] | None:
        found = await self.bare(segment)
        return None if found is None else kept.Whole(found, self._disk, layout.file_of(self._data_dir, segment))

    async def bare(self, segment: Segment) -> Sequence[Outcome] | None:
        return await self._blocking(partial(self._shelf.outcomes.read, segment.key))

    def placed(self, given: Batch) -> Batch:
        return reading.placed(self._disk, self._data_dir, given, self._shelf.damaged.add)

    async def keep(self, segment: Segment, outcomes: AsyncIterator[Outcome]) -> None:
        path = layout.file_of(self._data_dir, segment, layout.OUT)
        if await self.kept(segment) is not None:
            return
        keeping = await self._blocking(partial(outcome.Keeping, self._disk, path))
        self._shelf.gathering.active.making(segment.stream, segment.key)
        try:
            async for made in outcomes:
                await self._blocking(partial(keeping.add, made))
            await self._blocking(keeping.finish)
            self._shelf.outcomes.checked.add(segment.key)  # whoever made the outcome has just read it all
        finally:
            keeping.close()

    async def hold(self, segment: Segment, reason: str) -> None:
        await super(DiskOutbox, self).hold(segment, reason)
        self._shelf.settled(segment, self.destination)

    async def commit(self, segment: Segment, totals: Totals) -> None:
        assert totals.records == segment.count, f"{totals} do not account for the {segment.count} records of {segment}"
        await self._blocking(partial(self._commit, segment, totals))
        self._shelf.delivered(segment, self.destination, totals)

    def parted(self, segment: Segment) -> bool:
        return self.destination in self._shelf.ledger.book.parted.get(segment.key, {})

    def owed(self, segment: Segment) -> bool:
        return self._shelf.owes(segment.key, self.destination)

    async def part(self, segment: Segment, totals: Totals, set_down: Callable[[], Awaitable[None]]) -> None:
        """Rows are summed up before any letter is set down, which takes as long as the letters' far side likes."""
        found = await self._blocking(partial(groups, self._disk, self._data_dir, segment))
        await set_down()
        await self._blocking(partial(self._part, segment, totals, found))
        with told_as_retry():
            await self._shelf.take(segment, self.destination, found)

    async def finish(self, segment: Segment, rest: int) -> None:
        """All that was parted has been delivered. `rest` records were in none of it, since an outcome that was lost has
        been made anew and is not what it was: the file is kept.
        """
        if rest > 0:
            self._shelf.keep(segment)
        totals = Totals(damaged=rest) if rest > 0 else Totals(split=-rest)
        await self._blocking(partial(self._commit, segment, totals))
        self._shelf.delivered(segment, self.destination, totals)

    def _open(self, segment: Segment) -> Batch:
        self._log({"t": "trying"}, segment, sync=False)
        return self._batch(segment)

    def _batch(self, segment: Segment) -> Batch:
        return reading.batch(self._disk, self._data_dir, segment, self._shelf.damaged.add)

    def _commit(self, segment: Segment, totals: Totals) -> None:
        self._log({"t": "delivered", "n": totals.to_json(), "o": self._origins(segment)}, segment)

    def _part(self, segment: Segment, totals: Totals, found: Sequence[Group]) -> None:
        if self.parted(segment):
            self._log({"t": "resting"}, segment, sync=False)
        else:
            records = totals.records + sum(group.accounted for group in found)
            assert records == segment.count, f"{totals} and {records} do not account for the records of {segment}"
            self._log({"t": "parted", "n": totals.to_json()}, segment)

    def _origins(self, segment: Segment) -> frame.Origins:
        try:
            view = self._disk.view(layout.file_of(self._data_dir, segment))
        except FileNotFoundError:
            return {}
        try:
            return recovery.summary(view.buffer, frame.seed(segment.lane), segment.first)
        finally:
            view.close()
