"""The clock of the test's own event loop, put forward: time-outs that a test waits for may be long, so that nothing
else runs into them on a busy machine, and the test is quick all the same.
"""

from __future__ import annotations

import asyncio


def put_forward(seconds: float) -> None:
    """So much time has passed, for every timer of the running loop."""
    loop = asyncio.get_running_loop()
    before = loop.time
    loop.time = lambda: before() + seconds  # type: ignore[method-assign]
