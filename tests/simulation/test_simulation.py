"""The whole service under seeds of trouble: promises 1, 2 and 3 of the design, and a canary for each way to break them.

`make simulate SEEDS=1000` runs more of them, and says how to repeat one.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from simulation.canaries import CANARIES, Canary, planted
from simulation.life import Simulation
from simulation.world import Violation

SCRIPT = Path(__file__).with_name("simulate.py")
SEEDS = 24
CANARY_SEEDS = 40


@pytest.mark.parametrize("seed", range(SEEDS))
def test_seed(seed: int) -> None:
    """Nothing acknowledged is lost, nothing is stored twice, the books balance, and calm delivers everything."""
    simulation = Simulation(seed)
    try:
        simulation.run()
    except Violation as violation:
        pytest.fail("\n".join([*simulation.world.log[-40:], str(violation)]), pytrace=False)
    assert simulation.witness.acknowledged


def test_a_seed_repeats_itself() -> None:
    """The same seed is the same life, event for event, also in another process; another seed is another."""
    first, again, other = (life(seed) for seed in (7, 7, 8))
    assert first.splitlines() == again.splitlines() == told(7).splitlines()
    assert first != other


def life(seed: int) -> str:
    simulation = Simulation(seed)
    simulation.run()
    return "\n".join(simulation.world.log)


def told(seed: int) -> str:
    """What the script prints of this life. Its strings hash otherwise than ours: no order may come from that."""
    command = [sys.executable, str(SCRIPT), "--seeds", "1", "--from", str(seed), "--log"]
    ours = {"PYTHONHASHSEED": str(seed), "PYTHONPATH": str(SCRIPT.parents[2])}
    return subprocess.run(command, env={**os.environ, **ours}, capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize("name", CANARIES)
def test_canary(name: str) -> None:
    """A service with this bug is found out by the invariant that it breaks; without the bug, that life keeps all."""
    canary = CANARIES[name]
    tried = ((seed, found_by(canary, seed)) for seed in range(CANARY_SEEDS))
    seed, found = next((one for one in tried if one[1]), (0, None))
    assert found in canary.found_by, f"found by {found}"
    assert found_by(Canary((), canary.under), seed) is None


def found_by(canary: Canary, seed: int) -> str | None:
    with planted(canary) as doors:
        try:
            Simulation(seed, doors, canary.under).run()
        except Violation as violation:
            return violation.invariant
    return None
