"""Whatever an agent posts becomes its records, and no byte of it vanishes (ingest-clients.md sections 3 and 4.1)."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from firehose.ingest import splitting
from firehose.ingest.salvage import MALFORMED_BODY, MALFORMED_RECORD, MAX_BROKEN_VALUES
from firehose.ingest.splitting import RECORD_TOO_LARGE, Split, SplitOptions, split
from firehose.model import INTAKE_SCHEMA

PLAIN = SplitOptions()
BLANKS = b" \t\r\n\0"


def taken(body: bytes, content_type: str = "application/json", options: SplitOptions = PLAIN) -> list[bytes]:
    """The records of a body of which nothing is refused."""
    result = split(body, content_type, options)
    assert result.rejected == 0, refusals(result)
    assert result.records.schema.names == ["record"]
    return accepted(result)


def rows(result: Split) -> list[tuple[bytes, str | None]]:
    """Each row with its reason, once the result has proved to be consistent in itself."""
    result.records.validate(full=True)
    assert result.accepted + result.rejected == result.records.num_rows
    assert all(field == INTAKE_SCHEMA.field(field.name) for field in result.records.schema)
    assert ("refused" in result.records.schema.names) == (result.rejected > 0)
    listed = [(row["record"], row.get("refused")) for row in result.records.to_pylist()]
    assert sum(reason is not None for _, reason in listed) == result.rejected
    return listed


def accepted(result: Split) -> list[bytes]:
    return [record for record, reason in rows(result) if reason is None]


def refusals(result: Split) -> list[tuple[bytes, str]]:
    """Each refused row with the code alone."""
    return [(record, reason.partition(": ")[0]) for record, reason in rows(result) if reason is not None]


A, B, C = b'{"a":1}', b'{"b":{"c":[1.50,"x"]}}', b'{"d":"\\u00e9 \xc3\xa9"}'
LINES = [A + b"\n", B + b"\n", C + b"\n"]
TELEGRAF = b'{"metrics":[{"fields":{"v":1},"name":"cpu","tags":{},"timestamp":1458229140}]}'
EVENT = b'{"specversion":"1.0","type":"t","source":"/s","id":"1","data":{"a":1}}'

AGENTS: dict[str, tuple[str, bytes, list[bytes]]] = {
    "fluent bit json": ("application/json", b"[" + b",".join([A, B, C]) + b"]", LINES),
    "fluent bit json, one record": ("application/json", b"[" + A + b"]", LINES[:1]),
    "fluent bit json_stream": ("application/json", A + B + C, LINES),
    "fluent bit json_lines": ("application/x-ndjson", b"".join(LINES), LINES),
    "fluent bit gelf": ("application/json", b"".join(LINES), LINES),
    "vector json": ("application/json", b"[" + b",".join([A, B, C]) + b"]", LINES),
    "vector ndjson, no last newline": ("application/x-ndjson", b"\n".join([A, B, C]), LINES),
    "vector text": ("text/plain", b"one\ntwo", [b"one\n", b"two\n"]),
    "vector gelf": ("", A + b"\0" + B + b"\0" + C, LINES),
    "vector payload_prefix": ("application/json", b'{"data":[1,2]}', [b'{"data":[1,2]}\n']),
    "fluentd": ("application/x-ndjson", b"".join(LINES), LINES),
    "fluentd json_array": ("application/json", b"[" + b",".join([A, B, C]) + b"]", LINES),
    "fluentd csv": ("text/csv", b"1,x\n2,y\n", [b"1,x\n", b"2,y\n"]),
    "logstash json": ("application/json", A, LINES[:1]),
    "logstash json_batch": ("application/json", b"[" + A + b"," + B + b"]", LINES[:2]),
    "logstash form": ("application/x-www-form-urlencoded", b"a=1&b=2", [b"a=1&b=2\n"]),
    "telegraf json batch": ("text/plain; charset=utf-8", TELEGRAF + b"\n", [TELEGRAF + b"\n"]),
    "telegraf influx": (
        "text/plain; charset=utf-8",
        b"cpu v=1 17\nmem v=2 17\n",
        [b"cpu v=1 17\n", b"mem v=2 17\n"],
    ),
    "rsyslog newline": ("text/plain", b"\n".join([A, B, C]), LINES),
    "rsyslog jsonarray": ("application/json; charset=utf-8", b"[" + b",".join([A, B]) + b"]", LINES[:2]),
    "rsyslog single": ("application/json; charset=utf-8", A, LINES[:1]),
    "syslog-ng, single message": ("text/plain", b"<34>1 host app - msg", [b"<34>1 host app - msg\n"]),
    "syslog-ng batch-lines": ("", A + b"\n" + B + b"\n" + C, LINES),
    "syslog-ng array": ("application/json", b"[" + A + b",\n" + B + b"]", LINES[:2]),
    "curl -d, newlines stripped": ("application/x-www-form-urlencoded", A + B, LINES[:2]),
    "curl -d of an array": ("application/x-www-form-urlencoded", b"[" + A + b"]", LINES[:1]),
    "curl of a file with CRLF": ("application/json", A + b"\r\n" + B + b"\r\n", LINES[:2]),
    "jq output": ("application/json", b'{\n  "a": 1\n}\n{\n  "b": {}\n}\n', [A + b"\n", b'{"b":{}}\n']),
    "json.dumps with an indent": ("application/json", b'[\n  {\n    "a": 1\n  }\n]', LINES[:1]),
    "cloudevents structured": ("application/cloudevents+json; charset=utf-8", EVENT, [EVENT + b"\n"]),
    "cloudevents batch": (
        "application/cloudevents-batch+json",
        b"[" + EVENT + b", " + EVENT + b"]",
        [EVENT + b"\n"] * 2,
    ),
    "a byte order mark": ("application/json", b"\xef\xbb\xbf" + A + b"\n" + B, LINES[:2]),
    "dmesg lines": ("text/plain", b"[    0.1] Linux\n[12] x\n", [b"[    0.1] Linux\n", b"[12] x\n"]),
}


@pytest.mark.parametrize(("content_type", "body", "records"), AGENTS.values(), ids=list(AGENTS))
def test_what_agents_send(content_type: str, body: bytes, records: list[bytes]) -> None:
    """Each agent's body becomes one record for each event, with the bytes that the agent wrote."""
    assert taken(body, content_type) == records


@pytest.mark.parametrize("content_type", ["", "text/plain", "application/json", "x/y", "application/x-ndjson"])
@pytest.mark.parametrize("body", [A + B, b"[" + A + b"," + B + b"]", A + b"\n" + B], ids=["run", "array", "lines"])
def test_the_content_type_is_not_believed(content_type: str, body: bytes) -> None:
    """The body alone says what it holds."""
    assert taken(body, content_type) == LINES[:2]


@pytest.mark.parametrize("body", [b"", b"\n", b" \r\n\t \0\n", b"\xef\xbb\xbf", b"[]", b" [ ] \n[]"])
@pytest.mark.parametrize("content_type", ["application/json", "application/cloudevents+json"])
def test_nothing_sent_is_no_row(body: bytes, content_type: str) -> None:
    """A blank body, or an empty array, is no record and no error."""
    assert taken(body, content_type) == []


# The stored bytes.

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)
OBJECTS = st.dictionaries(st.text(max_size=6), VALUES, max_size=4)
LAYOUTS: list[dict[str, Any]] = [
    {},
    {"separators": (",", ":")},
    {"indent": 2},
    {"indent": 0},
    {"ensure_ascii": False},
]


def dumped(value: Any, layout: dict[str, Any]) -> bytes:
    return json.dumps(value, **layout).encode("utf-8", "replace")


@given(
    objects=st.lists(OBJECTS, min_size=1, max_size=5),
    layout=st.sampled_from(LAYOUTS),
    between=st.sampled_from(["", " ", "\n", "\r\n", "\n\n", " \n\t", "\0"]),
    end=st.sampled_from(["", "\n", "\r\n", "\n \n"]),
)
def test_objects_in_a_row(objects: list[Any], layout: dict[str, Any], between: str, end: str) -> None:
    """Objects back to back, however laid out and separated, are one record each, in order, on one line each."""
    body = between.encode().join(dumped(value, layout) for value in objects) + end.encode()
    records = taken(body)
    assert [json.loads(record) for record in records] == [json.loads(dumped(v, layout)) for v in objects]
    assert all(record.count(b"\n") == 1 and record.endswith(b"\n") for record in records)


@given(values=st.lists(VALUES, max_size=5), layout=st.sampled_from(LAYOUTS))
def test_elements_of_an_array(values: list[Any], layout: dict[str, Any]) -> None:
    """Each element of an array is a record, whatever kind of value it is."""
    records = taken(dumped(values, layout))
    assert [json.loads(record) for record in records] == json.loads(dumped(values, layout))
    assert all(record.count(b"\n") == 1 and record.endswith(b"\n") for record in records)


ODD = b'{"n": 1.0E+05, "big": 123456789012345678901234567890, "n": -0, "s": "\\u00E9\\/ } {\xff", "e": [ ]}'


@pytest.mark.parametrize(
    "body", [ODD, A + ODD, b"[" + ODD + b"]", ODD + b"\n" + A], ids=["alone", "run", "array", "line"]
)
def test_the_senders_spelling_is_kept(body: bytes) -> None:
    """Numbers, escapes, order, duplicate keys, blanks and bytes that are not UTF-8 stay as they were."""
    assert ODD + b"\n" in taken(body)


def test_a_value_over_several_lines_loses_its_blanks_only() -> None:
    """What is put on one line keeps its spelling, its order, its duplicate keys and the blanks in its strings."""
    body = b'{"n":\t1.0E+05,\r\n "n" : [ -0,\n"\\u00E9  \xff" ] }'
    assert taken(body) == [b'{"n":1.0E+05,"n":[-0,"\\u00E9  \xff"]}\n']


@pytest.mark.parametrize(
    "value", [b'{"a":NaN,\n"b":-Infinity}', b'{"a":\n"\\ud800"}', b'{"a":\n' + b"9" * 5000 + b',"b":NaN}']
)
def test_what_python_senders_write_is_taken(value: bytes) -> None:
    """NaN, lone surrogates and endless numbers are no reason to refuse an object, on one line or on several."""
    one_line = value.replace(b"\n", b"") + b"\n"
    assert taken(value) == [one_line]
    assert taken(b"[" + value + b"," + A + b"]") == [one_line, LINES[0]]


@pytest.mark.parametrize("body", [b'{"a":"} {"}\n{"b":1}\n', b'{"a":"}{"}', b'{"b":2}\n{"a":"x}\\" {"}'])
def test_brackets_in_strings_end_nothing(body: bytes) -> None:
    """A line that only looks like two objects is decoded and stays one."""
    assert taken(body) == [line + b"\n" for line in body.splitlines()]


def test_an_array_of_what_only_python_writes_is_an_array() -> None:
    """An array without objects is one, too, where only NaN keeps it from being JSON."""
    assert taken(b"[\n  NaN,\n  -Infinity\n]") == [b"NaN\n", b"-Infinity\n"]


def test_blank_lines_are_skipped() -> None:
    """Blank lines are no records, and the lines around them stay NDJSON that is not parsed."""
    broken = b'{"a" 1}'
    assert taken(b"\n\n" + broken + b"\n \n\r\n\t\n" + A + b"\n\n") == [broken + b"\n", LINES[0]]
    assert taken(b"one\n\n \ntwo\n\0\n") == [b"one\n", b"two\n"]


def test_bodies_are_never_deduplicated() -> None:
    """Equal records are as many records."""
    assert taken(A * 3) == taken((A + b"\n") * 3) == LINES[:1] * 3


@pytest.mark.parametrize(
    ("delimiter", "body", "records"),
    [
        (b"", A + b"\r\n" + B, [A, B]),
        (b"", A + B, [A, B]),
        (b"", A, [A]),
        (b"\r\n", A + b"\r\n" + B + b"\n", [A + b"\r\n", B + b"\r\n"]),
        (b"|", b"x|\ny\n", [b"x|", b"y|"]),
        (b"}", A, [A]),
        (b"}", A + b"\n" + B, [A, B]),
        (b"||", A, [A + b"||"]),
    ],
)
def test_the_delimiter_ends_each_record_once(delimiter: bytes, body: bytes, records: list[bytes]) -> None:
    """The stream's own delimiter is appended where a record does not end with it already; an empty one never."""
    assert taken(body, options=SplitOptions(delimiter=delimiter)) == records


# Plain lines.


def test_plain_lines_are_stored_as_they_are() -> None:
    """Lines keep their blanks and their bytes; one carriage return before the newline belongs to the line's end."""
    assert taken(b"  one \r\n\ttwo\r\r\n\xff\xfe\r") == [b"  one \n", b"\ttwo\r\n", b"\xff\xfe\n"]


@pytest.mark.parametrize("line", [b"17", b"-1.5e3", b"true", b"null", b'"text"', b"[main] started", b"[1, 2", b"}{"])
def test_what_is_no_container_is_a_line(line: bytes) -> None:
    """Scalars, and text that happens to start like an array, are lines."""
    assert taken(line) == [line + b"\n"]


@given(
    text=st.lists(st.binary(min_size=1, max_size=12).map(lambda line: b"x" + line.translate(None, b"\r\n")), max_size=6)
)
def test_wrapped_lines_hold_the_line(text: list[bytes]) -> None:
    """With `wrap` each line is the message of an object; bytes that are not UTF-8 are replaced."""
    records = taken(b"\n".join(text), options=SplitOptions(wrap="message", validate=True))
    assert [json.loads(record) for record in records] == [{"message": line.decode("utf-8", "replace")} for line in text]


def test_only_plain_lines_are_wrapped() -> None:
    """Objects and elements of arrays are records already."""
    options = SplitOptions(wrap="message")
    assert taken(A + b"\n" + B, options=options) == LINES[:2]
    assert taken(b'["x"]', options=options) == [b'"x"\n']


# What is broken.


def test_a_line_broken_inside_is_a_record() -> None:
    """NDJSON is not parsed: a line that starts and ends like an object is stored, whatever it holds."""
    body = A + b'\n{"a":,,"\xff}\n' + B
    assert taken(body) == [A + b"\n", b'{"a":,,"\xff}\n', B + b"\n"]


def test_validation_refuses_that_line_alone() -> None:
    """With `validate` the broken lines are refused, each by itself, and the others are taken."""
    body = A + b'\n{"a":,,}\n' + B + b'\n{"a":"\xff"}\n{"a":"\\ud800"}\n' + C
    result = split(body, "", SplitOptions(validate=True))
    assert accepted(result) == LINES
    broken = [b'{"a":,,}', b'{"a":"\xff"}', b'{"a":"\\ud800"}']
    assert refusals(result) == [(line, MALFORMED_RECORD) for line in broken]


@pytest.mark.parametrize("body", [b'{"a":NaN}', b'{"a":NaN}' + A, b'[{"a":NaN}]', b"text", b'{"a":1}, {"b":2}'])
def test_validation_reaches_every_kind_of_body(body: bytes) -> None:
    """With `validate` nothing that is not JSON is taken, however it was cut."""
    result = split(body, "", SplitOptions(validate=True))
    assert [code for _, code in refusals(result)] == [MALFORMED_RECORD]


def test_good_values_before_the_damage_are_records() -> None:
    """The rest of a body that stops being JSON is one refused row that says where."""
    result = split(A + B + b' {"c": 1, oops}} and\n more', "", PLAIN)
    assert rows(result)[:2] == [(A + b"\n", None), (B + b"\n", None)]
    rest, reason = rows(result)[2]
    assert rest == b'{"c": 1, oops}} and\n more'
    assert reason is not None
    assert reason.startswith(f"{MALFORMED_BODY}: ")
    assert "at byte 9" in reason
    assert result.rejected == 1


def test_decoding_resumes_at_the_next_line_that_starts_an_object() -> None:
    """One bad line of many costs that line and no other."""
    good = [b'{"n":%d}' % number for number in range(10)]
    body = b"\n".join([*good[:3], b'{"n":3} oops', b'{"n":', *good[5:], b""])
    result = split(body, "", PLAIN)
    assert accepted(result) == [line + b"\n" for line in [*good[:3], b'{"n":3}', *good[5:]]]
    assert refusals(result) == [(b"oops", MALFORMED_RECORD), (b'{"n":', MALFORMED_RECORD)]


def test_pretty_printed_objects_behind_a_broken_one_are_records() -> None:
    """The lines inside an object are indented, so decoding resumes at objects only."""
    result = split(b'{\n  "a": oops\n}\n{\n  "b": {\n    "c": 1\n  }\n}\n', "", PLAIN)
    assert rows(result)[1] == (b'{"b":{"c":1}}\n', None)
    assert refusals(result) == [(b'{\n  "a": oops\n}', MALFORMED_RECORD)]


def test_text_among_objects_is_not_shredded() -> None:
    """Numbers in a line of text are not values: the line is refused whole."""
    result = split(A + b"\n2024-01-02 17 started\n" + B + b'\n"x" 1', "", PLAIN)
    assert accepted(result) == LINES[:2]
    assert refusals(result) == [(b"2024-01-02 17 started", MALFORMED_RECORD), (b'"x" 1', MALFORMED_BODY)]
    assert refusals(split(A + b"17-3", "", PLAIN)) == [(b"17-3", MALFORMED_BODY)]


@pytest.mark.parametrize(
    ("body", "rest"),
    [
        (b"[" + A + b"," + B + b',{"c"', b'{"c"'),
        (b"[" + A + b"," + B + b",oops," + C + b"]", b"oops," + C + b"]"),
        (b"[" + A + b"," + B + b" " + C + b"]", C + b"]"),
        (b"[" + A + b"," + B + b",", b"["),
        (b"[" + A + b"," + B, b"["),
        (b"[" + A + b"," + B + b"] oops", b"oops"),
        (b"[" + A + b"] [" + B + b",oops]", b"oops]"),
        (b"[" + A + b"]" + B + b",", b","),
    ],
)
def test_a_broken_array_gives_its_good_elements(body: bytes, rest: bytes) -> None:
    """Elements before the damage are records, the rest is one row; a bracket stands for an array never closed."""
    result = split(body, "application/json", PLAIN)
    assert accepted(result) == LINES[:2]
    assert refusals(result) == [(rest, MALFORMED_BODY)]


def test_events_in_a_binary_format_are_not_lines() -> None:
    """CloudEvents that are not JSON are refused whole instead of being cut at newlines."""
    body = b"\x0a\x01x\nprotobuf"
    result = split(body, "Application/CloudEvents+protobuf", PLAIN)
    assert refusals(result) == [(body.strip(BLANKS), MALFORMED_BODY)]


# What is hostile.


@pytest.mark.parametrize(
    "body", [b"%s\n" + A, A + b"\n%s", b"[" + A + b",%s]", A + b"%s"], ids=["first", "last", "array", "run"]
)
def test_a_record_past_the_limit_is_refused_whole(body: bytes) -> None:
    """A record of 10 MB is one refused row with all its bytes; its neighbours are taken."""
    large = b'{"a":"' + b"x" * 10_000_000 + b'"}'
    result = split(body.replace(b"%s", large), "", PLAIN)
    assert accepted(result) == LINES[:1]
    assert refusals(result) == [(large, RECORD_TOO_LARGE)]


@pytest.mark.parametrize("body", [A, b"\n" + A + b"\n", b"[" + A + b"]", A + A, b"x" * len(A), b'{"a"\n:1}'])
def test_the_limit_counts_the_record_alone(body: bytes) -> None:
    """A record of exactly the limit is taken: neither its newline nor our delimiter counts."""
    assert set(map(len, taken(body, options=SplitOptions(max_record_bytes=len(A))))) == {len(A) + 1}
    result = split(body, "", SplitOptions(max_record_bytes=len(A) - 1))
    assert result.accepted == 0
    assert {code for _, code in refusals(result)} == {RECORD_TOO_LARGE}


def test_a_wrapped_line_past_the_limit_is_kept_as_it_was_sent() -> None:
    """The limit holds for what is stored, and the refused row holds what was sent."""
    result = split(b"ok\nlonger\n", "", SplitOptions(wrap="message", max_record_bytes=len(b'{"message":"ok"}')))
    assert rows(result)[0] == (b'{"message":"ok"}\n', None)
    assert refusals(result) == [(b"longer", RECORD_TOO_LARGE)]


DEEP = 200_000


@pytest.mark.parametrize(
    "body",
    [
        b"[" * 10_000,
        b"[" * DEEP + b"]" * DEEP,
        b'[{"a":' + b"[" * DEEP + b"]" * DEEP + b"}]",
        b'{"a":' * DEEP + b"1\n" + b"}" * DEEP,
        b'{"a":\n' * DEEP,
    ],
    ids=["open", "array", "inside", "object", "lines"],
)
@pytest.mark.parametrize("validate", [False, True])
def test_deep_nesting_is_refused(body: bytes, validate: bool) -> None:
    """Brackets without end exhaust no stack: nothing is taken and every byte is kept."""
    result = split(body, "", SplitOptions(validate=validate, max_record_bytes=len(body)))
    assert result.accepted == 0
    assert b"".join(row for row, _ in rows(result)).translate(None, b"[{\n") == body.translate(None, b"[{\n")


def test_broken_values_are_bounded() -> None:
    """Past a fixed number of broken values the rest of the body is one row, and nothing of it is lost."""
    body = b"{x\n" * (MAX_BROKEN_VALUES + 50)
    result = split(body, "", PLAIN)
    assert result.rejected == MAX_BROKEN_VALUES + 1
    assert rows(result)[-1][0] == (b"{x\n" * 50).strip()


SCRAPS = st.sampled_from(
    [
        A,
        B,
        C,
        b"{",
        b"}",
        b"[",
        b"]",
        b",",
        b'"',
        b"\\",
        b"\n",
        b"\r\n",
        b"\r",
        b" ",
        b"\0",
        b"\xff",
        b"1",
        b"x",
        b":",
        b"\n{",
        b"}\n",
    ]
)


@given(
    body=st.lists(SCRAPS, max_size=14).map(b"".join) | st.binary(max_size=40),
    head=st.sampled_from([b"", b"{", b"[", b"[{", A, b"[" + A]),
    options=st.builds(
        SplitOptions,
        delimiter=st.just(b""),
        validate=st.booleans(),
        max_record_bytes=st.sampled_from([4, 1_024_000]),
    ),
)
def test_no_byte_vanishes(body: bytes, head: bytes, options: SplitOptions) -> None:
    """Whatever the body is, its rows hold all its bytes that are no blanks, in order, and no others."""
    body = head + body
    joined = b"".join(row for row, _ in rows(split(body, "", options)))
    is_array = body.strip(BLANKS).startswith(b"[")
    ignored = BLANKS + b"[]," if is_array else BLANKS  # an array's own punctuation is in no record
    expected = body.removeprefix(b"\xef\xbb\xbf").translate(None, ignored)
    assert joined.translate(None, ignored) == expected


@given(body=st.lists(SCRAPS, max_size=14).map(b"".join), head=st.sampled_from([b"{", b"[{", A]))
def test_taken_records_are_lines(body: bytes, head: bytes) -> None:
    """A record that came out of a JSON body is never torn by a newline of its own."""
    for record, reason in rows(split(head + body, "", PLAIN)):
        assert reason or record.index(b"\n") == len(record) - 1


@given(
    body=st.lists(SCRAPS, max_size=14).map(b"".join),
    head=st.sampled_from([b"{", b"[{", A, b"[" + A]),
    wrap=st.sampled_from(["none", "message"]),
)
def test_validated_records_are_json(body: bytes, head: bytes, wrap: Any) -> None:
    """With `validate`, whatever is taken parses."""
    for record in accepted(split(head + body, "", SplitOptions(validate=True, wrap=wrap))):
        json.loads(record)


@pytest.mark.parametrize("count", [1, 2, 3, 6, 7])
def test_many_values(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """More values than are joined at once come out the same, also where one of them spans lines."""
    monkeypatch.setattr(splitting, "JOINED_VALUES", 3)
    values = [b'{"n":%d}' % number for number in range(count)]
    spread = [values[0].replace(b":", b":\n"), *values[1:]]
    lines = [value + b"\n" for value in values]
    assert taken(b"[" + b",".join(values) + b"]") == lines
    assert taken(b"".join(spread)) == lines
    wrapped = SplitOptions(wrap="message")
    assert taken(b"x\n" * count, options=wrapped) == [b'{"message":"x"}\n'] * count
    assert taken(b"", options=wrapped) == []
