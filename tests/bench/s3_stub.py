"""An S3 server that only keeps what it is given: cheap enough not to be what a benchmark measures.

Speaks just enough HTTP for boto3's PutObject, multipart uploads whose parts come in order, and HeadBucket.
`python -m bench.s3_stub PORT FOLDER` writes each object's body to FOLDER, under its key with slashes as '~'; a second
one of the same key on the condition that there is none is answered 412.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from pathlib import Path
from urllib.parse import parse_qs, unquote

import uvloop

Headers = dict[str, str]


class Objects:
    """What was put. An upload under way is a file whose name starts with a dot."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._uploads = 0

    def answer(self, method: str, target: str, headers: Headers, body: bytes) -> tuple[str, str]:
        """Status and body."""
        path, _, query = target.partition("?")
        asked = parse_qs(query, keep_blank_values=True)
        name = unquote(path).strip("/").replace("/", "~")
        if method == "PUT" and "partNumber" in asked:
            with self._upload(asked["uploadId"][0]).open("ab") as upload:
                upload.write(body)
        elif method == "PUT":
            return self._keep(name, headers, lambda file: file.write_bytes(body))
        elif method == "POST" and "uploads" in asked:
            self._uploads += 1
            return "200 OK", _xml("InitiateMultipartUploadResult", f"<UploadId>{self._uploads}</UploadId>")
        elif method == "POST":
            done = _xml("CompleteMultipartUploadResult", '<ETag>"0"</ETag>')
            return self._keep(name, headers, self._upload(asked["uploadId"][0]).rename, done)
        return "200 OK", ""

    def _keep(self, name: str, headers: Headers, into: Callable[[Path], object], said: str = "") -> tuple[str, str]:
        file = self._folder / name
        if "if-none-match" in headers and file.exists():
            return "412 Precondition Failed", ""
        into(file)
        return "200 OK", said

    def _upload(self, upload: str) -> Path:
        return self._folder / f".{upload}"


def _xml(name: str, content: str) -> str:
    return f'<?xml version="1.0"?><{name}>{content}</{name}>'


Answering = Callable[[str, str, Headers, bytes], tuple[str, str]]  # of a request: status and body


async def converse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, answering: Answering) -> None:
    try:
        while True:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            first, *lines = head.split("\r\n")
            headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
            assert "chunked" not in headers.get("transfer-encoding", ""), "a body of known size was expected"
            if headers.get("expect"):
                writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            body = await reader.readexactly(int(headers.get("content-length", 0)))
            method, target, _ = first.split(" ")
            status, said = answering(method, target, headers, body)
            writer.write(f'HTTP/1.1 {status}\r\netag: "0"\r\ncontent-length: {len(said)}\r\n\r\n{said}'.encode())
            await writer.drain()
    except (asyncio.IncompleteReadError, ConnectionError):
        pass
    finally:
        writer.close()


async def serve(port: int, answering: Answering) -> None:
    server = await asyncio.start_server(lambda r, w: converse(r, w, answering), "127.0.0.1", port, limit=1 << 20)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(serve(int(sys.argv[1]), Objects(Path(sys.argv[2])).answer))
