"""Keys by jq query, and those that the user's code returned: AWS's namespaces, with jq's own idea of a value.

Strings are keys as they are, numbers and booleans as jq prints them. Whatever else a query yields is none, and neither
are several outputs: the record goes to the error output.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import Any

import jq
import msgspec
import pyarrow as pa

from firehose import jq_query
from firehose.arrow_alone import without_pandas
from firehose.hooks.program import Mark, Program, Run
from firehose.model import Outcome
from firehose.partitioning import narrowing
from firehose.partitioning.documents import Flaw, Found, Value, kind, text_of
from firehose.rows import replaced

ENDING = "tojson"  # what a query's outputs go through: numbers keep their digits there
EMPTY = "partitionKeys values must not be null or empty"  # AWS's own words
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
    if kind(value) in ("object", "array"):
        return Flaw(f"partitionKeys values must be text, numbers or booleans, not {kind(value)}s")
    return (text_of(value) if value != b"null" else "") or Flaw(EMPTY)


@dataclass(frozen=True, slots=True)
class AskedKey:
    """A query that jq runs on documents: of the fields it looks at, or on whole records where that is not known."""

    place: int  # among the queries of the worker's program
    fields: tuple[str, ...] | None

    def documents(self, found: Found) -> list[bytes | None]:
        """What jq is to be asked; None where there is no JSON to ask of."""
        if self.fields is None:
            return [text if isinstance(text, bytes) else None for text in found.texts]
        members = [(msgspec.json.encode(name), found.names.index(name)) for name in self.fields]
        return [
            b"{%b}" % b",".join([b"%b:%b" % (name, text[place]) for name, place in members])
            if isinstance(text, tuple)
            else text
            for text in found.texts
        ]


Key = HandedKey | PathKey | AskedKey


def keys(queries: Mapping[str, str]) -> dict[str, PathKey | AskedKey]:
    """The cheapest way to each query's values."""
    made: dict[str, PathKey | AskedKey] = {}
    for place, (name, query) in enumerate(queries.items()):
        path = narrowing.path(query)
        made[name] = PathKey(*path) if path else AskedKey(place, narrowing.fields(query))
    return made


def program(queries: Mapping[str, str]) -> Program:
    """What a worker runs: rows are asked documents, each with its query's place before it."""
    return Program("dynamic_partitioning", "firehose.partitioning.queries:run", {"queries": [*queries.values()]})


def asked(place: int, document: bytes) -> bytes:
    return b"%d %b" % (place, document)


def run(options: Mapping[str, Any]) -> Run:
    without_pandas()
    programs = [jq.compile(jq_query.wrapped(query, ENDING)) for query in options["queries"]]

    def answer(rows: pa.RecordBatch, mark: Mark) -> Outcome:
        """Goes through the documents. Key values alone go back."""
        answers: list[bytes] = []
        for index, record in enumerate(rows.column("record").to_pylist()):
            mark(index)
            place, _, document = record.partition(b" ")
            value = _answer(programs[int(place)], document.decode())
            answers.append(_BAD + value.message.encode() if isinstance(value, Flaw) else _GOOD + value.encode())
        return Outcome(replaced(rows, pa.array(answers, pa.binary())))

    return answer


def _answer(compiled: Any, document: str) -> Value:
    try:
        outputs = list(islice(iter(compiled.input_text(document)), 2))
    except ValueError as error:
        return Flaw(jq_query.failure(error))
    if len(outputs) > 1:
        return Flaw("the query yields more than one value")
    return key_of(outputs[0].encode()) if outputs else Flaw(EMPTY)


def told(answer: bytes) -> Value:
    """What a worker's answer says."""
    text = answer[1:].decode()
    return text if answer.startswith(_GOOD) else Flaw(text)
