"""The front's side of the way to the delivery half: in this process, or in one of its own that is kept alive.

The delivery half dying, hanging or being stopped harms nothing but freshness: what it must know is on disk, so an
announcement that cannot be sent is simply not sent, and it is told to look at the disk later.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable
from typing import Any, Protocol

from firehose import observe
from firehose.config import Config
from firehose.contracts import Disk
from firehose.delivery_half import DeliveryHalf, Message
from firehose.model import SegmentKey
from firehose.runtime import Runtime

PIPE_BYTES = 1 << 20  # announcements that wait for a slow delivery half
LINE_BYTES = 1 << 26  # one message of its, such as the stats of very many streams
STATS_SECONDS = 5.0
RESTART_SECONDS = 0.5
RESTART_LIMIT_SECONDS = 30.0


class Courier(Protocol):
    """What the service asks of the delivery half."""

    up: bool
    restarts: int

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


class Asked:
    """Questions under way, by id, and what the delivery half says of its own accord."""

    def __init__(self, removed: Callable[[SegmentKey], None], ready: Callable[[], None]) -> None:
        self.drained = asyncio.Event()
        self._removed = removed
        self._ready = ready
        self._waiting: dict[int, asyncio.Future[Message]] = {}
        self._next = 0

    def heard(self, message: Message) -> None:
        match message["say"]:
            case "removed":
                stream, lane, first = message["segment"]
                self._removed((stream, lane, int(first)))
            case "ready":
                self._ready()
            case "stats" | "released":
                answer = self._waiting.get(message["id"])
                if answer is not None and not answer.done():
                    answer.set_result(message)
            case "drained":
                self.drained.set()

    async def ask(self, send: Callable[[Message], None], question: Message) -> Message | None:
        self._next += 1
        number = self._next
        self._waiting[number] = asyncio.get_running_loop().create_future()
        try:
            send({**question, "id": number})
            return await asyncio.wait_for(self._waiting[number], STATS_SECONDS)
        except TimeoutError:
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
        self.up = False
        self.restarts = 0
        self._asked = asked
        self._half = DeliveryHalf(
            config.service.data_dir, config.service.region, config.delivery, disk, runtime, asked.heard
        )
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        await self._half.start(died=False)
        self.up = True

    def send(self, message: Message) -> None:
        task = asyncio.get_running_loop().create_task(self._half.handle(message))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def stats(self) -> Message | None:
        return await self._asked.ask(self.send, {"do": "stats"})

    async def release(self, key: SegmentKey) -> list[str]:
        return await self._asked.release(self.send, key)

    async def stop(self, drain_seconds: float) -> None:
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._half.drain(drain_seconds)
        self.up = False
        await self._half.close()


class Process:
    """The delivery half in a process of its own, started again whenever it ends."""

    def __init__(self, config: Config, asked: Asked) -> None:
        self.up = False
        self.restarts = 0
        self._config = config
        self._asked = asked
        self._child: asyncio.subprocess.Process | None = None
        self._life: asyncio.Task[None] | None = None
        self._lost = False  # announcements, since the pipe was full
        self._stopping = False

    async def start(self) -> None:
        await self._spawn(died=False)
        self._life = asyncio.get_running_loop().create_task(self._live())

    def send(self, message: Message) -> None:
        pipe = self._child.stdin if self._child else None
        if pipe is None or pipe.is_closing():
            return
        if pipe.transport.get_write_buffer_size() > PIPE_BYTES:
            self._lost = True
            return
        if self._lost:
            self._lost = False
            pipe.write(_line({"do": "rescan"}))
        pipe.write(_line(message))

    async def stats(self) -> Message | None:
        return await self._asked.ask(self.send, {"do": "stats"}) if self.up else None

    async def release(self, key: SegmentKey) -> list[str]:
        return await self._asked.release(self.send, key)

    async def stop(self, drain_seconds: float) -> None:
        self._stopping = True
        if self.up:
            self.send({"do": "drain", "seconds": drain_seconds})
            try:
                await asyncio.wait_for(self._asked.drained.wait(), drain_seconds + STATS_SECONDS)
            except TimeoutError:
                pass
        if self._child and self._child.stdin:
            self._child.stdin.close()
        if self._life:
            await self._ended()

    async def _ended(self) -> None:
        assert self._life is not None
        try:
            await asyncio.wait_for(self._life, STATS_SECONDS)
        except TimeoutError:  # stopped by a debugger or worse
            if self._child and self._child.returncode is None:
                self._child.kill()
                await self._child.wait()

    async def _spawn(self, died: bool) -> None:
        self._child = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "firehose.delivery_half",
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            limit=LINE_BYTES,
        )
        service = self._config.service
        hello: dict[str, Any] = {
            "do": "hello",
            "data_dir": service.data_dir,
            "region": service.region,
            "delivery": self._config.delivery.model_dump(),
            "died": died,
            "log_format": service.log_format,
            "log_level": service.log_level,
        }
        self.send(hello)

    async def _live(self) -> None:
        """Hears the child out, and starts it again when it ends, a little later each time it ends soon."""
        wait = RESTART_SECONDS
        while True:
            heard = await self._hear()
            self.up = False
            assert self._child is not None
            code = await self._child.wait()
            if self._stopping:
                return
            observe.log.error("delivery.died", exit_code=code)
            wait = RESTART_SECONDS if heard else min(wait * 2, RESTART_LIMIT_SECONDS)
            await asyncio.sleep(wait)
            if self._stopping:
                return
            self.restarts += 1
            await self._spawn(died=True)

    async def _hear(self) -> bool:
        """Until the child's pipe closes. True where it got as far as being ready."""
        assert self._child is not None
        assert self._child.stdout is not None
        while line := await self._child.stdout.readline():
            message = json.loads(line)
            self.up = self.up or message["say"] == "ready"
            self._asked.heard(message)
        return self.up


def _line(message: Message) -> bytes:
    return json.dumps(message, separators=(",", ":")).encode() + b"\n"
