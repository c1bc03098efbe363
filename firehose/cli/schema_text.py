"""A schema as other tools read it: the statement that makes a table in Hive or Athena, and columns for our own
configuration.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from firehose.stream_config import DestinationBlock
from firehose.table_schema import TableSchema


def ddl(name: str, schema: TableSchema, block: DestinationBlock | None, folders: Sequence[str] = ()) -> str:
    """An external table over the objects of a destination; without a block, of one that nobody knows any more.

    What dynamic partitions tell in `folders` of these names is text: no value of them is none. Hive knows a name once,
    in any case.
    """
    told = {folder.lower() for folder in folders}
    types = {column: str(type_) for column, type_ in schema.types().items() if column.lower() not in told}
    parted = f"\nPARTITIONED BY (\n{_listed(dict.fromkeys(folders, 'string'))}\n)" if folders else ""
    stored = "ORC" if getattr(getattr(block, "format", None), "type", "") == "orc" else "PARQUET"
    begun = f"CREATE EXTERNAL TABLE {_quoted(name)} (\n{_listed(types)}\n){parted}"
    return f"{begun}\nSTORED AS {stored}\nLOCATION '{_place(block)}';"


def _listed(types: Mapping[str, str]) -> str:
    return ",\n".join(f"  {_quoted(column)} {type_}" for column, type_ in types.items())


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
