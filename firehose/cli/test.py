"""`firehose test`: the transforms of a configuration, tried on the sample records that stand in YAML beside it."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from firehose import yaml_file
from firehose.cli import options
from firehose.cli.show import PIPE_WIDTH, Failure, as_json, note
from firehose.config import Config
from firehose.yaml_file import ConfigError

if TYPE_CHECKING:
    from rich.console import Console

    from firehose.cli.cases import Case
    from firehose.cli.proving import Result

WIDTH = 100  # characters of a record, where no terminal says how many there is room for


def run(
    config: options.ConfigFile = None,
    stream: Annotated[str | None, typer.Option(metavar="STREAM", help="Only the cases of this stream.")] = None,
    case: Annotated[str | None, typer.Option(metavar="NAME", help="Only the case of this name.")] = None,
    cases: Annotated[
        str | None, typer.Option(metavar="FILE", help="Where the cases are.  [default: beside FILE, FILE.tests.yaml]")
    ] = None,
    json: options.Json = False,
    timeout_seconds: Annotated[float, typer.Option(min=0.1, help="How long a case may take.")] = 600,
) -> None:
    """Run the transforms of a configuration on sample records, and show where what comes out is not as expected.

    No service is needed, and nothing is stored or delivered. Exit status 1 where a case fails, 2 where the
    configuration or the cases cannot be used.
    """
    loaded, found = _read(options.needed(config), cases)
    chosen = _chosen(found, stream, case)
    for name in untested(loaded, found) if stream is None and case is None else ():
        note(f"warning: the delivery stream '{name}' has transforms, and no case")
    from firehose.cli import diff, proving  # takes a while, and room: the other commands need not spend them

    console = _console(width=None if sys.stdout.isatty() else PIPE_WIDTH, highlight=False, soft_wrap=True)

    def tell(result: Result) -> None:
        for line in () if json else diff.told(result, _width()):
            console.print(line)

    results = asyncio.run(proving.results(loaded, chosen, timeout_seconds, tell))
    if json:
        as_json([result.to_json() for result in results])
    failed = sum(not result.ok for result in results)
    if failed:
        raise Failure(f"{failed} of {len(results)} cases failed")
    note(f"{len(results)} case{'s' * (len(results) > 1)} passed")


def _read(config: str, cases: str | None) -> tuple[Config, list[Case]]:
    """Both files. What is wrong with one of them is a mistake of usage: no transform has failed."""
    from firehose.cli import cases as case_files

    try:
        loaded, path = options.loaded(config), cases or case_files.beside(config)
        if not Path(path).exists():
            note(f"there are no cases: {path} does not exist; docs/transform-tests.md shows one to begin with")
            raise typer.Exit(2)
        return loaded, case_files.load(path, loaded)
    except ConfigError as error:
        note(str(error))
        raise typer.Exit(2) from None


def untested(config: Config, cases: Sequence[Case]) -> list[str]:
    """Streams whose transforms no case tries."""
    tested = {case.stream for case in cases}
    return [name for name, stream in config.streams.items() if stream.transforms and name not in tested]


def _chosen(cases: Sequence[Case], stream: str | None, name: str | None) -> list[Case]:
    """Those of the stream, and of the name, where one is given."""
    chosen = _only(cases, "stream", stream)
    chosen = _only(chosen, "name", name)
    if not chosen:
        raise typer.BadParameter("the file holds no cases")
    return chosen


def _only(cases: Sequence[Case], key: str, wanted: str | None) -> list[Case]:
    chosen = [case for case in cases if wanted in (None, getattr(case, key))]
    if cases and not chosen and wanted is not None:
        hint = yaml_file.nearest(wanted, sorted({getattr(case, key) for case in cases}))
        raise typer.BadParameter(f"no case has the {key} '{wanted}'; {hint}")
    return chosen


def _width() -> int:
    """Characters of a record that are shown in a line."""
    return max(40, _console().width - 16) if sys.stdout.isatty() else WIDTH


def _console(**options: Any) -> Console:
    from rich.console import Console  # as in `show`

    return Console(**options)
