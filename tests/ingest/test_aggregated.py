"""Records packed by the Kinesis Producer Library: unpacked exactly, and nothing else is taken for one."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from packing import field, packed, sealed

from firehose.datastream.sequence import KEY_SPACE, hash_key
from firehose.ingest.aggregated import MAGIC, UserRecord, unpacked

VECTOR = bytes.fromhex("f3899ac20a01611a0508001a01781a0508001a01794ce17b1ac841e7ccc082e6c0e097f7f6")


def test_the_reference_vector_is_unpacked() -> None:
    """The library's own bytes give its two records."""
    assert unpacked(VECTOR) == [UserRecord("a", None, b"x"), UserRecord("a", None, b"y")]


@given(st.lists(st.tuples(st.text(min_size=1), st.none() | st.integers(0, KEY_SPACE - 1), st.binary()), min_size=1))
def test_what_is_packed_comes_back(records: list[tuple[str, int | None, bytes]]) -> None:
    """Any records, with any keys, come back in order, tags or not."""
    assert unpacked(packed(records)) == [UserRecord(*one) for one in records]


@given(st.integers(0, len(VECTOR) - 1), st.integers(1, 255))
def test_a_flipped_byte_makes_it_an_ordinary_record(place: int, mask: int) -> None:
    """Nothing that is not exactly the format is taken apart."""
    broken = bytearray(VECTOR)
    broken[place] ^= mask
    assert unpacked(bytes(broken)) is None


@pytest.mark.parametrize(
    "record",
    [
        b"",
        MAGIC,
        MAGIC + bytes(16),
        sealed(b"")[:-1],
        sealed(field(3, field(1, 0) + field(3, b"x"))),  # an index into an empty table
        sealed(field(1, b"a") + field(3, field(3, b"x"))),  # no partition key
        sealed(field(1, b"a") + field(3, field(1, 0))),  # no data
        sealed(field(1, b"\xff") + field(3, field(1, 0) + field(3, b"x"))),  # a key that is no text
        sealed(field(1, b"a") + field(2, b"-1") + field(3, field(1, 0) + field(2, 0) + field(3, b"x"))),
        sealed(field(1, 7)),  # a number where bytes belong
        sealed(b"\x0a\x7fa"),  # it ends within a field
        sealed(b"\xff" * 11),  # a number without end
        sealed(b"\x0b"),  # a group
    ],
)
def test_what_no_producer_writes_is_an_ordinary_record(record: bytes) -> None:
    """A right digest over a message that makes no sense changes nothing: the record passes as it came."""
    assert unpacked(record) is None


@given(st.binary())
def test_any_bytes_are_survived(message: bytes) -> None:
    """Whatever stands between magic and digest, the answer is records or none."""
    unpacked(sealed(message))


def test_a_record_belongs_where_its_hash_key_falls() -> None:
    """By its explicit hash key, or else the MD5 of its partition key; both ends count."""
    assert UserRecord("a", None, b"").belongs(hash_key("a"), hash_key("a"))
    assert not UserRecord("a", 5, b"").belongs(hash_key("a"), hash_key("a"))
    assert UserRecord("a", 5, b"").belongs(5, 6)
    assert not UserRecord("a", 5, b"").belongs(6, 7)
