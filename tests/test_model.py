"""The values that everything else speaks in."""

from __future__ import annotations

from hypothesis import example, given
from hypothesis import strategies as st

from firehose.model import Segment
from firehose.runtime import utc

IN_2100 = 4_102_444_800_000


@given(st.integers(0, IN_2100))
@example(2_150_000_000_002)
def test_a_segment_opened_when_it_was(ms: int) -> None:
    """The millisecond in which a segment was opened comes back as it went in, in any year."""
    assert Segment("app", "lane", 0, 1, 1, utc(ms), 1).opened_ms == ms
