"""SQL conditions, `status >= 500 AND path LIKE '/api/%'`, with DuckDB in a worker process.

The records are the table that the transform `sql` sees. A record for which the condition is NULL is no match, as
everywhere in SQL.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Set
from functools import partial
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa

from firehose.conditions.judging import Judgement, told
from firehose.hooks.options import WorkerOptions
from firehose.hooks.program import Mark, Program, Run
from firehose.hooks.workers import Workers
from firehose.model import NO_ROWS, ROW_SCHEMA, Outcome, Rejections
from firehose.partitioning.documents import kind
from firehose.registry import Site
from firehose.sql import answer, query
from firehose.sql.engine import BadQuery, opened, run
from firehose.sql.query import UNLIKE_OTHERS, all_nodes, syntax_tree

MEMORY_MIB = 512
ENGINE_SHARE = 0.5  # of a worker's memory; records are there beside it
SQL_SECONDS = 60.0
PLAIN_DIGITS = 18  # of a whole number that every engine has as one
FICKLE_NAMES = {"current_timestamp", "current_date", "current_time", "localtime", "localtimestamp"}
FICKLE = "SELECT function_name FROM duckdb_functions() WHERE stability <> 'CONSISTENT'"
_fields = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
MERGING = "SELECT function_name FROM duckdb_functions() WHERE function_type = 'aggregate'"


def check(condition: str) -> None:
    """Raises `BadQuery` for whatever is wrong with it as far as that shows without records."""
    engine = opened(answer.CHECK_MIB)
    try:
        text = _query(condition)
        if (found := next(_fickle(engine, text), None)) is not None:
            raise BadQuery(f"{found} may say something else when the same record is judged again; leave it out")
        if (found := next(_merging(engine, text), None)) is not None:
            raise BadQuery(f"a condition looks at one record alone: leave out {found}")
        if any(one.get("class") in UNLIKE_OTHERS for one in all_nodes(syntax_tree(engine, text))):
            raise BadQuery("a condition looks at one record alone: leave out subqueries and window functions")
        if not query.parsed(engine, text).row_by_row:
            raise BadQuery("it must be a condition, as behind WHERE")
    finally:
        engine.close()
    answer.check(text, None)


class AskedSql:
    """A condition that a worker answers."""

    def __init__(self, condition: str, site: Site) -> None:
        self._threads = site.threads
        program = Program("where", "firehose.conditions.by_sql:program", {"condition": condition})
        self._workers = Workers(
            program, WorkerOptions(type="sql", attempts=1, timeout_seconds=SQL_SECONDS, memory_mib=MEMORY_MIB), site
        )

    async def ask(self, rows: pa.RecordBatch) -> Judgement:
        questions = await self._threads.run(partial(_numbered, rows))
        return told(await self._workers.outcome(questions), rows.num_rows)

    async def close(self) -> None:
        await self._workers.close()


def program(options: Mapping[str, Any]) -> Run:
    """What a worker runs: records that match are left, without what they say. It marks no row: a condition is put to
    all of them at once.
    """
    engine = opened(MEMORY_MIB * ENGINE_SHARE)
    asked = query.parsed(engine, _query(options["condition"]))
    answerer = answer.Answerer(engine, asked, None)

    def judge(rows: pa.RecordBatch, mark: Mark) -> Outcome:
        made = [answerer(rows.take(pa.array(alike, pa.int32()))) for alike in _alike(rows, asked.names)]
        whole = pa.concat_batches([rows.slice(0, 0), *(one.rows for one in made)]).sort_by("row")
        empty = pa.array([b""] * whole.num_rows, pa.binary())
        refused = pa.concat_tables([Rejections().table, *(one.refused.table for one in made)]).sort_by("row")
        dropped = pa.concat_arrays([NO_ROWS, *(one.dropped for one in made)])
        left = whole.set_column(0, ROW_SCHEMA.field("record"), empty)
        return Outcome(left, Rejections(_named(refused)), dropped.sort())

    return judge


def _alike(rows: pa.RecordBatch, names: Set[str]) -> Iterable[list[int]]:
    """The rows by the kinds of the fields that are looked at: columns have the types of the records at hand, and what a
    record is to the condition must not depend on its neighbours.
    """
    groups = defaultdict[object, list[int]](list)
    for index, record in enumerate(rows.column("record").to_pylist()):
        groups[_kinds(record, names)].append(index)
    return groups.values()


def _kinds(record: bytes, names: Set[str]) -> tuple[tuple[str, str], ...]:
    try:
        fields = _fields(record)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return ()  # which the table says itself
    return tuple(sorted((name, _kind(bytes(value))) for name, value in fields.items() if name.lower() in names))


def _kind(value: bytes) -> str:
    """Of a number also whether it is whole, and large."""
    found = kind(value)
    return f"{found} {value.lstrip(b'-').isdigit()} {len(value) > PLAIN_DIGITS}" if found == "number" else found


def _named(refused: pa.Table) -> pa.Table:
    """With the codes of conditions in place of the transform's."""
    codes = [f"Where.{code.removeprefix('Sql.')}" for code in refused.column("code").to_pylist()]
    place = refused.schema.get_field_index("code")
    return refused.set_column(place, refused.schema.field(place), pa.array(codes, pa.string()))


def _query(condition: str) -> str:
    return f"SELECT _row FROM records WHERE (\n{condition}\n)"


def _numbered(rows: pa.RecordBatch) -> pa.RecordBatch:
    """The rows as if each were a record, numbered from 0."""
    count = rows.num_rows
    numbers, zeros = pa.array(np.arange(count), pa.int32()), pa.array(np.zeros(count), pa.int32())
    return pa.record_batch([rows.column("record"), numbers, zeros, rows.column("arrival_ms")], schema=ROW_SCHEMA)


def _merging(engine: Any, text: str) -> Iterator[str]:
    """Aggregates, which DuckDB would complain of only with records before it."""
    merging = {name for (name,) in run(engine, MERGING)}
    called = (str(one.get("function_name") or "").lower() for one in all_nodes(syntax_tree(engine, text)))
    return (one for one in called if one in merging)


def _fickle(engine: Any, text: str) -> Iterator[str]:
    """What of the text is not the same each time."""
    fickle = {name for (name,) in run(engine, FICKLE)}
    for one in all_nodes(syntax_tree(engine, text)):
        called = str(one.get("function_name") or "").lower()
        if called in fickle or (called == "age" and len(one.get("arguments", ())) == 1):
            yield called
        yield from (name for name in one.get("column_names", ()) if name.lower() in FICKLE_NAMES)
