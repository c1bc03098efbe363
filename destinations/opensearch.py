"""OpenSearch, Amazon OpenSearch Service and Serverless, and Elasticsearch: each record is a document.

firehose.md section 10. A batch goes in bulk requests of bounded size. Documents have ids that derive from the segment,
so a repeat overwrites them, and a failed attempt simply sends them again; which parcels arrived whole is noted, to
spare the cluster. Without ids every document that arrived is noted, as far as that can be known.

It must never take a document for delivered that the server did not speak of, and never refuse one for what is the
cluster's fault.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Annotated, ClassVar, Literal, TypeVar

import numpy as np
import pyarrow as pa
from pydantic import Field, model_validator

from firehose.authorization import SigV4
from firehose.blocks import MIB
from firehose.contracts import Memo, Retry
from firehose.model import Batch, Receipt, Rejections, Segment
from firehose.opensearch.answers import Item, Mismatch, failures
from firehose.opensearch.cluster import Cluster, ClusterOptions
from firehose.opensearch.documents import Documents, on_one_line
from firehose.opensearch.index_names import LONGEST, Rotation
from firehose.opensearch.probing import Probing
from firehose.opensearch.taken import Taken, placed
from firehose.parcels import Arrived, Bounds, Parcel, parcels
from firehose.posting import REDIRECTS, Answer
from firehose.registry import Site
from firehose.rows import refused_each
from firehose.stream_config import DestinationBlock

T = TypeVar("T")
AT_ONCE = 4  # requests of one batch
INDEX = r"^[^A-Z\\/*?\"<>|\s,#:+_.\x00-\x1f-][^A-Z\\/*?\"<>|\s,#:\x00-\x1f]*$"
INDEX_BYTES = 255
TOO_LARGE = 413
STATUSES = {
    **dict.fromkeys(REDIRECTS, ("ServiceException", "; check endpoint: redirects are not followed")),
    401: ("AccessDenied", "; check auth"),
    403: ("AccessDenied", "; check auth, and that it may write to the index"),
    404: ("ResourceNotFound", "; check the path in endpoint"),
    502: ("BadGateway", ""),
    504: ("GatewayTimeout", ""),
}
ITEM_WAYS_OUT = {
    403: "; check auth, and whether the cluster has blocked writing, as it does when a disk is nearly full",
    404: "; create the index, or let the server: action.auto_create_index",
}


class OpenSearchOptions(DestinationBlock, ClusterOptions):
    """`type: opensearch`."""

    LETTERS: ClassVar[bool] = False
    RETRY_SECONDS: ClassVar[float | None] = 300

    type: Literal["opensearch"] = "opensearch"
    index: Annotated[str, Field(pattern=INDEX)]
    index_rotation: Rotation = "day"
    document_id: Literal["record", "none"] = "record"
    data_stream: bool = False
    type_name: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]{0,64}$")] = ""
    bulk_mib: Annotated[float, Field(gt=0, le=100)] = 5
    bulk_records: Annotated[int, Field(ge=1, le=100_000)] = 10_000

    @model_validator(mode="after")
    def _fitting(self) -> OpenSearchOptions:
        if self.data_stream and "index_rotation" in self.model_fields_set and self.index_rotation != "none":
            raise ValueError("index_rotation is none with data_stream: the server rotates a data stream by itself")
        if len(self.index.encode()) + LONGEST > INDEX_BYTES:
            raise ValueError(f"index is longer than {INDEX_BYTES - LONGEST} bytes, with no room for the rotation")
        if isinstance(self.auth, SigV4) and self.auth.service not in ("es", "aoss"):
            raise ValueError("auth.service is es, or aoss for a serverless collection")
        return self

    @property
    def rotation(self) -> Rotation:
        return "none" if self.data_stream else self.index_rotation

    def place(self) -> tuple[str, ...]:
        return (self.type, self.endpoint, self.index)


@dataclass(slots=True)
class Attempt:
    """What one delivery of a batch has come to so far."""

    arrived: Arrived
    taken: Taken
    refused: Rejections = field(default_factory=Rejections)
    flawed: set[int] = field(default_factory=set)  # parcels of which a row is refused, by their first row
    ids: list[str] = field(default_factory=list)
    sent_bytes: int = 0
    failure: Retry | None = None
    making: asyncio.Lock = field(default_factory=asyncio.Lock)
    noting: asyncio.Lock = field(default_factory=asyncio.Lock)


class OpenSearch:
    """Delivers documents to an index, a family of indices, or a data stream."""

    Options: ClassVar[type[DestinationBlock]] = OpenSearchOptions
    error_type: ClassVar[str] = "AmazonOpenSearchService-failed"

    def __init__(self, options: OpenSearchOptions, site: Site) -> None:
        self._options = options
        self._site = site
        self._threads = site.threads
        self._cluster = Cluster(options, site)
        operation: Literal["index", "create"] = "create" if options.data_stream else "index"
        self._has_ids = options.document_id == "record"
        self._documents = Documents(options.index, options.rotation, operation, options.type_name, self._has_ids)
        self._bounds = Bounds(options.bulk_records, int(options.bulk_mib * MIB), self._documents.sizes)

    async def check(self) -> None:
        """Reaches the server and looks at the index that a record of this moment would go to."""
        options = self._options
        now_ms = pa.array([self._site.runtime.now_ms()], pa.int64())
        index = self._documents.indices_at(now_ms)[0].as_py()
        await Probing(self._cluster, index, options.data_stream, options.serverless, options.type_name).look()

    async def deliver(self, batch: Batch, memo: Memo) -> Receipt:
        attempt = Attempt(Arrived(memo, batch), Taken(memo, batch.partition))
        sending = parcels(batch, self._bounds)
        # Without ids, what has arrived is only known where it arrives in order.
        workers = range(AT_ONCE if self._has_ids else 1)
        tasks = [asyncio.create_task(self._work(sending, attempt)) for _ in workers]
        try:
            await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        if (failure := attempt.failure) is not None:
            # A record that was split may have a part in a parcel that arrived, and one in the next.
            if (unsent := await self._next(sending, attempt)) is not None:
                attempt.arrived.leave(unsent.rows)
            raise self._with_what_arrived(failure, attempt) from failure
        return Receipt(tuple(sorted(attempt.ids)), attempt.sent_bytes, attempt.refused)

    def _with_what_arrived(self, failure: Retry, attempt: Attempt) -> Retry:
        of = attempt.arrived.batch
        extra = partial(self._names, of.segment, of.partition)
        done = attempt.arrived.done_rows()
        return Retry(failure.reason, failure.after_seconds, done, failure.code, extra=extra)

    async def close(self) -> None:
        await self._cluster.close()

    async def _work(self, sending: Iterator[Parcel], attempt: Attempt) -> None:
        """Sends one parcel after the other until there is none, or one has failed."""
        while attempt.failure is None and (parcel := await self._next(sending, attempt)) is not None:
            try:
                await self._one(parcel, attempt)
            except Retry as failure:
                attempt.failure = attempt.failure or failure

    async def _next(self, sending: Iterator[Parcel], attempt: Attempt) -> Parcel | None:
        return await self._made(partial(next, sending, None), attempt)

    async def _made(self, make: Callable[[], T], attempt: Attempt) -> T:
        """In a thread, and one thing at a time for a batch: making a request takes several times its memory."""
        async with attempt.making:
            return await self._threads.run(make)

    async def _one(self, parcel: Parcel, attempt: Attempt) -> None:
        """All of a parcel that has not arrived before. Raises `Retry`."""
        rows, wrong = await self._made(lambda: on_one_line(placed(parcel.rows)), attempt)
        if wrong.num_rows:
            why = "the record is no JSON object; a record is one document"
            self._refuse(parcel, wrong, attempt, [("OS.MalformedData", why)] * wrong.num_rows)
        if rows.num_rows:
            attempt.ids.append(parcel.id)
        left, before = attempt.taken.split(parcel, rows)
        attempt.arrived.add_some(before)
        if left.num_rows and not attempt.arrived.has(parcel):
            await self._send(parcel, left, attempt)
        if parcel.first not in attempt.flawed:  # else a restart has to hear again what was refused, and why
            async with attempt.noting:
                attempt.arrived.add(replace(parcel, rows=rows))
                await self._threads.run(attempt.arrived.note)

    async def _send(self, parcel: Parcel, rows: pa.Table, attempt: Attempt) -> None:
        """One request, or two halves of it where it is too large. Raises `Retry`."""
        body = await self._made(partial(self._documents.body, parcel, rows), attempt)
        try:
            answer = await self._cluster.bulk(body, parcel.id)
            failed = [] if answer.status == TOO_LARGE else self._not_taken(answer, rows.num_rows)
        except Retry:
            attempt.arrived.leave(rows)
            raise
        if answer.status == TOO_LARGE:
            await self._send_halves(parcel, rows, attempt, answer)
        else:
            attempt.sent_bytes += len(body)
            await self._settle(parcel, rows, attempt, failed)

    async def _send_halves(self, parcel: Parcel, rows: pa.Table, attempt: Attempt, answer: Answer) -> None:
        half = rows.num_rows // 2
        if not half:
            self._refuse(parcel, rows, attempt, [(str(TOO_LARGE), self._failure(answer).reason)])
            return
        try:
            await self._send(parcel, rows.slice(0, half), attempt)
        except Retry:
            attempt.arrived.leave(rows.slice(half))
            raise
        await self._send(parcel, rows.slice(half), attempt)

    async def _settle(self, parcel: Parcel, rows: pa.Table, attempt: Attempt, failed: list[tuple[int, Item]]) -> None:
        """What the server said of each document is kept. Raises `Retry` where some may be taken another time."""
        taken = np.ones(rows.num_rows, bool)
        taken[[at for at, _ in failed]] = False
        here = rows.filter(pa.array(taken))
        attempt.arrived.add_some(here)
        if not self._has_ids and (failed or rows.num_rows < parcel.rows.num_rows):
            await self._threads.run(partial(attempt.taken.note, parcel, here))
        refused = [(at, item) for at, item in failed if not item.passes()]
        if refused:
            wrong = rows.take(pa.array([at for at, _ in refused]))
            self._refuse(parcel, wrong, attempt, [(str(item.status), item.reason()) for _, item in refused])
        passing = [(at, item) for at, item in failed if item.passes()]
        if passing:
            attempt.arrived.leave(rows.take(pa.array([at for at, _ in passing])))
            _, said = passing[0]
            told = f"{len(passing)} of {rows.num_rows} documents are not taken: {said.status} {said.reason()}"
            way_out = ITEM_WAYS_OUT.get(said.status, "")
            raise Retry(f"{self._cluster.name}: {told}{way_out}", code=str(said.status))

    def _not_taken(self, answer: Answer, count: int) -> list[tuple[int, Item]]:
        if answer.status != 200:
            raise self._failure(answer)
        try:
            return list(failures(answer.body, count, self._options.data_stream and self._has_ids))
        except Mismatch as error:
            raise self._failure(answer, f"answers 200 and {error}", "ResponseEntryCountMismatch") from error
        except (ValueError, RecursionError) as error:
            told = f"answers 200 with what is no answer to a bulk request: {error}"
            raise self._failure(answer, told, "AmazonOpenSearchServiceParseException") from error

    def _refuse(self, parcel: Parcel, rows: pa.Table, attempt: Attempt, reasons: list[tuple[str, str]]) -> None:
        (chunk,) = rows.combine_chunks().to_batches()
        attempt.arrived.leave(rows)
        attempt.flawed.add(parcel.first)
        letters = refused_each(chunk, self.error_type, reasons)
        attempt.refused += letters.with_extra(self._names(parcel.segment, parcel.partition, chunk))

    def _names(self, segment: Segment, partition: str, rows: pa.RecordBatch) -> pa.StringArray:
        """What AWS writes of a document in its letter."""
        ids = self._documents.ids(segment, partition, rows).to_pylist() if self._has_ids else [""] * rows.num_rows
        indices = self._documents.indices(rows).to_pylist()
        return pa.array([json.dumps(self._name(id, at)) for id, at in zip(ids, indices, strict=True)], pa.string())

    def _name(self, id: str, index: str) -> dict[str, str]:
        if self._options.serverless:
            return {"osDocumentId": id, "osIndexName": index}
        return {"esDocumentId": id, "esIndexName": index, "esTypeName": self._options.type_name}

    def _failure(self, answer: Answer, told: str = "", code: str = "") -> Retry:
        """With AWS's code in the letter where the answer is at fault, else with the status, as AWS has it there."""
        known, way_out = STATUSES.get(answer.status, ("ServiceException", ""))
        said = f": {answer.text()}" if answer.body else ""
        reason = f"{self._cluster.name}: {told or f'answers {answer.status}, OS.{known}'}{way_out}{said}"
        hidden = self._cluster.hidden.out_of(reason)
        return Retry(hidden, answer.after_seconds, code=f"OS.{code}" if code else str(answer.status))
