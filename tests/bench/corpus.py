"""What is sent: JSON log events of a fixed size, in requests that each carry a number of their own.

The number stands in the first record of a request, so that every acknowledged request can be found again, once, among
the delivered objects; the other records are told apart by their body and their place in it.
"""

from __future__ import annotations

import base64
import json
import random
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

import pyarrow as pa

BODIES = 32  # prepared beforehand; request n sends body n % BODIES
NUMBER = b"%012d"  # twelve digits behind twelve bytes: base64 encodes them by themselves
NO_NUMBER = "-" * 12
STREAM = "s0000"
LEVELS = ("INFO", "INFO", "INFO", "WARN", "ERROR")
SERVICES = ("checkout", "search", "users", "billing")
STATUSES = (200, 200, 200, 304, 404, 500)
COLUMNS = {
    "number": "string",
    "id": "string",
    "timestamp": "timestamp",
    "level": "string",
    "service": "string",
    "trace": "string",
    "status": "int",
    "latency_ms": "double",
    "path": "string",
    "message": "string",
}
_ARROW = {"string": pa.string(), "timestamp": pa.timestamp("us"), "int": pa.int32(), "double": pa.float64()}
ARROW_COLUMNS = {name: _ARROW[type_] for name, type_ in COLUMNS.items()}
WORDS = ("request", "handled", "by", "worker", "after", "retry", "cache", "miss", "hit", "for", "customer")
PHRASES = tuple(" ".join(random.Random(phrase).choices(WORDS, k=6)) for phrase in range(100))


@dataclass(frozen=True, slots=True)
class Shape:
    """What one request looks like."""

    dialect: Literal["ingest", "firehose", "kinesis"]
    records: int
    record_bytes: int

    @property
    def size_bytes(self) -> int:
        """Of the records alone."""
        return self.records * self.record_bytes


SHAPES = {
    "ingest-100": Shape("ingest", 100, 512),
    "ingest-1": Shape("ingest", 1, 512),
    "put-record-batch": Shape("firehose", 500, 1024),
    "kinesis-put-records": Shape("kinesis", 500, 1024),
    "kinesis-put-record": Shape("kinesis", 1, 1024),
}


def stream_names(count: int, first: int = 0) -> list[str]:
    """All as long as each other, so that only a request's first line differs."""
    return [f"s{number:04d}" for number in range(first, first + count)]


def number(value: int, shape: Shape) -> bytes:
    """The number of a request as it stands in the request's bytes."""
    digits = NUMBER % value
    return digits if shape.dialect == "ingest" else base64.b64encode(digits)


def event(dice: random.Random, body: int, row: int, size: int) -> bytes:
    """A log event of `size` bytes, newline included. `body` and `row` are who it is."""
    seconds = dice.random() * 3600
    head = (
        f'{{"number": "{NO_NUMBER if row else "0" * 12}", "id": "{body:04d}-{row:04d}", '
        f'"timestamp": "2026-03-01T12:{seconds // 60:02.0f}:{seconds % 60:06.3f}Z", '
        f'"level": "{dice.choice(LEVELS)}", "service": "{dice.choice(SERVICES)}", '
        f'"trace": "{dice.getrandbits(128):032x}", "status": {dice.choice(STATUSES)}, '
        f'"latency_ms": {dice.expovariate(0.05):.2f}, '
        f'"path": "/api/v1/items/{dice.randrange(100000)}?page={dice.randrange(50)}", "message": "'
    )
    room = size - len(head) - 3
    message = " ".join(dice.choices(PHRASES, k=room // 22 + 1))[:room]
    return f'{head}{message}"}}\n'.encode()


@cache
def records(shape: Shape, body: int) -> tuple[bytes, ...]:
    dice = random.Random(body)
    return tuple(event(dice, body, row, shape.record_bytes) for row in range(shape.records))


def first_line(shape: Shape, stream: str) -> bytes:
    """All of a request that says which stream it is for; with the AWS API the body does."""
    path = f"/ingest/{stream}" if shape.dialect == "ingest" else "/"
    return f"POST {path} HTTP/1.1\r\nhost: localhost\r\n".encode()


def request(shape: Shape, body: int) -> tuple[bytes, bytes]:
    """The bytes of a request behind its first line: those before its number and those after it."""
    if shape.dialect == "ingest":
        headers, payload = "content-type: application/x-ndjson", b"".join(records(shape, body))
    else:
        operation, said = _aws(shape, [base64.b64encode(one).decode() for one in records(shape, body)])
        headers = f"content-type: application/x-amz-json-1.1\r\nx-amz-target: {operation}"
        payload = json.dumps(said).encode()
    before, _, after = payload.partition(number(0, shape))
    return f"{headers}\r\ncontent-length: {len(payload)}\r\n\r\n".encode() + before, after


def _aws(shape: Shape, data: list[str]) -> tuple[str, dict[str, Any]]:
    """An operation of the AWS API, and its request."""
    if shape.dialect == "firehose":
        records = [{"Data": one} for one in data]
        return "Firehose_20150804.PutRecordBatch", {"DeliveryStreamName": STREAM, "Records": records}
    keyed = [{"Data": one, "PartitionKey": f"customer {row}"} for row, one in enumerate(data)]
    if len(keyed) == 1:
        return "Kinesis_20131202.PutRecord", {"StreamName": STREAM, **keyed[0]}
    return "Kinesis_20131202.PutRecords", {"StreamName": STREAM, "Records": keyed}
