"""Finds the places where letters lie: those that a configuration's error outputs name, or one that a person names."""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from destinations.folder import FolderOptions
from destinations.s3 import S3Options
from firehose.aws import AwsOptions, Clients
from firehose.config import Config
from firehose.contracts import Disk
from firehose.delivery.workshop import error_outputs
from firehose.letters.letter import Damage, Letter
from firehose.letters.reading import letters, told_by
from firehose.letters.shelf import FolderShelf, S3Shelf, Shelf, Unreadable
from firehose.model import Stored
from firehose.stream_config import DestinationBlock, StreamConfig

Told = tuple[str, str]  # stream and error-output-type
BUCKET = "s3://"


@dataclass(frozen=True, slots=True)
class Place:
    """A part of a shelf. `told` says what a name tells; None for an object that holds no letters asked for."""

    shelf: Shelf
    under: str
    told: Callable[[str], Told | None]

    def items(self, under: str = "") -> Iterator[Stored]:
        """The objects of letters whose names begin with `under`."""
        longer, shorter = (under, self.under) if len(under) > len(self.under) else (self.under, under)
        if longer.startswith(shorter):
            yield from (item for item in self.shelf.items(longer) if self.told(item.name) is not None)

    def letters(self, name: str) -> Iterator[Letter | Damage]:
        yield from letters(self.shelf, name, self.told(name) or ("", ""))


def of_block(stream: StreamConfig, block: DestinationBlock, region: str, disk: Disk, clients: Clients) -> Place:
    """Where the stream's own dead letters lie in one of its error outputs, and no other's. Raises `Unreadable`."""
    if not isinstance(block, FolderOptions | S3Options):
        raise Unreadable(f"the errors of {stream.name} go to {block.type}, which cannot be read back")
    names = block.error_names()

    def told(name: str) -> Told | None:
        error_type = names.error_type(name, stream.name)
        return None if error_type is None else (stream.name, error_type)

    return Place(_shelf(block, region, disk, clients), block.fixed_prefix(), told)


def of_config(config: Config, only: str | None, disk: Disk, clients: Clients) -> Iterator[Place]:
    """The places of all streams, or of one. Raises `Unreadable`."""
    if only is not None and only not in config.streams:
        raise Unreadable(f"{config.name} has no delivery stream '{only}'")
    for name, stream in config.streams.items():
        if only in (None, name):
            for block in error_outputs(stream, config.service.data_dir):
                yield of_block(stream, block, config.service.region, disk, clients)


def named(
    place: str, endpoint_url: str | None, region: str | None, only: str | None, disk: Disk, clients: Clients
) -> Place:
    """`s3://bucket/prefix`, a folder or a file, whoever wrote there; of one stream, as far as names tell it, or of all.
    Raises `Unreadable`.
    """

    bucket_wide = place.startswith(BUCKET)

    def told(name: str) -> Told | None:
        found = stream, error_type = told_by(name)
        data = bucket_wide and stream and not error_type  # a key of letters has the type; a file may have lost it
        return found if only in (None, stream) and not data else None

    if not bucket_wide:
        return Place(*_local(place, disk), told)
    bucket, _, prefix = place.removeprefix(BUCKET).partition("/")
    options = AwsOptions(endpoint_url=endpoint_url)
    return Place(S3Shelf(clients, options, region or "us-east-1", bucket), prefix, told)


def _local(path: str, disk: Disk) -> tuple[Shelf, str]:
    """Of a file, its folder and its name."""
    try:
        if not disk.exists(path):
            raise Unreadable(f"{path}: there is no such folder or file")
        disk.list(path)
    except NotADirectoryError:
        folder, name = posixpath.split(path)
        return FolderShelf(disk, folder or "."), name
    except OSError as error:
        raise Unreadable(f"{path}: {error.strerror or error}") from error
    return FolderShelf(disk, path), ""


def _shelf(block: FolderOptions | S3Options, region: str, disk: Disk, clients: Clients) -> Shelf:
    if isinstance(block, FolderOptions):
        return FolderShelf(disk, block.path)
    return S3Shelf(clients, block, region, block.bucket, block.addressing_style)
