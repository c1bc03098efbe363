"""What destinations that write objects share: the keys of their blocks, and how a batch becomes an object.

Names come from firehose.md section 5 (naming.py), bytes from sections 5.3, 6 and 7 (formats.py, columnar.py,
compression.py). It must never touch a far side but through the doors it is given, and a name must never depend on
anything but the options and the batch's segment and partition: a repeated delivery has to hit the same object (DESIGN
3, law 5).
"""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from itertools import chain
from typing import Annotated, ClassVar, Literal, Self, TypeAlias, TypeVar

from pydantic import Field, ValidationInfo, field_validator

from firehose import naming, partitions
from firehose.column_options import ColumnarOptions
from firehose.compression import Piece, codec
from firehose.contracts import Memo
from firehose.encoded_once import EncodedOnce
from firehose.format_options import FormatOptions, PlainOptions
from firehose.formats import Anew, Encoded, Format, format_named
from firehose.model import Batch, Receipt, Segment
from firehose.registry import Site
from firehose.schemas.versions import as_folder
from firehose.stream_config import DestinationBlock, StreamConfig, delimiter_bytes

T = TypeVar("T")
Store: TypeAlias = Callable[[Iterator[Piece]], int]  # takes an object's pieces, answers how many bytes they had
COMPRESSED_INSIDE = (
    "The S3 destination's compression format must be set to UNCOMPRESSED when data format conversion is enabled"
)
BEGINNINGS = 100  # of one delivery, since its schema grew: a few are real, so many are a bug
ERROR_TYPE = "!{firehose:error-output-type}"
SAMPLE = Segment("sample", "sample", 0, 1, 0, datetime(2001, 2, 3, 4, 5, 6, tzinfo=UTC), 1)


class ObjectOptions(DestinationBlock):
    """Keys of a block that writes objects. In an `errors` block, `prefix` is AWS's ErrorOutputPrefix."""

    PARTITIONS: ClassVar[bool] = True

    prefix: Annotated[str, Field(max_length=1024)] | None = None
    time_zone: str = "UTC"
    file_extension: str = ""
    compression: Literal["none", "gzip", "zip", "snappy", "hadoop_snappy", "zstd"] = "none"
    format: FormatOptions = PlainOptions()
    delimiter: str = "none"
    retention_days: Annotated[float, Field(gt=0, le=36500)] | None = None  # of an errors block: then they are removed

    @field_validator("prefix")
    @classmethod
    def _prefix(cls, prefix: str | None) -> str | None:
        # The block cannot know yet whether it holds data or errors; `problems` asks again when that is known.
        as_errors = prefix is not None and ERROR_TYPE in prefix
        return _checked(prefix, naming.problems(None, prefix) if as_errors else _of_prefix(prefix))

    @field_validator("time_zone")
    @classmethod
    def _time_zone(cls, name: str) -> str:
        return _checked(name, naming.problems(None, None, time_zone=name))

    @field_validator("file_extension")
    @classmethod
    def _file_extension(cls, extension: str) -> str:
        return _checked(extension, naming.problems(None, None, file_extension=extension))

    @field_validator("delimiter")
    @classmethod
    def _delimiter(cls, delimiter: str, info: ValidationInfo) -> str:
        chosen = info.data.get("format")
        if chosen is not None and chosen.type == "json_lines" and delimiter != "newline":
            raise ValueError("json_lines ends each record with a newline; leave delimiter out, or use format raw")
        if isinstance(chosen, ColumnarOptions) and delimiter != "none":
            raise ValueError(f"{chosen.type} has rows, with nothing between them; leave delimiter out")
        return delimiter

    def beside(self, destinations: Iterable[DestinationBlock]) -> Self:
        """AWS's ErrorOutputPrefix null: the prefix of the data that shares the container (firehose.md section 5.2)."""
        if self.prefix is None:
            for other in destinations:
                if isinstance(other, ObjectOptions) and other.container() == self.container():
                    return self.model_copy(update={"prefix": other.prefix if naming.is_literal(other.prefix) else None})
        return self

    @property
    def converts(self) -> bool:
        return isinstance(self.format, ColumnarOptions)

    def container(self) -> tuple[str, ...]:
        """What holds the objects, comparable: two blocks with equal containers write side by side."""
        raise NotImplementedError

    def place(self) -> tuple[str, ...]:
        """Where in the container the objects go. Two streams with an equal place mix their objects."""
        return (*self.container(), self.prefix or "")

    def problems(self, stream: StreamConfig) -> Iterator[tuple[str, str]]:
        """What is wrong with the block in this stream's company, each with its key."""
        as_errors = stream.is_errors(self)
        wrong = self._problems_of_errors(stream) if as_errors else self._problems_of_data(stream)
        yield from (("prefix", message) for message in wrong)
        yield from self._problems_of_format(as_errors)
        if self.retention_days is not None and not wrong:
            yield from (("retention_days", message) for message in self._problems_of_retention(stream))
        if wrong or as_errors:
            return
        for name, other in stream.destinations.items():
            if other is self:
                return
            if isinstance(other, ObjectOptions) and self._overwrites(other):
                yield (
                    "prefix",
                    f"gives its objects the names that '{name}' gives, in the same place; change it",
                )

    def _problems_of_format(self, as_errors: bool) -> Iterator[tuple[str, str]]:
        if not isinstance(self.format, ColumnarOptions):
            return
        for key, message in self.format.problems():
            yield f"format.{key}", message
        if as_errors:
            yield "format", f"error documents are JSON lines, never {self.format.type}; leave format out"
        if self.compression != "none":
            yield "compression", f"{COMPRESSED_INSIDE}; for {self.format.type} it is a key of format: leave it out here"

    def _problems_of_data(self, stream: StreamConfig) -> list[str]:
        """A prefix names partition keys where there are any but columns, which stand behind it of themselves."""
        options = stream.options.dynamic_partitioning if stream.partitions(self) else None
        by_column = options is not None and options.columns and not options.queries
        return naming.problems(self.prefix, None, partitioned=None if by_column else options is not None)

    def _problems_of_errors(self, stream: StreamConfig) -> list[str]:
        """AWS asks for a prefix of their own where data and errors share a bucket (firehose.md section 5.1)."""
        others = [one for one in stream.destinations.values() if isinstance(one, ObjectOptions)]
        for other in others:
            if other.container() == self.container() and not _of_prefix(other.prefix):
                return naming.problems(other.prefix, self.prefix, errors_share_bucket=True, partitioned=None)
        return naming.problems(None, self.prefix)

    def _problems_of_retention(self, stream: StreamConfig) -> Iterator[str]:
        """Dead letters are removed by their names, which no data object may have."""
        if not stream.is_errors(self):
            yield "is for an errors block: data is never removed"
            return
        names, sample = self.error_names(), replace(SAMPLE, stream=stream.name)
        for name, other in stream.destinations.items():
            if not isinstance(other, ObjectOptions) or other.container() != self.container():
                continue
            if not _of_prefix(other.prefix) and names.error_type(other.sample_name(sample), stream.name):
                yield f"cannot tell dead letters from the data of '{name}' in the same place; give errors a prefix"

    def _overwrites(self, other: ObjectOptions) -> bool:
        if self.container() != other.container() or _of_prefix(other.prefix):
            return False
        return self.sample_name(SAMPLE) == other.sample_name(SAMPLE)

    def sample_name(self, segment: Segment) -> str:
        """The name that data of the segment would have, in one of its partitions where there are any."""
        return self.names().data(segment, naming.keys(self.prefix))

    def fixed_prefix(self) -> str:
        """What all the names begin with."""
        return (self.prefix or "").partition("!{")[0]

    def names(self) -> naming.ObjectNames:
        return naming.ObjectNames(prefix=self.prefix, time_zone=self.time_zone, extension=self._extension())

    def error_names(self) -> naming.ObjectNames:
        return naming.ObjectNames(
            error_output_prefix=self.prefix, time_zone=self.time_zone, extension=self._extension()
        )

    def records_format(self, site: Site) -> Format:
        if isinstance(self.format, ColumnarOptions):
            return self.format.made(site)
        raw = self.format.type == "raw"
        return format_named(self.format.type, delimiter_bytes(self.delimiter) if raw else None)

    def _extension(self) -> str:
        """FileExtension replaces what format and compression would give (firehose.md section 5.3)."""
        return self.file_extension or self.format.extension + codec(self.compression).extension


class ObjectEncoder:
    """Turns one destination's batches into the names and bytes of objects. Threads share it."""

    def __init__(self, options: ObjectOptions, site: Site) -> None:
        self._errors = site.purpose == "errors"
        self._destination = site.destination
        self._names = options.error_names() if self._errors else options.names()
        # By its name, too, where it has one: another destination of the stream may put its objects into the same place.
        own = () if site.destination == options.type else (as_folder(site.destination),)
        self._schemas = posixpath.join(posixpath.dirname(options.fixed_prefix()), "_schemas", *own)
        self._sample_keys = naming.keys(options.prefix)
        self._codec = codec(options.compression)
        # Error documents are JSON, one a line, whatever the data's format (firehose.md section 5.2).
        self._format = format_named("json_lines", None) if self._errors else options.records_format(site)
        self._site = site
        self._once = site.shared.of(EncodedOnce)
        self._companions: set[str] = set()  # that lie there already: few, and they never change

    @property
    def content_encoding(self) -> str | None:
        return self._codec.content_encoding

    def name(self, batch: Batch) -> str:
        if self._errors:
            return self._names.error(batch.segment, batch.partition, discriminator=self._whose(batch))
        keys = partitions.decode(batch.partition) if batch.partition else None
        return self._names.data(batch.segment, keys, discriminator=batch.partition)

    def check(self) -> None:
        """Whether records can be encoded. Raises `Retry` or `Refused`."""
        self._format.check()

    def close(self) -> None:
        self._format.close()

    def deliver(self, batch: Batch, memo: Memo, store: Store, store_beside: Callable[[str, bytes], None]) -> Receipt:
        """Hands the object's bytes to `store`, in pieces that suit a write; memory is bounded however large the batch.
        What has to lie there before goes to `store_beside`, by name, and replaces what has this name.
        """
        if self._site.alike and (receipt := self._shared(batch, memo, store)) is not None:
            return receipt
        for _ in range(BEGINNINGS):
            try:
                return self._delivered(batch, self._format.encoded(batch, memo), store, store_beside)
            except Anew:
                continue
        raise RuntimeError(f"{batch.segment}: its schema has grown {BEGINNINGS} times while it was encoded")

    def _delivered(
        self, batch: Batch, encoded: Encoded, store: Store, store_beside: Callable[[str, bytes], None]
    ) -> Receipt:
        first = next(encoded.chunks, None)
        if first is None:
            return Receipt(refused=encoded.refused)
        for name, content in encoded.companions.items():
            if name not in self._companions:
                store_beside(posixpath.join(self._schemas, name), content)
                self._companions.add(name)
        sent_bytes = store(self._codec.compress(chain((first,), encoded.chunks), self._entry(batch)))
        return Receipt((self.name(batch),), sent_bytes, encoded.refused)

    def _shared(self, batch: Batch, memo: Memo, store: Store) -> Receipt | None:
        """As another destination has encoded it, or will find it encoded; None where that cannot be."""
        key, disk = (batch.segment.key, self._site.alike), self._site.disk
        kept = self._once.kept(key, disk, self._site.scratch, lambda: self._format.encoded(batch, memo))
        if kept is None:
            return None
        try:
            receipt = Receipt(refused=kept.refused)
            if kept.view is not None:
                sent_bytes = store(self._codec.compress(kept.pieces(), self._entry(batch)))
                receipt = Receipt((self.name(batch),), sent_bytes, kept.refused)
        finally:
            kept.close()
        self._once.taken(key, self._destination, disk)
        return receipt

    def _entry(self, batch: Batch) -> str:
        cut = f"{batch.partition}/{self._whose(batch)}" if self._errors else batch.partition
        return str(self._names.identity(batch.segment, cut))

    def _whose(self, batch: Batch) -> str:
        return "" if batch.common else self._destination

    def sample_name(self) -> str:
        """A name such as real objects have: what a check of rights may ask about. No segment ever has it."""
        return self._names.error(SAMPLE, "sample") if self._errors else self._names.data(SAMPLE, self._sample_keys)


def _of_prefix(prefix: str | None) -> list[str]:
    """What is wrong with a prefix of data, whether there are partitions or not."""
    return naming.problems(prefix, None, partitioned=None)


def _checked(value: T, problems: list[str]) -> T:
    if problems:
        raise ValueError("; ".join(problems))
    return value
