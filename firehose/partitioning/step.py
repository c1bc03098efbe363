"""The last step of a partitioned stream's rows: each gets its partition, or goes to the error output saying why.

One step for all of a stream's destinations, as the outcome is. Which partitions are open at the moment decides too: so
the outcome cannot be computed again, and is made durable.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache, partial

import numpy as np
import pyarrow as pa

from firehose import jq_workers, naming, partitions
from firehose.column_options import ColumnarOptions
from firehose.model import Outcome, Rejections
from firehose.objects import ObjectOptions
from firehose.partitioning import queries
from firehose.partitioning.columns import Column
from firehose.partitioning.documents import NOT_JSON, Codes, Documents, Flaw, Fold, Found, Value
from firehose.partitioning.options import PartitioningOptions
from firehose.partitioning.queries import AskedKey, HandedKey, PathKey
from firehose.partitions import FROM_COLUMN, FROM_LAMBDA, FROM_QUERY, ActivePartitions
from firehose.registry import Site
from firehose.rows import bare, refused_each, together

EXTRACTION, EXCEEDED = "metadata-extraction-failed", "activePartitionExceeded"  # error-output-types
EXTRACTION_CODE = "DynamicPartitioning.MetadataExtractionFailed"
EXCEEDED_CODE = "DynamicPartitioning.ActivePartitionsLimitExceeded"
GATHERED_BYTES = 4 * 1024 * 1024  # of rows: what they have in common is looked at once
REFUSALS = 10_000  # partitions of which it is known whether they can be delivered
Keys = Mapping[tuple[str, str], HandedKey | PathKey | AskedKey | Column]  # by namespace and name
Refuse = Callable[[str], str | None]  # why no destination can have a name in this partition
Flags = np.ndarray[tuple[int], np.dtype[np.bool_]]
Pick = Callable[[Flags], pa.RecordBatch]  # the flagged rows


def step(
    options: PartitioningOptions, destinations: Sequence[ObjectOptions], site: Site
) -> Partition | AskingPartition:
    """For the stream's destinations that take partitions: what their prefixes name is what partitions are made of."""
    handed = sorted({key for one in destinations for key in naming.keys(one.prefix).get(FROM_LAMBDA, ())})
    keys: dict[tuple[str, str], HandedKey | PathKey | AskedKey | Column] = {}
    keys |= {(FROM_QUERY, name): key for name, key in queries.keys(options.queries).items()}
    keys |= {(FROM_LAMBDA, name): HandedKey(name) for name in handed}
    fold = _fold(destinations)
    columns = [replace(Column.parsed(text), fold=fold) for text in options.columns]
    keys |= {(FROM_COLUMN, column.name): column for column in columns}
    plain = Partition(keys, options.limit, _refusal(destinations), site)
    asks = any(isinstance(key, AskedKey) for key in keys.values())
    return AskingPartition(plain, options.queries, site) if asks else plain


def _fold(destinations: Sequence[ObjectOptions]) -> Fold | None:
    """As a destination reads keys into columns where their very names are not asked for: columns that folders tell are
    left out of its files, so that they must tell the same.
    """
    kinds = [one.format.keys() for one in destinations if isinstance(one.format, ColumnarOptions)]
    return next((one.folded for one in kinds if not one.exact), None)


def _refusal(destinations: Sequence[ObjectOptions]) -> Refuse:
    """Files on this machine have tighter bounds."""
    names = [(one.names(), one.local_folder() is not None) for one in destinations]

    def refuse(partition: str) -> str | None:
        keys = partitions.decode(partition)
        return next(filter(None, (one.refusal(keys, local=local) for one, local in names)), None)

    return refuse


class Partition:
    """Keys that need no jq."""

    repeatable = False

    def __init__(self, keys: Keys, limit: int, refuse: Refuse, site: Site) -> None:
        self.keys = keys
        self._limit = limit
        self._stream = site.stream
        self._refuse = lru_cache(maxsize=REFUSALS)(refuse)
        self._active = site.shared.of(ActivePartitions)
        fold = next((key.fold for key in keys.values() if isinstance(key, Column)), None)
        self._documents = Documents(_names(keys), any(isinstance(key, HandedKey) for key in keys.values()), fold)

    def __call__(self, rows: pa.RecordBatch) -> Outcome:
        codes, found = self.read([rows])
        return self.outcome(rows, codes, self.values(found))

    def bare_outcome(self, slices: Iterable[pa.RecordBatch]) -> Outcome:
        """The same of several slices, at least one, whose rows go on without their records. Each slice is read as it
        comes: its records are not joined with the others', and lie in the core's cache yet.
        """
        codes, found = self.read(slices)
        rows = together(map(bare, slices))
        return self.outcome(rows, codes, self.values(found), lambda flags: _picked(slices, flags))

    def read(self, slices: Iterable[pa.RecordBatch]) -> tuple[Codes, Found]:
        return self._documents.read(slices)

    def values(self, found: Found) -> Mapping[tuple[str, str], Sequence[Value]]:
        return {name: key.values(found) for name, key in self.keys.items() if not isinstance(key, AskedKey)}

    def outcome(
        self,
        rows: pa.RecordBatch,
        codes: Codes,
        values: Mapping[tuple[str, str], Sequence[Value]],
        whole: Pick | None = None,
    ) -> Outcome:
        """The rows with their partitions. `values` has for each key those at the places that `codes` name. `whole`
        picks rows with their records, where the given ones lack them.
        """
        texts: dict[str, int] = {}
        flaws: dict[Flaw, int] = {}
        known: dict[tuple[Value, ...], int] = {}
        named = list(zip(*(values[name] for name in self.keys), strict=True))
        for one in named:
            if one not in known:
                known[one] = self._place(one, texts, flaws)
        places = np.fromiter((known[one] for one in named), np.int32, len(named))
        over = self._active.admit(self._stream, texts, self._limit) if texts else set()
        pick = whole or (lambda flags: rows.filter(pa.array(flags)))
        outcome = _ended(rows, pick, places[codes], list(texts), list(flaws), over, self._limit)
        if over:
            self._active.exceed(self._stream, outcome.refused.table.column("error_type").to_pylist().count(EXCEEDED))
        return outcome

    def _place(self, values: Sequence[Value], texts: dict[str, int], flaws: dict[Flaw, int]) -> int:
        """A place among the partitions; below zero, one among the flaws."""
        flaw = next((value for value in values if isinstance(value, Flaw)), None)
        if flaw is None:
            text = partitions.encode([*map(_triple, self.keys.items(), map(str, values))])
            reason = self._refuse(text)
            if reason is None:
                return texts.setdefault(text, len(texts))
            flaw = Flaw(reason)
        return -1 - flaws.setdefault(flaw, len(flaws))


def _picked(slices: Iterable[pa.RecordBatch], flags: Flags) -> pa.RecordBatch:
    """The flagged rows of all the slices."""
    ends = np.cumsum([rows.num_rows for rows in slices])[:-1]
    return together(rows.filter(pa.array(own)) for rows, own in zip(slices, np.split(flags, ends), strict=True))


def _triple(named: tuple[tuple[str, str], HandedKey | PathKey | AskedKey | Column], value: str) -> tuple[str, ...]:
    """As `partitions.encode` takes them."""
    name, key = named
    return (*name, value, *(key.made_of if isinstance(key, Column) else ()))


def _names(keys: Keys) -> Sequence[str] | None:
    """The records' own fields that all the keys together are made of; None for whole records."""
    found: set[str] = set()
    for key in keys.values():
        match key:
            case AskedKey(fields=None):
                return None
            case AskedKey(fields=fields) if fields is not None:
                found.update(fields)
            case PathKey() | Column():
                found.add(key.names[0])
    return tuple(sorted(found))


def _ended(
    rows: pa.RecordBatch, pick: Pick, places: Codes, texts: list[str], flaws: list[Flaw], over: set[str], limit: int
) -> Outcome:
    flawed, exceeded = places < 0, np.isin(places, [place for place, text in enumerate(texts) if text in over])
    good = ~(flawed | exceeded)
    refused = Rejections()
    if not good.all():
        reasons = [(EXTRACTION_CODE, flaws[-1 - place].message) for place in places[flawed]]
        message = f"the stream has {limit} active partitions, its limit; this record would open another one"
        past = Rejections.of(pick(exceeded), EXCEEDED, EXCEEDED_CODE, message)
        refused = refused_each(pick(flawed), EXTRACTION, reasons) + past
        refused = Rejections(refused.table.sort_by([("row", "ascending")]))
    column = pa.DictionaryArray.from_arrays(pa.array(places[good], pa.int32()), pa.array(texts, pa.string()))
    left = rows if good.all() else rows.filter(pa.array(good))
    return Outcome(left.append_column(partitions.COLUMN, column), refused)


class AskingPartition:
    """Keys some of which jq must be asked for: in a worker process, since a query may loop or eat memory."""

    at_once = 2
    payload_bytes = GATHERED_BYTES

    def __init__(self, plain: Partition, asked: Mapping[str, str], site: Site) -> None:
        self._plain = plain
        self._threads = site.threads
        self._workers = jq_workers.workers(queries.program(asked), site)
        self.name = self._workers.name

    async def check(self) -> None:
        await self._workers.check()

    async def close(self) -> None:
        await self._workers.close()

    async def outcome(self, rows: pa.RecordBatch) -> Outcome:
        questions, ended = await self._threads.run(partial(self._begun, rows))
        answers = await self._workers.outcome(questions)
        return await self._threads.run(partial(ended, answers))

    def _begun(self, rows: pa.RecordBatch) -> tuple[pa.RecordBatch, Callable[[Outcome], Outcome]]:
        """What is to be asked, and what then makes the outcome."""
        codes, found = self._plain.read([rows])
        values = self._plain.values(found)
        questions = _Questions()
        for name, key in self._plain.keys.items():
            if isinstance(key, AskedKey):
                questions.add(name, key, found)

        def ended(answers: Outcome) -> Outcome:
            return self._plain.outcome(rows, codes, {**values, **questions.answered(answers)})

        return questions.rows(), ended


class _Questions:
    """Documents to ask jq of, each but once, and who wants to know."""

    def __init__(self) -> None:
        self._asked: dict[bytes | None, int] = {}
        self._wanted: dict[tuple[str, str], list[str | int]] = {}  # the key itself, or its question's place

    def add(self, name: tuple[str, str], key: AskedKey, found: Found) -> None:
        known, document = key.known(found.names), key.document(found.names)
        self._wanted[name] = [known(seen) or self._place(key, document(seen)) for seen in found.seen]

    def _place(self, key: AskedKey, document: bytes | None) -> int:
        question = queries.asked(key.place, document) if document is not None else None
        return self._asked.setdefault(question, len(self._asked))

    def rows(self) -> pa.RecordBatch:
        return jq_workers.questions(self._asked)

    def answered(self, outcome: Outcome) -> dict[tuple[str, str], Sequence[Value]]:
        """A document that no worker got over tells why, too."""
        said: list[Value] = [Flaw(NOT_JSON)] * len(self._asked)
        refused = outcome.refused.table
        for row, message in zip(refused.column("row").to_pylist(), refused.column("message").to_pylist(), strict=True):
            said[row] = Flaw(message)
        made = outcome.rows
        for row, answer in zip(made.column("row").to_pylist(), made.column("record").to_pylist(), strict=True):
            said[row] = queries.told(answer)
        return {
            name: [one if isinstance(one, str) else said[one] for one in wanted]
            for name, wanted in self._wanted.items()
        }
