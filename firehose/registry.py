"""Which plug-ins there are: literal tables of dotted names, loaded on use, and third parties' entry points."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import import_module
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any, Literal, TypeVar, cast

import destinations
import transforms
from firehose.contracts import Destination, Disk, Hook, Transform
from firehose.ingest import sources
from firehose.runtime import Runtime, Threads

if TYPE_CHECKING:
    from firehose.blocks import Block
    from firehose.stream_config import DestinationBlock, TransformBlock

T = TypeVar("T")
TABLES: Mapping[str, Mapping[str, str]] = {
    "destinations": destinations.TABLE,
    "sources": sources.TABLE,
    "transforms": transforms.TABLE,
}


class Shared:
    """What the plug-ins of one process share, such as connections: one of each kind, made when first asked for."""

    def __init__(self) -> None:
        self._made: dict[type[Any], Any] = {}

    def of(self, kind: type[T]) -> T:
        if kind not in self._made:
            self._made[kind] = kind()
        return cast(T, self._made[kind])


@dataclass(frozen=True, slots=True)
class Site:
    """Where a destination or a transform is put to work. A plug-in's class is called with its options and its site."""

    stream: str
    destination: str  # its name within the stream
    purpose: Literal["data", "errors"]  # errors: batches are error documents, `partition` is the error-output-type
    region: str
    disk: Disk
    threads: Threads
    runtime: Runtime
    shared: Shared = field(default_factory=Shared)
    account_id: str = "000000000000"
    scratch: str = ""  # a folder for what may be gone at any time
    alike: frozenset[str] = frozenset()  # destinations of the stream, this one included, that want the same bytes
    schemas: str = ""  # the folder of the versions of this stream's schema at this destination

    @property
    def stream_arn(self) -> str:
        return f"arn:aws:firehose:{self.region}:{self.account_id}:deliverystream/{self.stream}"


def transform(block: TransformBlock, site: Site) -> Transform | Hook:
    """Puts one transform of a stream to work."""
    made: Transform | Hook = plugin("transforms", block.type)(block, site)
    return made


def destination(block: DestinationBlock, site: Site) -> Destination:
    """Puts the destination of a stream's block to work."""
    made: Destination = plugin("destinations", block.type)(block, site)
    return made


def names(kind: str) -> list[str]:
    """The types that a block of this kind may name: `destinations`, `sources` or `transforms`."""
    return sorted({*TABLES[kind], *(point.name for point in entry_points(group=f"firehose.{kind}"))})


def has(kind: str, name: str) -> bool:
    """Whether there is such a type. Only where our own tables lack it are the installed packages looked through."""
    return name in TABLES[kind] or name in names(kind)


def plugin(kind: str, name: str) -> Any:
    """The plug-in's class, imported now. Its `Options` say what its block may hold."""
    dotted = TABLES[kind].get(name)
    if dotted is None:
        (point,) = entry_points(group=f"firehose.{kind}", name=name)
        return point.load()
    module, _, attribute = dotted.partition(":")
    return getattr(import_module(module), attribute)


def options(kind: str, name: str) -> type[Block]:
    found: type[Block] = plugin(kind, name).Options
    return found


def destination_options(name: str) -> type[DestinationBlock]:
    found: type[DestinationBlock] = plugin("destinations", name).Options
    return found
