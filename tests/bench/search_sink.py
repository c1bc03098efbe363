"""An OpenSearch node that only keeps what it is given, a file for each bulk request: the same one twice is there once.

python -m bench.search_sink PORT FOLDER
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import uvloop
from bench.s3_stub import Answering, Headers, serve

ITEM = '{"index":{"status":201}}'


def taking(folder: Path) -> Answering:
    def answering(method: str, target: str, headers: Headers, body: bytes) -> tuple[str, str]:
        if "_bulk" not in target:
            return "200 OK", "{}"
        lines = body.splitlines(keepends=True)
        ((_, names),) = json.loads(lines[0]).items()
        (folder / f"{names['_id']}.ndjson").write_bytes(b"".join(lines[1::2]))
        return "200 OK", f'{{"errors":false,"items":[{",".join([ITEM] * (len(lines) // 2))}]}}'

    return answering


if __name__ == "__main__":
    uvloop.run(serve(int(sys.argv[1]), taking(Path(sys.argv[2]))))
