"""The floor of reads: `python -m bench.bare_reads PORT BYTES` answers a reader as if it had so many bytes of records.

The answers were made beforehand and nothing is looked at: what is left is what sockets cost.
"""

from __future__ import annotations

import asyncio
import sys
from itertools import count
from typing import cast

import uvloop
from bench.shard_readers import RECORD, RECORD_BYTES

ANSWERS = 4  # that hold all
ENCODED_BYTES = RECORD_BYTES * 3 // 2  # of a record in JSON


def answer(number: int, records: int) -> tuple[bytes, bytes]:
    record = RECORD.ljust(ENCODED_BYTES, b"%d" % number)
    body = record * records + b'"NextShardIterator":"next"'
    return b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(body), body


class Bare(asyncio.Protocol):
    """One reader."""

    def __init__(self, answers: list[tuple[bytes, bytes]]) -> None:
        self._answers = answers
        self._turn = count()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        if b"GetShardIterator" in data:
            self._transport.write(b'HTTP/1.1 200 OK\r\n\r\n{"ShardIterator":"begin"}')
        else:
            self._transport.writelines(self._answers[next(self._turn) % ANSWERS])


async def main(port: int, size_bytes: int) -> None:
    answers = [answer(number, size_bytes // RECORD_BYTES // ANSWERS) for number in range(ANSWERS)]
    server = await asyncio.get_running_loop().create_server(lambda: Bare(answers), "127.0.0.1", port)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1]), int(sys.argv[2])))
