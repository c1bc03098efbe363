"""The block `dynamic_partitioning` of a stream."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field

from firehose import jq_query
from firehose.blocks import Block
from firehose.partitioning.columns import Column
from firehose.partitioning.queries import ENDING

QUERIES = 50  # AWS's bound: firehose.md section 8.6
PARTITIONS = 500  # AWS's default quota; 5000 is as far as it is raised


def _query(text: str) -> str:
    return jq_query.checked(text, ENDING)


def _column(text: str) -> str:
    Column.parsed(text)
    return text


def _apart(columns: tuple[str, ...]) -> tuple[str, ...]:
    names = [Column.parsed(text).name.casefold() for text in columns]  # engines cannot tell upper from lower case
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(f"two columns are called '{twice[0]}' in folders' names; keep one of them")
    return columns


Name = Annotated[str, Field(pattern=r"^[^{}!:/\x00-\x1f]+$", max_length=128)]  # a count in the pattern takes 0.5 MB
Query = Annotated[str, Field(min_length=1, max_length=65536), AfterValidator(_query)]


class PartitioningOptions(Block):
    """Keys by jq query and by column, beside those that the user's code returns. Of partitions `limit` may be open."""

    queries: Annotated[dict[Name, Query], Field(max_length=QUERIES)] = {}
    columns: Annotated[
        tuple[Annotated[str, AfterValidator(_column)], ...], Field(max_length=QUERIES), AfterValidator(_apart)
    ] = ()
    limit: Annotated[int, Field(ge=1, le=10 * PARTITIONS)] = PARTITIONS
