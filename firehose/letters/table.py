"""Letters as Arrow, and SQL over them.

People's SQL must never reach beyond the letters: DuckDB runs without access to files, network and extensions, its
settings locked. Memory is bounded however many letters there are: a condition sees one batch at a time, and for whole
queries the letters lie in a database file.
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
MEMORY_MIB = 512
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
            found = self._database.execute(f"SELECT _number FROM _few AS letters WHERE (\n{self._sql}\n) ORDER BY 1")
            return [letters[number] for (number,) in found.fetchall()]
        except duckdb.Error as error:
            raise BadSql(_said(error)) from error
        finally:
            self._database.unregister("_few")

    def close(self) -> None:
        self._database.close()


@dataclass(frozen=True, slots=True)
class Answer:
    """What a query found: its columns, and its rows as Python's values."""

    columns: list[str]
    rows: list[tuple[Any, ...]]
