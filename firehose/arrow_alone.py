"""Keeps Arrow from loading pandas for nothing.

Where pandas is installed Arrow imports it for the first list that becomes an array, to know its types: 25 MB and a
third of a second in each process, none of which hands Arrow anything of pandas'. Told once that there is none, it asks
again only for somebody who wants a data frame, and then finds it.
"""

from __future__ import annotations

import pyarrow as pa

from firehose.absent import absent


def without_pandas() -> None:
    """To be called once, before there are threads. Where somebody has imported pandas it changes nothing."""
    with absent("pandas"):
        pa.array([])
