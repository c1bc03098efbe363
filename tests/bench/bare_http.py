"""The floor of HTTP: a bare httptools protocol on uvloop that answers 200 with a body of a given size. Nothing else.

`python -m bench.bare_http PORT BYTES`. The load generator, the kernel and the neighbours are the service's own, so
that what is left of a figure when this is taken away is the service.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from typing import Any, cast

import httptools
import uvloop

Reply = Callable[[bytes], None]


def answer(size: int) -> bytes:
    """An answer of so many bytes in all, head included, as far as a head alone is no longer."""
    body = b" " * max(2, size - 90)
    return b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(body) + body


class BareHttp(asyncio.Protocol):
    """Hands each request's body over, and gives the answer back."""

    def __init__(self, take: Callable[[bytes, Reply], None]) -> None:
        self._take = take
        self._parser: Any = httptools.HttpRequestParser(self)
        self._pieces: list[bytes] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._reply = cast(asyncio.Transport, transport).write

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_body(self, piece: bytes) -> None:
        self._pieces.append(piece)

    def on_message_complete(self) -> None:
        body = self._pieces[0] if len(self._pieces) == 1 else b"".join(self._pieces)
        self._pieces = []
        self._take(body, self._reply)


async def serve(port: int, take: Callable[[bytes, Reply], None]) -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: BareHttp(take), "127.0.0.1", port, backlog=2048)
    await server.serve_forever()


def main() -> None:
    said = answer(int(sys.argv[2]))
    uvloop.run(serve(int(sys.argv[1]), lambda _, reply: reply(said)))


if __name__ == "__main__":
    main()
