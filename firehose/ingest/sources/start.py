"""Where reading begins, as a source's block says it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Literal

from pydantic import AfterValidator

from firehose.runtime import Runtime


def _with_zone(instant: datetime) -> datetime:
    """An instant without a zone is UTC, as everywhere in a configuration."""
    return instant if instant.tzinfo else instant.replace(tzinfo=UTC)


Start = Literal["LATEST", "TRIM_HORIZON"] | Annotated[datetime, AfterValidator(_with_zone)]


def begin_ms(start: Start, runtime: Runtime) -> int:
    """The instant that reading begins at: records that arrived before it are left out."""
    if isinstance(start, datetime):
        return int(start.timestamp() * 1000)
    return runtime.now_ms() if start == "LATEST" else 0
