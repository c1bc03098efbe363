"""One stream to several destinations: what two more folders cost beside one."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from bench.columns import GIVEN, LARGE, LINES, cpu_of
from bench.work import Figures, Goal, Scale, Work


def three(scale: Scale, *, options: Mapping[str, Any]) -> Figures:
    """The same load to one folder and to three of the same format, every object of each checked."""
    one = cpu_of(scale, folders=1, buffering=LARGE, destination_options=options)
    all_three = cpu_of(scale, folders=3, buffering=LARGE, destination_options=options)
    return {"cpu_s_per_gb": all_three, "one_cpu_s_per_gb": one, "ratio": all_three / one}


WORKS = tuple(
    Work(
        name,
        f"three folders of {what}, against one",
        (Goal("ratio", "of the CPU of one", "<=", 2.2),),
        partial(three, options=options),
    )
    for name, what, options in (
        ("fanout-3", "JSON lines in gzip", LINES),
        ("fanout-3-parquet", "Parquet", GIVEN),
    )
)
