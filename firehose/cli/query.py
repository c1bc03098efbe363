"""`firehose query`: SQL over what was delivered. What does it, DuckDB above all, is loaded once somebody asks."""

from __future__ import annotations

from typing import Annotated

import typer

from firehose.cli import options

Sql = Annotated[
    str | None,
    typer.Argument(metavar="[SQL]", help='"select status, count(*) from app_logs group by 1"; without: what there is.'),
]


def query(
    sql: Sql = None,
    config: options.ConfigFile = None,
    stream: Annotated[str | None, typer.Option(metavar="STREAM", help="Only this stream.")] = None,
    destination: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="What this destination of it delivered.  [default: its first of objects]"),
    ] = None,
    json: options.Json = False,
    csv: Annotated[bool, typer.Option("--csv", help="Print CSV instead of a table.")] = False,
    limit: Annotated[int, typer.Option(min=1, max=10_000_000, help="How many rows at most.")] = 1000,
    skip_damaged: Annotated[
        bool, typer.Option("--skip-damaged", help="Leave out objects, and lines, that cannot be read.")
    ] = False,
    memory_mib: Annotated[float, typer.Option(min=64, max=1 << 20, help="Memory that it may take.")] = 1024,
    temporary_mib: Annotated[
        float, typer.Option(min=0, max=1 << 30, help="Disk, under TMPDIR, for what does not fit into memory.")
    ] = 10_240,
) -> None:
    """Run a query in DuckDB's SQL over delivered objects: every stream is a table under its name, in which `-` and `.`
    may be written `_`. Without SQL, list the tables.
    """
    from firehose.cli.querying import Asked, answer, listing

    if json and csv:
        raise typer.BadParameter("give --json or --csv, not both")
    if destination is not None and stream is None:
        raise typer.BadParameter("--destination belongs to one stream: give --stream too")
    asked = Asked(options.loaded(config), stream, destination, skip_damaged, memory_mib, temporary_mib)
    form = "json" if json else "csv" if csv else "table"
    if sql is None:
        listing(asked, form)
    else:
        answer(asked, sql, limit, form)
