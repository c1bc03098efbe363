"""The frame reader against any bytes: it believes only what was written, covers every byte, and takes linear time."""

from __future__ import annotations

import time
from dataclasses import dataclass

import pyarrow as pa
import pytest
from disk_buffer import ROOT, STREAM, DiskBuffer, batch, drained
from faulty_disk import FaultyDisk
from hypothesis import given
from hypothesis import strategies as st
from isal.isal_zlib import crc32
from virtual_time import run

from firehose.buffer import frame, layout, recovery
from firehose.buffer.frame import FRAME, FRAME_MAGIC, TRAILER, TRAILER_MAGIC, Frame, Gap, Trailer
from firehose.buffer.lane import in_pieces

LANE = "20260301T120000-0123456789abcdef"
SEED, OTHER = frame.seed(LANE), frame.seed("another")
RECORDS = st.lists(st.binary(max_size=20) | st.just(FRAME_MAGIC) | st.just(TRAILER_MAGIC), max_size=4)
JUNK = st.one_of(
    st.binary(max_size=80),
    st.sampled_from([FRAME_MAGIC, FRAME_MAGIC[:5], TRAILER_MAGIC, bytes(64), FRAME_MAGIC * 9]),
    st.builds(lambda rest: FRAME_MAGIC + b"\1\0" + rest, st.binary(min_size=46, max_size=60)),
)


def encoded(records: list[bytes], first: int, seed: int = SEED, origins: frame.Origins | None = None) -> bytes:
    return b"".join(map(bytes, frame.encode_frame(in_pieces([batch(*records)]), first, 5, origins or {}, seed)))


@dataclass(frozen=True, slots=True)
class Written:
    """A segment file as it was written, and what each frame held, by the number of its first record."""

    data: bytes
    held: dict[int, list[bytes]]


@st.composite
def written(draw: st.DrawFn) -> Written:
    data, first = b"", 0
    held: dict[int, list[bytes]] = {}
    for records in draw(st.lists(RECORDS.filter(len), max_size=4)):
        origins = {"p": (first, "c")} if draw(st.booleans()) else {}
        data += encoded(records, first, origins=origins)
        held[first] = records
        first += len(records)
    if draw(st.booleans()) and held:
        data += frame.encode_trailer(Trailer(1, 0, first, 9, 5), SEED)
    return Written(data, held)


@st.composite
def damaged(draw: st.DrawFn) -> Written:
    """A file of which pieces were overwritten, cut out, doubled, moved, or mixed with another lane's."""
    one = draw(written())
    data = one.data
    foreign = encoded(draw(RECORDS), draw(st.integers(0, 3)), OTHER)
    for _ in range(draw(st.integers(1, 3))):
        start, end = sorted(draw(st.lists(st.integers(0, len(data)), min_size=2, max_size=2)))
        at = draw(st.integers(0, len(data)))
        piece = data[start:end]
        ways = [
            data[:start] + data[end:],
            data[:at] + piece + data[at:],
            data[:start] + bytes(end - start) + data[end:],
            data[:start] + draw(JUNK) + data[end:],
            data[:at] + foreign + data[at:],
            data[:at] + bytes(byte ^ 1 << draw(st.integers(0, 7)) for byte in data[at : at + 1]) + data[at + 1 :],
        ]
        data = draw(st.sampled_from(ways))
    return Written(data, one.held)


def scanned(data: bytes, first: int = 0) -> list[Frame | Gap]:
    """The items of a scan, once they have proved to lie side by side from the file's begin to its end."""
    buffer = pa.py_buffer(data)
    items = list(frame.scan(buffer, SEED, first))
    end = len(data) - (TRAILER.size if frame.read_trailer(buffer, SEED, first) else 0)
    offset = 0
    for item in items:
        assert item.offset == offset
        assert item.size > 0
        offset += item.size
    assert offset == end
    return items


@given(st.lists(JUNK, max_size=8).map(b"".join))
def test_any_bytes(data: bytes) -> None:
    """Bytes that nobody wrote are one gap after the other and never a frame."""
    assert not any(isinstance(item, Frame) for item in scanned(data))
    assert frame.read_trailer(data, SEED, 0) is None


@given(damaged())
def test_any_damage(file: Written) -> None:
    """However a file was damaged, each frame that is believed holds what was written under its number, in order."""
    buffer = pa.py_buffer(file.data)
    end = 0
    for item in scanned(file.data):
        if isinstance(item, Frame):
            assert item.first >= end, "no record comes twice"
            assert frame.read_records(buffer, item).column("record").to_pylist() == file.held[item.first]
            assert frame.read_origins(buffer, item) in ({}, {"p": (item.first, "c")})
            end = item.end


@given(damaged(), st.sampled_from([layout.OPEN, layout.SEALED]))
def test_a_start_over_any_damage(file: Written, suffix: str) -> None:
    """A start over a damaged file always succeeds, and delivers of the lane only what was once written."""

    async def start() -> list[bytes]:
        buffer = DiskBuffer(FaultyDisk())
        folder = layout.lane_folder(ROOT, STREAM, LANE)
        buffer.disk.make_folder(folder)
        buffer.disk.put(layout.numbered(folder, 0, suffix), file.data)
        await buffer.start()
        try:
            return await drained(buffer.outbox())
        finally:
            await buffer.stop()

    records = [record for held in file.held.values() for record in held]
    assert not [record for record in run(start()) if record not in records]


@given(
    st.binary(max_size=60) | st.sampled_from([b"[" * 100_000, b'{"format":1,"records":"1","origins":{},"folded":[]}'])
)
def test_a_start_over_any_count_of_lanes(content: bytes) -> None:
    """Whatever stands in the file that counts folded lanes, a start succeeds."""
    disk = FaultyDisk()
    disk.make_folder(layout.stream_folder(ROOT, STREAM))
    disk.put(f"{layout.stream_folder(ROOT, STREAM)}/{layout.LANES}", content)
    found = recovery.recover(disk, ROOT, STREAM, 1)
    assert (found.accepted, len(found.damage)) == (0, 1)


def false_head(arrow_bytes: int) -> bytes:
    """A head that is valid but for its magic's checksum: the reader must look at all of it to know."""
    head = FRAME.pack(FRAME_MAGIC, 1, 0, 1, 0, 5, 0, 0, arrow_bytes, 0, 0)[:-4]
    return head + (crc32(head, SEED) ^ 1).to_bytes(4, "little")


@pytest.mark.parametrize(
    "junk",
    [FRAME_MAGIC, b"F", FRAME_MAGIC[:-1], bytes(8), false_head(1 << 20)],
    ids=["magic", "F", "almost", "0", "head"],
)
def test_time_is_in_proportion(junk: bytes) -> None:
    """A gap of eight times the size takes about as long to cross as eight gaps, whatever it is full of. One time is as
    long as the other and follows it, so that who else uses the machine slows both.
    """

    def seconds(size_bytes: int, gaps: int = 1) -> float:
        data = b"x" + junk * (size_bytes // len(junk))
        before = time.process_time()
        for _ in range(gaps):
            assert len(scanned(data)) == 1
        return time.process_time() - before

    assert any(seconds(1 << 20) < 1.5 * seconds(1 << 17, gaps=8) + 0.05 for _ in range(2))
