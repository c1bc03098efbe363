"""`firehose version` and `firehose config schema`."""

from __future__ import annotations

import typer

from firehose import __version__
from firehose.cli.show import as_json

config = typer.Typer(no_args_is_help=True, help="What a configuration file may say.")


@config.callback()
def _config() -> None:
    """Keeps `schema` a command of its own: typer would fold a group of one into its parent."""


@config.command()
def schema() -> None:
    """Print the JSON Schema of the configuration file, for editors. Plug-ins that are installed are in it."""
    from firehose import config_schema

    as_json(config_schema.schema())


def version() -> None:
    """Print the version."""
    typer.echo(__version__)
