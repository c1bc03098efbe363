"""CSV lines become JSON objects, whole or not at all, and alike in whatever company."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence

import pytest
from batches import rows
from hypothesis import given
from hypothesis import strategies as st
from put_to_work import made_of, mixed, records, refusals, refused_alone, working

from firehose import config
from firehose.contracts import Transform
from firehose.yaml_file import ConfigError
from transforms.csv_to_json import CODE, ERROR_TYPE, CsvToJson


def named(*columns: str, **keys: object) -> Transform:
    return working(CsvToJson, columns=columns, **keys)


AB = named("a", "b")
MULTILINE = b'"new\nline",z'  # in a slice with it, each record is parsed by itself

LINES = {
    "plain": (b"1,x", b'{"a":"1","b":"x"}'),
    "newline": (b"1,x\n", b'{"a":"1","b":"x"}\n'),
    "carriage return": (b"1,x\r\n", b'{"a":"1","b":"x"}\n'),
    "empty fields": (b",", b'{"a":"","b":""}'),
    "empty quotes": (b'"",""\n', b'{"a":"","b":""}\n'),
    "blanks stay": (b" 1 , x ", b'{"a":" 1 ","b":" x "}'),
    "delimiter in quotes": (b'"1,2",x', b'{"a":"1,2","b":"x"}'),
    "doubled quotes": (b'"say ""hi""",x', b'{"a":"say \\"hi\\"","b":"x"}'),
    "quotes inside": (b'5" pipe,x', b'{"a":"5\\" pipe","b":"x"}'),
    "behind quotes": (b'"a"b,x', b'{"a":"ab","b":"x"}'),
    "quote behind quotes": (b'"a"b"c,x', b'{"a":"ab\\"c","b":"x"}'),
    "blank before quotes": (b'1, "x"', b'{"a":"1","b":" \\"x\\""}'),
    "newline in quotes": (b'"1\n2",x\n', b'{"a":"1\\n2","b":"x"}\n'),
    "carriage return in quotes": (b'"1\r\n2\r3",x\n', b'{"a":"1\\r\\n2\\r3","b":"x"}\n'),
    "ends in a quoted newline": (b'1,"\n"', b'{"a":"1","b":"\\n"}'),
    "backslash": (b"C:\\x,\\", b'{"a":"C:\\\\x","b":"\\\\"}'),
    "control": (b"\x00\x1f\t,\x7f", b'{"a":"\\u0000\\u001f\\t","b":"\x7f"}'),
    "not ASCII": ("ä€😀,\u2028".encode(), '{"a":"ä€😀","b":"\u2028"}'.encode()),
    "byte order mark": (b"\xef\xbb\xbf1,x", b'{"a":"\xef\xbb\xbf1","b":"x"}'),
    "looks like a null": (b"NULL,", b'{"a":"NULL","b":""}'),
    "a hash is no comment": (b"#1,x", b'{"a":"#1","b":"x"}'),
    "large": (b"1," + b"x" * (3 << 20), b'{"a":"1","b":"' + b"x" * (3 << 20) + b'"}'),
}


@pytest.mark.parametrize(("line", "made"), LINES.values(), ids=LINES)
def test_a_line_becomes_an_object(line: bytes, made: bytes) -> None:
    """By itself, beside plain lines, and where each is parsed by itself: always the same."""
    assert made_of(AB, line) == [made]
    assert made_of(AB, b"0,y", line, b"2,z\n")[1] == made
    assert made_of(AB, line, MULTILINE)[0] == made
    json.loads(made)


BROKEN = {
    "empty": (b"", "expected 2 fields, found 1; `columns` names each field of the line, in order"),
    "newline only": (b"\n", "expected 2 fields, found 1; "),
    "carriage return alone": (b"\r", "expected 2 fields, found 1; "),
    "carriage return only": (b"\r\n", "expected 2 fields, found 1; "),
    "too few": (b"1\n", "expected 2 fields, found 1; "),
    "too many": (b"1,2,3,4", "expected 2 fields, found 4; "),
    "far too many": (b"," * 100_000, "expected 2 fields, found 100001; "),
    "never closed": (b'1,"x\n', "a quote is opened and never closed"),
    "never closed, one field": (b'"1,x', "a quote is opened and never closed"),
    "closed and doubled": (b'1,"x""\n', "a quote is opened and never closed"),
    "a quote alone": (b'1,"', "a quote is opened and never closed"),
    "two lines": (b"1,x\n2,y\n", "a line ends inside the record: one record is one line, newlines stand in quotes"),
    "two ends": (b"1,x\n\n", "a line ends inside the record: "),
    "old Mac": (b"1,x\r2,y", "a line ends inside the record: "),
    "behind quotes": (b'"1"\n,x', "a line ends inside the record: "),
    "not UTF-8, too few": (b"\xff", "'utf-8' codec can't decode byte 0xff in position 0: "),
    "not UTF-8": (b"1,\xff", "'utf-8' codec can't decode byte 0xff in position 2: invalid start byte"),
}


@pytest.mark.parametrize(("line", "says"), BROKEN.values(), ids=BROKEN)
def test_a_broken_line_is_refused(line: bytes, says: str) -> None:
    """And no other: by itself, beside plain lines, and where each is parsed by itself."""
    assert says in refused_alone(AB, line)
    made, refused = mixed(AB, [b"0,y", line, b"2,z\n", line, b"3,\n"])
    assert [row for row, _, _ in made] == [0, 2, 4]
    assert [says in message for message in refused.values()] == [True, True]
    assert list(mixed(AB, [MULTILINE, line])[1]) == [1]


def test_unclosed_quotes_that_would_fit_together_are_told_apart() -> None:
    """Two records of which one's quote seems to close the other's are both refused, never joined."""
    assert set(mixed(AB, [b'1,"x\n', b'y"\n', b"2,z\n"])[1]) == {0, 1}
    assert set(mixed(AB, [b'"a\n', b'",c\n'])[1]) == {0, 1}


def test_the_error_names_its_type() -> None:
    """Type, code and the record as it came."""
    (said,) = AB(rows([b"1\n"])).refused.table.to_pylist()
    assert (said["error_type"], said["code"], said["record"]) == (ERROR_TYPE, CODE, b"1\n")


def test_one_column() -> None:
    """A single field may be empty, so that each record is a line of it."""
    assert made_of(named("only"), b"", b"\n", b"x", b'"a\nb"') == [
        b'{"only":""}', b'{"only":""}\n', b'{"only":"x"}', b'{"only":"a\\nb"}',
    ]  # fmt: skip


def test_names_are_written_as_json() -> None:
    """Whatever stands in them."""
    assert made_of(named('say "a"', "ä\n"), b"1,2") == ['{"say \\"a\\"":"1","ä\\n":"2"}'.encode()]


def test_other_delimiters_and_quotes() -> None:
    """Also such that mean something in patterns."""
    assert made_of(named("a", "b", delimiter="\t"), b"1\t2,3") == [b'{"a":"1","b":"2,3"}']
    assert made_of(named("a", "b", delimiter="|", quote="'"), b"'1|''2'|\"x") == [b'{"a":"1|\'2","b":"\\"x"}']
    assert made_of(named("a", "b", delimiter="^", quote="]"), b"]1\n^]^2") == [b'{"a":"1\\n^","b":"2"}']
    assert made_of(named("a", "b", delimiter="\\", quote="^"), b"^1\n\\^\\2") == [b'{"a":"1\\n\\\\","b":"2"}']
    assert made_of(named("a", "b", delimiter=" "), b"1 2") == [b'{"a":"1","b":"2"}']


INFERRED = {
    b"0": b"0", b"-1": b"-1", b"12345678901234567890123": b"12345678901234567890123", b"1.50": b"1.50",
    b"1e5": b"1e5", b"-0.5E-7": b"-0.5E-7", b"true": b"true", b"false": b"false", b'"7"': b"7",
    b"007": b'"007"', b"+1": b'"+1"', b".5": b'".5"', b"1.": b'"1."', b"0x1": b'"0x1"', b"1,000"[:1] + b"_0": b'"1_0"',
    b"NaN": b'"NaN"', b"Infinity": b'"Infinity"', b"True": b'"True"', b"null": b'"null"', b"": b'""', b" 1": b'" 1"',
    b'"1\n"': b'"1\\n"', b"-": b'"-"', b"1 2": b'"1 2"', "٣".encode(): '"٣"'.encode(), b"2026-03-01": b'"2026-03-01"',
}  # fmt: skip


@pytest.mark.parametrize(("field", "value"), INFERRED.items(), ids=map(repr, INFERRED))
def test_values_are_inferred_one_by_one(field: bytes, value: bytes) -> None:
    """What is spelled as JSON spells numbers and booleans is written so, digit for digit; all else is text."""
    infer = named("a", "b", types="infer")
    assert made_of(infer, field + b",x") == [b'{"a":' + value + b',"b":"x"}']
    assert made_of(infer, b"x,1\n", field + b",1")[1] == b'{"a":' + value + b',"b":1}'


def test_null_values() -> None:
    """Fields of just that text, in quotes or not, are null; they are before numbers."""
    transform = named("a", "b", types="infer", null_values=["", "-", "0"])
    assert made_of(transform, b"-,", b'"",0', b"--,00") == [
        b'{"a":null,"b":null}', b'{"a":null,"b":null}', b'{"a":"--","b":"00"}',
    ]  # fmt: skip


def test_an_empty_slice() -> None:
    """No rows in, no rows out."""
    assert records(AB(rows([]))) == []


fields = st.text('a1",\n\r\\ é', max_size=5)


@given(st.lists(st.tuples(fields, fields), min_size=1, max_size=6), st.booleans())
def test_what_csv_writers_write_is_read(given: list[tuple[str, str]], always: bool) -> None:
    """Any fields, quoted always or where they must be, come back."""
    lines = [written(line, csv.QUOTE_ALL if always else csv.QUOTE_MINIMAL) for line in given]
    assert [tuple(json.loads(made).values()) for made in made_of(AB, *lines)] == given


def written(line: Sequence[str], quoting: int) -> bytes:
    text = io.StringIO()
    csv.writer(text, quoting=quoting, lineterminator="\r\n").writerow(line)  # type: ignore[arg-type]
    return text.getvalue().encode()


noise = st.text('a",\n\r', max_size=6).map(str.encode) | st.sampled_from([b"\xff,", b"\xef\xbb\xbf,"])


@given(st.lists(noise, max_size=5))
def test_company_changes_nothing(given: list[bytes]) -> None:
    """Whatever the records: together each becomes what it becomes alone."""
    together = AB(rows(given))
    alone = [AB(rows([record])) for record in given]
    assert records(together) == [made for one in alone for made in records(one)]
    assert list(refusals(together).values()) == [said for one in alone for said in refusals(one).values()]


@pytest.mark.parametrize(
    ("keys", "says"),
    [
        ({}, "columns: is missing; give it a value"),
        ({"columns": []}, "columns: tuple should have at least 1 item"),
        ({"columns": ["a", ""]}, "columns[1]: string should have at least 1 character"),
        ({"columns": ["a", "b", "a"]}, "columns: an object has each name once; rename one of the columns called a"),
        ({"columns": ["a"], "delimiter": ";;"}, 'delimiter: must be one ASCII character and no newline, such as ","'),
        ({"columns": ["a"], "delimiter": "ä"}, "delimiter: must be one ASCII character"),
        ({"columns": ["a"], "quote": ""}, "quote: must be one ASCII character"),
        ({"columns": ["a"], "quote": ","}, "delimiter and quote are the same character; choose two"),
        ({"columns": ["a"], "types": "guess"}, "types: input should be 'string' or 'infer'"),
        ({"columns": ["a"], "header": "record"}, "header: unknown key"),
    ],
)
def test_wrong_options_are_told(keys: dict[str, object], says: str) -> None:
    """With the key and the way out."""
    block = {"type": "csv_to_json", **keys}
    with pytest.raises(ConfigError) as refused:
        config.stream("app", {"transforms": [block], "destination": {"type": "folder", "path": "out"}})
    assert says in str(refused.value)
