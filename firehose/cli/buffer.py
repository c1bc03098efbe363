"""`firehose buffer`: what lies in a service's data folder, whether the service runs or not."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import Annotated

import typer

from firehose.buffer import inspect
from firehose.buffer.disk import LocalDisk
from firehose.buffer.inspect import Checked, File
from firehose.cli import options
from firehose.cli.client import Unreachable
from firehose.cli.show import Failure, age, as_json, as_table, note, size
from firehose.cli.streams import ask
from firehose.config import Config
from firehose.formats import contents, delimited
from firehose.model import SegmentKey
from firehose.runtime import Runtime

app = typer.Typer(no_args_is_help=True, help="Look into the buffer on disk, and let held segments go on.")
Segment = Annotated[
    str,
    typer.Argument(metavar="SEGMENT", help="stream/lane/first, as `buffer ls` prints it."),
]
Output = Annotated[typer.FileBinaryWrite, typer.Argument(metavar="[FILE|-]", help="- is standard output.")]
COLUMNS = ("segment", "state", "records", "size", "age", "version", "owed to", "held because")


@app.command("ls")
def ls(config: options.ConfigFile = None, json: options.Json = False) -> None:
    """List the segments on disk: open, sealed, held for a person, or damaged and kept."""
    data_dir = options.loaded(config).service.data_dir
    with _told():
        found = list(inspect.files(LocalDisk(), data_dir))
    if json:
        as_json([{"segment": file.name, **asdict(file), "held": dict(file.held)} for file in found])
    elif found:
        now_ms = Runtime().now_ms()
        as_table(COLUMNS, [_row(file, now_ms) for file in found])
    elif LocalDisk().exists(data_dir):
        note(f"the buffer in {data_dir} is empty")
    else:
        note(f"there is no folder {os.path.abspath(data_dir)}: no service has run there")


@app.command()
def cat(segment: Segment, config: options.ConfigFile = None) -> None:
    """Print a segment's records byte for byte, one after the other."""
    out = typer.get_binary_stream("stdout")
    with _told():
        for records in inspect.records(LocalDisk(), _data_dir(config), _key(segment)):
            out.write(contents(records))
        out.flush()


@app.command()
def export(segment: Segment, file: Output = "-", config: options.ConfigFile = None) -> None:  # type: ignore[assignment]
    """Write a segment's records to a file, each on a line of its own. Reads damaged files as far as they go."""
    count = 0
    with _told():
        for records in inspect.records(LocalDisk(), _data_dir(config), _key(segment)):
            file.write(contents(delimited(records, b"\n")))
            count += len(records)
        file.flush()
    note(f"{count} records of {segment}")


@app.command()
def verify(config: options.ConfigFile = None, json: options.Json = False) -> None:
    """Read every frame, the ledger and the catalogue; report what is damaged, where, and fail if anything is."""
    with _told():
        checked = list(inspect.verify(LocalDisk(), _data_dir(config)))
    bad = [(one.path, offset, said) for one in checked for offset, said in one.damage]
    if json:
        as_json([_checked(one) for one in checked])
    elif bad:
        as_table(("file", "offset", "damage"), bad)
    frames, records = sum(one.frames for one in checked), sum(one.records for one in checked)
    read = f"{len(checked)} files read: {frames} frames, {records} records"
    if bad:
        raise Failure(f"{read}; {len(bad)} damaged places")
    note(f"{read}, nothing damaged")


@app.command()
def release(segment: Segment, config: options.ConfigFile = None) -> None:
    """Have a held segment tried again: by the running service, or by the next one to run."""
    loaded = options.loaded(config)
    key = _key(segment)
    try:
        names = _by_service(segment, config)
        who = "by the running service"
    except Unreachable:
        names = _by_hand(loaded, key)
        who = "by the next service that runs"
    if not names:
        raise Failure(f"{segment} is not held; firehose buffer ls shows what is")
    typer.echo(f"{segment} will be tried again {who}: {', '.join(names)}")


def _by_service(segment: str, config: str | None) -> list[str]:
    service = options.service(config, None, None)
    said = asyncio.run(ask(service, "POST", "/v1/segments/release", segment=segment))
    names: list[str] = said["destinations"]
    return names


def _by_hand(config: Config, key: SegmentKey) -> list[str]:
    with _told():
        return inspect.release(LocalDisk(), config.service.data_dir, key)


def _data_dir(config: str | None) -> str:
    return options.loaded(config).service.data_dir


def _key(segment: str) -> SegmentKey:
    try:
        return inspect.key_of(segment)
    except ValueError:
        raise typer.BadParameter("name a segment as stream/lane/first, as firehose buffer ls prints it") from None


def _row(file: File, now_ms: int) -> tuple[object, ...]:
    seconds = (now_ms - file.opened_ms) / 1000 if file.opened_ms is not None else None
    held = "; ".join(f"{name}: {why}" for name, why in file.held)
    version = "-" if file.version is None else str(file.version)
    owed = ", ".join(file.owed) or "-"
    return file.name, file.state, file.count, size(file.size_bytes), age(seconds), version, owed, held or "-"


def _checked(one: Checked) -> dict[str, object]:
    damage = [{"offset": offset, "damage": said} for offset, said in one.damage]
    return {"path": one.path, "frames": one.frames, "records": one.records, "damage": damage}


@contextmanager
def _told() -> Iterator[None]:
    """What can be wrong with a data folder, in words."""
    try:
        yield
    except BrokenPipeError:
        raise
    except (inspect.NotThere, inspect.InUse) as error:
        raise Failure(str(error)) from error
    except OSError as error:
        raise Failure(f"{error.filename or 'the data folder'}: {error.strerror or error}") from error
    except (ValueError, LookupError) as error:
        raise Failure(f"the catalogue or ledger cannot be read ({error}); firehose buffer verify says more") from error
