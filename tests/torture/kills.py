"""Kill -9, and worse, at random moments under load, with an oracle of acknowledged ids.

Several services run side by side, each on a data folder of its own. A client posts records with ids that never
repeat and remembers which were acknowledged. Blow after blow (`blows`) comes at a moment drawn from the seed. At the
end each service drains, and the objects are counted: every acknowledged id is there, none is there twice, and nothing
is there that was never sent; nothing but what is deadly was ever set aside.

    python tests/torture/kills.py --kills 2000 --seed 7
"""

from __future__ import annotations

import argparse
import random
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))

from at_least import at_least
from blows import Kind, plan
from verdict import Verdict, judged, say
from victim import Victim

PROGRESS_SECONDS = 10.0


def torment(
    folder: Path, kills: int, seed: int, side_by_side: int, stop_seconds: float, say: Callable[[str], None]
) -> Verdict:
    """Deals the blows out to several victims; the sum of what was found."""
    verdict, blows = Verdict(), plan(kills, random.Random(seed))
    victims = [Victim(folder / f"victim-{i}", seed * 1000 + i, verdict, stop_seconds) for i in range(side_by_side)]
    threads = [
        threading.Thread(target=_tormented, args=(victim, blows[i::side_by_side]), daemon=True)
        for i, victim in enumerate(victims)
    ]
    for thread in threads:
        thread.start()
    _watch(threads, lambda: _progress(verdict, victims, kills), say)
    return verdict


def _watch(threads: Sequence[threading.Thread], progress: Callable[[], str], say: Callable[[str], None]) -> None:
    began = said = time.monotonic()
    while alive := [thread for thread in threads if thread.is_alive()]:
        alive[0].join(1.0)
        if time.monotonic() - said > PROGRESS_SECONDS:
            said = time.monotonic()
            say(f"{said - began:.0f} s: {progress()}")


def _progress(verdict: Verdict, victims: Sequence[Victim], kills: int) -> str:
    acknowledged = sum(len(victim.client.acknowledged) for victim in victims)
    trouble = f", {len(verdict.trouble)} in trouble" if verdict.trouble else ""
    return f"{verdict.kills.total()} of {kills} kills, {acknowledged} records acknowledged{trouble}"


def _tormented(victim: Victim, blows: Sequence[Kind]) -> None:
    try:
        victim.up()
        victim.client.start()
        for kind in blows:
            kind.strike(victim)
            victim.verdict.struck(kind.name, kind.kills, 0.0 if kind.name == "start-up" else victim.up())
        victim.judge()
    except Exception as error:
        victim.verdict.complain(f"{victim.folder}: {type(error).__name__}: {error}")
    finally:
        victim.close()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=at_least(0), default=50)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--side-by-side", type=at_least(1), default=4, help="services at once")
    parser.add_argument("--stop-seconds", type=at_least(0.0), default=60, help="how long a process is stopped")
    options = parser.parse_args()
    dealt = (options.kills, options.seed, options.side_by_side, options.stop_seconds)
    return judged("kills", f"seed {options.seed}", lambda folder: torment(folder, *dealt, say))


if __name__ == "__main__":
    sys.exit(main())
