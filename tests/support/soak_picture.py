"""The samples of a soak as a picture."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import plot
from plot import Line

Sample = dict[str, Any]
POINTS = 360


def draw(samples: Sequence[Sample], said: str) -> str:
    """Memory, descriptors and threads, what is buffered, and rates. The part with kills is shaded."""
    samples = samples[:: max(1, len(samples) // POINTS)]
    minutes = samples[-1]["seconds"] / 60
    kills = [(0.0, minutes / 3, "kills")]
    charts = [
        plot.lines("memory", "MiB", [_line(samples, "memory_mib")], "min", kills),
        plot.lines(
            "descriptors and threads", "", [_line(samples, "descriptors"), _line(samples, "threads")], "min", kills
        ),
        plot.lines("buffered", "MB", [_line(samples, "buffered_bytes", 1e-6)], "min", kills),
        plot.lines("records", "per second", [_rate(samples, *one) for one in COUNTED], "min", kills),
        plot.lines("faults of the store", "so far", [_line(samples, "faults")], "min", kills),
    ]
    return plot.page(f"Soak: {minutes:.0f} minutes", charts, said)


COUNTED = (("acknowledged", "acknowledged"), ("delivered", "delivered_records_total"))


def _line(samples: Sequence[Sample], key: str, scale: float = 1) -> Line:
    return Line(key, [(one["seconds"] / 60, one[key] * scale) for one in samples])


def _rate(samples: Sequence[Sample], name: str, key: str) -> Line:
    """Left out where the count has fallen: while the delivery half is away it tells nothing."""
    told = [(before, one) for before, one in pairwise(samples) if one[key] >= before[key] > 0]
    return Line(name, [(one["seconds"] / 60, _per_second(before, one, key)) for before, one in told])


def _per_second(before: Sample, one: Sample, key: str) -> float:
    return float((one[key] - before[key]) / (one["seconds"] - before["seconds"]))
