"""An answer in chunks: sent as the client takes it, over as soon as the client goes away or the service ends.

Nothing is made ahead of the client: the next chunk is asked for once the carrier has taken the last one. Chunks are
closed whatever ends them, so that whoever makes them knows at once that nobody listens.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from firehose import observe
from firehose.http.asgi import Receive, Send
from firehose.http.wire import Reply


@dataclass(frozen=True, slots=True)
class Streaming:
    """One such answer. `ending` cuts it short between two chunks: to the client that is a normal end."""

    reply: Reply
    chunks: AsyncIterator[bytes]
    ending: asyncio.Event

    async def send(self, receive: Receive, send: Send) -> None:
        """Where the chunks fail the answer stays without an end: the carrier breaks it off."""
        async with _closed(self.chunks), _beside(_gone(receive)) as gone, _beside(self.ending.wait()) as ending:
            await send({"type": "http.response.start", "status": self.reply.status, "headers": [*self.reply.headers]})
            try:
                while chunk := await self._next(gone, ending):
                    await send({"type": "http.response.body", "body": chunk, "more_body": True})
            except Exception:
                observe.log.exception("request.bug", what="an answer in chunks broke off")
                return
            if not gone.done():
                await send({"type": "http.response.body", "body": b""})

    async def _next(self, gone: Waiting, ending: Waiting) -> bytes | None:
        """The next chunk; None where there is none, or nobody to send it to."""
        async with _beside(_taken(self.chunks)) as coming:
            await asyncio.wait((coming, gone, ending), return_when=asyncio.FIRST_COMPLETED)
            return None if gone.done() or ending.done() else coming.result()


Waiting = asyncio.Task[Any]


async def _taken(chunks: AsyncIterator[bytes]) -> bytes | None:
    return await anext(chunks, None)


async def _gone(receive: Receive) -> None:
    """Returns once the client has gone away."""
    while (await receive())["type"] != "http.disconnect":
        pass


@asynccontextmanager
async def _beside(waiting: Coroutine[Any, Any, Any]) -> AsyncIterator[Waiting]:
    """Runs beside the block, and no longer than it."""
    task = asyncio.get_running_loop().create_task(waiting)
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.wait((task,))
        if not task.cancelled():
            task.exception()  # which the block has seen, or had no more use for


@asynccontextmanager
async def _closed(chunks: AsyncIterator[bytes]) -> AsyncIterator[None]:
    try:
        yield
    finally:
        close = getattr(chunks, "aclose", None)
        if close is not None:
            await close()
