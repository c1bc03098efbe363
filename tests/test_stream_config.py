"""What a stream's definition comes to, beside its blocks."""

from __future__ import annotations

import pytest

from firehose.blocks import MIB
from firehose.stream_config import BufferingOptions, DestinationBlock, Stream, StreamConfig


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
