"""`firehose new`: a first file of one's own, with comments, that works as it is.

What is written is for people to change; it must pass `firehose test`, and a linter, from the first moment.
"""

from __future__ import annotations

import sys
from enum import StrEnum
from importlib.util import find_spec
from keyword import iskeyword
from pathlib import Path
from shlex import quote
from typing import Annotated

import typer

from firehose.cli import templates
from firehose.cli.show import Failure, note

app = typer.Typer(no_args_is_help=True, help="Write a first file of your own.")


class Style(StrEnum):
    """How a transform is called."""

    record = "record"
    lambda_ = "lambda"
    batch = "batch"


@app.callback()
def _new() -> None:
    """Keeps `transform` a command of its own: typer would fold a group of one into its parent."""


@app.command()
def transform(
    name: Annotated[str, typer.Argument(metavar="NAME", help="What to call it: the module, and so the file.")],
    style: Annotated[Style, typer.Option(help="Called with a record, as an AWS Lambda, or with an Arrow table.")] = (
        Style.record
    ),
    path: Annotated[Path, typer.Option(metavar="DIR", help="The folder to write to.")] = Path("hooks"),
) -> None:
    """Write DIR/NAME.py, a transform with comments, with cases that try it and a configuration to try it with.

    The block for your own configuration is printed.
    """
    _usable(name)
    made = templates.transform(name, style.value, str(path))
    files = {path / file: text for file, text in made.files.items()}
    for file in files:
        if file.exists():
            raise Failure(f"{file} exists already; choose another name, or remove it")
    try:
        path.mkdir(parents=True, exist_ok=True)
        for file, text in files.items():
            with file.open("x", encoding="utf-8") as new:
                new.write(text)
            note(f"written: {file}")
    except OSError as error:
        raise Failure(f"{error.filename} cannot be written: {error.strerror}") from error
    note(f"\nTry it:     firehose test -c {quote(f'{path / name}.yaml')}\n\nUse it, as one of a stream's transforms:\n")
    typer.echo(made.block)


def _usable(name: str) -> None:
    """A module can be called so, and is the one that is imported by that name."""
    if not name.isidentifier() or iskeyword(name) or not name.isascii():
        raise typer.BadParameter(f"'{name}' can be no module's name: letters, digits and _ make one, such as my_logs")
    if name in sys.stdlib_module_names or name in sys.modules or find_spec(name) is not None:
        raise typer.BadParameter(f"Python has a module '{name}' already, and would import that one; choose another")
