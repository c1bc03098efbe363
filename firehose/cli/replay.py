"""`firehose dead-letters replay`: dead letters back into a stream, each once however often it is run."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from time import monotonic
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from firehose.cli import dead_letters, options
from firehose.cli.client import Client
from firehose.cli.letter_text import one_line
from firehose.cli.replaying import BODY_BYTES, Back, Found, Replay, Tally, bodies
from firehose.cli.running import to_its_end
from firehose.cli.show import Failure, as_json, as_table, note, size
from firehose.letters.chosen import Chosen, objects
from firehose.letters.table import Condition

PROGRESS_BYTES = 16 * 1024 * 1024  # of letters, between lines of progress where no terminal shows a bar

app = dead_letters.app


@app.command()
def replay(
    config: options.ServiceConfig = None,
    where: dead_letters.Where = None,
    stream: dead_letters.Stream = None,
    to: Annotated[str | None, typer.Option(metavar="STREAM", help="Into this one, not where they come from.")] = None,
    from_: dead_letters.From = None,
    endpoint_url: dead_letters.EndpointUrl = None,
    region: dead_letters.Region = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be replayed, and change nothing.")] = False,
    url: options.Url = None,
    api_key: options.ApiKey = None,
    body_kib: Annotated[int, typer.Option(min=1, max=65536, help="Size of one request's data.")] = BODY_BYTES // 1024,
    patience_seconds: Annotated[float, typer.Option(min=0, help="How long to wait for the service.")] = 600,
    json: options.Json = False,
) -> None:
    """Post the records of dead letters into their stream again, or into another one. A stream takes each letter once.

    Killed in the middle, or run twice, or twice at a time, it stores nothing twice: the service knows which letters
    each of its streams has had back. With --from, -c says only where the service is.
    """
    began, tally = monotonic(), Tally()
    with dead_letters.opened(config if from_ is None else None, stream, from_, endpoint_url, region) as places:
        chosen = Chosen(objects(places), Condition(where) if where is not None else None)
        found = _found(chosen, to or stream)
        run = Replay(Client(options.service(config, url, api_key)), tally, dry_run, patience_seconds)
        stopped = to_its_end(_replay(run, found, chosen, body_kib * 1024))
    _tell(tally, chosen, dry_run, monotonic() - began, json)
    if stopped:
        raise Failure(f"{stopped}\nNothing is lost and nothing comes twice: run it again to go on")
    if tally.refused or chosen.damaged:
        raise Failure(f"{tally.refused:,} letters were refused, {chosen.damaged:,} damaged places were passed over")


def _found(chosen: Chosen, target: str | None) -> Iterator[Found]:
    """Each letter, and the stream that it goes into: `target`, or where it comes from."""
    nameless = [one.address for one in chosen.objects if not (target or one.stream)]
    if nameless:
        raise typer.BadParameter(f"{nameless[0]} does not tell its stream: say --to STREAM")
    return ((target or one.stream, one.address, Back(letter.line, letter.data, letter.code)) for one, letter in chosen)


@contextmanager
def _progress(tally: Tally, chosen: Chosen) -> Iterator[Callable[[str], None]]:
    """On standard error a bar where somebody watches, else a line now and then. Takes reports of a `Replay`."""
    console = Console(stderr=True)
    columns = (
        BarColumn(),
        TextColumn("{task.completed} of {task.total} objects"),
        TextColumn("{task.fields[counts]}"),
        TimeElapsedColumn(),
        TextColumn("{task.description}"),
    )
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task("", total=len(chosen.objects), counts="")
        due = PROGRESS_BYTES

        def report(waiting_for: str) -> None:
            nonlocal due
            said = f"waiting: {waiting_for}" if waiting_for else ""
            rate = tally.letters / (bar.tasks[task].elapsed or 1.0)
            counts = f"{tally.letters:,} letters, {size(tally.bytes)}, {rate:,.0f} letters/s"
            bar.update(task, completed=chosen.read, counts=counts, description=said)
            if said and not console.is_terminal:
                note(said)
            elif tally.bytes >= due and not console.is_terminal:
                due = tally.bytes + PROGRESS_BYTES
                note(f"{chosen.read} of {len(chosen.objects)} objects, {counts}")

        yield report


async def _replay(replay: Replay, found: Iterator[Found], chosen: Chosen, body_bytes: int) -> None:
    async with replay.client:
        with _progress(replay.tally, chosen) as report:
            await replay.run(bodies(found, body_bytes), report)


def _tell(tally: Tally, chosen: Chosen, dry_run: bool, seconds: float, json: bool) -> None:
    if json:
        damage = [asdict(one) for one in chosen.damage]
        as_json({**tally.to_json(), "damaged": chosen.damaged, "damage": damage, "dry_run": dry_run})
        return
    if tally.codes:
        as_table(("reason", "letters"), [(one_line(code or "-"), count) for code, count in tally.codes.most_common()])
    for told in (*(f"refused: {one}" for one in tally.refusals), *(f"damaged: {one}" for one in chosen.damage)):
        note(one_line(told))
    done = "would be replayed" if dry_run else "replayed"
    rate = tally.letters / seconds if seconds else 0.0
    typer.echo(
        f"{tally.replayed:,} letters {done}, {tally.known:,} known from before, {tally.refused:,} refused: "
        f"{size(tally.bytes)} in {seconds:.1f} s, {rate:,.0f} letters/s"
    )
