"""A schema that others write and may change at any time: in a file, or in a catalogue.

Each state of it that a batch has followed is kept as a version of ours, so that a repeat follows the same one whatever
became of it over there. Where it cannot be had, batches wait: none is converted to a schema that nobody gave.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

from firehose.contracts import Disk, Memo, Retry
from firehose.model import Batch
from firehose.registry import Site
from firehose.schemas import file
from firehose.schemas.notes import note, noted
from firehose.schemas.source import SchemaVersion
from firehose.schemas.versions import Locks, Versions
from firehose.table_schema import TableSchema

Require = Callable[[TableSchema], None]  # raises ValueError where these columns cannot be read


def takes_all(schema: TableSchema) -> None:
    """Whatever columns there are can be read."""


class Elsewhere(Protocol):
    """Where the schema is. Thread-safe and blocking."""

    @property
    def catalog_table(self) -> Mapping[str, str] | None: ...

    def schema(self) -> TableSchema:
        """As it is now, or was not long ago. Raises `Retry` saying what to mend."""
        ...

    def check(self) -> TableSchema:
        """As it is now, asked anew. Raises `Retry` saying what to mend."""
        ...

    def close(self) -> None: ...


class Followed:
    """See `firehose.schemas.source` for the law."""

    grows = False

    def __init__(self, elsewhere: Elsewhere, site: Site, require: Require = takes_all) -> None:
        self._elsewhere = elsewhere
        self._require = require
        self._versions = Versions(site.disk, site.schemas)
        self._whose = {"stream": site.stream, "destination": site.destination}
        self._lock = site.shared.of(Locks).of(site.schemas)
        self._current: SchemaVersion | None = None

    @property
    def catalog_table(self) -> Mapping[str, str] | None:
        return self._elsewhere.catalog_table

    def of(self, batch: Batch, memo: Memo) -> SchemaVersion:
        return noted(memo, self._versions) or note(memo, self._versions, self._to_follow(batch))

    def widened(self, batch: Batch, memo: Memo) -> SchemaVersion:
        raise AssertionError("a schema that others write does not grow by what records hold")

    def document(self, version: SchemaVersion) -> bytes | None:
        return None

    def check(self) -> None:
        self._required(self._elsewhere.check())

    def close(self) -> None:
        self._elsewhere.close()

    def _to_follow(self, batch: Batch) -> SchemaVersion:
        pinned = self._versions.pinned()
        if pinned is not None:
            return self._versions.read(pinned)
        schema = self._required(self._elsewhere.schema())
        with self._lock:
            return self._numbered(schema, batch)

    def _required(self, schema: TableSchema) -> TableSchema:
        """Before any batch is noted to follow it: that could not be mended over there any more."""
        try:
            self._require(schema)
        except ValueError as error:
            raise Retry(f"schema: {error}; change it there, or the format's deserializer; it is tried again") from None
        return schema

    def _numbered(self, schema: TableSchema, batch: Batch) -> SchemaVersion:
        """The version that has this schema: the one that was followed last, or a new one."""
        if self._current is None or self._current.schema != schema:
            newest = self._versions.newest()
            same = newest is not None and newest.schema == schema
            self._current = newest if same else self._versions.add(schema, self._note(batch))
        assert self._current is not None
        return self._current

    def _note(self, batch: Batch) -> Mapping[str, str]:
        """Who followed it first."""
        return {**self._whose, "since": batch.segment.opened_at.isoformat()}


class SchemaFile:
    """A file that is read once: what changes in it is taken up at a reload, when everything is put to work anew."""

    catalog_table: Mapping[str, str] | None = None

    def __init__(self, path: str, disk: Disk) -> None:
        self._path = path
        self._disk = disk
        self._read: TableSchema | None = None  # two threads that read it at once do no harm

    def schema(self) -> TableSchema:
        if self._read is None:
            self._read = self._now()
        return self._read

    def check(self) -> TableSchema:
        return self._now()

    def close(self) -> None:
        """Holds nothing open."""

    def _now(self) -> TableSchema:
        try:
            return file.read(self._disk, self._path)
        except ValueError as error:
            raise Retry(f"schema: {error}; mend the file, or the key schema.file; it is tried again") from None
