"""`firehose dead-letters`, loaded once somebody asks for it: what reads letters, DuckDB above all, would cost a service
that starts 20 MB of memory and never be used.
"""

from __future__ import annotations

from typing import Any

import typer
from typer.core import TyperGroup


class DeadLetters(TyperGroup):
    """The commands of another file."""

    def list_commands(self, ctx: Any) -> list[str]:
        return list(self._loaded().commands)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        return self._loaded().get_command(ctx, cmd_name)

    def _loaded(self) -> TyperGroup:
        from firehose.cli import replay

        return typer.main.get_group(replay.app)


dead_letters = typer.Typer(
    cls=DeadLetters,
    no_args_is_help=True,
    help="Look into the error output, what could not be delivered and why, and bring it back.",
)


@dead_letters.callback()
def _dead_letters() -> None:
    """Makes a group of what has no commands yet."""
