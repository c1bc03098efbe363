"""A load generator that prepares its requests beforehand and then only writes and reads sockets.

`python load.py PORT KIND CONNECTIONS REQUESTS` prints one JSON line: seconds, requests, records, bytes, and how many
times each prepared body was acknowledged, so that the objects can be checked record by record.
"""

from __future__ import annotations

import asyncio
import base64
import json
import random
import sys
import time
from collections import Counter
from typing import cast

import uvloop

BODIES = 64
RECORD_BYTES = {"ingest-100": 512, "ingest-1": 512, "put-record-batch": 1024}
RECORDS = {"ingest-100": 100, "ingest-1": 1, "put-record-batch": 500}


def events(body: int, count: int, size: int) -> list[bytes]:
    """JSON log events of `size` bytes, newline included; their ids never repeat within a run's bodies."""
    dice = random.Random(body)
    found = []
    for number in range(count):
        event = {
            "id": f"{body:04d}-{number:04d}",
            "timestamp": f"2026-03-01T12:{dice.randrange(60):02d}:{dice.randrange(60):02d}.{dice.randrange(1000):03d}Z",
            "level": dice.choice(["INFO", "INFO", "INFO", "WARN", "ERROR"]),
            "service": dice.choice(["checkout", "search", "users", "billing"]),
            "trace": f"{dice.getrandbits(128):032x}",
            "status": dice.choice([200, 200, 200, 304, 404, 500]),
            "latency_ms": round(dice.expovariate(0.05), 2),
            "path": f"/api/v1/items/{dice.randrange(100000)}?page={dice.randrange(50)}",
            "message": "",
        }
        words = ["request", "handled", "by", "worker", "after", "retry", "cache", "miss", "hit", "for", "customer"]
        while len(json.dumps(event)) < size - 13:
            event["message"] = f"{event['message']} {dice.choice(words)}"
        event["message"] = f"{event['message']}{'.' * (size - 1 - len(json.dumps(event)))}"
        found.append(json.dumps(event).encode() + b"\n")
        assert len(found[-1]) == size
    return found


def request(kind: str, body: int) -> bytes:
    records = events(body, RECORDS[kind], RECORD_BYTES[kind])
    if kind.startswith("ingest"):
        payload, head = b"".join(records), b"POST /ingest/app HTTP/1.1\r\ncontent-type: application/x-ndjson\r\n"
    else:
        data = [{"Data": base64.b64encode(one).decode()} for one in records]
        payload = json.dumps({"DeliveryStreamName": "app", "Records": data}).encode()
        head = (
            b"POST / HTTP/1.1\r\ncontent-type: application/x-amz-json-1.1\r\n"
            b"x-amz-target: Firehose_20150804.PutRecordBatch\r\n"
        )
    return head + b"host: localhost\r\ncontent-length: %d\r\n\r\n" % len(payload) + payload


class Connection(asyncio.Protocol):
    """Sends one request after the other, each once the one before it was answered."""

    def __init__(self, load: Load) -> None:
        self._load = load
        self._body = -1
        self._received = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is none by inheritance
        self._next()

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, separator, rest = self._received.partition(b"\r\n\r\n")
        if not separator:
            return
        length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r")[0])
        if len(rest) < length:
            return
        self._load.answered(head[9:12], self._body)
        self._received = b""
        self._next()

    def connection_lost(self, error: Exception | None) -> None:
        if self._body >= 0:
            self._load.failed(f"connection lost: {error}")

    def _next(self) -> None:
        self._body = self._load.take()
        if self._body < 0:
            self._transport.close()
        else:
            self._transport.write(self._load.requests[self._body])


class Load:
    def __init__(self, kind: str, connections: int, total: int) -> None:
        self.requests = [request(kind, body) for body in range(BODIES)]
        self.acknowledged: Counter[int] = Counter()
        self.statuses: Counter[str] = Counter()
        self.done = asyncio.get_running_loop().create_future()
        self._left = total
        self._open = connections

    def take(self) -> int:
        """Which body to send next; -1 where enough have been sent."""
        if self._left == 0:
            self._open -= 1
            if self._open == 0 and not self.done.done():
                self.done.set_result(None)
            return -1
        self._left -= 1
        return self._left % BODIES

    def answered(self, status: bytes, body: int) -> None:
        self.statuses[status.decode()] += 1
        if status == b"200":
            self.acknowledged[body] += 1

    def failed(self, reason: str) -> None:
        if not self.done.done():
            self.done.set_exception(RuntimeError(reason))


async def main(port: int, kind: str, connections: int, total: int) -> None:
    load = Load(kind, connections, total)
    loop = asyncio.get_running_loop()
    began = time.perf_counter()
    for _ in range(connections):
        await loop.create_connection(lambda: Connection(load), "127.0.0.1", port)
    await load.done
    seconds = time.perf_counter() - began
    accepted = load.acknowledged.total()
    said = {
        "seconds": seconds,
        "requests": accepted,
        "records": accepted * RECORDS[kind],
        "bytes": accepted * RECORDS[kind] * RECORD_BYTES[kind],
        "statuses": load.statuses,
        "acknowledged": load.acknowledged,
    }
    print(json.dumps(said))


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4])))
