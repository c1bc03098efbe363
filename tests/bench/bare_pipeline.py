"""The floor of the whole path: what any service must do to a record, in one process and without a promise kept.

`python -m bench.bare_pipeline PORT S3_PORT FOLDER BYTES SORT`: a bare protocol, the body into an Arrow column, a
frame with a CRC, one write and one fdatasync for all requests that came together, the answer; at 5 MiB (64 for
Parquet) the file is read back, gzipped or made into Parquet, and put by a raw socket. No recovery, no names, no
retries, no bounds, no metrics: a service that does its work within half as much again is near what the machine can do.
"""

from __future__ import annotations

import asyncio
import os
import socket
import struct
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec
import pyarrow as pa
import pyarrow.compute as pc
import pybase64
import uvloop
from bench import bare_http, corpus
from isal import igzip_lib
from isal.isal_zlib import crc32
from pyarrow import json, parquet

SEGMENT_BYTES = {"gzip": 5 << 20, "parquet": 64 << 20}
BLOCK_BYTES = 4 << 20  # of JSON, what Arrow reads fastest
HEAD = struct.Struct("<8sQQ")


class Record(msgspec.Struct):
    Data: str


class Put(msgspec.Struct):
    Records: list[Record]


_PUT = msgspec.json.Decoder(Put)


def column(body: bytes) -> pa.RecordBatch:
    if body.startswith(b'{"Del'):
        decoded = [pybase64.b64decode(record.Data) for record in _PUT.decode(body).Records]
        return pa.record_batch([pa.array(decoded, pa.binary())], names=["record"])
    offsets = pa.py_buffer(struct.pack("=ii", 0, len(body)))
    whole = pa.Array.from_buffers(pa.binary(), 1, [None, offsets, pa.py_buffer(body)])
    lines = pc.split_pattern(whole, b"\n").values
    return pa.record_batch([lines[: len(lines) - 1]], names=["record"])


def write(file: int, batch: pa.RecordBatch) -> int:
    """One frame, synced; its bytes."""
    data = batch.serialize()
    os.writev(file, [HEAD.pack(b"FHFLOOR\n", data.size, crc32(data)), data])
    os.fdatasync(file)
    return HEAD.size + int(data.size)


def deliver(path: Path, number: int, s3_port: int, sort: str = "gzip") -> None:
    """Puts the file's records as the object of that number."""
    text = b"".join(_records(path.read_bytes()))
    body = _parquet(text) if sort == "parquet" else igzip_lib.compress(text, 1, flag=igzip_lib.COMP_GZIP)
    name = b"%d.parquet" % number if sort == "parquet" else b"%d" % number
    with socket.create_connection(("127.0.0.1", s3_port)) as s3:
        s3.sendall(b"PUT /lake/%b HTTP/1.1\r\ncontent-length: %d\r\n\r\n" % (name, len(body)))
        s3.sendall(body)
        s3.recv(4096)
    path.unlink()


class Pipeline:
    """Everything between a body and an object, in the event loop but for reading back, gzip and the PUT."""

    def __init__(self, folder: Path, s3_port: int, answer: bytes, sort: str) -> None:
        self._folder = folder
        self._sort = sort
        self._s3_port = s3_port
        self._answer = answer
        self._group: list[tuple[bytes, bare_http.Reply]] = []
        self._threads = ThreadPoolExecutor(1)
        self._number = 0
        self._begin()

    def _begin(self) -> None:
        self._path = self._folder / str(self._number)
        self._file = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        self._size = 0

    def take(self, body: bytes, reply: bare_http.Reply) -> None:
        if body == b"end":
            self._end()
            self._threads.submit(reply, self._answer).result()
            return
        if not self._group:
            asyncio.get_running_loop().call_soon(self._commit)
        self._group.append((body, reply))

    def _commit(self) -> None:
        group, self._group = self._group, []
        batches = [column(body) for body, _ in group]
        written = write(self._file, pa.concat_batches(batches) if len(batches) > 1 else batches[0])
        for _, reply in group:
            reply(self._answer)
        self._size += written
        if self._size >= SEGMENT_BYTES[self._sort]:
            self._end()
            self._begin()

    def _end(self) -> None:
        os.close(self._file)
        self._threads.submit(deliver, self._path, self._number, self._s3_port, self._sort)
        self._number += 1


def _parquet(text: bytes) -> pa.Buffer:
    schema = json.ParseOptions(explicit_schema=pa.schema(corpus.ARROW_COLUMNS), unexpected_field_behavior="ignore")
    sink = pa.BufferOutputStream()
    with (
        json.open_json(
            pa.BufferReader(text), json.ReadOptions(use_threads=False, block_size=BLOCK_BYTES), schema
        ) as reader,
        parquet.ParquetWriter(sink, reader.schema, compression="snappy") as writer,
    ):
        for batch in reader:
            writer.write_batch(batch)
    return sink.getvalue()


def _records(data: bytes) -> list[pa.Buffer]:
    """The records of all frames, end to end as they lie in the values of each column, with the newlines back."""
    schema = pa.schema([pa.field("record", pa.binary())])
    pieces, at = [], 0
    while at < len(data):
        _, size, crc = HEAD.unpack_from(data, at)
        message = pa.py_buffer(data).slice(at + HEAD.size, size)
        assert crc32(message) == crc
        column = pa.ipc.read_record_batch(message, schema).column(0)
        line_ends = pa.array([b"\n"], pa.binary())[0]
        if not column[0].as_py().endswith(b"\n"):
            column = pc.binary_join_element_wise(column, line_ends, b"")
        offsets = memoryview(column.buffers()[1]).cast("i")
        pieces.append(column.buffers()[2].slice(offsets[0], offsets[len(column)] - offsets[0]))
        at += HEAD.size + size
    return pieces


def main() -> None:
    pipeline = Pipeline(Path(sys.argv[3]), int(sys.argv[2]), bare_http.answer(int(sys.argv[4])), sys.argv[5])
    uvloop.run(bare_http.serve(int(sys.argv[1]), pipeline.take))


if __name__ == "__main__":
    main()
