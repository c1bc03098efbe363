"""Damage to any byte of any file: it starts, delivers nothing wrong and all that is whole, and says what is damaged.

The longer run, of every byte, is `python tests/torture/corruption.py`.
"""

from __future__ import annotations

from collections.abc import Iterator
from random import Random
from types import ModuleType

import damage
import pytest
from lives import REMOTE, STAMP

import destinations
import transforms
from firehose import checked_json
from firehose.buffer import ledger


@pytest.fixture(autouse=True)
def installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The far side and the transform of this folder's streams, as if a third party had installed them."""
    monkeypatch.setitem(destinations.TABLE, *REMOTE)
    monkeypatch.setitem(transforms.TABLE, *STAMP)


def tried(share: float, ending: str = "", seed: int = 1) -> Iterator[tuple[damage.Damaged, str]]:
    """Each damage, and what was wrong after it; empty if all was well."""
    given = damage.given()
    whole = damage.opened(given, None)
    for damaged in damage.damages(given.tree, Random(seed), share):
        if damaged.path.endswith(ending):
            yield damaged, damage.wrong(given, damaged, whole)


def test_every_kind_of_damage() -> None:
    """A sample of all flips, zeros, cuts and repeats, and of each kind of file with frames and lines that are left out,
    there twice, swapped, from elsewhere.
    """
    ends = list(tried(0.0065))
    print(f"{len(ends)} damages tried")
    assert [(damaged.path, damaged.how, wrong) for damaged, wrong in ends if wrong] == []
    assert len(ends) > 300
    kinds = {damaged.kind for damaged, _ in ends}
    for befallen in (
        "bit flipped at",
        "zeros at",
        "cut at",
        "unit left out",
        "unit twice",
        "unit and the next swapped",
    ):
        assert {("ledger", befallen), ("sealed", befallen), ("open", befallen), ("out", befallen)} <= kinds


def test_an_undamaged_folder() -> None:
    """Without damage everything is delivered, the sums hold, and nothing is said."""
    end = damage.opened(damage.given(), None)
    assert end.said == []
    assert {(pending, imbalance) for _, pending, imbalance, _ in end.sums.values()} == {(0, 0)}
    assert {accepted for accepted, _, _, _ in end.sums.values()} == {22, 7, 11, 5}


@pytest.mark.parametrize(("module", "ending"), [(ledger, "ledger"), (checked_json, "catalog"), (checked_json, "lanes")])
def test_canaries(module: ModuleType, ending: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files of text whose checksums say nothing are found out."""
    monkeypatch.setattr(module, "crc32", lambda data: 0)
    assert any(wrong for _, wrong in tried(1.0 if ending == "lanes" else 0.1, ending, seed=2))
