"""Promises 2 and 3 against a store that fails at every step."""

from __future__ import annotations

from pathlib import Path

import hostile
import pytest
from hostile_s3 import HostileS3
from programs import Programs

SEED = 11
SECONDS = 900  # at most: it ends with the last fault that is met


@pytest.mark.kill
def test_every_fault_of_a_store(tmp_path: Path) -> None:
    """Every fault is met, single objects and uploads alike: missing 0, doubled 0, no upload left over, none held."""
    with HostileS3(tmp_path / "objects", SEED) as store, Programs(tmp_path) as programs:
        torment = hostile.Torment(programs, tmp_path, store, SEED)
        torment.run(SECONDS, everything=True)
        torment.check()
    assert torment.missed() == set()
