"""What passes between the service and a worker arrives as it was sent, and whatever else arrives is told from it."""

from __future__ import annotations

import struct

import pyarrow as pa
import pytest
from batches import rows
from hypothesis import example, given
from hypothesis import strategies as st

from firehose.hooks import wire
from firehose.hooks.program import Failed, said
from firehose.model import Outcome, Rejections

KINDS = list(wire.PARTS)


def read(message: list[wire.Part]) -> tuple[int, list[pa.Buffer]]:
    """As it arrives at the other end."""
    memory = bytearray(wire.PARTS_AT + 10_000)
    told, *parts = message
    wire.put(memoryview(memory), parts)
    kind, count = wire.head(told[: wire.HEAD.size])
    sizes = wire.sizes(told[wire.HEAD.size :])
    assert len(sizes) == count
    arrived = wire.taken(memoryview(memory), sizes)
    memory[wire.PARTS_AT :] = bytes(10_000)  # the next message comes to the same place
    return kind, arrived


@given(st.sampled_from(KINDS), st.data())
def test_messages_arrive(kind: int, data: st.DataObject) -> None:
    """Kind and parts of every message come out as they went in, empty parts included."""
    parts = data.draw(st.lists(st.binary(), min_size=wire.PARTS[kind], max_size=wire.PARTS[kind]))
    found, arrived = read(wire.message(kind, *parts))
    assert found == kind
    assert [part.to_pybytes() for part in arrived] == parts


@given(st.binary(min_size=wire.HEAD.size, max_size=wire.HEAD.size))
@example(b"\0\0\0\0")
@example(b"\x03\0\0\0")
@example(b"\x03\x01\0\0")
@example(b"\xff\xff\xff\xff")
def test_heads(data: bytes) -> None:
    """Of all four bytes that may come, only six are the head of a message: a known kind with its count of parts."""
    heads = {wire.HEAD.pack(kind | count << 8): (kind, count) for kind, count in wire.PARTS.items()}
    if data in heads:
        assert wire.head(data) == heads[data]
    else:
        with pytest.raises(ValueError, match="no message begins with"):
            wire.head(data)


@given(st.lists(st.integers(0, 2**64 - 1), max_size=3))
@example([wire.MOST_BYTES])
@example([wire.MOST_BYTES, 1])
@example([2**64 - 1] * 3)
def test_sizes(sizes: list[int]) -> None:
    """Sizes are believed up to the bound of a message, all parts taken together."""
    data = b"".join(map(wire.SIZE.pack, sizes))
    if sum(sizes) <= wire.MOST_BYTES:
        assert wire.sizes(data) == sizes
    else:
        with pytest.raises(ValueError, match="more than"):
            wire.sizes(data)


def test_messages_are_bounded() -> None:
    """A message that is too large is not sent."""
    with pytest.raises(ValueError, match="more than"):
        wire.message(wire.OUTCOME, bytes(wire.MOST_BYTES), b"", b"1")


@given(st.lists(st.binary(max_size=30), max_size=20), st.data())
def test_outcomes_arrive(records: list[bytes], data: st.DataObject) -> None:
    """Rows, refused and dropped ones come out as they went in, with what `meta` they have."""
    whole = rows(records)
    if data.draw(st.booleans()):
        whole = whole.append_column("meta", pa.array([None, "{}"] * 10, pa.string()).slice(0, len(records)))
    start, end = sorted(data.draw(st.tuples(*[st.integers(0, len(records))] * 2)))
    why = Rejections.of(whole.slice(end), "processing-failed", "Lambda.FunctionError", "no", 3, "hooks:f")
    sent = Outcome(whole.slice(start, end - start), why, whole.column("row").slice(0, start))
    kind, parts = read(wire.of_outcome(sent))
    came = wire.outcome(parts)
    assert kind == wire.OUTCOME
    assert came.rows.equals(sent.rows)
    assert came.rows.schema == sent.rows.schema
    assert came.refused.table.equals(sent.refused.table)
    assert came.dropped.equals(sent.dropped)


@given(st.lists(st.binary(max_size=30), max_size=20))
def test_rows_arrive(records: list[bytes]) -> None:
    """The rows of a call come out as they went in."""
    kind, (part,) = read(wire.of_rows(rows(records)))
    assert kind == wire.ROWS
    assert wire.rows(part).equals(rows(records))


OUTCOME = [part.to_pybytes() for part in read(wire.of_outcome(Outcome(rows([b"a", b"b"]))))[1]]


@given(st.integers(0, 2), st.data())
def test_damaged_outcomes(index: int, data: st.DataObject) -> None:
    """An outcome that is cut off, or of which bytes were changed, is one of ours still or a ValueError: never a crash,
    and never rows that cannot be read.
    """
    parts = list(OUTCOME)
    at = data.draw(st.integers(0, len(parts[index]) - 1))
    if data.draw(st.booleans()):
        parts[index] = parts[index][:at]
    else:
        instead = data.draw(st.binary(min_size=1, max_size=16))
        parts[index] = parts[index][:at] + instead + parts[index][at + len(instead) :]
    try:
        came = wire.outcome([pa.py_buffer(part) for part in parts])
    except ValueError:
        return
    came.rows.to_pylist()
    came.refused.table.to_pylist()
    came.dropped.to_pylist()


def test_records_that_lie_elsewhere() -> None:
    """Records that reach beyond what was sent are told, before anyone reads memory that is not theirs."""
    offsets = [struct.pack("<iii", *three) for three in ((0, 1, 2), (0, 1, 2**30))]
    assert OUTCOME[0].count(offsets[0]) == 1
    with pytest.raises(ValueError, match="no Arrow stream"):
        wire.outcome([pa.py_buffer(part) for part in (OUTCOME[0].replace(*offsets), *OUTCOME[1:])])


@pytest.mark.parametrize("order", [(0, 0, 2), (1, 1, 2), (0, 1, 0), (2, 1, 0)], ids=str)
def test_columns_that_were_not_agreed_on(order: tuple[int, ...]) -> None:
    """An outcome is believed with the columns of an outcome alone."""
    with pytest.raises(ValueError, match="other columns"):
        wire.outcome([pa.py_buffer(OUTCOME[index]) for index in order])


@given(st.text(), st.text(), st.booleans(), st.booleans())
def test_failures_arrive(code: str, message: str, final: bool, spoilt: bool) -> None:
    """A failure comes out as it went in, but for the row, which the page of marks knows."""
    kind, (part,) = read(wire.of_failure(Failed(code, message, 3, final=final), spoilt=spoilt))
    came = wire.failure(part, 5)
    assert kind == (wire.SPOILT if spoilt else wire.FAILED)
    assert (came.code, came.message, came.at, came.final) == (code, message, 5, final)


@pytest.mark.parametrize("data", [b"", b"{}", b"[]", b"\xff", b'{"code":1,"message":"m","final":false}'])
def test_failures_that_are_none(data: bytes) -> None:
    """What is no failure is told as what it is."""
    with pytest.raises(ValueError, match="its failure cannot be read"):
        wire.failure(pa.py_buffer(data), None)


@given(st.text(st.characters(exclude_categories=()), max_size=3000))
def test_what_is_said_of_exceptions(text: str) -> None:
    """Whatever an exception's words are, they travel, and are not too many."""
    words = said(ValueError(text))
    assert words.startswith("ValueError")
    assert len(words) <= 1000
    assert read(wire.of_failure(Failed("c", words)))[0] == wire.FAILED
