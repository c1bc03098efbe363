"""Codecs: each is read back by a reader that shares no code with it, or checked against snappy-java."""

from __future__ import annotations

import gzip
import io
import random
import re
import struct
import zipfile
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cramjam
import pyarrow as pa
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st
from isal import isal_zlib

from firehose.compression import CODECS, PIECE_BYTES, ZipEntry, codec, zip_end, zip_header
from firehose.contracts import Chunk

ENTRY = "6c1f0a1e-53f0-4a57-9d0e-5d6c2f6f3a11"
NAMES = sorted(CODECS)
COMPRESSING = [name for name in NAMES if name != "none"]
RANDOM = random.Random(7).randbytes(3_000_000)
LINES = (b'{"level":"info","path":"/","n":1}\n' * 100_000)[:3_000_000]
CONTENTS = {
    "empty": b"",
    "one byte": b"a",
    "one snappy block": LINES[: 32 * 1024],
    "a byte more than a snappy block": LINES[: 32 * 1024 + 1],
    "random": RANDOM,
    "repetitive": LINES,
}
MIXED = LINES[:300_000] + RANDOM[:300_000]  # crosses the boundaries of every kind of block

# Written by snappy-java 1.1.10.7 with blocks of 1 KiB, from this text.
JAVA_TEXT = (b"firehose\n" * 115)[:1030]
JAVA_BLOCK = "80082066697265686f73650a" + "fe0900" * 15 + "da0900"
JAVA_SNAPPY = f"82534e41505059000000000100000001 0000003c{JAVA_BLOCK} 00000008 0614650a66697265"
JAVA_HADOOP = f"00000400 0000003c{JAVA_BLOCK} 00000006 00000008 0614650a66697265"


def compressed(name: str, chunks: Iterable[Chunk]) -> bytes:
    return b"".join(codec(name).compress(chunks, ENTRY))


def unzip(data: bytes) -> bytes:
    archive = zipfile.ZipFile(io.BytesIO(data))
    assert archive.namelist() == [ENTRY]
    return archive.read(ENTRY)


def unzstd(data: bytes) -> bytes:
    reader = zstandard.ZstdDecompressor().decompressobj()
    content = reader.decompress(data)
    assert reader.eof
    assert not reader.unused_data, "more than one frame"
    return content


def snappy_blocks(data: bytes) -> Iterator[bytes]:
    """Reads the xerial framing."""
    assert data[:16] == bytes.fromhex("82534e4150505900 00000001 00000001")
    at = 16
    while at < len(data):
        (packed,) = struct.unpack_from(">i", data, at)
        block = data[at + 4 : at + 4 + packed]
        assert len(block) == packed, "cut short"
        yield bytes(cramjam.snappy.decompress_raw(block))
        at += 4 + packed


def hadoop_blocks(data: bytes) -> Iterator[bytes]:
    """Reads Hadoop's framing, where a block may be made of several chunks."""
    at = 0
    while at < len(data):
        (size,) = struct.unpack_from(">i", data, at)
        at += 4
        block = b""
        while len(block) < size:
            (packed,) = struct.unpack_from(">i", data, at)
            block += bytes(cramjam.snappy.decompress_raw(data[at + 4 : at + 4 + packed]))
            at += 4 + packed
        assert len(block) == size
        yield block


READERS: dict[str, Callable[[bytes], bytes]] = {
    "none": bytes,
    "gzip": gzip.decompress,
    "zip": unzip,
    "zstd": unzstd,
    "snappy": lambda data: b"".join(snappy_blocks(data)),
    "hadoop_snappy": lambda data: b"".join(hadoop_blocks(data)),
}


@pytest.mark.parametrize("content", CONTENTS)
@pytest.mark.parametrize("name", NAMES)
def test_reads_back(name: str, content: str) -> None:
    """What a codec wrote, an independent reader reads back unchanged."""
    data = CONTENTS[content]
    assert READERS[name](compressed(name, [data])) == data


@pytest.mark.parametrize("name", COMPRESSING)
def test_compresses(name: str) -> None:
    """Repetitive logs shrink to less than a tenth with every codec but `none`."""
    assert len(compressed(name, [LINES])) < len(LINES) / 10


def as_kind(kind: int, chunk: bytes) -> Chunk:
    return (chunk, memoryview(chunk), pa.py_buffer(chunk))[kind]


@pytest.mark.parametrize("name", NAMES)
@given(cuts=st.lists(st.integers(0, len(MIXED)), max_size=12), kinds=st.lists(st.integers(0, 2), min_size=13))
def test_does_not_depend_on_chunks(name: str, cuts: list[int], kinds: list[int]) -> None:
    """The same bytes cut elsewhere, into chunks of any kind, some empty, make the same object."""
    ends = [*sorted(cuts), len(MIXED)]
    starts = [0, *ends[:-1]]
    pieces = [MIXED[start:end] for start, end in zip(starts, ends, strict=True)]
    chunks = [as_kind(kind, piece) for kind, piece in zip(kinds, pieces, strict=False)]
    assert compressed(name, chunks) == compressed(name, [MIXED])


@pytest.mark.parametrize("size", [1, 7, 600, 32 * 1024, 100_001])
@pytest.mark.parametrize("name", NAMES)
def test_does_not_depend_on_chunk_size(name: str, size: int) -> None:
    """Many chunks of one size make the same object as one chunk."""
    data = MIXED[200_000:400_000]
    chunks = (data[start : start + size] for start in range(0, len(data), size))
    assert compressed(name, chunks) == compressed(name, [data])


@pytest.mark.parametrize("name", NAMES)
def test_pieces_are_of_sensible_size(name: str) -> None:
    """A long stream of small chunks comes out in pieces of 32 KiB to 512 KiB, the last aside."""
    pieces = [len(p) for p in codec(name).compress((RANDOM[:600] for _ in range(10_000)), ENTRY)]
    assert all(32 * 1024 <= size <= 512 * 1024 for size in pieces[:-1]), pieces
    assert pieces[-1] > 0


@pytest.mark.parametrize("name", NAMES)
def test_holds_little(name: str) -> None:
    """Of a stream that cannot be compressed, no more than 2 MiB is ever inside the codec."""
    block = RANDOM[:700_000]
    taken = 0

    def chunks() -> Iterator[bytes]:
        nonlocal taken
        for _ in range(50):
            taken += len(block)
            yield block

    given_out = 0
    for piece in codec(name).compress(chunks(), ENTRY):
        given_out += len(piece)
        assert taken - given_out < 2 * 1024 * 1024
    assert given_out >= taken == 35_000_000


def test_none_does_not_copy() -> None:
    """Without compression a large chunk passes as the caller's own memory."""
    data = pa.py_buffer(RANDOM)
    (piece,) = codec("none").compress([data], ENTRY)
    assert pa.py_buffer(piece).address == data.address


def test_no_piece_is_empty() -> None:
    """Where there are no bytes there is no piece: a sender may take an empty one for the end."""
    assert list(codec("none").compress([], ENTRY)) == []
    assert list(codec("none").compress([b"", memoryview(b"")], ENTRY)) == []


def test_none_keeps_order_around_large_chunks() -> None:
    """Small chunks before and after a large one stay in their places."""
    large = RANDOM[:PIECE_BYTES]
    pieces = list(codec("none").compress([b"a", b"b", large, b"", b"c"], ENTRY))
    assert pieces == [b"ab", large, b"c"]


@pytest.mark.parametrize("name", NAMES)
def test_threads_share_a_codec(name: str) -> None:
    """Codecs hold no state: eight threads get the objects that one thread gets."""
    contents = [RANDOM[start : start + 500_000] + LINES[start:1_000_000] for start in range(0, 800_000, 100_000)]
    with ThreadPoolExecutor(8) as threads:
        together = list(threads.map(lambda data: compressed(name, [data]), contents))
    assert together == [compressed(name, [data]) for data in contents]


@pytest.mark.parametrize("name", NAMES)
def test_an_abandoned_stream_harms_nobody(name: str) -> None:
    """A delivery that stops half-way leaves nothing behind, and the next one is whole."""
    pieces = iter(codec(name).compress([RANDOM, RANDOM], ENTRY))
    next(pieces)
    del pieces
    assert READERS[name](compressed(name, [LINES])) == LINES


@pytest.mark.parametrize("name", NAMES)
def test_a_failing_input_is_passed_on(name: str) -> None:
    """When the input fails, so does the stream, with the same error: half an object never looks whole."""

    def chunks() -> Iterator[bytes]:
        yield RANDOM
        raise OSError("the segment is gone")

    with pytest.raises(OSError, match="the segment is gone"):
        compressed(name, chunks())


def test_gzip_is_one_member_without_a_time() -> None:
    """A gzip object is a single member whose header has neither time nor name."""
    data = compressed("gzip", [MIXED])
    assert data[:4] == b"\x1f\x8b\x08\x00"
    assert data[4:8] == bytes(4)
    reader = isal_zlib.decompressobj(wbits=31)
    reader.decompress(data)
    assert reader.eof
    assert reader.unused_data == b""


@pytest.mark.parametrize(
    ("name", "blocks"),
    [("snappy", snappy_blocks), ("hadoop_snappy", hadoop_blocks)],
    ids=["snappy", "hadoop_snappy"],
)
def test_snappy_blocks_are_of_32_kib(name: str, blocks: Callable[[bytes], Iterator[bytes]]) -> None:
    """Blocks are cut every 32 KiB of the whole stream, as snappy-java cuts them."""
    found = [len(block) for block in blocks(compressed(name, [LINES[:40_000], LINES[:30_000]]))]
    assert found == [32768, 32768, 70_000 - 65536]


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("snappy", b"", "82534e41505059000000000100000001"),
        ("snappy", b"a", "82534e41505059000000000100000001 00000003 010061"),
        ("hadoop_snappy", b"", ""),
        ("hadoop_snappy", b"a", "00000001 00000003 010061"),
    ],
)
def test_writes_what_snappy_java_writes(name: str, content: bytes, expected: str) -> None:
    """The framing is snappy-java's to the byte, down to the empty stream."""
    assert compressed(name, [content]).hex() == expected.replace(" ", "")


def test_our_readers_read_what_snappy_java_wrote() -> None:
    """The readers that these tests trust understand streams that snappy-java wrote."""
    assert list(snappy_blocks(bytes.fromhex(JAVA_SNAPPY))) == [JAVA_TEXT[:1024], JAVA_TEXT[1024:]]
    assert list(hadoop_blocks(bytes.fromhex(JAVA_HADOOP))) == [JAVA_TEXT[:1024], JAVA_TEXT[1024:]]


def test_zip_entry_has_a_fixed_time_and_checks_out() -> None:
    """A zip archive says 1980 whenever it was written, and its one entry is deflated and matches its CRC."""
    archive = zipfile.ZipFile(io.BytesIO(compressed("zip", [MIXED])))
    (entry,) = archive.infolist()
    assert archive.testzip() is None
    assert entry.date_time == (1980, 1, 1, 0, 0, 0)
    assert entry.compress_type == zipfile.ZIP_DEFLATED
    assert entry.file_size == len(MIXED)


def test_zip_of_more_than_4_gib() -> None:
    """An entry beyond 4 GiB has its true size in the directory and eight-byte sizes behind its data."""
    block = bytes(1024 * 1024)
    data = compressed("zip", (block for _ in range(4097)))
    (entry,) = zipfile.ZipFile(io.BytesIO(data)).infolist()
    assert entry.file_size == 4097 * len(block) > 2**32
    end = len(zip_header(ENTRY)) + entry.compress_size
    descriptor = struct.unpack_from("<IIQQ", data, end)
    assert descriptor == (0x08074B50, entry.CRC, entry.compress_size, entry.file_size)
    assert data[end + 24 : end + 28] == b"PK\x01\x02"


ZIP_LIMIT = 2**32 - 1  # a four-byte field with this value says: look in the eight-byte one
AROUND_ENTRY = len(zip_header(ENTRY)) + 16  # between the archive's start and its directory, beside the data


@pytest.mark.parametrize(
    "packed",
    [
        ZIP_LIMIT - AROUND_ENTRY - 1,
        ZIP_LIMIT - AROUND_ENTRY,
        ZIP_LIMIT - 1,
        ZIP_LIMIT,
        ZIP_LIMIT + 1,
        5 * 2**30,
    ],
)
def test_zip_directory_around_4_gib(packed: int, tmp_path: Path) -> None:
    """Sizes and places from 4 GiB - 1 on, and only these, are written in eight bytes and read back."""
    path = tmp_path / "sparse.zip"
    end = zip_end(ZipEntry(ENTRY, crc=7, size=packed - 50, packed=packed))
    with path.open("wb") as file:
        file.write(zip_header(ENTRY))
        file.seek(packed, io.SEEK_CUR)  # a hole for the data
        file.write(end)
    with zipfile.ZipFile(path) as archive:
        (entry,) = archive.infolist()
        assert (b"PK\x06\x06" in end) == (archive.start_dir >= ZIP_LIMIT)
    sizes = (entry.file_size, entry.compress_size, entry.CRC, entry.header_offset)
    assert sizes == (packed - 50, packed, 7, 0)
    assert bool(entry.extra) == (packed >= ZIP_LIMIT)


@pytest.mark.parametrize(
    ("name", "extension", "encoding"),
    [
        ("none", "", None),
        ("gzip", ".gz", "gzip"),
        ("zip", ".zip", "zip"),
        ("snappy", ".snappy", "snappy-java"),
        ("hadoop_snappy", ".hsnappy", "hadoop-snappy"),
        ("zstd", ".zst", "zstd"),
    ],
)
def test_objects_say_how_they_are_compressed(name: str, extension: str, encoding: str | None) -> None:
    """Extensions and Content-Encoding are those of Amazon Data Firehose."""
    found = codec(name)
    assert (found.name, found.extension, found.content_encoding) == (name, extension, encoding)


def test_an_unknown_name_is_answered_with_the_nearest() -> None:
    """A misspelt codec is refused with all names and the one that was probably meant."""
    choices = "none, gzip, zip, snappy, hadoop_snappy, zstd"
    message = f"unknown compression 'gzp'; did you mean gzip? (choose from {choices})"
    with pytest.raises(ValueError, match=re.escape(message)):
        codec("gzp")
    with pytest.raises(ValueError, match=r"^unknown compression 'lzma' \(choose"):
        codec("lzma")
