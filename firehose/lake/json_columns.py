"""The columns of JSON objects: all that any of their lines has, each with a type that every one of its values fits.

DuckDB's own detection looks at the beginnings of a few files and holds on to a buffer for each; its merging of shapes
takes memory with every line. So DuckDB tells the different shapes of lines, and they are merged here.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import duckdb

from firehose.sql.engine import literal, name, pointer

JSON = "JSON"  # of whatever has no other type: its values stay as they are written
MOST_FIELDS = 200  # of a struct inside; one of more is a mapping, whose keys are data
MOST_COLUMNS = 2000
SAMPLE_LINES = 20_480
SHAPES_AT_ONCE = 10_000
SHAPE = "json_structure(json)"  # an internal error of DuckDB's where a line is nested deeper than this
LEVELS = 128
# The same for lines of any depth: of one that may be deeper nothing is said of what its fields hold inside.
OPENED = "length(json::VARCHAR) - length(replace(replace(json::VARCHAR, '{', ''), '[', ''))"
VALUE = "json_extract(json, '/' || replace(replace(label, '~', '~0'), '/', '~1'))"
KIND = f"CASE WHEN json_type({VALUE}) IN ('OBJECT', 'ARRAY') THEN 'JSON' ELSE json_structure({VALUE}) ->> '$' END"
FIELDS = f"list_transform(list_distinct(json_keys(json)), lambda label: {{'key': label, 'value': {KIND}}})"
FLAT = f"CASE json_type(json) WHEN 'OBJECT' THEN to_json(map_from_entries({FIELDS})) ELSE '\"JSON\"'::JSON END"
DEEP_SHAPE = f"CASE WHEN {OPENED} < {LEVELS} THEN {SHAPE} ELSE {FLAT} END"
WHOLE_NUMBERS = {"UBIGINT", "BIGINT", "HUGEINT"}
WIDE = literal(r"[:\[,]\s*-?\d{19}")  # a number that may be too long for a bigint
# Text that is a date or an instant of UTC in every line. An offset would be lost: such text stays text.
TIMES = {
    "DATE": literal(r"\d{4}-\d\d-\d\d"),
    "TIMESTAMP": literal(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d([.]\d{1,9})?Z?"),
}

Shape = Any  # as DuckDB tells it: a type's name, a list of one shape, or shapes by field


@dataclass(frozen=True, slots=True)
class Columns:
    """Types by name. None at all where some line is no object, or where names differ in case alone."""

    types: Mapping[str, str] = field(default_factory=dict)
    bad_lines: int = 0  # that are no JSON, where these are passed over
    shapes: Mapping[str, Shape] = field(default_factory=dict)
    long: bool = False  # whether there are numbers beyond a bigint

    def text(self) -> str:
        """As `read_json` wants them."""
        return ", ".join(f"{literal(label)}: {literal(kind)}" for label, kind in self.types.items())


def found(
    engine: duckdb.DuckDBPyConnection, source: str, keys: Iterable[str], whole: bool, shape: str = SHAPE
) -> Columns:
    """Columns of the table `source`, which has a column `json`; of its beginning unless the whole is wanted. Those
    called like one of `keys` are left out: folders say the same.
    """
    sample = f"(SELECT json FROM {source} LIMIT {SAMPLE_LINES})"
    texts = [label for label, kind in _read(engine, shape, sample, ()).types.items() if kind == "VARCHAR"]
    told = _read(engine, shape, sample, [(label, kind) for label in texts for kind in TIMES])
    if whole:
        told = _read(engine, shape, source, [(label, kind) for label, kind in told.types.items() if kind in TIMES])
    hidden = {key.casefold() for key in keys}
    shown = {label: kind for label, kind in told.types.items() if label.casefold() not in hidden}
    return replace(told, types=shown)


def united(several: Sequence[Columns]) -> list[Columns]:
    """The same, where columns of one name have one type: that which the values of all of them fit."""
    shapes: Shape = {}
    for one in several:
        shapes = merge(shapes, dict(one.shapes))
    long = any(one.long for one in several)

    def type_of_all(label: str) -> str:
        kinds = {one.types[label] for one in several if label in one.types}
        return kinds.pop() if len(kinds) == 1 else type_of(shapes[label], long)

    return [replace(one, types={label: type_of_all(label) for label in one.types}) for one in several]


def _read(engine: duckdb.DuckDBPyConnection, shape: str, source: str, times: Iterable[tuple[str, str]]) -> Columns:
    """`times` are columns that may be times, and which."""
    checks = list(times)
    asked = "".join(f", {_all_are(label, kind)}" for label, kind in checks)
    wide = f"bool_or(regexp_matches(json::VARCHAR, {WIDE}))"
    shapes = f"SELECT {shape}, count(*), {wide}{asked} FROM {source} GROUP BY 1"
    result = engine.execute(f"{shapes} ORDER BY 2 DESC, 1")  # columns in the same order each time: the commonest first
    merged: Shape = {}
    bad_lines, long, failed = 0, False, set[tuple[str, str]]()
    while rows := result.fetchmany(SHAPES_AT_ONCE):
        for text, lines, one_long, *fits in rows:
            if text is None:
                bad_lines += lines
                continue
            merged = merge(merged, json.loads(text))
            long = long or one_long
            failed.update(check for check, fit in zip(checks, fits, strict=True) if fit is False)
    if not isinstance(merged, dict) or not _sayable(merged, MOST_COLUMNS):
        return Columns({}, bad_lines)
    types = {label: type_of(shape, long) for label, shape in merged.items()}
    texts = {label: kind for label, kind in checks if (label, kind) not in failed and types.get(label) == "VARCHAR"}
    return Columns(types | texts, bad_lines, merged, long)


def _all_are(label: str, kind: str) -> str:
    value = f"(json ->> {pointer(label)})"
    fits = f"regexp_full_match({value}, {TIMES[kind]}) AND TRY_CAST({value} AS {kind}) IS NOT NULL"
    return f"bool_and({fits}) FILTER (WHERE {value} IS NOT NULL)"


def merge(one: Shape, other: Shape) -> Shape:
    """A shape that the values of both have."""
    if one == other or other == "NULL":
        return one
    if one == "NULL":
        return other
    if isinstance(one, dict) and isinstance(other, dict):
        return {**one, **{label: merge(one.get(label, "NULL"), shape) for label, shape in other.items()}}
    if isinstance(one, list) and isinstance(other, list):
        return [merge(one[0], other[0])]
    if isinstance(one, str) and isinstance(other, str) and {one, other} <= WHOLE_NUMBERS | {"DOUBLE"}:
        return "DOUBLE" if "DOUBLE" in (one, other) else "BIGINT"
    return JSON


def type_of(shape: Shape, long: bool) -> str:
    """DuckDB's type for a shape; `long` says that there are numbers beyond a bigint."""
    if isinstance(shape, list):
        return f"{type_of(shape[0], long)}[]"
    if isinstance(shape, dict):
        fields = ", ".join(f"{name(label)} {type_of(one, long)}" for label, one in shape.items())
        return f"STRUCT({fields})" if _sayable(shape, MOST_FIELDS) else JSON
    if shape in WHOLE_NUMBERS:
        return "HUGEINT" if long else "BIGINT"
    return JSON if shape == "NULL" else str(shape)


def _sayable(shape: Mapping[str, Shape], most: int) -> bool:
    """Whether SQL has names for the fields: it does not tell upper from lower case."""
    names = {label.casefold() for label in shape}
    return 0 < len(shape) == len(names) <= most and not any(label == "" or "\x00" in label for label in shape)
