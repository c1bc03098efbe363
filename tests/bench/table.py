"""Every work that the bench knows, and the table of what came of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from bench import (
    backlog,
    columns,
    data_streams,
    endpoints,
    fan_out,
    footprint,
    hooks,
    latency,
    many,
    overload,
    search,
    shard_logs,
    staging,
    syncing,
    throughput,
    transforms,
)
from bench.work import Figures, Work
from rich.console import Console
from rich.table import Table

FAMILIES = (
    throughput,
    latency,
    footprint,
    many,
    backlog,
    syncing,
    overload,
    transforms,
    hooks,
    columns,
    search,
    shard_logs,
    data_streams,
    fan_out,
    staging,
    endpoints,
)
WORKS: dict[str, Work] = {work.name: work for family in FAMILIES for work in family.WORKS}
COLOURS = {"met": "green", "missed": "red", "not allowed here": "yellow"}


def number(value: float) -> str:
    """Three digits that matter."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def one_line(figures: Figures, work: Work) -> str:
    """A run's goals, for those who wait."""
    parts = []
    for goal in work.goals:
        floor = f" (floor {number(figures[goal.floor])})" if goal.floor else ""
        parts.append(f"{number(figures[goal.figure])} {goal.unit}{floor}")
    return ", ".join(parts)


def rows(results: Mapping[str, Figures]) -> Iterator[tuple[str, ...]]:
    """Work, figure with its unit, target, floor, ratio, verdict: a line for each goal."""
    for name, figures in results.items():
        for index, goal in enumerate(WORKS[name].goals):
            ratio = goal.ratio(figures)
            yield (
                "" if index else name,
                goal.unit,
                f"{goal.sense} {number(goal.bound)}",
                number(figures[goal.figure]),
                number(figures[goal.floor]) if goal.floor else "",
                "" if ratio is None else f"{ratio:.2f}",
                goal.verdict(figures),
            )


def show(results: Mapping[str, Figures]) -> None:
    table = Table(box=None, pad_edge=False)
    for title in ("work", "figure", "target", "median", "floor", "ratio", ""):
        table.add_column(title, justify="right" if title in ("target", "median", "floor", "ratio") else "left")
    for *cells, verdict in rows(results):
        table.add_row(*cells, f"[{COLOURS[verdict]}]{verdict}")
    Console(width=None if Console().is_terminal else 140).print(table)
