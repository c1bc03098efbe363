"""The service's two processes in the simulation: the front with the real `Service`, the delivery half as its child.

The front's courier is the real one; its pipes are simulated. A child whose parent dies lives on until it sees that its
pipe has ended, so it may still work while the next front recovers.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

from simulation.machine import Door, Machine, MachineRuntime
from simulation.world import Process

from firehose.config import Config, DeliveryOptions
from firehose.contracts import Appender, Disk
from firehose.delivery_half import LOCK_SECONDS, DeliveryHalf, Message
from firehose.runtime import Runtime
from firehose.service import Service

PIPE_SECONDS = (0.0001, 0.001, 0.01)
EOF_SECONDS = (0.001, 0.01, 0.5, 3.0)


class SimulatedService(Service):
    """The real service; what a source would be given is within reach."""

    def appender(self, stream: str) -> Appender | None:
        intake = self._streams.intakes.get(stream)
        return intake.appender if intake else None

    @property
    def in_flight_bytes(self) -> int:
        return self._admission.in_flight_bytes


class Doors:
    """What a process gets to reach the world by. Canaries replace them."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine

    def disk(self, process: Process) -> Disk:
        return Door(self.machine, process)

    def runtime(self, process: Process) -> Runtime:
        return MachineRuntime(self.machine, process)


class Front:
    """One life of the service's process. `service` is set once it takes records."""

    def __init__(
        self, process: Process, doors: Doors, load: Callable[[], Config], ready: Callable[[Front], None]
    ) -> None:
        self.process = process
        self.child: Process | None = None
        self.service: SimulatedService | None = None
        self._doors = doors
        self._load = load
        self._ready = ready
        self._children = 0
        process.spawn = self._spawn
        process.begin(self._live())

    async def _live(self) -> None:
        service = SimulatedService(
            self._load(), self._load, self._doors.disk(self.process), self._doors.runtime(self.process)
        )
        # FastAPI's caches keep every route that ever was, and with it the service: it must not keep the world.
        self.process.at_end.append(vars(service).clear)
        try:
            await service.open()
        except Exception as error:
            self.process.end(f"it cannot start: {error!r}")
        else:
            self.process.note("is ready")
            self.service = service
            self._ready(self)

    async def stop(self) -> None:
        """As SIGTERM does it."""
        service, self.service = self.service, None
        if service is not None:  # told once more, it goes on stopping
            await service.stop()
            self.process.end("stopped")

    async def _spawn(self, protocol: Callable[[], asyncio.SubprocessProtocol]) -> Any:
        self._children += 1
        name = self.process.name.replace("front", "deliver") + f".{self._children}"
        self.child = Process(self.process.world, name)
        pipes = Pipes(self.process, self.child, protocol())
        pipes.begin(self._doors)
        return pipes, pipes.protocol


class Pipes(asyncio.SubprocessTransport):
    """Between a parent and its child, as asyncio shows a child to its parent."""

    def __init__(self, parent: Process, child: Process, protocol: asyncio.SubprocessProtocol) -> None:
        super().__init__()
        self.protocol = protocol
        self._parent = parent
        self._child = child
        self._world = parent.world
        self._reader = asyncio.StreamReader(limit=1 << 20, loop=child.loop)
        self._code: int | None = None
        self._ended = asyncio.Event()
        self._down_at = self._up_at = 0.0
        self._stdin = _Stdin(self)
        parent.at_end.append(self._parted)
        child.at_end.append(self._exited)

    def begin(self, doors: Doors) -> None:
        self.protocol.connection_made(self)
        self._child.begin(serve(self._child, doors, self._reader, self))

    def _parted(self) -> None:
        """The parent has ended."""
        self._stdin.closing = True
        self._later(self._child, self._reader.feed_eof, EOF_SECONDS)

    def feed(self, data: bytes) -> None:
        """From the parent: read a little later, in order."""
        self._down_at = max(self._down_at, self._world.now) + self._world.dice.choice(PIPE_SECONDS)
        self._world.at(self._down_at, lambda: self._child.call(self._reader.feed_data, data))

    def feed_eof(self) -> None:
        self._world.at(self._down_at, lambda: self._later(self._child, self._reader.feed_eof, EOF_SECONDS))

    def look(self) -> None:
        """The child sees whether its parent still lives."""
        if not self._parent.alive:
            self._child.end("its parent is gone")
        self._child.check()

    def tell(self, message: Message) -> None:
        """From the child."""
        self.look()
        line = json.dumps(message, separators=(",", ":")).encode() + b"\n"
        self._up_at = max(self._up_at, self._world.now) + self._world.dice.choice(PIPE_SECONDS)
        self._world.at(self._up_at, lambda: self._parent.call(self.protocol.pipe_data_received, 1, line))

    def _later(self, process: Process, call: Callable[[], None], seconds: tuple[float, ...]) -> None:
        self._world.after(self._world.dice.choice(seconds), lambda: process.call(call))

    def _exited(self) -> None:
        self._world.at(self._up_at, lambda: self._parent.call(self._hear_exit))

    def _hear_exit(self) -> None:
        self._code = -9
        self._stdin.closing = True
        self.protocol.pipe_connection_lost(1, None)
        self.protocol.pipe_connection_lost(0, BrokenPipeError())
        self.protocol.process_exited()
        self._ended.set()

    # As asyncio asks it.

    def get_pid(self) -> int:
        return 1

    def get_returncode(self) -> int | None:
        return self._code

    def get_pipe_transport(self, fd: int) -> asyncio.BaseTransport | None:
        return self._stdin if fd == 0 else _Stdout() if fd == 1 else None

    async def _wait(self) -> int | None:
        await self._ended.wait()
        return self._code

    def kill(self) -> None:
        self._child.end("killed by its parent")

    def close(self) -> None:
        pass

    def is_closing(self) -> bool:
        return self._code is not None


class _Stdin(asyncio.WriteTransport):
    def __init__(self, pipes: Pipes) -> None:
        super().__init__()
        self._pipes = pipes
        self.closing = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if not self.closing:
            self._pipes.feed(bytes(data))

    def get_write_buffer_size(self) -> int:
        return 0

    def is_closing(self) -> bool:
        return self.closing

    def close(self) -> None:
        if not self.closing:
            self.closing = True
            self._pipes.feed_eof()


class _Stdout(asyncio.ReadTransport):
    def pause_reading(self) -> None:
        pass

    def resume_reading(self) -> None:
        pass


async def serve(process: Process, doors: Doors, reader: asyncio.StreamReader, pipes: Pipes) -> None:
    """The child's life, as `python -m firehose.delivery_half` lives it."""
    hello = json.loads(await reader.readline() or "{}")
    try:
        half = DeliveryHalf(
            hello["data_dir"],
            hello["region"],
            DeliveryOptions.model_validate(hello["delivery"]),
            doors.disk(process),
            doors.runtime(process),
            pipes.tell,
        )
        starting = process.loop.create_task(half.start(hello["died"]))
        while not starting.done():
            await asyncio.wait((starting,), timeout=LOCK_SECONDS)
            pipes.look()
        await starting
    except Exception as error:
        pipes.tell({"say": "failed", "why": f"{type(error).__name__}: {error}"})
        process.end(f"it cannot start: {error!r}")
        return
    while line := await reader.readline():
        await half.handle(json.loads(line))
    process.end("its pipe has ended")
