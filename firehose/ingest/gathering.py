"""Records that come one to a request, gathered into one append for each turn of the event loop.

An append has a price that is paid once, however many records it carries: where many clients send one event each, their
requests are read in bursts, and a burst is one append. Nothing waits for more to come.
"""

from __future__ import annotations

import asyncio

import pyarrow as pa

from firehose.contracts import Appender
from firehose.model import INTAKE_SCHEMA, Position

GATHERED_BYTES = 16 * 1024  # larger records are worth an append of their own
RECORD_ONLY = pa.schema([INTAKE_SCHEMA.field("record")])


class Gathering:
    """The single records of one delivery stream. Lives in the event loop."""

    def __init__(self, appender: Appender) -> None:
        self._appender = appender
        self._loop: asyncio.AbstractEventLoop  # asked for once a burst: that costs a system call
        self._records: list[bytes] = []
        self._waiting: list[asyncio.Future[Position]] = []
        self._bursts: set[asyncio.Task[None]] = set()

    async def append(self, record: bytes) -> Position:
        """Appends the record, a small one with whatever else comes in this turn. Raises what `Appender.append` does."""
        if len(record) > GATHERED_BYTES:
            return await self._appender.append(batch_of([record]))
        if not self._records:
            self._begin()
        done: asyncio.Future[Position] = self._loop.create_future()
        self._records.append(record)
        self._waiting.append(done)
        return await done

    def _begin(self) -> None:
        self._loop = asyncio.get_running_loop()
        burst = self._loop.create_task(self._append_all())
        self._bursts.add(burst)
        burst.add_done_callback(self._bursts.discard)

    async def _append_all(self) -> None:
        records, self._records = self._records, []
        waiting, self._waiting = self._waiting, []
        try:
            position = await self._appender.append(batch_of(records))
        except Exception as error:
            for done in waiting:
                if not done.done():  # its request may have been given up meanwhile
                    done.set_exception(error)
        except asyncio.CancelledError:  # by a service that ends: nobody is left waiting
            for done in waiting:
                done.cancel()
            raise
        else:
            for place, done in enumerate(waiting):
                if not done.done():
                    done.set_result(Position(position.lane, position.first + place, 1))


def batch_of(records: list[bytes]) -> pa.RecordBatch:
    """The records as an append takes them."""
    return pa.RecordBatch.from_arrays([pa.array(records, pa.binary())], schema=RECORD_ONLY)
