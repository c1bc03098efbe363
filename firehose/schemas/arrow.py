"""Columns of a file that has them already: Arrow's own, Parquet, or ORC. Its rows are not looked at."""

from __future__ import annotations

import pyarrow as pa

from firehose import hive_type
from firehose.table_schema import TableSchema

PARQUET, IPC_FILE, IPC_STREAM, ORC = b"PAR1", b"ARROW1", b"\xff\xff\xff\xff", b"ORC"
MAGIC = (PARQUET, IPC_FILE, IPC_STREAM, ORC)


def parse(content: pa.Buffer) -> TableSchema:
    """The file's columns. Raises ValueError."""
    try:
        schema = _schema(content)
    except (pa.ArrowException, OSError) as error:
        raise ValueError(f"cannot be read as Arrow, Parquet or ORC: {error}") from None
    return TableSchema(tuple((field.name, _type(field)) for field in schema))


def _schema(content: pa.Buffer) -> pa.Schema:
    source, begins = pa.BufferReader(content), content[:6].to_pybytes()
    if begins.startswith(PARQUET):
        from pyarrow import parquet

        return parquet.read_schema(source)
    if begins.startswith(ORC):
        from pyarrow import orc

        return orc.ORCFile(source).schema
    return pa.ipc.open_file(source).schema if begins.startswith(IPC_FILE) else pa.ipc.read_schema(source)


def _type(field: pa.Field) -> hive_type.HiveType:
    try:
        return hive_type.of_arrow(field.type)
    except ValueError as error:
        raise ValueError(f"column {field.name!r}: {error}") from None
