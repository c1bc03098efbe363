"""Whether a load would go through: what the cluster says of the table, the columns and our rights, nothing changed.

Nothing here waits for a load that is under way: a table that one has locked is asked about in the catalogue alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from firehose.redshift.connection import Connection, Failed
from firehose.redshift.copying import quoted
from firehose.redshift.loads import NO_TABLE, Loads

RIGHTS = ("select", "insert", "delete")
Trouble = tuple[str, str]  # AWS's code and a sentence


def trouble(connection: Connection, table: str, columns: Sequence[str], loads: Loads) -> Trouble | None:
    """What is wrong first; None where nothing is. Raises `Failed` where it cannot be asked."""
    return next(_troubles(connection, table, columns, loads), None)


def _troubles(connection: Connection, table: str, columns: Sequence[str], loads: Loads) -> Iterator[Trouble]:
    if not _may(connection, table, "insert"):
        yield "InsufficientPrivilege", f"no right to INSERT into {table}"
    if columns:
        _insert_nothing(connection, table, columns)
    yield from _of_loads(connection, loads)


def _may(connection: Connection, table: str, right: str) -> bool:
    ((may,),) = connection.run(f"SELECT has_table_privilege({quoted(table)}, {quoted(right)})")
    return bool(may)


def _insert_nothing(connection: Connection, table: str, columns: Sequence[str]) -> None:
    """The cluster itself finds columns that are not there."""
    nothing = ", ".join("NULL" for _ in columns)
    connection.run(f"INSERT INTO {table} ({', '.join(columns)}) SELECT {nothing} WHERE 1 = 0")
    connection.rollback()


def _of_loads(connection: Connection, loads: Loads) -> Iterator[Trouble]:
    try:
        missing = [right for right in RIGHTS if not _may(connection, loads.table, right)]
    except Failed as failed:
        if failed.state != NO_TABLE:
            raise
        connection.rollback()
        yield from _of_creation(connection, loads)
        return
    if missing:
        yield "InsufficientPrivilege", f"no right to {missing[0].upper()} in {loads.table}"


def _of_creation(connection: Connection, loads: Loads) -> Iterator[Trouble]:
    try:
        connection.run(loads.creation)
    except Failed as failed:
        yield failed.code, f"{loads.table} is not there and cannot be made: {failed}; make it with: {loads.creation}"
    connection.rollback()
