"""jq conditions: a record matches where the query yields anything but `false` and `null`.

Only what the query looks at is put to it, of records that are alike in it once. One that can neither loop nor grow what
it is given is answered here, any other by a worker process.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache, partial
from typing import Any

import jq
import numpy as np
import pyarrow as pa

from firehose import jq_query, jq_workers
from firehose.conditions.judging import Judgement, Mask, Reason, told
from firehose.conditions.options import TRUE
from firehose.hooks.program import PROCESSING_FAILED, Mark, Program, Run
from firehose.model import ROW_SCHEMA, Outcome
from firehose.partitioning import narrowing
from firehose.partitioning.documents import Codes, Documents
from firehose.partitioning.queries import AskedKey
from firehose.registry import Site
from firehose.rows import refused_each

NOT_JSON: Reason = ("Where.NotJson", "the record is not one JSON value, which a jq condition needs; mend its sender")
REMEMBERED = 10_000  # documents and what the query says of them


class Distinct:
    """Reads rows for what the query looks at."""

    def __init__(self, query: str) -> None:
        fields = narrowing.fields(query)
        self._documents = Documents(fields, handed=False)
        self._key = AskedKey(query, 0, fields)

    def read(self, rows: pa.RecordBatch) -> tuple[Codes, list[bytes | None]]:
        """The distinct documents, None for what is no JSON, and for each row at which place in them."""
        codes, found = self._documents.read([rows])
        return codes, [*map(self._key.document(found.names), found.seen)]


class QuickJq:
    """A query that is answered at once."""

    def __init__(self, query: str) -> None:
        self._distinct = Distinct(query)
        self._says = lru_cache(maxsize=REMEMBERED)(partial(_says, jq.compile(jq_query.wrapped(query, TRUE))))

    def judge(self, rows: pa.RecordBatch) -> Judgement:
        codes, documents = self._distinct.read(rows)
        said = [NOT_JSON if one is None else self._says(one) for one in documents]
        matches = np.fromiter((one is True for one in said), bool, len(said))
        return _spread(matches, {place: one for place, one in enumerate(said) if isinstance(one, tuple)}, codes)

    async def close(self) -> None:
        """Nothing is held open."""


class AskedJq:
    """A query that a worker answers."""

    def __init__(self, query: str, site: Site) -> None:
        self._distinct = Distinct(query)
        self._threads = site.threads
        self._workers = jq_workers.workers(Program("where", "firehose.conditions.by_jq:run", {"query": query}), site)

    async def ask(self, rows: pa.RecordBatch) -> Judgement:
        codes, documents = await self._threads.run(partial(self._distinct.read, rows))
        flaws = {place: NOT_JSON for place, one in enumerate(documents) if one is None}
        said = told(await self._workers.outcome(jq_workers.questions(documents)), len(documents))
        return _spread(said.matches, {**said.flaws, **flaws}, codes)

    async def close(self) -> None:
        await self._workers.close()


def condition(query: str, site: Site) -> QuickJq | AskedJq:
    return QuickJq(query) if narrowing.is_quick(query) else AskedJq(query, site)


def run(options: Mapping[str, Any]) -> Run:
    """What a worker runs: documents that match are left, without what they say."""
    compiled = jq.compile(jq_query.wrapped(options["query"], TRUE))

    def judge(rows: pa.RecordBatch, mark: Mark) -> Outcome:
        """Goes through the documents."""
        said: list[bool | Reason] = []
        for index, document in enumerate(rows.column("record").to_pylist()):
            mark(index)
            said.append(_says(compiled, document))
        places = [place for place, one in enumerate(said) if one is True]
        bad = {place: one for place, one in enumerate(said) if isinstance(one, tuple)}
        left = rows.take(pa.array(places, pa.int32()))
        empty = pa.array([b""] * len(places), pa.binary())
        dropped = rows.column("row").filter(pa.array([one is False for one in said], pa.bool_()))
        refused = refused_each(rows.take(pa.array([*bad], pa.int32())), PROCESSING_FAILED, [*bad.values()])
        return Outcome(left.set_column(0, ROW_SCHEMA.field("record"), empty), refused, dropped)

    return judge


def _says(compiled: Any, document: bytes) -> bool | Reason:
    try:
        return next(iter(compiled.input_text(document.decode())), None) is not None
    except ValueError as error:
        return ("Where.Error", f"{jq_query.failure(error)}; mend the condition, or catch it with ?")


def _spread(matches: Mask, flaws: Mapping[int, Reason], codes: Codes) -> Judgement:
    """From documents to the rows that have them."""
    flawed = np.flatnonzero(np.isin(codes, list(flaws))).tolist() if flaws else []
    return Judgement(matches[codes], {at: flaws[int(codes[at])] for at in flawed})
