"""All commands under one roof."""

from __future__ import annotations

import typer

from firehose.cli import about, buffer, check, deferred, new, query, schema, send, serve, streams, test
from firehose.cli.show import Commands

app = typer.Typer(
    cls=Commands,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="A self-hosted Amazon Data Firehose: records in over HTTP, durable at once, delivered in batches.",
)
app.command()(serve.serve)
app.command()(check.check)
app.command("test")(test.run)
app.command()(send.put)
app.command()(send.sample)
app.command("streams")(streams.streams)
app.command()(streams.flush)
app.command()(query.query)
app.add_typer(buffer.app, name="buffer")
app.add_typer(deferred.dead_letters, name="dead-letters")
app.add_typer(schema.app, name="schema")
app.add_typer(new.app, name="new")
app.add_typer(about.config, name="config")
app.command()(about.version)
