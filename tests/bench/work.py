"""What a row of the table is: a named work, its goals, and how one run of it is made."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

Figures = Mapping[str, float]  # of one run, or the medians of several; by name


@dataclass(frozen=True, slots=True)
class Scale:
    """How much of everything. Quick runs take seconds: they show that the bench works, not how fast anything is."""

    quick: bool = False

    def of(self, full: int, quick: int) -> int:
        return quick if self.quick else full


@dataclass(frozen=True, slots=True)
class Goal:
    """A figure that must keep a bound. `floor` names the figure that stands beside it, `ceiling` the one that says
    how much the disk and the neighbours would have allowed: below it a missed goal is not the service's.
    """

    figure: str
    unit: str
    sense: Literal["<=", ">="]
    bound: float
    floor: str = ""
    ceiling: str = ""

    def verdict(self, figures: Figures) -> str:
        value = figures[self.figure]
        if value <= self.bound if self.sense == "<=" else value >= self.bound:
            return "met"
        if self.ceiling and figures[self.ceiling] < self.bound:
            return "not allowed here"
        return "missed"

    def ratio(self, figures: Figures) -> float | None:
        """How often the floor goes into the figure."""
        return figures[self.figure] / figures[self.floor] if self.floor and figures[self.floor] else None


@dataclass(frozen=True, slots=True)
class Work:
    """One run answers the figures that the goals name, and more to read beside them. It raises where a record is
    missing or doubled.
    """

    name: str
    about: str
    goals: tuple[Goal, ...]
    run: Callable[[Scale], Figures]


def medians(runs: Sequence[Figures]) -> dict[str, float]:
    return {name: statistics.median(run[name] for run in runs) for name in runs[0]}
