"""`firehose serve`: run the service."""

from __future__ import annotations

import sys

from firehose import allocator
from firehose import config as configuration
from firehose.arrow_alone import without_pandas
from firehose.cli import options
from firehose.cli.show import Failure, note
from firehose.config import Config
from firehose.stream_config import DestinationBlock


def serve(config: options.ConfigFile = None) -> None:
    """Run the service until SIGTERM or Ctrl-C. SIGHUP reads the configuration again."""
    path = options.needed(config)
    loaded = options.loaded(path)
    allocator.bounded()  # before any module takes memory from Arrow, and with its first byte a stock of 2 MiB
    without_pandas()  # before there is anything that would load it
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
        places = ", ".join(placed(block) for block in stream.destinations.values())
        lines.append(f"  {stream.name}: every {stream.size_mib:g} MiB or {stream.interval_seconds:g} s to {places}")
    return "\n".join(lines) + "\n"


def placed(block: DestinationBlock) -> str:
    """Type and place of a destination, for people."""
    return " ".join((block.type, *(part for part in (block.place() or ())[1:] if part)))
