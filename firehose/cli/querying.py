"""What `firehose query` does: finds the objects of the streams that a query names, asks, and prints."""

from __future__ import annotations

import csv
import io
import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, astuple, dataclass, fields
from tempfile import TemporaryDirectory

import typer
from rich.console import Console
from rich.progress import DownloadColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from firehose.aws import Clients
from firehose.buffer.disk import LocalDisk
from firehose.cli.letter_text import jsonable, one_line
from firehose.cli.show import Failure, as_json, as_table, note, size
from firehose.config import Config
from firehose.lake import places
from firehose.lake.engine import Bounds, tables
from firehose.lake.places import NotThere, Object, Place
from firehose.lake.views import DamagedObjects, Views
from firehose.letters.shelf import Unreadable
from firehose.sql.engine import BadQuery

SHOWN = 10  # damaged objects that are told one by one
WAY_OUT = "--skip-damaged leaves out what cannot be read"


@dataclass(frozen=True, slots=True)
class Asked:
    """What a person wants to look at, and what that may take."""

    config: Config
    stream: str | None
    destination: str | None
    skip_damaged: bool
    memory_mib: float
    temporary_mib: float


def answer(asked: Asked, sql: str, limit: int, form: str) -> None:
    """Prints what the query comes to."""
    with _told(), ExitStack() as stack:
        views, clients = stack.enter_context(_opened(asked)), Clients()
        for stream, names in _named(sql, asked).items():
            place = places.of_stream(asked.config, stream, asked.destination, LocalDisk(), clients)
            stack.callback(place.shelf.close)
            views.add(place, _some(place), names)
        found = views.ask(sql, limit)
    _show(found.columns, found.rows, form)
    if found.cut:
        note(f"only the first {limit:,} rows; --limit for more")
    _say_what_is_missing(views)


def _named(sql: str, asked: Asked) -> dict[str, list[str]]:
    """The streams that the query reads, and what it calls each. Raises `BadQuery`, `NotThere`."""
    named: dict[str, list[str]] = {}
    for table, stream in places.meant(tables(sql), asked.config).items():
        if asked.stream not in (None, stream):
            raise NotThere(f"the query reads '{stream}', and --stream names '{asked.stream}'")
        named.setdefault(stream, []).append(table)
    return named


def _some(place: Place) -> list[Object]:
    """The objects of a stream that has any. Raises `NotThere`."""
    objects = _objects(place)
    if not objects:
        raise NotThere(place.nothing_yet())
    return objects


def _objects(place: Place) -> list[Object]:
    objects, strays = place.objects()
    if strays:
        note(f"{place.stream.name}: {strays:,} objects below {place.address} have names of another prefix: not read")
    return objects


@dataclass(frozen=True, slots=True)
class Table:
    """What there is of a stream. Types of JSON's columns are those of its first lines."""

    stream: str
    table: str
    destination: str
    objects: int
    bytes: int
    columns: dict[str, str]


def listing(asked: Asked, form: str) -> None:
    """Prints what can be asked about."""
    names = list(asked.config.streams) if asked.stream is None else [asked.stream]
    with _told():
        found = [_table(asked, name) for name in names]
    if form == "json":
        as_json([asdict(one) for one in found])
        return
    headings = [part.name for part in fields(Table)]
    columns = [", ".join(f"{label} {kind}" for label, kind in one.columns.items()) for one in found]
    rows = [(*astuple(one)[:-1], shown) for one, shown in zip(found, columns, strict=True)]
    if form == "csv":
        _show(headings, rows, form)
    else:
        as_table(headings, [(*row[:-2], size(row[-2]), one_line(row[-1]) or "-") for row in rows])


def _table(asked: Asked, stream: str) -> Table:
    with ExitStack() as stack:
        place = places.of_stream(asked.config, stream, asked.destination, LocalDisk(), Clients())
        stack.callback(place.shelf.close)
        objects, columns = _objects(place), dict[str, str]()
        if objects:
            views = stack.enter_context(_opened(asked))
            views.add(place, objects, [stream], whole=False)
            columns = dict(views.columns(stream))
    total = sum(one.stored.size_bytes for one in objects)
    return Table(stream, places.plain(stream), place.destination, len(objects), total, columns)


def _show(columns: Sequence[str], rows: Sequence[Sequence[object]], form: str) -> None:
    if form == "json":
        labels = _apart(columns)
        as_json([{label: jsonable(value) for label, value in zip(labels, row, strict=True)} for row in rows])
    elif form == "csv":
        text = io.StringIO()
        written = csv.writer(text, lineterminator="\n")
        written.writerow(columns)
        tame = one_line if sys.stdout.isatty() else str  # a program gets what there is, a terminal only text
        written.writerows([tame(_text(value)) for value in row] for row in rows)
        typer.echo(text.getvalue(), nl=False, color=True)
    else:
        shown = [[value if type(value) is int else one_line(_text(value)) for value in row] for row in rows]
        as_table([one_line(label) for label in columns], shown)


def _apart(columns: Sequence[str]) -> list[str]:
    """Columns of one name with a number behind it from the second on: an object would keep but one of them."""
    labels: list[str] = []
    for column in columns:
        ways = (column, *(f"{column}_{number}" for number in range(1, len(columns))))
        labels.append(next(label for label in ways if label not in labels))
    return labels


def _text(value: object) -> str:
    plain = jsonable(value)
    return "" if plain is None else plain if isinstance(plain, str) else json.dumps(plain, ensure_ascii=False)


def _say_what_is_missing(views: Views) -> None:
    """What was left out, on standard error."""
    for address, why in list(views.skipped.items())[:SHOWN]:
        note(f"left out: {one_line(address)}: {one_line(why)}")
    if len(views.skipped) > SHOWN:
        note(f"left out: {len(views.skipped) - SHOWN:,} more objects")
    if views.bad_lines:
        note(f"left out: {views.bad_lines:,} lines that are no JSON")


@contextmanager
def _told() -> Iterator[None]:
    """What goes wrong, in words."""
    try:
        yield
    except DamagedObjects as error:
        lines = [f"{one_line(address)}: {one_line(why)}" for address, why in list(error.found.items())[:SHOWN]]
        raise Failure("\n".join([*lines, WAY_OUT])) from error
    except BadQuery as error:
        raise Failure(f"the SQL cannot be run: {error}") from error
    except (NotThere, Unreadable) as error:
        raise Failure(str(error)) from error


@contextmanager
def _opened(asked: Asked) -> Iterator[Views]:
    """An engine, and where somebody watches, a line of what it reads."""
    console = Console(stderr=True)
    columns = (SpinnerColumn(), TextColumn("read"), DownloadColumn(binary_units=True), TimeElapsedColumn())
    with (
        TemporaryDirectory(prefix="firehose-") as folder,
        Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar,
    ):
        task = bar.add_task("", total=None)
        bounds = Bounds(asked.memory_mib, asked.temporary_mib, folder)
        views = Views(bounds, lambda size_bytes: bar.advance(task, size_bytes), asked.skip_damaged)
        try:
            yield views
        finally:
            views.close()
