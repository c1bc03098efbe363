"""The deserializers, sentence by sentence of firehose.md section 7, one table for each.

A row is the column's type, the JSON of its value, and the value that it becomes, or what is said where it becomes none.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import pytest
from batches import rows

from firehose.deserializers import Hive, OpenX, Plain
from firehose.deserializers.deserializer import Deserializer
from firehose.json_table import JsonTable
from firehose.table_schema import TableSchema

Row = tuple[str, str, Any]


class Says(str):
    """Of the refusal: what follows `Data does not match the schema. `."""


def at(*parts: int) -> datetime:
    return datetime(*parts, tzinfo=UTC)  # type: ignore[misc,arg-type]


SECOND = at(2024, 1, 2, 3, 4, 5)
MICROSECOND = at(2024, 1, 2, 3, 4, 5, 123456)


def no_time(text: str, type_: str = "timestamp") -> Says:
    return Says(f"{text!r} is no {type_} (column 'c')")


def not_number(text: str) -> Says:
    return Says(f'For input string: "{text}"')


def where(what: str, type_: str) -> Says:
    return Says(f"{what} where {type_} is expected (column 'c')")


EVERYWHERE: list[Row] = [
    # missing keys and null
    ("bigint", "null", None),
    ("struct<a:int>", '{"a":null}', {"a": None}),
    ("struct<a:int>", "{}", {"a": None}),
    ("struct<a:int>", '{"b":1}', {"a": None}),
    ("array<int>", "[1,null]", [1, None]),
    ("array<int>", "[]", []),
    ("map<string,int>", '{"x":1,"y":null}', [("x", 1), ("y", None)]),
    ("map<int,string>", '{"7":"x"}', [(7, "x")]),
    ("map<int,string>", '{"x":"x"}', not_number("x")),
    # keys that become the same one are one, with the last value
    ("map<int,string>", '{"1":"a","2":"b","1.0":"c"}', [(1, "c"), (2, "b")]),
    ("map<decimal(3,1),int>", '{"1":1,"1.0":null}', [(Decimal("1.0"), None)]),
    ("map<date,int>", '{"2024-01-02":1,"2024-1-2":2}', [(date(2024, 1, 2), 2)]),
    ("map<char(1),int>", '{"ab":1,"ac":2}', [("a", 2)]),
    # CHAR(n) and VARCHAR(n) cut
    ("char(2)", '"abc"', "ab"),
    ("varchar(2)", '"é€x"', "é€"),
    # each type at its edges
    ("tinyint", "-128", -128),
    ("tinyint", "128", not_number("128")),
    ("bigint", "9223372036854775807", 2**63 - 1),
    ("bigint", "9223372036854775808", not_number("9223372036854775808")),
    ("bigint", "1.0", 1),
    ("bigint", "1e2", 100),
    ("bigint", "9007199254740993.0", 2**53 + 1),
    ("bigint", "1.5", not_number("1.5")),
    ("bigint", "true", where("a boolean", "bigint")),
    ("bigint", "[1]", where("an array", "bigint")),
    ("bigint", "{}", where("an object", "bigint")),
    ("double", "1", 1.0),
    ("double", "123456789012345678901234567890", 1.2345678901234568e29),
    ("double", "1e400", not_number("1e400")),
    ("float", "0.1", 0.10000000149011612),
    ("float", "1e39", not_number("1e39")),
    ("decimal(5,2)", "123.45", Decimal("123.45")),
    ("decimal(5,2)", "123.450", Decimal("123.45")),
    ("decimal(5,2)", "1e2", Decimal("100.00")),
    ("decimal(5,2)", "123.456", not_number("123.456")),
    ("decimal(5,2)", "1234.5", not_number("1234.5")),
    ("boolean", "true", True),
    ("boolean", "1", where("the number 1", "boolean")),
    ("binary", '"é"', "é".encode()),
    ("binary", "1", where("the number 1", "binary")),
    ("date", '"2024-01-02"', date(2024, 1, 2)),
    ("date", '"2024-1-2"', date(2024, 1, 2)),
    ("date", '"2024-02-30"', no_time("2024-02-30", "date")),
    ("date", "20240102", where("the number 20240102", "date")),
    # a scalar for a struct, an array for a map, and the like
    ("struct<a:int>", "1", where("the number 1", "struct<a:int>")),
    ("struct<a:int>", "[]", where("an array", "struct<a:int>")),
    ("map<string,int>", "[]", where("an array", "map<string,int>")),
    ("map<string,int>", '"x"', where("a string", "map<string,int>")),
    ("array<int>", "{}", where("an object", "array<int>")),
    ("array<int>", "1", where("the number 1", "array<int>")),
    ("string", '"x"', "x"),
    ("string", '"\\u0000"', "\0"),
]
LENIENT: list[Row] = [
    # a value that is no string becomes one: numbers digit for digit
    ("string", "1.50", "1.50"),
    ("string", "-0", "-0"),
    ("string", "1234567890123456789012345678901234567890", "1234567890123456789012345678901234567890"),
    ("string", "true", "true"),
    ("string", '{"a": [1.0, "é"]}', '{"a":[1.0,"é"]}'),
    ("string", "[]", "[]"),
    ("varchar(2)", "1234", "12"),
    # numbers from strings
    ("bigint", '"5"', 5),
    ("bigint", '"oops"', not_number("oops")),
    ("array<int>", '["x"]', not_number("x")),
    ("bigint", '""', not_number("")),
    ("bigint", '" 5"', not_number(" 5")),
    ("double", '"1.5e3"', 1500.0),
    ("decimal(5,2)", '"1.20"', Decimal("1.20")),
    ("boolean", '"true"', True),
    ("boolean", '"yes"', where("a string", "boolean")),
    # timestamps
    ("timestamp", '"2024-01-02T03:04:05Z"', SECOND),
    ("timestamp", '"2024-01-02T03:04:05.123456789Z"', MICROSECOND),
    ("timestamp", '"2024-01-02 03:04:05"', SECOND),
    ("timestamp", '"2024-1-2 3:4:5.5"', at(2024, 1, 2, 3, 4, 5, 500000)),
    ("timestamp", '"2024-1-2T03:04:05Z"', no_time("2024-1-2T03:04:05Z")),
    ("timestamp", '"2024-02-30T03:04:05Z"', no_time("2024-02-30T03:04:05Z")),
    ("timestamp", "1704164645", SECOND),
    ("timestamp", "1704164645.123456", MICROSECOND),
    ("timestamp", "999999999999", Says("'999999999999' is no timestamp (column 'c')")),  # seconds, of the year 33658
    ("timestamp", "1000000000000", at(2001, 9, 9, 1, 46, 40)),  # milliseconds
    ("timestamp", "1704164645123", at(2024, 1, 2, 3, 4, 5, 123000)),
    ("timestamp", '"1704164645"', SECOND),
    ("timestamp", '"1704164645.123456"', MICROSECOND),
    ("timestamp", "true", where("a boolean", "timestamp")),
]
ONLY_PLAIN: list[Row] = [
    ("timestamp", '"2024-01-02T03:04:05"', SECOND),
    ("timestamp", '"2024-01-02T05:04:05+02:00"', SECOND),
    ("timestamp", '"2024-01-02T01:34:05-0130"', SECOND),
    ("timestamp", '"2024-01-02 03:04"', at(2024, 1, 2, 3, 4)),
    ("timestamp", '"2024-01-02"', at(2024, 1, 2)),
    ("timestamp", '"0001-01-01T00:00:00+01:00"', no_time("0001-01-01T00:00:00+01:00")),
    ("bigint", '"0123"', not_number("0123")),
    ("bigint", '"+5"', not_number("+5")),
    ("boolean", '"TRUE"', where("a string", "boolean")),
]
ONLY_OPENX: list[Row] = [
    ("timestamp", '"2024-01-02T03:04:05+00:00"', no_time("2024-01-02T03:04:05+00:00")),
    ("timestamp", '"2024-01-02T03:04:05"', no_time("2024-01-02T03:04:05")),
    ("timestamp", '"2024-01-02"', no_time("2024-01-02")),
    ("bigint", '"0123"', 123),
    ("bigint", '"+5"', 5),
    ("bigint", '"5.0"', not_number("5.0")),
    ("boolean", '"TRUE"', True),
]
ONLY_HIVE: list[Row] = [
    # a quoted number is no number, and nested JSON no text
    ("bigint", '"5"', where("a string", "bigint")),
    ("array<int>", '["5"]', where("a string", "int")),
    ("double", '"5"', where("a string", "double")),
    ("decimal(5,2)", '"5"', where("a string", "decimal(5,2)")),
    ("boolean", '"true"', where("a string", "boolean")),
    ("string", "1.50", "1.50"),
    ("string", "true", "true"),
    ("string", '{"a":1}', where("an object", "text")),
    ("string", "[1]", where("an array", "text")),
    # without formats it is `java.sql.Timestamp.valueOf`
    ("timestamp", '"2024-01-02 03:04:05"', SECOND),
    ("timestamp", '"2024-01-02 03:04:05.123456789"', MICROSECOND),
    ("timestamp", '"2024-01-02T03:04:05Z"', no_time("2024-01-02T03:04:05Z")),
    ("timestamp", "1704164645", where("the number 1704164645", "timestamp")),
]
TABLES: list[tuple[str, Deserializer, list[Row]]] = [
    ("plain", Plain(), EVERYWHERE + LENIENT + ONLY_PLAIN),
    ("openx", OpenX(), EVERYWHERE + LENIENT + ONLY_OPENX),
    ("hive", Hive(), EVERYWHERE + ONLY_HIVE),
]
CASES = [
    pytest.param(deserializer, *row, id=f"{name}: {row[0]} of {row[1][:40]}")
    for name, deserializer, table in TABLES
    for row in table
]


def read(deserializer: Deserializer, columns: Mapping[str, str], document: str) -> tuple[list[Any], list[str]]:
    """The rows, and the codes and messages of what was refused."""
    found = JsonTable(TableSchema.parsed(columns), deserializer).read(rows([document.encode()]))
    refused = found.refused.table.to_pylist()
    assert {row["error_type"] for row in refused} <= {"format-conversion-failed"}
    said = [f"{row['code'].removeprefix('DataFormatConversion.')}: {row['message']}" for row in refused]
    return found.table.to_pylist(), said


@pytest.mark.parametrize(("deserializer", "type_", "value", "expected"), CASES)
def test_value(deserializer: Deserializer, type_: str, value: str, expected: Any) -> None:
    """The value becomes the column's, or its record is refused in the words of Firehose."""
    found, refused = read(deserializer, {"c": type_}, f'{{"c":{value}}}')
    if isinstance(expected, Says):
        assert (found, refused) == ([], [f"MalformedData: Data does not match the schema. {expected}"])
    else:
        assert (found, refused) == ([{"c": expected}], [])


@pytest.mark.parametrize(
    ("options", "document", "expected"),
    [
        ({}, '{"Status":1}', 1),
        ({}, '{"STATUS":1,"status":2,"Status":3}', 3),
        ({}, '{"status":2,"STATUS":null}', None),
        ({"case_insensitive": False}, '{"Status":1}', None),
        ({"case_insensitive": False}, '{"status":1}', 1),
        ({}, '{"a.b":1}', None),
    ],
)
def test_openx_case(options: dict[str, Any], document: str, expected: int | None) -> None:
    """Keys are lower-cased first, unless they are not to be; of several the last one counts."""
    assert read(OpenX(OpenX.Options(**options)), {"status": "int"}, document) == ([{"status": expected}], [])


def test_openx_case_within() -> None:
    """Fields of structs are found in any case too, and a schema's own case does not matter."""
    columns = {"In": "struct<Id:int>", "list": "array<struct<n:int>>"}
    found = read(OpenX(), columns, '{"IN":{"ID":1},"List":[{"N":2}]}')
    assert found == ([{"In": {"Id": 1}, "list": [{"n": 2}]}], [])


def test_openx_dots() -> None:
    """Where asked for, a dot in a key stands for an underscore in the column."""
    dots = OpenX(OpenX.Options(convert_dots_in_json_keys_to_underscores=True))
    assert read(dots, {"a_b": "int"}, '{"A.b":1}') == ([{"a_b": 1}], [])
    assert read(OpenX(), {"a_b": "int"}, '{"a.b":1}') == ([{"a_b": None}], [])


def test_openx_mappings() -> None:
    """A mapped column is read from its key, in any case, and no more from its own name."""
    mapped = OpenX(OpenX.Options(column_to_json_key_mappings={"ts": "Timestamp"}))
    assert read(mapped, {"ts": "int"}, '{"ts":1,"timestamp":2}') == ([{"ts": 2}], [])
    assert read(mapped, {"ts": "int"}, '{"ts":1}') == ([{"ts": None}], [])


@pytest.mark.parametrize(
    ("formats", "value", "expected"),
    [
        (["millis"], "1704164645123", at(2024, 1, 2, 3, 4, 5, 123000)),
        (["millis"], '"1704164645123"', at(2024, 1, 2, 3, 4, 5, 123000)),
        (["millis"], "1.5", not_number("1.5")),
        (["millis"], '"2024-01-02 03:04:05"', not_number("2024-01-02 03:04:05")),
        (["yyyy-MM-dd'T'HH:mm:ss"], '"2024-01-02T03:04:05"', SECOND),
        (["yyyy-MM-dd'T'HH:mm:ss"], '"2024-01-02 03:04:05"', no_time("2024-01-02 03:04:05")),
        (["yyyyMMddHHmmss"], '"20240102030405"', SECOND),
        (["dd/MMM/yyyy:HH:mm:ss Z"], '"02/Jan/2024:05:04:05 +0200"', SECOND),
        (["EEEE, d MMMM yyyy h:mm:ss a"], '"Tuesday, 2 January 2024 3:04:05 AM"', SECOND),
        (["yyyy-MM-dd HH:mm:ss.SSS ZZZ"], '"2024-01-02 04:04:05.000 Europe/Berlin"', SECOND),
        (["yy-D HH:mm:ss"], '"24-2 03:04:05"', SECOND),
        (["yyyy", "millis"], '"2024"', at(1970, 1, 1, 0, 0, 2, 24000)),
        (["yyyy-MM", "millis"], '"2024-01"', at(2024, 1, 1)),
        (["yyyy-MM-dd kk:mm"], '"2024-01-02 24:00"', at(2024, 1, 2)),
        (["yyyy-MM-dd KK:mm a"], '"2024-01-02 00:30 pm"', at(2024, 1, 2, 12, 30)),
        (["yyyy-MM-dd ''HH''"], "\"2024-01-02 '03'\"", at(2024, 1, 2, 3)),
        (["yyyy-MM-dd"], '"2024-13-02"', no_time("2024-13-02")),
        (["yyyy-MM-dd"], "1704164645", where("the number 1704164645", "timestamp")),
    ],
)
def test_hive_formats(formats: list[str], value: str, expected: Any) -> None:
    """Timestamps are of one of the formats, of Joda-Time's letters, and `millis` is milliseconds."""
    hive = Hive(Hive.Options(timestamp_formats=tuple(formats)))
    found, refused = read(hive, {"c": "timestamp"}, f'{{"c":{value}}}')
    if isinstance(expected, Says):
        assert refused == [f"MalformedData: Data does not match the schema. {expected}"]
    else:
        assert (found, refused) == ([{"c": expected}], [])


def test_hive_names() -> None:
    """Names are exact, and a column with a dot in its name is refused before any record is read."""
    assert read(Hive(), {"status": "int"}, '{"Status":1}') == ([{"status": None}], [])
    with pytest.raises(ValueError, match=r"column 'a\.b': the hive deserializer reads no column with a dot"):
        JsonTable(TableSchema.parsed({"a.b": "int"}), Hive())
