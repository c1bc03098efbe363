"""How the commands speak: tables for people, JSON for programs, failures in words. Answers go to standard output,
everything else to standard error, so that output can be piped on.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from typing import Any

import typer
from typer.core import TyperGroup

from firehose.model import NewerFormat
from firehose.yaml_file import ConfigError

PIPE_WIDTH = 500  # columns of a table that no terminal bounds: nothing is cut or folded


class Failure(Exception):
    """The command did not succeed; the message says why and what to do. Exit status 1."""


class Commands(TyperGroup):
    """All commands. What a person can mend is told without a traceback."""

    def invoke(self, ctx: Any) -> Any:  # typer's own Context, whose class moved between its versions
        try:
            return super().invoke(ctx)
        except (Failure, ConfigError, NewerFormat) as error:
            note(str(error))
        except KeyboardInterrupt:
            pass  # whoever pressed it knows
        raise typer.Exit(1)


def note(text: str) -> None:
    """A line on standard error."""
    typer.echo(text, err=True)


def as_json(value: Any) -> None:
    typer.echo(json.dumps(value, indent=2))


def as_table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Numbers stand to the right. Cells are text, never markup: a stream may be called `[bold]` for all we know."""
    from rich import box  # 4 MB, of no use to a service
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    cells = list(rows)
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for index, column in enumerate(columns):
        numbers = bool(cells) and all(isinstance(row[index], int) for row in cells)
        table.add_column(column, justify="right" if numbers else "left", overflow="fold", no_wrap=index == 0)
    for row in cells:
        table.add_row(*(Text(f"{cell:,}" if isinstance(cell, int) else str(cell)) for cell in row))
    Console(width=None if sys.stdout.isatty() else PIPE_WIDTH, highlight=False).print(table)


def age(seconds: float | None) -> str:
    """A span of time, short: `4.2s`, `12m`, `3h`, `2d`; a dash where there is none."""
    if seconds is None:
        return "-"
    if seconds < 60:
        return f"{seconds:.1f}s"
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds >= 2 * size or unit == "m":
            return f"{seconds / size:.0f}{unit}"
    raise AssertionError("minutes end the loop")


def size(count: int) -> str:
    """Bytes, short: `512 B`, `1.5 MiB`."""
    value = float(count)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if value < 1024:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1024
    return f"{value:.1f} TiB"
