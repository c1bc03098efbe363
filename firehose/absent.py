"""Keeps a library from loading another that it can do without, and that would be loaded for nothing."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager


class _Absent:
    """Finds nothing of that name, as where it is not installed."""

    def __init__(self, name: str) -> None:
        self._name = name

    def find_spec(self, name: str, path: object = None, target: object = None) -> None:
        if name == self._name:
            raise ModuleNotFoundError(name)


@contextmanager
def absent(name: str) -> Iterator[None]:
    """What is imported meanwhile does not find it. Where somebody has imported it already, this changes nothing."""
    finder = _Absent(name)
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)
