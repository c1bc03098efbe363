"""Sequence numbers, hash keys and shard ids against numbers that AWS gave out."""

from __future__ import annotations

import pytest

from firehose.datastream import sequence
from firehose.datastream.model import Shard
from firehose.datastream.sequence import Sequence

GENUINE = "49588630796424512596616347529113745994736297474709782530"
CREATED = 1_700_000_000


def test_a_genuine_number_is_understood_and_written_again() -> None:
    """A number that AWS gave out says when its shard and its record came, and is written back digit by digit."""
    found = sequence.parse(GENUINE)
    assert found == Sequence(0x05BABE0EE, 0, 0xBCAB0, 0x05BAE765A)
    assert str(found) == GENUINE


@pytest.mark.parametrize(
    ("made", "number"),
    [
        (Sequence(CREATED, 0, 0, CREATED), "49646437577108476416916876405825929425585429676275269634"),
        (Sequence(CREATED, 0, 1, CREATED + 5), "49646437577108476416916876405827138351405044649047359490"),
        (
            Sequence(CREATED, 0, sequence.CLOSED_COUNTER, CREATED + 100),
            "49646437577119626789516141717395488358902146099801227266",
        ),
        (Sequence(CREATED + 101, 1, 0, CREATED + 101), "49646437613168781402940894025689185872457837172112752658"),
    ],
)
def test_a_number_is_built_as_aws_builds_it(made: Sequence, number: str) -> None:
    """Start, record, end and child numbers are those of the reference."""
    assert str(made) == number
    assert sequence.parse(number) == made


@pytest.mark.parametrize("text", ["", "0", "abc", "-1", "01", "1" * 130, str(int(GENUINE) + 1), str(int(GENUINE) << 4)])
def test_what_is_no_number_of_ours_is_told(text: str) -> None:
    """Anything that no shard can have given out is not taken for a number."""
    assert sequence.parse(text) is None


def test_numbers_rise_from_parent_to_child() -> None:
    """A closed shard's last number is below the first of its children."""
    parent = Shard(0, 0, sequence.KEY_SPACE - 1, CREATED, CREATED * 1000, closed_ms=(CREATED + 100) * 1000)
    child = Shard(1, 0, 5, CREATED + 101, (CREATED + 100) * 1000, parents=(0,))
    assert parent.ending_number == "49646437577119626789516141717395488358902146099801227266"
    assert int(parent.starting_number) < int(parent.ending_number) < int(child.starting_number)


def test_a_shard_never_ends_before_it_began() -> None:
    """A clock that was put back before the close leaves the ending number above all of the shard's own."""
    shard = Shard(0, 0, 1, CREATED, CREATED * 1000, closed_ms=(CREATED - 3600) * 1000)
    assert shard.ending_number is not None
    assert int(shard.ending_number) > int(sequence.number(shard.base, 1 << 62, CREATED + 10**6))


@pytest.mark.parametrize(
    ("key", "hashed"),
    [
        ("a", 16955237001963240173058271559858726497),
        ("test", 12707736894140473154801792860916528374),
        ("partitionKey", 193318062818912349798954611745638949166),
        ("1", 261578874264819908609102035485573088411),
        ("é", 136732923097551493579404309126273812335),
    ],
)
def test_partition_keys_are_hashed_as_aws_does(key: str, hashed: int) -> None:
    """MD5 of the UTF-8 text, read as a big-endian number."""
    assert sequence.hash_key(key) == hashed


@pytest.mark.parametrize(
    ("count", "ends"),
    [
        (1, [2**128 - 1]),
        (2, [170141183460469231731687303715884105727, 2**128 - 1]),
        (3, [113427455640312821154458202477256070484, 226854911280625642308916404954512140969, 2**128 - 1]),
    ],
)
def test_a_new_stream_is_cut_evenly(count: int, ends: list[int]) -> None:
    """The ranges are AWS's, without hole or overlap."""
    ranges = sequence.even_ranges(count)
    assert [end for _, end in ranges] == ends
    assert [start for start, _ in ranges] == [0, *(end + 1 for end in ends[:-1])]


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("shardId-000000000000", 0),
        ("shardId-000000000012", 12),
        ("shard-7", 7),
        ("7", 7),
        ("shardId-2147483647", 2147483647),
        ("shardId-2147483648", None),
        ("shardId-", None),
        ("shardId-1x", None),
        ("shardId", None),
        ("a-b-1", None),
    ],
)
def test_shard_ids_are_read_as_leniently_as_aws_does(text: str, number: int | None) -> None:
    """What follows the first '-' is the number."""
    assert sequence.shard_number(text) == number
