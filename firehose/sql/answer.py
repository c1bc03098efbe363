"""What a query makes of records: it is put to all of them at once, and each of them ends in exactly one way."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from firehose.hooks.program import PROCESSING_FAILED
from firehose.model import ROW_SCHEMA, Outcome
from firehose.rows import refused_each, spread
from firehose.sql import query, table
from firehose.sql.engine import BadQuery, complaint, name, opened, run
from firehose.sql.json_text import row_text
from firehose.sql.query import Query, Shape
from firehose.sql.table import RESERVED, ROW, Read, Reason, Types

CHECK_MIB = 64
MADE_BYTES = 48 * 1024 * 1024  # of one slice
CHUNK_ROWS = 2048
MOST_FAILURES = 100  # of one slice; from then on what fails is not taken apart any more
RESULT = pa.schema([pa.field("at", pa.int32()), pa.field("record", pa.string())])

Mask = np.ndarray[tuple[int], np.dtype[np.bool_]]


class Unanswered(Exception):
    """The query came to nothing over these records."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.why = (code, message)


def check(text: str, declared: Types | None) -> None:
    """Raises `BadQuery` for whatever is wrong with the query as far as that shows without records."""
    engine = opened(CHECK_MIB)
    answerer = Answerer(engine, query.parsed(engine, text), declared)
    read = table.read([], declared)
    table.fill(engine, pa.RecordBatch.from_pylist([], ROW_SCHEMA), read)
    try:
        answerer.results(0, 0, read)
    except duckdb.BinderException as error:
        # Of undeclared columns the types are not known, and a query may be right for those that come.
        if declared is not None or "GROUP BY" in str(error):
            raise BadQuery(complaint(error)) from None
    except duckdb.Error as error:
        raise BadQuery(complaint(error)) from None
    finally:
        engine.close()


@dataclass(frozen=True, slots=True)
class Answerer:
    """A query that is put to slice after slice."""

    engine: duckdb.DuckDBPyConnection
    query: Query
    declared: Types | None

    def __call__(self, rows: pa.RecordBatch) -> Outcome:
        read = table.read(rows.column("record").to_pylist(), self.declared)
        refused = dict(read.refused)
        try:
            table.fill(self.engine, rows, read)
            refused |= table.misfits(self.engine, read.types)
        except duckdb.Error as error:
            refused = dict.fromkeys(range(rows.num_rows), _unanswered(error).why) | refused
        asked = np.ones(rows.num_rows, bool)
        asked[list(refused)] = False
        results, failed = self._taken_apart(asked, read)
        return _outcome(rows, read, pa.concat_tables([RESULT.empty_table(), *results]), failed | refused)

    def _taken_apart(self, asked: Mask, read: Read) -> tuple[list[pa.Table], dict[int, Reason]]:
        """Results, and the records that have none because the query failed. One that looks at each record by itself is
        put to halves where it fails, so that it fails only for those whose fault it is.
        """
        results: list[pa.Table] = []
        failed: dict[int, Reason] = {}
        spans = [(0, len(asked))] if asked.any() else []
        failures = 0
        while spans:
            begin, end = spans.pop()
            try:
                results.append(self._known(begin, end, asked, read))
            except Unanswered as error:
                failures += 1
                middle = (begin + end) // 2
                if middle > begin and self.query.row_by_row and failures < MOST_FAILURES:
                    spans += [(middle, end), (begin, middle)]
                else:
                    failed |= dict.fromkeys(range(begin, end), error.why)
        return results, failed

    def _known(self, begin: int, end: int, asked: Mask, read: Read) -> pa.Table:
        """Results over the records from `begin` to before `end`, each of one of these. Raises `Unanswered`."""
        try:
            made = self.results(begin, end, read)
        except (duckdb.Error, BadQuery) as error:
            raise _unanswered(error) from None
        known = pa.array(np.flatnonzero(asked[begin:end]) + begin, pa.int32())
        if not pc.all(pc.is_in(made.column("at"), value_set=known), min_count=0).as_py():
            message = f"a result row names no record that the query was given; take {ROW} from records as it is"
            raise Unanswered("Sql.ForeignRows", message)
        return made

    def results(self, begin: int, end: int, read: Read) -> pa.Table:
        """Results as a table of `RESULT`, named or not. Raises `BadQuery`, or DuckDB's error."""
        told = _told(self._bound(begin, end, read.types))
        try:
            return self._result(told, end - begin)
        except duckdb.Error as error:
            raise BadQuery(complaint(error, placed=False)) from None  # the place would be one in `told`

    def _result(self, told: str, count: int) -> pa.Table:
        chunks, size = list[pa.RecordBatch](), 0
        for chunk in self.engine.sql(told).to_arrow_reader(CHUNK_ROWS):
            chunks.append(chunk)
            size += chunk.nbytes
            if size > MADE_BYTES:
                raise BadQuery(f"it makes more than {MADE_BYTES} bytes of {count} records")
        return pa.Table.from_batches(chunks, RESULT)

    def _bound(self, begin: int, end: int, types: Types) -> Shape:
        """The query, bound to the records. Of undeclared fields, one that none of them has is NULL."""
        named = table.columns(types)
        absent = [column for field, column in named.items() if types[field] == table.NULL]
        known = {*map(str.lower, named.values()), *RESERVED}
        while True:
            self._show(begin, end, absent)
            try:
                return query.bound(self.engine, self.query)
            except duckdb.BinderException as error:
                missed = {one for one in self.query.names if f'"{one}"' in str(error).lower()} - known
                if not missed or self.declared is not None:
                    raise
                absent += sorted(missed)
                known |= missed

    def _show(self, begin: int, end: int, absent: Iterable[str]) -> None:
        """Makes the view `records` of the parsed ones from `begin` to before `end`."""
        nulls = "".join(f", NULL AS {name(column)}" for column in absent)
        span = f"{ROW} >= {begin} AND {ROW} < {end}"
        run(self.engine, f"CREATE OR REPLACE TEMP VIEW records AS SELECT *{nulls} FROM parsed WHERE {span}")


def _unanswered(error: Exception) -> Unanswered:
    said = complaint(error) if isinstance(error, duckdb.Error) else str(error)
    return Unanswered("Sql.Error", f"{said}; mend the query, or the records")


def _told(shape: Shape) -> str:
    """The statement that makes rows of `RESULT`: each result's record, and its columns as JSON, save the reserved."""
    places = [f"c{place}" for place in range(len(shape.labels))]
    shown = [
        (label, place, kind)
        for label, place, kind in zip(shape.labels, places, shape.types, strict=True)
        if label.lower() not in RESERVED
    ]
    at = f"TRY_CAST(c{shape.row} AS INTEGER) AS at"
    return f"SELECT {at}, {row_text(shown)} AS record FROM (\n{shape.text}\n) AS result({', '.join(places)})"


def _outcome(rows: pa.RecordBatch, read: Read, made: pa.Table, refused: dict[int, Reason]) -> Outcome:
    came = made.column("at").to_numpy()
    order = np.argsort(came, kind="stable")
    came, texts = came[order], made.column("record").combine_chunks().take(pa.array(order))
    newlines = pa.array(read.newlines, pa.string()).take(pa.array(came))
    records = pc.binary_join_element_wise(texts, newlines, "").cast(pa.binary())
    gone = np.ones(rows.num_rows, bool)
    gone[came] = False
    gone[list(refused)] = False
    bad = sorted(refused)
    why = refused_each(rows.take(pa.array(bad, pa.int32())), PROCESSING_FAILED, [refused[at] for at in bad])
    return Outcome(spread(rows, came, records), why, rows.column("row").filter(pa.array(gone)))
