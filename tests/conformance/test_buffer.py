"""Every buffer keeps the laws of its doors, and each mistake with a name breaks one of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pyarrow as pa
import pytest
from conformance import appender as of_appender
from conformance import outbox as of_outbox
from conformance.appender import Harness, Law
from disk_buffer import LEDGER, ROOT, STREAM, DiskBuffer, delivered, offered
from faulty_disk import Fault, FaultyDisk, MemoryWriter
from memory_buffer import MemoryBuffer
from parted import OnePartition, PartedBuffer
from virtual_time import VirtualRuntime, passed, run

from firehose.buffer import frame, layout, recovery
from firehose.buffer.appender import DiskAppender
from firehose.buffer.cuts import CutOutbox
from firehose.buffer.outbox import DiskOutbox
from firehose.buffer.state import State
from firehose.contracts import Full, Outbox, Retry, Writer
from firehose.model import Origin, Position, Records, Segment, Totals
from firehose.rows import pieces, values_bytes

LAWS = [*of_appender.LAWS, *of_outbox.LAWS]
BOTH = ("far", "near")


class DiskHarness(DiskBuffer):
    """The disk implementation, as the service composes it."""

    durable = True

    def __init__(self, disk: FaultyDisk | None = None, runtime: VirtualRuntime | None = None) -> None:
        super().__init__(disk, runtime, BOTH)

    async def seal(self) -> None:
        await self.appender.seal()

    async def segments(self) -> list[Segment]:
        return await offered(self.outbox())

    async def drained(self) -> list[bytes]:
        await self.seal()
        return [record for segment in await self.segments() for record in await self._finished(segment)]

    async def _finished(self, segment: Segment) -> list[bytes]:
        await self.outbox("near").commit(segment, Totals(delivered=segment.count))
        return await delivered(self.outbox(), segment)

    def fail_next_sync(self) -> None:
        self.disk.faults.append(Fault("sync", ending=".open"))

    def fill(self) -> None:
        self.disk.free = 0


class MemoryHarness:
    """The implementation without a disk: its crashes lose nothing."""

    durable = False

    async def start(self) -> None:
        runtime = VirtualRuntime()
        self.appender = MemoryBuffer("app", runtime.lane_name, runtime.now_ms, BOTH, 1000)

    async def crash(self, power: bool = True) -> None:
        self.appender = await self.appender.restarted()

    async def seal(self) -> None:
        await self.appender.seal()

    def outbox(self, destination: str = "far") -> Outbox:
        return self.appender.outboxes[destination]

    async def segments(self) -> list[Segment]:
        return await offered(self.outbox())

    async def drained(self) -> list[bytes]:
        await self.seal()
        return [record for segment in await self.segments() for record in await delivered(self.outbox(), segment)]

    def fail_next_sync(self) -> None:
        pass

    def fill(self) -> None:
        self.appender.limit_bytes = 0


class Parted(PartedBuffer):
    """Cuts, which nobody takes but the laws: each seal is parted, and everything gathered is cut."""

    durable = True

    def __init__(self) -> None:
        super().__init__(BOTH)
        self.steps = (OnePartition(),)

    def work_off(self, stream: str, destination: str, outbox: DiskOutbox | CutOutbox) -> bool:
        return not isinstance(outbox, CutOutbox)

    async def start(self, died: bool = True) -> None:
        await super().start(died)
        await self.cut()

    async def seal(self) -> None:
        await self.appender.seal()
        await self.cut()

    async def cut(self) -> None:
        await self.idle()
        self.shelf.flush(STREAM)

    async def idle(self) -> None:
        """Until stage one has nothing left to do."""
        await passed(0.5)

    def outbox(self, destination: str = "far") -> Outbox:
        return self.cuts(destination)

    async def segments(self) -> list[Segment]:
        return await offered(self.outbox())

    async def drained(self) -> list[bytes]:
        raise AssertionError("for the laws of appenders alone")

    def fail_next_sync(self) -> None:
        raise AssertionError("for the laws of appenders alone")

    fill = fail_next_sync


OF_CUTS = [law for law in of_outbox.LAWS if "outcomes" not in law.__name__]  # theirs are the segments'


@pytest.mark.parametrize("law", OF_CUTS, ids=lambda law: law.__name__)
def test_law_of_cuts(law: Law) -> None:
    """Cuts keep the laws of an outbox."""
    run(_kept(law, Parted()))


@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.__name__)
@pytest.mark.parametrize("harness", [DiskHarness, MemoryHarness])
def test_law(harness: Callable[[], Harness], law: Law) -> None:
    """The implementation keeps the law."""
    run(_kept(law, harness()))


async def _kept(law: Law, harness: Harness) -> None:
    await law(harness)


# Wrong implementations. Each makes one mistake that someone could make.


class SyncNever(FaultyDisk):
    def create(self, path: str) -> Writer:
        made = super().create(path)
        assert isinstance(made, MemoryWriter)
        return Unsynced(self, path, made._file)

    def after_power_cut(self, dice: object = None) -> FaultyDisk:
        return SyncNever(super().after_power_cut()._root)


class Unsynced(MemoryWriter):
    """Acknowledges before the sync: in other words, without one that anybody waited for."""

    def sync(self) -> None:
        pass


class SyncFolderNever(FaultyDisk):
    def sync_folder(self, path: str) -> None:
        pass


class SwallowSync(FaultyDisk):
    """A failed sync is taken for a good one."""

    def create(self, path: str) -> Writer:
        made = super().create(path)
        assert isinstance(made, MemoryWriter)
        return Swallowing(self, path, made._file)


class Swallowing(MemoryWriter):
    def sync(self) -> None:
        try:
            super().sync()
        except OSError:
            pass


class OneLane(VirtualRuntime):
    """Every start writes the lane of the last one, from nought."""

    def lane_name(self) -> str:
        return "20260301T120000-0000000000000000"


class DeleteFirst(DiskHarness):
    """Removes the file when it has been read, before anybody committed it."""

    async def segments(self) -> list[Segment]:
        found = await super().segments()
        for segment in found:
            self.disk.remove(layout.file_of(ROOT, segment))
            self.disk.sync_folder(layout.lane_folder(ROOT, segment.stream, segment.lane))
        return found


class NewIdentity(DiskHarness):
    """What is tried again after a start is named by the time of that start."""

    starts = 0

    async def start(self, died: bool = True) -> None:
        self.starts += 1
        await super().start(died)

    async def segments(self) -> list[Segment]:
        return [replace(segment, version=self.starts) for segment in await super().segments()]


class LoseRemainder(DiskHarness):
    """Takes of an append only what fits below the threshold."""

    def make_appender(self) -> DiskAppender:
        made = super().make_appender()
        whole = made.append

        async def fitting(records: pa.RecordBatch, origin: Origin | None = None) -> Position:
            size = max(1, values_bytes(records.column("record")))
            return await whole(records.slice(0, max(1, records.num_rows * 1000 // size)), origin)

        made.append = fitting  # type: ignore[method-assign]
        return made


class FirstPiece(DiskHarness):
    """Takes no more of an append than the first piece that it lies in."""

    def make_appender(self) -> DiskAppender:
        made = super().make_appender()
        whole = made.append

        async def first(records: Records, origin: Origin | None = None) -> Position:
            return await whole(pieces(records)[0], origin)

        made.append = first  # type: ignore[method-assign]
        return made


class WrongFrame(DiskHarness):
    """Takes the last good frame of an open file for a torn one."""

    async def start(self, died: bool = True) -> None:
        for path in self.paths(layout.OPEN):
            lane, first = path.split("/")[-2], int(path.split("/")[-1][:20])
            buffer = self.disk.view(path).buffer
            frames = [f for f in frame.scan(buffer, frame.seed(lane), first) if isinstance(f, frame.Frame)]
            self.disk.reopen(path, frames[-1].offset if frames else 0).close()
        await super().start(died)


class ForgetCursors(DiskHarness):
    """Remembers the origins of segments that are still there, and no others."""

    def recovered(self, found: recovery.Recovered) -> State:
        state = super().recovered(found)
        on_disk = {p for segment in found.segments for p in self._origins_in(segment)}
        state.origins = {partition: origin for partition, origin in state.origins.items() if partition in on_disk}
        return state

    def _origins_in(self, segment: Segment) -> frame.Origins:
        return recovery.summary(
            self.disk.view(layout.file_of(ROOT, segment)).buffer, frame.seed(segment.lane), segment.first
        )


class NewestByChance(DiskHarness):
    """Takes the origin that it happens to find last for the newest."""

    def recovered(self, found: recovery.Recovered) -> State:
        state = super().recovered(found)
        for segment in sorted(found.segments):
            buffer = self.disk.view(layout.file_of(ROOT, segment)).buffer
            for partition, (_, cursor) in recovery.summary(buffer, frame.seed(segment.lane), segment.first).items():
                state.origins[partition] = Origin(partition, cursor)
        return state


class ForgetCommits(DiskHarness):
    """Commits in memory only: the ledger is not what a later process reads."""

    async def crash(self, power: bool = True, dice: object = None) -> None:
        self.disk.put(LEDGER, b"")
        for key in self.gone:
            self.disk.put(layout.file_of(ROOT, key), self.kept[key])
        await super().crash(power)

    async def segments(self) -> list[Segment]:
        found = await super().segments()
        self.kept = {**getattr(self, "kept", {}), **{s.key: self.disk.read(layout.file_of(ROOT, s)) for s in found}}
        return found


class GoOnAtOnce(DiskHarness):
    """Does not wait until it is settled whether a failed append was stored."""

    def make_appender(self) -> DiskAppender:
        made = super().make_appender()
        whole = made._mending.add
        made._mending.add = lambda lane, good_bytes, doubtful: whole(lane, good_bytes, set())  # type: ignore[method-assign]
        return made


class TakeWhenFull(DiskHarness):
    """Refuses when the records are in the buffer already."""

    def make_appender(self) -> DiskAppender:
        made = super().make_appender()
        whole = made.append

        async def late(records: pa.RecordBatch, origin: Origin | None = None) -> Position:
            free, self.disk.free = self.disk.free, 1 << 40
            position = await whole(records, origin)
            self.disk.free = free
            if not free:
                raise Full("too late")
            return position

        made.append = late  # type: ignore[method-assign]
        return made


CANARIES: list[tuple[Callable[[], Harness], Law]] = [
    (lambda: DiskHarness(SyncNever()), of_appender.acknowledged_survives),
    (lambda: DiskHarness(SyncFolderNever()), of_appender.first_names_survive),
    (lambda: DiskHarness(runtime=OneLane()), of_appender.names_never_come_back),
    (lambda: DiskHarness(SwallowSync()), of_appender.failed_sync_is_no_acknowledgement),
    (FirstPiece, of_appender.pieces_are_one_append),
    (LoseRemainder, of_appender.nothing_is_lost_at_a_threshold),
    (WrongFrame, of_appender.restarts_lose_nothing),
    (ForgetCursors, of_appender.origins_outlive_their_segments),
    (NewestByChance, of_appender.older_origins_stay_older),
    (GoOnAtOnce, of_appender.origins_decide),
    (TakeWhenFull, of_appender.full_takes_nothing),
    (DeleteFirst, of_outbox.comes_back_until_committed),
    (NewIdentity, of_outbox.comes_back_until_committed),
    (ForgetCommits, of_outbox.never_after_commit),
]


@pytest.mark.parametrize(("canary", "law"), CANARIES)
def test_canary(canary: Callable[[], Harness], law: Law) -> None:
    """The wrong implementation breaks the law."""
    with pytest.raises((AssertionError, OSError, KeyError, ValueError, Retry)):
        run(_kept(law, canary()))
