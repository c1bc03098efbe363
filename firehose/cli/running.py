"""Commands that send for long: how they run to their end, and how they are stopped before it."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Coroutine
from typing import Any

from firehose.cli.show import Failure


class Stopped(Failure):
    """A run that ended early; what it tells besides says where."""


def to_its_end(run: Coroutine[Any, Any, None]) -> str:
    """Runs it; where the end came too early, why. Ctrl-C is one such reason."""

    async def stoppable() -> None:
        # asyncio's own handler only asks the task to end, which a read that blocks would not notice.
        signal.signal(signal.SIGINT, signal.default_int_handler)
        await run

    try:
        asyncio.run(stoppable())
    except Stopped as stopped:
        return str(stopped)
    except KeyboardInterrupt:
        return "stopped"
    return ""
