"""`firehose schema`: the versions of a stream's schema as they lie in the data folder, whether the service runs or not.

`pin` writes one small file, which the running service takes up at its next batch; nothing else here writes.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Annotated

import typer

from firehose.buffer.disk import LocalDisk
from firehose.cli import options, schema_text
from firehose.cli.show import Failure, as_json, as_table, note
from firehose.config import Config
from firehose.contracts import Retry
from firehose.hive_type import Scalar
from firehose.partitioning.columns import Column
from firehose.schemas import differences, versions
from firehose.schemas.source import SchemaVersion
from firehose.schemas.versions import Versions
from firehose.stream_config import DestinationBlock, StreamConfig
from firehose.table_schema import TableSchema

app = typer.Typer(no_args_is_help=True, help="Look into a stream's schema, how it grew, and whether it may grow on.")
Number = Annotated[int | None, typer.Option("--version", metavar="N", min=1, help="A version; else the newest.")]
Place = Annotated[
    str | None, typer.Option(metavar="NAME", help="Which destination, where several have a schema of their own.")
]
Version = Annotated[int | None, typer.Argument(metavar="[N]", min=0, help="A version; 0 has no column.")]
Yaml = Annotated[bool, typer.Option("--yaml", help="Print columns for the configuration: format: {schema: ...}.")]
Ddl = Annotated[bool, typer.Option("--ddl", help="Print CREATE EXTERNAL TABLE, as Hive and Athena read it.")]


@dataclass(frozen=True, slots=True)
class Kept:
    """The schema of one destination."""

    stream: str
    destination: str
    block: DestinationBlock | None  # None where the configuration has no such destination any more
    versions: Versions
    numbers: list[int]
    folders: tuple[str, ...]  # the names of those that dynamic partitions by column make there

    @property
    def newest(self) -> int:
        return self.numbers[-1]

    def version(self, number: int | None) -> SchemaVersion:
        number = self.newest if number is None else number
        if number and number not in self.numbers:
            there = ", ".join(map(str, self.numbers))
            raise Failure(
                f"{self.stream} at {self.destination} has no version {number} of its schema; there is {there}"
            )
        return self.versions.read(number)


@app.command()
def show(
    stream: options.StreamName,
    version: Number = None,
    destination: Place = None,
    config: options.ConfigFile = None,
    json: options.Json = False,
    yaml: Yaml = False,
    ddl: Ddl = False,
) -> None:
    """Print the columns of a schema, and since when they are as they are."""
    if json + yaml + ddl > 1:
        raise typer.BadParameter("choose one of --json, --yaml and --ddl")
    with _told():
        kept = _kept(options.loaded(config), stream, destination)
        found, pinned = kept.version(version), kept.versions.pinned()
        said = kept.versions.note(found.number)
    if yaml:
        typer.echo(schema_text.yaml(found.schema))
        return
    schema = _with_rescued(found.schema, said.get("rescued"))
    if json:
        whose = {"stream": stream, "destination": kept.destination, "version": found.number}
        state = {"newest": kept.newest, "pinned": pinned, "since": said.get("since")}
        as_json({**whose, **state, "columns": schema.types()})
    elif ddl:
        typer.echo(schema_text.ddl(stream, schema, kept.block, kept.folders))
    else:
        as_table(("column", "type"), list(schema.types().items()))
        stays = f", pinned to version {pinned}" if pinned else ""
        which = f"version {found.number} of {kept.newest}, since {said.get('since')}"
        note(f"{stream} at {kept.destination}: {which}{stays}")


@app.command()
def diff(
    stream: options.StreamName,
    old: Version = None,
    new: Version = None,
    destination: Place = None,
    config: options.ConfigFile = None,
) -> None:
    """Print how one version differs from another, line by line: + what is new, - what is gone, ~ what changed.

    Without versions, what the newest one brought; with one, what came since.
    """
    with _told():
        kept = _kept(options.loaded(config), stream, destination)
        after = kept.version(new)
        before = kept.version(max(after.number - 1, 0) if old is None else old)
    for difference in differences.between(before.schema, after.schema):
        typer.echo(str(difference))
    note(f"{stream} at {kept.destination}: version {before.number} to {after.number}")


@app.command()
def pin(
    stream: options.StreamName,
    version: Number = None,
    unpin: Annotated[bool, typer.Option("--unpin", help="Follow the newest version again, and let it grow.")] = False,
    destination: Place = None,
    config: options.ConfigFile = None,
) -> None:
    """Have all batches from the next one on follow one version. What it lacks goes to the column `_rescued`."""
    if unpin and version is not None:
        raise typer.BadParameter("choose one of --version and --unpin")
    with _told():
        kept = _kept(options.loaded(config), stream, destination)
        number = None if unpin else kept.version(version).number
        kept.versions.pin(number)
    what = "follows the newest version, which may grow" if unpin else f"stays with version {number} of its schema"
    typer.echo(f"{stream} at {kept.destination} {what}")


def _kept(config: Config, stream: str, destination: str | None) -> Kept:
    """The one that is meant."""
    found = list(_all(config, stream))
    names = ", ".join(kept.destination for kept in found)
    if destination is not None:
        found = [kept for kept in found if kept.destination == destination]
    if len(found) > 1:
        raise typer.BadParameter(f"{stream} has a schema at each of {names}: choose one with --destination")
    if not found and names:
        raise Failure(f"{stream} has no schema at {destination}; it has one at {names}")
    if not found:
        raise Failure(
            f"{stream} has no schema in {config.service.data_dir}: with schema: infer, its first batch makes one; "
            "columns that are given stand in the configuration"
        )
    return found[0]


def _all(config: Config, stream: str) -> Iterator[Kept]:
    """The schemas of a stream, also at destinations that the configuration does not have any more."""
    disk, data_dir = LocalDisk(), config.service.data_dir
    known = config.streams.get(stream)
    blocks = known.destinations if known else {}
    for name in versions.destinations(disk, data_dir, stream):
        there = Versions(disk, versions.folder(data_dir, stream, name))
        if numbers := there.numbers():
            block = blocks.get(name)
            yield Kept(stream, name, block, there, numbers, _folders(known, block) if known and block else ())


def _folders(stream: StreamConfig, block: DestinationBlock) -> tuple[str, ...]:
    options = stream.options.dynamic_partitioning
    return tuple(Column.parsed(text).name for text in options.columns) if options and stream.partitions(block) else ()


def _with_rescued(schema: TableSchema, rescued: str | None) -> TableSchema:
    """As objects have it."""
    return TableSchema((*schema.columns, (rescued, Scalar("string")))) if rescued else schema


@contextmanager
def _told() -> Iterator[None]:
    """What is wrong with the files, in words."""
    try:
        yield
    except Retry as error:
        raise Failure(error.reason) from error
