"""The versions of a schema as they are kept: files in `<data_dir>/schemas/<stream>/<destination>`.

    v000001.json   one version, for ever: JSON with a checksum (see `checked_json`); the same bytes lie beside the data
    pinned         the version that batches follow from now on, whatever there is beside it

A version is durable before anything follows it, so a number is never used twice for what has been sent. Damage is told
and never guessed at: with another type for a column that was lost, objects would not read together any more. Beside a
running service, people write `pinned` alone.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from firehose import checked_json
from firehose.contracts import Disk, Retry
from firehose.model import NewerFormat
from firehose.schemas.source import SchemaVersion
from firehose.table_schema import TableSchema

PINNED = "pinned"
COPIES = "of an inferred schema the same file lies beside the data, in _schemas; of any other, in a backup of yours"
NOTHING = TableSchema(())  # version 0, which every folder has: no file, no column


def folder(data_dir: str, stream: str, destination: str) -> str:
    """Where the versions of a stream's schema at one destination are kept."""
    return os.path.join(data_dir, "schemas", stream, as_folder(destination))


def as_folder(destination: str) -> str:
    """Its name, also where that alone would lead elsewhere."""
    return destination if destination.strip(".") else destination.replace(".", "%2E")


def destinations(disk: Disk, data_dir: str, stream: str) -> list[str]:
    """Those of a stream for which a folder is there."""
    with _told(above := os.path.join(data_dir, "schemas", stream)):
        return [name.replace("%2E", ".") for name in disk.list(above)]


def files(disk: Disk, data_dir: str) -> Iterator[tuple[str, str]]:
    """Every version's file, and what is wrong with it; nothing where it is as it was written."""
    for stream in disk.list(os.path.join(data_dir, "schemas")):
        for destination in destinations(disk, data_dir, stream):
            there = Versions(disk, folder(data_dir, stream, destination))
            yield from ((there.path(number), _problem(there, number)) for number in there.numbers())


def _problem(versions: Versions, number: int) -> str:
    try:
        versions.read(number)
    except Retry as error:
        return error.reason
    return ""


class Locks:
    """One lock for each folder: of the segments that are under way side by side, one at a time changes a schema."""

    def __init__(self) -> None:
        self._mine = threading.Lock()
        self._locks: dict[str, threading.Lock] = {}

    def of(self, folder: str) -> threading.Lock:
        with self._mine:
            return self._locks.setdefault(folder, threading.Lock())


class Versions:
    """The files of one folder. Only whoever holds its lock may add one. Raises `Retry` where the disk fails or a file
    is damaged, saying what to do.
    """

    def __init__(self, disk: Disk, folder: str) -> None:
        self._disk = disk
        self._folder = folder

    def numbers(self) -> list[int]:
        """Those there are, ascending."""
        with _told(self._folder):
            names = [name[1:-5] for name in self._disk.list(self._folder) if name[:1] == "v" and name[-5:] == ".json"]
        return sorted(int(name) for name in names if name.isascii() and name.isdigit())

    def newest(self) -> SchemaVersion | None:
        numbers = self.numbers()
        return self.read(numbers[-1]) if numbers else None

    def read(self, number: int) -> SchemaVersion:
        """A version that there is."""
        if number == 0:
            return SchemaVersion(0, NOTHING)
        path = self.path(number)
        with _told(path, f"copy {os.path.basename(path)} back to its place: {COPIES}"):
            said = self._decoded(path)
            if said["version"] != number:
                raise ValueError(f"it holds version {said['version']}")
            return SchemaVersion(number, TableSchema.parsed(said["columns"]))

    def content(self, number: int) -> bytes:
        """The file of a version, byte for byte."""
        with _told(self.path(number)):
            return self._disk.read(self.path(number))

    def note(self, number: int) -> Mapping[str, Any]:
        """What was noted when the version was added."""
        with _told(path := self.path(number)):
            return {key: said for key, said in self._decoded(path).items() if key not in ("format", "columns")}

    def add(self, schema: TableSchema, note: Mapping[str, Any]) -> SchemaVersion:
        """The next version, durable; `note` stands in its file."""
        number = max(self.numbers(), default=0) + 1
        content = checked_json.encode({**note, "version": number, "columns": schema.types()}, indent=1)
        with _told(self.path(number)):
            self._make_folder()
            self._disk.replace(self.path(number), content)
        return SchemaVersion(number, schema)

    def settle(self) -> None:
        """All that `numbers` tells is durable: a version may be there that could not be made so when it was added."""
        with _told(self._folder):
            if self._disk.exists(self._folder):
                self._disk.sync_folder(self._folder)

    def pinned(self) -> int | None:
        """The version that batches follow; None where they follow the newest."""
        with _told(path := self._pin_path, "pin a version again, or none: firehose schema pin"):
            try:
                number = self._decoded(path)["version"]
            except FileNotFoundError:
                return None
            if not isinstance(number, int):
                raise ValueError("it names no version")
            return number

    def pin(self, number: int | None) -> None:
        """Has batches follow this version, or the newest; durable when it returns."""
        with _told(path := self._pin_path):
            if number is not None:
                self._disk.replace(path, checked_json.encode({"version": number}))
            elif self._disk.exists(path):
                self._disk.remove(path)
                self._disk.sync_folder(self._folder)

    def _make_folder(self) -> None:
        """Durable also where an earlier attempt made it and failed behind that."""
        self._disk.make_folder(self._folder)
        above = self._folder
        for _ in ("<destination>", "<stream>", "schemas"):
            above = os.path.dirname(above)
            self._disk.sync_folder(above)

    @property
    def _pin_path(self) -> str:
        return os.path.join(self._folder, PINNED)

    def path(self, number: int) -> str:
        return os.path.join(self._folder, f"v{number:06d}.json")

    def _decoded(self, path: str) -> dict[str, Any]:
        return checked_json.decode(path, self._disk.read(path))


@contextmanager
def _told(path: str, way_out: str = "mend that; it is tried again") -> Iterator[None]:
    """What can be wrong with a file, in words."""
    try:
        yield
    except NewerFormat as error:
        raise Retry(str(error)) from error
    except OSError as error:
        raise Retry(f"the schema's file {path}: {error.strerror or error}; {way_out}") from error
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise Retry(f"the schema's file {path} is damaged ({error}); {way_out}") from error
