"""All promises at once, for a minute; half an hour is for the script."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
import soak
from hostile_s3 import HostileS3
from programs import Programs

SEED = 3
SECONDS = 60


@pytest.mark.kill
def test_a_minute_of_everything(tmp_path: Path) -> None:
    """Mixed load, reloads, outages, faults and kills: everything acknowledged arrives once, and the sums are right."""
    with HostileS3(tmp_path / "objects", SEED) as store, Programs(tmp_path) as programs:
        one = soak.Soak(programs, tmp_path, store, SEED, SECONDS)
        one.run(io.StringIO())
        assert one.count() == []
    assert one.events["kill of both"] > 0


def samples(**last: float) -> list[dict[str, Any]]:
    """An hour in which nothing changes but what is said of the last third."""
    same = {"memory_mib": 200.0, "descriptors": 50, "threads": 20}
    return [{"seconds": minute * 60, **same, **(last if minute > 40 else {})} for minute in range(61)]


def test_flat() -> None:
    """What stays, or jitters within the stated tolerance, counts as flat."""
    assert soak.grown(samples()) == []
    assert soak.grown(samples(memory_mib=215, descriptors=57, threads=22)) == []


@pytest.mark.parametrize("leak", [{"memory_mib": 230}, {"descriptors": 70}, {"threads": 30}], ids=str)
def test_a_leak_is_told(leak: dict[str, float]) -> None:
    """What has grown by more than that is named."""
    (said,) = soak.grown(samples(**leak))
    assert said.startswith(next(iter(leak)))
