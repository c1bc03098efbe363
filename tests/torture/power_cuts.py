"""Power cuts by the thousand: the states that they may leave of a life of the service, each opened and counted.

`python tests/torture/power_cuts.py --limit 1000` opens more states of each moment, `--share 0.1` a tenth of them,
`--again 0.01` also what a second cut leaves while the first is mended. Prints what it found; fails if that is
anything. A seed repeats a run.
"""

from __future__ import annotations

import argparse
import sys
from contextlib import nullcontext
from pathlib import Path
from unittest import mock

sys.path[:0] = [str(Path(__file__).parents[2] / folder) for folder in (".", "tests", "tests/support")]

from lives import REMOTE, STAMP  # noqa: E402
from power import Wrong, busy, lived, parting, small, survey, wide  # noqa: E402
from side_by_side import PACE, Eager  # noqa: E402

import destinations  # noqa: E402
import transforms  # noqa: E402

LIVES = {"small": small, "busy": busy, "wide": wide, "parting": parting}


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--life", choices=LIVES, default="busy")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--limit", type=int, default=100, help="states of one moment, beyond which they are sampled")
    parser.add_argument("--share", type=float, default=1.0, help="of the states that are opened")
    parser.add_argument("--again", type=float, default=0.0, help="share of the states of a second cut")
    return parser.parse_args()


def main() -> int:
    said = arguments()
    destinations.TABLE.update([REMOTE])  # type: ignore[attr-defined]
    transforms.TABLE.update([STAMP])  # type: ignore[attr-defined]
    wrong, states = list[Wrong](), 0
    with mock.patch(PACE, Eager) if said.life == "wide" else nullcontext():
        disk = lived(LIVES[said.life])
        for at, found in survey(disk, said.seed, said.limit, said.share, said.again):
            states += 1
            if found:
                wrong.append((at, found))
                print(f"before step {at}: {found}")
    print(f"{len(disk.steps)} steps of the disk, {states} states opened, {len(wrong)} of them wrong")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
