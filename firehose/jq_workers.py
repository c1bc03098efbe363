"""jq in worker processes that are asked about documents: a query may loop or eat memory."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pyarrow as pa

from firehose.hooks.options import WorkerOptions
from firehose.hooks.program import Program
from firehose.hooks.workers import Workers
from firehose.model import ROW_SCHEMA
from firehose.registry import Site

JQ_SECONDS = 20.0  # for a megabyte of documents


def workers(program: Program, site: Site) -> Workers:
    return Workers(program, WorkerOptions(type="jq", attempts=1, timeout_seconds=JQ_SECONDS), site)


def questions(documents: Iterable[bytes | None]) -> pa.RecordBatch:
    """Those that are JSON, None being what is not; `row` is the place of each."""
    asked = [(place, one) for place, one in enumerate(documents) if one is not None]
    zeros = np.zeros(len(asked), np.int64)
    texts, places = (
        pa.array([one for _, one in asked], pa.binary()),
        pa.array([place for place, _ in asked], pa.int32()),
    )
    return pa.record_batch([texts, places, pa.array(zeros, pa.int32()), zeros], schema=ROW_SCHEMA)
