"""A connection without a socket: what a server's protocol writes to it, and when it closes it, in any loop's time."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

from firehose.config import ServiceOptions
from firehose.http.front import Front
from firehose.http.server import server

FOR_EVER_SECONDS = 1000.0  # longer than all time-outs of a connection together


@dataclass(frozen=True, slots=True)
class Said:
    """One answer as it stands on the wire."""

    status: int
    body: bytes
    closes: bool


class Wire(asyncio.Transport):
    """The server's side of a connection. `sent` is all that it wrote."""

    def __init__(self) -> None:
        super().__init__()
        self.sent = b""
        self.lost = False
        self._closing = self._reading_paused = False
        self._protocol: asyncio.BaseProtocol | None = None

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self._protocol = protocol

    def get_protocol(self) -> asyncio.BaseProtocol:
        assert self._protocol is not None
        return self._protocol

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return {"peername": ("127.0.0.1", 1), "sockname": ("127.0.0.1", 2)}.get(name, default)

    def write(self, data: bytes | bytearray | memoryview) -> None:
        assert not self._closing, "nothing is said on a closed connection"
        self.sent += bytes(data)

    def is_closing(self) -> bool:
        return self._closing

    def close(self) -> None:
        if not self._closing:
            self._closing = True
            asyncio.get_running_loop().call_soon(self._lose)

    abort = close

    def _lose(self) -> None:
        self.lost = True
        self.get_protocol().connection_lost(None)

    def is_reading(self) -> bool:
        return not self._reading_paused

    def pause_reading(self) -> None:
        self._reading_paused = True

    def resume_reading(self) -> None:
        self._reading_paused = False

    def get_write_buffer_size(self) -> int:
        return 0

    async def feed(self, pieces: Sequence[bytes]) -> None:
        """Hands the pieces over one by one, as the server is willing to read them; gives up where it never is."""
        for piece in pieces:
            for _ in range(1000):
                if not self._reading_paused or self._closing:
                    break
                await asyncio.sleep(0)
            if self._closing:
                return
            cast(asyncio.Protocol, self.get_protocol()).data_received(piece)
            await asyncio.sleep(0)


async def talked(front: Front, pieces: Sequence[bytes], **options: Any) -> Wire:
    """A whole connection: the pieces are sent, then nothing more, for longer than any patience."""
    one = server(front, ServiceOptions(**options))
    one.config.load()
    made: Any = one.config.http_protocol_class
    protocol = made(config=one.config, server_state=one.server_state, app_state={})
    wire = Wire()
    wire.set_protocol(protocol)
    protocol.connection_made(wire)
    await wire.feed(pieces)
    await asyncio.sleep(FOR_EVER_SECONDS)
    return wire


def answers(sent: bytes) -> list[Said]:
    """What was written, read as HTTP: whole answers one after the other and nothing else."""
    found: list[Said] = []
    while sent:
        head, end, sent = sent.partition(b"\r\n\r\n")
        assert end, f"half an answer: {head!r}"
        line, *fields = head.split(b"\r\n")
        assert line.startswith(b"HTTP/1.1 "), head
        headers = {name.lower(): value for name, _, value in (field.partition(b": ") for field in fields)}
        size = int(headers.get(b"content-length", 0))
        assert len(sent) >= size, f"half an answer: {head!r}"
        body, sent = sent[:size], sent[size:]
        status = int(line[9:12])
        if status != 100:
            found.append(Said(status, body, headers.get(b"connection") == b"close"))
    return found
