"""Readers that follow a shard's tip, a connection each: `python -m bench.tip_readers PORT KIND RECORDS ARGUMENT...`.

Those that poll (KIND `poll`, an argument for each: its iterator) ask five times a second, as client libraries do, at
moments spread evenly; those that subscribe (KIND `subscribe`, an argument for each: its consumer's ARN) are sent
events. It says `ready` when all have begun, and is done when each has had so many records.
"""

from __future__ import annotations

import heapq
import selectors
import socket
import sys
import time

from bench.shard_readers import READ_BYTES, TAIL_BYTES, Reader, Room, read_all, request

POLL_SECONDS = 0.2


class Polling(Reader):
    """Asks when it is due, not as soon as it has its answer."""

    def __init__(self, port: int, iterator: str, wanted: int, due: float) -> None:
        self.due = due
        self._next = iterator
        super().__init__(port, iterator, wanted)

    def _ask(self, iterator: str) -> None:
        self._next = iterator

    def poll(self) -> None:
        self.due += POLL_SECONDS
        super()._ask(self._next)


class Subscribed:
    """Counts the records of its events."""

    def __init__(self, port: int, consumer: str, wanted: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port))
        self._left = wanted
        self._tail = bytes(TAIL_BYTES)
        begin = {"Type": "LATEST"}
        self.socket.sendall(request("SubscribeToShard", ConsumerARN=consumer, ShardId="0", StartingPosition=begin))
        answer = self.socket.recv(READ_BYTES)
        assert answer.startswith(b"HTTP/1.1 200"), answer

    def readable(self, room: Room) -> bool:
        size = room.take(self.socket, self._tail)
        self._left -= room.records(size)
        self._tail = room.tail(size)
        return self._left > 0


def poll(port: int, wanted: int, iterators: list[str]) -> None:
    began = time.perf_counter()
    spread = POLL_SECONDS / len(iterators)
    readers = [Polling(port, one, wanted, began + number * spread) for number, one in enumerate(iterators)]
    due = [(reader.due, number) for number, reader in enumerate(readers)]
    print("ready", flush=True)
    room = Room()
    with selectors.DefaultSelector() as waiting:
        for number, reader in enumerate(readers):
            waiting.register(reader.socket, selectors.EVENT_READ, number)
        while waiting.get_map():
            now = time.perf_counter()
            while due and due[0][0] <= now:
                readers[heapq.heappop(due)[1]].poll()
            for key, _ in waiting.select(max(0.0, due[0][0] - now) if due else None):
                reader = readers[key.data]
                asked = reader.answers
                if not reader.readable(room):
                    waiting.unregister(key.fileobj)
                elif reader.answers > asked:
                    heapq.heappush(due, (reader.due, key.data))


def subscribe(port: int, wanted: int, consumers: list[str]) -> None:
    readers = [Subscribed(port, one, wanted) for one in consumers]
    print("ready", flush=True)
    read_all(readers)


def main() -> None:
    port, kind, wanted, whom = int(sys.argv[1]), sys.argv[2], int(sys.argv[3]), sys.argv[4:]
    (poll if kind == "poll" else subscribe)(port, wanted, whom)
    print("done", flush=True)


if __name__ == "__main__":
    main()
