"""Compresses what is delivered, in the framings that Amazon writes (firehose.md sections 5.3 and 6).

A codec turns a stream of chunks into a stream of pieces. It holds a few blocks at a time, however long the
stream, and it keeps no state between calls, so threads share it; every compressor object lives inside one
call (a pyarrow gzip codec shared between threads crashes, DESIGN.md section 4, and is not used at all). The
input is cut into blocks counted from its start before any library sees it, so the same bytes give the same
object however they were chunked.

It must never put the time, a random name or anything else but its arguments into its output: a repeated
delivery overwrites an object with an equal one.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import TypeAlias

import pyarrow as pa
from isal import isal_zlib

from firehose.contracts import Chunk

Piece: TypeAlias = bytes | memoryview
Encoder: TypeAlias = Callable[[Iterable[Chunk], str], Iterator[Piece]]

PIECE_BYTES = 256 * 1024  # smaller pieces are gathered up to this size
BLOCK_BYTES = 128 * 1024  # what a streaming compressor is fed with at once: of each chunk, one block is copied
SNAPPY_BLOCK_BYTES = 32 * 1024
LEVEL = 1  # isal at level 1 is nine times as fast as zlib at its default, for objects a quarter larger


@dataclass(frozen=True, slots=True)
class Codec:
    """One way to compress, and how an object says so: its extension and its Content-Encoding."""

    name: str
    extension: str
    content_encoding: str | None
    encode: Encoder = field(repr=False)

    def compress(self, chunks: Iterable[Chunk], entry_name: str) -> Iterator[Piece]:
        """The compressed stream in pieces of about 256 KiB, never empty ones.

        `entry_name` is the name of the entry inside a zip archive; other codecs ignore it. `none` passes
        chunks of that size and more on as they are, as views of the caller's memory.
        """
        return _gather(self.encode(chunks, entry_name))


def codec(name: str) -> Codec:
    """The codec of that name; a ValueError with all names and the nearest one otherwise."""
    if name not in CODECS:
        raise unknown("compression", name, list(CODECS))
    return CODECS[name]


def unknown(what: str, name: str, choices: Sequence[str]) -> ValueError:
    near = get_close_matches(name, choices, n=1)
    hint = f"; did you mean {near[0]}?" if near else ""
    return ValueError(f"unknown {what} {name!r}{hint} (choose from {', '.join(choices)})")


def _views(chunks: Iterable[Chunk]) -> Iterator[Piece]:
    for chunk in chunks:
        yield chunk if isinstance(chunk, bytes) else memoryview(chunk).cast("B")


def _gather(pieces: Iterable[Piece]) -> Iterator[Piece]:
    """Joins small pieces; lets large ones pass without a copy."""
    held: list[Piece] = []
    size = 0
    for piece in pieces:
        if held and size + len(piece) > PIECE_BYTES:
            yield b"".join(held)
            held, size = [], 0
        if len(piece) >= PIECE_BYTES:
            yield piece
        elif piece:
            held.append(piece)
            size += len(piece)
    if held:
        yield b"".join(held)


def _blocks(chunks: Iterable[Chunk], size: int) -> Iterator[bytes | bytearray | memoryview]:
    """The stream cut at every multiple of `size`; copies only the blocks that lie across chunks."""
    rest = bytearray()
    for chunk in chunks:
        view = memoryview(chunk).cast("B")
        if rest:
            missing = size - len(rest)
            rest += view[:missing]
            if len(rest) < size:
                continue
            yield rest
            view, rest = view[missing:], bytearray()
        whole = len(view) - len(view) % size
        for start in range(0, whole, size):
            yield view[start : start + size]
        rest += view[whole:]
    if rest:
        yield rest


def _none(chunks: Iterable[Chunk], entry_name: str) -> Iterator[Piece]:
    return _views(chunks)


def _gzip(chunks: Iterable[Chunk], entry_name: str) -> Iterator[bytes]:
    """One gzip member; its header holds neither a time nor a name."""
    stream = isal_zlib.compressobj(LEVEL, wbits=31)
    for block in _blocks(chunks, BLOCK_BYTES):
        yield stream.compress(block)
    yield stream.flush()


class Written(io.RawIOBase):
    """A file for a library to write to, which hands on what was written since the last look."""

    def __init__(self) -> None:
        self._written: list[bytes] = []

    def writable(self) -> bool:
        return True

    def write(self, piece: bytes, /) -> int:  # type: ignore[override]  # pyarrow writes bytes only
        self._written.append(piece)
        return len(piece)

    def taken(self) -> list[bytes]:
        taken, self._written = self._written, []
        return taken


def _zstd(chunks: Iterable[Chunk], entry_name: str) -> Iterator[bytes]:
    """One standard frame at level 1, which is Arrow's default for zstd.

    Its header does not name the content's size. Arrow's stream lets other threads run while it compresses;
    cramjam's does not.
    """
    pieces = Written()
    with pa.CompressedOutputStream(pa.PythonFile(pieces, mode="w"), "zstd") as stream:
        for block in _blocks(chunks, BLOCK_BYTES):
            stream.write(block)
            yield from pieces.taken()
    yield from pieces.taken()


def _snappy_blocks(chunks: Iterable[Chunk]) -> Iterator[tuple[int, bytes]]:
    """Raw Snappy blocks, each with the size it had before."""
    snappy = pa.Codec("snappy")
    for block in _blocks(chunks, SNAPPY_BLOCK_BYTES):
        yield len(block), snappy.compress(block, asbytes=True)


def _snappy(chunks: Iterable[Chunk], entry_name: str) -> Iterator[bytes]:
    """The stream of snappy-java's SnappyOutputStream ("xerial"), which is not Google's framing format.

    A header with version 1, readable since version 1; then each block of 32 KiB behind its compressed length.
    """
    yield b"\x82SNAPPY\x00" + struct.pack(">ii", 1, 1)
    for _, block in _snappy_blocks(chunks):
        yield struct.pack(">i", len(block))
        yield block


def _hadoop_snappy(chunks: Iterable[Chunk], entry_name: str) -> Iterator[bytes]:
    """The stream of Hadoop's SnappyCodec: each block behind its plain length and its compressed length.

    Blocks are of 32 KiB, the default of snappy-java's SnappyHadoopCompatibleOutputStream, which AWS's
    objects match. Hadoop itself writes larger ones (256 KiB buffers by default) and reads any that fit its
    buffer.
    """
    for size, block in _snappy_blocks(chunks):
        yield struct.pack(">ii", size, len(block))
        yield block


ZIP_LOCAL = struct.Struct("<IHHHHHIIIHH")
ZIP_FLAGS = 0x0008  # CRC and sizes follow the data
ZIP_DEFLATED = 8
ZIP_TIME, ZIP_DATE = 0, 0x0021  # 1980-01-01 00:00, the first instant of the format
ZIP_LIMIT = 0xFFFFFFFF  # a size from here on does not fit its field, which then holds this value
ZIP_VERSION, ZIP64_VERSION = 20, 45


@dataclass(frozen=True, slots=True)
class ZipEntry:
    """What is known of a zip entry once its data has been written."""

    name: str
    crc: int = 0
    size: int = 0
    packed: int = 0

    def __post_init__(self) -> None:
        assert self.name.isascii(), "names of entries are UUIDs"

    @property
    def large(self) -> bool:
        return max(self.size, self.packed) >= ZIP_LIMIT


def _zip(chunks: Iterable[Chunk], entry_name: str) -> Iterator[bytes]:
    """An archive with one deflated entry.

    Written by hand: Python's zipfile deflates many times slower, and it must be told beforehand that an
    entry will exceed 4 GiB; told so about a small one, it writes what Java's ZipInputStream refuses.
    """
    yield zip_header(entry_name)
    stream = isal_zlib.compressobj(LEVEL, wbits=-15)
    crc = size = packed = 0
    for block in _blocks(chunks, BLOCK_BYTES):
        crc, size = isal_zlib.crc32(block, crc), size + len(block)
        piece = stream.compress(block)
        packed += len(piece)
        yield piece
    piece = stream.flush()
    yield piece
    yield zip_end(ZipEntry(entry_name, crc, size, packed + len(piece)))


def zip_header(name: str) -> bytes:
    """What stands before the data of the entry."""
    fixed = (0x04034B50, ZIP_VERSION, ZIP_FLAGS, ZIP_DEFLATED, ZIP_TIME, ZIP_DATE, 0, 0, 0, len(name), 0)
    return ZIP_LOCAL.pack(*fixed) + name.encode("ascii")


def zip_end(entry: ZipEntry) -> bytes:
    """What stands behind the data: its descriptor, the directory, the directory's place."""
    descriptor = _zip_descriptor(entry)
    directory = _zip_directory(entry)
    start = ZIP_LOCAL.size + len(entry.name) + entry.packed + len(descriptor)
    return descriptor + directory + _zip_directory_place(start, len(directory))


def _zip_descriptor(entry: ZipEntry) -> bytes:
    # Eight bytes a size only where they are needed, with no mark in the header before: java.util.zip's
    # convention, the only one that its streaming reader understands. Other readers go by the directory.
    layout = "<IIQQ" if entry.large else "<IIII"
    return struct.pack(layout, 0x08074B50, entry.crc, entry.packed, entry.size)


def _zip_directory(entry: ZipEntry) -> bytes:
    version = ZIP64_VERSION if entry.large else ZIP_VERSION
    extra = struct.pack("<HHQQ", 1, 16, entry.size, entry.packed) if entry.large else b""
    packed, size = (ZIP_LIMIT, ZIP_LIMIT) if entry.large else (entry.packed, entry.size)
    made_by, attributes, offset = (
        version,
        0,
        0,
    )  # of the FAT kind, so that extracted files get usual permissions
    return (
        struct.pack("<IHHHH", 0x02014B50, made_by, version, ZIP_FLAGS, ZIP_DEFLATED)
        + struct.pack("<HHIII", ZIP_TIME, ZIP_DATE, entry.crc, packed, size)
        + struct.pack("<HHHHHII", len(entry.name), len(extra), 0, 0, 0, attributes, offset)
        + entry.name.encode("ascii")
        + extra
    )


def _zip_directory_place(start: int, size: int) -> bytes:
    zip64 = b""
    if start >= ZIP_LIMIT:
        zip64 = struct.pack("<IQHHII", 0x06064B50, 44, ZIP64_VERSION, ZIP64_VERSION, 0, 0)
        zip64 += struct.pack("<QQQQ", 1, 1, size, start)
        zip64 += struct.pack("<IIQI", 0x07064B50, 0, start + size, 1)
    return zip64 + struct.pack("<IHHHHIIH", 0x06054B50, 0, 0, 1, 1, size, min(start, ZIP_LIMIT), 0)


CODECS: Mapping[str, Codec] = {
    each.name: each
    for each in (
        Codec("none", "", None, _none),
        Codec("gzip", ".gz", "gzip", _gzip),
        Codec("zip", ".zip", "zip", _zip),
        Codec("snappy", ".snappy", "snappy-java", _snappy),
        # AWS documents .hsnappy and was seen to write .snappy; the former tells the two framings apart.
        Codec("hadoop_snappy", ".hsnappy", "hadoop-snappy", _hadoop_snappy),
        Codec("zstd", ".zst", "zstd", _zstd),  # ours: AWS has no such setting
    )
}
