"""DuckDB for people's queries over delivered objects, as closed as that of transforms (`firehose.sql.engine`): it
reaches the objects that it is given and nothing else of files, network or settings. Memory and temporary files are
bounded.
"""

from __future__ import annotations

from dataclasses import dataclass

import duckdb

from firehose.lake.files import PROTOCOL, Lake
from firehose.sql.engine import CLOSED, LEAST_MIB, BadQuery, complaint, run

THREADS = 4  # a store far away is waited for by several at once
THREAD_MIB = 128  # what a thread that reads JSON takes
WAY_OUT = "give one SELECT (or FROM, WITH, VALUES, DESCRIBE, SUMMARIZE): delivered objects are never changed"


@dataclass(frozen=True, slots=True)
class Bounds:
    """How much a query may take."""

    memory_mib: float
    temporary_mib: float
    folder: str  # for what does not fit into memory


def opened(bounds: Bounds, lake: Lake, prunes: bool = True) -> duckdb.DuckDBPyConnection:
    """An engine that opens files of the lake alone. Nobody can change its settings any more. One that does not prune
    reads columns that a query has no need of.
    """
    engine = duckdb.connect(
        ":memory:",
        config={
            **CLOSED,
            "enable_external_access": True,  # until it is said which files are meant
            "memory_limit": f"{max(LEAST_MIB, int(bounds.memory_mib))}MiB",
            "threads": max(1, min(THREADS, int(bounds.memory_mib / THREAD_MIB))),
            "temp_directory": bounds.folder,
            "max_temp_directory_size": f"{int(bounds.temporary_mib)}MiB",
        },
    )
    engine.register_filesystem(lake)
    run(engine, "SET TimeZone = 'UTC'")
    run(engine, f"SET allowed_directories = ['{PROTOCOL}://']")
    run(engine, "SET enable_external_access = false")
    if not prunes:
        run(engine, "SET disabled_optimizers = 'unused_columns'")
    run(engine, "SET lock_configuration = true")
    return engine


def tables(text: str) -> set[str]:
    """The names of the tables that a query reads. Raises `BadQuery` where it is not one SELECT.

    Asked of an engine without any table: one with views would open their objects meanwhile, and let no thread of
    Python's read them.
    """
    with duckdb.connect(":memory:", config={**CLOSED, "memory_limit": f"{LEAST_MIB}MiB"}) as engine:
        try:
            if [one.type for one in engine.extract_statements(text)] != [duckdb.StatementType.SELECT]:
                raise BadQuery(WAY_OUT)
            return set(engine.get_table_names(text))
        except duckdb.Error as error:
            raise BadQuery(complaint(error)) from None
