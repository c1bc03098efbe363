"""A mixed load at a steady pace, by threads that outlive whatever is done to the service under test.

Each thread posts numbered records to one stream in a way of its own. A record whose answer was lost or was no success
is not sent again: it may arrive or not, but never twice. What was acknowledged is told by `fates`.
"""

from __future__ import annotations

import base64
import gzip
import http.client
import json
import random
import threading
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from oracle import Fates

Shape = Callable[[str, list[bytes]], tuple[str, Mapping[str, str], bytes]]
TARGET = "Firehose_20150804."


def ingest(stream: str, records: list[bytes]) -> tuple[str, Mapping[str, str], bytes]:
    return f"/ingest/{stream}", {"Content-Type": "application/x-ndjson"}, b"".join(records)


def gzipped(stream: str, records: list[bytes]) -> tuple[str, Mapping[str, str], bytes]:
    return f"/ingest/{stream}", {"Content-Encoding": "gzip"}, gzip.compress(b"".join(records), 1)


def put_record_batch(stream: str, records: list[bytes]) -> tuple[str, Mapping[str, str], bytes]:
    data = [{"Data": base64.b64encode(record).decode()} for record in records]
    return _aws("PutRecordBatch", DeliveryStreamName=stream, Records=data)


def put_record(stream: str, records: list[bytes]) -> tuple[str, Mapping[str, str], bytes]:
    (record,) = records
    return _aws("PutRecord", DeliveryStreamName=stream, Record={"Data": base64.b64encode(record).decode()})


def _aws(operation: str, **body: object) -> tuple[str, Mapping[str, str], bytes]:
    headers = {"Content-Type": "application/x-amz-json-1.1", "X-Amz-Target": TARGET + operation}
    return "/", headers, json.dumps(body).encode()


@dataclass(frozen=True, slots=True)
class Pace:
    """Who posts what: `records` of about `size_bytes` a request, so many requests a second."""

    name: str  # of the records; no two loads share one
    stream: str
    shape: Shape
    records: int
    size_bytes: int
    per_second: float


class Load(threading.Thread):
    """Posts until it is stopped. `answers` counts them by status; 0 stands for a connection that failed."""

    def __init__(self, port: int, pace: Pace, seed: int) -> None:
        super().__init__(daemon=True)
        self.fates = Fates()
        self.pace = pace
        self.answers: Counter[int] = Counter()
        self._port = port
        self._dice = random.Random(seed)
        self._ended = threading.Event()

    def run(self) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=30)
        while not self._ended.wait(self._dice.uniform(0.5, 1.5) / self.pace.per_second):
            try:
                self._post(connection)
            except (OSError, http.client.HTTPException):
                self.answers[0] += 1
                connection.close()  # it opens anew by itself
        connection.close()

    def stop(self) -> None:
        self._ended.set()
        self.join()

    def _post(self, connection: http.client.HTTPConnection) -> None:
        numbers = self.fates.take(self.pace.records)
        path, headers, body = self.pace.shape(self.pace.stream, [self._record(number) for number in numbers])
        connection.request("POST", path, body, dict(headers))
        answer = connection.getresponse()
        said = json.loads(answer.read())
        self.answers[answer.status] += 1
        if answer.status == 200:
            assert said.get("rejected", said.get("FailedPutCount", 0)) == 0, said
            self.fates.acknowledge(numbers)

    def _record(self, number: int) -> bytes:
        pad = base64.b64encode(self._dice.randbytes(int(self.pace.size_bytes * self._dice.uniform(0.4, 1.1) * 0.75)))
        return b'{"id": "%s-%d", "pad": "%s"}\n' % (self.pace.name.encode(), number, pad)
