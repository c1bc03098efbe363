"""After each test of hooks, no worker process is left."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hooking import workers_of


@pytest.fixture(autouse=True)
def nothing_is_left() -> Iterator[None]:
    yield
    assert workers_of() == []
