"""What a delivery stream's own definition may say: its keys, what every plug-in's block has, and the stream they make.

How the definition is read, and what is wrong with it told, is `config`'s.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field

from firehose.blocks import LARGEST, MIB, Block
from firehose.catalogue import BACKUP
from firehose.conditions.options import Condition
from firehose.partitioning.options import PartitioningOptions
from firehose.yaml_file import Path

SIZE_MIB, LARGE_SIZE_MIB = 5, 128  # of a segment, by default; the latter of partitions and columns
INTERVAL_SECONDS = 300.0  # of a segment, by default
GATHERED_BYTES, GATHERED_SECONDS = 16 * MIB, 15.0  # of a segment at most, where rows are gathered by partition
PUT = "direct_put"  # the type of source that is none
DECOMPRESSING, SPLITTING, SHAPING, DELIMITING = range(4)  # AWS's order of steps: firehose.md section 8.1


class BufferingOptions(Block):
    """When a segment is sealed: firehose.md section 4. Whichever comes first; zero seconds delivers at once."""

    size_mib: Annotated[float, Field(gt=0, le=1024)] = SIZE_MIB  # LARGE_SIZE_MIB of some streams
    interval_seconds: Annotated[float, Field(ge=0, le=86400)] = INTERVAL_SECONDS  # less of some destinations


class RetryOptions(Block):
    """How long a failing delivery is tried; null: for as long as the buffer holds. The default is the destination's."""

    deadline_seconds: Annotated[float, Field(ge=0, le=LARGEST)] | None = None


class DestinationBlock(Block):
    """What every destination's block may say. A plug-in's options derive from it."""

    LETTERS: ClassVar[bool] = True  # whether it can be an error output
    PARTITIONS: ClassVar[bool] = False  # whether dynamic partitions are delivered each by itself
    CONNECTION: ClassVar[tuple[str, ...]] = ()  # keys that say how to reach the far side, and as whom
    RETRY_SECONDS: ClassVar[float | None] = None  # how long a failing delivery is tried where nothing else is said
    INTERVAL_SECONDS: ClassVar[float] = INTERVAL_SECONDS  # of its stream's buffering, where nothing else is said

    type: str
    name: Annotated[str, Field(pattern=r"^[a-zA-Z0-9_.-]{0,64}$")] = ""
    retry: RetryOptions = RetryOptions()
    where: Condition = None  # which rows it wants; all, where nothing is said
    errors: Annotated[dict[str, Any] | None, Field(repr=False)] = None  # raw; it may hold secrets

    def problems(self, stream: StreamConfig) -> Iterator[tuple[str, str]]:
        """What is wrong with the block in this stream's company: key and message. Dots lead to a key within."""
        if not self.LETTERS and stream.is_errors(self):
            yield "type", "dead letters are objects: choose s3 or folder"

    def beside(self, destinations: Iterable[DestinationBlock]) -> Self:
        """The block as the error output of a stream with these destinations."""
        return self

    @property
    def converts(self) -> bool:
        """Whether records become columns."""
        return False

    def place(self) -> tuple[str, ...] | None:
        """Where it writes, comparable with others' places; None where that says nothing."""
        return None

    def local_folder(self) -> str | None:
        """The folder of this machine that all it writes is in, as far as that is fixed; None where there is none."""
        return None


class SourceBlock(Block):
    """What every source's block may say. A plug-in's options derive from it."""

    type: str

    @property
    def reads(self) -> bool:
        """Whether there is something to read from: else records are put to the stream, over HTTP."""
        return self.type != PUT


NO_SOURCE = SourceBlock(type=PUT)


class TransformBlock(Block):
    """What every transform's block may say. A plug-in's options derive from it."""

    STAGE: ClassVar[int] = SHAPING  # when it runs, wherever in the list it stands; within a stage in the list's order

    type: str

    def calls(self) -> str:
        """The user's code that it calls, for people; empty where there is none."""
        return ""


class Stream(Block):
    """A delivery stream's own keys. Its plug-in blocks are read with the plug-ins' own options; here they are raw, and
    may hold secrets, so that they are never shown.
    """

    source: Annotated[dict[str, Any], Field(repr=False)] = {"type": PUT}
    buffering: BufferingOptions = BufferingOptions()
    limit_gib: Annotated[float, Field(gt=0, le=LARGEST)] = 20
    max_record_kib: Annotated[float, Field(gt=0, le=10240)] = 1000
    delimiter: str = "newline"
    wrap: Literal["none", "message"] = "none"
    validate_json: Annotated[bool, Field(alias="validate")] = False
    strict: bool = False
    transforms: Annotated[tuple[dict[str, Any], ...], Field(repr=False)] = ()
    destination: Annotated[dict[str, Any] | None, Field(repr=False)] = None
    destinations: Annotated[tuple[dict[str, Any], ...] | None, Field(repr=False)] = None
    errors: Annotated[dict[str, Any] | None, Field(repr=False)] = None
    backup: Annotated[dict[str, Any] | None, Field(repr=False)] = None
    retry: RetryOptions = RetryOptions()
    dynamic_partitioning: PartitioningOptions | None = None


@dataclass(frozen=True, slots=True)
class StreamConfig:
    """A delivery stream, read and resolved. `destinations` by name, in the file's order."""

    name: str
    options: Stream
    destinations: Mapping[str, DestinationBlock]
    errors: DestinationBlock | None
    source: SourceBlock = NO_SOURCE
    transforms: tuple[TransformBlock, ...] = ()
    own_errors: Mapping[str, DestinationBlock] = field(default_factory=dict)  # of destinations that have some

    @property
    def delimiter(self) -> bytes:
        """What follows each record that a log agent posts."""
        return delimiter_bytes(self.options.delimiter)

    @property
    def size_bytes(self) -> int:
        return max(1, int(self.size_mib * MIB))

    @property
    def size_mib(self) -> float:
        """As it is given; AWS's defaults: firehose.md section 4."""
        buffering = self.options.buffering
        large = any(block.converts or self.partitions(block) for block in self.destinations.values())
        return LARGE_SIZE_MIB if large and "size_mib" not in buffering.model_fields_set else buffering.size_mib

    @property
    def interval_seconds(self) -> float:
        """As it is given; else the shortest that a destination has as its default."""
        buffering = self.options.buffering
        if "interval_seconds" in buffering.model_fields_set:
            return buffering.interval_seconds
        return min((block.INTERVAL_SECONDS for block in self.destinations.values()), default=INTERVAL_SECONDS)

    def partitions(self, block: DestinationBlock) -> bool:
        """Whether this destination's objects hold one dynamic partition each. A backup has records as they came."""
        backup = self.destinations.get(BACKUP) if self.options.backup is not None else None
        partitioned = self.options.dynamic_partitioning is not None and block.PARTITIONS
        return partitioned and block is not backup and not self.is_errors(block)

    def is_errors(self, block: DestinationBlock) -> bool:
        """Whether the block is an error output: the stream's, or one of its destinations' own."""
        return any(block is one for one in self.error_outputs())

    def error_outputs(self) -> Iterator[DestinationBlock]:
        """All that are given."""
        yield from () if self.errors is None else (self.errors,)
        yield from self.own_errors.values()

    @property
    def partitioned(self) -> bool:
        """Whether its rows are gathered by partition."""
        return self.options.dynamic_partitioning is not None

    @property
    def seals_at(self) -> tuple[int, float]:
        """Bytes and seconds at which a segment is sealed. Where rows are gathered by partition, which then have the
        stream's own thresholds, much sooner: so that these are met evenly, and by each partition for itself.
        """
        seconds = self.interval_seconds
        if not self.partitioned:
            return self.size_bytes, seconds
        return min(self.size_bytes, GATHERED_BYTES), min(seconds, max(1.0, min(seconds / 10, GATHERED_SECONDS)))

    def blocks(self) -> Iterator[tuple[Path, DestinationBlock]]:
        """Every block that says where something goes, and where in the definition it stands."""
        single = self.options.destinations is None
        for index, (name, block) in enumerate(self.destinations.items()):
            if name == BACKUP and self.options.backup is not None:
                place: Path = ("backup",)
            else:
                place = ("destination",) if single else ("destinations", index)
            yield place, block
            if name in self.own_errors:
                yield (*place, "errors"), self.own_errors[name]
        if self.errors is not None:
            yield ("errors",) if self.options.errors is not None else ("backup",), self.errors

    def retry(self, destination: str) -> RetryOptions:
        """The destination's own retry options where it gives any, else the stream's, else those of its type."""
        own = self.destinations[destination]
        said = [one for one in (own.retry, self.options.retry) if "deadline_seconds" in one.model_fields_set]
        return said[0] if said else RetryOptions(deadline_seconds=own.RETRY_SECONDS)


def delimiter_bytes(text: str) -> bytes:
    """`newline`, `none`, or the text itself."""
    return {"newline": b"\n", "none": b""}.get(text, text.encode())
