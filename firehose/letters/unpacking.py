"""Undoes the compression of an object, recognised by its first bytes: its name may say anything.

Piece by piece: an object of any size, and one that was made to explode, takes a few blocks of memory. It hands out
whatever can be had before an object turns out to be cut off or damaged, and then raises `Damaged`.
"""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator

import cramjam
import pyarrow as pa
from isal import isal_zlib

BLOCK_BYTES = 1 << 20
GZIP_FEED_BYTES = 16 * 1024  # deflate grows what it gets a thousandfold at most
ZSTD_READ_BYTES = 64 * 1024  # of which nothing is handed out where it cannot be had whole
SNAPPY_LIMIT_BYTES = 64 << 20  # of a block, as its header declares it; writers make blocks of 32 to 256 KiB
ZIP_LIMIT_BYTES = 1 << 30  # of an archive, whose directory stands at its end
WITH_GZIP_HEADER = 31
XERIAL = b"\x82SNAPPY\x00"
_ISAL_ERROR: type[Exception] = isal_zlib.error  # type: ignore[assignment]  # its stubs call it an instance
_WRONG = (
    OSError,
    EOFError,
    OverflowError,
    ValueError,
    RuntimeError,  # zipfile's word for an entry that is encrypted, or packed in a way it does not know
    zipfile.BadZipFile,
    zlib.error,
    cramjam.DecompressionError,
    _ISAL_ERROR,
)


class Damaged(Exception):
    """The rest of the object cannot be decompressed."""


def unpacked(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """The object's content. Raises `Damaged` where it breaks off, and lets pass what `pieces` raises."""
    source = Source(pieces)
    head = source.peek(16)
    for magic, name, unpack in MAGIC:
        if head.startswith(magic):
            yield from _told(name, unpack(source), source)
            return
    yield from iter(lambda: source.read(BLOCK_BYTES), b"")


def _told(name: str, content: Iterator[bytes], source: Source) -> Iterator[bytes]:
    try:
        yield from content
    except _WRONG as error:
        if source.failed is not None:  # not the object's doing: its store broke off
            raise source.failed from None
        raise Damaged(f"its {name} ends early or is damaged: {error}") from error


class Source(io.RawIOBase):
    """Pieces as a file that one can look ahead in. `failed` is what reading them raised, which libraries may hide."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        self._ahead = b""
        self.failed: Exception | None = None

    def readable(self) -> bool:
        return True

    def peek(self, size: int) -> bytes:
        while len(self._ahead) < size and (piece := self._next()):
            self._ahead += piece
        return self._ahead[:size]

    def read(self, size: int = -1) -> bytes:
        """Up to `size` bytes; fewer only at the end. All of it for -1."""
        parts, missing = [], size if size >= 0 else 1 << 62
        while missing and (part := self._ahead or self._next()):
            parts.append(part[:missing])
            self._ahead = part[missing:]
            missing -= len(parts[-1])
        return b"".join(parts)

    def exactly(self, size: int) -> bytes:
        """Raises EOFError where there is less."""
        data = self.read(size)
        if len(data) < size:
            _missing()
        return data

    def give_back(self, data: bytes) -> None:
        self._ahead = data + self._ahead

    def _next(self) -> bytes:
        try:
            return next(filter(None, self._pieces), b"")
        except Exception as error:
            self.failed = error
            raise


def _gunzip(source: Source) -> Iterator[bytes]:
    """One member after the other, fed with so little that even a bomb's piece is 16 MiB at most."""
    while source.peek(1):
        member = isal_zlib.decompressobj(WITH_GZIP_HEADER)
        while not member.eof:
            yield member.decompress(source.read(GZIP_FEED_BYTES) or _missing())
        source.give_back(member.unused_data)


def _missing() -> bytes:
    raise EOFError("bytes are missing at the end")


def _unzstd(source: Source) -> Iterator[bytes]:
    with pa.CompressedInputStream(pa.PythonFile(source, mode="r"), "zstd") as stream:
        yield from iter(lambda: stream.read(ZSTD_READ_BYTES), b"")


def _unzip(source: Source) -> Iterator[bytes]:
    whole = source.read(ZIP_LIMIT_BYTES)
    if source.peek(1):
        raise OverflowError(f"an archive of more than {ZIP_LIMIT_BYTES} bytes")
    with zipfile.ZipFile(io.BytesIO(whole)) as archive:
        for name in archive.namelist():
            with archive.open(name) as entry:
                yield from iter(lambda: entry.read(BLOCK_BYTES), b"")


def _unsnappy_xerial(source: Source) -> Iterator[bytes]:
    """snappy-java's framing: a header of 16 bytes, then blocks, each behind its compressed length."""
    source.exactly(16)
    while source.peek(1):
        yield _snappy_block(source)


def _unsnappy_hadoop(source: Source) -> Iterator[bytes]:
    """Hadoop's framing: plain length, then as many blocks as make it up. It has no mark, but a length begins with 0."""
    while source.peek(1):
        missing = _length(source)
        while missing > 0:
            block = _snappy_block(source)
            missing -= len(block)
            yield block


def _snappy_block(source: Source) -> bytes:
    packed = source.exactly(_length(source))
    if cramjam.snappy.decompress_raw_len(packed) > SNAPPY_LIMIT_BYTES:
        raise OverflowError(f"a block of more than {SNAPPY_LIMIT_BYTES} bytes")
    return bytes(cramjam.snappy.decompress_raw(packed))


def _length(source: Source) -> int:
    (length,) = struct.unpack(">I", source.exactly(4))
    if length > SNAPPY_LIMIT_BYTES:
        raise OverflowError(f"a block of {length} bytes")
    return int(length)


MAGIC: tuple[tuple[bytes, str, Callable[[Source], Iterator[bytes]]], ...] = (
    (b"\x1f\x8b", "gzip", _gunzip),
    (b"PK\x03\x04", "zip", _unzip),
    (b"\x28\xb5\x2f\xfd", "zstd", _unzstd),
    (XERIAL, "snappy", _unsnappy_xerial),
    (b"\x00", "hadoop_snappy", _unsnappy_hadoop),  # JSON never begins so
)
