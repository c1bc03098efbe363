"""Group commit: the appends of one delivery stream, parked together, written as one frame, released together.

While one group is being synced the next one fills, so that the disk's own pace sets the size of the groups and a lone
append waits for nobody. A stream holds at most one group in the disk's hands and one that fills.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial

import pyarrow as pa

from firehose.buffer import frame, layout, recovery
from firehose.buffer.lane import Group, Lane
from firehose.contracts import Disk, Full, Unsure
from firehose.model import Origin, Position, Segment, SegmentKey
from firehose.runtime import Runtime, Threads

ZERO_INTERVAL_SECONDS = 1.0  # "zero buffering" delivers within a few seconds: firehose.md section 4
GROWTH_LIMIT = 16  # how many times its hint a segment may grow while delivery is behind
GROWN_BYTES = 128 * 1024 * 1024  # and to which size at the most: AWS's largest hint
FRAME_BYTES = 64 * 1024 * 1024  # a group larger than this waits for the next frame
MEND_SECONDS = 1.0
ABANDONED_LIMIT = 4  # lanes that wait to be mended; at it nothing more is tried on this disk
FAILURES_IN_ROW = 4  # and after so many it is tried once in MEND_SECONDS only


@dataclass(frozen=True, slots=True)
class Limits:
    """A stream's buffering hints and bounds."""

    size_bytes: int
    interval_seconds: float
    limit_bytes: int
    reserve_bytes: int
    commit_seconds: float = 10.0  # behind a commit that takes longer nothing more is let wait


@dataclass(slots=True)
class Waiting:
    """An append that waits for its commit."""

    records: pa.RecordBatch
    size_bytes: int
    origin: Origin | None
    done: asyncio.Future[Position]


@dataclass(frozen=True, slots=True)
class Written:
    """What the disk made of a group. With an `error` the records are durable, but the seal failed."""

    first: int
    file_bytes: int
    segment: Segment | None = None
    error: OSError | None = None


@dataclass(frozen=True, slots=True)
class Sealed:
    """A sealed segment's file: its bytes, and the version of the definition that it follows."""

    file_bytes: int
    version: int


@dataclass(slots=True)
class State:
    """What the appender knows of its stream's buffer beside the lane it writes."""

    accepted: int = 0  # records taken by lanes that are dead
    sealed_records: int = 0  # records ever sealed, and told of
    files: dict[SegmentKey, Sealed] = field(default_factory=dict)  # until delivered everywhere
    waiting_bytes: int = 0  # their bytes
    origins: dict[str, Origin] = field(default_factory=dict)
    turn: int = 0  # the last one given out, see `frame`

    def remember(self, *origins: frame.Origins) -> None:
        """The origins that were found at a start, the newest of each source partition."""
        for partition, (turn, cursor) in frame.newest(*origins).items():
            self.origins[partition] = Origin(partition, cursor)
            self.turn = max(self.turn, turn)

    def sealed(self, segment: Segment, file_bytes: int) -> None:
        self.files[segment.key] = Sealed(file_bytes, segment.version)
        self.waiting_bytes += file_bytes

    def removed(self, key: SegmentKey) -> None:
        gone = self.files.pop(key, None)
        self.waiting_bytes -= gone.file_bytes if gone else 0


class DiskAppender:
    """An `Appender` over lanes on disk. One per delivery stream; lives in the event loop."""

    def __init__(
        self,
        stream: str,
        data_dir: str,
        disk: Disk,
        threads: Threads,
        runtime: Runtime,
        limits: Limits,
        version: Callable[[], int],
        sealed: Callable[[Segment], None],
        failed: Callable[[str], None],
        state: State,
    ) -> None:
        self.stream = stream
        self._limits = limits
        self._data_dir = data_dir
        self._disk = disk
        self._threads = threads
        self._runtime = runtime
        self._version = version
        self._sealed = sealed  # told of each sealed segment
        self._failed = failed  # told of each failure of the disk
        self._state = state
        self._lane: Lane | None = None
        self._abandoned: dict[Lane, set[str]] = {}  # and the source partitions whose newest origin each may hold
        self._group: list[Waiting] = []
        self._group_bytes = 0
        self._group_ms = 0
        self._room: tuple[int, str] | None = None  # of the group that fills, in bytes, and what bounds it
        self._flushing: asyncio.Task[None] | None = None
        self._age: asyncio.TimerHandle | None = None
        self._aging_since = 0.0  # on the monotonic clock, while `_age` runs
        self._mending: set[asyncio.Task[None]] = set()
        self._seal_due = False
        self._sealers: list[asyncio.Future[None]] = []
        self._committing_since: float | None = None
        self._failures = 0  # in a row
        self._failed_at = 0.0
        self._closed = False
        self.accepted_bytes = 0  # of records, since this process began
        self.sealing = 0  # seals under way, whose version is chosen: the catalogue must not change under them

    async def append(self, records: pa.RecordBatch, origin: Origin | None = None) -> Position:
        if self._closed:
            raise Full("the service is stopping")
        size_bytes = recovery.record_bytes(records.column(0))
        if not records.num_rows and origin is None:
            return Position(self._lane.name if self._lane else "", 0, 0)
        self.make_sure_of_room(size_bytes)
        if origin is not None and any(origin.partition in doubtful for doubtful in self._abandoned.values()):
            raise Full("whether the records before these were stored shows once the failed file is mended")
        waiting = Waiting(records, size_bytes, origin, asyncio.get_running_loop().create_future())
        if not self._group:
            self._group_ms = self._runtime.now_ms()
        self._group.append(waiting)
        self._group_bytes += size_bytes
        self._kick()
        return await waiting.done

    def origins(self) -> Mapping[str, Origin]:
        return self._state.origins

    @property
    def limits(self) -> Limits:
        return self._limits

    @limits.setter
    def limits(self, limits: Limits) -> None:
        """What is open follows a new interval too, from its first record on."""
        changed = limits.interval_seconds != self._limits.interval_seconds
        self._limits = limits
        if changed and self._age:
            self._age.cancel()
            self._ring()

    @property
    def buffered_bytes(self) -> int:
        """Bytes of the stream's files, the open one included."""
        return self._state.waiting_bytes + sum(_file_bytes(lane) for lane in self._lanes())

    @property
    def accepted(self) -> int:
        """Records ever taken, by the lanes' dense numbers."""
        return self._state.accepted + sum(lane.next for lane in self._lanes())

    @property
    def sealed_records(self) -> int:
        """Records ever sealed. Counted in step with the telling: whoever was told of all has all of these."""
        return self._state.sealed_records

    @property
    def versions(self) -> set[int]:
        """Versions of the definition that a sealed segment still follows."""
        return {file.version for file in self._state.files.values()}

    @property
    def full(self) -> bool:
        return self.buffered_bytes >= self.limits.limit_bytes

    @property
    def open_since_ms(self) -> int | None:
        """Arrival of the oldest record that no sealed segment holds yet."""
        lane = self._lane
        return lane.open.opened_ms if lane and lane.open and lane.open.count else None

    def removed(self, key: SegmentKey) -> None:
        """A segment is delivered everywhere and its file gone."""
        self._state.removed(key)

    def check_removed(self) -> None:
        """Looks which files are gone, in case nobody could tell."""
        for key in [key for key in self._state.files if not self._disk.exists(layout.file_of(self._data_dir, key))]:
            self._state.removed(key)

    async def seal(self) -> None:
        """Seals what has been appended so far, returns when it is. What a failing disk made us abandon is mended on its
        own time.
        """
        done = asyncio.get_running_loop().create_future()
        self._sealers.append(done)
        self._seal_due = True
        self._kick()
        await done

    async def close(self) -> None:
        """Refuses further appends and seals the rest."""
        self._closed = True
        await self.seal()
        if self._age:
            self._age.cancel()
        await asyncio.gather(*self._mending)
        for lane in self._lanes():
            lane.close()

    def _lanes(self) -> list[Lane]:
        return [*self._abandoned, self._lane] if self._lane else [*self._abandoned]

    def make_sure_of_room(self, size_bytes: int) -> None:
        """Raises `Full` where so many bytes cannot be taken now. The disk is asked once for each group of appends, and
        for each refusal.
        """
        if self._room is None or self._group_bytes + size_bytes > self._room[0]:
            self._room = self._measured_room()
        room_bytes, reason = self._room
        if self._group_bytes + size_bytes > room_bytes:
            raise Full(reason, 5.0)
        if self._group_bytes > FRAME_BYTES:
            raise Full("more is waiting for the disk than one frame holds")
        if self._failures and self._disk_is_given_time():
            raise Full("the disk is failing; it is tried again in a moment")
        since = self._committing_since
        if since is not None and self._runtime.monotonic() - since > self.limits.commit_seconds:
            raise Full("the disk has not answered for service.commit_seconds")

    def _measured_room(self) -> tuple[int, str]:
        """How many bytes more can be taken now, and what stands in the way of more."""
        try:
            free = self._disk.free_bytes(self._data_dir)
        except OSError as error:
            raise Full(f"the disk does not answer: {error.strerror}", 5.0) from error
        return min(
            (self.limits.limit_bytes - self.buffered_bytes, f"the buffer of '{self.stream}' is at its limit_gib"),
            (free - self.limits.reserve_bytes, "the disk is full up to service.reserve_mib"),
        )

    def _disk_is_given_time(self) -> bool:
        """Bounds what a disk that keeps failing leaves behind: lanes to be mended, empty folders."""
        since = self._runtime.monotonic() - self._failed_at
        return len(self._abandoned) >= ABANDONED_LIMIT or (self._failures >= FAILURES_IN_ROW and since < MEND_SECONDS)

    def _kick(self) -> None:
        if self._flushing is None or self._flushing.done():
            self._flushing = asyncio.get_running_loop().create_task(self._flush())

    async def _flush(self) -> None:
        while self._group or self._seal_due:
            waiting, self._group, self._group_bytes, self._room = self._group, [], 0, None
            sealers, self._sealers = self._sealers, []
            try:
                if waiting or (self._lane and self._lane.open):
                    await self._commit(_group(waiting, self._group_ms, self._next_turn(waiting)), waiting)
                else:
                    self._seal_due = False
            finally:
                for done in sealers:
                    if not done.done():
                        done.set_result(None)

    def _next_turn(self, waiting: list[Waiting]) -> int:
        self._state.turn += any(one.origin for one in waiting)
        return self._state.turn

    async def _commit(self, group: Group, waiting: list[Waiting]) -> None:
        """Hands one group to the disk, and settles everyone who waits for it, whatever happens."""
        seal, self._seal_due = self._seal_due or self._full_after(group), False
        lane, new = self._lane, self._lane is None
        if lane is None:
            lane = Lane(self._disk, self._data_dir, self.stream, self._runtime.lane_name())
        good_bytes = _file_bytes(lane)
        self.sealing += seal
        self._committing_since = self._runtime.monotonic()
        try:
            written = await self._threads.run(partial(_write, lane, new, group, self._version() if seal else None))
        except Exception as error:  # a bug too must not leave anyone waiting
            _fail(waiting, error)
            self._abandon(lane, good_bytes, error, {one.origin.partition for one in waiting if one.origin})
            return
        finally:
            self.sealing -= seal
            self._committing_since = None
        self._lane, self._failures = lane, 0
        self._settle(waiting, lane.name, written.first)
        if written.error is not None:
            self._abandon(lane, written.file_bytes, written.error, set())
        elif written.segment is not None:
            self._tell(written.segment, written.file_bytes)
        self._set_age(sealed=written.segment is not None)

    def _settle(self, waiting: list[Waiting], lane: str, first: int) -> None:
        """Tells everyone where their records landed."""
        for one in waiting:
            self.accepted_bytes += one.size_bytes
            if one.origin:
                self._state.origins[one.origin.partition] = one.origin
            if not one.done.done():
                one.done.set_result(Position(lane, first, one.records.num_rows))
            first += one.records.num_rows

    def _full_after(self, group: Group) -> bool:
        opened = self._lane.open if self._lane else None
        size = group.size_bytes + (opened.size_bytes if opened else 0)
        hint = self.limits.size_bytes
        growth = min(GROWTH_LIMIT, max(1, self._state.waiting_bytes // (4 * hint)))
        return size >= max(hint, min(hint * growth, GROWN_BYTES))

    def _set_age(self, sealed: bool) -> None:
        """Starts the interval at the first record of a segment; ends it with the seal."""
        if sealed and self._age:
            self._age.cancel()
            self._age = None
        if not sealed and self._age is None and self._lane and self._lane.open and self._lane.open.count:
            self._aging_since = self._runtime.monotonic()
            self._ring()

    def _ring(self) -> None:
        interval = self.limits.interval_seconds or ZERO_INTERVAL_SECONDS
        left = self._aging_since + interval - self._runtime.monotonic()
        self._age = self._runtime.after(max(0.0, left), self._aged)

    def _aged(self) -> None:
        self._age = None
        self._seal_due = True
        self._kick()

    def _abandon(self, lane: Lane, good_bytes: int, error: Exception, doubtful: set[str]) -> None:
        """The disk failed under this lane: what follows goes to a new one, and this one is mended in time. Until then
        a crash may bring back what failed, so appends of the same source partitions wait for it.
        """
        lane.abandon()
        self._failures, self._failed_at = self._failures + 1, self._runtime.monotonic()
        self._lane = None
        self._set_age(sealed=True)
        if lane.open is not None:
            self._abandoned[lane] = doubtful
            self._mend_later(lane, good_bytes)
        else:
            self._state.accepted += lane.next
            lane.close()
        self._failed(f"writing to the buffer of '{self.stream}' failed: {error}")

    def _mend_later(self, lane: Lane, good_bytes: int) -> None:
        def begin() -> None:
            if self._closed:
                return  # the next start mends it
            task = asyncio.get_running_loop().create_task(self._mend(lane, good_bytes))
            self._mending.add(task)
            task.add_done_callback(self._mending.discard)

        self._runtime.after(MEND_SECONDS, begin)

    async def _mend(self, lane: Lane, good_bytes: int) -> None:
        """Seals an abandoned lane behind its last good frame, again and again until the disk lets us."""
        self.sealing += 1
        try:
            segment = await self._threads.run(partial(self._mended, lane, good_bytes, self._version()))
        except Exception as error:  # a bug too must not leave it unmended for want of a second try
            self._failed(f"mending the buffer of '{self.stream}' failed: {error}")
            self._mend_later(lane, good_bytes)
            return
        finally:
            self.sealing -= 1
        del self._abandoned[lane]
        self._state.accepted += lane.next
        lane.close()
        if segment is not None:
            self._tell(segment, good_bytes)
        elif lane.open is not None:  # renamed before the disk failed, found by a new delivery half, and delivered
            self._state.sealed_records += lane.open.count

    def _tell(self, segment: Segment, file_bytes: int) -> None:
        self._state.sealed(segment, file_bytes)
        self._state.sealed_records += segment.count
        self._sealed(segment)

    def _mended(self, lane: Lane, good_bytes: int, version: int) -> Segment | None:
        assert lane.open is not None
        folder = layout.lane_folder(self._data_dir, self.stream, lane.name)
        first = lane.open.first
        if not recovery.mend(self._disk, folder, lane.name, first, version, recovery.Recovered(), good_bytes):
            return None
        return recovery.read_segment(self._disk, self._data_dir, (self.stream, lane.name, first))


def _write(lane: Lane, new: bool, group: Group, seal_as: int | None) -> Written:
    """The blocking part of a commit. Raises OSError where the records may not be durable."""
    if new:
        lane.create()
    first = lane.append(group) if group.count or group.origins else lane.next
    file_bytes = _file_bytes(lane)
    if seal_as is None:
        return Written(first, file_bytes)
    try:
        return Written(first, file_bytes, lane.seal(seal_as))
    except OSError as error:
        return Written(first, file_bytes, error=error)


def _fail(waiting: list[Waiting], error: Exception) -> None:
    for one in waiting:
        if not one.done.done():
            one.done.set_exception(Unsure(f"the disk failed: {error}"))


def _file_bytes(lane: Lane) -> int:
    return lane.open.file_bytes if lane.open else 0


def _group(waiting: list[Waiting], arrival_ms: int, turn: int) -> Group:
    return Group(
        [one.records for one in waiting if one.records.num_rows],
        {one.origin.partition: (turn, one.origin.cursor) for one in waiting if one.origin},
        arrival_ms,
        sum(one.records.num_rows for one in waiting),
        sum(one.size_bytes for one in waiting),
    )
