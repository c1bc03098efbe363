"""ORC objects as one table. DuckDB cannot read them by itself: Arrow does, column by column and batch by batch."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import pyarrow as pa
import pyarrow.dataset as ds
from pyarrow.fs import FSSpecHandler, PyFileSystem

from firehose.lake.files import HIVE_NULL, Lake

KEYS = {"BIGINT": pa.int64(), "DATE": pa.date32()}  # DuckDB's types of folders' keys; all others are text here


def table(lake: Lake, paths: list[str], keys: Mapping[str, str]) -> Any:
    """A dataset that holds every column of every object, and the keys of their folders, whose types DuckDB has found.
    A folder's key stands before a column of that name.
    """
    typed = pa.schema([(key, KEYS.get(kind, pa.string())) for key, kind in keys.items()])
    options = ds.FileSystemFactoryOptions(partitioning=ds.HivePartitioning(typed, null_fallback=HIVE_NULL))
    files = PyFileSystem(FSSpecHandler(lake))
    factory = ds.FileSystemDatasetFactory(files, paths, ds.OrcFileFormat(), options)
    found = _united(fragment.physical_schema for fragment in factory.finish(typed).get_fragments())
    hidden = {key.casefold() for key in keys}
    own = [pa.field(name, kind) for name, kind in found.items() if name.casefold() not in hidden]
    return factory.finish(pa.schema([*own, *typed]))


def _united(schemas: Iterable[pa.Schema]) -> dict[str, pa.DataType]:
    """Every column with a type that holds all of its values: text where nothing else does."""
    found: dict[str, pa.DataType] = {}
    for field in (field for schema in schemas for field in schema):
        found[field.name] = _wide_enough(found.get(field.name, field.type), field.type)
    return found


def _wide_enough(one: pa.DataType, other: pa.DataType) -> pa.DataType:
    if one == other:
        return one
    both = [pa.schema([("", kind)]) for kind in (one, other)]
    try:
        return pa.unify_schemas(both, promote_options="permissive").field(0).type
    except (pa.ArrowTypeError, pa.ArrowInvalid):
        return pa.string()
