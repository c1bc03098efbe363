"""Promises 1 and 3 under kill -9 and worse: nothing acknowledged is lost, nothing is doubled."""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path

import blows
import kills
import plug
import pytest
from verdict import Verdict

KILLS = 50
SEED = 20


@pytest.mark.kill
def test_fifty_kills_lose_and_double_nothing(tmp_path: Path) -> None:
    """Fifty kills of all kinds, over four services side by side: missing 0, doubled 0, invented 0."""
    verdict = kills.torment(tmp_path, KILLS, SEED, side_by_side=4, stop_seconds=2, say=print)
    assert verdict.clean, str(verdict)
    assert verdict.kills.total() == KILLS
    assert set(verdict.kills) == {kind.name for kind in blows.KINDS}


@pytest.mark.kill
def test_a_put_goes_on_where_the_plug_was_pulled(tmp_path: Path) -> None:
    """Everything is killed four times in the middle of a large `firehose put`: each line of the file arrives once."""
    verdict = plug.pull(tmp_path, megabytes=30, pulls=4, seed=SEED, say=print)
    assert verdict.clean, str(verdict)


@pytest.mark.parametrize("count", [0, 1, 3, 17, 50, 2000])
def test_a_plan_has_room_for_its_kills(count: int) -> None:
    """A plan counts for exactly as many kills as were asked for and has every kind where there is room. It is the
    seed's.
    """
    plan = blows.plan(count, random.Random(SEED))
    assert sum(kind.kills for kind in plan) == count
    if count >= sum(kind.kills for kind in blows.KINDS):
        assert Counter(kind.name for kind in plan).keys() == {kind.name for kind in blows.KINDS}
    assert plan == blows.plan(count, random.Random(SEED))


def test_the_count_can_fail() -> None:
    """What is missing, doubled or was never sent is found and named."""
    verdict = Verdict()
    verdict.counted(sent={"a", "b", "c"}, acknowledged={"a", "b"}, found=Counter(["b", "b", "c", "d"]))
    assert (verdict.missing, verdict.doubled, verdict.invented) == (["a"], ["b"], ["d"])
    assert not verdict.clean
    assert "missing: a" in str(verdict)
