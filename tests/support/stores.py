"""A real S3 server as a program, and a look into its buckets that owes nothing to the service under test."""

from __future__ import annotations

import gzip
import io
import os
import shutil
import struct
import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any
from uuid import uuid4

import boto3
import cramjam
import httpx
import zstandard
from botocore.config import Config
from programs import Program, Programs, free_port

ACCESS_KEY, SECRET_KEY = "test", "testtest"
TOOLS = Path(".tools/bin")


def executable(name: str) -> str | None:
    """Where the program is: under .tools, or else on the path."""
    return shutil.which(name, path=TOOLS.absolute()) or shutil.which(name)


def versitygw(programs: Programs, path: str, port: int, folder: Path) -> Program:
    return programs.new(
        "versitygw",
        [path, "--port", f"127.0.0.1:{port}", "--quiet", "posix", folder],
        ROOT_ACCESS_KEY=ACCESS_KEY,
        ROOT_SECRET_KEY=SECRET_KEY,
    )


def minio(programs: Programs, path: str, port: int, folder: Path) -> Program:
    console = f"127.0.0.1:{free_port()}"
    return programs.new(
        "minio",
        [path, "server", "--address", f"127.0.0.1:{port}", "--console-address", console, "--quiet", folder],
        MINIO_ROOT_USER=ACCESS_KEY,
        MINIO_ROOT_PASSWORD=SECRET_KEY,
    )


SERVERS: Mapping[str, Callable[[Programs, str, int, Path], Program]] = {"versitygw": versitygw, "minio": minio}


def chosen() -> str:
    """The S3 server to test with."""
    return os.environ.get("LIVE_S3", "versitygw")


class Store:
    """One S3 server with a folder of its own. It may be killed and started again on the same port."""

    def __init__(self, programs: Programs, path: str, folder: Path) -> None:
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        folder.mkdir(parents=True)
        self.program = SERVERS[chosen()](programs, path, port, folder)
        self.client = boto3.Session(ACCESS_KEY, SECRET_KEY, region_name="us-east-1").client(
            "s3", endpoint_url=self.url, config=Config(s3={"addressing_style": "path"})
        )

    def start(self) -> None:
        self.program.start()
        self.program.wait_until(self._answers)

    def close(self) -> None:
        self.client.close()
        self.program.kill()

    def _answers(self) -> bool:
        try:
            return httpx.get(self.url, trust_env=False).status_code < 500
        except httpx.TransportError:
            return False

    def new_bucket(self) -> str:
        name = f"lake-{uuid4().hex[:12]}"
        self.client.create_bucket(Bucket=name)
        return name

    def destination(self, bucket: str, **more: Any) -> dict[str, Any]:
        """The block of a configuration that delivers to the bucket."""
        return {
            "type": "s3",
            "bucket": bucket,
            "endpoint_url": self.url,
            "access_key_id": ACCESS_KEY,
            "secret_access_key": SECRET_KEY,
            "compression": "gzip",
            **more,
        }

    def names(self, bucket: str) -> list[str]:
        pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=bucket)
        return [item["Key"] for page in pages for item in page.get("Contents", ())]

    def objects(self, bucket: str) -> Iterator[bytes]:
        """Every object as stored, one at a time."""
        for name in self.names(bucket):
            with self.client.get_object(Bucket=bucket, Key=name)["Body"] as body:
                yield body.read()

    def contents(self, bucket: str, compression: str = "gzip") -> Iterator[bytes]:
        """Every object uncompressed."""
        return map(READERS[compression], self.objects(bucket))

    def lines(self, bucket: str, compression: str = "gzip") -> list[str]:
        """Every line of every object: a record each, where records end with a newline."""
        return [line for content in self.contents(bucket, compression) for line in content.decode().split("\n")[:-1]]


def _unzip(data: bytes) -> bytes:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return b"".join(archive.read(name) for name in archive.namelist())


def _snappy(data: bytes) -> bytes:
    """The framing of xerial's snappy-java: a header of 16 bytes, then blocks behind their length."""
    assert data.startswith(b"\x82SNAPPY\x00")
    content, at = b"", 16
    while at < len(data):
        (size,) = struct.unpack_from(">i", data, at)
        content += bytes(cramjam.snappy.decompress_raw(data[at + 4 : at + 4 + size]))
        at += 4 + size
    return content


def _hadoop_snappy(data: bytes) -> bytes:
    """Hadoop's framing: blocks behind their plain length, each of chunks behind their packed length."""
    content, at, goal = b"", 0, 0
    while at < len(data):
        if len(content) == goal:
            goal += int.from_bytes(data[at : at + 4], "big")
            at += 4
        (size,) = struct.unpack_from(">i", data, at)
        content += bytes(cramjam.snappy.decompress_raw(data[at + 4 : at + 4 + size]))
        at += 4 + size
    return content


READERS: Mapping[str, Callable[[bytes], bytes]] = {
    "none": bytes,
    "gzip": gzip.decompress,
    "zip": _unzip,
    "zstd": lambda data: zstandard.ZstdDecompressor().decompressobj().decompress(data),
    "snappy": _snappy,
    "hadoop_snappy": _hadoop_snappy,
}
