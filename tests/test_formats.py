"""Formats: records leave as they came, and a delimiter is added only where it is missing."""

from __future__ import annotations

from datetime import UTC, datetime

import pyarrow as pa
import pytest
from batches import Notes
from hypothesis import given
from hypothesis import strategies as st

from firehose.contracts import Chunk
from firehose.formats import JsonLines, Raw, format_named
from firehose.model import ROW_SCHEMA, Batch, Segment

SEGMENT = Segment("logs", "lane", 0, 1, 0, datetime(2024, 5, 1, tzinfo=UTC), 1)
RECORDS = st.lists(st.binary(max_size=6) | st.sampled_from([b"\n", b"a\n", b"a\r\n", b"ab\nc", b"##", b"a#"]))


def slice_of(records: list[bytes], before: int = 0, after: int = 0) -> pa.RecordBatch:
    """A slice of these records, cut out of a longer one."""
    column = pa.array([b"before"] * before + records + [b"after\n"] * after, pa.binary())
    count = len(column)
    numbers = pa.array(range(count), pa.int32())
    zeros = pa.array([0] * count, pa.int32())
    whole = pa.record_batch([column, numbers, zeros, zeros.cast(pa.int64())], schema=ROW_SCHEMA)
    return whole.slice(before, len(records))


def batch_of(*slices: pa.RecordBatch) -> Batch:
    return Batch(SEGMENT, lambda: iter(slices))


def encoded(format: Raw, *slices: pa.RecordBatch) -> bytes:
    return b"".join(memoryview(chunk) for chunk in format.encoded(batch_of(*slices), Notes()).chunks)


def is_within(chunk: Chunk, rows: pa.RecordBatch) -> bool:
    """Whether the chunk is part of the slice's own memory."""
    values = rows.column("record").buffers()[2]
    inside = pa.py_buffer(chunk)
    return bool(values.address <= inside.address and inside.address + inside.size <= values.address + values.size)


@given(slices=st.lists(RECORDS, max_size=4), before=st.integers(0, 3), after=st.integers(0, 3))
def test_raw_passes_records_byte_for_byte(slices: list[list[bytes]], before: int, after: int) -> None:
    """Without a delimiter the object is the records of all slices, and nothing between or beside them."""
    expected = b"".join(record for records in slices for record in records)
    assert encoded(Raw(), *(slice_of(records, before, after) for records in slices)) == expected


@given(
    slices=st.lists(RECORDS, max_size=4),
    delimiter=st.sampled_from([b"\n", b"\r\n", b"##", b"\x00"]),
    before=st.integers(0, 3),
    after=st.integers(0, 3),
)
def test_a_delimiter_follows_each_record_once(
    slices: list[list[bytes]], delimiter: bytes, before: int, after: int
) -> None:
    """A record that ends with the delimiter stays as it is; every other one, empty ones too, gets it."""
    records = [record for records in slices for record in records]
    expected = b"".join(record if record.endswith(delimiter) else record + delimiter for record in records)
    found = encoded(Raw(delimiter), *(slice_of(records, before, after) for records in slices))
    assert found == expected


@pytest.mark.parametrize("format", [Raw(), Raw(b"\n"), JsonLines()], ids=["raw", "delimiter", "json_lines"])
def test_complete_records_are_not_copied(format: Raw) -> None:
    """Where nothing is missing, the chunk is the slice's own memory."""
    rows = slice_of([b'{"a":1}\n', b'{"a":2}\n'], before=2, after=2)
    (chunk,) = format.chunks(batch_of(rows))
    assert bytes(memoryview(chunk)) == b'{"a":1}\n{"a":2}\n'
    assert is_within(chunk, rows)


def test_the_check_for_copies_can_fail() -> None:
    """A chunk that had to be made is not taken for the slice's memory."""
    rows = slice_of([b"a"])
    (chunk,) = JsonLines().chunks(batch_of(rows))
    assert not is_within(chunk, rows)


def test_one_chunk_a_slice() -> None:
    """Each slice becomes one chunk; one without bytes becomes none."""
    slices = slice_of([b"a", b"b"]), slice_of([]), slice_of([b""], before=1), slice_of([b"c"])
    assert [bytes(memoryview(chunk)) for chunk in Raw().chunks(batch_of(*slices))] == [b"ab", b"c"]


def test_encoding_again_gives_the_same_chunks() -> None:
    """A retried delivery encodes the batch again, to the same chunks."""
    batch = batch_of(slice_of([b"a", b"b\n"]), slice_of([b"c"]))
    first, second = ([bytes(memoryview(chunk)) for chunk in JsonLines().chunks(batch)] for _ in range(2))
    assert first == second == [b"a\nb\n", b"c\n"]


def test_json_lines_does_not_look_inside_records() -> None:
    """A record with newlines inside is passed on as it is."""
    assert encoded(JsonLines(), slice_of([b'{\n"a":1\n}', b"not json"])) == b'{\n"a":1\n}\nnot json\n'


def test_a_segment_read_back_from_disk_is_encoded() -> None:
    """Slices that view an Arrow stream, as the buffer hands them out, encode like those built in memory."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, ROW_SCHEMA) as stream:
        stream.write_batch(slice_of([b"a\n", b"", b"bc"], before=1, after=1))
    (rows,) = pa.ipc.open_stream(sink.getvalue())
    assert encoded(Raw(), rows) == b"a\nbc"
    assert encoded(JsonLines(), rows) == b"a\n\nbc\n"


@pytest.mark.parametrize(
    ("type", "delimiter", "expected"),
    [
        ("raw", None, Raw()),
        ("raw", b"", Raw()),
        ("raw", b"##", Raw(b"##")),
        ("json_lines", None, JsonLines()),
        ("json_lines", b"", JsonLines()),
        ("json_lines", b"\n", JsonLines()),
    ],
)
def test_formats_go_by_name(type: str, delimiter: bytes | None, expected: Raw) -> None:
    """The configuration's name and delimiter choose the format; these have no extension of their own."""
    found = format_named(type, delimiter)
    assert found == expected
    assert found.extension == ""


def test_json_lines_refuses_another_delimiter() -> None:
    """JSON lines end with a newline; another delimiter contradicts that and is refused."""
    with pytest.raises(ValueError, match="use format raw"):
        format_named("json_lines", b"##")


def test_an_unknown_format_is_answered_with_the_nearest() -> None:
    """A misspelt format is refused with all names and the one that was probably meant."""
    with pytest.raises(ValueError, match=r"unknown format 'jsonlines'; did you mean json_lines\? \(choose from raw"):
        format_named("jsonlines", None)
