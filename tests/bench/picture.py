"""Draws what the bench wrote: each figure of CPU beside the machine's floor of the same run.

python -m bench --work ingest-100 --work ingest-1-64 --json figures.json
python -m bench.picture figures.json docs/performance.svg
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from plot import Bar, Chart, bars, page

FLOOR, FIGURE = 1, 0  # colours
NOTE = (
    "Blue: the whole service, both processes. Orange: the floor, measured right after it with the same load on bare"
    " servers and a bare disk. The mark is one and a half times the floor. Medians; 2 shared cores."
)


def chart(name: str, work: Mapping[str, Any]) -> Chart | None:
    """The work's goals that have a floor; None where it has none."""
    rows = []
    for goal in work["goals"]:
        if goal["floor"] and goal["unit"].startswith("CPU"):
            rows.append(Bar("service", round(goal["value"], 2), target=1.5 * goal["floor"], colour=FIGURE))
            rows.append(Bar("floor", round(goal["floor"], 2), colour=FLOOR))
    unit = next((goal["unit"] for goal in work["goals"] if goal["floor"]), "")
    return bars(f"{name}: {work['about']}", unit, rows) if rows else None


def main() -> None:
    figures, picture = map(Path, sys.argv[1:])
    works = json.loads(figures.read_text())["works"]
    charts = [drawn for name, work in works.items() if (drawn := chart(name, work))]
    picture.write_text(page("CPU beside the machine's floor", charts, NOTE))


if __name__ == "__main__":
    main()
