"""Bytes in flight against one bound."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from firehose.http.admission import Admission


@given(sizes=st.lists(st.integers(0, 200), max_size=12), limit=st.integers(1, 300))
def test_adds_up(sizes: list[int], limit: int) -> None:
    """What was admitted is never over the limit, what fits is never refused, and all is given back."""
    admission = Admission(limit)
    inside = 0
    for size in sizes:
        assert admission.admit(size) is (inside + size <= limit)
        inside += size if inside + size <= limit else 0
        assert admission.in_flight_bytes == inside
    admission.release(inside)
    assert admission.in_flight_bytes == 0


def test_given_back_twice() -> None:
    """Giving back more than was taken is a mistake of ours, and does not pass."""
    with pytest.raises(AssertionError):
        Admission(1).release(1)
