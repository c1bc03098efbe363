"""Configurations of partitions: each thing that is wrong is told at its place, with the way out."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from firehose import config
from firehose.yaml_file import ConfigError

FOLDER = {"type": "folder", "path": "out"}
QUERY = "!{partitionKeyFromQuery:c}/"
LAMBDA = "!{partitionKeyFromLambda:zone}/"
PYTHON = {"type": "python", "handler": "m:f"}


def read(partitioning: Any, prefix: str | None = QUERY, **more: Any) -> config.Config:
    destination = {**FOLDER, **({"prefix": prefix} if prefix is not None else {})}
    stream = {"dynamic_partitioning": partitioning, "destination": destination, **more}
    return config.parse("c.yaml", yaml.safe_dump({"delivery_streams": {"app": stream}}))


def wrong(partitioning: Any, prefix: str | None = QUERY, **more: Any) -> list[str]:
    """Everything that is said of such a stream, by its place within it."""
    with pytest.raises(ConfigError) as told:
        read(partitioning, prefix, **more)
    return [f"{one.path.removeprefix('delivery_streams.app.')}: {one.message}" for one in told.value.problems]


@pytest.mark.parametrize(
    ("partitioning", "prefix", "more"),
    [
        ({"queries": {"c": ".c"}}, QUERY, {}),
        ({"queries": {"c": ".c"}, "columns": ["day(ts)"]}, QUERY, {}),
        ({"columns": ["day(ts)", "c"]}, None, {}),
        ({"columns": ["c"]}, "logs/", {}),
        ({}, LAMBDA, {"transforms": [PYTHON]}),
        ({"columns": ["c"]}, LAMBDA, {"transforms": [PYTHON]}),
        ({"queries": {"c": ".c"}, "limit": 5000}, QUERY, {"buffering": {"interval_seconds": 0.5}}),
        (
            {"queries": {"c": ".c"}},
            QUERY,
            {"backup": {"type": "folder", "path": "all"}},
        ),
    ],
)
def test_right(partitioning: Any, prefix: str | None, more: dict[str, Any]) -> None:
    """Queries, columns and keys of the user's code, each alone or together."""
    assert read(partitioning, prefix, **more).streams["app"].options.dynamic_partitioning is not None


@pytest.mark.parametrize(
    ("partitioning", "prefix", "said"),
    [
        ({"queries": {"c": ".c |"}}, QUERY, "dynamic_partitioning.queries.c: invalid jq: syntax error"),
        ({"queries": {"c": "nope"}}, QUERY, "dynamic_partitioning.queries.c: invalid jq: nope/0 is not defined"),
        ({"queries": {"c": ""}}, QUERY, "dynamic_partitioning.queries.c: string should have at least 1"),
        ({"columns": ["week(ts)"]}, None, "dynamic_partitioning.columns[0]: 'week(ts)' is no column; write a field's"),
        ({"columns": ["a.b", "a_b"]}, None, "dynamic_partitioning.columns: two columns are called 'a_b'"),
        ({"columns": ["c", "C"]}, None, "dynamic_partitioning.columns: two columns are called 'c'"),
        ({"columns": ["a"], "limit": 0}, None, "dynamic_partitioning.limit: input should be greater"),
        ({"columns": ["a"], "limit": 5001}, None, "dynamic_partitioning.limit: input should be less"),
        ({"column": ["a"]}, None, "dynamic_partitioning.column: unknown key; did you mean 'columns'?"),
        ({"columns": ["a"]}, "logs", "destination.prefix: end it with '/'"),
        ({}, None, "destination.prefix: S3 Prefix should contain Dynamic Partitioning namespaces when"),
        ({"queries": {"c": ".c"}}, "logs/", "destination.prefix: S3 Prefix should contain Dynamic Partitioning"),
        (None, QUERY, "destination.prefix: Dynamic Partitioning Namespaces can only be part of a"),
        ({"columns": ["a"]}, QUERY, "destination.prefix: MetadataExtraction processor should be present"),
        ({"queries": {"d": ".c"}}, QUERY, "destination.prefix: there is no query 'c'; dynamic_partitioning"),
        ({"queries": {"c": ".c", "d": ".d"}}, QUERY, "dynamic_partitioning.queries.d: no prefix uses it; put"),
        ({}, LAMBDA, "destination.prefix: Lambda should be present when S3 Prefix contains keys from"),
    ],
)  # fmt: skip
def test_wrong(partitioning: Any, prefix: str | None, said: str) -> None:
    """Each problem has its place, AWS's words where these are known, and what to do."""
    assert any(one.startswith(said) for one in wrong(partitioning, prefix)), wrong(partitioning, prefix)


def test_columns_of_other_keys() -> None:
    """A folder is made of a key, not of the column that the key is renamed to."""
    renaming = {"type": "openx", "column_to_json_key_mappings": {"country": "cc"}}
    parquet = {"type": "parquet", "deserializer": renaming, "schema": {"columns": {"country": "string"}}}
    block = {**FOLDER, "format": parquet}
    said = "dynamic_partitioning.columns: 'country' is read from the key 'cc' (parquet); write cc, or use queries"
    assert wrong({"columns": ["country"]}, destination=block) == [said]
    assert read({"columns": ["cc", "day(country)"]}, destination=block)


def test_together() -> None:
    """All that is wrong is told at once."""
    told = wrong({"queries": {"c": ".c", "d": ".d"}}, QUERY + LAMBDA, buffering={"interval_seconds": 0})
    assert sorted(one.partition(":")[0] for one in told) == [
        "buffering.interval_seconds",
        "destination.prefix",
        "dynamic_partitioning.queries.d",
    ]


def test_backup_and_errors_have_no_partitions() -> None:
    """Records as they came and records in error fall to no partition."""
    backup = {**FOLDER, "path": "all", "prefix": QUERY}
    told = wrong({"queries": {"c": ".c"}}, backup=backup, errors={**FOLDER, "path": "e", "prefix": QUERY})
    assert {one.partition(":")[0] for one in told} == {"backup.prefix", "errors.prefix"}


@pytest.mark.parametrize(
    ("partitioning", "buffering", "size_mib"),
    [
        (None, {}, 5),
        (None, {"size_mib": 7}, 7),
        ({"columns": ["c"]}, {}, 128),
        ({"columns": ["c"]}, {"interval_seconds": 60}, 128),
        ({"columns": ["c"]}, {"size_mib": 5}, 5),
    ],
)
def test_default_size(partitioning: Any, buffering: dict[str, float], size_mib: float) -> None:
    """Partitions are as large as with AWS where nothing is said of their size."""
    stream = read(partitioning, None, buffering=buffering).streams["app"]
    assert (stream.size_mib, stream.size_bytes) == (size_mib, size_mib * 1024 * 1024)
