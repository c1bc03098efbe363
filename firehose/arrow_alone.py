"""Keeps Arrow from loading pandas for nothing.

Where pandas is installed Arrow imports it for the first list that becomes an array, to know its types: 25 MB and a
third of a second in each process, none of which hands Arrow anything of pandas'. Told once that there is none, it asks
again only for somebody who wants a data frame, and then finds it.
"""

from __future__ import annotations

import sys

import pyarrow as pa


class _Absent:
    """Finds no pandas, as where it is not installed."""

    def find_spec(self, name: str, path: object = None, target: object = None) -> None:
        if name == "pandas":
            raise ModuleNotFoundError(name)


def without_pandas() -> None:
    """To be called once, before there are threads. Where somebody has imported pandas it changes nothing."""
    absent = _Absent()
    sys.meta_path.insert(0, absent)
    try:
        pa.array([])
    finally:
        sys.meta_path.remove(absent)
