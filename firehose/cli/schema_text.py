"""A schema as other tools read it: the statement that makes a table in Hive or Athena, and columns for our own
configuration.
"""

from __future__ import annotations

import json

from firehose.stream_config import DestinationBlock
from firehose.table_schema import TableSchema


def ddl(name: str, schema: TableSchema, block: DestinationBlock | None) -> str:
    """An external table over the objects of a destination; without a block, of one that nobody knows any more."""
    columns = ",\n".join(f"  {_quoted(column)} {type_}" for column, type_ in schema.types().items())
    stored = "ORC" if getattr(getattr(block, "format", None), "type", "") == "orc" else "PARQUET"
    return f"CREATE EXTERNAL TABLE {_quoted(name)} (\n{columns}\n)\nSTORED AS {stored}\nLOCATION '{_place(block)}';"


def yaml(schema: TableSchema) -> str:
    """What may stand behind `schema:`. A JSON string is one of YAML's, too."""
    lines = (f"  {_text(name)}: {_text(type_)}" for name, type_ in schema.types().items())
    return "\n".join(["columns:", *lines])


def _text(value: str) -> str:
    return json.dumps(value, ensure_ascii=False)


def _quoted(name: str) -> str:
    return f"`{name.replace('`', '``')}`"


def _place(block: DestinationBlock | None) -> str:
    """The folder that holds all objects."""
    bucket = getattr(block, "bucket", None)
    top = f"s3://{bucket}" if bucket else getattr(block, "path", "<where the objects are>")
    fixed = (getattr(block, "prefix", None) or "").partition("!{")[0].rpartition("/")[0]
    return "/".join([top.rstrip("/"), *filter(None, [fixed.strip("/")]), ""])
