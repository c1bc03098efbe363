"""`firehose streams` and `firehose flush`: how a running service's streams stand, and seal what they have buffered."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from typing import Annotated, Any
from urllib.parse import quote

import typer

from firehose.cli import options
from firehose.cli.client import Client, Service
from firehose.cli.show import Failure, age, as_json, as_table, size

DATA_COLUMNS = ("data stream", "status", "mode", "open shards", "closed", "retention", "records in", "stored")
COLUMNS = ("stream", "destination", "accepted", "delivered", "dropped", "filtered", "dead", "buffered", "oldest",
           "last error")  # fmt: skip


def streams(
    config: options.ServiceConfig = None,
    url: options.Url = None,
    api_key: options.ApiKey = None,
    data: Annotated[bool, typer.Option("--data", help="Only the data streams.")] = False,
    json: options.Json = False,
) -> None:
    """Show what every stream took and what became of it, at each destination. Counts are records.

    `oldest` is the age of the oldest record not yet at its end, which AWS calls DataFreshness. Data streams come in a
    table of their own; with --json, only where --data asks for them.
    """
    service = options.service(config, url, api_key)
    if json:
        as_json(asyncio.run(ask(service, "GET", "/v1/data-streams" if data else "/v1/streams")))
        return
    if not data:
        as_table(COLUMNS, rows(asyncio.run(ask(service, "GET", "/v1/streams"))))
    found = asyncio.run(ask(service, "GET", "/v1/data-streams"))
    if found and not data:
        typer.echo()
    if found or data:
        as_table(DATA_COLUMNS, data_rows(found))


def data_rows(found: Sequence[dict[str, Any]]) -> Iterator[tuple[object, ...]]:
    for stream in found:
        mode = stream["mode"].lower().replace("_", " ") + (", of the file" if stream["declared"] else "")
        shards = stream["open_shards"], stream["closed_shards"]
        kept = f"{stream['retention_hours']} h"
        yield (
            stream["name"],
            stream["status"],
            mode,
            *shards,
            kept,
            stream["incoming_records"],
            size(stream["stored_bytes"]),
        )


def rows(found: Sequence[dict[str, Any]]) -> Iterator[tuple[object, ...]]:
    """A row for each stream and destination; what is rarely there is told beside the last error."""
    for stream in found:
        name = stream["name"] if stream["state"] == "ACTIVE" else f"{stream['name']} ({stream['state']})"
        if not stream["destinations"]:
            buffered = f"{size(stream['buffered_bytes'])} buffered"
            yield name, "-", stream["accepted"], *"------", f"the delivery half does not answer; {buffered}"
        for place in stream["destinations"]:
            counts = (place[key] for key in ("delivered", "dropped", "filtered", "dead", "buffered"))
            oldest = age(place["oldest_age_seconds"] if place["buffered"] else None)
            yield name, place["destination"], stream["accepted"], *counts, oldest, trouble(place)


def trouble(place: dict[str, Any]) -> str:
    """All that a person should look at, in one line; a dash where there is nothing."""
    said = [f"{place['held']:,} held" if place["held"] else ""]
    said += [f"{place['damaged']:,} lost to damage" if place.get("damaged") else ""]
    said += [f"{place['imbalance']:,} records cannot be accounted for" if place["imbalance"] else ""]
    said += [f"paused: {place['paused']}" if place["paused"] else place["last_error"]]
    return "; ".join(filter(None, said)) or "-"


def flush(
    stream: options.StreamName,
    config: options.ServiceConfig = None,
    url: options.Url = None,
    api_key: options.ApiKey = None,
    wait: Annotated[bool, typer.Option("--wait", help="Wait until all of it is delivered.")] = False,
    wait_seconds: Annotated[float, typer.Option(min=0.1, max=3600, help="How long --wait waits.")] = 60,
) -> None:
    """Seal what a stream has buffered, so that it is delivered now."""
    path = f"/v1/streams/{quote(stream, safe='')}/flush"
    seconds = wait_seconds if wait else 0.0
    service = options.service(config, url, api_key)
    said = asyncio.run(ask(service, "POST", path, wait_seconds=seconds))
    if wait and not said["delivered"]:
        raise Failure(f"not all is delivered after {seconds:g} seconds; firehose streams shows what keeps it")
    typer.echo(f"{said['records']} records sealed" + (", all delivered" if wait else ""))


async def ask(service: Service, method: str, path: str, **params: str | float) -> Any:
    """One call of a service's control plane. Raises `Failure`."""
    async with Client(service) as client:
        return await client.ask(method, path, params)
