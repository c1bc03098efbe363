"""A schema that is inferred from the first batch of a stream at a destination, then kept and only widened.

What a batch follows is noted in its memo before anything of it is sent (see `notes`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated

from pydantic import Field

from firehose.blocks import Block
from firehose.contracts import Memo
from firehose.hive_type import DEPTH_LIMIT
from firehose.model import Batch
from firehose.registry import Site
from firehose.schemas import inference
from firehose.schemas.notes import note, noted
from firehose.schemas.source import SchemaVersion
from firehose.schemas.versions import Locks, Versions
from firehose.table_schema import RESCUED


class InferOptions(Block):
    """`schema: {infer: {...}}`: the bounds of what is inferred; what is past them is rescued."""

    max_columns: Annotated[int, Field(ge=1, le=10_000)] = inference.MAX_COLUMNS
    max_depth: Annotated[int, Field(ge=1, le=DEPTH_LIMIT)] = inference.MAX_DEPTH


class Inferred:
    """See `firehose.schemas.source` for the law. The schema is the stream's at this destination, whatever becomes of
    their definitions.
    """

    grows = True
    catalog_table: Mapping[str, str] | None = None

    def __init__(self, options: InferOptions, site: Site) -> None:
        self._options = options
        self._whose = {"stream": site.stream, "destination": site.destination, "rescued": RESCUED}
        self._versions = Versions(site.disk, site.schemas)
        self._lock = site.shared.of(Locks).of(site.schemas)

    def of(self, batch: Batch, memo: Memo) -> SchemaVersion:
        if (before := noted(memo, self._versions)) is not None:
            return before
        if (pinned := self._versions.pinned()) is not None:
            return note(memo, self._versions, replace(self._versions.read(pinned), whole=True))
        newest = self._versions.newest()
        return note(memo, self._versions, self._unless_full(newest)) if newest else self.widened(batch, memo)

    def widened(self, batch: Batch, memo: Memo) -> SchemaVersion:
        """Nothing is added to a schema that is pinned: there it is the version that was noted."""
        with self._lock:
            if (pinned := self._versions.pinned()) is not None:
                version = noted(memo, self._versions) or self._versions.read(pinned)
            else:
                version = self._with_all_of(batch)
            return note(memo, self._versions, replace(version, whole=True))

    def document(self, version: SchemaVersion) -> bytes | None:
        return self._versions.content(version.number) if version.number else None

    def check(self) -> None:
        """Nobody gives it: it is made of what comes."""

    def close(self) -> None:
        """Holds nothing open."""

    def _unless_full(self, version: SchemaVersion) -> SchemaVersion:
        """To ask for more would be in vain where there is no room for it."""
        return replace(version, whole=inference.places(version.schema) >= self._options.max_columns)

    def _with_all_of(self, batch: Batch) -> SchemaVersion:
        newest = self._versions.newest() or self._versions.read(0)
        schema = inference.widened(newest.schema, batch.slices(), self._options.max_columns, self._options.max_depth)
        if schema == newest.schema:
            return newest
        return self._versions.add(schema, {**self._whose, "since": batch.segment.opened_at.isoformat()})
