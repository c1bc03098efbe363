"""`firehose serve` and `firehose check`: run the service, or find out beforehand whether it would deliver."""

from __future__ import annotations

import asyncio
import sys
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Annotated, Literal

import typer

from firehose import config as configuration
from firehose import registry
from firehose.buffer.disk import LocalDisk
from firehose.cli import options
from firehose.cli.show import Failure, as_json, as_table, note
from firehose.config import Config, DestinationBlock
from firehose.contracts import Refused, Retry
from firehose.runtime import Runtime

CHECK_THREADS = 8


def serve(config: options.ConfigFile = None) -> None:
    """Run the service until SIGTERM or Ctrl-C. SIGHUP reads the configuration again."""
    path = options.needed(config)
    loaded = options.loaded(path)
    from firehose import service  # takes a second: the other commands need not wait for it

    if sys.stderr.isatty():
        note(banner(loaded))
    try:
        service.serve(loaded, lambda: configuration.load(path))
    except service.StartError as error:
        raise Failure(str(error)) from error


def banner(config: Config) -> str:
    """What will run, on a few lines: where it listens, and where each stream goes."""
    lines = [f"firehose on {config.service.listen}, its data in {config.service.data_dir}"]
    for stream in config.streams.values():
        buffering = stream.options.buffering
        places = ", ".join(placed(block) for block in stream.destinations.values())
        lines.append(
            f"  {stream.name}: every {buffering.size_mib:g} MiB or {buffering.interval_seconds:g} s to {places}"
        )
    return "\n".join(lines) + "\n"


def placed(block: DestinationBlock) -> str:
    """Type and place of a destination, for people."""
    return " ".join((block.type, *(part for part in (block.place() or ())[1:] if part)))


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether one destination can be reached and written to; if not, what to mend."""

    stream: str
    destination: str
    purpose: Literal["data", "errors"]
    place: str
    ok: bool
    reason: str = ""


def check(
    config: options.ConfigFile = None,
    json: options.Json = False,
    timeout_seconds: Annotated[float, typer.Option(min=0.1, help="How long a destination may take to answer.")] = 30,
) -> None:
    """Validate a configuration, then reach every destination and prove that it can be written to."""
    loaded = options.loaded(options.needed(config))
    for warning in configuration.shared_places(loaded):
        note(f"warning: {warning}")
    verdicts = asyncio.run(_verdicts(loaded, timeout_seconds))
    if json:
        as_json([asdict(verdict) for verdict in verdicts])
    elif verdicts:
        rows = [(v.stream, v.destination, v.purpose, v.place, v.reason or "ok") for v in verdicts]
        as_table(("stream", "destination", "for", "place", "result"), rows)
    failed = sum(not verdict.ok for verdict in verdicts)
    if failed:
        raise Failure(f"{failed} of {len(verdicts)} destinations cannot be delivered to")
    note(f"{loaded.name} is valid; destinations that answer: {len(verdicts)} of {len(verdicts)}")


async def _verdicts(config: Config, timeout_seconds: float) -> list[Verdict]:
    """One after the other where they look at one place: their probes would meet there."""
    runtime = Runtime()
    places = defaultdict[object, asyncio.Lock](asyncio.Lock)
    threads = runtime.threads("check", CHECK_THREADS)
    shared = registry.Shared()

    async def verdict(block: DestinationBlock, stream: str, name: str, purpose: Literal["data", "errors"]) -> Verdict:
        site = registry.Site(stream, name, purpose, config.service.region, LocalDisk(), threads, runtime, shared)
        async with places[_container(block)]:
            reason = await _reached(block, site, timeout_seconds)
        return Verdict(stream, name, purpose, placed(block), not reason, reason)

    try:
        return await asyncio.gather(*(verdict(*one) for one in _blocks(config)))
    finally:
        threads.close()


def _container(block: DestinationBlock) -> object:
    """What two probes must not enter at once."""
    container = getattr(block, "container", None)
    return container() if container else id(block)


def _blocks(config: Config) -> Iterator[tuple[DestinationBlock, str, str, Literal["data", "errors"]]]:
    """Every block that says where something goes, in the file's order."""
    for stream in config.streams.values():
        for name, block in stream.destinations.items():
            yield block, stream.name, name, "data"
        if stream.errors is not None:
            yield stream.errors, stream.name, stream.errors.name or stream.errors.type, "errors"


async def _reached(block: DestinationBlock, site: registry.Site, timeout_seconds: float) -> str:
    """What keeps the destination from being reached; empty when nothing does."""
    try:
        destination = registry.destination(block, site)
        try:
            async with asyncio.timeout(timeout_seconds):
                await destination.check()
        finally:
            await destination.close()
    except (Retry, Refused) as said:
        return said.reason
    except TimeoutError:
        return f"does not answer within {timeout_seconds:g} seconds"
    except Exception as error:  # a plug-in's bug must not hide what the others say
        return f"a bug in the destination '{block.type}': {type(error).__name__}: {error}"
    return ""
