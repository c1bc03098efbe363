"""A query whose every result row says which record it came from.

SQL forgets that. A query that selects `_row` says it itself. To one that merely picks and computes, row by row, the
column is added; one that merges rows must say which record each of its results stands for.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import duckdb
from duckdb.sqltypes import DuckDBPyType

from firehose.sql.engine import BadQuery, complaint, run
from firehose.sql.json_text import WHOLE
from firehose.sql.table import ROW

WAY_OUT = (
    f"a result row must name its record: select {ROW} too (of several merged into one, such as min({ROW}) AS {ROW}; "
    "the others count as dropped)"
)
UNLIKE_OTHERS = {"WINDOW", "SUBQUERY"}  # classes of expressions that look beyond their own row


@dataclass(frozen=True, slots=True)
class Query:
    """A query as written, and with `_row` added (`keyed`) where its shape allows that."""

    text: str
    keyed: str | None
    row_by_row: bool  # each record's results depend on nothing but that record
    names: frozenset[str] = field(repr=False)  # that may be columns, in lower case


def parsed(engine: duckdb.DuckDBPyConnection, text: str) -> Query:
    """Raises `BadQuery` where it is no single SELECT, or where it would merge rows unseen."""
    tree = syntax_tree(engine, text)
    node = tree["statements"][0]["node"]
    if any(one["type"] == "DISTINCT_MODIFIER" and not one["distinct_on_targets"] for one in node["modifiers"]):
        raise BadQuery("DISTINCT merges rows; choose one: QUALIFY row_number() OVER (PARTITION BY ...) = 1")
    nodes = list(all_nodes(tree))
    plain = _is_plain(node)
    keyed = _with_row(engine, tree) if plain else None
    own = any(one["alias"].lower() == ROW for one in node.get("select_list", ()))
    more = own or node["modifiers"] or node["cte_map"]["map"]
    alone = plain and not more and not any(one.get("class") in UNLIKE_OTHERS for one in nodes)
    names = {part.lower() for one in nodes for part in one.get("column_names", ())}
    return Query(text, keyed, alone, frozenset(names))


@dataclass(frozen=True, slots=True)
class Shape:
    """A statement to run, and its columns' names and types; that at `row` is `_row`."""

    text: str
    labels: list[str]
    types: list[DuckDBPyType]
    row: int


def bound(engine: duckdb.DuckDBPyConnection, query: Query) -> Shape:
    """The query against the records as they are now. Raises `BadQuery`, or DuckDB's error."""
    text, relation = query.text, _relation(engine, query.text)
    labels = list(relation.columns)
    if ROW not in map(str.lower, labels):
        text, relation, labels = *_keyed(engine, query), [*labels, ROW]
    row = [label.lower() for label in labels].index(ROW)
    if relation.types[row].id not in WHOLE:
        raise BadQuery(f"{ROW} must be the number of a record, and is of type {relation.types[row]}")
    return Shape(text, labels, list(relation.types), row)


def _relation(engine: duckdb.DuckDBPyConnection, text: str) -> duckdb.DuckDBPyRelation:
    try:
        return engine.sql(text)
    except duckdb.Error:
        run(engine, text)  # raises the same, and says where in the text
        raise


def _keyed(engine: duckdb.DuckDBPyConnection, query: Query) -> tuple[str, duckdb.DuckDBPyRelation]:
    if query.keyed is None:
        raise BadQuery(WAY_OUT)
    try:
        return query.keyed, engine.sql(query.keyed)
    except duckdb.BinderException:  # without `_row` it is right: an aggregate forbids it
        raise BadQuery(WAY_OUT) from None


def syntax_tree(engine: duckdb.DuckDBPyConnection, text: str) -> Any:
    ((said,),) = run(engine, "SELECT json_serialize_sql(?)", text)
    tree = json.loads(said)
    if tree.get("error_type") == "parser":
        try:
            run(engine, text)  # raises the same, and says where in the text
        except duckdb.Error as error:
            raise BadQuery(complaint(error)) from None
    if tree["error"] or len(tree["statements"]) != 1:
        raise BadQuery("it must be one SELECT: records come in as the table records, and its result goes on")
    return tree


def _is_plain(node: Any) -> bool:
    """Whether it picks and computes over the records alone, without merging any, as far as its shape tells."""
    return (
        node["type"] == "SELECT_NODE"
        and node["from_table"]["type"] == "BASE_TABLE"
        and node["from_table"]["table_name"].lower() == "records"
        and not (node["group_expressions"] or node["group_sets"] or node["having"] or node["sample"])
        and node["aggregate_handling"] == "STANDARD_HANDLING"
        and not any(one["type"] == "DISTINCT_MODIFIER" for one in node["modifiers"])
    )


def _with_row(engine: duckdb.DuckDBPyConnection, tree: Any) -> str:
    """The query with `_row` as its last column."""
    copy = json.loads(json.dumps(tree))
    node = copy["statements"][0]["node"]
    table = node["from_table"]["alias"] or "records"
    node["select_list"].append(
        {"class": "COLUMN_REF", "type": "COLUMN_REF", "alias": ROW, "query_location": 0, "column_names": [table, ROW]}
    )
    ((text,),) = run(engine, "SELECT json_deserialize_sql(?)", json.dumps(copy))
    return str(text)


def all_nodes(tree: Any) -> Iterator[dict[str, Any]]:
    """Every object in it."""
    waiting = [tree]
    while waiting:
        one = waiting.pop()
        if isinstance(one, dict):
            yield one
        waiting.extend(one.values() if isinstance(one, dict) else one if isinstance(one, list) else ())
