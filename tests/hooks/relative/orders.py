"""A hook that imports its neighbours as packages do."""

from __future__ import annotations

from . import late
from .late import suffixed as once


def clean(record: bytes) -> bytes:
    return late.suffixed(once(record))
