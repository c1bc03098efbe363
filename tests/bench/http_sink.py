"""An HTTP endpoint that only keeps what it is given, a file for each request: one that comes twice is there once.

python -m bench.http_sink PORT FOLDER
"""

from __future__ import annotations

import sys
from pathlib import Path

import uvloop
from bench.s3_stub import Answering, Headers, serve


def keeping(folder: Path) -> Answering:
    def answering(method: str, target: str, headers: Headers, body: bytes) -> tuple[str, str]:
        (folder / f"{headers['idempotency-key']}.ndjson").write_bytes(body)
        return "200 OK", ""

    return answering


if __name__ == "__main__":
    uvloop.run(serve(int(sys.argv[1]), keeping(Path(sys.argv[2]))))
