"""No source to read from: records are put to the stream, over HTTP."""

from __future__ import annotations

from typing import ClassVar, Literal

from firehose.stream_config import SourceBlock


class DirectPutOptions(SourceBlock):
    """`type: direct_put`, the default."""

    type: Literal["direct_put"] = "direct_put"


class DirectPut:
    Options: ClassVar[type[SourceBlock]] = DirectPutOptions
