"""Promises 1 and 3 under kill -9: nothing acknowledged is lost, nothing is doubled."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

KILLS = 50
SEED = 20


def _script() -> ModuleType:
    path = Path(__file__).with_name("kills.py")
    spec = importlib.util.spec_from_file_location("kills", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["kills"] = module
    spec.loader.exec_module(module)
    return module


@pytest.mark.kill
@pytest.mark.timeout(900)
def test_fifty_kills_lose_and_double_nothing(tmp_path: Path) -> None:
    """Fifty kills at random moments, over four services side by side: missing 0, doubled 0, invented 0."""
    verdict = _script().torment(tmp_path, KILLS, SEED, side_by_side=4)
    assert verdict.clean, str(verdict)
    assert verdict.kills == KILLS
