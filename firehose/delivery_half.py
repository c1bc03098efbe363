"""The delivery half put together: shelf, workshop, slots and one `Deliveries` for each stream and destination.

It is told what to do by messages (plain dictionaries) and tells what it did by messages, so that it runs equally in
the service's own process and in one of its own, a fork of it or `python -m firehose.delivery_half`, which ends when its
parent's pipe closes. Messages to it, by `do`:

    hello    data_dir, region, account_id, delivery, died
                                                the first one; `died`: the process before ended without leave
    sealed   segment: [stream, lane, first]
    rescan                                      announcements were lost: look at the disk
    reload                                      the catalogue has changed, or a person mended something
    release  segment, id                        a held segment or cut is to be tried again
    flush    stream                             what its partitions have gathered is to be cut now
    stats    id
    drain    seconds                            deliver what there is, try nothing twice, then say drained

and from it, by `say`: `ready`, `failed` (why: it cannot start), `removed` (segment), `stats` (id, and what `stats`
returns), `released` (id, destinations), `drained`.
"""

from __future__ import annotations

import asyncio
import json
import os
import select
import signal
import sys
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

import uvloop

from firehose import allocator, config, encoded_once, observe
from firehose.arrow_alone import without_pandas
from firehose.aws import Clients
from firehose.blocks import GIB, MIB
from firehose.buffer.cuts import CutOutbox, Gathering, Thresholds
from firehose.buffer.disk import LocalDisk
from firehose.buffer.outbox import DiskOutbox, Shelf
from firehose.catalogue import Catalogue, destination_blocks
from firehose.config import DeliveryOptions
from firehose.contracts import Disk, Lock
from firehose.delivery.loop import Deliveries
from firehose.delivery.pipeline import OneByOne, Pipeline
from firehose.delivery.slots import Slots
from firehose.delivery.watch import Watch
from firehose.delivery.workshop import Workshop, scratch
from firehose.forked_half import PARENTS_SIGNALS
from firehose.letters.retention import Retention
from firehose.model import SegmentKey
from firehose.partitions import ActivePartitions
from firehose.runtime import Runtime

Message = dict[str, Any]
LEDGER_THREADS = 4
TRANSFORM_THREADS = 2
LOCK_SECONDS = 0.2  # between looks at a lock that another delivery half holds
UNREADABLE = Thresholds(5 * MIB, 300, 20 * GIB)  # of a definition that cannot be read now
AGAIN_SECONDS = 10.0  # after a message that could not be followed, or a file that could not be removed


class DeliveryHalf:
    """Lives in an event loop. `tell` takes its messages; it must not block."""

    def __init__(
        self,
        data_dir: str,
        region: str,
        options: DeliveryOptions,
        disk: Disk,
        runtime: Runtime,
        tell: Callable[[Message], None],
        lookup: Callable[[str], str | None] = config.reference,
        account_id: str = config.ServiceOptions().account_id,
    ) -> None:
        self._data_dir = data_dir
        self._options = options
        self._disk = disk
        self._runtime = runtime
        self._tell = tell
        self._lock: Lock | None = None
        self._slots = Slots(options.workers, int(options.in_flight_mib * MIB))
        self._threads = runtime.threads("deliver", self._slots.threads, options.spare_cores)
        self._ledger_threads = runtime.threads("ledger", LEDGER_THREADS)
        self._transform_threads = runtime.threads("transform", TRANSFORM_THREADS, options.spare_cores)
        self._outcomes = OneByOne()
        self._watch = Watch()
        self._catalogue = Catalogue(disk, data_dir)
        self._workshop = Workshop(self._catalogue, data_dir, region, disk, self._threads, runtime, lookup, account_id)
        clients = self._workshop.shared.of(Clients)
        self._retention = Retention(self._catalogue, region, lookup, disk, clients, runtime)
        self._deliveries: dict[tuple[str, str], Deliveries] = {}
        self._cuts: dict[tuple[str, str], Deliveries] = {}
        self._running: set[asyncio.Task[None]] = set()
        self._trying_hooks: asyncio.Task[None] | None = None
        self._changed = asyncio.Event()
        self._again: asyncio.TimerHandle | None = None
        self._sweep: asyncio.TimerHandle | None = None
        self._shelf: Shelf | None = None

    async def start(self, died: bool) -> None:
        """Waits until no other delivery half works on this data folder, then takes up everything sealed."""
        while self._lock is None:
            self._lock = self._disk.lock(f"{self._data_dir}/delivery.lock")
            if self._lock is None:
                await asyncio.sleep(LOCK_SECONDS)
        self._catalogue.reload()
        encoded_once.clear(self._disk, scratch(self._data_dir))
        self._shelf = Shelf(
            self._disk,
            self._data_dir,
            self._ledger_threads,
            observe.damaged,
            self._catalogue.destinations,
            self._opened,
            lambda key: self._tell({"say": "removed", "segment": key}),
            self._sweep_later,
            Gathering(self._runtime, self._thresholds, self._workshop.shared.of(ActivePartitions)),
        )
        self._shelf.start(died)
        self._release_unwanted()
        self._retention.follow()
        self._tell({"say": "ready"})
        self._try_hooks()

    async def handle(self, message: Message) -> None:
        """Does what a message says. Where that fails it looks for itself, a little later, until it succeeds."""
        try:
            self._follow(message)
        except Exception:
            observe.log.exception("delivery.message_failed", message=message["do"])
            self._look_later()

    def _follow(self, message: Message) -> None:
        assert self._shelf is not None, "start() comes first"
        match message["do"]:
            case "sealed":
                self._shelf.announce(_key(message))
            case "rescan":
                self._shelf.rescan()
            case "reload":
                self._reload()
            case "release":
                names = self._shelf.release(_key(message))
                self._tell({"say": "released", "id": message["id"], "destinations": names})
            case "flush":
                self._shelf.flush(message["stream"])
            case "stats":
                self._tell({"say": "stats", "id": message["id"], **self.stats()})
            case "drain":
                self._go(self._drained(message["seconds"]))
            case other:
                raise AssertionError(f"unknown message {other}")

    def _look_later(self) -> None:
        if self._again is None:
            self._again = self._runtime.after(AGAIN_SECONDS, self._look_again)

    def _look_again(self) -> None:
        assert self._shelf is not None
        self._again = None
        try:
            self._reload()
            self._shelf.rescan()
        except Exception:
            observe.log.exception("delivery.message_failed", message="look again")
            self._look_later()

    def _sweep_later(self) -> None:
        """A file could not be removed: it counts against its stream's bound, whatever has been delivered."""
        if self._sweep is None:
            self._sweep = self._runtime.after(AGAIN_SECONDS, self._swept)

    def _swept(self) -> None:
        assert self._shelf is not None
        self._sweep = None
        try:
            self._shelf.rescan()
        except Exception:
            observe.log.exception("delivery.message_failed", message="sweep")
            self._sweep_later()

    def stats(self) -> Message:
        """Where every stream stands at every destination, and which versions its segments still need."""
        assert self._shelf is not None
        places = [
            {
                "stream": stream,
                "destination": destination,
                "totals": standing.totals.to_json(),
                "pending": standing.pending,
                "held": standing.held,
                "oldest_ms": standing.oldest_ms,
                "cuts": standing.cuts,
                **self._status((stream, destination)),
            }
            for (stream, destination), standing in self._shelf.standings().items()
        ]
        versions = {name: sorted(v) for name, v in self._shelf.versions().items()}
        removed, hooks = dict(self._retention.removed), self._watch.said()
        active = self._workshop.shared.of(ActivePartitions)
        partitions = {"partitions": dict(active.counted()), "exceeding": dict(active.exceeding())}
        return {"places": places, "versions": versions, "expired": removed, "hooks": hooks, **partitions}

    async def drain(self, seconds: float) -> None:
        """Delivers what can be delivered at the first try, for at most that long; also what partitions gathered."""
        for deliveries in self._all():
            deliveries.stop()
        try:
            async with asyncio.timeout(seconds):
                await self._idle()
                if self._shelf is not None:
                    self._shelf.cut_all()
                await self._idle()
        except TimeoutError:
            observe.log.warning("drain.unfinished", seconds=seconds)

    async def _idle(self) -> None:
        while any(one.under_way or one.waiting for one in self._all()):
            self._changed.clear()
            await self._changed.wait()

    def _all(self) -> list[Deliveries]:
        return [*self._deliveries.values(), *self._cuts.values()]

    async def _drained(self, seconds: float) -> None:
        await self.drain(seconds)
        self._tell({"say": "drained"})

    async def close(self) -> None:
        """Ends without waiting for what is under way: it stays in the buffer."""
        await self._retention.close()
        for timer in (self._again, self._sweep):
            if timer is not None:
                timer.cancel()
        for task in self._running:
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)
        for deliveries in self._all():
            await deliveries.cancel()
        await self._workshop.close(self._workshop.forget())
        self._threads.close()
        self._transform_threads.close()
        if self._shelf is not None:
            self._shelf.close()
        self._ledger_threads.close()
        if self._lock is not None:
            self._lock.close()

    def _opened(self, stream: str, destination: str, outbox: DiskOutbox | CutOutbox) -> None:
        """Segments and cuts wait in lines of their own: a far side that fails must not keep segments from parting."""
        of_cuts = isinstance(outbox, CutOutbox)
        pipeline = Pipeline(
            outbox,
            lambda segment: self._workshop.line(segment, destination),
            self._threads,
            self._transform_threads,
            self._runtime,
            self._outcomes,
            self._watch,
            parts=None if isinstance(outbox, CutOutbox) else outbox,
            cuts=of_cuts,
        )
        deliveries = Deliveries(
            stream,
            destination,
            outbox,
            pipeline,
            self._slots,
            self._options,
            lambda: self._workshop.retry(stream, destination),
            self._runtime,
            self._changed.set,
            lambda segment: self._workshop.is_wanted(segment, destination),
            lambda: self._workshop.converts(stream, destination, of_cuts),
        )
        (self._cuts if of_cuts else self._deliveries)[stream, destination] = deliveries
        self._go(deliveries.run())

    def _thresholds(self, stream: str) -> Thresholds:
        newest = self._workshop.newest(stream)
        if newest is None:
            return UNREADABLE
        limit_bytes = int(newest.options.limit_gib * GIB)
        return Thresholds(newest.size_bytes, newest.interval_seconds, limit_bytes)

    def _go(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work)
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        return task

    def _reload(self) -> None:
        """Never waits for a far side: closing what is no longer used may take its time."""
        assert self._shelf is not None
        self._catalogue.reload()
        self._retention.follow()
        old = self._workshop.forget()
        self._shelf.reconsider()
        self._release_unwanted()
        self._shelf.rescheduled()
        for deliveries in self._all():
            deliveries.resume()
        self._go(self._workshop.close(old))
        self._try_hooks()

    def _release_unwanted(self) -> None:
        """Held for a destination that its stream has no more: let go, unless it can be delivered after all."""
        assert self._shelf is not None
        entries = self._catalogue.entries
        held = [place for place in self._shelf.held() if place[0][0] in entries]
        unwanted = [one for one in held if one[1] not in destination_blocks(entries[one[0][0]].newest)]
        if unwanted:
            self._shelf.release_all(unwanted)

    def _try_hooks(self) -> None:
        """Those of the newest definitions: a look at older ones is of no more use."""
        if self._trying_hooks is not None:
            self._trying_hooks.cancel()
        self._trying_hooks = self._go(self._workshop.try_hooks())

    def _status(self, place: tuple[str, str]) -> Message:
        """Of segments and cuts together."""
        found = [of[place].status for of in (self._deliveries, self._cuts) if place in of]
        if not found:
            return {}
        worst = max(found, key=lambda status: status.last_error_ms)
        return {
            "last_error": worst.last_error,
            "last_error_ms": worst.last_error_ms,
            "last_delivered_ms": max(status.last_delivered_ms for status in found),
            "failures": sum(status.failures for status in found),
            "paused": next((status.paused for status in found if status.paused), ""),
            "retrying": sum(status.retrying for status in found),
        }


def _key(message: Message) -> SegmentKey:
    stream, lane, first = message["segment"]
    return (stream, lane, int(first))


async def _serve(protocol_out: int) -> None:
    """The process's life: messages in, messages out, until the parent's pipe closes."""
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader(limit=1 << 20)
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    messages = _messages(reader)
    hello = await anext(messages, None)
    if hello is None:
        os._exit(0)
    allocator.give_back_when_quiet()
    observe.configure(hello["log_format"], hello["log_level"])
    try:
        half = DeliveryHalf(
            hello["data_dir"],
            hello["region"],
            DeliveryOptions.model_validate(hello["delivery"]),
            LocalDisk(),
            Runtime(),
            lambda message: _write_line(protocol_out, message),
            account_id=hello["account_id"],
        )
        await _started(half, hello["died"])
    except Exception as error:
        observe.log.exception("delivery.start_failed")
        _write_line(protocol_out, {"say": "failed", "why": f"{type(error).__name__}: {error}"})
        os._exit(1)
    async for message in messages:
        await half.handle(message)
    os._exit(0)  # the parent is gone: whatever is under way will be repeated by the next delivery half


async def _started(half: DeliveryHalf, died: bool) -> None:
    """Starts it, but stands in line for the lock no longer than the parent lives: nobody would tell this one to end."""
    starting = asyncio.get_running_loop().create_task(half.start(died))
    while not starting.done():
        await asyncio.wait((starting,), timeout=LOCK_SECONDS)
        if _parent_is_gone():
            os._exit(0)
    await starting


def _parent_is_gone() -> bool:
    """Whether nobody holds the other end of the pipe, though what was written before may not have been read yet."""
    if sys.stdin.closed:  # by the loop, which has read to the end
        return True
    pipe = select.poll()
    pipe.register(sys.stdin, select.POLLHUP)
    return bool(pipe.poll(0))


async def _messages(reader: asyncio.StreamReader) -> AsyncIterator[Message]:
    """Ends with the parent, which may be killed in the middle of a line."""
    while (line := await reader.readline()).endswith(b"\n"):
        yield json.loads(line)


def _write_line(descriptor: int, message: Message) -> None:
    data = json.dumps(message, separators=(",", ":")).encode() + b"\n"
    try:
        while data:
            data = data[os.write(descriptor, data) :]
    except BrokenPipeError:
        os._exit(0)  # the parent is gone: to go on would take this for a failure of whoever spoke


def live() -> None:
    """Standard output is the pipe to the parent; whatever a plug-in prints goes to standard error instead."""
    protocol_out = os.dup(1)
    os.dup2(2, 1)
    allocator.keep_what_is_loaded()
    uvloop.run(_serve(protocol_out))


def main() -> None:
    """As a program of its own."""
    for number in PARENTS_SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    allocator.bounded()
    without_pandas()
    live()


if __name__ == "__main__":
    main()
