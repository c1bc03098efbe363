"""What destinations that write objects share: the keys of their blocks, and how a batch becomes an object.

Names come from firehose.md section 5 (naming.py), bytes from sections 5.3 and 6 (formats.py, compression.py).
Pure: it must never touch a far side, and a name must never depend on anything but the options and the batch's
segment and partition: a repeated delivery has to hit the same object (DESIGN 3, law 5).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from typing import Annotated, Literal, Self, TypeVar

from pydantic import Field, ValidationInfo, field_validator

from firehose import naming
from firehose.blocks import Block
from firehose.compression import Piece, codec
from firehose.formats import Format, format_named
from firehose.model import Batch, Segment
from firehose.registry import Site
from firehose.stream_config import DestinationBlock, StreamConfig, delimiter_bytes

T = TypeVar("T")
ERROR_TYPE = "!{firehose:error-output-type}"
SAMPLE = Segment("sample", "sample", 0, 1, 0, datetime(2001, 2, 3, 4, 5, 6, tzinfo=UTC), 1)


class FormatOptions(Block):
    """How records stand in an object: as they are, or each on a line of its own."""

    type: Literal["raw", "json_lines"] = "raw"


class ObjectOptions(DestinationBlock):
    """Keys of a block that writes objects. In an `errors` block, `prefix` is AWS's ErrorOutputPrefix."""

    prefix: Annotated[str, Field(max_length=1024)] | None = None
    time_zone: str = "UTC"
    file_extension: str = ""
    compression: Literal["none", "gzip", "zip", "snappy", "hadoop_snappy", "zstd"] = "none"
    format: FormatOptions = FormatOptions()
    delimiter: str = "none"
    retention_days: Annotated[float, Field(gt=0, le=36500)] | None = None  # of an errors block: then they are removed

    @field_validator("prefix")
    @classmethod
    def _prefix(cls, prefix: str | None) -> str | None:
        # The block cannot know yet whether it holds data or errors; `problems` asks again when that is known.
        as_errors = prefix is not None and ERROR_TYPE in prefix
        return _checked(prefix, naming.problems(None, prefix) if as_errors else naming.problems(prefix, None))

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
        return delimiter

    def beside(self, destinations: Iterable[DestinationBlock]) -> Self:
        """AWS's ErrorOutputPrefix null: the prefix of the data that shares the container (firehose.md section 5.2)."""
        if self.prefix is None:
            for other in destinations:
                if isinstance(other, ObjectOptions) and other.container() == self.container():
                    return self.model_copy(update={"prefix": other.prefix if naming.is_literal(other.prefix) else None})
        return self

    def container(self) -> tuple[str, ...]:
        """What holds the objects, comparable: two blocks with equal containers write side by side."""
        raise NotImplementedError

    def place(self) -> tuple[str, ...]:
        """Where in the container the objects go. Two streams with an equal place mix their objects."""
        return (*self.container(), self.prefix or "")

    def problems(self, stream: StreamConfig) -> Iterator[tuple[str, str]]:
        """What is wrong with the block in this stream's company, each with its key."""
        as_errors = self is stream.errors
        wrong = self._problems_of_errors(stream) if as_errors else naming.problems(self.prefix, None)
        yield from (("prefix", message) for message in wrong)
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

    def _problems_of_errors(self, stream: StreamConfig) -> list[str]:
        """AWS asks for a prefix of their own where data and errors share a bucket (firehose.md section 5.1)."""
        others = [one for one in stream.destinations.values() if isinstance(one, ObjectOptions)]
        for other in others:
            if other.container() == self.container() and not naming.problems(other.prefix, None):
                return naming.problems(other.prefix, self.prefix, errors_share_bucket=True)
        return naming.problems(None, self.prefix)

    def _problems_of_retention(self, stream: StreamConfig) -> Iterator[str]:
        """Dead letters are removed by their names, which no data object may have."""
        if self is not stream.errors:
            yield "is for an errors block: data is never removed"
            return
        names, sample = self.error_names(), replace(SAMPLE, stream=stream.name)
        for name, other in stream.destinations.items():
            if not isinstance(other, ObjectOptions) or other.container() != self.container():
                continue
            if not naming.problems(other.prefix, None) and names.error_type(other.names().data(sample), stream.name):
                yield f"cannot tell dead letters from the data of '{name}' in the same place; give errors a prefix"

    def _overwrites(self, other: ObjectOptions) -> bool:
        if self.container() != other.container() or naming.problems(other.prefix, None):
            return False
        return self.names().data(SAMPLE) == other.names().data(SAMPLE)

    def fixed_prefix(self) -> str:
        """What all the names begin with."""
        return (self.prefix or "").partition("!{")[0]

    def names(self) -> naming.ObjectNames:
        return naming.ObjectNames(prefix=self.prefix, time_zone=self.time_zone, extension=self._extension())

    def error_names(self) -> naming.ObjectNames:
        return naming.ObjectNames(
            error_output_prefix=self.prefix, time_zone=self.time_zone, extension=self._extension()
        )

    def records_format(self) -> Format:
        raw = self.format.type == "raw"
        return format_named(self.format.type, delimiter_bytes(self.delimiter) if raw else None)

    def _extension(self) -> str:
        """FileExtension replaces what format and compression would give (firehose.md section 5.3)."""
        return self.file_extension or self.records_format().extension + codec(self.compression).extension


class ObjectEncoder:
    """Turns one destination's batches into the names and bytes of objects. Stateless: threads share it."""

    def __init__(self, options: ObjectOptions, site: Site) -> None:
        self._errors = site.purpose == "errors"
        self._destination = site.destination
        self._names = options.error_names() if self._errors else options.names()
        self._codec = codec(options.compression)
        # Error documents are JSON, one a line, whatever the data's format (firehose.md section 5.2).
        self._format = format_named("json_lines", None) if self._errors else options.records_format()

    @property
    def content_encoding(self) -> str | None:
        return self._codec.content_encoding

    def name(self, batch: Batch) -> str:
        if self._errors:
            return self._names.error(batch.segment, batch.partition, discriminator=self._whose(batch))
        return self._names.data(batch.segment, discriminator=batch.partition)

    def chunks(self, batch: Batch) -> Iterator[Piece]:
        """The object's bytes, in pieces that suit a write; memory is bounded however large the batch."""
        cut = f"{batch.partition}/{self._whose(batch)}" if self._errors else batch.partition
        entry = self._names.identity(batch.segment, cut)
        return self._codec.compress(self._format.encode(batch), str(entry))

    def _whose(self, batch: Batch) -> str:
        return "" if batch.common else self._destination

    def sample_name(self) -> str:
        """A name such as real objects have: what a check of rights may ask about. No segment ever has it."""
        return self._names.error(SAMPLE, "sample") if self._errors else self._names.data(SAMPLE)


def _checked(value: T, problems: list[str]) -> T:
    if problems:
        raise ValueError("; ".join(problems))
    return value
