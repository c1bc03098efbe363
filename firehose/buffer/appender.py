"""Group commit: the appends of one delivery stream, parked together, written as one frame, released together.

While one group is being synced the next one fills, so that the disk's own pace sets the size of the groups and a lone
append waits for nobody. Of each lane at most one group is in the disk's hands; a stream writes one lane, several where
that pays (`writing`), and has one group that fills.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from functools import partial
from math import inf

from firehose.buffer import layout, mending
from firehose.buffer.commit import Waiting, Written, fail, group_of, write
from firehose.buffer.lane import Group, Lane
from firehose.buffer.state import Limits, State, Workplace
from firehose.buffer.writing import LANES, Pace, Writing
from firehose.contracts import Full
from firehose.model import Origin, Position, Records, Segment, SegmentKey
from firehose.rows import values_bytes

ZERO_INTERVAL_SECONDS = 1.0  # "zero buffering" delivers within a few seconds: firehose.md section 4
EARLY = 1 / 2  # of its interval: so much earlier it may be sealed where many are due. A hint: firehose.md section 4
GROWTH_LIMIT = 16  # how many times its hint a segment may grow while delivery is behind
GROWN_BYTES = 128 * 1024 * 1024  # and to which size at the most: AWS's largest hint
FRAME_BYTES = 64 * 1024 * 1024  # a group larger than this waits for the next frame
FAILURES_IN_ROW = 4  # after so many the disk is tried once in MEND_SECONDS only


class DiskAppender:
    """An `Appender` over lanes on disk. One per delivery stream; lives in the event loop."""

    def __init__(
        self,
        at: Workplace,
        limits: Limits,
        sealed: Callable[[Segment], None],
        state: State,
        written: Callable[[str, Written, Group], None] = lambda lane, written, group: None,
        lanes: int = LANES,
    ) -> None:
        self.stream = at.stream
        self._at = at
        self._threads, self._runtime = at.threads, at.runtime
        self._limits = limits
        self._sealed = sealed  # told of each sealed segment
        self._state = state
        self._written = written  # told of each group that is durable, and of its lane
        self._writing = [Writing(0)]
        self._pace = Pace(lanes)  # `lanes` are written side by side at the most
        self._group: list[Waiting] = []
        self._group_bytes = 0
        self._group_ms = 0
        self._room: tuple[int, str] | None = None  # of the group that fills, in bytes, and what bounds it
        self._with_origins = False  # whether it has any
        self._beginning = False  # a lane is about to take the group
        self._spacing: asyncio.TimerHandle | None = None  # until a lane may
        self._mending = mending.Mending(at, self._mended)
        self._failures = 0  # in a row
        self._failed_at = 0.0
        self._closed = False
        self.accepted_bytes = 0  # of records, since this process began
        self._sealing = 0

    async def append(self, records: Records, origin: Origin | None = None) -> Position:
        if self._closed:
            raise Full("the service is stopping")
        size_bytes = values_bytes(records.column(0))
        if not records.num_rows and origin is None:
            return Position("", 0, 0)
        self.make_sure_of_room(size_bytes)
        if origin is not None and self._mending.doubts(origin.partition):
            raise Full("whether the records before these were stored shows once the failed file is mended")
        waiting = Waiting(records, size_bytes, origin, asyncio.get_running_loop().create_future())
        if not self._group:
            self._group_ms = self._runtime.now_ms()
        self._group.append(waiting)
        self._group_bytes += size_bytes
        if origin is not None:
            self._with_origins = True
        if not self._beginning and self._spacing is None:
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
        for writing in self._writing if changed else ():
            if writing.age:
                writing.age.cancel()
                writing.age = None
                self._set_alarm(writing)

    @property
    def _interval_seconds(self) -> float:
        return self._limits.interval_seconds or ZERO_INTERVAL_SECONDS

    @property
    def buffered_bytes(self) -> int:
        """Bytes of the stream's files, the open one included."""
        return self._state.waiting_bytes + sum(lane.file_bytes for lane in self._lanes())

    @property
    def accepted(self) -> int:
        """Records ever taken, by the lanes' dense numbers."""
        return self._state.accepted + sum(lane.next for lane in self._lanes())

    @property
    def sealed_records(self) -> int:
        """Records ever sealed. Counted in step with the telling: whoever was told of all has all of these."""
        return self._state.sealed_records

    @property
    def sealing(self) -> int:
        """Seals under way, whose version is chosen: the catalogue must not change under them."""
        return self._sealing + self._mending.sealing

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
        return min((writing.open.opened_ms for writing in self._writing if writing.open), default=None)

    def removed(self, key: SegmentKey) -> None:
        """A segment is delivered everywhere and its file gone."""
        self._state.removed(key)

    def check_removed(self) -> None:
        """Looks which files are gone, in case nobody could tell."""
        at = self._at
        for key in [key for key in self._state.files if not at.disk.exists(layout.file_of(at.data_dir, key))]:
            self._state.removed(key)

    async def seal(self) -> None:
        """Seals what has been appended so far, returns when it is. What a failing disk made us abandon is mended on its
        own time.
        """
        at_work = [one for one in self._writing if one.busy or one.open] or self._writing[:1]  # one takes what waits
        told = [writing.told_to_seal() for writing in at_work]
        for writing in at_work:
            self._set_to_work(writing)
        await asyncio.gather(*told)

    async def close(self) -> None:
        """Refuses further appends and seals the rest."""
        self._closed = True
        await self.seal()
        for writing in self._writing:
            writing.end_age()
        await self._mending.close()
        for lane in self._lanes():
            lane.close()

    def _lanes(self) -> list[Lane]:
        return [*self._mending.lanes, *(writing.lane for writing in self._writing if writing.lane)]

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
        for writing in self._writing:
            since = writing.since
            if since is not None and self._runtime.monotonic() - since > self._limits.commit_seconds:
                raise Full("the disk has not answered for service.commit_seconds")

    def _measured_room(self) -> tuple[int, str]:
        """How many bytes more can be taken now, and what stands in the way of more."""
        try:
            free = self._at.disk.free_bytes(self._at.data_dir)
        except OSError as error:
            raise Full(f"the disk does not answer: {error.strerror}", 5.0) from error
        taken = self.buffered_bytes + sum(writing.group_bytes for writing in self._writing)
        return min(
            (self.limits.limit_bytes - taken, f"the buffer of '{self.stream}' is at its limit_gib"),
            (free - self.limits.reserve_bytes, "the disk is full up to service.reserve_mib"),
        )

    def _disk_is_given_time(self) -> bool:
        """Bounds what a disk that keeps failing leaves behind: lanes to be mended, empty folders."""
        since = self._runtime.monotonic() - self._failed_at
        return self._mending.full or (self._failures >= FAILURES_IN_ROW and since < mending.MEND_SECONDS)

    def _kick(self) -> None:
        """Sees that what waits is taken as soon as a lane is free, and worth it."""
        self._spacing = None
        while len(self._writing) < self._pace.lanes:
            self._writing.append(Writing(len(self._writing)))
        for writing in self._writing:
            if not writing.busy and self._takes(writing):
                self._beginning = True
                self._set_to_work(writing)
                return
        if self._group and (left := self._seconds_left()) > 0:
            self._spacing = self._runtime.after(left, self._kick)

    def _set_to_work(self, writing: Writing) -> None:
        if not writing.busy:
            writing.busy = True
            writing.flushing = asyncio.get_running_loop().create_task(self._flush(writing))

    async def _flush(self, writing: Writing) -> None:
        """One commit of this lane after the other, while there is something to do for it."""
        self._beginning = False
        try:
            while (taken := self._takes(writing)) or writing.seal_due:
                await self._commit(writing, self._taken() if taken else [])
        finally:
            writing.busy = False
        if self._spacing is None:
            self._kick()

    def _takes(self, writing: Writing) -> bool:
        """Whether the group that waits is for this lane. Of groups with origins the one before is durable first, so
        that an older origin never comes behind a newer one.
        """
        if not self._group or (self._with_origins and any(other.with_origins for other in self._writing)):
            return False
        if writing.seal_due:
            return True
        return writing.number < self._pace.lanes and self._seconds_left() <= 0

    def _seconds_left(self) -> float:
        """Until another lane may begin. Of one alone nobody asks for the time."""
        return self._pace.left(self._runtime.monotonic()) if self._pace.lanes > 1 else 0.0

    def _taken(self) -> list[Waiting]:
        waiting, self._group, self._group_bytes, self._room = self._group, [], 0, None
        self._with_origins = False
        return waiting

    def _next_turn(self, waiting: list[Waiting]) -> int:
        self._state.turn += any(one.origin for one in waiting)
        return self._state.turn

    async def _commit(self, writing: Writing, waiting: list[Waiting]) -> None:
        """Has a group stored, and the segment sealed where that is due. Nobody waits for the seal behind a group, but
        those who asked for one.
        """
        group = group_of(waiting, self._group_ms, self._next_turn(waiting))
        full = self._full_after(writing, group)
        seal, writing.seal_due = writing.seal_due or full, False
        sealers, writing.sealers = writing.sealers, []
        try:
            if waiting:
                await self._store(writing, group, waiting)
            if seal and writing.open:
                await self._seal(writing, full)
        finally:
            for done in sealers:
                if not done.done():
                    done.set_result(None)
        if writing.open and writing.aging_since is None:
            writing.aging_since = self._runtime.monotonic()
            self._set_alarm(writing)

    async def _store(self, writing: Writing, group: Group, waiting: list[Waiting]) -> None:
        """Hands one group to the disk, and settles everyone who waits for it, whatever happens."""
        lane, new = writing.lane, writing.lane is None
        if lane is None:
            name = self._runtime.lane_name()
            lane = Lane(self._at.disk, self._at.data_dir, self.stream, name, self._runtime.seconds_of)
        good_bytes = lane.file_bytes
        writing.since = self._runtime.monotonic()
        self._pace.begun(writing.since)
        if not writing.open:
            writing.filling_since, writing.before_bytes = writing.since, self.accepted_bytes
        writing.group_bytes, writing.with_origins = group.size_bytes, bool(group.origins)
        try:
            written = await self._threads.run(partial(write, lane, new, group))
        except Exception as error:  # a bug too must not leave anyone waiting
            fail(waiting, error)
            self._abandon(writing, lane, good_bytes, error, {one.origin.partition for one in waiting if one.origin})
            return
        finally:
            writing.since, writing.group_bytes, writing.with_origins = None, 0, False
        writing.lane, self._failures = lane, 0
        self._pace.synced(lane.sync_seconds)
        self._settle(waiting, lane.name, written.first, group.arrival_ms)
        self._written(lane.name, written, group)

    async def _seal(self, writing: Writing, full: bool) -> None:
        """Seals what the lane has open, which is durable: where the seal fails, that is mended in time."""
        lane = writing.lane
        assert lane is not None, "an open segment is a lane's"
        file_bytes = lane.file_bytes
        began = writing.since = self._runtime.monotonic()
        self._sealing += 1
        try:
            segment = await self._threads.run(partial(lane.seal, self._at.version()))
        except Exception as error:  # of a bug too: what has been stored is to be delivered
            self._abandon(writing, lane, file_bytes, error, set())
            return
        finally:
            self._sealing -= 1
            writing.since = None
        segments = (self.accepted_bytes - writing.before_bytes) / self._limits.size_bytes
        self._pace.sealed(full, began - writing.filling_since, segments, self._interval_seconds)
        writing.end_age()
        self._tell(segment, file_bytes)

    def _settle(self, waiting: list[Waiting], lane: str, first: int, arrival_ms: int) -> None:
        """Tells everyone where their records landed."""
        for one in waiting:
            self.accepted_bytes += one.size_bytes
            if one.origin:
                self._state.origins[one.origin.partition] = one.origin
            if not one.done.done():
                one.done.set_result(Position(lane, first, one.records.num_rows, arrival_ms))
            first += one.records.num_rows

    def _full_after(self, writing: Writing, group: Group) -> bool:
        if writing.open and writing.open.file_bytes >= self.limits.file_bytes:
            return True
        size = group.size_bytes + (writing.open.size_bytes if writing.open else 0)
        hint = self.limits.size_bytes
        growth = min(GROWTH_LIMIT, max(1, self._state.waiting_bytes // (4 * hint)))
        return size >= max(hint, min(hint * growth, GROWN_BYTES))

    def _set_alarm(self, writing: Writing) -> None:
        assert writing.aging_since is not None, "a segment's age begins with its first record"
        interval = self._interval_seconds
        if interval < inf:  # else nothing is sealed for its age
            due, early = writing.aging_since + interval, interval * EARLY
            writing.age = self._at.alarms.set(self._runtime, due, early, partial(self._aged, writing))

    def _aged(self, writing: Writing) -> None:
        writing.age = None
        writing.seal_due = True
        self._set_to_work(writing)

    def _abandon(self, writing: Writing, lane: Lane, good_bytes: int, error: Exception, doubtful: set[str]) -> None:
        """The disk failed under this lane: what follows goes to a new one, and this one is mended in time. Until then
        a crash may bring back what failed, so appends of the same source partitions wait for it.
        """
        lane.abandon()
        self._failures, self._failed_at = self._failures + 1, self._runtime.monotonic()
        writing.lane = None
        writing.end_age()
        if lane.open is not None:
            self._mending.add(lane, good_bytes, doubtful)
        else:
            self._state.accepted += lane.next
            lane.close()
        self._at.failed(f"writing to the buffer of '{self.stream}' failed: {error}")

    def _mended(self, lane: Lane, segment: Segment | None, file_bytes: int) -> None:
        self._state.accepted += lane.next
        if segment is not None:
            self._tell(segment, file_bytes)
        elif lane.open is not None:  # renamed before the disk failed, found by a new delivery half, and delivered
            self._state.sealed_records += lane.open.count

    def _tell(self, segment: Segment, file_bytes: int) -> None:
        self._state.sealed(segment, file_bytes)
        self._state.sealed_records += segment.count
        self._sealed(segment)
