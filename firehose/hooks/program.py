"""What a worker process runs, said in a way that can be sent to it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any

import pyarrow as pa
from pydantic import Field

from firehose.blocks import Block
from firehose.config import LARGEST, TransformBlock
from firehose.model import Outcome

Mark = Callable[[int], None]  # says at which of the given rows (its index) the work is now: whose fault a crash is
Run = Callable[[pa.RecordBatch, Mark], Outcome]

PROCESSING_FAILED = "processing-failed"  # error-output-type: firehose.md section 5.2
PAYLOAD_BYTES = 6 * 1024 * 1024  # AWS's bound of one invocation, each way: firehose.md section 8.2


@dataclass(frozen=True, slots=True)
class Program:
    """`maker`, a dotted "module:function", is called once in the worker with `options` and returns a `Run`.

    `options` are plain JSON values. `name` is what logs, metrics and dead letters call it.
    """

    name: str
    maker: str
    options: Mapping[str, Any] = field(default_factory=dict)


class PayloadOptions(Block):
    """How much a hook is handed at once: AWS's BufferSizeInMBs of a Lambda processor (firehose.md section 4)."""

    size_mib: Annotated[float, Field(ge=0.2, le=3)] = 1
    interval_seconds: Annotated[float, Field(ge=0, le=900)] = 60


class WorkerOptions(TransformBlock):
    """Keys of every transform that runs in worker processes, and their bounds."""

    workers: Annotated[int, Field(ge=1, le=64)] = 1
    timeout_seconds: Annotated[float, Field(gt=0, le=900)] = 60
    memory_mib: Annotated[float, Field(ge=16, le=LARGEST)] = 512
    attempts: Annotated[int, Field(ge=1, le=301)] = 4
    isolate_seconds: Annotated[float, Field(ge=0, le=7200)] = 120
    buffering: PayloadOptions = PayloadOptions()
    environment: Annotated[dict[str, str], Field(repr=False)] = {}
