"""Every segment of one stream at one destination, from sealed to its end: the branching of a failed delivery.

DESIGN 3.5. Three ways an attempt can fail: `Retry` waits and tries again, past the deadline the rows go to the error
output; `Refused` and bugs hold the segment. When the error output fails too, the stream pauses and probes. A stream
that waits takes no slot from others.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from dataclasses import dataclass

from firehose import observe
from firehose.config import DeliveryOptions
from firehose.contracts import Outbox, Refused, Retry
from firehose.delivery.pipeline import ErrorOutputFailed, Obstructed, Pipeline
from firehose.delivery.retry import Patience
from firehose.delivery.slots import Slots
from firehose.model import Segment, Totals
from firehose.runtime import Runtime
from firehose.stream_config import RetryOptions

HELD_IN_ROW = 3
LET_GO_IN_ROW = 3
DEATHS = 3
OBSTRUCTIONS = 3  # on our own side, that what nobody wants any more is tried again for
ASIDE = 8  # segments of a stream beyond `segments_per_stream`, while the user's code has as many


@dataclass(slots=True)
class Status:
    """What people ask of a destination. Times in milliseconds since the epoch."""

    last_error: str = ""
    last_error_ms: int = 0
    last_delivered_ms: int = 0
    paused: str = ""
    retrying: int = 0
    failures: int = 0

    def failed(self, reason: str, now_ms: int) -> None:
        self.failures += 1
        self.last_error, self.last_error_ms = reason, now_ms


class Deliveries:
    """Works off one outbox. `segments_per_stream` segments are under way at once."""

    def __init__(
        self,
        stream: str,
        destination: str,
        outbox: Outbox,
        pipeline: Pipeline,
        slots: Slots,
        options: DeliveryOptions,
        retry: Callable[[], RetryOptions],
        runtime: Runtime,
        changed: Callable[[], None],
        is_wanted: Callable[[Segment], bool] = lambda _: True,
        converts: Callable[[], bool] = lambda: False,
    ) -> None:
        """`changed` is called after each segment that found its end or was set aside. `is_wanted` says whether the
        stream still has this destination: what fails at one that it has not is let go. `converts` says whether records
        become columns here: each conversion holds row groups in memory, so that large segments take turns.
        """
        self.stream = stream
        self.destination = destination
        self.status = Status()
        self.under_way = 0
        self._outbox = outbox
        self._pipeline = pipeline
        self._slots = slots
        self._options = options
        self._retry = retry
        self._runtime = runtime
        self._changed = changed
        self._is_wanted = is_wanted
        self._converts = converts
        self._conversions = Slots(options.segments_per_stream + 1, options.columns_in_flight_bytes, gives_on=False)
        self._room = asyncio.Semaphore(options.segments_per_stream)
        self._taken = asyncio.Semaphore(options.segments_per_stream + ASIDE)
        self._let_go_in_row = 0
        self._held_in_row = 0
        self._probe_at = 0.0
        self._probing = asyncio.Lock()
        self._resumed = asyncio.Event()
        self._stopping = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Works until the outbox is closed, and leaves nothing under way."""
        async for segment in self._outbox.sealed():
            await self._taken.acquire()
            await self._room.acquire()
            self.under_way += 1
            task = asyncio.create_task(self._see_to_its_end(segment))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        await asyncio.gather(*self._tasks)

    @property
    def waiting(self) -> int:
        """Segments that the outbox has offered and nobody has taken up."""
        return self._outbox.waiting

    async def cancel(self) -> None:
        """Drops what is under way: it stays in the buffer."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def resume(self) -> None:
        """Ends a pause and every wait for a retry: somebody mended something."""
        self._held_in_row = 0
        self.status.paused = ""
        self._resumed.set()
        self._resumed = asyncio.Event()

    def stop(self) -> None:
        """Nothing is tried again from now on: what fails stays in the buffer."""
        self._stopping.set()
        self.resume()

    async def _see_to_its_end(self, segment: Segment) -> None:
        options = self._options
        patience = Patience(options.backoff_seconds, options.backoff_limit_seconds)
        try:
            await self._last_chance(segment)
            while not await self._attempt(segment, patience) and not self._stopping.is_set():
                pass
        finally:
            self.under_way -= 1
            self._room.release()
            self._taken.release()
            self._changed()

    async def _last_chance(self, segment: Segment) -> None:
        """One more death sets the segment aside. A process that is killed now and then, or again and again, for reasons
        of its own must not be taken for its doing: it is tried when this one has lived for a while.
        """
        if self._outbox.deaths(segment) == DEATHS - 1:
            await self._wait(self._options.backoff_limit_seconds)

    async def _attempt(self, segment: Segment, patience: Patience) -> bool:
        """Tries once, waiting before and after as need be. True when the segment is off our hands."""
        if not self.status.paused:
            return await self._attempt_now(segment, patience)
        async with self._probing:
            if self.status.paused:
                await self._wait(self._probe_at - self._runtime.monotonic())
            return await self._attempt_now(segment, patience)

    async def _attempt_now(self, segment: Segment, patience: Patience) -> bool:
        deaths = self._outbox.deaths(segment)
        if deaths >= DEATHS:
            return await self._set_aside(segment, f"the delivery process died {deaths} times while delivering it")
        if self._let_go_in_row >= LET_GO_IN_ROW and await self._let_go(segment, f"{LET_GO_IN_ROW} others have failed"):
            return True  # where nobody answers, each would take a time-out of its own
        try:
            await self._pipeline.prepare(segment, self._aside)
            turn = self._slots.turn(self.stream, self.destination, segment.size_bytes, alone=deaths > 0)
            async with self._conversion(segment), turn:
                totals = await self._work(segment, patience)
        except Retry as failure:
            # What is in our own way, such as a hook that a reload has ended, may be gone the next time.
            passes = isinstance(failure, Obstructed) and not isinstance(failure, ErrorOutputFailed)
            if not (passes and patience.attempts < OBSTRUCTIONS) and await self._let_go(segment, failure.reason):
                self._let_go_in_row += not isinstance(failure, Obstructed)
                return True
            await self._failed(segment, patience, failure)
            return False
        except Refused as failure:
            return await self._set_aside(segment, f"refused: {failure.reason}")
        except Exception as error:
            observe.log.exception("delivery.bug", stream=self.stream, destination=self.destination)
            return await self._set_aside(segment, f"a bug: {type(error).__name__}: {error}")
        self._ended(segment, totals)
        return True

    def _conversion(self, segment: Segment) -> AbstractAsyncContextManager[None]:
        if not self._converts():
            return nullcontext()
        return self._conversions.turn(self.stream, self.destination, segment.size_bytes)

    @asynccontextmanager
    async def _aside(self) -> AsyncIterator[None]:
        """While the user's code has a segment, however long, others of its stream go on."""
        self._room.release()
        try:
            yield
        finally:
            await self._room.acquire()

    async def _work(self, segment: Segment, patience: Patience) -> Totals:
        if patience.given_up is not None:
            return await self._pipeline.give_up(segment, patience.given_up, patience.attempts)
        return await self._pipeline.attempt(segment, patience.attempts + 1)

    async def _failed(self, segment: Segment, patience: Patience, failure: Retry) -> None:
        """After an attempt that may succeed later: a pause where the error output failed, else a wait."""
        await self._rest(segment)
        self._trouble(segment, failure.reason)
        if isinstance(failure, ErrorOutputFailed):
            self._pause(failure.reason)
            return
        was_given_up = patience.given_up is not None
        patience.deadline_seconds = self._retry().deadline_seconds
        now = self._runtime.monotonic()
        patience.failed(now, failure, obstructed=isinstance(failure, Obstructed))
        if patience.given_up is None or was_given_up:
            await self._wait(patience.wait_seconds(now, self._runtime.jitter(), failure.after_seconds))

    async def _rest(self, segment: Segment) -> None:
        try:
            await self._outbox.rest(segment)
        except Retry:
            pass  # a mark for the next start alone, and what it would say is told by the next attempt too

    async def _let_go(self, segment: Segment, reason: str) -> bool:
        """Where the stream has the destination no more, by its user's own will: its records are dropped here, and what
        only they held is free. False where it has, and where that cannot be made durable now.
        """
        if self._is_wanted(segment):
            self._let_go_in_row = 0
            return False
        try:
            totals = await self._pipeline.let_go(segment)
        except Retry:
            return False
        place = {"stream": self.stream, "destination": self.destination, "segment": str(segment)}
        observe.log.warning("segment.let_go", **place, records=segment.count, reason=reason)
        self._ended(segment, totals)
        return True

    async def _set_aside(self, segment: Segment, reason: str) -> bool:
        return await self._let_go(segment, reason) or await self._hold(segment, reason)

    async def _hold(self, segment: Segment, reason: str) -> bool:
        """False where not even that can be made durable now: the segment is then tried again."""
        self._trouble(segment, reason)
        try:
            await self._outbox.hold(segment, reason)
        except Exception as error:
            self._trouble(segment, f"{reason}; and it cannot be set aside: {error}")
            await self._wait(self._options.backoff_limit_seconds)
            return False
        place = {"stream": self.stream, "destination": self.destination, "segment": str(segment)}
        observe.log.error("segment.held", **place, reason=reason)
        self._held_in_row += 1
        if self._held_in_row >= HELD_IN_ROW:
            self._pause(f"{HELD_IN_ROW} segments held in a row, the last one: {reason}")
        return True

    def _pause(self, reason: str) -> None:
        """From now on one attempt at a time, `probe_seconds` apart, until one succeeds."""
        if not self.status.paused:
            place = {"stream": self.stream, "destination": self.destination}
            observe.log.error("delivery.paused", **place, reason=reason, probe_seconds=self._options.probe_seconds)
        self.status.paused = reason
        self._probe_at = self._runtime.monotonic() + self._options.probe_seconds

    def _ended(self, segment: Segment, totals: Totals) -> None:
        self._held_in_row = 0
        self.status.paused = ""
        if totals.delivered:
            self._let_go_in_row = 0
        if totals.records == segment.count:
            self.status.last_delivered_ms = self._runtime.now_ms()
        observe.segment_ended(self.stream, self.destination, segment, totals, self._runtime.now_ms())

    def _trouble(self, segment: Segment, reason: str) -> None:
        self.status.failed(reason, self._runtime.now_ms())
        observe.delivery_failed(self.stream, self.destination, segment, reason)

    async def _wait(self, seconds: float) -> None:
        """Waits that long, or until something was mended or we stop."""
        if self._stopping.is_set():
            return
        self.status.retrying += 1
        try:
            await asyncio.wait_for(self._resumed.wait(), seconds)
        except TimeoutError:
            pass
        finally:
            self.status.retrying -= 1
