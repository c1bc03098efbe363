"""Keys by jq query, and those that the user's code returned: AWS's namespaces, with jq's own idea of a value.

Strings are keys as they are, numbers and booleans as jq prints them. Whatever else a query yields is none, and neither
are several outputs: the record goes to the error output.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from operator import itemgetter
from typing import Any

import jq
import msgspec
import pyarrow as pa

from firehose import jq_query
from firehose.arrow_alone import without_pandas
from firehose.hooks.program import Mark, Program, Run
from firehose.model import Outcome
from firehose.partitioning import narrowing, texts
from firehose.partitioning.documents import Flaw, Found, Seen, Value, kind, text_of
from firehose.rows import replaced

ENDING = "tojson"  # what a query's outputs go through: numbers keep their digits there
EMPTY = "partitionKeys values must not be null or empty"  # AWS's own words
SEVERAL = "the query yields more than one value"
AT_ONCE = 64  # documents handed to libjq together
_ENCODER = msgspec.json.Encoder()
_GOOD, _BAD = b"=", b"!"  # how an answer of the worker begins


@dataclass(frozen=True, slots=True)
class HandedKey:
    """A key of `metadata.partitionKeys`."""

    name: str

    def values(self, found: Found) -> list[Value]:
        return [keys.get(self.name) or Flaw(EMPTY) for keys in found.handed]


@dataclass(frozen=True, slots=True)
class PathKey:
    """A query that is a way to one value, perhaps to a part of a text: jq is needed for odd numbers alone."""

    names: tuple[str, ...]
    part: slice | None = None

    def values(self, found: Found) -> list[Value]:
        return found.values(self.names, partial(self._value, jq.compile("tojson")))

    def _value(self, printed: Any, value: bytes) -> Value:
        if self.part is not None and value != b"null":
            if kind(value) not in ("string", "array"):
                return Flaw(f"Cannot index {kind(value)} with object")
            return key_of(value) if kind(value) == "array" else text_of(value)[self.part] or Flaw(EMPTY)
        if kind(value) == "number" and not value.isdigit():
            value = printed.input_text(value.decode()).first().encode()
        return key_of(value)


def key_of(value: bytes) -> Value:
    """The key that a JSON value is."""
    if value.startswith(b'"'):
        return text_of(value) or Flaw(EMPTY)
    if kind(value) in ("object", "array"):
        return Flaw(f"partitionKeys values must be text, numbers or booleans, not {kind(value)}s")
    return value.decode() if value != b"null" else Flaw(EMPTY)


@dataclass(frozen=True, slots=True)
class AskedKey:
    """A query that jq runs on documents: of the fields it looks at, or on whole records where that is not known."""

    query: str
    place: int  # among the queries of the worker's program
    fields: tuple[str, ...] | None

    def known(self, names: Sequence[str]) -> Callable[[Seen], str]:
        """Makes of the named fields the key where that needs no jq, else an empty text."""
        return texts.answering(self.query, names)

    def document(self, names: Sequence[str]) -> Callable[[Seen], bytes | None]:
        """Makes of the named fields what jq is to be asked; None where there is no JSON to ask of."""
        if self.fields is None or not names:  # another key is of whole records
            return lambda seen: seen if isinstance(seen, bytes) else None
        members = [(name, names.index(name)) for name in self.fields]

        def made(seen: Seen) -> bytes | None:
            row = (seen,) if isinstance(seen, str) else seen
            if not isinstance(row, tuple):
                return row
            return _ENCODER.encode(
                {name: one if isinstance(one := row[place], str) else msgspec.Raw(one) for name, place in members}
            )

        return made


Key = HandedKey | PathKey | AskedKey


def keys(queries: Mapping[str, str]) -> dict[str, PathKey | AskedKey]:
    """The cheapest way to each query's values."""
    made: dict[str, PathKey | AskedKey] = {}
    for place, (name, query) in enumerate(queries.items()):
        path = narrowing.path(query)
        made[name] = PathKey(*path) if path else AskedKey(query, place, narrowing.fields(query))
    return made


def program(queries: Mapping[str, str]) -> Program:
    """What a worker runs: rows are asked documents, each with its query's place before it."""
    return Program("dynamic_partitioning", "firehose.partitioning.queries:run", {"queries": [*queries.values()]})


def asked(place: int, document: bytes) -> bytes:
    return b"%d %b" % (place, document)


def run(options: Mapping[str, Any]) -> Run:
    without_pandas()
    asks = [Asking(query) for query in options["queries"]]

    def answer(rows: pa.RecordBatch, mark: Mark) -> Outcome:
        """Goes through the documents. Key values alone go back."""
        answers: list[bytes] = []
        pairs = [record.split(b" ", 1) for record in rows.column("record").to_pylist()]
        for place, run_of_one in groupby(pairs, itemgetter(0)):
            values = asks[int(place)].values([document for _, document in run_of_one], mark, len(answers))
            answers += [
                _BAD + one.message.encode() if isinstance(one, Flaw) else _GOOD + one.encode() for one in values
            ]
        return Outcome(replaced(rows, pa.array(answers, pa.binary())))

    return answer


class Asking:
    """A query run on documents, each of them one JSON value.

    libjq takes a parser and a run of its own several times as long to set up as to use, so it is handed many documents
    at once. Where one of them fails, or yields too much, the next ones go by themselves until all is well again: what
    is said of a document is what jq says of it alone.
    """

    def __init__(self, query: str) -> None:
        # Behind its outputs each document has a null, which the ending makes of nothing. Only `halt` keeps it back.
        self._compiled = jq.compile(f"({jq_query.wrapped(query, ENDING)}), null")
        self._most = 1 if "halt" in query else AT_ONCE

    def values(self, documents: Sequence[bytes], mark: Mark, first: int) -> list[Value]:
        """`first` is the index of the first document's row."""
        values: list[Value] = []
        size = 1
        while len(values) < len(documents):
            start = len(values)
            values += self._together(documents[start : start + size], mark, first + start)
            size = min(2 * size, self._most) if len(values) == start + size else 1
        return values

    def _together(self, documents: Sequence[bytes], mark: Mark, first: int) -> list[Value]:
        """The values of the leading documents: of all, or of those before one that fails, which must be asked alone, or
        up to one that yields several. At least one of a document alone.
        """
        mark(first)
        values: list[Value] = []
        found: list[str] = []
        try:
            for output in self._compiled.input_text(b"\n".join(documents).decode()):
                if output is not None:
                    found.append(output)
                    if len(found) == 1:
                        continue
                values.append(_value(found))
                if found[1:] or len(values) == len(documents):
                    return values
                found.clear()
                mark(first + len(values))
        except ValueError as error:
            return [Flaw(jq_query.failure(error))] if len(documents) == 1 else values
        return [_value(found)] if len(documents) == 1 else values


def _value(outputs: Sequence[str]) -> Value:
    if len(outputs) > 1:
        return Flaw(SEVERAL)
    return key_of(outputs[0].encode()) if outputs else Flaw(EMPTY)


def told(answer: bytes) -> Value:
    """What a worker's answer says."""
    text = answer[1:].decode()
    return text if answer.startswith(_GOOD) else Flaw(text)
