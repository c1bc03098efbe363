"""What shipped transforms cost: CPU seconds for a GB of records, in this process, beside a copy of the slice.

A slice is as the delivery half hands it over: a MiB of records of 512 bytes. Of `decompress` it is what comes out that
counts. Every record is checked before any time is taken.
"""

from __future__ import annotations

import gzip
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from batches import rows
from bench.work import Figures, Goal, Scale, Work
from put_to_work import working

from firehose.contracts import Transform
from firehose.formats import contents
from firehose.hooks.program import Run
from firehose.model import Outcome
from firehose.rows import replaced
from firehose.sample import access_lines
from transforms.append_delimiter import AppendDelimiter
from transforms.csv_to_json import CsvToJson
from transforms.deaggregate import Deaggregate
from transforms.decompress import Decompress
from transforms.jq import program as jq
from transforms.log_to_json import LogToJson
from transforms.redact import Redact
from transforms.sql import program as sql

SLICE_BYTES = 1 << 20
RECORD_BYTES = 512
GB = 1e9
COLUMNS = ("time", "method", "path", "status", "bytes", "agent", "note", "address")


@dataclass(frozen=True, slots=True)
class Case:
    """A transform at work on records that are alike. `counts` is how many bytes of the user's each of them holds."""

    figure: str
    bound: float
    make: Callable[[], Transform]
    record: bytes
    counts: int = RECORD_BYTES
    parts: int = 1


def padded(text: bytes, size: int = RECORD_BYTES) -> bytes:
    """The text with as many letters in place of its `%` as make the size."""
    return text.replace(b"%", b"z" * (size - len(text) + 1))


OBJECT = padded(b'{"level":"INFO","status":200,"ok":true,"tags":["a","b"],"from":{"ip":"10.0.0.1"},"message":"%"}\n')
LINE = padded(b'2026-03-01T12:00:00Z,GET,/index/path.html,200,12345,"Mozilla, 5.0",%,10.0.0.1\n')
EVENTS = [{"id": f"{n:056d}", "timestamp": 1510109208016 + n, "message": f"{n * 7919} " + "x" * 300} for n in range(40)]
SELECT = "SELECT level, status FROM records"
ACCESS = next(access_lines(Random(1))) + b"\n"
LOGS = json.dumps({"messageType": "DATA_MESSAGE", "logGroup": "g", "logStream": "s", "logEvents": EVENTS}).encode()
PACKED = gzip.compress(LOGS, 6)


def csv(**keys: object) -> Transform:
    return working(CsvToJson, columns=COLUMNS, **keys)


def objects() -> Transform:
    return working(Deaggregate, sub_record_type="json")


def delimited() -> Transform:
    return working(Deaggregate, sub_record_type="delimited", delimiter="####")


def query(program: Callable[[Mapping[str, Any]], Run], **options: object) -> Transform:
    """A program that workers run, in this process: what it costs beside being sent there and back."""
    run = program(options)

    class Here:
        repeatable = False

        def __call__(self, given: pa.RecordBatch, /) -> Outcome:
            return run(given, lambda index: None)

    return Here()


def logs() -> Transform:
    return working(LogToJson, format="apache_combined")


def mask() -> Transform:
    return working(Redact, fields={"from.ip": "mask"})


CASES = (
    Case("append_delimiter", 0.5, lambda: working(AppendDelimiter), OBJECT.rstrip(b"\n")),
    Case("deaggregate, one", 2, objects, OBJECT),
    Case("deaggregate, four", 8, objects, padded(b'{"m":"%"}', 128) * 4, parts=4),
    Case("deaggregate, delimited", 4, delimited, padded(b"%####", 128) * 4, parts=4),
    Case("csv_to_json", 8, csv, LINE),
    Case("csv_to_json, infer", 10, lambda: csv(types="infer", null_values=["-"]), LINE),
    Case("decompress", 2, lambda: working(Decompress), PACKED, counts=len(LOGS)),
    Case("decompress, messages", 3, lambda: working(Decompress, message_extraction=True), PACKED, counts=len(LOGS)),
    Case("log_to_json, apache_combined", 40, logs, ACCESS, counts=len(ACCESS)),
    Case("redact, one field", 15, mask, OBJECT),
    Case("jq", 100, lambda: query(jq, query="{level, status}", raw=False), OBJECT),
    Case("sql", 40, lambda: query(sql, query=SELECT, columns=None, memory_mib=512), OBJECT),
)  # fmt: skip


def measured(scale: Scale) -> Figures:
    passes = scale.of(50, 2)
    figures = {case.figure: seconds_per_gb(case, passes) for case in CASES}
    return {**figures, "floor": copying(passes)}


def seconds_per_gb(case: Case, passes: int) -> float:
    count = SLICE_BYTES // case.counts
    given, transform = rows([case.record] * count), case.make()
    made = transform(given)
    assert made.rows.num_rows == count * case.parts, f"{case.figure}: {made.rows.num_rows} rows of {count}"
    assert not made.refused, made.refused.table.slice(0, 1).to_pylist()
    return cpu_seconds(lambda: transform(given), passes) / (count * case.counts) * GB


def copying(passes: int) -> float:
    """Each record written to a new column, which is the least that changing one takes."""
    given = rows([OBJECT] * (SLICE_BYTES // RECORD_BYTES))
    nothing = pa.scalar(b"", pa.binary())

    def copy() -> pa.RecordBatch:
        return replaced(given, pc.binary_join_element_wise(given.column("record"), nothing, nothing))

    size_bytes: int = contents(given.column("record")).size
    return cpu_seconds(copy, passes) / size_bytes * GB


def cpu_seconds(call: Callable[[], object], passes: int) -> float:
    """Of one call."""
    began = time.process_time()
    for _ in range(passes):
        call()
    return (time.process_time() - began) / passes


GOALS: Sequence[Goal] = [Goal(case.figure, f"CPU s/GB {case.figure}", "<=", case.bound, "floor") for case in CASES]
WORKS = (Work("transforms", "shipped transforms, in this process, beside a copy of the slice", tuple(GOALS), measured),)
