"""Runs seed after seed of the simulation, and tells the life of each one that breaks a promise.

python tests/simulation/simulate.py --seeds 1000 --from 0
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

TESTS = Path(__file__).resolve().parents[1]
sys.path[:1] = [str(TESTS.parent), str(TESTS), str(TESTS / "support")]

from at_least import at_least  # noqa: E402
from simulation.life import Simulation  # noqa: E402
from simulation.world import Violation  # noqa: E402

SHOWN = 200  # last events of a failed seed's life


def lived(seed: int, whole: bool) -> bool:
    """Whether every promise was kept. The log is printed where not, or where `whole` asks for all of it."""
    simulation = Simulation(seed)
    violation: Violation | None = None
    try:
        simulation.run()
    except Violation as broken:
        violation = broken
    log = simulation.world.log
    if whole or violation:
        print("\n".join(log if whole else log[-SHOWN:]))
    if violation:
        print(f"seed {seed} fails: {violation}\nall of it: python {sys.argv[0]} --seeds 1 --from {seed} --log")
    sys.stdout.flush()
    return violation is None


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=at_least(1), default=1000, help="how many")
    parser.add_argument("--from", type=int, default=0, dest="first", help="the first one")
    parser.add_argument("--log", action="store_true", help="print every event of every seed")
    said = parser.parse_args()
    began = time.process_time()
    failed = [seed for seed in range(said.first, said.first + said.seeds) if not lived(seed, said.log)]
    rate = said.seeds / (time.process_time() - began) * 3600
    print(f"{said.seeds} seeds, {len(failed)} failed {failed or ''}", file=sys.stderr)
    print(f"{rate:.0f} seeds per hour of CPU", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
