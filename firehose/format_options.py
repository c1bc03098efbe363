"""The `format` block of a destination that writes objects: one of several, told apart by `type`."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from firehose.blocks import Block
from firehose.orc import OrcOptions
from firehose.parquet import ParquetOptions


class PlainOptions(Block):
    """How records stand in an object: as they are, or each on a line of its own."""

    extension: ClassVar[str] = ""

    type: Literal["raw", "json_lines"] = "raw"


FormatOptions = Annotated[PlainOptions | ParquetOptions | OrcOptions, Field(discriminator="type")]
