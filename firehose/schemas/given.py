"""A schema that stands in the stream's definition, and so follows the definition's version: nothing need be kept."""

from __future__ import annotations

from collections.abc import Mapping

from firehose.contracts import Memo
from firehose.model import Batch
from firehose.schemas.source import SchemaVersion
from firehose.table_schema import TableSchema


class Given:
    """See `firehose.schemas.source` for the law."""

    grows = False
    catalog_table: Mapping[str, str] | None = None

    def __init__(self, schema: TableSchema) -> None:
        self._version = SchemaVersion(1, schema)

    def of(self, batch: Batch, memo: Memo) -> SchemaVersion:
        return self._version

    def widened(self, batch: Batch, memo: Memo) -> SchemaVersion:
        raise AssertionError("a schema that is given does not grow")

    def document(self, version: SchemaVersion) -> bytes | None:
        return None

    def check(self) -> None:
        """Was checked with the definition."""

    def close(self) -> None:
        """Holds nothing."""
