"""The user's SQL over the records of a slice, `SELECT ... FROM records`, with DuckDB in a worker process.

Each result row is a record, as a JSON object; a record without a result row is dropped. What columns there are and how
a row's origin is kept: `firehose.sql`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

import pyarrow as pa
from pydantic import AfterValidator, Field, ValidationInfo, field_validator

from firehose.hooks.options import WorkerOptions
from firehose.hooks.program import Mark, Program, Run
from firehose.hooks.workers import Workers
from firehose.model import Outcome
from firehose.registry import Site
from firehose.sql import answer, query, table
from firehose.sql.engine import complaint_of, opened

ENGINE_SHARE = 0.5  # of a worker's memory; records and results are there beside it


def _column_type(type_: str) -> str:
    if said := complaint_of(lambda: table.check(type_)):
        raise ValueError(said)
    return type_


class SqlOptions(WorkerOptions):
    """The query, and the types of its columns where they shall not follow the records."""

    type: Literal["sql"] = "sql"
    columns: (
        Annotated[
            dict[Annotated[str, Field(min_length=1)], Annotated[str, AfterValidator(_column_type)]],
            Field(min_length=1, max_length=table.MOST_COLUMNS),
        ]
        | None
    ) = None
    query: Annotated[str, Field(min_length=1, max_length=65536)]

    @field_validator("columns")
    @classmethod
    def _names(cls, columns: dict[str, str] | None) -> dict[str, str] | None:
        if any("\0" in field for field in columns or {}):
            raise ValueError("a name holds a NUL character; leave that field out")
        for field, column in table.columns(columns or {}).items():
            if field != column:
                raise ValueError(
                    f"the name {field!r} is taken: names have no case, and _row, _record, _arrival are ours"
                )
        return columns

    @field_validator("query")
    @classmethod
    def _binds(cls, text: str, info: ValidationInfo) -> str:
        if "columns" not in info.data:  # they are wrong, and complained of already
            return text
        if said := complaint_of(lambda: answer.check(text, info.data["columns"])):
            raise ValueError(f"invalid SQL: {said}")
        return text


class Sql(Workers):
    """A hook that puts the query to slice after slice."""

    Options: ClassVar[type[WorkerOptions]] = SqlOptions

    def __init__(self, options: SqlOptions, site: Site) -> None:
        said = options.model_dump(include={"query", "columns", "memory_mib"})
        super().__init__(Program("sql", "transforms.sql:program", said), options, site)


def program(options: Mapping[str, Any]) -> Run:
    """What a worker runs. It marks no row: a query is at all of them at once."""
    engine = opened(options["memory_mib"] * ENGINE_SHARE)
    answerer = answer.Answerer(engine, query.parsed(engine, options["query"]), options["columns"])

    def run(rows: pa.RecordBatch, mark: Mark) -> Outcome:
        return answerer(rows)

    return run
