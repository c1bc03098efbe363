"""The door to a stream's schema at one destination: which version a batch follows, for certain and for ever.

Law: once `of` or `widened` has answered for a batch, the answer is durable (in the batch's memo), and every later
attempt at this batch, also after a crash, gets that version or a wider one of the same column types.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from firehose.contracts import Memo
from firehose.model import Batch
from firehose.table_schema import TableSchema


@dataclass(frozen=True, slots=True)
class SchemaVersion:
    """One state of a schema. Numbers of one source ascend; those of a schema that never changes are all 1.

    `whole` of a schema that grows: nothing more is added to it for this batch. What it still lacks goes to `_rescued`,
    and is no reason to ask for a wider one.
    """

    number: int
    schema: TableSchema
    whole: bool = False


class SchemaSource(Protocol):
    """Thread-safe and blocking: segments of one stream are under way side by side."""

    @property
    def grows(self) -> bool:
        """Whether what the schema lacks is to be added to it. What does not fit goes to the column `_rescued` then."""
        ...

    @property
    def catalog_table(self) -> Mapping[str, str] | None:
        """AWS's `dataCatalogTable` of error documents; None where no catalogue holds the schema."""
        ...

    def of(self, batch: Batch, memo: Memo) -> SchemaVersion:
        """The version that this batch follows: the one noted before, else the newest one there is, which is noted.
        Raises `Retry` where it cannot be had now, `Refused` where it never can.
        """
        ...

    def widened(self, batch: Batch, memo: Memo) -> SchemaVersion:
        """A version that has columns and fields for all that the batch holds and that may have one, noted; it is
        `whole`. Only where the schema grows.
        """
        ...

    def document(self, version: SchemaVersion) -> bytes | None:
        """What is set down beside the data for this version, JSON; None where nothing is."""
        ...

    def check(self) -> None:
        """Proves that the schema can be had. Raises `Retry` or `Refused` saying what to mend."""
        ...

    def close(self) -> None:
        """Lets go of connections. May be called twice."""
        ...
