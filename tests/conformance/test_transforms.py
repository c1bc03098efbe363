"""Every shipped transform keeps the laws of its door, and no law is so weak that a wrong one keeps it.

The same wrong ones show that the pipeline's own check, which runs in production, finds what it must.
"""

from __future__ import annotations

import gzip
import json
from base64 import b64decode, b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from io import BytesIO
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pytest
import virtual_time
from batches import rows
from conformance import transform as suite
from conformance.transform import LAWS, Harness, Law
from put_to_work import working
from sites import site
from virtual_time import Inline, VirtualRuntime

import transforms
from firehose import aws
from firehose.contracts import Hook, Transform
from firehose.delivery.outcomes import BrokenLaw, verify
from firehose.hooks.calls import Call, as_record
from firehose.hooks.program import Run
from firehose.model import Outcome, Rejections
from firehose.registry import Shared
from transforms import jq, sql
from transforms.append_delimiter import AppendDelimiter
from transforms.csv_to_json import CsvToJson
from transforms.deaggregate import Deaggregate
from transforms.decompress import Decompress
from transforms.jq import Jq
from transforms.lambda_ import Lambda, LambdaOptions
from transforms.log_to_json import LogToJson, LogToJsonOptions
from transforms.python import Python
from transforms.redact import Redact, RedactOptions
from transforms.sql import Sql

RECORDS = [b"keep 1", b"drop 2", b"bad 3", b"two 4", b"", b"bad 5", b"keep 6", b"drop 7", b"two 8"]


class Here:
    """A program that workers run, run in this process instead: what it makes of rows is the same."""

    repeatable = False

    def __init__(self, run: Run) -> None:
        self._run = run

    def __call__(self, given: pa.RecordBatch) -> Outcome:
        return self._run(given, lambda index: None)


@dataclass(frozen=True)
class PythonHook:
    """A function of a record."""

    hook: type[Python]

    def make(self) -> Transform:
        return Here(as_record(by_first_word, Call("tests:by_first_word", "arn:aws:firehose:x:0:s/n", "x", 1, 1.0, 1)))

    def records(self) -> Sequence[bytes]:
        return RECORDS


@dataclass(frozen=True)
class JqHook:
    """A query that drops, refuses, splits and replaces."""

    hook: type[Jq]

    def make(self) -> Transform:
        query = 'if .do == "fail" then error("it fails") else .out[] end'
        return Here(jq.program({"query": query, "raw": False}))

    def records(self) -> Sequence[bytes]:
        return JSON_RECORDS


@dataclass(frozen=True)
class SqlHook:
    """Likewise. The columns are declared: what they are otherwise, all of a slice's records decide."""

    hook: type[Sql]

    def make(self) -> Transform:
        query = 'SELECT if("do" = \'fail\', error(\'it fails\'), "do") AS "do", unnest(out) AS out FROM records'
        columns = {"do": "VARCHAR", "out": "INTEGER[]"}
        return Here(sql.program({"query": query, "columns": columns, "memory_mib": 64}))

    def records(self) -> Sequence[bytes]:
        return JSON_RECORDS


JSON_RECORDS = [
    b'{"do":"keep","out":[1]}\n',
    b'{"do":"drop","out":[]}',
    b'{"do":"fail","out":[]}',
    b'{"do":"split","out":[1,2,3]}\r\n',
    b"",
    b"no JSON",
    b"[]",
    b'{"do":"\xff"}',
    b'{"do":"keep","out":[7]}',
]


@dataclass(frozen=True)
class LambdaHook:
    """The hook whole, save that boto3's client is one of a Lambda that runs here."""

    hook: type[Lambda]

    def make(self) -> Transform:
        at = replace(site(Inline(), runtime=VirtualRuntime()), shared=LambdaHere())
        return Awaited(self.hook(LambdaOptions(function="judged"), at))

    def records(self) -> Sequence[bytes]:
        return [*RECORDS, b"lost 10", b"keep 11"]


class Awaited:
    """What a hook makes of rows."""

    repeatable = False

    def __init__(self, hook: Hook) -> None:
        self._hook = hook

    def __call__(self, given: pa.RecordBatch) -> Outcome:
        return virtual_time.run(self._hook.outcome(given))


class LambdaHere(Shared):
    """In the place of all that a process shares, and of boto3's client."""

    def of(self, kind: type[Any]) -> Any:
        return self if kind is aws.Clients else super().of(kind)

    def take(self, *which: Any) -> tuple[str, LambdaHere]:
        return "here", self

    def invoke(self, *, Payload: bytes, **_: Any) -> dict[str, Any]:
        answers = [judged(record) for record in json.loads(Payload)["records"]]
        records = [answer for answer in reversed(answers) if answer["result"] != "Lost"]
        return {"Payload": BytesIO(json.dumps({"records": records}).encode())}


def judged(record: dict[str, Any]) -> dict[str, Any]:
    data = b64decode(record["data"])
    words = {b"bad": "ProcessingFailed", b"dro": "Dropped", b"los": "Lost"}
    made = b64encode(data.upper()).decode()
    return {"recordId": record["recordId"], "result": words.get(data[:3], "Ok"), "data": made}


def by_first_word(record: bytes) -> bytes | None:
    if record.startswith(b"bad"):
        raise ValueError("bad row")
    return None if record.startswith(b"drop") else record.upper()


@dataclass(frozen=True)
class Lines:
    """Web servers' lines: whole, with escapes, of times that are none, and no lines at all."""

    transform: type[LogToJson]

    def make(self) -> Transform:
        return self.transform(LogToJsonOptions(format="apache", keep_line=True))

    def records(self) -> Sequence[bytes]:
        common = b'::1 - joe [17/May/2015:10:05:03 +0000] "GET /%s HTTP/1.1" 200 5'
        combined = common + b' "-" "curl \\"8\\" \xc3\xa4"\n'
        no_day = combined.replace(b"17/May", b"31/Feb")
        return [common % b"a", combined % b"b", no_day % b"c", b"", b"\xff\n", combined % b"d\\xff", b"no line"]


@dataclass(frozen=True)
class Secrets:
    """Objects with something to redact, at several depths, without, and what cannot be read."""

    transform: type[Redact]

    def make(self) -> Transform:
        fields = {"a": "drop", "b.c": "hash", "d[].e": "mask"}
        options = {"fields": fields, "salt": "s", "patterns": ["secret [0-9]+"]}
        return self.transform(RedactOptions.model_validate(options))

    def records(self) -> Sequence[bytes]:
        return [
            b'{"a": 1, "z": 1e400}\n',
            b'{ "z" : 1 }',
            b'{"b": {"c": "x"}, "d": [{"e": "12345678901"}, {"f": 1}]}',
            b"no JSON",
            b"",
            b'["secret 7"]',
            b'{"z": "secret 7 \xff"}',
            b'{"z": "secret \\u0037"}',
        ]


@dataclass(frozen=True)
class Step:
    """A transform that needs nothing but its options and records."""

    kind: type[AppendDelimiter | CsvToJson | Deaggregate | Decompress]
    keys: Mapping[str, object]
    given: Sequence[bytes]

    def make(self) -> Transform:
        return working(self.kind, **self.keys)

    def records(self) -> Sequence[bytes]:
        return self.given


CSV = [b"1,a", b'2,"b,\n"\n', b"3", b'4,"', b"", b"5,\xff", b"6,f\r\n", b"\xef\xbb\xbf7,g", b'8,"h"h"', b"9,\n,"]
OBJECTS = [b'{"a": 1}\n', b'{}{"b":\n2}\n{}', b"[{}]", b"", b"{} 1", b"{" * 2000, b"{}" * 501, b"{}\n{}"]
PIECES = [b"a##b", b"##", b"", b"c##", b"##" * 501, b"d"]
DATA = b'{"messageType": "DATA_MESSAGE", "logEvents": [{"message": "a"}, {"message": "b"}]}'
PACKED = [
    gzip.compress(DATA),
    b"",
    gzip.compress(b'{"messageType": "CONTROL_MESSAGE"}') * 2,
    gzip.compress(DATA)[:-1],
    b"no gzip",
    gzip.compress(b'{"messageType": "CONTROL_MESSAGE"}'),
    gzip.compress(gzip.compress(DATA)),
    gzip.compress(bytes(2 << 20)),
]
# A harness for each line of `transforms.TABLE`.
SHIPPED: Mapping[str, Harness] = {
    "append_delimiter": Step(AppendDelimiter, {}, [b"a", b"b\n", b"", b"\n"]),
    "csv_to_json": Step(CsvToJson, {"columns": ["x", "y"]}, CSV),
    "deaggregate": Step(Deaggregate, {"sub_record_type": "json"}, OBJECTS),
    "decompress": Step(Decompress, {"limit_mib": 1}, PACKED),
    "jq": JqHook(Jq),
    "lambda": LambdaHook(Lambda),
    "log_to_json": Lines(LogToJson),
    "python": PythonHook(Python),
    "redact": Secrets(Redact),
    "sql": SqlHook(Sql),
}
# The same with options that lead another way.
OTHERWISE: Sequence[Harness] = [
    Step(CsvToJson, {"columns": ["x", "y"], "types": "infer", "null_values": ["a"]}, [CSV[0], *CSV[6:]]),
    Step(Deaggregate, {"sub_record_type": "delimited", "delimiter": "##"}, PIECES),
    Step(Decompress, {"limit_mib": 1, "message_extraction": True}, PACKED),
]


def test_every_shipped_transform_has_a_harness() -> None:
    """No transform is shipped that does not run the suite."""
    assert set(SHIPPED) == set(transforms.TABLE)


@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.__name__)
def test_shipped_transforms_keep(law: Law) -> None:
    """Each shipped transform keeps every law."""
    for harness in (*SHIPPED.values(), *OTHERWISE):
        law(harness)


# Canaries: a transform that is right, and wrong ones that differ from it in one thing.


class Right:
    """Drops, refuses or doubles a record as its first word says; keeps every law."""

    repeatable = True

    def __call__(self, given: pa.RecordBatch) -> Outcome:
        words = pc.utf8_slice_codeunits(given.column("record").cast(pa.string()), 0, 3)
        dropped, refused = pc.equal(words, "dro"), pc.equal(words, "bad")
        kept = given.filter(pc.invert(pc.or_(dropped, refused)))
        why = Rejections.of(given.filter(refused), "processing-failed", "Test.Bad", "it says so")
        return Outcome(self.doubled(kept), why, given.filter(dropped).column("row"))

    def doubled(self, kept: pa.RecordBatch) -> pa.RecordBatch:
        words = kept.column("record").to_pylist()
        index = [n for n, word in enumerate(words) for _ in range(1 + word.startswith(b"two"))]
        parts = [int(at > 0 and index[at - 1] == n) for at, n in enumerate(index)]
        made = kept.take(pa.array(index, pa.int32()))
        return made.set_column(2, made.schema.field("part"), pa.array(parts, pa.int32()))


def outcome(rows: pa.RecordBatch, of: Outcome) -> Outcome:
    return Outcome(rows, of.refused, of.dropped)


class LosesARow(Right):
    def __call__(self, given: pa.RecordBatch) -> Outcome:
        made = super().__call__(given)
        return outcome(made.rows.slice(1), made)


class DoublesARow(Right):
    def __call__(self, given: pa.RecordBatch) -> Outcome:
        made = super().__call__(given)
        return outcome(pa.concat_batches([made.rows.slice(0, 1), made.rows]), made)


class InventsARow(Right):
    def __call__(self, given: pa.RecordBatch) -> Outcome:
        made = super().__call__(given)
        last = made.rows.slice(max(0, made.rows.num_rows - 1))
        new = last.set_column(1, last.schema.field("row"), pc.add(last.column("row"), 1000).cast(pa.int32()))
        return outcome(pa.concat_batches([made.rows, new]), made)


class SwapsOneForAnother(Right):
    """Loses one row and invents another: the number of rows is right."""

    def __call__(self, given: pa.RecordBatch) -> Outcome:
        made = super().__call__(given)
        ordinals = [n + 1000 if at == made.rows.num_rows - 1 else n for at, n in enumerate(suite.ends(made)[0])]
        column = pa.array(ordinals, pa.int32())
        return outcome(made.rows.set_column(1, made.rows.schema.field("row"), column), made)


class RefusesAndDelivers(Right):
    def __call__(self, given: pa.RecordBatch) -> Outcome:
        made = super().__call__(given)
        more = Rejections.of(made.rows.slice(0, 1), "processing-failed", "Test.Bad", "and delivered")
        refused = Rejections((made.refused + more).table.sort_by("row"))
        return Outcome(made.rows, refused, made.dropped)


class DropsAndDelivers(Right):
    def __call__(self, given: pa.RecordBatch) -> Outcome:
        made = super().__call__(given)
        both = {*made.dropped.to_pylist(), *suite.ends(made)[0][:1]}
        return Outcome(made.rows, made.refused, pa.array(sorted(both), pa.int32()))


class RefusesTwice(Right):
    def __call__(self, given: pa.RecordBatch) -> Outcome:
        made = super().__call__(given)
        return Outcome(made.rows, Rejections((made.refused + made.refused).table.sort_by("row")), made.dropped)


class RefusesAndDrops(Right):
    def __call__(self, given: pa.RecordBatch) -> Outcome:
        made = super().__call__(given)
        both = sorted([*made.dropped.to_pylist(), *suite.ends(made)[1]])
        return Outcome(made.rows, made.refused, pa.array(both, pa.int32()))


class Reorders(Right):
    def __call__(self, given: pa.RecordBatch) -> Outcome:
        made = super().__call__(given)
        return outcome(made.rows.take(pa.array(range(made.rows.num_rows)[::-1], pa.int32())), made)


class ForgetsParts(Right):
    def doubled(self, kept: pa.RecordBatch) -> pa.RecordBatch:
        made = super().doubled(kept)
        return made.set_column(2, made.schema.field("part"), pa.array([0] * made.num_rows, pa.int32()))


class RefusesTheBatch(Right):
    def __call__(self, given: pa.RecordBatch) -> Outcome:
        made = super().__call__(given)
        if not len(made.refused):
            return made
        return Outcome(given.slice(0, 0), Rejections.of(given, "processing-failed", "Test.Bad", "one of them"))


class RaisesAtABadRow(Right):
    def __call__(self, given: pa.RecordBatch) -> Outcome:
        made = super().__call__(given)
        if len(made.refused):
            raise ValueError("bad row")
        return made


class RaisesWhenEmpty(Right):
    def __call__(self, given: pa.RecordBatch) -> Outcome:
        given.column("record")[0]
        return super().__call__(given)


class TellsBackwards(Right):
    def __call__(self, given: pa.RecordBatch) -> Outcome:
        made = super().__call__(given)
        refused = Rejections(made.refused.table.sort_by([("row", "descending")]))
        return Outcome(made.rows, refused, made.dropped)


class KeepsNoRecord(Right):
    def __call__(self, given: pa.RecordBatch) -> Outcome:
        made = super().__call__(given)
        table = made.refused.table
        blank = pa.repeat(pa.scalar(b"", pa.binary()), len(table))
        return Outcome(made.rows, Rejections(table.set_column(1, table.schema.field("record"), blank)), made.dropped)


class MakesText(Right):
    def __call__(self, given: pa.RecordBatch) -> Outcome:
        made = super().__call__(given)
        text = made.rows.column("record").cast(pa.string())
        return outcome(made.rows.set_column(0, pa.field("record", pa.string()), text), made)


class ArrivesNow(Right):
    def __call__(self, given: pa.RecordBatch) -> Outcome:
        made = super().__call__(given)
        now = pc.add(made.rows.column("arrival_ms"), 1)
        return outcome(made.rows.set_column(3, made.rows.schema.field("arrival_ms"), now), made)


class CountsItsCalls(Right):
    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, given: pa.RecordBatch) -> Outcome:
        self.calls += 1
        made = super().__call__(given)
        said = [record + b" %d" % (self.calls // 2) for record in made.rows.column("record").to_pylist()]
        return outcome(made.rows.set_column(0, made.rows.schema.field("record"), pa.array(said, pa.binary())), made)


@dataclass(frozen=True)
class Canary:
    """What the suite handles for one of them."""

    kind: type[Right]

    def make(self) -> Transform:
        return self.kind()

    def records(self) -> Sequence[bytes]:
        return RECORDS


ONCE, ALONE = suite.every_row_ends_once, suite.a_bad_row_spoils_no_other
CANARIES: Mapping[type[Right], set[Law]] = {
    LosesARow: {ONCE, ALONE},
    DoublesARow: {suite.parts_are_told_apart, ALONE},
    InventsARow: {ONCE, suite.arrival_is_kept},
    SwapsOneForAnother: {ONCE, suite.arrival_is_kept, ALONE},
    RefusesAndDelivers: {ONCE, ALONE},
    DropsAndDelivers: {ONCE, ALONE},
    RefusesTwice: {ONCE},
    RefusesAndDrops: {ONCE},
    Reorders: {suite.parts_are_told_apart},
    ForgetsParts: {suite.parts_are_told_apart},
    RefusesTheBatch: {ALONE},
    RaisesAtABadRow: set(LAWS) - {suite.an_empty_slice_is_fine},
    RaisesWhenEmpty: {suite.an_empty_slice_is_fine},
    TellsBackwards: {suite.rejections_keep_the_order},
    KeepsNoRecord: {suite.rejections_hold_the_record},
    MakesText: {suite.columns_are_as_agreed},
    ArrivesNow: {suite.arrival_is_kept},
    CountsItsCalls: {suite.repeatable_means_equal},
}
FOUND_IN_PRODUCTION = {
    LosesARow: "loses",
    DoublesARow: "reorders or repeats",
    InventsARow: "invents",
    SwapsOneForAnother: "invents",
    RefusesAndDelivers: "both delivers and ends",
    DropsAndDelivers: "both delivers and ends",
    RefusesTwice: "ends more than once",
    RefusesAndDrops: "ends more than once",
    Reorders: "reorders or repeats",
    ForgetsParts: "reorders or repeats",
}


def broken_by(harness: Harness) -> set[str]:
    broken = set()
    for law in LAWS:
        try:
            law(harness)
        except Exception:  # how a law complains, or the wrong thing itself
            broken.add(law.__name__)
    return broken


def test_the_right_one_passes() -> None:
    """The transform that the canaries are made from keeps every law, so each fails by its own fault."""
    assert broken_by(Canary(Right)) == set()


@pytest.mark.parametrize("canary", CANARIES, ids=lambda canary: canary.__name__)
def test_canary_fails(canary: type[Right]) -> None:
    """A wrong transform breaks just the laws that forbid what it does."""
    assert broken_by(Canary(canary)) == {law.__name__ for law in CANARIES[canary]}


def test_every_law_can_fail() -> None:
    """Each law has a canary that breaks it."""
    assert set().union(*CANARIES.values()) == set(LAWS)


@pytest.mark.parametrize("canary", FOUND_IN_PRODUCTION, ids=lambda canary: canary.__name__)
def test_pipeline_finds(canary: type[Right]) -> None:
    """What would lose, double or invent a record is found before it is sent, and said in words."""
    given = rows(RECORDS)
    with pytest.raises(BrokenLaw, match=f"{canary.__name__} {FOUND_IN_PRODUCTION[canary]} rows: "):
        verify(given, canary()(given), canary.__name__)


def test_pipeline_lets_the_right_one_pass() -> None:
    """The check finds nothing wrong with a transform that is right."""
    for given in suite.slices(Canary(Right)):
        verify(given, Right()(given), "Right")
