"""A Splunk HTTP Event Collector that only keeps what it is given, a file for each request, and calls it indexed.

python -m bench.hec_sink PORT FOLDER
"""

from __future__ import annotations

import json
import sys
from itertools import count
from pathlib import Path

import uvloop
from bench.s3_stub import Answering, Headers, serve


def indexing(folder: Path) -> Answering:
    numbers = count()

    def answering(method: str, target: str, headers: Headers, body: bytes) -> tuple[str, str]:
        if "/ack" in target:
            return "200 OK", json.dumps({"acks": dict.fromkeys(map(str, json.loads(body)["acks"]), True)})
        if not body:
            return "400 Bad Request", json.dumps({"text": "No data", "code": 5})
        number = next(numbers)
        (folder / f"{number}.ndjson").write_bytes(body)
        return "200 OK", json.dumps({"text": "Success", "code": 0, "ackId": number})

    return answering


if __name__ == "__main__":
    uvloop.run(serve(int(sys.argv[1]), indexing(Path(sys.argv[2]))))
