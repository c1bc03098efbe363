"""Readers of one shard, each on a connection of its own: `python -m bench.shard_readers PORT STREAM READERS BYTES`.

They read from the shard's beginning, each until it has had so many bytes of records, and parse of the answers no more
than the next iterator. One JSON line at the end says what they had and how long it took. All read into one piece of
memory that stays in the core's cache: what a reader does with its bytes would cost the service's memory its speed.
"""

from __future__ import annotations

import json
import re
import selectors
import socket
import sys
import time
from collections.abc import Iterable
from typing import Any, Protocol

_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_NEXT = re.compile(rb'"NextShardIterator":"([^"]+)"')
RECORD = b'{"SequenceNumber"'
RECORD_BYTES = 1024
READ_BYTES = 1 << 18
TAIL_BYTES = 2000  # of what came, that are kept: a record may begin in them, and the next iterator stands there


def request(operation: str, **members: Any) -> bytes:
    body = json.dumps(members).encode()
    head = f"POST / HTTP/1.1\r\nhost: localhost\r\nx-amz-target: Kinesis_20131202.{operation}\r\n"
    kind = "content-type: application/x-amz-json-1.1\r\n"
    return f"{head}{kind}content-length: {len(body)}\r\n\r\n".encode() + body


class Room:
    """Where what comes is read into, behind the tail of what came before it on the same connection."""

    def __init__(self) -> None:
        self.bytes = bytearray(TAIL_BYTES + READ_BYTES)
        self._view = memoryview(self.bytes)

    def take(self, connection: socket.socket, tail: bytes) -> int:
        """How many bytes came."""
        self._view[:TAIL_BYTES] = tail
        size = connection.recv_into(self._view[TAIL_BYTES:])
        assert size, "the service has hung up"
        return size

    def records(self, size: int) -> int:
        """How many begin in them, by the last byte of what they begin with."""
        return self.bytes.count(RECORD, TAIL_BYTES + 1 - len(RECORD), TAIL_BYTES + size)

    def tail(self, size: int) -> bytes:
        return bytes(self._view[size : size + TAIL_BYTES])


class Reading(Protocol):
    """One connection."""

    socket: socket.socket

    def readable(self, room: Room) -> bool:
        """Takes what came; whether it goes on."""
        ...


class Reader:
    """One request at a time."""

    def __init__(self, port: int, iterator: str, wanted: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.records = self.answers = 0
        self._wanted = wanted
        self._tail = bytes(TAIL_BYTES)
        self._missing = 0
        self._ask(iterator)

    def _ask(self, iterator: str) -> None:
        self.socket.sendall(request("GetRecords", ShardIterator=iterator))

    def readable(self, room: Room) -> bool:
        size = room.take(self.socket, self._tail)
        if not self._missing:
            self._missing = _answer_bytes(room.bytes)
        self.records += room.records(size)
        self._missing -= size
        self._tail = room.tail(size)
        return self._missing > 0 or self._answered()

    def _answered(self) -> bool:
        self.answers += 1
        iterator, self._tail = _NEXT.search(self._tail), bytes(TAIL_BYTES)
        assert iterator is not None, "an open shard has no end"
        if self.records >= self._wanted:
            return False
        self._ask(iterator[1].decode())
        return True


def _answer_bytes(room: bytearray) -> int:
    """Of an answer that begins there, its head included."""
    assert room.startswith(b"HTTP/1.1 200", TAIL_BYTES), room[TAIL_BYTES:][:2000]
    end = room.index(b"\r\n\r\n", TAIL_BYTES)
    length = _LENGTH.search(room, TAIL_BYTES, end)
    assert length is not None, room[TAIL_BYTES:end]
    return end - TAIL_BYTES + 4 + int(length[1])


def read_all(readers: Iterable[Reading]) -> None:
    """Returns when none of them goes on."""
    room = Room()
    with selectors.DefaultSelector() as waiting:
        for reader in readers:
            waiting.register(reader.socket, selectors.EVENT_READ, reader)
        while waiting.get_map():
            for key, _ in waiting.select():
                if not key.data.readable(room):
                    waiting.unregister(key.fileobj)


def main() -> None:
    port, stream, count, size = int(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
    begin = socket.create_connection(("127.0.0.1", port))
    begin.sendall(request("GetShardIterator", StreamName=stream, ShardId="0", ShardIteratorType="TRIM_HORIZON"))
    iterator = json.loads(begin.recv(READ_BYTES).partition(b"\r\n\r\n")[2])["ShardIterator"]
    print("ready", flush=True)
    sys.stdin.readline()
    began, cpu = time.perf_counter(), time.process_time()
    readers = [Reader(port, iterator, size // RECORD_BYTES) for _ in range(count)]
    read_all(readers)
    said = {
        "seconds": time.perf_counter() - began,
        "cpu_seconds": time.process_time() - cpu,
        "records": sum(one.records for one in readers),
    }
    print(json.dumps(said))


if __name__ == "__main__":
    main()
