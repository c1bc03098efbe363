"""jq queries over records: what becomes of each, number for number, and what is said of a query that is none."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pytest
from batches import rows
from pydantic import ValidationError

from firehose.hooks import wire
from firehose.model import Outcome
from transforms import jq
from transforms.jq import JqOptions


def run(query: str, *records: bytes, raw: bool = False) -> Outcome:
    marks: list[int] = []
    outcome = jq.program({"query": query, "raw": raw})(rows(records), marks.append)
    assert marks == [*range(len(records)), wire.NOWHERE]
    return outcome


def made(query: str, *records: bytes, raw: bool = False) -> list[bytes]:
    outcome = run(query, *records, raw=raw)
    assert outcome.refused.table.to_pylist() == []
    return list(outcome.rows.column("record").to_pylist())


def why(query: str, record: bytes) -> tuple[str, str]:
    """Code and message of the one record's refusal."""
    outcome = run(query, record)
    assert (outcome.rows.num_rows, len(outcome.dropped)) == (0, 0)
    (said,) = outcome.refused.table.to_pylist()
    assert (said["record"], said["error_type"], said["attempts"]) == (record, "processing-failed", 1)
    return said["code"], said["message"]


def complaint(query: str) -> str:
    with pytest.raises(ValidationError) as error:
        JqOptions(type="jq", query=query)
    (detail,) = error.value.errors()
    assert detail["loc"] == ("query",)
    return str(detail["msg"]).removeprefix("Value error, ")


@pytest.mark.parametrize(
    ("query", "record", "outputs"),
    [
        (".", b'{"a": 1,\t"b": [1, 2]}', [b'{"a":1,"b":[1,2]}']),
        (".", b'{"b":1,"a":2}', [b'{"b":1,"a":2}']),
        (".", b'{"a":1,"a":2}', [b'{"a":2}']),
        (".a", b'{"a":"x"}', [b'"x"']),
        (".a", b"{}", [b"null"]),
        ("del(.a) | .c = 3", b'{"a":1,"b":2}', [b'{"b":2,"c":3}']),
        (".[]", b"[1,[2],null]", [b"1", b"[2]", b"null"]),
        (".a[] as $x | {x: $x, b}", b'{"a":[1,2],"b":0}', [b'{"x":1,"b":0}', b'{"x":2,"b":0}']),
        ("empty", b"1", []),
        ('select(.level == "error")', b'{"level":"info"}', []),
        ('select(.level == "error")', b'{"level":"error"}', [b'{"level":"error"}']),
        (".a?", b"[1]", []),
        (".a? // 0", b"[1]", [b"0"]),
        ('try error("x") catch .', b"1", [b'"x"']),
        ("1, halt", b"2", [b"1"]),
        (". # a comment at the end", b"1", [b"1"]),
        ("def f: . + 1; f | f", b"1", [b"3"]),
        (".a | @base64", b'{"a":"x"}', [b'"eA=="']),
        (".", '"é\u2028😀"'.encode(), ['"é\u2028😀"'.encode()]),
        (".", b'"\\u00e9\\ud83d\\ude00\\u0000"', ['"é😀\\u0000"'.encode()]),
        ("{} as $ENV | $ENV", b"1", [b"{}"]),
        ("input_filename", b"1", [b"null"]),
        ("ltrimstr(1)?", b"1", []),
    ],
)
def test_outputs(query: str, record: bytes, outputs: list[bytes]) -> None:
    """A record is replaced by what the query yields, as compact JSON; by nothing where it yields nothing."""
    assert made(query, record) == outputs


@pytest.mark.parametrize(
    "number",
    [
        "12345678901234567890123",
        "9007199254740993",
        "-9007199254740993",
        "1.10",
        "0.1234567890123456789",
        "1.000",
        "-0",
    ],
)
def test_digits_of_numbers_that_pass_through(number: str) -> None:
    """A number that the query hands on keeps its digits, wherever it stands."""
    assert made(".", number.encode()) == [number.encode()]
    assert made(".a[0]", b'{"a":[%s]}' % number.encode()) == [number.encode()]
    assert made(".b = 1", b'{"a":%s}' % number.encode()) == [b'{"a":%s,"b":1}' % number.encode()]


@pytest.mark.parametrize(
    ("query", "number", "output"),
    [
        (".", b"1E5", b"1E+5"),
        (". + 0", b"9007199254740993", b"9007199254740992"),
        (". + 0", b"1.10", b"1.1"),
        (". * 1", b"12345678901234567890123", b"12345678901234568000000"),
        ("nan", b"1", b"null"),
        ("infinite", b"1", b"1.7976931348623157e+308"),
        (". == 9007199254740992", b"9007199254740993", b"false"),
    ],
)
def test_digits_of_numbers_that_are_worked_on(query: str, number: bytes, output: bytes) -> None:
    """Arithmetic is that of 64-bit floats, exponents are written jq's way, and the output is always JSON."""
    assert made(query, number) == [output]
    json.loads(output)


@pytest.mark.parametrize("newline", [b"", b"\n", b"\r\n"])
def test_newline(newline: bytes) -> None:
    """Each output ends with the newline that its record ended with."""
    assert made(".[]", b"[1,2]" + newline) == [b"1" + newline, b"2" + newline]


@pytest.mark.parametrize(
    ("record", "output"),
    [(b'"a b"', b"a b"), (b'"a\\u0000b"', b"a\0b"), (b'""', b""), (b'{"a":"x"}', b'{"a":"x"}'), (b"1.10", b"1.10")],
)
def test_raw(record: bytes, output: bytes) -> None:
    """With `raw`, a string is delivered as its own bytes; everything else stays JSON."""
    assert made(".", record + b"\n", raw=True) == [output + b"\n"]


@pytest.mark.parametrize(
    "record",
    [
        b"", b"\n", b"x", b"{'a':1}", b'{"a":1,}', b"1 2", b"1\n2\n", b'{"a":1}{"b":2}', b"[1", b"NaN", b"01", b".5",
        b'"\xff"', b'{"a":"\xc3"}', b'"\\ud800"', b"1\0", b"\xef\xbb\xbf1", b"[" * 20_000, b"[" * 5000 + b"]" * 5000,
    ],
)  # fmt: skip
def test_not_json(record: bytes) -> None:
    """What is not one JSON value, strictly, is refused and never shown to the query."""
    code, message = why("1", record)
    assert code == "Jq.NotJson"
    assert "JSON" in message or "parse error" in message


@pytest.mark.parametrize(
    ("query", "record", "said"),
    [
        (".a", b"[1]", 'Cannot index array with string ("a")'),
        ('error("no such thing")', b"1", "no such thing"),
        ("error({a: 1})", b"1", '{"a": 1}'),
        ("error(null)", b"1", "null"),
        ('error("")', b"1", "an error without words"),
        ('1, error("late")', b"1", "late"),
        ("input", b"1", "break"),
        ("input_line_number", b"1", "Unknown input line number"),
        ('"stop" | halt_error', b"1", "stop"),
        ('"stop" | halt_error(1)', b"1", "stop"),
        ("fromjson", b'"{"', "Unfinished JSON term"),
        ("reduce range(10500) as $n (0; [.])", b"1", "deeper than jq prints"),
        ('"x" * 1000000 | range(100) as $n | .', b"1", "more than 16777216 bytes of this record"),
    ],
)
def test_errors(query: str, record: bytes, said: str) -> None:
    """An error refuses the record, in jq's own words and with the way out; outputs before it are not delivered."""
    code, message = why(query, record)
    assert code == "Jq.Error"
    assert said in message
    assert message.endswith("; mend the query, or catch it with try")
    assert len(message) < 1100


def test_a_value_that_looks_too_deep() -> None:
    """Text that jq would print for a value nested too deep is a value like others."""
    assert made(".", b'"<skipped: too deep>"') == [b'"<skipped: too deep>"']


def test_company() -> None:
    """Records end each in its own way, in order, and keep their ordinals, arrival and other columns."""
    given = rows([b"[1]\n", b"x", b"[]", b"[2,3]\n", b"{}", b"[4]"])
    given = given.append_column("meta", pa.array([f'{{"n":{n}}}' for n in range(6)]))
    outcome = jq.program({"query": 'map(if . == 4 then error("four") else . end) | .[]', "raw": False})(
        given.slice(1), lambda index: None
    )
    assert outcome.rows.select(["record", "row", "part", "meta"]).to_pylist() == [
        {"record": b"2\n", "row": 3, "part": 0, "meta": '{"n":3}'},
        {"record": b"3\n", "row": 3, "part": 1, "meta": '{"n":3}'},
    ]
    assert outcome.rows.column("arrival_ms").to_pylist() == given.column("arrival_ms").to_pylist()[3:5]
    codes = outcome.refused.table.select(["row", "code"]).to_pylist()
    assert codes == [{"row": 1, "code": "Jq.NotJson"}, {"row": 5, "code": "Jq.Error"}]
    assert outcome.dropped.to_pylist() == [2, 4]


def test_parts_of_a_split_record() -> None:
    """Parts that an earlier transform made go through the query one by one, and are numbered anew."""
    given = rows([b"[1,2]", b"[3]", b"[]"])
    given = given.set_column(1, given.schema.field("row"), pa.array([7, 7, 7], pa.int32()))
    given = given.set_column(2, given.schema.field("part"), pa.array([0, 1, 2], pa.int32()))
    outcome = jq.program({"query": ".[]", "raw": False})(given, lambda index: None)
    assert outcome.rows.select(["record", "row", "part"]).to_pylist() == [
        {"record": b"%d" % (part + 1), "row": 7, "part": part} for part in range(3)
    ]
    assert outcome.dropped.to_pylist() == [7]


def test_no_record_leaves_a_trace() -> None:
    """A query that stopped, failed or met no JSON treats the next record as if it were the first."""
    query = 'if . == 1 then halt elif . == 2 then error("two") else . end'
    outcome = run(query, b"3", b"1", b"3", b"2", b"3", b"x", b"3")
    assert outcome.rows.column("row").to_pylist() == [0, 2, 4, 6]
    assert outcome.rows.column("record").to_pylist() == [b"3"] * 4


@pytest.mark.parametrize(
    ("query", "said"),
    [
        (".a |", "syntax error, unexpected end of file at line 1, column 4"),
        ("(.a", "expecting '|' or ',' or ')' at line 1, column 2"),
        ("\n\n.a | foo(1)", "foo/1 is not defined at line 3, column 6"),
        ("$nobody", "$nobody is not defined at line 1, column 1"),
        ("# nothing", 'Top-level program not given (try ".")'),
        ('import "a" as a; 1', "module not found: a"),
        ('import "/etc/passwd" as $a; $a', "module not found: /etc/passwd"),
        ("1) | (2", "at line 1, column 2"),
    ],
)
def test_invalid_query(query: str, said: str) -> None:
    """A query that is no jq is refused when the file is read, with its line and column."""
    assert complaint(query).startswith("invalid jq: ")
    assert said in complaint(query)
    assert "\n" not in complaint(query)


def test_query_reads_no_files(tmp_path: Path) -> None:
    """A query cannot bring in a file, even one that is there."""
    (tmp_path / "secret.json").write_text("[1]")
    query = f'import "secret" as $secret {{"search": "{tmp_path}"}}; $secret'
    assert "unexpected import" in complaint(query)


def test_query_with_a_nul() -> None:
    """A NUL, behind which jq would read no further, is complained of."""
    assert complaint("1\0 +") == "the query holds a NUL character; remove it"


def test_long_query() -> None:
    """A query has a bound."""
    assert "at most 65536" in complaint("1" + " " * 65536)


@pytest.mark.parametrize("query", ["(" * 3000 + "1" + ")" * 3000, ".a+=(" * 16 + "1" + ")" * 16, "1+" * 30_000 + "1"])
def test_winding_query_is_read(query: str) -> None:
    """A query that winds is read at once, and runs."""
    JqOptions(type="jq", query=query)
