"""Finds a stream's delivered objects: those that its destination's own names belong to, and no others.

What else lies there is passed over: error documents, other streams' objects, another destination's or a backup's under
a longer prefix, schemas, and files that are not finished.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

from destinations.folder import FolderOptions
from destinations.s3 import S3Options
from firehose.aws import Clients
from firehose.catalogue import BACKUP
from firehose.config import Config
from firehose.contracts import Disk
from firehose.lake.names import columns, is_data
from firehose.letters.shelf import FolderShelf, S3Shelf, Shelf
from firehose.model import Stored
from firehose.naming import ERROR_TYPES, ObjectNames, zone_named
from firehose.objects import ObjectOptions
from firehose.stream_config import StreamConfig
from firehose.yaml_file import nearest

KINDS = ("parquet", "orc", "json")


class NotThere(Exception):
    """There is no such stream or destination, or it has nothing to read; the message says what there is."""


@dataclass(frozen=True, slots=True)
class Object:
    """A delivered object. `keys` are those of the folders in its name such as `dt=2026-03-01`, decoded."""

    stored: Stored
    kind: str  # one of KINDS
    keys: dict[str, str]


@dataclass(frozen=True, slots=True)
class Place:
    """Where one destination of a stream puts its objects."""

    stream: StreamConfig
    destination: str
    block: FolderOptions | S3Options
    shelf: Shelf

    @property
    def address(self) -> str:
        return self.shelf.address(self.block.fixed_prefix())

    def objects(self) -> tuple[list[Object], int]:
        """The stream's objects by name, and how many more bear its name under a prefix that is not its present one.
        Raises `Unreadable`.
        """
        names, strays = self.block.names(), 0
        zone = zone_named(names.time_zone)
        found = []
        bears_name = re.compile(rf"(^|/){re.escape(self.stream.name)}-\d+-\d{{4}}(-\d\d){{5}}-[0-9a-f-]{{36}}[^/]*$")
        elsewhere = list(self._elsewhere())
        for stored in self.shelf.items(self.block.fixed_prefix()):
            if any(theirs(stored.name) for theirs in elsewhere):
                continue
            if is_data(stored.name, self.stream.name, names, zone):
                found.append(Object(stored, self._kind(stored.name), columns(stored.name)))
            elif bears_name.search(stored.name) and ERROR_TYPES.isdisjoint(stored.name.split("/")):
                strays += 1
        return sorted(found, key=lambda one: one.stored.name), strays

    def _elsewhere(self) -> Iterator[Callable[[str], bool]]:
        """Whether a name is of another block of the stream's in the same place. A prefix that begins with a partition's
        key fits nearly all names: of two that fit, the one that begins with more than that is meant.
        """
        stream, here = self.stream, self.block.container()
        for errors in stream.error_outputs():
            if isinstance(errors, ObjectOptions) and errors.container() == here:
                yield partial(_is_letters, stream=stream.name, names=errors.error_names())
        beside = [one for one in stream.destinations.values() if isinstance(one, ObjectOptions)]
        for other in (one for one in beside if one.container() == here):
            if len(other.fixed_prefix()) > len(self.block.fixed_prefix()):
                names = other.names()
                yield partial(is_data, stream=stream.name, names=names, zone=zone_named(names.time_zone))

    def _kind(self, name: str) -> str:
        """What an object holds: its name tells, unless `file_extension` hides it; then the configuration does."""
        for kind in (name.rpartition(".")[2], self.block.format.type):
            if kind in KINDS:
                return kind
        return "json"

    def nothing_yet(self) -> str:
        """That there is no object, and when there will be."""
        size, seconds = f"{self.stream.size_mib:g} MiB", f"{self.stream.interval_seconds:g} seconds"
        due = f"{size} are buffered or {seconds} are over"
        if self.stream.partitions(self.block):
            due = f"a partition has {size} or is {seconds} old"
        return (
            f"{self.stream.name} has no objects in {self.address} yet: they come once {due};"
            f" firehose flush {self.stream.name} sends what there is"
        )


def _is_letters(name: str, stream: str, names: ObjectNames) -> bool:
    return names.error_type(name, stream) is not None


def of_stream(config: Config, name: str, destination: str | None, disk: Disk, clients: Clients) -> Place:
    """The place of that destination; of the first that writes objects where none is named. Raises `NotThere`."""
    stream = config.streams.get(name)
    if stream is None:
        raise NotThere(f"there is no delivery stream '{name}' in {config.name}; {nearest(name, list(config.streams))}")
    chosen = destination if destination is not None else next(_usual(stream), None)
    if chosen is None:
        raise NotThere(f"no destination of the delivery stream '{name}' writes objects")
    if chosen not in stream.destinations:
        raise NotThere(f"'{name}' has no destination '{chosen}'; {nearest(chosen, list(stream.destinations))}")
    block = stream.destinations[chosen]
    if not isinstance(block, FolderOptions | S3Options):
        raise NotThere(f"'{name}' delivers to {block.type} as '{chosen}', which cannot be read back")
    return Place(stream, chosen, block, _shelf(block, config.service.region, disk, clients))


def _usual(stream: StreamConfig) -> Iterator[str]:
    """Names of the destinations that write objects, a backup of the source records aside."""
    for name, block in stream.destinations.items():
        if isinstance(block, FolderOptions | S3Options) and not (name == BACKUP and stream.options.backup is not None):
            yield name


def _shelf(block: FolderOptions | S3Options, region: str, disk: Disk, clients: Clients) -> Shelf:
    if isinstance(block, FolderOptions):
        return FolderShelf(disk, block.path)
    return S3Shelf(clients, block, region, block.bucket, block.addressing_style)


def plain(stream: str) -> str:
    """The stream's name as a word of SQL."""
    return re.sub(r"[-.]", "_", stream)


def meant(tables: set[str], config: Config) -> dict[str, str]:
    """The stream that each table of a query stands for. Raises `NotThere`."""
    found = {table: _stream_meant(table, config) for table in sorted(tables)}
    seen: dict[str, str] = {}
    for table, stream in found.items():
        if seen.setdefault(table.casefold(), stream) != stream:
            other = seen[table.casefold()]
            raise NotThere(f"SQL cannot tell '{other}' from '{stream}': ask about one of them at a time")
    return found


def _stream_meant(table: str, config: Config) -> str:
    if table in config.streams:
        return table
    for spelled in (str, plain):
        matches = [name for name in config.streams if spelled(name).casefold() == table.casefold()]
        if len(matches) > 1:
            raise NotThere(f'{table} may be any of the streams {", ".join(matches)}: write the one you mean as "..."')
        if matches:
            return matches[0]
    hint = nearest(table, [plain(name) for name in config.streams])
    raise NotThere(f"there is no delivery stream '{table}' in {config.name}; {hint}")
