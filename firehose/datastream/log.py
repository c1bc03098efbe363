"""One shard's records on disk: lanes of the buffer, kept for the retention instead of delivered.

A record's counter is its lane's generation and its number in that lane. The generation rises with each lane and stands
in its name, durable before its first record, and the newest lane's folder stays when all records are gone: so a counter
never comes twice, whatever dies. A lane is left where a process ends or the disk fails; what follows is counted above.

An idle shard holds no thread and no timer, and of its files no more than their names.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_left, bisect_right
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from math import inf

from firehose.blocks import MIB
from firehose.buffer import frame, layout, recovery
from firehose.buffer.appender import DiskAppender
from firehose.buffer.commit import Written
from firehose.buffer.lane import Group
from firehose.buffer.recovery import Recovered
from firehose.buffer.retained import InUse, Lately, Marks, Retained, Room, Taken
from firehose.buffer.state import Limits, State, Workplace
from firehose.contracts import Disk, Full
from firehose.datastream.model import GENERATION_BITS, Placed, Run, Shard
from firehose.model import Records, Segment
from firehose.runtime import Runtime, Threads

LANE_RECORDS = (1 << GENERATION_BITS) - (1 << 32)  # and no more in one lane: years at a million a minute
FIRST_GENERATION = 1
VERSION = 1  # of the definition that segments follow: a shard's follow none
ON_DISK = ["record", "meta"]  # what arrived together is one frame, which says when
FRESH_BYTES = MIB // 4  # so much of what was written last is read without a thread
FILE_SEGMENTS = 8  # of segment_bytes make the largest file: what is not sealed is not freed, be its records empty
UNBOUNDED = 1 << 62  # how much a stream may hold is not for one of its shards to say


@dataclass(frozen=True, slots=True)
class LogOptions:
    """Bounds of every log. A segment of `segment_bytes` is sealed; of a shard that holds much, or whose records are
    little beside their keys, a few times that. Of all logs together, `lately_bytes` of what was written last stay in
    memory.
    """

    reserve_bytes: int
    segment_bytes: int = 16 * MIB
    commit_seconds: float = 10.0
    lately_bytes: int = 4 * MIB  # with more, what is written next finds no memory that is still in the core's cache


@dataclass(frozen=True, slots=True)
class Told:
    """Who hears of what the disk does to a log: of its failures, of damage, and of ends that a crash left torn."""

    failed: Callable[[str], None]
    damaged: Callable[[str], None]
    torn: Callable[[str, int, int], None]


class ShardLogs:
    """What all logs share, and where they come from."""

    def __init__(
        self,
        disk: Disk,
        runtime: Runtime,
        syncing: Threads,
        reading: Threads,
        options: LogOptions,
        told: Told,
    ) -> None:
        self.disk = disk
        self.runtime = runtime
        self.syncing = syncing
        self.reading = reading
        self.options = options
        self.told = told
        self.files = InUse()
        self.lately = Lately(options.lately_bytes)

    def open(self, folder: str, shard: Shard) -> DiskShardLog:
        """The shard's log in its stream's folder, made whole. Blocks where the shard has written before. Raises
        `NewerFormat`, OSError.
        """
        return DiskShardLog(self, folder, shard.id)


class DiskShardLog:
    """A `ShardLog`. Lives in the event loop. `found` is what it was when it was opened, its damage above all."""

    def __init__(self, logs: ShardLogs, folder: str, shard: str) -> None:
        self.found = Recovered()
        self._logs = logs
        self._folder = folder
        self._shard = shard
        self._waiters: set[asyncio.Future[None]] = set()
        self._memo: tuple[tuple[int, int, int, int], Run] | None = None  # what was read last at the tip: many ask
        self._closed = False
        self._sweeping = asyncio.Lock()
        self._kept, self._tip = self._recovered()
        self._tell_of_damage()
        self._appender = self._writer()

    async def append(self, records: Records) -> Placed:
        assert records.num_rows, "an append has records"
        if self._closed:
            raise Full("the shard is closed")
        if self._tip % (1 << GENERATION_BITS) >= LANE_RECORDS and self._writes_on():
            raise Full("this process has given out all counters of its lane: the next start begins another")
        if records.num_columns > len(ON_DISK):
            records = records.select(ON_DISK)
        landed = await self._appender.append(records)
        return Placed(_base(landed.lane) | landed.first, landed.arrival_ms)

    @property
    def tip(self) -> int:
        return self._tip

    @property
    def stored_bytes(self) -> int:
        """Bytes of its files."""
        return self._appender.buffered_bytes

    def oldest(self) -> int:
        return self._kept[0].begin if self._kept else self._tip

    def since(self, ms: int) -> int:
        """Looks into one file at most. That blocks where it is an old one that was not read lately: `expire` looks
        beforehand at the one that the retention's horizon lies in.
        """
        place = bisect_left(self._kept, ms, key=_opened_ms)
        found = _since(self._kept[place - 1], ms) if place else None
        if found is not None:
            return found
        return self._kept[place].begin if place < len(self._kept) else self._tip

    async def read(self, position: int, most_records: int, most_bytes: int) -> Run:
        asked = (self._tip, position, most_records, most_bytes)
        if self._memo is not None and self._memo[0] == asked:
            return self._memo[1]
        at_tip = bool(self._kept) and self._is_fresh(self._kept[-1], position)
        run = await self._run(position, Room(most_records, most_bytes))
        if at_tip:
            self._memo = asked, run
        return run

    async def beyond(self, position: int) -> None:
        while self._tip <= position and not self._closed:
            woken: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiters.add(woken)
            try:
                await woken
            finally:
                self._waiters.discard(woken)

    # What its stream does to it.

    async def expire(self, before_ms: int) -> None:
        """Frees the files of which every record arrived before. Raises OSError: what is left goes the next time."""
        async with self._sweeping:
            self._memo = None  # which keeps files from being freed
            newest = self._kept[-1] if self._kept else None
            if newest is not None and not newest.sealed and newest.newest() < before_ms:
                await self._appender.seal()
            while self._kept and self._kept[0].sealed and self._kept[0].opened_ms < before_ms:
                if not await self._freed(self._kept[0], before_ms):
                    break

    async def close(self) -> None:
        """Takes nothing more; what it holds can still be read."""
        self._closed = True
        self._wake()
        await self._appender.close()

    async def delete(self) -> None:
        """Removes everything of the shard, also what a crash left of an earlier attempt. Raises OSError."""
        await self.close()
        async with self._sweeping:
            kept, self._kept, self._memo = self._kept, [], None
            for file in kept:
                self._logs.files.drop(file)
            await self._logs.reading.run(partial(_remove, self._logs.disk, self._folder, self._shard))

    # Reading.

    async def _run(self, position: int, room: Room) -> Run:
        while (kept := self._holding(position)) is not None:
            if not room.left:
                return Run(tuple(room.pieces), position, kept.opened_ms)
            position, waiting_ms = await self._taken(kept, position, room)
            if waiting_ms is not None:
                return Run(tuple(room.pieces), position, waiting_ms)
        return Run(tuple(room.pieces), max(position, self._tip))

    def _holding(self, position: int) -> Retained | None:
        """The first file with records at or behind the position."""
        place = bisect_right(self._kept, position, key=_past)
        return self._kept[place] if place < len(self._kept) else None

    async def _taken(self, kept: Retained, position: int, room: Room) -> tuple[int, int | None]:
        """Takes what the file has from there on: the position behind it, and the arrival of the next record in it."""
        number, end = max(position - kept.base, kept.first), kept.end
        try:
            taken = kept.remembered(number, room) if kept.remembers(number) else await self._looked(kept, number, room)
        except FileNotFoundError:
            return kept.base | end, None  # expired meanwhile
        if taken.damaged_at is not None:
            self._report_damage(kept, taken.damaged_at)
        return kept.base | (end if taken.waiting_ms is None else taken.next), taken.waiting_ms

    async def _looked(self, kept: Retained, number: int, room: Room) -> Taken:
        """A look into the file."""
        start = kept.marks.before(number) if kept.marks is not None and not kept.sealed else None
        look = partial(kept.read, number, kept.file_bytes, start, room)
        self._logs.files.use(kept)
        return look() if kept.is_fresh(number, FRESH_BYTES) else await self._logs.reading.run(look)

    def _is_fresh(self, kept: Retained, position: int) -> bool:
        number = position - kept.base
        return kept.remembers(number) or kept.is_fresh(number, FRESH_BYTES)

    def _report_damage(self, kept: Retained, offset: int) -> None:
        if not kept.told:
            kept.told = True
            path = layout.numbered(kept.folder, kept.first, layout.SEALED)
            self._logs.told.damaged(f"{path} is damaged at offset {offset}: what is whole of it is read")

    # Freeing.

    async def _freed(self, kept: Retained, before_ms: int) -> bool:
        """Removes the file where all of it is old; else sees that the horizon is quickly found in it."""
        reading = self._logs.reading
        if await reading.run(kept.newest) >= before_ms:
            await reading.run(kept.mark)
            self._logs.files.use(kept)
            return False
        await reading.run(kept.remove)  # which may take long: commits do not wait for it
        self._logs.files.drop(kept)
        self._kept.remove(kept)
        self._appender.removed((self._shard, kept.lane, kept.first))
        return True

    # Writing.

    def _wrote(self, lane: str, written: Written, group: Group) -> None:
        """A group is durable."""
        if not group.count:
            return
        kept = self._kept[-1] if self._kept else None
        if kept is None or kept.sealed or kept.lane != lane:
            kept = self._begun(lane, written.first, group.arrival_ms)
        for item in kept.wrote(written.first, group.arrival_ms, written.file_bytes, written.records):
            self._logs.lately.keep(kept, item)
        self._tip, self._memo = kept.past, None
        self._wake()

    def _writes_on(self) -> bool:
        """Whether what comes next goes behind the newest record, into the same lane."""
        return layout.generation(self._kept[-1].lane) > self._generation if self._kept else False

    def _begun(self, lane: str, first: int, opened_ms: int) -> Retained:
        kept = self._file(lane, first, first, opened_ms, 0)
        kept.sealed, kept.marks = False, Marks()
        self._kept.append(kept)
        return kept

    def _sealed(self, segment: Segment) -> None:
        for kept in reversed(self._kept):
            if (kept.lane, kept.first) == (segment.lane, segment.first):
                kept.sealed = True
                self._logs.files.use(kept)
                return

    def _wake(self) -> None:
        waiters, self._waiters = self._waiters, set()
        for woken in waiters:
            if not woken.done():
                woken.set_result(None)

    # What a start finds.

    def _recovered(self) -> tuple[list[Retained], int]:
        """The files, and the position behind the newest record there ever was."""
        disk, found = self._logs.disk, self.found
        lanes = sorted(layout.lanes(disk, self._folder, self._shard), key=layout.generation)
        if lanes:  # a kill may have come before these names were durable, and a cut may come after us
            disk.sync_folder(layout.buffer_folder(self._folder))
            disk.sync_folder(layout.stream_folder(self._folder, self._shard))
        empty = [lane for lane in lanes if self._is_empty(lane)]
        ends = [(_base(lane) | count, lane) for lane in lanes if (count := self._count(lane))]
        self._generation = layout.generation(lanes[-1]) if lanes else 0
        for lane in empty:
            if lane not in (lanes[-1], ends[-1][1] if ends else ""):  # what says how far counters went stays
                recovery.remove_lane(disk, layout.lane_folder(self._folder, self._shard, lane))
        files = [self._retained(segment, size) for segment, size in found.segments.items()]
        return sorted(files, key=_past), ends[-1][0] if ends else FIRST_GENERATION << GENERATION_BITS

    def _tell_of_damage(self) -> None:
        for damage in self.found.damage:
            self._logs.told.damaged(str(damage))
        for end in self.found.torn:
            self._logs.told.torn(end.path, end.offset, end.size)

    def _is_empty(self, lane: str) -> bool:
        """Makes the lane whole; whether it has no file left."""
        return recovery.recover_lane(self._logs.disk, self._folder, self._shard, lane, VERSION, self.found)

    def _count(self, lane: str) -> int:
        """How many records the lane ever had."""
        names = self._logs.disk.list(layout.lane_folder(self._folder, self._shard, lane))
        return max(layout.numbers(names, layout.HEAD), default=0)

    def _retained(self, segment: Segment, size: int) -> Retained:
        return self._file(segment.lane, segment.first, segment.end, segment.opened_ms, size - frame.TRAILER.size)

    def _file(self, lane: str, first: int, end: int, opened_ms: int, file_bytes: int) -> Retained:
        folder = layout.lane_folder(self._folder, self._shard, lane)
        return Retained(self._logs.disk, folder, lane, _base(lane), first, end, opened_ms, file_bytes, True)

    def _writer(self) -> DiskAppender:
        logs, state = self._logs, State()
        for segment, size in self.found.segments.items():
            state.sealed(segment, size)
        last_ms = self._kept[-1].newest() if self._kept else 0
        at = Workplace(
            self._shard,
            self._folder,
            logs.disk,
            logs.syncing,
            _ShardRuntime(logs.runtime, self._generation, last_ms),
            lambda: VERSION,
            lambda said: logs.told.failed(f"{self._folder}: {said}"),
        )
        options = logs.options
        size_bytes, file_bytes = options.segment_bytes, FILE_SEGMENTS * options.segment_bytes
        limits = Limits(size_bytes, inf, UNBOUNDED, options.reserve_bytes, options.commit_seconds, file_bytes)
        return DiskAppender(at, limits, self._sealed, state, self._wrote, lanes=1)  # counters follow one another


class _ShardRuntime(Runtime):
    """The runtime as one shard's writer has it: arrivals never go back, and each lane is of a higher generation."""

    def __init__(self, runtime: Runtime, generation: int, last_ms: int) -> None:
        self._runtime = runtime
        self._generation = generation
        self._last_ms = last_ms

    def now_ms(self) -> int:
        self._last_ms = max(self._last_ms, self._runtime.now_ms())
        return self._last_ms

    def monotonic(self) -> float:
        return self._runtime.monotonic()

    def seconds_of(self, call: Callable[[], None]) -> float:
        return self._runtime.seconds_of(call)

    def after(self, seconds: float, call: Callable[[], None]) -> asyncio.TimerHandle:
        return self._runtime.after(seconds, call)

    def lane_name(self) -> str:
        self._generation += 1
        return layout.with_generation(self._generation, self._runtime.lane_name())


def _base(lane: str) -> int:
    """What is added to the numbers of a lane's records."""
    return layout.generation(lane) << GENERATION_BITS


def _opened_ms(kept: Retained) -> int:
    return kept.opened_ms


def _past(kept: Retained) -> int:
    return kept.past


def _since(kept: Retained, ms: int) -> int | None:
    try:
        number = kept.since(ms)
    except FileNotFoundError:
        return None  # it is being removed
    return None if number is None else kept.base | number


def _remove(disk: Disk, folder: str, shard: str) -> None:
    """Everything of a shard, whatever an earlier attempt left."""
    shard_folder = layout.stream_folder(folder, shard)
    if not disk.exists(shard_folder):
        return
    for name in disk.list(shard_folder):
        if layout.LANE.fullmatch(name):
            recovery.remove_lane(disk, layout.lane_folder(folder, shard, name))
        else:
            disk.remove(f"{shard_folder}/{name}")
    disk.remove_folder(shard_folder)
    disk.sync_folder(layout.buffer_folder(folder))
