"""A schema in a file of the user's: Hive DDL, Avro, JSON Schema, or any file that has columns itself.

What the file is shows in its content; only where that could be either does its name decide. It is read when the
service starts or reloads, and by no batch later: a file that changes is taken up at the next reload.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pyarrow as pa

from firehose.contracts import Disk
from firehose.schemas import arrow, avro, ddl, json_schema
from firehose.table_schema import TableSchema

TEXT_LIMIT_BYTES = 16 * 1024 * 1024
KINDS = "Hive DDL, an Avro schema, a JSON Schema, or an Arrow, Parquet or ORC file"


def read(disk: Disk, path: str) -> TableSchema:
    """The file's schema. Raises ValueError naming the file, and the place in it that is wrong."""
    try:
        view = disk.view(path)
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror or error}") from None
    try:
        return parse(path, view.buffer)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    finally:
        view.close()


def parse(path: str, content: pa.Buffer) -> TableSchema:
    """The schema in a file's content. Raises ValueError."""
    if content[: len(arrow.IPC_FILE)].to_pybytes().startswith(arrow.MAGIC):
        found = arrow.parse(content)
    else:
        found = _of_text(path, _text(content))
    return TableSchema.parsed(found.types())  # what no type may say is known there: empty names, fields that are twins


def _text(content: pa.Buffer) -> str:
    if content.size > TEXT_LIMIT_BYTES:
        raise ValueError(f"is larger than {TEXT_LIMIT_BYTES} bytes, and none of {KINDS}")
    try:
        return str(content.to_pybytes(), "utf-8-sig")
    except UnicodeDecodeError:
        raise ValueError(f"is none of {KINDS}") from None


def _of_text(path: str, text: str) -> TableSchema:
    if text.lstrip()[:1] not in ("{", "[", '"'):
        return ddl.parse(text)
    said = _json(text)
    if isinstance(said, Mapping) and isinstance(said.get("columns"), Mapping):  # as versions beside the data have it
        return TableSchema.parsed({str(name): str(type_) for name, type_ in said["columns"].items()})
    is_avro = path.lower().endswith((".avsc", ".avro")) or _is_record(said)
    return avro.parse(said) if is_avro else json_schema.parse(said)


def _is_record(said: Any) -> bool:
    """Whether it is an Avro record, which JSON Schema knows no type of the name of."""
    return isinstance(said, Mapping) and (said.get("type") == "record" or _is_record(said.get("type")))


def _json(text: str) -> Any:
    try:
        return json.loads(text, object_pairs_hook=_members)
    except json.JSONDecodeError as error:
        raise ValueError(f"line {error.lineno}, column {error.colno}: no JSON: {error.msg}") from None
    except RecursionError:
        raise ValueError("is nested too deeply") from None


def _members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object in which no name occurs twice: the first of two columns would be lost in silence."""
    members = dict(pairs)
    if len(members) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the name {twice!r} occurs twice in one object")
    return members
