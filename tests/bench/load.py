"""A load generator that costs little: prepared requests, one write and one read each, on plain non-blocking sockets.

`python -m bench.load PLAN FLAGS` (PLAN as JSON) prepares its requests, says `ready`, and begins at the first line on
its standard input. Without a rate each connection sends as soon as it was answered; with one, requests leave when
they are due, whatever the answers do, over as many connections as that takes. It ends when the plan is done or its
standard input closes, prints one JSON line, and writes a byte for each request's fate to FLAGS.
"""

from __future__ import annotations

import json
import os
import re
import select
import socket
import statistics
import sys
import time
from array import array
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bench import corpus

UNKNOWN, ACCEPTED, REFUSED, OTHER = range(4)  # what became of a request; UNKNOWN was never answered
STDIN = 0
READ_BYTES = 1 << 16  # most answers; more would be mapped and unmapped for each read
LATE_SECONDS = 1.0  # a request that could not leave for so long is left out, and counted
SILENCE_SECONDS = 300.0  # after which nothing more is waited for
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Plan:
    """What to send."""

    port: int
    shape: str
    connections: int = 16  # with a rate: at the most
    requests: int = 0  # 0: until the time is over
    seconds: float = 0.0  # 0: until the requests are sent or the standard input closes
    rate: float = 0.0  # requests a second
    streams: int = 1
    first_stream: int = 0
    first: int = 0  # number of the first request: two loads of one run share none

    def to_json(self) -> str:
        return json.dumps(asdict(self))


class Connection:
    """One request at a time."""

    __slots__ = ("_load", "_received", "_rest", "_sent_at", "_stream", "_wanted", "fd", "number", "socket")

    def __init__(self, load: Load, stream: int) -> None:
        self._load = load
        self._stream = stream
        self._received = b""
        self._open()

    def _open(self) -> None:
        self.socket = socket.create_connection(("127.0.0.1", self._load.plan.port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.setblocking(False)
        self.fd = self.socket.fileno()
        self.number = -1
        self._rest: list[bytes] = []
        self._load.opened(self)

    def send(self, number: int) -> None:
        load = self._load
        stream = number % load.plan.streams if load.plan.rate else self._stream
        before, after = load.pieces[number % corpus.BODIES]
        self.number = number
        self._sent_at = time.perf_counter()
        self._write([load.lines[stream], before, corpus.number(number, load.shape), after])

    def _write(self, pieces: list[bytes]) -> None:
        try:
            written = os.writev(self.fd, pieces)
        except BlockingIOError:
            written = 0
        except OSError:
            return  # the answer, or its absence, is found by the read
        waited = bool(self._rest)
        self._rest = _behind(pieces, written)
        if bool(self._rest) != waited:
            self._load.poll.modify(self.fd, select.EPOLLIN | (select.EPOLLOUT if self._rest else 0))

    def happened(self, events: int) -> None:
        if events & select.EPOLLOUT:
            self._write(self._rest)
        if events & ~select.EPOLLOUT:
            self._read()

    def _read(self) -> None:
        try:
            data = os.read(self.fd, READ_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._closed()
            return
        received = self._received = self._received + data if self._received else data
        end = received.find(b"\r\n\r\n")
        length = _LENGTH.search(received, 0, end) if end >= 0 else None
        if length is not None and len(received) >= end + 4 + int(length[1]):
            self._answered(received, end)

    def _answered(self, answer: bytes, end: int) -> None:
        assert self.number >= 0, answer
        load, self._received = self._load, b""
        load.answered(self, answer[9:12], time.perf_counter() - self._sent_at, len(answer), self._stream)
        if self._rest or b"connection: close" in answer[:end].lower():
            self._reopen()
        self.number = -1
        load.free(self)

    def _closed(self) -> None:
        """Without an answer: nobody knows whether the request was taken. An idle connection may be closed any time."""
        unanswered = self.number >= 0
        if unanswered:
            self._load.lost(self.number)
        self._received = b""
        self._reopen()
        if unanswered:
            self._load.free(self)

    def _reopen(self) -> None:
        self._load.gone(self)
        self.socket.close()
        self._open()


class Load:
    """All connections, and the tally."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.shape = corpus.SHAPES[plan.shape]
        self.pieces = [corpus.request(self.shape, body) for body in range(corpus.BODIES)]
        names = corpus.stream_names(plan.streams, plan.first_stream)
        self.lines = [corpus.first_line(self.shape, name) for name in names]
        self.poll = select.epoll()
        self.flags = bytearray()
        self._connections: dict[int, Connection] = {}
        self._idle: list[Connection] = []
        self._seconds = {b"200": array("d"), b"503": array("d")}
        self._statuses: Counter[str] = Counter()
        self._by_stream = [0] * plan.streams
        self._answer_bytes = 0
        self._late = 0
        self._sending = True

    # What the connections tell.

    def opened(self, connection: Connection) -> None:
        self._connections[connection.fd] = connection
        self.poll.register(connection.fd, select.EPOLLIN)

    def gone(self, connection: Connection) -> None:
        del self._connections[connection.fd]
        self.poll.unregister(connection.fd)

    def answered(self, connection: Connection, status: bytes, seconds: float, size: int, stream: int) -> None:
        number = connection.number
        if status == b"200":
            self.flags[number - self.plan.first] = ACCEPTED
            self._by_stream[number % self.plan.streams if self.plan.rate else stream] += 1
            self._answer_bytes = size
            self._seconds[status].append(seconds)
        elif status == b"503":
            self.flags[number - self.plan.first] = REFUSED
            self._seconds[status].append(seconds)
        else:
            self.flags[number - self.plan.first] = OTHER
            self._statuses[status.decode()] += 1

    def lost(self, number: int) -> None:
        self._statuses["lost"] += 1

    def free(self, connection: Connection) -> None:
        """The connection may send again."""
        if self.plan.rate or not self._may_send():
            self._idle.append(connection)
        else:
            self._send(connection)

    # The run.

    def run(self) -> dict[str, Any]:
        plan = self.plan
        first = plan.connections if not plan.rate else min(plan.connections, plan.streams, 64)
        connections = [Connection(self, index % plan.streams) for index in range(first)]
        self.poll.register(STDIN, select.EPOLLIN | select.EPOLLHUP)
        print("ready", flush=True)
        os.read(STDIN, 16)
        self._began, wall, cpu = time.perf_counter(), time.time(), time.process_time()
        self._ends = self._began + plan.seconds if plan.seconds else float("inf")
        for connection in connections:
            self.free(connection)
        self._go_round()
        seconds = time.perf_counter() - self._began
        return self._tally(seconds, wall, time.process_time() - cpu)

    def _go_round(self) -> None:
        heard = self._began
        while self._sending or len(self._idle) < len(self._connections):
            timeout = self._send_due() if self.plan.rate and self._sending else 0.05
            events = self.poll.poll(timeout)
            for fd, happened in events:
                if fd == STDIN:
                    self._stop()
                elif fd in self._connections:
                    self._connections[fd].happened(happened)
            now = time.perf_counter()
            heard = now if events else heard
            if now >= self._ends:
                self._sending = False
            if now - heard > SILENCE_SECONDS:
                return

    def _stop(self) -> None:
        self.poll.unregister(STDIN)
        self._sending = False

    def _may_send(self) -> bool:
        if self.plan.requests and len(self.flags) + self._late >= self.plan.requests:
            self._sending = False
        return self._sending

    def _send(self, connection: Connection) -> None:
        number = self.plan.first + len(self.flags)
        self.flags.append(UNKNOWN)
        connection.send(number)

    def _send_due(self) -> float:
        """Sends what is due; how long nothing more is."""
        now = time.perf_counter() - self._began
        while self._may_send():
            due = (len(self.flags) + self._late) / self.plan.rate
            if due > now:
                return min(0.05, due - now)
            if self._idle:
                self._send(self._idle.pop())
            elif len(self._connections) < self.plan.connections:
                self._send(Connection(self, 0))
            elif now - due > LATE_SECONDS:
                self._late += 1
            else:
                return 0.05
        return 0.0

    def _tally(self, seconds: float, wall: float, cpu: float) -> dict[str, Any]:
        accepted = len(self._seconds[b"200"])
        return {
            "seconds": seconds,
            "began": wall,
            "cpu_seconds": cpu,
            "sent": len(self.flags),
            "late": self._late,
            "accepted": accepted,
            "refused": len(self._seconds[b"503"]),
            "other": dict(self._statuses),
            "records": accepted * self.shape.records,
            "bytes": accepted * self.shape.size_bytes,
            "answer_bytes": self._answer_bytes,
            "connections": len(self._connections),
            "by_stream": self._by_stream,
            "accepted_ms": _percentiles(self._seconds[b"200"]),
            "refused_ms": _percentiles(self._seconds[b"503"]),
        }


def _behind(pieces: list[bytes], written: int) -> list[bytes]:
    """What a write that took so many bytes left."""
    for index, piece in enumerate(pieces):
        if written < len(piece):
            return [piece[written:], *pieces[index + 1 :]]
        written -= len(piece)
    return []


def _percentiles(seconds: array[float]) -> dict[str, float]:
    if len(seconds) < 2:
        return {"p50": 0.0, "p99": 0.0, "max": 0.0}
    cuts = statistics.quantiles(seconds, n=100)
    return {"p50": cuts[49] * 1000, "p99": cuts[98] * 1000, "max": max(seconds) * 1000}


def main() -> None:
    load = Load(Plan(**json.loads(sys.argv[1])))
    said = load.run()
    Path(sys.argv[2]).write_bytes(load.flags)
    print(json.dumps(said))


if __name__ == "__main__":
    main()
