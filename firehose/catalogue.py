"""Which delivery streams exist, in which versions: the one answer for both halves (DESIGN 3.4)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

State = Literal["CREATING", "CREATING_FAILED", "DELETING", "DELETING_FAILED", "ACTIVE"]


@dataclass(frozen=True, slots=True)
class Entry:
    """A delivery stream. `definitions` holds the newest version and the older ones that a segment still needs."""

    name: str
    origin: Literal["yaml", "api"]
    state: State
    created_ms: int
    version: int
    definitions: Mapping[int, Mapping[str, Any]] = field(repr=False)
    updated_ms: int | None = None
