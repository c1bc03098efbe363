"""Shards and their parents: any sequence of splits, merges and counts keeps the key space whole."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from live_streams import open_shards, whole

from firehose.datastream import lineage
from firehose.datastream.model import Definition, Shard
from firehose.datastream.sequence import KEY_SPACE

CREATED_MS = 1_700_000_000_123


def stream(shards: int, now_ms: int = CREATED_MS) -> Definition:
    empty = Definition("clicks", "id", CREATED_MS, "ACTIVE", "PROVISIONED")
    return lineage.taken(empty, [lineage.creation(shards)], now_ms)


def resharded(definition: Definition, count: int, now_ms: int = CREATED_MS + 5000) -> Definition:
    return lineage.taken(definition, lineage.resharding(definition, count), now_ms)


def parents_of(definition: Definition, shard: Shard) -> list[Shard]:
    return [one for one in definition.shards if one.number in shard.parents]


def test_creation_cuts_the_key_space_evenly() -> None:
    """A new stream's shards are AWS's ranges, numbered in order, without parents, open since the creation."""
    shards = stream(3).shards
    assert [shard.end for shard in shards] == [
        113427455640312821154458202477256070484,
        226854911280625642308916404954512140969,
        KEY_SPACE - 1,
    ]
    assert {(shard.created_s, shard.opened_ms, shard.parents) for shard in shards} == {
        (CREATED_MS // 1000, CREATED_MS, ())
    }
    assert [shard.number for shard in shards] == [0, 1, 2]


def test_split_and_merge_name_their_parents() -> None:
    """The children of a split have one parent, the child of a merge two, the one merged first."""
    split = lineage.taken(stream(2), [lineage.split(stream(2).shards[0], 1000)], CREATED_MS)
    assert [(one.start, one.end, one.parents) for one in split.shards[2:]] == [
        (0, 999, (0,)),
        (1000, KEY_SPACE // 2 - 1, (0,)),
    ]
    merged = lineage.taken(split, [lineage.merge(split.shards[1], split.shards[3])], CREATED_MS)
    assert merged.shards[4].parents == (1, 3)
    assert (merged.shards[4].start, merged.shards[4].end) == (1000, KEY_SPACE - 1)


def test_two_to_four_leaves_six() -> None:
    """Doubling splits each shard in two: the parents stay, closed."""
    doubled = resharded(stream(2), 4)
    assert [shard.open for shard in doubled.shards] == [False, False, True, True, True, True]


@pytest.mark.parametrize("count", [1, 3, 7, 100])
def test_doubling_makes_no_crumbs(count: int) -> None:
    """Where the old ranges' edges differ from the new ones' by rounding only, each shard is split once and none is
    merged."""
    assert len(lineage.resharding(stream(count), 2 * count)) == count


@given(st.integers(1, 40), st.lists(st.integers(1, 40), min_size=1, max_size=6))
def test_any_count_after_any_other(first: int, counts: list[int]) -> None:
    """Whatever counts follow each other, the open shards are as many as asked for, equal, and the whole key space;
    every step is a legal split or merge; every child is numbered above its parents in all its sequence numbers."""
    definition = stream(first)
    for turn, count in enumerate(counts):
        for step in lineage.resharding(definition, count):
            assert (len(step.parents), len(step.starts)) in ((1, 2), (2, 1))
        definition = resharded(definition, count, CREATED_MS + turn)
        shards = open_shards(definition)
        assert whole(shards)
        assert len(shards) == count
        sizes = [shard.end - shard.start for shard in shards]
        assert max(sizes) - min(sizes) <= 200, "but for rounding"
    assert [shard.number for shard in definition.shards] == list(range(definition.next_shard))
    for shard in definition.shards:
        for parent in parents_of(definition, shard):
            assert int(shard.starting_number) > int(parent.ending_number or 0)
            assert parent.closed_ms == shard.opened_ms


@given(st.integers(1, 8), st.integers(1, 8), st.integers(-10_000_000, 10_000_000))
def test_whatever_the_clock_says(first: int, count: int, ahead_ms: int) -> None:
    """Also where the clock goes back, no shard closes before it opened, and at each instant since the creation the
    shards that are open are the whole key space."""
    definition = resharded(resharded(stream(first), count, CREATED_MS + ahead_ms), first, CREATED_MS)
    assert all(shard.closed_ms is None or shard.closed_ms >= shard.opened_ms for shard in definition.shards)
    instants = sorted({shard.opened_ms for shard in definition.shards})
    for at in [*instants, *(later - 1 for _, later in pairwise(instants))]:
        open_then = (
            one for one in definition.shards if one.opened_ms <= at and (one.closed_ms is None or one.closed_ms > at)
        )
        assert whole(sorted(open_then, key=lambda one: one.start))


def test_a_reached_count_needs_no_steps() -> None:
    """Where the shards are as asked for, nothing is done; unequal ones are made equal."""
    assert lineage.resharding(stream(5), 5) == ()
    uneven = lineage.taken(stream(1), [lineage.split(stream(1).shards[0], 1000)], CREATED_MS)
    assert len(open_shards(resharded(uneven, 2))) == 2
    assert open_shards(resharded(uneven, 2))[0].end == KEY_SPACE // 2 - 1


def test_adjacent_in_either_order() -> None:
    """Two shards are adjacent whichever is named first; with a gap between them they are not."""
    one, two, three = stream(3).shards
    assert lineage.adjacent(one, two)
    assert lineage.adjacent(two, one)
    assert not lineage.adjacent(one, three)
    assert not lineage.adjacent(one, replace(one))
