"""The oracle itself: one that overlooks something would let every live test pass."""

from __future__ import annotations

import pytest
from oracle import Fates, access_log, assert_each_once, count


def test_says_what_is_missing_repeated_and_strange() -> None:
    """Each kind of difference is named, with its lines."""
    counted = count(["a", "b", "c", "c"], ["a", "a", "c", "x"])
    assert counted.missing == {"b": 1, "c": 1}
    assert counted.repeated == {"a": 1}
    assert counted.strange == {"x"}
    assert not counted.exact


@pytest.mark.parametrize("found", [["a"], ["a", "b", "b"], ["a", "b", "x"]])
def test_fails_on_any_difference(found: list[str]) -> None:
    """One line too few, too many or unknown is enough."""
    with pytest.raises(AssertionError):
        assert_each_once(["a", "b"], found)


def test_order_does_not_matter() -> None:
    """Objects are read in any order."""
    assert_each_once(["a", "b"], ["b", "a"])


def test_log_lines_are_all_different() -> None:
    """Equal lines would hide a loss behind a repetition."""
    assert len(set(access_log(5000) + access_log(5000, seed=2))) == 10_000


def test_fates() -> None:
    """Of numbered records it is known which are missing, which are there twice, and which were never sent."""
    fates = Fates()
    fates.acknowledge(fates.take(3))
    fates.take(2)
    for number in (0, 1, 1, 3, 5):
        fates.find(number)
    assert (fates.acknowledged, fates.missing, fates.doubled, fates.invented) == (3, 1, 1, 1)
