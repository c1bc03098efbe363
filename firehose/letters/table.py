"""Letters as Arrow, and SQL over them.

People's SQL must never reach beyond the letters: DuckDB runs without access to files, network and extensions, its
settings locked. Memory is bounded however many letters there are: a condition sees one batch at a time, and for whole
queries the letters lie in a database file, with the beginnings of what is long: DuckDB works on thousands of rows at
once, and records may have megabytes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import duckdb
import pyarrow as pa

from firehose.letters.letter import Letter

# In SQL, times are of UTC, and `reason` is the error code.
SCHEMA = pa.schema(
    [
        pa.field("object", pa.string()),
        pa.field("line", pa.int64()),
        pa.field("stream", pa.string()),
        pa.field("error_type", pa.string()),
        pa.field("reason", pa.string()),
        pa.field("message", pa.string()),
        pa.field("attempts", pa.int32()),
        pa.field("arrived_at", pa.timestamp("ms")),
        pa.field("ended_at", pa.timestamp("ms")),
        pa.field("function", pa.string()),
        pa.field("data", pa.binary()),
        pa.field("size_bytes", pa.int64()),
        pa.field("details", pa.string()),
    ]
)
BATCH_LETTERS = 1024
BATCH_BYTES = 8 << 20
MEMORY_MIB = 256
THREADS = 2
COMMIT_BYTES = 64 << 20
LONGEST = 8 * 1024  # bytes or characters of a value that a whole query sees
LOCKED = {
    "enable_external_access": "false",
    "autoinstall_known_extensions": "false",
    "autoload_known_extensions": "false",
    "allow_community_extensions": "false",
}


class BadSql(Exception):
    """What a person wrote cannot be run; the message is DuckDB's."""


def batches(letters: Iterable[Letter]) -> Iterator[list[Letter]]:
    """A few letters at a time, by their number and their bytes."""
    held: list[Letter] = []
    size = 0
    for letter in letters:
        held.append(letter)
        size += len(letter.data) + len(letter.message)
        if len(held) >= BATCH_LETTERS or size >= BATCH_BYTES:
            yield held
            held, size = [], 0
    if held:
        yield held


def table(letters: list[Letter]) -> pa.Table:
    rows = [
        (
            one.object,
            one.line,
            one.stream,
            one.error_type,
            one.code,
            one.message,
            one.attempts,
            one.arrived_ms,
            one.ended_ms,
            one.function,
            one.data,
            len(one.data),
            one.details,
        )
        for one in letters
    ]
    columns = zip(*rows, strict=True) if rows else [()] * len(SCHEMA)
    return pa.table([pa.array(column, kind) for column, kind in zip(columns, SCHEMA.types, strict=True)], schema=SCHEMA)


class Condition:
    """A condition in SQL on one letter, such as `reason like 'Lambda.%' and size_bytes < 1000`. Raises `BadSql`, in the
    beginning where it can be known.
    """

    def __init__(self, sql: str) -> None:
        self._sql = sql
        self._database = _locked(":memory:")
        self.chosen([])

    def chosen(self, letters: list[Letter]) -> list[Letter]:
        """Those that it is true of, in their order."""
        numbered = table(letters).append_column("_number", pa.array(range(len(letters)), pa.int64()))
        # The table has a name that nobody gives it: a condition that asks for all letters would see but these few.
        self._database.register("_few", numbered)
        try:
            found = self._database.execute(f"SELECT _number FROM _few AS letters WHERE (\n{self._sql}\n)").fetchall()
        except duckdb.Error as error:
            raise BadSql(_said(error)) from error
        numbers = {number for (number,) in found}
        return [letter for number, letter in enumerate(letters) if number in numbers]

    def close(self) -> None:
        self._database.close()


@dataclass(frozen=True, slots=True)
class Answer:
    """What a query found: its columns, and its rows as Python's values."""

    columns: list[str]
    rows: list[tuple[Any, ...]]
    cut: bool  # there are more rows


_SHORT = ", ".join(f"{name}[:{LONGEST}] AS {name}" for name in ("message", "data", "details"))
INSERT = f"INSERT INTO letters SELECT * REPLACE ({_SHORT}) FROM _few"


class Database:
    """All letters as the table `letters`, in a database file that nobody else uses."""

    def __init__(self, path: str) -> None:
        self._database = _locked(path)
        self._register([])
        self._database.execute("CREATE TABLE letters AS FROM _few")
        self._uncommitted_bytes = 0

    def add(self, letters: list[Letter]) -> None:
        """Written down now and then: each commit waits for the disk."""
        if not self._uncommitted_bytes:
            self._database.begin()
        self._register(letters)
        self._database.execute(INSERT)
        self._uncommitted_bytes += 1 + sum(min(len(letter.data), LONGEST) for letter in letters)
        if self._uncommitted_bytes > COMMIT_BYTES:
            self._commit()

    def prepare(self, sql: str) -> None:
        """Raises `BadSql` where it is plain without looking at a letter."""
        try:
            self._database.execute(f"EXPLAIN {self._only(sql)}")
        except duckdb.Error as error:
            raise BadSql(_said(error)) from error

    def ask(self, sql: str, limit: int) -> Answer:
        """Up to `limit` rows. Raises `BadSql`."""
        self._commit()
        try:
            found = self._database.execute(self._only(sql))
            columns = [name for name, *_ in found.description or ()]
            rows = found.fetchmany(limit + 1)
        except duckdb.Error as error:
            raise BadSql(_said(error)) from error
        return Answer(columns, rows[:limit], len(rows) > limit)

    def _only(self, sql: str) -> str:
        statements = self._database.extract_statements(sql)
        if len(statements) != 1:
            raise BadSql(f"{len(statements)} statements; give one")
        return str(statements[0].query)

    def close(self) -> None:
        self._database.close()

    def _register(self, letters: list[Letter]) -> None:
        self._database.register("_few", table(letters))

    def _commit(self) -> None:
        if self._uncommitted_bytes:
            self._database.commit()
            self._uncommitted_bytes = 0


def _locked(path: str) -> duckdb.DuckDBPyConnection:
    database = duckdb.connect(path, config={"memory_limit": f"{MEMORY_MIB}MiB", "threads": str(THREADS), **LOCKED})
    database.execute("SET lock_configuration = true")
    return database


def _said(error: Exception) -> str:
    """DuckDB's words, without its advice about settings that are locked."""
    return str(error).partition("\n\nPossible solutions")[0].strip()
