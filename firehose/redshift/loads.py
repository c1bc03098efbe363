"""Which batches a table has: rows of a small table of ours, each written in the transaction that loads its batch.

Redshift declares unique keys and enforces none, so a key would not keep a batch from being loaded twice. What does is
order: a transaction locks this table before anything else, and so has it for itself until it ends; only then does it
look whether its batch is there, and only then is its snapshot taken, so that nothing committed before escapes it. A
repeat whose first reply was lost, of this process or of another, even one that comes while the first COPY still runs
in a session that nobody hears any more, waits for that to end, and finds what it left. All destinations that share the
table so take turns; with a table for each they need not.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from firehose.redshift.connection import Connection, Failed

NO_TABLE = "42P01"
COLUMNS = (
    "load_id varchar(36) NOT NULL, stream varchar(64) NOT NULL, destination varchar(64) NOT NULL,"
    " manifest varchar(2048) NOT NULL, loaded_at timestamp NOT NULL"
)


@dataclass(frozen=True, slots=True)
class Load:
    """A batch on its way into a table. `id` derives from what it is, never from when."""

    id: str
    stream: str
    destination: str
    manifest: str  # its URL


@dataclass(frozen=True, slots=True)
class Loads:
    """The table. What is older than `days` is removed, of the same stream's destination alone."""

    table: str
    days: float

    def once(self, connection: Connection, load: Load, copy: str, now: datetime) -> bool:
        """Loads the batch by the statement `copy`, unless it is there; whether it did. Raises `Failed`."""
        self._lock(connection)
        if self.has(connection, load):
            connection.rollback()
            return False
        connection.run(
            f"INSERT INTO {self.table} (load_id, stream, destination, manifest, loaded_at) VALUES (%s, %s, %s, %s, %s)",
            *(load.id, load.stream, load.destination, load.manifest, now),
        )
        connection.run(copy)
        connection.run(
            f"DELETE FROM {self.table} WHERE stream = %s AND destination = %s AND loaded_at < %s",
            *(load.stream, load.destination, now - timedelta(days=self.days)),
        )
        connection.commit()
        return True

    def arrived(self, connection: Connection, load: Load) -> bool:
        """Whether the batch is there for good: no transaction that may still bring it is left. Raises `Failed`."""
        self._lock(connection)
        found = self.has(connection, load)
        connection.rollback()
        return found

    def has(self, connection: Connection, load: Load) -> bool:
        return bool(connection.run(f"SELECT 1 FROM {self.table} WHERE load_id = %s", load.id))

    def _lock(self, connection: Connection) -> None:
        try:
            connection.run(f"LOCK {self.table}")
        except Failed as failed:
            if failed.state != NO_TABLE:
                raise
            connection.rollback()
            connection.run(self.creation)
            connection.commit()
            connection.run(f"LOCK {self.table}")

    @property
    def creation(self) -> str:
        return f"CREATE TABLE IF NOT EXISTS {self.table} ({COLUMNS})"
