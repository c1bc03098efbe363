"""Connections between clients and the service's protocol, without a socket: bytes in pieces, late, or cut off."""

from __future__ import annotations

import asyncio
import re
from collections import deque
from collections.abc import Callable
from typing import Any

from simulation.world import Process, World

STATUS = re.compile(rb"HTTP/1\.1 (\d{3}) ")
LENGTH = re.compile(rb"content-length: (\d+)\r\n", re.IGNORECASE)


class Cut(Exception):
    """The connection ended before the answer was whole."""


class Line:
    """The client's end of one connection. `answered` hears of each answer at the moment it leaves the service."""

    def __init__(self, world: World, server: Process, protocol: Callable[[], asyncio.Protocol]) -> None:
        self._world = world
        self._server = server
        self._transport = _Transport(self, server)
        self.protocol: asyncio.BaseProtocol | None = None
        self._sent_at = world.now
        self._received_at = world.now
        self._unread: deque[bytes] = deque()
        self._buffer = b""
        self._more = asyncio.Event()
        self.is_cut = False
        self.answered: Callable[[int], None] = lambda status: None
        server.at_end.append(self.cut)
        server.call(self._connect, protocol)

    def _connect(self, protocol: Callable[[], asyncio.Protocol]) -> None:
        self.protocol = protocol()
        self.protocol.connection_made(self._transport)

    def send(self, piece: bytes, seconds: float) -> None:
        """The piece arrives that much later, behind those before it."""
        self._sent_at = max(self._sent_at, self._world.now) + seconds
        self._world.at(self._sent_at, lambda: self._server.call(self._deliver, piece))

    def _deliver(self, piece: bytes) -> None:
        self._unread.append(piece)
        self.read_on()

    def read_on(self) -> None:
        """Gives the service what has arrived, while it wants to read."""
        while self._unread and self._transport.is_reading() and isinstance(self.protocol, asyncio.Protocol):
            self.protocol.data_received(self._unread.popleft())

    def cut(self) -> None:
        """Both ends learn that it is over."""
        if not self.is_cut:
            self.is_cut = True
            self._more.set()
            self._server.call(self._lose)

    def _lose(self) -> None:
        self._transport.closing = True
        if self.protocol is not None:
            self.protocol.connection_lost(ConnectionResetError())

    def receive(self, data: bytes, seconds: float) -> None:
        self._received_at = max(self._received_at, self._world.now) + seconds
        self._world.at(self._received_at, lambda: self._arrive(data))

    def _arrive(self, data: bytes) -> None:
        self._buffer += data
        self._more.set()

    async def answer(self) -> tuple[int, bytes]:
        """Status and body of the next answer. Raises `Cut`."""
        while (found := self._whole()) is None:
            if self.is_cut:
                raise Cut
            self._more.clear()
            await self._more.wait()
        return found

    def _whole(self) -> tuple[int, bytes] | None:
        head, end, rest = self._buffer.partition(b"\r\n\r\n")
        length = LENGTH.search(head + b"\r\n")
        if not end or length is None or len(rest) < int(length[1]):
            return None
        status = STATUS.match(head)
        assert status is not None, head
        self._buffer = rest[int(length[1]) :]
        return int(status[1]), rest[: int(length[1])]


class _Transport(asyncio.Transport):
    """What the service writes to."""

    def __init__(self, line: Line, server: Process) -> None:
        super().__init__({"peername": ("10.0.0.1", 40000), "sockname": ("10.0.0.2", 80)})
        self._line = line
        self._server = server
        self.closing = False
        self._paused = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if not self._server.alive or self.closing:
            return
        said = bytes(data)
        status = STATUS.match(said)
        if status is not None:
            self._server.note(f"answers {int(status[1])}")
            self._line.answered(int(status[1]))
        self._line.receive(said, self._line._world.dice.choice((0.0005, 0.002, 0.02)))

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self._line.protocol = protocol

    def get_protocol(self) -> asyncio.BaseProtocol:
        assert self._line.protocol is not None
        return self._line.protocol

    def writelines(self, list_of_data: Any) -> None:
        self.write(b"".join(list_of_data))

    def is_closing(self) -> bool:
        return self.closing

    def close(self) -> None:
        if not self.closing:
            self.closing = True
            self._line._world.after(0.001, self._line.cut)

    def abort(self) -> None:
        self.close()

    def pause_reading(self) -> None:
        self._paused = True

    def resume_reading(self) -> None:
        self._paused = False
        self._server.call(self._line.read_on)

    def is_reading(self) -> bool:
        return not self.closing and not self._paused

    def get_write_buffer_size(self) -> int:
        return 0

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        pass
