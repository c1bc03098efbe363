"""Damage to any byte of any file: it starts, delivers nothing wrong and all that is whole, and says what is damaged.

The longer run, of every byte, is `python tests/torture/corruption.py`.
"""

from __future__ import annotations

from random import Random
from types import ModuleType

import damage
import pytest
from damage import Damaged, Given
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


def found(share: float, given: Given | None = None, ending: str = "") -> tuple[int, list[tuple[Damaged, str]]]:
    """How many damages were tried, and those after which something was wrong."""
    folder = given or damage.given()
    whole, tried, wrong = damage.opened(folder, None), 0, list[tuple[Damaged, str]]()
    for damaged in damage.damages(folder.tree, Random(1), share):
        if damaged.path.endswith(ending):
            tried += 1
            problem = damage.wrong(folder, damaged, whole)
            wrong += [(damaged, problem)] if problem else []
    return tried, wrong


def test_every_kind_of_damage() -> None:
    """A sample of all flips, zeros, cuts and repeats; of frames and lines left out, twice, swapped, from elsewhere."""
    tried, wrong = found(0.04)
    print(f"{tried} damages tried")
    assert [(one.path, one.how, problem) for one, problem in wrong] == []
    assert tried > 300


def test_an_undamaged_folder() -> None:
    """Without damage everything is delivered, the sums hold, and nothing is said."""
    end = damage.opened(damage.given(), None)
    assert end.said == []
    assert {(pending, imbalance) for _, pending, imbalance, _ in end.sums.values()} == {(0, 0)}
    assert {accepted for accepted, _, _, _ in end.sums.values()} == {22, 7}


@pytest.mark.parametrize(("module", "ending"), [(ledger, "ledger"), (checked_json, "catalog"), (checked_json, "lanes")])
def test_canaries(module: ModuleType, ending: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files of text whose checksums say nothing are found out."""
    monkeypatch.setattr(module, "crc32", lambda data: 0)
    _, wrong = found(1.0 if ending == "lanes" else 0.1, ending=ending)
    assert wrong
