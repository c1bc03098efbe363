"""`firehose put` and `firehose sample`: records into a stream from a file, a pipe, or thin air."""

from __future__ import annotations

import asyncio
import io
import random
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from itertools import islice
from typing import Annotated, BinaryIO

import typer

from firehose import sample as samples
from firehose.cli import options
from firehose.cli.client import Client
from firehose.cli.push import Push, Pushed, advice, bodies
from firehose.cli.running import to_its_end
from firehose.cli.show import Failure, note
from firehose.runtime import Runtime

SAMPLE_BATCH = 1000  # records in one write or body, at most
PROGRESS_STEPS, PROGRESS_BYTES = 10, 16 * 1024 * 1024  # lines of progress where no terminal shows a bar
BATCHES_PER_SECOND = 10  # of a sample that is slowed down

Input = Annotated[typer.FileBinaryRead, typer.Argument(metavar="[FILE|-]", help="Lines or NDJSON; - is the input.")]


class Shape(StrEnum):
    """What sample records look like."""

    json = "json"
    access = "access"


def put(
    stream: options.StreamName,
    file: Input = "-",  # type: ignore[assignment]
    config: options.ServiceConfig = None,
    url: options.Url = None,
    api_key: options.ApiKey = None,
    body_kib: Annotated[int, typer.Option(min=1, max=65536, help="Size of one request's body.")] = 1024,
    from_offset: Annotated[int, typer.Option("--from", min=0, help="Begin at this byte, to go on.")] = 0,
    patience_seconds: Annotated[float, typer.Option(min=0, help="How long to wait while it answers 503.")] = 600,
) -> None:
    """Post the lines of a file to a stream, without ever sending a body twice that may have been stored.

    Each line is a record, or one JSON object. When the connection breaks, the command says what was acknowledged and
    how to go on.
    """
    total = _begun_at(file, from_offset)
    if total is not None and from_offset > total:
        raise typer.BadParameter(f"--from {from_offset} is behind the end of the input, which has {total} bytes")
    pushed = Pushed(offset=from_offset)
    client = Client(options.service(config, url, api_key))
    with _progress(pushed, total) as report:
        push = Push(client, stream, pushed, report, patience_seconds)
        stopped = to_its_end(_push(push, bodies(file, body_kib * 1024)))
    if stopped:
        raise Failure(f"{stopped}\n{advice(pushed)}")
    typer.echo(f"{pushed.accepted} records accepted, {pushed.rejected} rejected")


def sample(
    count: Annotated[int, typer.Option(min=0, help="How many records; 0: without end.")] = 1000,
    rate: Annotated[float, typer.Option(min=0, help="Records a second; 0: as fast as it goes.")] = 0,
    seed: Annotated[int, typer.Option(help="The same seed makes the same bytes.")] = 1,
    shape: Annotated[Shape, typer.Option("--format", help="JSON events, or lines of an access log.")] = Shape.json,
    stream: Annotated[str | None, typer.Option(help="Post them to this stream instead of printing them.")] = None,
    config: options.ServiceConfig = None,
    url: options.Url = None,
    api_key: options.ApiKey = None,
) -> None:
    """Make log records that look real: on standard output, or into a stream, at a rate."""
    make = samples.events if shape is Shape.json else samples.access_lines
    records = make(random.Random(seed))
    batches = paced(islice(records, count) if count else records, rate, Runtime())
    if stream is None:
        asyncio.run(_print(batches))
        return
    pushed = Pushed()
    client = Client(options.service(config, url, api_key))
    stopped = to_its_end(_push(Push(client, stream, pushed, lambda reason: None), batches))
    if stopped:
        raise Failure(f"{stopped}\n{pushed.accepted} records were acknowledged")
    typer.echo(f"{pushed.accepted} records accepted, {pushed.rejected} rejected")


async def paced(records: Iterator[bytes], rate: float, runtime: Runtime) -> AsyncIterator[bytes]:
    """Records joined into batches of lines; with a rate, each as late as that rate wants it."""
    batch = min(SAMPLE_BATCH, max(1, round(rate / BATCHES_PER_SECOND))) if rate else SAMPLE_BATCH
    began, made = runtime.monotonic(), 0
    while lines := list(islice(records, batch)):
        if rate:
            await asyncio.sleep(max(0.0, began + made / rate - runtime.monotonic()))
        made += len(lines)
        yield b"\n".join(lines) + b"\n"


def _begun_at(file: BinaryIO, offset: int) -> int | None:
    """Moves to the offset; the file's size, or None where it has none."""
    try:
        total = file.seek(0, io.SEEK_END)
        file.seek(offset)
        return total
    except (OSError, ValueError):  # a pipe: what lies before the offset is read and passed over
        while offset and (skipped := len(file.read(min(offset, 1 << 20)))):
            offset -= skipped
        return None


@contextmanager
def _progress(pushed: Pushed, total: int | None) -> Iterator[Callable[[str], None]]:
    """On standard error a bar where somebody watches, else a line now and then. Takes reports of a `Push`."""
    from rich import progress  # as in `show`
    from rich.console import Console

    console = Console(stderr=True)
    columns = (
        progress.BarColumn(),
        progress.DownloadColumn(binary_units=True),
        progress.TextColumn("{task.fields[records]:,} records"),
        progress.TransferSpeedColumn(),
        progress.TimeRemainingColumn(),
        progress.TextColumn("{task.description}"),
    )
    with progress.Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task("", total=total, completed=pushed.offset, records=0)
        step = max(PROGRESS_BYTES, (total or 0) // PROGRESS_STEPS)
        due = pushed.offset + step

        def report(waiting_for: str) -> None:
            nonlocal due
            said = f"waiting: {waiting_for}" if waiting_for else ""
            bar.update(task, completed=pushed.offset, records=pushed.accepted, description=said)
            if said and not console.is_terminal:
                note(said)
            elif pushed.offset >= due and not console.is_terminal:
                due = pushed.offset + step
                note(f"{pushed.accepted:,} records acknowledged, and the input's bytes before {pushed.offset}")

        yield report


async def _push(push: Push, source: AsyncIterator[bytes]) -> None:
    async with push.client:
        await push.run(source)


async def _print(batches: AsyncIterator[bytes]) -> None:
    async for batch in batches:
        sys.stdout.buffer.write(batch)
        sys.stdout.buffer.flush()
