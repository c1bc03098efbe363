"""An S3 server that only keeps what it is given: cheap enough not to be what a benchmark measures.

Speaks just enough HTTP for boto3's PutObject and HeadBucket. `python s3_stub.py PORT FOLDER` writes each object's
body to FOLDER, under its key with slashes as '~'; a second PUT of a key with If-None-Match is answered 412.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from urllib.parse import unquote

import uvloop


async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, folder: Path) -> None:
    try:
        while True:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            first, *lines = head.split("\r\n")
            headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
            if headers.get("expect"):
                writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            body = await reader.readexactly(int(headers.get("content-length", 0)))
            method, target, _ = first.split(" ")
            writer.write(_status(method, target, headers, body, folder))
            await writer.drain()
    except (asyncio.IncompleteReadError, ConnectionError):
        pass
    finally:
        writer.close()


def _status(method: str, target: str, headers: dict[str, str], body: bytes, folder: Path) -> bytes:
    if method == "PUT":
        assert "chunked" not in headers.get("transfer-encoding", ""), "a body of known size was expected"
        path = folder / unquote(target).strip("/").replace("/", "~")
        if path.exists() and "if-none-match" in headers:
            return b"HTTP/1.1 412 Precondition Failed\r\ncontent-length: 0\r\n\r\n"
        path.write_bytes(body)
    return b'HTTP/1.1 200 OK\r\netag: "0"\r\ncontent-length: 0\r\n\r\n'


async def main(port: int, folder: Path) -> None:
    server = await asyncio.start_server(lambda r, w: answer(r, w, folder), "127.0.0.1", port, limit=1 << 20)
    print("ready", flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1]), Path(sys.argv[2])))
