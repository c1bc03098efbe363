"""Damage to any byte of any file of the data streams: they start, keep what is whole where it was, and say the rest.

The longer run, of every byte, is `python tests/torture/corruption.py`.
"""

from __future__ import annotations

from random import Random
from types import ModuleType

import pytest
import stream_damage
from damage import damages

from firehose import checked_json
from firehose.buffer import frame

SHARE = 0.01


def test_every_kind_of_damage() -> None:
    """A sample of all that can befall the bytes of definitions, their copies and shards, of each kind at least one."""
    tree = stream_damage.given()
    whole = stream_damage.opened(tree)
    assert whole.said == []
    tried = list(damages(tree, Random(1), SHARE))
    assert [(one.path, one.how, said) for one in tried if (said := stream_damage.wrong(tree, one, whole))] == []
    assert len(tried) > 100
    assert {one.kind[0] for one in tried} == {"sealed", "open", "stream", "copy", "account"}


@pytest.mark.parametrize(("module", "ending"), [(checked_json, "stream"), (frame, "sealed"), (frame, "open")])
def test_canaries(module: ModuleType, ending: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files whose checksums say nothing are found out."""
    monkeypatch.setattr(module, "crc32", lambda data, seed=0: 0)
    tree = stream_damage.given()
    whole = stream_damage.opened(tree)
    tried = (one for one in damages(tree, Random(1), 10 * SHARE) if one.path.endswith(ending))
    assert any(stream_damage.wrong(tree, one, whole) for one in tried)
