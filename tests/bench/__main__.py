"""The bench: each row of the speed table as a named work, every run checked record by record. `make bench`.

    make bench ARGS='--list'
    make bench ARGS='--work ingest-100 --work start-empty --runs 3 --json figures.json'

A run of a work starts the service (delivery in a process of its own, gzip to S3, fdatasync before each answer), does
its work, counts every record in the delivered objects, and measures the floor right after it: the same load on bare
servers and a bare disk. Figures are medians; ratios to the floor hold on other machines, the rest does not.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import signal
import sys
import time
from pathlib import Path
from typing import Any

from at_least import at_least
from bench import table
from bench.checking import Wrong
from bench.work import Figures, Scale, Work, medians

ROOT = Path(__file__).parents[2]


def measured(work: Work, runs: int, scale: Scale) -> list[Figures]:
    print(f"{work.name}: {work.about}", flush=True)
    found = []
    for index in range(runs):
        began = time.perf_counter()
        found.append(work.run(scale))
        line = table.one_line(found[-1], work)
        print(f"  {index + 1}/{runs}  {line}  [{time.perf_counter() - began:.0f} s]", flush=True)
    return found


def report(results: dict[str, list[Figures]], scale: Scale) -> dict[str, Any]:
    """All that was measured, for machines."""
    return {
        "machine": {"system": platform.platform(), "cpus": os.cpu_count(), "python": platform.python_version()},
        "quick": scale.quick,
        "works": {
            name: {
                "about": table.WORKS[name].about,
                "median": (middle := medians(runs)),
                "runs": runs,
                "goals": [
                    {
                        "figure": goal.figure,
                        "unit": goal.unit,
                        "target": f"{goal.sense} {goal.bound:g}",
                        "value": middle[goal.figure],
                        "floor": middle[goal.floor] if goal.floor else None,
                        "verdict": goal.verdict(middle),
                    }
                    for goal in table.WORKS[name].goals
                ],
            }
            for name, runs in results.items()
        },
    }


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser("bench", None, __doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", action="append", choices=table.WORKS, metavar="NAME", help="all, unless given")
    parser.add_argument("--runs", type=at_least(1), default=5)
    parser.add_argument("--quick", action="store_true", help="seconds a run: shows that it works, measures nothing")
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--list", action="store_true", help="name the works")
    chosen = parser.parse_args()
    if chosen.json and not chosen.json.parent.is_dir():
        parser.error(f"argument --json: there is no folder {chosen.json.parent}")
    return chosen


def main() -> int:
    chosen = options()
    if chosen.list:
        for work in table.WORKS.values():
            print(f"{work.name:20} {work.about}")
        return 0
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that all that runs beside is ended too
    os.chdir(ROOT)  # where the service's own modules are found
    scale, results, failed = Scale(chosen.quick), {}, []
    for name in chosen.work or table.WORKS:
        try:
            results[name] = measured(table.WORKS[name], chosen.runs, scale)
        except (Wrong, AssertionError) as error:
            print(f"  failed: {type(error).__name__}: {error}", flush=True)
            failed.append(name)
        if chosen.json:  # after each: a bench that is broken off has told what it knew
            chosen.json.write_text(json.dumps(report(results, scale), indent=1))
    print()
    table.show({name: medians(runs) for name, runs in results.items()})
    if failed:
        print(f"failed: {', '.join(failed)}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
