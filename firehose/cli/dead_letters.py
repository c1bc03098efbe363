"""`firehose dead-letters`: what could not be delivered, why, and what it said."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from tempfile import TemporaryDirectory
from typing import Annotated

import typer
from pydantic import ValidationError
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn

from firehose.aws import Clients
from firehose.buffer.disk import LocalDisk
from firehose.cli import options
from firehose.cli.letter_text import jsonable, one_line, paragraph, when
from firehose.cli.show import Failure, as_json, as_table, note, size
from firehose.letters import places
from firehose.letters.letter import Damage, Letter
from firehose.letters.places import Place
from firehose.letters.shelf import Unreadable
from firehose.letters.summary import Summary
from firehose.letters.table import BadSql, Condition, Database, batches, table

app = typer.Typer(rich_markup_mode=None)  # `deferred` says the rest
Stream = Annotated[str | None, typer.Option(metavar="STREAM", help="Only this stream's.")]
From = Annotated[
    str | None,
    typer.Option("--from", metavar="PLACE", help="Instead of -c: s3://bucket/prefix, a folder or a file."),
]
EndpointUrl = Annotated[str | None, typer.Option(metavar="URL", help="Of the store of --from; AWS where left out.")]
Region = Annotated[str | None, typer.Option(metavar="REGION", help="Of the bucket of --from.")]
Where = Annotated[str | None, typer.Option(metavar="SQL", help="Only these, such as \"reason like 'Lambda.%'\".")]
COLUMNS = ("stream", "error type", "reason", "letters", "size", "oldest", "newest", "for example")
DAMAGE_SHOWN = 10
STEP_LETTERS = 100_000
EXAMPLE_CHARACTERS = 100


@dataclass(slots=True)
class Read:
    """What has been read so far."""

    objects: int = 0
    letters: int = 0
    damaged: int = 0
    damage: list[Damage] = field(default_factory=list)  # the first few

    def complain(self) -> None:
        """Fails where anything was damaged."""
        if self.damaged:
            more = self.damaged - len(self.damage)
            lines = [*map(one_line, map(str, self.damage)), *([f"and {more:,} more"] if more else [])]
            raise Failure("\n  ".join([f"passed over, because damaged: {self.damaged:,}", *lines]))


@app.command("ls")
def ls(
    config: options.ConfigFile = None,
    stream: Stream = None,
    from_: From = None,
    endpoint_url: EndpointUrl = None,
    region: Region = None,
    json: options.Json = False,
) -> None:
    """Count the dead letters by stream, error type and reason."""
    summary = Summary()
    with opened(config, stream, from_, endpoint_url, region) as found, progress() as report:
        read = Read()
        for letter in letters(found, read, report):
            summary.add(letter)
    if json:
        as_json([asdict(kind) for kind in summary])
    elif read.letters:
        as_table(COLUMNS, [
            (
                *map(one_line, (kind.stream or "-", kind.error_type or "-", kind.reason or "-")),
                kind.letters,
                size(kind.size_bytes),
                when(kind.oldest_ms),
                when(kind.newest_ms),
                one_line(kind.example)[:EXAMPLE_CHARACTERS],
            )
            for kind in summary
        ])  # fmt: skip
    else:
        note(f"no dead letters in {', '.join(place.shelf.address(place.under) for place in found)}")
    read.complain()


@app.command()
def show(
    object: Annotated[str, typer.Argument(metavar="[OBJECT[:LINE]]", help="Or what objects' names begin with.")] = "",
    config: options.ConfigFile = None,
    stream: Stream = None,
    from_: From = None,
    endpoint_url: EndpointUrl = None,
    region: Region = None,
    where: Where = None,
    limit: Annotated[int, typer.Option(min=1, help="How many at most.")] = 20,
    raw: Annotated[bool, typer.Option("--raw", help="Print the records themselves, byte for byte.")] = False,
    json: options.Json = False,
) -> None:
    """Print dead letters: what became of each, and the record itself."""
    read, shown = Read(), list[Letter]()
    with opened(config, stream, from_, endpoint_url, region) as found, ExitStack() as stack:
        for letter in chosen(letters(found, read, under=object), where, stack):
            if raw:
                typer.get_binary_stream("stdout").write(letter.data)
            elif json:
                shown.append(letter)
            else:
                typer.echo(paragraph(letter))
            limit -= 1
            if not limit:
                break
    if json:
        as_json([jsonable(row) for row in table(shown).to_pylist()])
    read.complain()


@app.command()
def sql(
    query: Annotated[str, typer.Argument(metavar="SQL", help='"select reason, count(*) from letters group by 1"')],
    config: options.ConfigFile = None,
    stream: Stream = None,
    from_: From = None,
    endpoint_url: EndpointUrl = None,
    region: Region = None,
    limit: Annotated[int, typer.Option(min=1, max=1_000_000, help="How many rows at most.")] = 1000,
    json: options.Json = False,
) -> None:
    """Run a query in DuckDB's SQL over the table `letters`: object, line, stream, error_type, reason, message,
    attempts, arrived_at, ended_at, function, data, size_bytes and details, which is the rest of the document as JSON.
    """
    read = Read()
    with ExitStack() as stack:
        found = stack.enter_context(opened(config, stream, from_, endpoint_url, region))
        database = Database(f"{stack.enter_context(TemporaryDirectory(prefix='firehose-'))}/letters.duckdb")
        stack.callback(database.close)
        database.prepare(query)  # a mistake is told before everything is read
        with progress() as report:
            for few in batches(letters(found, read, report)):
                database.add(few)
        answer = database.ask(query, limit)
    rows = [[jsonable(value) for value in row] for row in answer.rows]
    if json:
        as_json([dict(zip(answer.columns, row, strict=True)) for row in rows])
    else:
        as_table(
            answer.columns, [[one_line(value) if isinstance(value, str) else value for value in row] for row in rows]
        )
    if answer.cut:
        note(f"only the first {limit:,} rows; --limit for more")
    read.complain()


@contextmanager
def opened(
    config: str | None, stream: str | None, place: str | None, endpoint_url: str | None, region: str | None
) -> Iterator[list[Place]]:
    """The places to read, all closed in the end; what goes wrong with them is told in words."""
    if (config is None) == (place is None):
        raise typer.BadParameter("name the configuration with -c FILE, or a place with --from: one of the two")
    if place is None and (endpoint_url is not None or region is not None):
        raise typer.BadParameter("--endpoint-url and --region belong to --from; an errors block has its own")
    with ExitStack() as stack:
        try:
            found = list(_places(config, stream, place, endpoint_url, region))
            for one in found:
                stack.callback(one.shelf.close)
            yield found
        except Unreadable as error:
            raise Failure(str(error)) from error
        except BadSql as error:
            raise Failure(f"the SQL cannot be run: {error}") from error


def _places(
    config: str | None, stream: str | None, place: str | None, endpoint_url: str | None, region: str | None
) -> Iterator[Place]:
    disk, clients = LocalDisk(), Clients()
    if place is None:
        yield from places.of_config(options.loaded(config), stream, disk, clients)
        return
    try:
        yield places.named(place, endpoint_url, region, stream, disk, clients)
    except ValidationError:
        raise typer.BadParameter("give a URL such as http://127.0.0.1:9000", param_hint="--endpoint-url") from None


def letters(
    found: list[Place], read: Read, report: Callable[[Read], None] = lambda read: None, under: str = ""
) -> Iterator[Letter]:
    """All letters of the places: of one object, or line of it, or of the objects whose names begin so, where `under`
    says so. Counts them, and keeps what is damaged.
    """
    name, line = _spot(under)
    for place in found:
        for item in place.items(name):
            if line and item.name != name:
                continue
            read.objects += 1
            for one in place.letters(item.name):
                if line not in (0, one.line):
                    continue
                if isinstance(one, Damage):
                    read.damaged += 1
                    read.damage += [one] if len(read.damage) < DAMAGE_SHOWN else []
                else:
                    read.letters += 1
                    yield one
            report(read)


def _spot(text: str) -> tuple[str, int]:
    """Name and line of OBJECT[:LINE]; line 0 where there is none."""
    name, _, line = text.rpartition(":")
    return (name, int(line)) if name and line.isascii() and line.isdigit() else (text, 0)


def chosen(found: Iterator[Letter], where: str | None, stack: ExitStack) -> Iterator[Letter]:
    """Those that the condition is true of. Raises `BadSql`, at once where that can be."""
    if where is None:
        return found
    condition = Condition(where)
    stack.callback(condition.close)
    return (letter for few in batches(found) for letter in condition.chosen(few))


@contextmanager
def progress() -> Iterator[Callable[[Read], None]]:
    """On standard error: a line that changes where somebody watches, else one now and then."""
    console = Console(stderr=True)
    columns = (SpinnerColumn(), TextColumn("{task.fields[objects]:,} objects, {task.fields[letters]:,} letters read"))
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("", total=None, objects=0, letters=0)
        due = STEP_LETTERS

        def report(read: Read) -> None:
            nonlocal due
            bar.update(task, objects=read.objects, letters=read.letters)
            if read.letters >= due and not console.is_terminal:
                due = read.letters + STEP_LETTERS
                note(f"{read.objects:,} objects, {read.letters:,} letters read")

        yield report
