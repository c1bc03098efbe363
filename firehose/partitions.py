"""Dynamic partitions: what one is called, and which of them are active.

A partition is the values of its keys. It travels as text, in the column `partition` of outcomes and in
`Batch.partition`, so that a name can be made of it after any restart: JSON of [namespace, key, value] triples, by
namespace, then in the order of the configuration's keys; a column that is not a field of its own name, but made of one,
has that as a fourth, such as `day(ts)`. Source: firehose.md sections 5.1 and 9.
"""

from __future__ import annotations

import json
import threading
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping

import pyarrow as pa

from firehose.model import INTAKE_SCHEMA, PLACE, ROW_SCHEMA, SIZE

COLUMN = "partition"  # of an outcome's rows: rows that share a partition lie side by side
COLUMNS = {field.name: field.type for field in (*INTAKE_SCHEMA, *ROW_SCHEMA)} | {  # all that these rows may have
    PLACE: pa.int64(),
    SIZE: pa.int32(),
    COLUMN: pa.dictionary(pa.int32(), pa.string()),
}
FROM_QUERY, FROM_LAMBDA, FROM_COLUMN = "partitionKeyFromQuery", "partitionKeyFromLambda", "column"


def encode(keys: Iterable[tuple[str, ...]]) -> str:
    """Namespace, key, value, and what it was made of, of each key of a partition."""
    return json.dumps(list(keys), ensure_ascii=False, separators=(",", ":"))


def decode(partition: str) -> dict[str, dict[str, str]]:
    """Namespace to key to value, in order."""
    keys: dict[str, dict[str, str]] = {}
    for namespace, key, value, *_ in json.loads(partition):
        keys.setdefault(namespace, {})[key] = value
    return keys


def columns_in_path(partition: str) -> tuple[str, ...]:
    """The columns that folders tell as they are, as in `country=DE/`. Readers put them back from the path, and many of
    them fail over a file that has a column of the same name: files of columns (Parquet, ORC) leave these out. What is
    made of another field, as in `ts_day=2026-11-22/`, says nothing of a field that happens to be called so.
    """
    keys = json.loads(partition) if partition else ()
    return tuple(key for namespace, key, _, *made_of in keys if namespace == FROM_COLUMN and not made_of)


class ActivePartitions:
    """Which partitions of each stream have rows that are not delivered yet. Thread-safe; one for a delivery half."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._tables: dict[tuple[str, str], Callable[[], Collection[str]]] = {}
        self._admitted: defaultdict[str, dict[str, int]] = defaultdict(dict)  # and when, by a count of outcomes begun
        self._making: defaultdict[str, dict[object, int]] = defaultdict(dict)
        self._begun = 0
        self._exceeding = Counter[str]()

    def follow(self, stream: str, destination: str, active: Callable[[], Collection[str]]) -> None:
        """From now on `active` is asked which partitions are active at this destination."""
        with self._lock:
            self._tables[stream, destination] = active

    def admit(self, stream: str, partitions: Iterable[str], limit: int) -> set[str]:
        """Opens partitions, as many as `limit` allows beside those that are active; those that it does not allow."""
        with self._lock:
            admitted = self._admitted[stream]
            taken = {
                *admitted,
                *(name for place, active in self._tables.items() if place[0] == stream for name in active()),
            }
            refused = set()
            for partition in partitions:
                if partition in taken or len(taken) < limit:
                    taken.add(partition)
                    admitted[partition] = self._begun
                else:
                    refused.add(partition)
            return refused

    def counted(self) -> Mapping[str, int]:
        """How many partitions of each stream are active."""
        with self._lock:
            counts: defaultdict[str, set[str]] = defaultdict(set)
            for (stream, _), active in self._tables.items():
                counts[stream].update(active())
            return {stream: len(names) for stream, names in counts.items()}

    def exceed(self, stream: str, records: int) -> None:
        """So many records of the stream would have opened partitions that were not admitted."""
        with self._lock:
            self._exceeding[stream] += records

    def exceeding(self) -> Mapping[str, int]:
        """How many records of each stream did, so far."""
        with self._lock:
            return dict(self._exceeding)

    def making(self, stream: str, outcome: object) -> None:
        """An outcome of the stream is being made, and will open partitions that no table knows yet."""
        with self._lock:
            self._begun += 1
            self._making[stream].setdefault(outcome, self._begun)

    def made(self, stream: str, outcome: object) -> None:
        """The tables know what that outcome has opened. What it and others before it opened is active while they say
        so; what was opened since an outcome began that is still being made may be its.
        """
        with self._lock:
            if self._making[stream].pop(outcome, None) is not None:
                since = min(self._making[stream].values(), default=self._begun + 1)
                kept = {name: when for name, when in self._admitted[stream].items() if when >= since}
                self._admitted[stream] = kept
