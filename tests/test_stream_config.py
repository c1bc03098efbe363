"""What a stream's definition comes to, beside its blocks."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from destinations import TABLE
from firehose import config
from firehose.blocks import MIB
from firehose.stream_config import BufferingOptions, DestinationBlock, Stream, StreamConfig
from firehose.yaml_file import ConfigError


@pytest.mark.parametrize(
    ("size_mib", "interval", "expected"),
    [(128, 300, (16, 15)), (5, 60, (5, 6)), (128, 5, (16, 1)), (128, 0.5, (16, 0.5)), (1, 900, (1, 15))],
)
def test_partitioned_streams_seal_sooner(size_mib: float, interval: float, expected: tuple[float, float]) -> None:
    """Segments whose rows are gathered by partition are sealed long before a partition is due, never after."""
    buffering = BufferingOptions(size_mib=size_mib, interval_seconds=interval)
    alone = StreamConfig("app", Stream(buffering=buffering), {}, None)
    gathered = Stream(buffering=buffering, dynamic_partitioning={"columns": ["country"]})
    assert alone.seals_at == (size_mib * MIB, interval)
    assert StreamConfig("app", gathered, {}, None).seals_at == (expected[0] * MIB, expected[1])


LAKE = {"type": "folder", "path": "lake"}
BLOCKS: dict[str, dict[str, Any]] = {
    "folder": {"path": "dead"},
    "http": {"url": "http://far"},
    "opensearch": {"endpoint": "http://far", "index": "logs"},
    "redshift": {
        "host": "far",
        "database": "dev",
        "user": "loader",
        "password": "hush",
        "table": "logs",
        "iam_role": "default",
        "staging": {"bucket": "staging"},
    },
    "s3": {"bucket": "dead"},
    "splunk": {"hec_endpoint": "http://far", "hec_token": "hush"},
}


@pytest.mark.parametrize("type_", TABLE)
@pytest.mark.parametrize("own", [False, True])
def test_what_can_be_an_error_output(type_: str, own: bool) -> None:
    """Dead letters are objects: no other destination takes them, neither a stream's nor those of one destination."""
    errors = {"errors": {"type": type_, **BLOCKS[type_]}}
    stream = {"destinations": [{**LAKE, **errors}]} if own else {"destination": LAKE, **errors}
    place = "destinations[0].errors" if own else "errors"
    try:
        config.parse("firehose.yaml", yaml.safe_dump({"delivery_streams": {"app": stream}}))
        said = []
    except ConfigError as error:
        said = [str(problem) for problem in error.problems]
    refused = [one for one in said if f"{place}.type: dead letters are objects: choose s3 or folder" in one]
    assert len(said) == len(refused) == (type_ not in ("folder", "s3"))


class Hasty(DestinationBlock):
    INTERVAL_SECONDS = 60

    type: str = "hasty"


def test_the_hastiest_destination_says_the_interval() -> None:
    """Where no interval is given it is the shortest of the destinations' defaults; one that is given stands."""
    both = {"far": Hasty(), "lake": DestinationBlock(type="lake")}
    size_alone = Stream(buffering=BufferingOptions(size_mib=1))
    assert StreamConfig("app", size_alone, both, None).seals_at == (MIB, 60)
    assert StreamConfig("app", size_alone, {"lake": both["lake"]}, None).interval_seconds == 300
    given = Stream(buffering=BufferingOptions(interval_seconds=300))
    assert StreamConfig("app", given, both, None).interval_seconds == 300
