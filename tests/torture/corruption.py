"""Damage to every byte of every file of two data folders, one of delivery streams and one of data streams, one at a
time, each folder opened and counted.

`python tests/torture/corruption.py --share 0.1` tries a tenth of it. Prints what it found; fails if that is anything.
All of it takes hours, in any order: Ctrl-C ends it early, and it says how far it came.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from random import Random

from rich.console import Console
from rich.progress import track

sys.path[:0] = [str(Path(__file__).parents[2] / folder) for folder in (".", "tests", "tests/support")]

import damage  # noqa: E402
import stream_damage  # noqa: E402
from damage import Damaged  # noqa: E402
from lives import REMOTE, STAMP  # noqa: E402

import destinations  # noqa: E402
import transforms  # noqa: E402

Look = Callable[[Damaged], str]  # what is wrong behind it


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--share", type=float, default=1.0)
    said = parser.parse_args()
    destinations.TABLE.update([REMOTE])  # type: ignore[attr-defined]
    transforms.TABLE.update([STAMP])  # type: ignore[attr-defined]
    wrong, tried, dice = 0, Counter[str](), Random(said.seed)
    possible = [*_of_delivery_streams(dice, said.share), *_of_data_streams(dice, said.share)]
    dice.shuffle(possible)
    with suppress(KeyboardInterrupt):
        for damaged, look in track(possible, "Damages", console=Console(stderr=True)):
            problem = look(damaged)
            tried[damaged.kind[0]] += 1
            if problem:
                wrong += 1
                print(f"{damaged.path}, {damaged.how}: {problem}")
    print(f"{tried.total()} of {len(possible)} damages tried ({dict(tried)}), {wrong} of them with something wrong")
    return 1 if wrong else 0


def _of_delivery_streams(dice: Random, share: float) -> Iterator[tuple[Damaged, Look]]:
    given = damage.given()
    whole = damage.opened(given, None)
    for damaged in damage.damages(given.tree, dice, share):
        yield damaged, lambda damaged: damage.wrong(given, damaged, whole)


def _of_data_streams(dice: Random, share: float) -> Iterator[tuple[Damaged, Look]]:
    tree = stream_damage.given()
    whole = stream_damage.opened(tree)
    for damaged in damage.damages(tree, dice, share):
        yield damaged, lambda damaged: stream_damage.wrong(tree, damaged, whole)


if __name__ == "__main__":
    sys.exit(main())
