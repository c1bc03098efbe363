"""DuckDB as an engine for queries and nothing else: no files, no network, no extensions, bounded memory, one thread."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

import duckdb

LEAST_MIB = 16
CLOSED: dict[str, Any] = {
    "enable_external_access": False,
    "autoinstall_known_extensions": False,
    "autoload_known_extensions": False,
    "allow_community_extensions": False,
    "python_enable_replacements": False,  # else a query could name a variable of ours as its table
    "temp_directory": "",  # nothing is spilled: what does not fit has failed
    "threads": 1,
}
SAID_CHARACTERS = 1000


class BadQuery(ValueError):
    """The query can never be run as it stands; the text says why, where, and what the way out is."""


def opened(memory_mib: float) -> duckdb.DuckDBPyConnection:
    """An engine in memory, whose settings nobody can change any more."""
    limit = f"{max(LEAST_MIB, int(memory_mib))}MiB"
    engine = duckdb.connect(":memory:", config={**CLOSED, "memory_limit": limit})
    run(engine, "SET TimeZone = 'UTC'")
    run(engine, "SET lock_configuration = true")
    return engine


def run(engine: duckdb.DuckDBPyConnection, statement: str, *values: object) -> list[tuple[Any, ...]]:
    """The statement's rows, all of them: until then the engine does nothing else."""
    rows: list[tuple[Any, ...]] = engine.execute(statement, list(values)).fetchall()
    return rows


def complaint_of(check: Callable[[], None]) -> str | None:
    """What the check says against something, if anything. Only the text outlives it: an error holds on to the frames it
    came through, and with them to an engine, for as long as somebody shows it.
    """
    try:
        check()
    except BadQuery as error:
        return str(error)
    return None


def complaint(error: duckdb.Error, placed: bool = True) -> str:
    """DuckDB's complaint in a line, with the query's line and column where it has told them."""
    said = str(error)
    first = re.sub(r"^[A-Z]\w*( \w+)* Error: ", "", said.partition("\n")[0])[:SAID_CHARACTERS]
    place = re.search(r"^LINE (\d+): (.*)\n( *)\^", said, re.MULTILINE)
    if place is None or not placed:
        return first
    line, shown, indent = place.groups()
    column = len(indent) - len(f"LINE {line}: ") + 1
    return f"{first} at line {line}" + ("" if shown.startswith("...") else f", column {column}")


def name(text: str) -> str:
    """The text as a name in SQL."""
    return '"' + text.replace('"', '""') + '"'


def literal(text: str) -> str:
    """The text as a string in SQL."""
    return "'" + text.replace("'", "''") + "'"


def pointer(field: str) -> str:
    """The JSON pointer of a top-level field, as a string in SQL."""
    return literal("/" + field.replace("~", "~0").replace("/", "~1"))


def key(text: str) -> str:
    """The text as a key of a JSON object, with its colon, as a string in SQL."""
    return literal(json.dumps(text, ensure_ascii=False) + ":")
