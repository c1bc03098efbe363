"""JSON records become columns: whole blocks at once where that is exact, document by document where it is not.

The fast way (`json_plan`) either gives the very rows that the slow one (`deserializers.reading`) would, or none. A
block that it cannot read is cut in halves, until only the neighbours of what it could not read are left to the slow
way. So a bad record costs its neighbourhood, and never the batch.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

from firehose.deserializers.deserializer import Deserializer, Misfit
from firehose.deserializers.documents import Flaw, documents, no_match
from firehose.deserializers.exact import Exact
from firehose.deserializers.reading import Reader, Unforeseen
from firehose.deserializers.seen import Seen
from firehose.deserializers.values import Mismatch
from firehose.json_lines import Flags, JsonLines
from firehose.json_plan import JsonPlan, NoPlan
from firehose.model import Rejections
from firehose.rows import refused_each
from firehose.table_schema import RESCUED, TableSchema

__all__ = ["JsonTable", "Read", "Unforeseen"]

ERROR_TYPE = "format-conversion-failed"
FEW = 16  # records: fewer than these are not worth a parser's start
WIDEST = 256  # records that go the slow way in one go
SAMPLE = 32  # records of a block that tell what the others look like
REST = 8  # blocks that go the slow way at once, after one of which most had to


@dataclass(frozen=True, slots=True)
class Read:
    """Rows in the order of their records; a record with several documents makes several, one that is refused none."""

    table: pa.Table
    refused: Rejections


class JsonTable:
    """Reads records into the columns of `schema`.

    Where it `grows`, there is a column `_rescued` more, of JSON that does not fit, and no record is refused but for
    what is no JSON object; `read` raises `Unforeseen` where a document holds a column or a field that the schema lacks.
    `full` says that there is no room for more of them: then these, too, are rescued.
    """

    def __init__(
        self, schema: TableSchema, deserializer: Deserializer, grows: bool = False, full: bool = False
    ) -> None:
        deserializer.require(schema)
        deserializer = Exact(deserializer) if grows else deserializer
        self._schema = schema
        self._deserializer = deserializer
        self._grows = grows
        self._reader = Reader(schema, deserializer, grows, full)
        self._seen = Seen()
        self._plan = self._planned(self._seen)
        self._rest = 0

    @property
    def arrow(self) -> pa.Schema:
        """Of the tables that `read` gives."""
        own = self._schema.arrow
        return own.append(pa.field(RESCUED, pa.string())) if self._grows else own

    def read(self, rows: pa.RecordBatch) -> Read:
        """The rows of `ROW_SCHEMA` as a table. Raises `Unforeseen`."""
        made = _Made(self.arrow)
        lines = JsonLines.of(rows.column("record"))
        for start, end, is_framed in _runs(lines):
            if not is_framed or not self._plan or self._rest:
                self._slowly(lines, start, end, made)
            else:
                self._at_once_or_learn(lines, start, end, made)
        self._rest = max(self._rest - 1, 0) if made.slow * 2 <= len(lines) or self._rest else REST
        return Read(made.table(), made.refused(rows))

    def _at_once_or_learn(self, lines: JsonLines, start: int, end: int, made: _Made) -> None:
        try:
            self._at_once(lines, start, end, made)
        except Misfit:
            self._learn(lines, start, end)
            self._in_pieces(lines, start, end, made)

    def _planned(self, seen: Seen) -> JsonPlan | None:
        if not self._schema.columns:
            return None  # a table without columns would not tell how many rows it has
        try:
            return JsonPlan.of(self._schema, self._deserializer, seen, self._grows)
        except NoPlan:
            return None

    def _learn(self, lines: JsonLines, start: int, end: int) -> None:
        """Looks at a few records of a block that could not be read at once."""
        found: list[dict[str, Any]] = []
        for at in np.linspace(start, end - 1, min(SAMPLE, end - start)).astype(int):
            try:
                found += documents(lines.record(int(at)))
            except Flaw:
                continue
        self._seen = self._seen.and_in(found, self._schema, self._deserializer.keys)
        self._plan = self._planned(self._seen)

    def _in_pieces(self, lines: JsonLines, start: int, end: int, made: _Made) -> None:
        """As many at once as can be: up to the record that the parser stops at, or by halves where it does not say."""
        step, width = end - start, 1
        while start < end:
            stop = min(start + step, end)
            try:
                self._at_once(lines, start, stop, made)
                start, step, width = stop, step * 2, 1
                continue
            except Misfit as misfit:
                said = misfit.row if misfit.row is not None and misfit.row < stop - start else None
            good = (stop - start) // 2 if said is None else said
            if good > FEW:
                step = good
                continue
            # The more bad ones there are in a row, the more go the slow way at once.
            stop = stop if said is None else min(start + said + width, end)
            self._slowly(lines, start, stop, made)
            start, step, width = stop, max(4 * FEW, 2 * width), min(2 * width, WIDEST)

    def _at_once(self, lines: JsonLines, start: int, end: int, made: _Made) -> None:
        """Raises `Misfit`."""
        if not self._plan or not lines.is_exact(start, end):
            raise Misfit
        table = self._plan.table(lines.piece(start, end))
        assert table.num_rows >= end - start, "a framed record holds a document at least"
        if table.num_rows > end - start and lines.has_null_documents(start, end):
            raise Misfit
        made.add(table)

    def _slowly(self, lines: JsonLines, start: int, end: int, made: _Made) -> None:
        """Goes through the records one by one."""
        found: list[tuple[dict[str, Any], bytes | None]] = []
        for at in range(start, end):
            try:
                found += [self._reader.row(document) for document in documents(lines.record(at))]
            except Flaw as flaw:
                made.flaws[at] = flaw
            except Mismatch as mismatch:
                made.flaws[at] = no_match(mismatch)
        columns = [pa.array([row.get(one.name) for row, _ in found], one.type) for one in self._schema.arrow]
        if self._grows:
            columns.append(pa.array([rescued for _, rescued in found], pa.string()))
        made.add(pa.table(columns, schema=self.arrow))
        made.slow += end - start


@dataclass(slots=True)
class _Made:
    """What has become of a block's records so far."""

    schema: pa.Schema
    tables: list[pa.Table] = field(default_factory=list)
    flaws: dict[int, Flaw] = field(default_factory=dict)
    slow: int = 0  # records

    def add(self, table: pa.Table) -> None:
        if table.num_columns < len(self.schema):
            table = table.append_column(RESCUED, pa.nulls(table.num_rows, pa.string()))
        self.tables.append(table)

    def table(self) -> pa.Table:
        return pa.concat_tables([self.schema.empty_table(), *self.tables])

    def refused(self, rows: pa.RecordBatch) -> Rejections:
        if not self.flaws:
            return Rejections()
        bad = rows.take(pa.array(self.flaws, pa.int32()))
        return refused_each(bad, ERROR_TYPE, [(flaw.code, flaw.message) for flaw in self.flaws.values()])


def _runs(lines: JsonLines) -> Iterator[tuple[int, int, bool]]:
    """Runs of records that are framed, or are not."""
    if not len(lines):
        return
    framed: Flags = lines.framed()
    edges = np.flatnonzero(np.diff(framed)) + 1
    for start, end in zip([0, *edges.tolist()], [*edges.tolist(), len(lines)], strict=True):
        yield start, end, bool(framed[start])
