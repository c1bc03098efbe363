"""The memory of replayed lines: exact, small, and never misread."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from firehose.ingest.replayed import BLOCK_LINES, Lines, partition
from firehose.model import NewerFormat

LINE = st.integers(0, BLOCK_LINES - 1) | st.integers(0, 40)


@given(st.lists(st.lists(LINE, max_size=60), max_size=6))
def test_each_line_is_new_once(runs: list[list[int]]) -> None:
    """However lines come, over any number of cursors, each is new the first time and never again."""
    cursor, seen = "", set[int]()
    for run in runs:
        lines = Lines(cursor)
        fresh = [run[place] for place in lines.add(run)]
        assert sorted(fresh) == sorted(set(run) - seen)
        seen.update(run)
        cursor = lines.cursor


def test_cursors_are_small() -> None:
    """A run of lines costs a few dozen bytes, and the worst of all patterns 11 KiB."""
    run, worst = Lines(), Lines()
    run.add(range(5, 60_000))
    dice = Random(1)
    worst.add(line for line in range(BLOCK_LINES) if dice.random() < 0.5)
    assert len(run.cursor) < 100
    assert len(worst.cursor) < 11 * 1024


def test_partitions_tell_objects_and_blocks_apart() -> None:
    """Each block of each object has a partition of its own, of one size, whatever the object is called."""
    names = ["", "a", "s3://lake/errors/a", "x" * 5000, "\udcff"]
    found = {partition(name, block) for name in names for block in (0, 1)}
    assert len(found) == 2 * len(names)
    assert {len(one) for one in found} == {len("letters:") + 32 + 2}


def test_partition_stays_what_it_is() -> None:
    """What a release has remembered a later one finds: neither the name nor the cursor may change its meaning."""
    assert partition("s3://lake/errors/a", 0) == "letters:3ec4518c33ac5f3766822ac4cf28ea20:0"
    assert Lines("1:eJzjAgAACwAL").add([0, 1, 2, 3, 9]) == [0, 2, 4]


def test_newer_format_is_refused() -> None:
    """A cursor that a later release wrote is refused by name, not taken for an empty one."""
    with pytest.raises(NewerFormat, match="replayed letters has format version 2"):
        Lines("2:whatever")
