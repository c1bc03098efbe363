"""Blocks of records into tables: which record becomes which rows, what is refused, and what a bad one costs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
import pytest
from batches import rows

from firehose.deserializers import OpenX, Plain
from firehose.deserializers.deserializer import Misfit
from firehose.deserializers.documents import documents
from firehose.deserializers.seen import Seen
from firehose.hive_type import DEPTH_LIMIT
from firehose.json_plan import JsonPlan
from firehose.json_table import JsonTable, Unforeseen
from firehose.model import REJECTION_SCHEMA
from firehose.table_schema import TableSchema

PARSE = "DataFormatConversion.ParseError"
MALFORMED = "DataFormatConversion.MalformedData"


def table(columns: dict[str, str] | None = None, **options: Any) -> JsonTable:
    return JsonTable(TableSchema.parsed(columns or {"n": "bigint"}), options.pop("deserializer", Plain()), **options)


def refused(found: Any) -> list[tuple[int, str, str]]:
    return [(row["row"], row["code"], row["message"]) for row in found.refused.table.to_pylist()]


@pytest.mark.parametrize(
    ("record", "code", "message"),
    [
        (b"", MALFORMED, "The record was empty or contained only whitespace."),
        (b" \r\n\t", MALFORMED, "The record was empty or contained only whitespace."),
        (b"oops", PARSE, "Encountered malformed JSON."),
        (b'{"n":1', PARSE, "Encountered malformed JSON."),
        (b'{"n":1}}', PARSE, "Encountered malformed JSON."),
        (b'{"n":1},{"n":2}', PARSE, "Encountered malformed JSON."),
        (b'{"n":NaN}', PARSE, "Encountered malformed JSON. NaN is no JSON"),
        (b'{"x":-Infinity}', PARSE, "Encountered malformed JSON. -Infinity is no JSON"),
        (b'{"x":"\xff"}', PARSE, "Encountered malformed JSON. It is not UTF-8 at byte 6"),
        (b'{"x":"a\nb"}', PARSE, "Encountered malformed JSON."),
        (b'{"n":1}\0', PARSE, "Encountered malformed JSON."),
        (
            b'[{"n":1}]',
            MALFORMED,
            "Data does not match the schema. A record holds objects, and there is another value at character 0",
        ),
        (
            b'{"n":1} null',
            MALFORMED,
            "Data does not match the schema. A record holds objects, and there is another value at character 8",
        ),
        (b'{"x":"\\ud800"}', MALFORMED, "Data does not match the schema. The lone surrogate \\ud800 is no character"),
        (b'{"\\udc00x":1}', MALFORMED, "Data does not match the schema. The lone surrogate \\udc00 is no character"),
        (b'{"n":1}{"n":"oops"}', MALFORMED, 'Data does not match the schema. For input string: "oops"'),
    ],
)
def test_refused(record: bytes, code: str, message: str) -> None:
    """A record that is no JSON, or not of the schema, is refused in Firehose's words, and no other with it."""
    found = table().read(rows([b'{"n":1}', record, b'{"n":3}']))
    assert found.table.to_pylist() == [{"n": 1}, {"n": 3}]
    ((row, found_code, said),) = refused(found)
    assert (row, found_code, said[: len(message)]) == (1, code, message)  # the parser's own words may follow
    assert found.refused.table.schema == REJECTION_SCHEMA
    assert found.refused.table.column("record").to_pylist() == [record]


@pytest.mark.parametrize(
    ("levels", "shape"),
    [(511, "["), (10_000, "["), (200_000, "["), (511, '{"n":'), (10_000, '{"n":'), (100_000, '{"n":')],
)
def test_depth(levels: int, shape: str) -> None:
    """Up to 512 levels are read, in a column's string too; more are refused, however many there are."""
    closing = "]" if shape == "[" else "}"
    deep = f'{{"s":{shape * levels}{"" if shape == "[" else 1}{closing * levels}}}'.encode()
    found = table({"s": "string"}).read(rows([deep, b'{"s":"x"}']))
    if levels < 512:
        assert found.table.to_pylist() == [{"s": deep[5:-1].decode()}, {"s": "x"}]
    else:
        assert refused(found) == [(0, PARSE, "Encountered malformed JSON. It is nested more than 512 levels deep")]


def test_brackets_in_strings_are_not_depth() -> None:
    """A long text of brackets is no nesting."""
    record = json.dumps({"s": '[{\\"' * 3000}).encode()
    assert table({"s": "string"}).read(rows([record])).table.to_pylist() == [json.loads(record)]


def test_long_keys() -> None:
    """A key of 1 MB is read over, or is a column's own."""
    name = "k" * 1_000_000
    found = table({name: "int", "n": "int"}).read(rows([f'{{"{name}":1,"{name}x":2,"n":3}}'.encode()]))
    assert found.table.to_pylist() == [{name: 1, "n": 3}]


def test_documents_back_to_back() -> None:
    """A record may hold several documents, with newlines around and within: each is a row, in order."""
    given = [b'{"n":1}{"n":2}', b'\n{"n":\n3}\n \n{"n":4}\n', b'{"n":5}\r\n', b'{"n":6}\n\n']
    assert table().read(rows(given)).table.column("n").to_pylist() == [1, 2, 3, 4, 5, 6]


def test_a_schema_that_nothing_matches() -> None:
    """Records without a column of the schema make rows of nulls, and are not refused."""
    found = table({"absent": "int"}).read(rows([b'{"n":1}', b"{}"]))
    assert (found.table.to_pylist(), len(found.refused)) == ([{"absent": None}] * 2, 0)


def test_nothing_at_all() -> None:
    """No records make a table of no rows with all its columns."""
    found = table(grows=True).read(rows([]))
    assert found.table.schema == pa.schema({"n": pa.int64(), "_rescued": pa.string()})
    assert (found.table.num_rows, len(found.refused)) == (0, 0)


def test_the_last_of_equal_keys_counts() -> None:
    """Of a key that is there several times the last value counts, at every level."""
    found = table({"n": "int", "s": "struct<a:int>"}).read(rows([b'{"n":1,"s":{"a":1,"a":2},"n":null,"n":3}']))
    assert found.table.to_pylist() == [{"n": 3, "s": {"a": 2}}]


def bad_ones(count: int, bad: Sequence[int]) -> list[bytes]:
    return [b'{"n":"oops"}' if at in bad else b'{"n":%d}' % at for at in range(count)]


@pytest.mark.parametrize("bad", [(0,), (777,), (1999,), (3, 4, 5, 900), range(0, 2000, 7), range(2000)])
def test_bad_ones_among_many(bad: Sequence[int]) -> None:
    """Every bad record is found, wherever it stands, and every good one becomes its row, in order."""
    reader = table()
    for _ in range(3):  # what was learned of one block must not matter to the next
        found = reader.read(rows(bad_ones(2000, bad)))
        assert found.table.column("n").to_pylist() == [at for at in range(2000) if at not in set(bad)]
        assert [at for at, _, _ in refused(found)] == list(bad)


def slow_records(monkeypatch: pytest.MonkeyPatch, given: list[bytes], reader: JsonTable) -> int:
    """How many of the block's records are read document by document, once a block was seen."""
    reader.read(rows(given))
    looked: list[bytes] = []

    def looking(record: bytes) -> list[dict[str, Any]]:
        looked.append(record)
        return documents(record)

    monkeypatch.setattr("firehose.json_table.documents", looking)
    reader.read(rows(given))
    return len(looked)


def test_a_bad_one_costs_its_neighbours_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """One bad record among 4,000 sends few others the slow way."""
    assert slow_records(monkeypatch, bad_ones(4000, [1234]), table()) < 100


@pytest.mark.parametrize(
    ("columns", "record"),
    [
        ({"at": "timestamp"}, b'{"at":1700000000}'),
        ({"at": "timestamp"}, b'{"at":1700000000.5}'),
        ({"at": "timestamp"}, b'{"at":"2024-01-02 03:04:05"}'),
        ({"n": "bigint"}, b'{"n":"5"}'),
        ({"n": "bigint"}, b'{"n":5.0}'),
        ({"s": "string"}, b'{"s":5}'),
        ({"in": "struct<at:timestamp>"}, b'{"in":{"at":"2024-01-02T03:04:05Z"}}'),
        ({"list": "array<struct<at:timestamp>>"}, b'{"list":[{"at":1700000000}]}'),
        ({"status": "int"}, b'{"STATUS":1,"more":2}'),
    ],
)
def test_learns(monkeypatch: pytest.MonkeyPatch, columns: dict[str, str], record: bytes) -> None:
    """Where all values of a column are of one other kind, or a key is spelled otherwise, whole blocks are read."""
    assert slow_records(monkeypatch, [record] * 100, table(columns, deserializer=OpenX())) == 0


def rescued(columns: dict[str, str], document: str, **options: Any) -> tuple[dict[str, Any], Any]:
    (row,) = table(columns, grows=True, **options).read(rows([document.encode()])).table.to_pylist()
    left = row.pop("_rescued")
    return row, None if left is None else json.loads(left)


@pytest.mark.parametrize(
    ("document", "row", "left"),
    [
        ('{"n":1}', {"n": 1, "s": None, "list": None}, None),
        ('{"n":"x","s":{"a":1}}', {"n": None, "s": {"a": 1}, "list": None}, {"n": "x"}),
        ('{"n":1.5}', {"n": None, "s": None, "list": None}, {"n": 1.5}),
        ('{"s":{"a":[1]}}', {"n": None, "s": {"a": None}, "list": None}, {"s": {"a": [1]}}),
        ('{"s":7}', {"n": None, "s": None, "list": None}, {"s": 7}),
        ('{"list":[1,"x"]}', {"n": None, "s": None, "list": None}, {"list": [1, "x"]}),
        ('{"N":5}', {"n": None, "s": None, "list": None}, {"N": 5}),
        ('{"_rescued":5}', {"n": None, "s": None, "list": None}, {"_rescued": 5}),
        ('{"":5}', {"n": None, "s": None, "list": None}, {"": 5}),
        ('{"new":null,"s":{"b":{"c":[null,{}]}}}', {"n": None, "s": {"a": None}, "list": None}, None),
    ],
)
def test_rescued(document: str, row: dict[str, Any], left: Any) -> None:
    """What does not fit a growing schema goes to `_rescued` as it was nested, and the rest of its row stays."""
    assert rescued({"n": "bigint", "s": "struct<a:int>", "list": "array<int>"}, document) == (row, left)


@pytest.mark.parametrize(
    ("document", "row"),
    [
        ('{"d":9007199254740993}', {"d": None}),
        ('{"d":"9007199254740993"}', {"d": None}),
        ('{"d":-12345678901234567890123}', {"d": None}),
        ('{"d":9007199254740994}', {"d": 9007199254740994.0}),
        ('{"d":0.12345678901234567}', {"d": 0.12345678901234567}),
        ('{"d":1e300}', {"d": 1e300}),
        ('{"t":"2026-03-01T00:00:00.1234567Z"}', {"t": None}),
        ('{"t":"2026-03-01 00:00:00.123456001"}', {"t": None}),
        ('{"t":"2026-03-01T00:00:00.500000000Z"}', {"t": datetime(2026, 3, 1, 0, 0, 0, 500_000, UTC)}),
    ],
)
@pytest.mark.parametrize("copies", [1, 500])
def test_what_a_column_would_keep_in_part_is_rescued(document: str, row: dict[str, Any], copies: int) -> None:
    """A whole number that a double would round, and what is finer than a microsecond, stay whole beside their column,
    whether read one by one or as a block; a schema that somebody gave rounds, as asked.
    """
    (name,) = row
    columns = {"d": "double"} if name == "d" else {"t": "timestamp"}
    found = table(columns, grows=True).read(rows([document.encode()] * copies))
    left = None if row[name] is not None else document
    assert found.table.to_pylist() == [{**row, "_rescued": left}] * copies
    (given,) = table(columns).read(rows([document.encode()])).table.to_pylist()
    assert given[name] is not None


@pytest.mark.parametrize(
    "document", ['{"new":1}', '{"s":{"b":1}}', '{"list":[{"a":1},{"b":2}]}', '{"n":"x","new":[0]}']
)
def test_unforeseen(document: str) -> None:
    """A column or field that a growing schema lacks is told of; where it has no room, its value is rescued."""
    columns = {"n": "bigint", "s": "struct<a:int>", "list": "array<struct<a:int>>"}
    with pytest.raises(Unforeseen, match=r"^(new|b)$"):
        table(columns, grows=True).read(rows([b'{"n":1}'] * 100 + [document.encode()]))
    assert rescued(columns, document, full=True)[1] == {
        key: value for key, value in json.loads(document).items() if (key, value) != ("n", 1)
    }


def test_unforeseen_in_what_is_no_json() -> None:
    """A record that is refused anyway makes no schema grow."""
    found = table(grows=True).read(rows([b'{"new":1,}', b'{"n":1}']))
    assert (found.table.to_pylist(), len(found.refused)) == ([{"n": 1, "_rescued": None}], 1)


def test_keys_without_a_value(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keys that only ever hold null, which no schema can have a type for, do not slow a growing one down."""
    assert slow_records(monkeypatch, [b'{"n":1,"error":null}'] * 100, table(grows=True)) == 0
    assert table(grows=True).read(rows([b'{"n":1,"error":null}'] * 100)).table.column("n").to_pylist() == [1] * 100


def test_no_columns() -> None:
    """Where there is no column yet, every record is a row all the same."""
    read = JsonTable(TableSchema(()), Plain(), grows=True).read(rows([b"{}", b"{}\n"]))
    assert (read.table.num_rows, len(read.refused)) == (2, 0)


def test_a_message_is_short_however_wide_the_column() -> None:
    """Types have no bound, and each record has a message: of a long one the beginning is told."""
    wide = f"struct<{','.join(f'field_{number}:int' for number in range(1000))}>"
    for columns in ({"n": wide}, {"n": f"array<{wide}>"}, {"n": f"map<string,{wide}>"}):
        ((_, code, message),) = refused(table(columns).read(rows([b'{"n":1}'])))
        assert code == MALFORMED
        assert "struct<field_0:int,field_1:int" in message
        assert len(message) < 300


@pytest.mark.parametrize("grows", [False, True])
def test_deep_types(grows: bool) -> None:
    """Structs are as deep in one another as types may be, at no more cost for each level than for the one before."""
    type_, document = "int", "1"
    for level in range(DEPTH_LIMIT):
        type_, document = f"struct<k{level}:{type_}>", f'{{"k{level}":{document}}}'
    records = [f'{{"s":{document}}}'.encode(), b'{"s":{"k1":0}} ', f'{{"s":{document}}} '.encode()]
    found = table({"s": type_}, grows=grows, full=grows).read(rows(records)).table.column("s").to_pylist()
    assert found == [json.loads(document), {f"k{DEPTH_LIMIT - 1}": None}, json.loads(document)]


@pytest.mark.parametrize("count", [3, 300])
@pytest.mark.parametrize("dots", [False, True])
def test_keys_in_any_spelling_in_wide_tables(count: int, dots: bool) -> None:
    """However many columns there are, a block with keys of no column is read at once, unless a key of it is spelled in
    another way than those before: then no value is missed.
    """
    names = [f"the_column_of_number_{number}" for number in range(count)]
    schema = TableSchema.parsed(dict.fromkeys(names, "int"))
    reads = OpenX(OpenX.Options(convert_dots_in_json_keys_to_underscores=dots))
    plan = JsonPlan.of(schema, reads, Seen(more=True), grows=False)
    line = json.dumps({**dict.fromkeys(names, 1), "other": 2}).encode() + b"\n"
    assert plan.table(pa.py_buffer(line * 3)).to_pylist() == [dict.fromkeys(names, 1)] * 3
    for old, new in (
        (b"the_column", b"The_column"),
        (b"number_2", b"numbeR_2"),
        *([(b"_of_", b".of_")] if dots else []),
    ):
        odd = line.replace(old, new, 1)
        assert odd != line
        with pytest.raises(Misfit):
            plan.table(pa.py_buffer(line + odd))
        found = JsonTable(schema, reads).read(rows([line, odd, line]))
        assert found.table.to_pylist() == [dict.fromkeys(names, 1)] * 3
