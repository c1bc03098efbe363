"""Frames and trailers: what was written is read back, what was damaged is never believed, the rest is found."""

from __future__ import annotations

import struct
from collections.abc import Iterator

import pyarrow as pa
import pytest
from disk_buffer import batch
from hypothesis import given
from hypothesis import strategies as st
from isal.isal_zlib import crc32

from firehose.buffer import frame
from firehose.buffer.frame import Frame, Gap, Trailer
from firehose.buffer.lane import in_pieces
from firehose.model import NewerFormat

LANE, OTHER = frame.seed("lane-a"), frame.seed("lane-b")
RECORDS = st.lists(st.binary(max_size=200), max_size=20)
ORIGINS = st.dictionaries(st.text(max_size=9), st.tuples(st.integers(0, 2**53), st.text(max_size=30)), max_size=4)


def encoded(records: pa.RecordBatch, first: int = 0, seed: int = LANE, origins: frame.Origins | None = None) -> bytes:
    return b"".join(map(bytes, frame.encode_frame(in_pieces([records]), first, 5, origins or {}, seed)))


def segment_file(frames: int = 3, sealed: bool = True) -> tuple[bytes, list[list[bytes]]]:
    """A small file of two records a frame, and what each frame holds."""
    held = [[b"%d" % number, b"x" * number] for number in range(frames)]
    data = b"".join(encoded(batch(*two), 2 * number) for number, two in enumerate(held))
    return data + (frame.encode_trailer(Trailer(1, 0, 2 * frames, 9, 5), LANE) if sealed else b""), held


def found(data: bytes, first: int = 0) -> list[list[bytes]]:
    """The records of every frame that a scan believes."""
    buffer = pa.py_buffer(data)
    frames = [item for item in frame.scan(buffer, LANE, first) if isinstance(item, Frame)]
    return [frame.read_records(buffer, item).column("record").to_pylist() for item in frames]


def gaps(data: bytes) -> list[Gap]:
    return [item for item in frame.scan(pa.py_buffer(data), LANE, 0) if isinstance(item, Gap)]


@given(RECORDS, ORIGINS, st.integers(0, 2**40), st.integers(0, 2**45))
def test_round_trip(records: list[bytes], origins: frame.Origins, first: int, arrival_ms: int) -> None:
    """Any records, empty ones and none at all, come back with number, arrival and origins; sizes are whole eights."""
    data = b"".join(map(bytes, frame.encode_frame(in_pieces([batch(*records)]), first, arrival_ms, origins, LANE)))
    buffer = pa.py_buffer(data)
    (item,) = frame.scan(buffer, LANE, first)
    assert isinstance(item, Frame)
    assert (item.first, item.count, item.arrival_ms, item.size) == (first, len(records), arrival_ms, len(data))
    assert len(data) % 8 == 0
    assert frame.read_records(buffer, item).column("record").to_pylist() == records
    assert frame.read_origins(buffer, item) == origins


@given(st.lists(st.tuples(RECORDS, st.sets(st.sampled_from(frame.OPTIONAL))), min_size=1, max_size=4))
def test_optional_columns_mix(appends: list[tuple[list[bytes], set[str]]]) -> None:
    """Appends with and without each optional column share a frame; who had none has nulls."""
    values: dict[str, object] = {"arrival_ms": 7, "meta": "{}", "refused": "why"}
    batches = [batch(*r, **{name: [values[name]] * len(r) for name in names}) for r, names in appends]
    data = b"".join(map(bytes, frame.encode_frame(in_pieces(batches), 0, 5, {}, LANE)))
    (item,) = frame.scan(buffer := pa.py_buffer(data), LANE, 0)
    assert isinstance(item, Frame)
    rows = frame.read_records(buffer, item).to_pylist()
    wanted = [
        {"record": record} | {name: values[name] for name in names} for records, names in appends for record in records
    ]
    assert [{name: value for name, value in row.items() if value is not None} for row in rows] == wanted


def damaged(data: bytes) -> Iterator[tuple[int, int, bytes]]:
    """Each byte flipped, ranges zeroed: begin and end of the damage, and the file then."""
    for at in range(len(data)):
        yield at, at + 1, data[:at] + bytes([data[at] ^ 0x55]) + data[at + 1 :]
    for at in range(0, len(data), 5):
        for size in (8, 64, 200):
            end = min(at + size, len(data))
            yield at, end, data[:at] + bytes(end - at) + data[end:]


@pytest.mark.parametrize("sealed", [True, False])
def test_damage_is_found_and_the_rest_delivered(sealed: bool) -> None:
    """No damaged byte goes undetected: frames it touches are not believed, all others are, whole and in order."""
    data, held = segment_file(sealed=sealed)
    size = [item.size for item in frame.scan(pa.py_buffer(data), LANE, 0) if isinstance(item, Frame)]
    starts = [sum(size[:number]) for number in range(len(size))]
    for begin, end, bad in damaged(data):
        if bad == data:
            continue
        whole = [two for two, at, length in zip(held, starts, size, strict=True) if end <= at or begin >= at + length]
        undamaged_pad = [two for two in found(bad) if two not in whole]
        assert [two for two in found(bad) if two in whole] == whole
        assert all(two in held for two in undamaged_pad)  # damage in the zeros between is no damage to records
        if begin >= sum(size):
            assert frame.read_trailer(bad, LANE, 0) is None


def test_truncation_at_every_length() -> None:
    """A file cut anywhere gives the frames that are whole and a torn tail, never anything else."""
    data, held = segment_file(sealed=False)
    sizes = [len(encoded(batch(*two), 2 * number)) for number, two in enumerate(held)]
    for length in range(len(data)):
        whole = [two for number, two in enumerate(held) if sum(sizes[: number + 1]) <= length]
        assert found(data[:length]) == whole
        torn = length - sum(sizes[: len(whole)])
        assert [(gap.size, gap.torn) for gap in gaps(data[:length])] == ([(torn, True)] if torn else [])


def test_torn_tail_or_damage() -> None:
    """Only a tail behind which no valid frame lies is torn; a bad frame before a good one is damage."""
    data, _ = segment_file(sealed=False)
    third = len(encoded(batch(b"0", b"")))
    middle, last = bytearray(data), bytearray(data)
    middle[third + 60] ^= 1
    last[-20] ^= 1
    assert [gap.torn for gap in gaps(bytes(middle))] == [False]
    assert [gap.torn for gap in gaps(bytes(last))] == [True]


def test_frames_that_came_already() -> None:
    """A frame that the file holds twice is taken once."""
    data, held = segment_file(sealed=False)
    assert found(data + data) == held
    assert sum(gap.size for gap in gaps(data + data)) == len(data)


@pytest.mark.parametrize("inner_seed", [LANE, OTHER])
def test_a_record_that_is_a_frame(inner_seed: int) -> None:
    """A record whose bytes are a valid frame is a record, even where the frame around it is damaged."""
    before = encoded(batch(b"before"))
    inner = encoded(batch(b"smuggled"), 0, inner_seed)
    outer = bytearray(encoded(batch(inner), 1))
    data = before + outer + encoded(batch(b"after"), 2)
    assert found(data) == [[b"before"], [inner], [b"after"]]
    outer[-1 - outer[::-1].index(inner[-1:][0])] ^= 1
    outer[60] ^= 1
    assert found(before + bytes(outer) + encoded(batch(b"after"), 2)) == [[b"before"], [b"after"]]


def test_another_lane_is_not_believed() -> None:
    """Frames and trailers of another lane, left in a block, are no frames of this one."""
    data = encoded(batch(b"x"), seed=OTHER) + frame.encode_trailer(Trailer(1, 0, 1, 1, 5), OTHER)
    assert found(data) == []
    assert frame.read_trailer(data, LANE, 0) is None


def test_another_segment_is_not_believed() -> None:
    """The trailer of another segment of the lane is none of this one's, nor are frames past what its own counts."""
    data = encoded(batch(b"x"), 3) + frame.encode_trailer(Trailer(1, 3, 1, 1, 5), LANE)
    assert frame.read_trailer(data, LANE, 0) is None
    foreign = encoded(batch(b"x"), 0) + encoded(batch(b"y"), 7) + frame.encode_trailer(Trailer(1, 0, 2, 2, 5), LANE)
    assert found(foreign) == [[b"x"]]


def test_trailer_round_trip() -> None:
    """A trailer says of its segment what was written."""
    trailer = Trailer(7, 2**40, 3, 2**35, 2**41, 56)
    assert frame.read_trailer(b"frames" + frame.encode_trailer(trailer, LANE), LANE, 2**40) == trailer


def test_newer_formats_are_refused_by_name() -> None:
    """A valid frame or trailer of a later format is refused, naming both formats; a flipped version is damage."""
    newer = bytearray(encoded(batch(b"x")))
    newer[8] = 2
    assert found(bytes(newer)) == []
    newer[52:56] = struct.pack("<I", crc32(bytes(newer[:52]), LANE))
    with pytest.raises(NewerFormat, match="a frame has format version 2, this release reads up to 1"):
        found(bytes(newer))
    trailer = bytearray(frame.encode_trailer(Trailer(1, 0, 1, 1, 5), LANE))
    trailer[8] = 2
    assert frame.read_trailer(bytes(trailer), LANE, 0) is None
    trailer[60:64] = struct.pack("<I", crc32(bytes(trailer[:60]), LANE))
    with pytest.raises(NewerFormat, match="a segment has format version 2"):
        frame.read_trailer(bytes(trailer), LANE, 0)


def test_layout_to_the_byte() -> None:
    """The bytes of a frame and a trailer lie where the module says."""
    data = encoded(batch(b"abc"), 3, origins={"p": (4, "c")})
    said = b'{"p":[4,"c"]}'
    magic, version, columns, count, first, arrival, origins, pad, arrow = struct.unpack_from("<8sHHIQqIIQ", data)
    assert (magic, version, columns, count, first, arrival) == (b"FHFRAME\n", 1, 0, 1, 3, 5)
    assert data[56 : 56 + origins] == said
    assert len(data) == 56 + 16 + arrow + pad
    trailer = frame.encode_trailer(Trailer(1, 2, 3, 4, 5, 6), LANE)
    assert trailer[:60] == struct.pack("<8sHHIQQQqQI", b"FHSEAL.\n", 1, 0, 1, 2, 3, 4, 5, 6, 0)


@given(st.lists(ORIGINS, max_size=5))
def test_newest_origin_in_any_order(many: list[frame.Origins]) -> None:
    """Of each source partition the highest turn wins, in whatever order origins are found."""
    merged = frame.newest(*many)
    for partition, (turn, _) in merged.items():
        assert turn == max(origins[partition][0] for origins in many if partition in origins)
    assert set(merged) == {partition for origins in many for partition in origins}


@given(st.integers(1, 5), st.binary(max_size=300), st.booleans())
def test_last_frame(frames: int, rest: bytes, sealed: bool) -> None:
    """The last frame is found from behind, whatever bytes follow it; frames of another lane are none."""
    data, held = segment_file(frames, sealed)
    behind = rest + frame.FRAME_MAGIC + encoded(batch(b"alien"), 99, OTHER) + rest
    for more in (b"", behind):
        last = frame.last_frame(pa.py_buffer(data + more), LANE)
        assert last is not None
        assert last.end == 2 * frames
        assert frame.read_records(pa.py_buffer(data), last).column("record").to_pylist() == held[-1]
    assert frame.last_frame(pa.py_buffer(behind), LANE) is None


@pytest.mark.parametrize("look", [1, 7, 8, 9, 63, 64, 1000])
def test_last_frame_of_a_damaged_file(look: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the last frame is damaged it is the one before, however little is looked at at a time."""
    monkeypatch.setattr(frame, "SEARCH_BYTES", look)
    data, _ = segment_file(3, sealed=False)
    third = len(encoded(batch(b"2", b"xx"), 4))
    damaged = data[: 20 - third] + b"\xff" + data[21 - third :] + bytes(200)
    last = frame.last_frame(pa.py_buffer(damaged), LANE)
    assert last is not None
    assert last.end == 4


def test_scan_from_within() -> None:
    """A scan may begin at any frame, and sees from there on what a scan of all sees."""
    data, held = segment_file(4)
    buffer = pa.py_buffer(data)
    for place, begin in enumerate(frame.scan(buffer, LANE, 0)):
        assert isinstance(begin, Frame)
        items = [item for item in frame.scan(buffer, LANE, begin.first, offset=begin.offset) if isinstance(item, Frame)]
        assert [frame.read_records(buffer, item).column("record").to_pylist() for item in items] == held[place:]
