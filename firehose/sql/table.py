"""Records as the table that a query reads: a column for each top-level field, and three that every record has.

Types are declared, or follow the fields of the records at hand: then a number or a text is its own type, and whatever
is nested or of two kinds is JSON, which DuckDB looks into as well.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import duckdb
import pyarrow as pa

from firehose.json_text import record as json_record
from firehose.json_text.record import NotJson
from firehose.sql.engine import BadQuery, literal, name, opened, pointer, run

ROW, RECORD, ARRIVAL = RESERVED = ("_row", "_record", "_arrival")
MOST_COLUMNS = 1000
WRONG_TYPE = "its field {field!r} is no {type}; mend the record, or declare the column as JSON"
NULL = "NULL"  # the type of a column of which nothing but its name is known: it fits everywhere
KINDS: Mapping[frozenset[type], str] = {
    frozenset(): NULL,
    frozenset([bool]): "BOOLEAN",
    frozenset([float]): "DOUBLE",
    frozenset([int, float]): "DOUBLE",
    frozenset([str]): "VARCHAR",
}

Types = Mapping[str, str]
Reason = tuple[str, str]  # why a record is refused: code and message


@dataclass(frozen=True, slots=True)
class Read:
    """Records, read: texts and newlines by index (none where the record is refused), and the types of their fields."""

    texts: Sequence[str | None]
    newlines: Sequence[bytes]
    refused: Mapping[int, Reason]
    types: Types


def read(records: Iterable[bytes], declared: Types | None) -> Read:
    """Loops over the records."""
    texts: list[str | None] = []
    newlines: list[bytes] = []
    refused: dict[int, Reason] = {}
    seen: dict[str, list[Any]] = defaultdict(list)
    for index, record in enumerate(records):
        body, newline = json_record.parted(record)
        newlines.append(newline)
        try:
            fields = json_record.fields(body)
            if declared is None:
                _note(fields, seen)
            texts.append(body.decode())
        except NotJson as error:
            texts.append(None)
            refused[index] = ("Sql.NotJson", f"the record is not one JSON object: {error}; mend its sender")
        except Unfit as error:
            texts.append(None)
            refused[index] = ("Sql.Fields", f"{error}; declare the columns that the query needs")
    types = {field: _type(values) for field, values in seen.items()} if declared is None else declared
    return Read(texts, newlines, refused, types)


class Unfit(Exception):
    """A record has fields that cannot be columns."""


def _note(fields: Mapping[str, Any], seen: dict[str, list[Any]]) -> None:
    if new := fields.keys() - seen.keys():
        if len(seen) + len(new) > MOST_COLUMNS:
            raise Unfit(f"with it there are more than {MOST_COLUMNS} different fields")
        if any("\0" in field for field in new):
            raise Unfit("a field's name holds a NUL character")
    for field, value in fields.items():
        seen[field].append(value)


def _type(values: Sequence[Any]) -> str:
    """The type that holds all of the values as they are."""
    kinds = frozenset(map(type, values)) - {type(None)}
    if kinds == {int}:
        bits = max(value.bit_length() for value in values if value is not None)
        return "BIGINT" if bits < 64 else "HUGEINT" if bits < 128 else "JSON"
    return KINDS.get(kinds, "JSON")


def check(type_: str) -> None:
    """Raises `BadQuery` where a column cannot be declared to be of that type."""
    engine = opened(0)
    try:
        run(engine, f"SELECT json_transform('{{}}', {literal(json.dumps({'x': type_}))})")
    except duckdb.Error:
        ways = "such as VARCHAR, BIGINT, DOUBLE, DECIMAL(18,2), BOOLEAN, TIMESTAMPTZ, VARCHAR[] or JSON"
        raise BadQuery(f"{type_!r} is no type that DuckDB reads from JSON; give one {ways}") from None
    finally:
        engine.close()


def columns(types: Types) -> dict[str, str]:
    """The columns' names by field. SQL's names have no case: where one is taken, a field's has a number behind it."""
    taken, named = {*RESERVED, ""}, {}
    for field in types:
        column, number = field, 0
        while column.lower() in taken:
            number += 1
            column = f"{field}_{number}"
        taken.add(column.lower())
        named[field] = column
    return named


def fill(engine: duckdb.DuckDBPyConnection, rows: pa.RecordBatch, said: Read) -> None:
    """Makes the table `parsed` of those records that are not refused; `_row` is a record's index among the given."""
    texts = pa.array(said.texts, pa.string())
    arrivals = rows.column("arrival_ms").cast(pa.timestamp("ms", "UTC"))
    given = pa.table({ROW: pa.array(range(rows.num_rows), pa.int32()), RECORD: texts, ARRIVAL: arrivals})
    engine.register("given", given.filter(texts.is_valid()))
    try:
        run(engine, f"CREATE OR REPLACE TEMP TABLE parsed AS {_parsing(said.types)}")
    finally:
        engine.unregister("given")


def _parsing(types: Types) -> str:
    """The statement that parses each record once, all fields that can be read together in one go."""
    named, together = columns(types), dict[str, str]()
    selected = []
    for field, column in named.items():
        if types[field] == NULL:
            continue
        if column == field:
            together[field] = types[field]
            selected.append(f"fields.{name(field)} AS {name(column)}")
        else:
            selected.append(f"json_extract({RECORD}, {pointer(field)}) AS {name(column)}")
    structure = literal(json.dumps(together, ensure_ascii=False))
    fields = f"json_transform({RECORD}, {structure}) AS fields, " if together else ""
    return f"SELECT {', '.join([*selected, *RESERVED])} FROM (SELECT {fields}{', '.join(RESERVED)} FROM given)"


def misfits(engine: duckdb.DuckDBPyConnection, types: Types) -> dict[int, Reason]:
    """Takes records out of `parsed` that have a value which its column cannot hold: it must not pass for missing."""
    tests = [
        f"CASE WHEN {name(column)} IS NULL AND json_type({RECORD}, {pointer(field)}) <> 'NULL'"
        f" THEN {literal(field)} END"
        for field, column in columns(types).items()
        if types[field] != NULL
    ]
    tested = f"SELECT {ROW}, coalesce({', '.join([*tests, 'NULL'])}) AS field FROM parsed"
    found = sorted(run(engine, f"SELECT * FROM ({tested}) WHERE field IS NOT NULL"))
    if found:
        run(engine, f"DELETE FROM parsed WHERE list_contains(?, {ROW})", [row for row, _ in found])
    return {row: ("Sql.WrongType", WRONG_TYPE.format(field=field, type=types[field])) for row, field in found}
