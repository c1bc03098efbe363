"""Runs a jq query over each record: what it yields is delivered, nothing is dropped, several become rows of their own.

A query may loop or eat memory, so it runs in a worker process, record by record: whose fault that was is known
exactly. Output is jq's own text, since its numbers keep their digits only there.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Annotated, Any, ClassVar, Literal

import jq
import pyarrow as pa
from pydantic import Field, field_validator

from firehose import jq_query
from firehose.hooks import wire
from firehose.hooks.options import WorkerOptions
from firehose.hooks.program import PROCESSING_FAILED, Mark, Program, Run
from firehose.hooks.workers import Workers
from firehose.json_text import record as json_record
from firehose.json_text.record import NotJson
from firehose.model import Outcome
from firehose.registry import Site
from firehose.rows import refused_each, spread

MADE_BYTES = 16 * 1024 * 1024  # of one record
TOO_DEEP = b"<skipped: too deep>"  # what jq prints, which is no JSON, in place of what is nested 10,000 deep
JSON = "tojson"
RAW = 'if type == "string" then . else tojson end'


class JqOptions(WorkerOptions):
    """The query, and whether strings are delivered as they are (`raw`) or as JSON."""

    type: Literal["jq"] = "jq"
    query: Annotated[str, Field(min_length=1, max_length=65536)]
    raw: bool = False

    @field_validator("query")
    @classmethod
    def _compiles(cls, query: str) -> str:
        return jq_query.checked(query, JSON)


class Jq(Workers):
    """Each record's JSON value goes through the query."""

    Options: ClassVar[type[WorkerOptions]] = JqOptions

    def __init__(self, options: JqOptions, site: Site) -> None:
        super().__init__(
            Program("jq", "transforms.jq:program", options.model_dump(include={"query", "raw"})), options, site
        )


def program(options: Mapping[str, Any]) -> Run:
    """What a worker runs."""
    compiled = jq.compile(jq_query.wrapped(options["query"], RAW if options["raw"] else JSON))

    def run(rows: pa.RecordBatch, mark: Mark) -> Outcome:
        """Loops over the records."""
        ends: list[list[bytes]] = []
        refused: dict[int, tuple[str, str]] = {}
        for index, record in enumerate(rows.column("record").to_pylist()):
            mark(index)
            try:
                ends.append(_outputs(compiled, record))
            except RefusedRecord as refusal:
                ends.append([])
                refused[index] = refusal.why
        mark(wire.NOWHERE)
        came = [index for index, outputs in enumerate(ends) for _ in outputs]
        made = pa.array([output for outputs in ends for output in outputs], pa.binary())
        silent = [index for index, outputs in enumerate(ends) if not outputs and index not in refused]
        dropped = rows.column("row").take(pa.array(silent, pa.int32()))
        bad = rows.take(pa.array([*refused], pa.int32()))
        return Outcome(spread(rows, came, made), refused_each(bad, PROCESSING_FAILED, [*refused.values()]), dropped)

    return run


class RefusedRecord(Exception):
    """One record, and why it has no outcome."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.why = (code, message)


def _outputs(compiled: Any, record: bytes) -> list[bytes]:
    """All that the query yields for a record, or the refusal: never the half of it that came before an error."""
    body, newline = json_record.parted(record)
    try:
        value = json_record.text(body)
    except NotJson as error:
        raise RefusedRecord("Jq.NotJson", f"the record is not one JSON value: {error}; mend its sender") from None
    try:
        return [output + newline for output in _bounded(compiled.input_text(value))]
    except ValueError as error:
        said = jq_query.failure(error)
        # jq's own reader is the stricter one in a few cases, such as half a surrogate pair.
        code = "Jq.NotJson" if said.startswith("parse error: ") else "Jq.Error"
        raise RefusedRecord(code, f"{said}; mend the query, or catch it with try") from None


def _bounded(outputs: Iterable[str]) -> Iterator[bytes]:
    """The outputs as bytes, as long as they are a record's and no flood."""
    size = 0
    for output in outputs:
        made = output.encode()
        size += len(made) + 1
        if size > MADE_BYTES:
            raise ValueError(f"the query makes more than {MADE_BYTES} bytes of this record")
        if TOO_DEEP in made and not _is_json(made):
            raise ValueError("the query nests a value deeper than jq prints")
        yield made


def _is_json(made: bytes) -> bool:
    try:
        json_record.text(made)
    except NotJson:
        return False
    return True
