"""What the configuration file may say of data streams: each stream's own keys, and what holds for all.

Names are those of `docs/data-streams.md`; the limits are AWS's (data-streams.md section 4), save that a retention may
be shorter than AWS lets it be.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import Field

from firehose import blocks
from firehose.blocks import LARGEST, Block
from firehose.yaml_file import YamlFile

DATA_STREAMS = "data_streams"
DATA_STREAM_NAME = r"[a-zA-Z0-9_.-]{1,128}"
TAGGED = r"^[\w\s./=+@:-]*$"
STREAM_SHARDS = 10_000  # of one stream
Hours = Annotated[int, Field(ge=1, le=8760)]
Limits = Literal["aws", "none"]
TagKey = Annotated[str, Field(pattern=TAGGED, min_length=1, max_length=128)]
TagValue = Annotated[str, Field(pattern=TAGGED, max_length=256)]
Gib = Annotated[float, Field(gt=0, le=LARGEST)]


class DataStreamDefaults(Block):
    """What holds for data streams that say nothing else, such as those of the API, and for all of them together."""

    transition_seconds: Annotated[float, Field(ge=0, le=3600)] = 0.2
    subscription_seconds: Annotated[float, Field(gt=0, le=86400)] = 300
    retention_hours: Hours = 24
    limits: Limits = "none"
    limit_gib: Gib = 20
    shard_limit: Annotated[int, Field(ge=1, le=1_000_000)] = 1000
    on_demand_limit: Annotated[int, Field(ge=0, le=1_000_000)] = 50


class DataStreamOptions(Block):
    """A data stream's own keys."""

    mode: Literal["provisioned", "on_demand"] = "provisioned"
    shards: Annotated[int, Field(ge=1, le=STREAM_SHARDS)] | None = None
    retention_hours: Hours | None = None
    limits: Limits | None = None
    limit_gib: Gib | None = None
    max_record_kib: Annotated[int, Field(ge=1, le=10240)] = 1024
    tags: Annotated[dict[TagKey, TagValue], Field(max_length=50)] = {}


@dataclass(frozen=True, slots=True)
class DataStreamConfig:
    """A data stream of the file, with the defaults where it says nothing."""

    name: str
    mode: Literal["PROVISIONED", "ON_DEMAND"]
    shards: int | None  # None: on demand
    retention_hours: int
    limits: Limits
    limit_gib: float
    max_record_kib: int
    tags: Mapping[str, str]


def read(definitions: Any, defaults: DataStreamDefaults, file: YamlFile) -> Iterator[DataStreamConfig]:
    """The data streams of the file. What is wrong, `file` is told."""
    if not isinstance(definitions, dict):
        file.complain((DATA_STREAMS,), "must be a mapping of names to data streams")
        return
    total = 0
    for name, definition in definitions.items():
        path = (DATA_STREAMS, name)
        if not re.fullmatch(DATA_STREAM_NAME, name):
            file.complain(path, "a data stream's name has 1 to 128 of a-z A-Z 0-9 _ . -")
        options = blocks.read(DataStreamOptions, definition, path, file)
        if not isinstance(options, DataStreamOptions):
            continue
        if options.mode == "on_demand" and options.shards is not None:
            file.complain((*path, "shards"), "a stream with mode: on_demand has as many as it needs; leave it out")
        total += options.shards or 1
        if total > defaults.shard_limit:
            limit = f"service.data_stream_defaults.shard_limit ({defaults.shard_limit})"
            file.complain((*path, "shards"), f"with it the file asks for {total} shards, more than {limit}")
        yield _config(name, options, defaults)


def _config(name: str, options: DataStreamOptions, defaults: DataStreamDefaults) -> DataStreamConfig:
    on_demand = options.mode == "on_demand"
    return DataStreamConfig(
        name,
        "ON_DEMAND" if on_demand else "PROVISIONED",
        None if on_demand else options.shards or 1,
        options.retention_hours or defaults.retention_hours,
        options.limits or defaults.limits,
        options.limit_gib or defaults.limit_gib,
        options.max_record_kib,
        options.tags,
    )
