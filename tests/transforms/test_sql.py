"""SQL over records: what becomes of each, type for type, and what is said of a query that cannot be run."""

from __future__ import annotations

import json
from collections.abc import Mapping

import duckdb
import pyarrow as pa
import pytest
from batches import rows
from pydantic import ValidationError

from firehose.model import Outcome
from firehose.sql import engine, table
from transforms import sql
from transforms.sql import SqlOptions

Columns = Mapping[str, str]
WAY_OUT = "select _row too"


def run(query: str, *records: bytes, columns: Columns | None = None, given: pa.RecordBatch | None = None) -> Outcome:
    SqlOptions(type="sql", query=query, columns=None if columns is None else dict(columns))
    program = sql.program({"query": query, "columns": columns, "memory_mib": 256})
    return program(rows(records) if given is None else given, unmarked)


def unmarked(index: int) -> None:
    raise AssertionError("a query is at all records at once")


def made(query: str, *records: bytes, columns: Columns | None = None) -> list[bytes]:
    outcome = run(query, *records, columns=columns)
    assert outcome.refused.table.to_pylist() == []
    return list(outcome.rows.column("record").to_pylist())


def value(expression: str, record: bytes = b"{}", columns: Columns | None = None) -> str:
    """The JSON text of one expression's value."""
    (output,) = made(f"SELECT {expression} AS v FROM records", record, columns=columns)
    json.loads(output, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
    return output.decode().removeprefix('{"v":').removesuffix("}")


def refusals(outcome: Outcome) -> list[tuple[int, str]]:
    table = outcome.refused.table
    assert set(table.column("error_type").to_pylist()) <= {"processing-failed"}
    return list(zip(table.column("row").to_pylist(), table.column("code").to_pylist(), strict=True))


def message(outcome: Outcome) -> str:
    (said,) = set(outcome.refused.table.column("message").to_pylist())
    return str(said)


def complaint(query: str, columns: Columns | None = None) -> str:
    with pytest.raises(ValidationError) as error:
        SqlOptions(type="sql", query=query, columns=None if columns is None else dict(columns))
    (detail,) = error.value.errors()
    assert detail["loc"] == ("query",)
    text = str(detail["msg"]).removeprefix("Value error, ")
    assert text.startswith("invalid SQL: ")
    assert "\n" not in text
    return text.removeprefix("invalid SQL: ")


ONE, TWO, THREE = b'{"a":1,"b":"x"}\n', b'{"a":2,"b":"y"}\r\n', b'{"a":3,"b":"z"}'


@pytest.mark.parametrize(
    ("query", "outputs"),
    [
        ("SELECT * FROM records", [ONE, TWO, THREE]),
        ("FROM records", [ONE, TWO, THREE]),
        ("select A from RECORDS;  -- all", [b'{"a":1}\n', b'{"a":2}\r\n', b'{"a":3}']),
        ("SELECT b, a FROM records", [b'{"b":"x","a":1}\n', b'{"b":"y","a":2}\r\n', b'{"b":"z","a":3}']),
        ("SELECT a + 1 AS a, upper(b) AS B FROM records WHERE a = 2", [b'{"a":3,"B":"Y"}\r\n']),
        ("SELECT * EXCLUDE (b) FROM records r WHERE r.a <> 2", [b'{"a":1}\n', b'{"a":3}']),
        ("SELECT * REPLACE (a * 2 AS a) FROM records WHERE b = 'z'", [b'{"a":6,"b":"z"}']),
        ("SELECT a FROM records ORDER BY a DESC LIMIT 2", [b'{"a":2}\r\n', b'{"a":3}']),
        ("SELECT a, a FROM records LIMIT 1", [b'{"a":1,"a":1}\n']),
        ('SELECT a AS "we ird ""x""" FROM records LIMIT 1', [b'{"we ird \\"x\\"":1}\n']),
        ("SELECT a FROM records QUALIFY row_number() OVER (ORDER BY a DESC) = 1", [b'{"a":3}']),
        ("SELECT a, sum(a) OVER () AS s FROM records WHERE a < 3", [b'{"a":1,"s":3}\n', b'{"a":2,"s":3}\r\n']),
        ("SELECT a, (SELECT max(a) FROM records) AS m FROM records WHERE a = 1", [b'{"a":1,"m":3}\n']),
        ("WITH big AS (SELECT * FROM records WHERE a > 2) SELECT * FROM big", [THREE]),
        ("SELECT a FROM (SELECT * FROM records) WHERE a = 1", None),
        ("SELECT _row, a FROM (SELECT * FROM records) WHERE a = 1", [b'{"a":1}\n']),
        ("SELECT count(*) AS n, min(_row) AS _row FROM records", [b'{"n":3}\n']),
        ("SELECT max(a) AS m, max(_row) AS _row FROM records GROUP BY a > 1", [b'{"m":1}\n', b'{"m":3}']),
        ("SELECT DISTINCT ON (a > 1) a FROM records ORDER BY a", None),
        ("SELECT r.a, s.b, r._row FROM records r JOIN records s ON s.a = r.a + 1",
         [b'{"a":1,"b":"y"}\n', b'{"a":2,"b":"z"}\r\n']),
        ("SELECT 1 AS one FROM records WHERE a > 5", []),
        ("SELECT _row FROM records WHERE a = 1", [b"{}\n"]),
        ("SELECT _row AS n, _record AS r, _arrival AS at FROM records WHERE a = 3",
         [b'{"n":2,"r":"{\\"a\\":3,\\"b\\":\\"z\\"}","at":"2026-03-01T12:00:07Z"}']),
        ("SELECT list_transform([a], lambda x: x + 1) AS l FROM records WHERE a = 1", [b'{"l":[2]}\n']),
    ],
)  # fmt: skip
def test_results(query: str, outputs: list[bytes] | None) -> None:
    """Each result row is a JSON object of its columns, with its record's newline, in the records' order; a query that
    would lose sight of where its rows come from is refused.
    """
    if outputs is None:
        assert WAY_OUT in complaint(query)
        return
    assert made(query, ONE, TWO, THREE) == outputs


def test_ends() -> None:
    """Every record ends once: split, dropped, refused or replaced; ordinals, arrival and other columns stay."""
    given = rows([b"{}", b'{"n":2}\n', b"bad", b'{"n":0}\n', b'{"n":1}', b"[1]"])
    given = given.append_column("meta", pa.array([f"m{n}" for n in range(6)])).slice(1)
    outcome = run("SELECT n, unnest(range(n)) AS i FROM records", given=given)
    assert outcome.rows.select(["record", "row", "part", "meta"]).to_pylist() == [
        {"record": b'{"n":2,"i":0}\n', "row": 1, "part": 0, "meta": "m1"},
        {"record": b'{"n":2,"i":1}\n', "row": 1, "part": 1, "meta": "m1"},
        {"record": b'{"n":1,"i":0}', "row": 4, "part": 0, "meta": "m4"},
    ]
    assert refusals(outcome) == [(2, "Sql.NotJson"), (5, "Sql.NotJson")]
    assert outcome.refused.table.column("record").to_pylist() == [b"bad", b"[1]"]
    assert outcome.dropped.to_pylist() == [3]


def test_parts_of_a_split_record() -> None:
    """Parts that an earlier transform made are rows of their own, and are numbered anew."""
    given = rows([b'{"a":1}', b'{"a":2}', b'{"a":3}'])
    given = given.set_column(1, given.schema.field("row"), pa.array([7, 7, 7], pa.int32()))
    given = given.set_column(2, given.schema.field("part"), pa.array([0, 1, 2], pa.int32()))
    outcome = run("SELECT _row AS at, a FROM records WHERE a <> 2", given=given)
    assert outcome.rows.select(["record", "row", "part"]).to_pylist() == [
        {"record": b'{"at":0,"a":1}', "row": 7, "part": 0},
        {"record": b'{"at":2,"a":3}', "row": 7, "part": 1},
    ]
    assert outcome.dropped.to_pylist() == [7]


@pytest.mark.parametrize(
    "record",
    [b"", b"\n", b"x", b"[]", b"1", b'"{}"', b'{"a":1,}', b'{"a":NaN}', b"{}{}", b'{"a":"\xff"}', b'{"a":"\\ud800"}',
     b'{"a":1e999}', b'{"a":' * 5000 + b"1" + b"}" * 5000],
)  # fmt: skip
def test_not_json(record: bytes) -> None:
    """What is not one JSON object, strictly, is refused alone."""
    outcome = run("SELECT a FROM records", ONE, record)
    assert outcome.rows.column("record").to_pylist() == [b'{"a":1}\n']
    assert refusals(outcome) == [(1, "Sql.NotJson")]
    assert message(outcome).startswith("the record is not one JSON object: ")


@pytest.mark.parametrize(
    ("expression", "text"),
    [
        ("1.10::DECIMAL(10,2)", "1.10"),
        ("12345678901234567890123.4567::DECIMAL(38,4)", "12345678901234567890123.4567"),
        ("9007199254740993", "9007199254740993"),
        ("170141183460469231731687303715884105727::HUGEINT", "170141183460469231731687303715884105727"),
        ("18446744073709551615::UBIGINT", "18446744073709551615"),
        ("0.1::FLOAT", "0.1"),
        ("1e22::DOUBLE", "1e+22"),
        ("3.0::DOUBLE", "3.0"),
        ("'nan'::DOUBLE", "null"),
        ("'-inf'::FLOAT", "null"),
        ("NULL", "null"),
        ("true", "true"),
        ("'é\"\\' || chr(0) || chr(10)", '"é\\"\\\\\\u0000\\n"'),
        ("TIMESTAMP '2026-03-01 12:00:00'", '"2026-03-01T12:00:00"'),
        ("TIMESTAMP '2026-03-01 12:00:00.123456'", '"2026-03-01T12:00:00.123456"'),
        ("TIMESTAMPTZ '2026-03-01 12:00:00.5+01'", '"2026-03-01T11:00:00.5Z"'),
        ("DATE '2026-03-01'", '"2026-03-01"'),
        ("TIME '12:00:01'", '"12:00:01"'),
        ("INTERVAL 3 DAY", '"3 days"'),
        ("'00000000-0000-0000-0000-000000000001'::UUID", '"00000000-0000-0000-0000-000000000001"'),
        ("'\\xFF\\x00'::BLOB", '"/wA="'),
        ("'a'::ENUM('a', 'b')", '"a"'),
        ("[1, NULL, 3]", "[1,null,3]"),
        ("[]", "[]"),
        ("[[TIMESTAMP '2026-03-01 12:00:00'], NULL, ['infinity'::TIMESTAMP]]",
         '[["2026-03-01T12:00:00"],null,["infinity"]]'),
        ("[1, 2]::TINYINT[2]", "[1,2]"),
        ("{'x': 1.50, 'y': {'z': NULL}, 'a\"b': ['nan'::DOUBLE]}", '{"x":1.50,"y":{"z":null},"a\\"b":[null]}'),
        ("NULL::STRUCT(x INTEGER)", "null"),
        ("NULL::INTEGER[]", "null"),
        ("MAP {'k': 1.0, 'l': NULL}", '{"k":1.0,"l":null}'),
        ("MAP {1: [DATE '2026-03-01']}", '{"1":["2026-03-01"]}'),
        ("MAP {}", "{}"),
        ("""'{"x": [1, 2]}'::JSON""", '{"x": [1, 2]}'),
        ("union_value(x := 1)", '"1"'),
    ],
)  # fmt: skip
def test_types(expression: str, text: str) -> None:
    """Values of every type have their JSON text: exact numbers, ISO 8601 instants, null for what JSON cannot say."""
    assert value(expression) == text


@pytest.mark.parametrize(
    ("field", "text"),
    [
        ("1", "1"),
        ("-9223372036854775808", "-9223372036854775808"),
        ("9223372036854775808", "9223372036854775808"),
        ("-170141183460469231731687303715884105727", "-170141183460469231731687303715884105727"),
        ("123456789012345678901234567890123456789012", "123456789012345678901234567890123456789012"),
        ("1.5", "1.5"),
        ("1.10", "1.1"),
        ("1e3", "1000.0"),
        ('"2026-03-01T12:00:00Z"', '"2026-03-01T12:00:00Z"'),
        ('"\\u00e9\\u0000"', '"é\\u0000"'),
        ("true", "true"),
        ("null", "null"),
        ('{"x": [1, null], "y": {}}', '{"x":[1,null],"y":{}}'),
        ("[]", "[]"),
    ],
)
def test_undeclared_field(field: str, text: str) -> None:
    """A field passes through as what it is; a number with a fraction is a 64-bit float."""
    assert value("f", b'{"f":%s}' % field.encode()) == text


@pytest.mark.parametrize(
    ("declared", "field", "text"),
    [
        ("DECIMAL(38,2)", "12345678901234567.10", "12345678901234567.10"),
        ("DECIMAL(18,2)", '"1.10"', "1.10"),
        ("BIGINT", '"7"', "7"),
        ("HUGEINT", "123456789012345678901234567890", "123456789012345678901234567890"),
        ("VARCHAR", "7", '"7"'),
        ("TIMESTAMPTZ", '"2026-03-01T12:00:00+02:00"', '"2026-03-01T10:00:00Z"'),
        ("TIMESTAMP", '"2026-03-01T12:00:00Z"', '"2026-03-01T12:00:00"'),
        ("INTEGER[]", "[1,2]", "[1,2]"),
        ("STRUCT(x INTEGER, y VARCHAR)", '{"x":1,"z":0}', '{"x":1,"y":null}'),
        ("JSON", '{"x":1,"z":[0]}', '{"x":1,"z":[0]}'),
        ("BOOLEAN", "null", "null"),
    ],
)
def test_declared_field(declared: str, field: str, text: str) -> None:
    """A declared field is of its type, which reads whatever fits it."""
    assert value("f", b'{"f":%s}' % field.encode(), columns={"f": declared}) == text


def test_what_a_declared_type_cannot_hold() -> None:
    """A value that does not fit refuses its record alone, and is never taken for a missing one."""
    records = [b'{"n":1}', b'{"n":"many"}', b"{}", b'{"n":null}', b'{"n":[]}', b'{"n":99999999999}']
    outcome = run("SELECT n FROM records", *records, columns={"n": "INTEGER"})
    assert outcome.rows.column("record").to_pylist() == [b'{"n":1}', b'{"n":null}', b'{"n":null}']
    assert refusals(outcome) == [(1, "Sql.WrongType"), (4, "Sql.WrongType"), (5, "Sql.WrongType")]
    assert message(outcome) == "its field 'n' is no INTEGER; mend the record, or declare the column as JSON"


def test_declared_columns_are_all_there_is() -> None:
    """What is not declared is no column, and stays within reach in the record's text."""
    query = "SELECT *, _record->>'b' AS b FROM records"
    assert made(query, b'{"b":"x","a":1}', columns={"a": "BIGINT"}) == [b'{"a":1,"b":"x"}']
    assert 'Referenced column "b" not found' in complaint("SELECT b FROM records", {"a": "BIGINT"})


def test_fields_of_company() -> None:
    """Undeclared, the columns are the fields of all records at hand, and their types hold all of their values."""
    records = [b'{"n":1,"m":1,"j":1}', b'{"n":2.5,"m":170141183460469231731687303715884105727,"j":"x"}', b'{"j":null}']
    assert made("SELECT * FROM records", *records) == [
        b'{"n":1.0,"m":1,"j":1}',
        b'{"n":2.5,"m":170141183460469231731687303715884105727,"j":"x"}',
        b'{"n":null,"m":null,"j":null}',
    ]


@pytest.mark.parametrize(
    ("query", "output"),
    [
        ("SELECT a, missing FROM records", b'{"a":1,"missing":null}'),
        ("SELECT a FROM records WHERE missing IS NULL", b'{"a":1}'),
        ("SELECT lower(records.level) AS level FROM records", b'{"level":null}'),
        ("SELECT r.user.name FROM records r", b'{"name":null}'),
        ("SELECT coalesce(x + 1, y->>'z', 0) AS v FROM records", b'{"v":0}'),
        ('SELECT "Quo ted" AS q FROM records', b'{"q":null}'),
    ],
)
def test_field_that_no_record_has(query: str, output: bytes) -> None:
    """A field that none of the records at hand has is NULL, as it is where some have it."""
    assert made(query, b'{"a":1}') == [output]


def test_nested_fields() -> None:
    """What is nested is reached with dots and arrows."""
    query = "SELECT user.name, user->>'$.name' AS n, tags[0] AS t FROM records WHERE user.id > 5"
    assert made(query, b'{"user":{"id":7,"name":"x"},"tags":["a"]}') == [b'{"name":"x","n":"x","t":"a"}']


def test_names_that_sql_takes_for_one() -> None:
    """Fields whose names differ in case alone, are empty, or are ours keep a column each."""
    record = b'{"a":1,"A":2,"_row":3,"_Record":4,"":5,"a_1":6}'
    assert made("SELECT * FROM records", record) == [b'{"a":1,"A_1":2,"_row_1":3,"_Record_1":4,"_1":5,"a_1_1":6}']


@pytest.mark.parametrize("name", ["a b", 'a"b', "a'b", "a/b~c", "é", "select", "?", ";--", "a\nb", "x" * 10_000])
def test_names_of_fields(name: str) -> None:
    """Any name is a column's."""
    record = json.dumps({name: 1}, ensure_ascii=False, separators=(",", ":")).encode()
    assert made("SELECT * FROM records", record) == [record]
    assert made("SELECT * FROM records", record, columns={name: "BIGINT"}) == [record]


def test_fields_that_cannot_be_columns() -> None:
    """A record with a field too many, or with a NUL in a name, is refused alone, and not where columns are declared."""
    many = json.dumps({f"f{n}": n for n in range(table.MOST_COLUMNS)}).encode()
    records = [b'{"a":1}', many, b'{"a\\u0000":1}', b'{"a":2}']
    outcome = run("SELECT a FROM records", *records)
    assert outcome.rows.column("row").to_pylist() == [0, 3]
    assert refusals(outcome) == [(1, "Sql.Fields"), (2, "Sql.Fields")]
    assert len(made("SELECT a FROM records", *records, columns={"a": "BIGINT"})) == 4


def test_a_field_that_stands_twice() -> None:
    """Where readers differ in which of two values counts, none is lost unseen."""
    outcome = run("SELECT a FROM records", b'{"a":"x","a":1}', b'{"a":2}')
    assert refusals(outcome) == [(0, "Sql.WrongType")]
    assert outcome.rows.column("record").to_pylist() == [b'{"a":2}']


@pytest.mark.parametrize(
    "query",
    [
        "SELECT a, _row + 1 AS _row FROM records",
        "SELECT a, -1 AS _row FROM records",
        "SELECT a, NULL::INTEGER AS _row FROM records",
        "SELECT a, _row + 5000000000 AS _row FROM records",
        "SELECT 3 AS _row FROM records",
        "SELECT r._row FROM range(5) AS r(_row)",
        "SELECT x.a, y._row FROM records x LEFT JOIN records y ON y.a = x.a + 1",
    ],
)
def test_foreign_rows(query: str) -> None:
    """A result row that names no record of the slice, or one that was not given to the query, refuses the slice."""
    outcome = run(query, ONE, TWO, THREE, b"bad")
    assert outcome.rows.num_rows == len(outcome.dropped) == 0
    assert refusals(outcome) == [*((n, "Sql.ForeignRows") for n in range(3)), (3, "Sql.NotJson")]


def test_an_error_is_its_records_alone() -> None:
    """Where a query looks at each record by itself, one that it fails for is refused, and no other."""
    records = [b'{"a":"%d"}' % n for n in range(50)]
    records[17] = records[18] = b'{"a":"x"}'
    outcome = run("SELECT a::INTEGER AS a FROM records", *records)
    assert refusals(outcome) == [(17, "Sql.Error"), (18, "Sql.Error")]
    said = "Could not convert string 'x' to INT32 when casting from source column a; mend the query, or the records"
    assert message(outcome) == said
    assert outcome.rows.column("record").to_pylist() == [b'{"a":%d}' % n for n in range(50) if n not in (17, 18)]


@pytest.mark.parametrize(
    "query",
    [
        "SELECT a::INTEGER AS a, count(*) OVER () AS n FROM records",
        "SELECT a::INTEGER AS a FROM records ORDER BY a LIMIT 10",
        "SELECT sum(a::INTEGER) AS a, min(_row) AS _row FROM records",
        "WITH records AS (SELECT max(a::INTEGER) AS a, min(_row) AS _row FROM records) SELECT a FROM records",
        "SELECT a::INTEGER + (SELECT count(*) FROM records) AS a FROM records",
        "SELECT error('no') AS a, _row AS _ROW FROM records",
    ],
)
def test_an_error_of_records_together(query: str) -> None:
    """Where records are looked at together, an error refuses the slice: over fewer of them the query means another."""
    outcome = run(query, *(b'{"a":"%d"}' % n for n in range(5)), b'{"a":"x"}')
    assert refusals(outcome) == [(n, "Sql.Error") for n in range(6)]


def test_many_errors() -> None:
    """Where nearly all records fail, the search for them has an end."""
    records = [b'{"a":"x"}'] * 20_000
    outcome = run("SELECT a::INTEGER AS a FROM records", *records)
    assert len(refusals(outcome)) == len(records)


def test_types_that_do_not_fit_the_query() -> None:
    """Undeclared fields that a query cannot work on refuse the records with the place in the query."""
    outcome = run("SELECT epoch_ms(a) AS t FROM records", b'{"a":true}')
    assert refusals(outcome) == [(0, "Sql.Error")]
    assert "at line 1, column 8" in message(outcome)


def test_a_flood_of_results() -> None:
    """A query that makes too much of a few records refuses them."""
    outcome = run("SELECT repeat('x', 1000000) AS x, unnest(range(100)) AS n FROM records", ONE)
    assert refusals(outcome) == [(0, "Sql.Error")]
    assert "it makes more than 50331648 bytes of 1 records" in message(outcome)


def test_memory() -> None:
    """A query that wants more memory than there is refuses the slice, and the next one is answered."""
    hungry = (
        "SELECT a, (SELECT count(*) FROM (SELECT unnest(range(50000000 * a)) AS x ORDER BY hash(x))) AS n FROM records"
    )
    program = sql.program({"query": hungry, "columns": None, "memory_mib": 32})
    outcome = program(rows([b'{"a":1}']), unmarked)
    assert refusals(outcome) == [(0, "Sql.Error")]
    assert "Out of Memory" in message(outcome) or "could not allocate" in message(outcome)
    assert program(rows([b'{"a":0}']), unmarked).rows.column("record").to_pylist() == [b'{"a":0,"n":0}']


def test_a_large_record() -> None:
    """A record of 10 MiB is one like others."""
    record = b'{"a":"%s","b":1}\n' % (b"x" * (10 * 1024 * 1024 - 20))
    assert made("SELECT * FROM records", record) == [record]


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("SELEC 1", 'syntax error at or near "SELEC" at line 1, column 1'),
        ("SELECT a\nFRM records", "at line 2, column 5"),
        ("SELECT foo(a) FROM records", "Scalar Function with name foo does not exist! at line 1, column 8"),
        ("SELECT a FROM recrods", "Table with name recrods does not exist! at line 1, column 15"),
        ("SELECT 1; SELECT 2", "it must be one SELECT"),
        ("", None),
        ("-- nothing", "it must be one SELECT"),
        ("INSERT INTO records VALUES (1)", "it must be one SELECT"),
        ("COPY records TO 'x'", "it must be one SELECT"),
        ("SET threads = 8", "it must be one SELECT"),
        ("ATTACH 'x.db'", "it must be one SELECT"),
        ("DROP VIEW records", "it must be one SELECT"),
        ("SELECT * FROM read_csv('/etc/passwd')", "file system operations are disabled"),
        ("SELECT * FROM '/etc/passwd'", "does not exist"),
        ("SELECT count(*) FROM records", WAY_OUT),
        ("SELECT a, count(*) FROM records GROUP BY a", WAY_OUT),
        ("SELECT a, count(*) FROM records GROUP BY ALL", WAY_OUT),
        ("SELECT a FROM records HAVING a > 1", "must appear in the GROUP BY clause"),
        ("SELECT a FROM records UNION ALL SELECT a FROM records", WAY_OUT),
        ("SELECT r.a FROM records r JOIN records s USING (a)", WAY_OUT),
        ("SELECT 1", WAY_OUT),
        ("VALUES (1)", WAY_OUT),
        ("SELECT a FROM records USING SAMPLE 10%", WAY_OUT),
        ("SELECT DISTINCT a FROM records", "DISTINCT merges rows"),
        ("SELECT DISTINCT * FROM records", "DISTINCT merges rows"),
        ("SELECT a, 'x' AS _row FROM records", "_row must be the number of a record, and is of type VARCHAR"),
        ("SELECT ? FROM records", "parameter"),
    ],
)
def test_invalid_query(query: str, said: str | None) -> None:
    """A query that cannot be run, or whose rows would come from nowhere, is refused when the file is read, with its
    line and column or the way out.
    """
    if said is not None:
        assert said in complaint(query)
        return
    with pytest.raises(ValidationError, match="at least 1 character"):
        SqlOptions(type="sql", query=query)


def test_invalid_query_over_declared_columns() -> None:
    """Where the columns are declared, a wrong name or type is found when the file is read."""
    columns = {"a": "BIGINT", "t": "TIMESTAMP"}
    assert complaint("SELECT aa FROM records", columns).startswith('Referenced column "aa" not found')
    assert complaint("SELECT\n  a, upper(t - a) FROM records", columns).endswith("at line 2, column 14")
    assert WAY_OUT in complaint("SELECT sum(a) FROM records", columns)


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ({"a": "FOO"}, "'FOO' is no type that DuckDB reads from JSON; give one such as"),
        ({"a": "BIGINT); DROP TABLE x"}, "is no type"),
        ({"a": ""}, "is no type"),
        ({"a": "BIGINT", "A": "BIGINT"}, "the name 'A' is taken"),
        ({"_row": "BIGINT"}, "the name '_row' is taken"),
        ({"a\0": "BIGINT"}, "a name holds a NUL character"),
        ({"": "BIGINT"}, "at least 1 character"),
        ({}, "at least 1 item"),
    ],
)
def test_invalid_columns(columns: dict[str, str], said: str) -> None:
    """Columns that cannot be are complained of at their own place, and no more is said of the query."""
    with pytest.raises(ValidationError) as error:
        SqlOptions(type="sql", query="SELECT aa FROM records", columns=columns)
    (detail,) = error.value.errors()
    assert detail["loc"][0] == "columns"
    assert said in str(detail["msg"])


@pytest.mark.parametrize(
    "statement",
    [
        "SET threads = 8",
        "SET lock_configuration = false",
        "SET memory_limit = '10GB'",
        "SELECT * FROM read_text('/etc/hostname')",
        "SELECT * FROM glob('/*')",
        "COPY (SELECT 1) TO '/tmp/leak.csv'",
        "ATTACH '/tmp/leak.db'",
        "INSTALL httpfs",
        "LOAD httpfs",
        "SELECT getenv('PATH')",
        "SELECT * FROM sniff_csv('/etc/passwd')",
    ],
)
def test_the_engine_is_shut(statement: str) -> None:
    """No statement reaches files, network, extensions, the environment, or the engine's own bounds."""
    shut = engine.opened(64)
    with pytest.raises(duckdb.Error):
        engine.run(shut, statement)


def test_variables_are_no_tables() -> None:
    """A query cannot name a Python variable as its table."""
    shut, treasure = engine.opened(64), pa.table({"x": [1]})
    assert treasure.num_rows == 1
    with pytest.raises(duckdb.CatalogException):
        engine.run(shut, "SELECT * FROM treasure")


def test_slices_know_nothing_of_each_other() -> None:
    """One worker's slices have their own columns and records each, whatever became of the last."""
    program = sql.program({"query": "SELECT * FROM records", "columns": None, "memory_mib": 64})
    for records in ([b'{"a":1}'], [b'{"b":"x"}', b'{"b":"y"}'], [b"bad"], [], [b'{"a":"z"}']):
        outcome = program(rows(records), unmarked)
        assert outcome.rows.column("record").to_pylist() == [record for record in records if record != b"bad"]
