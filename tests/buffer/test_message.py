"""Messages made of pieces: what Arrow reads of them is what it reads of its own."""

from __future__ import annotations

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from firehose.buffer import frame
from firehose.buffer.message import message

VALUES = {"record": st.binary(max_size=20), "arrival_ms": st.integers(-(2**63), 2**63 - 1), "meta": st.text(max_size=9)}


@st.composite
def batches(draw: st.DrawFn) -> list[pa.RecordBatch]:
    """Slices of batches of one of the schemas, with nulls wherever there may be any."""
    schema = frame.SCHEMAS[draw(st.integers(0, len(frame.SCHEMAS) - 1))]
    made = []
    for _ in range(draw(st.integers(1, 4))):
        rows, before, behind = draw(st.integers(1, 20)), draw(st.integers(0, 9)), draw(st.integers(0, 2))
        columns = []
        for field in schema:
            value = VALUES.get(field.name, VALUES["meta"])
            values = st.lists(value | st.none() if field.nullable else value, min_size=rows, max_size=rows)
            columns.append(pa.array(draw(values), field.type))
        whole = pa.record_batch(columns, schema=schema)
        padding = pa.record_batch([column.take(pa.array([0] * 9)) for column in whole.columns], schema=schema)
        long = pa.concat_batches([padding.slice(0, before), whole, padding.slice(0, behind)])
        made.append(long.slice(before, rows))
    return made


@given(batches())
def test_arrow_reads_it(made: list[pa.RecordBatch]) -> None:
    """Any slices, nulls in any of them, one or many: the records are there, and each buffer at a multiple of 8."""
    data = b"".join(map(bytes, message(made)))
    found = pa.ipc.read_record_batch(pa.py_buffer(data), made[0].schema)
    found.validate(full=True)
    assert found.equals(pa.concat_batches(made))
    assert len(data) % 8 == 0
    said = pa.ipc.read_message(pa.py_buffer(data))
    assert (said.type, said.metadata_version) == ("record batch", pa.ipc.MetadataVersion.V5)


@given(batches())
def test_its_body_is_arrows_own(made: list[pa.RecordBatch]) -> None:
    """Byte by byte, where Arrow is given the same records in one piece."""
    whole = pa.concat_batches([*made, made[0].slice(0, 0)])
    own = pa.ipc.read_message(whole.serialize())
    ours = pa.ipc.read_message(pa.py_buffer(b"".join(map(bytes, message(made)))))
    assert bytes(ours.body) == bytes(own.body)


def test_records_stay_where_they_lie() -> None:
    """What is written is the very memory that the records came in."""
    made = [pa.record_batch([pa.array([b"x" * 100, b"y" * 50], pa.binary())], schema=frame.SCHEMAS[0])] * 2
    there = made[0].column(0).buffers()[2].address
    pieces = [piece for piece in message(made) if isinstance(piece, pa.Buffer)]
    assert [(piece.address, piece.size) for piece in pieces] == [(there, 150), (there, 150)]


def test_offsets_of_a_lone_batch_stay_where_they_lie() -> None:
    """Those of one that begins where its data does; of a later slice they are made anew."""
    whole = pa.record_batch([pa.array([b"a" * 9, b"", b"c" * 5], pa.binary())], schema=frame.SCHEMAS[0])
    for made, kept in ((whole, True), (whole.slice(0, 2), True), (whole.slice(1), False)):
        there = made.column(0).buffers()[1].address
        assert kept is (there in [piece.address for piece in message([made]) if isinstance(piece, pa.Buffer)])


@pytest.mark.parametrize("size", [0, 1, 7, 8])
def test_a_record_of_any_size(size: int) -> None:
    """None at all, and just below, at and above what is padded to."""
    made = pa.record_batch([pa.array([b"x" * size], pa.binary())], schema=frame.SCHEMAS[0])
    data = b"".join(map(bytes, message([made])))
    assert pa.ipc.read_record_batch(pa.py_buffer(data), made.schema).equals(made)
