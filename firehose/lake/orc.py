"""ORC objects as one table. DuckDB cannot read them by itself: Arrow does, column by column and batch by batch."""

from __future__ import annotations

from typing import Any

import pyarrow.dataset as ds
from pyarrow.fs import FSSpecHandler, PyFileSystem

from firehose.lake.files import Lake


def table(lake: Lake, paths: list[str]) -> Any:
    """A dataset that holds every column of every object, and the keys of their folders."""
    options = ds.FileSystemFactoryOptions(partitioning=ds.HivePartitioning.discover())
    factory = ds.FileSystemDatasetFactory(PyFileSystem(FSSpecHandler(lake)), paths, ds.OrcFileFormat(), options)
    return factory.finish(factory.inspect(promote_options="permissive", fragments=len(paths)))
