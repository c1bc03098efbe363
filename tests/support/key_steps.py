"""The step that gives rows their partitions, put to work on records in a few words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pyarrow as pa
from batches import rows
from sites import site
from virtual_time import Inline

from destinations.folder import FolderOptions
from firehose import partitions
from firehose.model import Outcome
from firehose.partitioning import step
from firehose.partitioning.options import PartitioningOptions
from firehose.partitioning.step import AskingPartition, Partition
from firehose.registry import Site

SITE = site(Inline())
Keys = dict[str, dict[str, str]]


def working(prefix: str | None = None, at: Site = SITE, **keys: Any) -> Partition | AskingPartition:
    """The step of a stream with this block, whose one destination is a folder."""
    options = PartitioningOptions.model_validate(keys)
    return step.step(options, [FolderOptions(path="out", prefix=prefix)], at)


async def outcome_of(made: Partition | AskingPartition, records: Sequence[bytes], **columns: pa.Array) -> Outcome:
    given = rows(records)
    for name, column in columns.items():
        given = given.append_column(name, column)
    return made(given) if isinstance(made, Partition) else await made.outcome(given)


def parted(outcome: Outcome) -> dict[int, Keys]:
    """The keys of each row that has a partition."""
    texts = outcome.rows.column(partitions.COLUMN).to_pylist()
    return {row: partitions.decode(text) for row, text in zip(places(outcome.rows), texts, strict=True)}


def told(outcome: Outcome) -> dict[int, str]:
    """Why each row was refused."""
    table = outcome.refused.table
    return dict(zip(table.column("row").to_pylist(), table.column("message").to_pylist(), strict=True))


def places(given: pa.RecordBatch) -> list[int]:
    found: list[int] = given.column("row").to_pylist()
    return found
