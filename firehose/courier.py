"""The front's side of the way to the delivery half: in this process, or in one of its own that is kept alive.

The delivery half dying, hanging or being stopped harms nothing but freshness: what it must know is on disk, so an
announcement that cannot be sent is simply not sent, and it is told to look at the disk later.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

from firehose import allocator, observe
from firehose.config import Config, own_environment
from firehose.contracts import Disk
from firehose.forked_half import ForkedHalf
from firehose.model import SegmentKey
from firehose.runtime import Runtime

if TYPE_CHECKING:
    from firehose.delivery_half import Message

PIPE_BYTES = 1 << 20  # announcements that wait for a slow delivery half
LINE_BYTES = 1 << 26  # one message of its, such as the stats of very many streams
ANSWER_SECONDS = 5.0
SILENT_SECONDS = 0.1  # for one that has not answered before: a stopped process must not slow the service's own answers
RESTART_SECONDS = 0.5
RESTART_LIMIT_SECONDS = 30.0
STARTING = "it is starting"


class Courier(Protocol):
    """What the service asks of the delivery half."""

    restarts: int

    @property
    def up(self) -> bool:
        """Whether it works, or will as soon as it gets the time."""
        ...

    @property
    def trouble(self) -> str:
        """For people: why it does nothing now; empty where it works."""
        ...

    async def start(self) -> None: ...

    def send(self, message: Message) -> None:
        """Never blocks; a message may be lost when the delivery half dies, which then looks at the disk anyway."""
        ...

    async def stats(self) -> Message | None:
        """What it knows now, all that was sent before included; None where it does not answer in time."""
        ...

    async def release(self, key: SegmentKey) -> list[str]:
        """Has a held segment tried again: the destinations it was held for. Raises ValueError where there is none."""
        ...

    async def stop(self, drain_seconds: float) -> None: ...


class Child(Protocol):
    """A delivery half's process: one that was forked, or a program of its own (`asyncio.subprocess.Process`)."""

    @property
    def pid(self) -> int: ...
    @property
    def stdin(self) -> asyncio.StreamWriter | None: ...
    @property
    def stdout(self) -> asyncio.StreamReader | None: ...
    @property
    def returncode(self) -> int | None:
        """None while it lives; that of a signal is negative."""
        ...

    async def wait(self) -> int: ...
    def kill(self) -> None: ...


class Asked:
    """Questions under way, by id, and what the delivery half says of its own accord."""

    def __init__(self, removed: Callable[[SegmentKey], None], ready: Callable[[], None]) -> None:
        self.drained = asyncio.Event()
        self.up = False
        self._why = STARTING
        self._silent = False
        self._removed = removed
        self._ready = ready
        self._waiting: dict[int, asyncio.Future[Message | None]] = {}
        self._next = 0

    @property
    def trouble(self) -> str:
        if not self.up:
            return self._why
        return "it does not answer" if self._silent else ""

    def ended(self, why: str) -> None:
        """It has ended, or could not start: nobody need wait for its answers."""
        self.up = self._silent = False
        self._why = why
        for answer in self._waiting.values():
            if not answer.done():
                answer.set_result(None)

    def heard(self, message: Message) -> None:
        self._silent = False
        match message["say"]:
            case "removed":
                stream, lane, first = message["segment"]
                self._removed((stream, lane, int(first)))
            case "ready":
                self.up = True
                self._ready()
            case "failed":
                self._why = message["why"]
            case "stats" | "released":
                answer = self._waiting.get(message["id"])
                if answer is not None and not answer.done():
                    answer.set_result(message)
            case "drained":
                self.drained.set()

    async def ask(self, send: Callable[[Message], None], question: Message) -> Message | None:
        """The answer; None where there is none in time."""
        if not self.up:
            return None
        self._next += 1
        number = self._next
        self._waiting[number] = asyncio.get_running_loop().create_future()
        try:
            send({**question, "id": number})
            seconds = SILENT_SECONDS if self._silent else ANSWER_SECONDS
            return await asyncio.wait_for(self._waiting[number], seconds)
        except TimeoutError:
            self._silent = True
            return None
        finally:
            del self._waiting[number]

    async def release(self, send: Callable[[Message], None], key: SegmentKey) -> list[str]:
        answer = await self.ask(send, {"do": "release", "segment": key})
        if answer is None:
            raise ValueError("the delivery half does not answer; try again when it runs")
        if not answer["destinations"]:
            raise ValueError("that segment is not held; firehose buffer ls shows which are")
        names: list[str] = answer["destinations"]
        return names


class Inline:
    """The delivery half in the service's own event loop."""

    def __init__(self, config: Config, disk: Disk, runtime: Runtime, asked: Asked) -> None:
        from firehose.delivery_half import DeliveryHalf  # now: beside a process of its own it would be here for nothing

        self.restarts = 0
        self._asked = asked
        self._half = DeliveryHalf(
            config.service.data_dir,
            config.service.region,
            config.delivery,
            disk,
            runtime,
            asked.heard,
            account_id=config.service.account_id,
        )
        self._messages: asyncio.Queue[Message] = asyncio.Queue()  # bounded by its reader, which never waits long
        self._life: asyncio.Task[None] | None = None

    @property
    def up(self) -> bool:
        return self._asked.up

    @property
    def trouble(self) -> str:
        return self._asked.trouble

    async def start(self) -> None:
        self._life = asyncio.get_running_loop().create_task(self._live())

    def send(self, message: Message) -> None:
        if self.up:  # until then there is nothing to tell: it looks at the disk when it starts
            self._messages.put_nowait(message)

    async def stats(self) -> Message | None:
        return await self._asked.ask(self.send, {"do": "stats"})

    async def release(self, key: SegmentKey) -> list[str]:
        return await self._asked.release(self.send, key)

    async def stop(self, drain_seconds: float) -> None:
        if self.up:
            await self._messages.join()
            await self._half.drain(drain_seconds)
        self._asked.ended("it has been stopped")
        if self._life is not None:
            self._life.cancel()
            await asyncio.gather(self._life, return_exceptions=True)
        await self._half.close()

    async def _live(self) -> None:
        await self._begin()
        while True:
            message = await self._messages.get()
            try:
                await self._half.handle(message)
            except Exception:
                observe.log.exception("delivery.bug", message=message["do"])
            finally:
                self._messages.task_done()

    async def _begin(self) -> None:
        """Starts it, again and again while the disk fails or another delivery half is at work."""
        wait = RESTART_SECONDS
        while True:
            try:
                return await self._half.start(died=False)
            except Exception as error:
                observe.log.exception("delivery.start_failed")
                self._asked.ended(f"{type(error).__name__}: {error}")
            await asyncio.sleep(wait)
            wait = min(wait * 2, RESTART_LIMIT_SECONDS)


class Process:
    """The delivery half in a process of its own, started again whenever it ends. `first` is one that was forked."""

    def __init__(self, config: Config, asked: Asked, first: ForkedHalf | None = None) -> None:
        self.restarts = 0
        self._config = config
        self._asked = asked
        self._first = first
        self._child: Child | None = None
        self._life: asyncio.Task[None] | None = None
        self._catching_up: asyncio.Task[None] | None = None
        self._stopping = asyncio.Event()
        self._flushes: dict[str, Message] = {}  # by stream, that no answer has shown to be followed

    @property
    def up(self) -> bool:
        return self._asked.up

    @property
    def trouble(self) -> str:
        return self._asked.trouble

    async def start(self) -> None:
        await self._spawn(died=False)
        self._life = asyncio.get_running_loop().create_task(self._live())

    def send(self, message: Message) -> None:
        """A flush tells what no look at the disk will: where it may not have been heard, it is said again."""
        if message["do"] == "flush":
            self._flushes[message["stream"]] = message
        pipe = self._pipe()
        if pipe is None or self._catching_up is not None:
            return
        if pipe.transport.get_write_buffer_size() > PIPE_BYTES:
            self._catching_up = asyncio.get_running_loop().create_task(self._catch_up(pipe))
        else:
            pipe.write(_lines(message))

    async def stats(self) -> Message | None:
        """Whoever answers has heard what was said before."""
        flushes = list(self._flushes.items())
        answer = await self._asked.ask(self.send, {"do": "stats"})
        for stream, flush in flushes if answer is not None else ():
            if self._flushes.get(stream) is flush:
                del self._flushes[stream]
        return answer

    async def release(self, key: SegmentKey) -> list[str]:
        return await self._asked.release(self.send, key)

    async def stop(self, drain_seconds: float) -> None:
        """Whatever was sent before is heard before the drain, even by one that is still starting."""
        self._stopping.set()
        pipe = self._pipe()
        if pipe is not None and self._life is not None:
            pipe.write(_lines(*self._missed(), {"do": "drain", "seconds": drain_seconds}))
            drained = asyncio.create_task(self._asked.drained.wait())
            await asyncio.wait(
                (drained, self._life), timeout=drain_seconds + ANSWER_SECONDS, return_when=asyncio.FIRST_COMPLETED
            )
            drained.cancel()
            pipe.close()
        await self._ended()

    async def _ended(self) -> None:
        if self._life is not None:
            await asyncio.wait((self._life,), timeout=ANSWER_SECONDS)
            if not self._life.done() and self._child is not None:  # stopped by a debugger or worse
                _kill(self._child)
            await self._life

    def _pipe(self) -> asyncio.StreamWriter | None:
        """To the child; None where it has ended."""
        pipe = self._child.stdin if self._child is not None and self._child.returncode is None else None
        return None if pipe is None or pipe.is_closing() else pipe

    def _missed(self) -> list[Message]:
        """What makes up for messages that were not sent."""
        if self._catching_up is None:
            return []
        self._catching_up.cancel()
        self._catching_up = None
        return self._again()

    def _again(self) -> list[Message]:
        return [{"do": "reload"}, {"do": "rescan"}, *self._flushes.values()]

    async def _catch_up(self, pipe: asyncio.StreamWriter) -> None:
        """The child reads slowly, or not at all: it is told nothing until it has read, then to look for itself."""
        try:
            await pipe.drain()
        except ConnectionError:
            return  # it has ended, and the next one looks at the disk anyway
        self._catching_up = None
        pipe.write(_lines(*self._again()))

    async def _spawn(self, died: bool) -> None:
        try:
            self._child = await self._begun()
        except OSError as error:
            self._child = None
            self._asked.ended(f"its process cannot be started: {error}")
            return
        self._missed()  # by the one before
        service = self._config.service
        hello: dict[str, Any] = {
            "do": "hello",
            "data_dir": service.data_dir,
            "region": service.region,
            "account_id": service.account_id,
            "delivery": self._config.delivery.model_dump(),
            "died": died,
            "log_format": service.log_format,
            "log_level": service.log_level,
        }
        self.send(hello)
        for flush in tuple(self._flushes.values()):
            self.send(flush)

    async def _begun(self) -> Child:
        """The forked one to begin with, a program of its own ever after."""
        first, self._first = self._first, None
        if first is not None:
            await first.open(LINE_BYTES)
            return first
        return await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "firehose.delivery_half",
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            env=own_environment(allocator.told()),
            limit=LINE_BYTES,
        )

    async def _live(self) -> None:
        """Hears the child out, and starts it again when it ends, a little later each time it was never ready."""
        wait, died = RESTART_SECONDS, False
        while True:
            was_ready, why = await self._heard_out()
            if self._stopping.is_set():
                return
            observe.log.error("delivery.died", why=why, restart_seconds=wait)
            died = died or was_ready
            wait = RESTART_SECONDS if was_ready else min(wait * 2, RESTART_LIMIT_SECONDS)
            if await self._stopped_within(wait):
                return
            self.restarts += 1
            await self._spawn(died)

    async def _heard_out(self) -> tuple[bool, str]:
        """Until the child has ended: whether it was ever ready, and why it ended."""
        child = self._child
        if child is None:
            return False, self._asked.trouble
        try:
            await self._hear(child)
        except Exception:  # it must not run on unheard
            observe.log.exception("delivery.bug", what="what the delivery process says")
            _kill(child)
        code = await child.wait()
        was_ready, why = self._asked.up, self._asked.trouble
        if was_ready or why == STARTING:
            why = f"its process ended with exit code {code}"
        self._asked.ended(why)
        return was_ready, why

    async def _hear(self, child: Child) -> None:
        assert child.stdout is not None
        while line := await child.stdout.readline():
            self._asked.heard(json.loads(line))

    async def _stopped_within(self, seconds: float) -> bool:
        try:
            await asyncio.wait_for(self._stopping.wait(), seconds)
        except TimeoutError:
            return False
        return True


def _kill(child: Child) -> None:
    try:
        child.kill()
    except ProcessLookupError:
        pass


def _lines(*messages: Message) -> bytes:
    return b"".join(json.dumps(message, separators=(",", ":")).encode() + b"\n" for message in messages)
