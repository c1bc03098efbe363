"""Ends each record with a delimiter, the last of an object too.

Amazon's AppendDelimiterToRecord (firehose.md section 8.6) leaves it out behind an object's last record. Here each
record that does not end with it gets it, so that objects can be concatenated; listing it twice changes nothing.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

import pyarrow as pa
from pydantic import Field, field_validator

from firehose.formats import delimited
from firehose.model import Outcome
from firehose.registry import Site
from firehose.rows import replaced
from firehose.stream_config import DELIMITING, TransformBlock, delimiter_bytes


class AppendDelimiterOptions(TransformBlock):
    """`type: append_delimiter`."""

    STAGE: ClassVar[int] = DELIMITING

    type: Literal["append_delimiter"] = "append_delimiter"
    delimiter: Annotated[str, Field(min_length=1, max_length=256)] = "newline"

    @field_validator("delimiter")
    @classmethod
    def _delimiter(cls, delimiter: str) -> str:
        if delimiter == "none":
            raise ValueError("none appends nothing; leave the transform out, or give newline or any text")
        return delimiter


class AppendDelimiter:
    """Appends the delimiter wherever it is missing, column by column."""

    Options: ClassVar[type[TransformBlock]] = AppendDelimiterOptions
    repeatable = True

    def __init__(self, options: AppendDelimiterOptions, site: Site) -> None:
        self._delimiter = delimiter_bytes(options.delimiter)

    def __call__(self, rows: pa.RecordBatch) -> Outcome:
        return Outcome(replaced(rows, delimited(rows.column("record"), self._delimiter)))
