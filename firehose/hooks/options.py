"""Keys of every transform that runs in worker processes, and their bounds."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from firehose.blocks import LARGEST, MIB, Block
from firehose.stream_config import TransformBlock


class PayloadOptions(Block):
    """How much one call is handed: AWS's BufferSizeInMBs and BufferIntervalInSeconds of a Lambda processor
    (firehose.md section 4). A hook meets its records when their segment is sealed: only the size has work to do.
    """

    size_mib: Annotated[float, Field(ge=0.2, le=3)] = 1
    interval_seconds: Annotated[float, Field(ge=0, le=900)] = 60

    @property
    def size_bytes(self) -> int:
        return int(self.size_mib * MIB)


class WorkerOptions(TransformBlock):
    """`workers` processes, each with its bounds. `environment` is all that a worker sees beside paths and locale."""

    workers: Annotated[int, Field(ge=1, le=64)] = 1
    timeout_seconds: Annotated[float, Field(gt=0, le=900)] = 60
    memory_mib: Annotated[int, Field(ge=16, le=int(LARGEST))] = 512
    attempts: Annotated[int, Field(ge=1, le=301)] = 4
    isolate_seconds: Annotated[float, Field(ge=0, le=7200)] = 120
    buffering: PayloadOptions = PayloadOptions()
    environment: Annotated[dict[str, str], Field(repr=False)] = {}
