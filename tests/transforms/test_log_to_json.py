"""Lines of logs become the objects that they should, and a line that is none says why."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from itertools import islice
from random import Random
from typing import Any

import pytest
from batches import NOON, rows
from hypothesis import given
from hypothesis import strategies as st

from firehose.config import parse
from firehose.model import Outcome
from firehose.sample import access_lines
from firehose.yaml_file import ConfigError
from transforms.log_to_json import LogToJson, LogToJsonOptions

COMBINED = b'1.2.3.4 - joe [10/Oct/2000:13:55:36 -0700] "GET /a?b=c HTTP/1.0" 200 2326 "http://e.org/" "Agent/1 (x; y)"'
COMMON = b'1.2.3.4 - joe [10/Oct/2000:13:55:36 -0700] "GET /a?b=c HTTP/1.0" 200 2326'
OBJECT = {
    "host": "1.2.3.4",
    "ident": None,
    "user": "joe",
    "timestamp": "2000-10-10T13:55:36-07:00",
    "method": "GET",
    "path": "/a?b=c",
    "protocol": "HTTP/1.0",
    "request": None,
    "status": 200,
    "bytes": 2326,
}
READER = {"referer": "http://e.org/", "user_agent": "Agent/1 (x; y)"}


def outcome(lines: list[bytes], **options: Any) -> Outcome:
    return LogToJson(LogToJsonOptions.model_validate(options))(rows(lines))


def made(lines: list[bytes], **options: Any) -> list[Any]:
    """What the lines become, all of which are good."""
    result = outcome(lines, **options)
    assert result.refused.table.to_pylist() == []
    return [json.loads(record) for record in result.rows.column("record").to_pylist()]


def one(line: bytes, **options: Any) -> Any:
    (said,) = made([line], **options)
    return said


def refusals(lines: list[bytes], **options: Any) -> list[tuple[int, str, str]]:
    return [
        (said["row"], said["code"], said["message"]) for said in outcome(lines, **options).refused.table.to_pylist()
    ]


def custom(pattern: str, line: bytes, **options: Any) -> Any:
    return one(line, format="custom", pattern=pattern, **options)


# Web servers


def test_combined() -> None:
    """A line of Apache's combined format has all its values, under their names, in order."""
    said = one(COMBINED, format="apache_combined")
    assert said == OBJECT | READER
    assert list(said) == [*OBJECT, *READER]


def test_common() -> None:
    """A line of Apache's common format has all but who read it."""
    assert one(COMMON, format="apache_common") == OBJECT


@pytest.mark.parametrize(("format", "line"), [("apache_common", COMBINED), ("apache_combined", COMMON)])
def test_formats_are_told_apart(format: str, line: bytes) -> None:
    """A combined line is no common one, nor the other way round: a log that changes its format is noticed."""
    assert refusals([line], format=format) == [
        (0, "Log.NotParsed", f"The line is not of format {format}; a record must be one whole line")
    ]


def test_apache_takes_both() -> None:
    """A log with both kinds of lines becomes objects of one shape."""
    nobody = dict.fromkeys(READER)
    assert made([COMBINED, COMMON], format="apache") == [OBJECT | READER, OBJECT | nobody]


def test_nginx() -> None:
    """nginx's combined format, and the one of its packages, with the forwarded address behind."""
    expected = {key: value for key, value in (OBJECT | READER).items() if key != "ident"}
    combined, main = made([COMBINED, COMBINED + b' "9.9.9.9, 8.8.8.8"'], format="nginx")
    assert combined == expected | {"forwarded_for": None}
    assert main == expected | {"forwarded_for": "9.9.9.9, 8.8.8.8"}


@pytest.mark.parametrize(
    ("written", "parts"),
    [
        (b"GET / HTTP/1.1", ("GET", "/", "HTTP/1.1", None)),
        (b"M-SEARCH * HTTP/1.1", ("M-SEARCH", "*", "HTTP/1.1", None)),
        (b"GET /a b HTTP/1.1", ("GET", "/a b", "HTTP/1.1", None)),
        (b"PRI * HTTP/2.0", ("PRI", "*", "HTTP/2.0", None)),
        (rb"GET /\"x\" HTTP/1.1", ("GET", '/"x"', "HTTP/1.1", None)),
        (rb"GET /\x22x HTTP/1.1", ("GET", '/"x', "HTTP/1.1", None)),
        (b"GET /", (None, None, None, "GET /")),
        (b"-", (None, None, None, None)),
        (b"", (None, None, None, None)),
        (rb"\x16\x03\x01", (None, None, None, "\x16\x03\x01")),
        (rb"\x16\x03\x01\xff", (None, None, None, r"\x16\x03\x01\xff")),
        (b"quit", (None, None, None, "quit")),
    ],
)
def test_request_lines(written: bytes, parts: tuple[str | None, ...]) -> None:
    """A request line is taken apart; one that is none, such as a port scan's, is kept whole."""
    said = one(COMMON.replace(b"GET /a?b=c HTTP/1.0", written), format="apache_common")
    assert tuple(said[key] for key in ("method", "path", "protocol", "request")) == parts


@pytest.mark.parametrize(
    ("written", "agent"),
    [
        (rb"say \"hi\" \\ there", 'say "hi" \\ there'),
        (rb"\xc3\xa4", "ä"),
        (rb"\xe4", r"\xe4"),
        (rb"tab\there", "tab\there"),
        ("ä 😀".encode(), "ä 😀"),
        (b"", None),
        (b"-", None),
        (b" - ", " - "),
        (rb"a\xZZ", "axZZ"),
        (b"\x01\x7f", "\x01\x7f"),
        (rb"C:\\", "C:\\"),
    ],
)
def test_escapes(written: bytes, agent: str | None) -> None:
    """A server's escapes are undone, do not end the field that they are in, and stay where they are no UTF-8."""
    assert one(COMBINED.replace(b"Agent/1 (x; y)", written), format="apache_combined")["user_agent"] == agent


def test_values_that_say_nothing() -> None:
    """A dash is null, also where a number should be."""
    said = one(b'- - - [10/Oct/2000:13:55:36 -0700] "-" - - "-" "-"', format="apache_combined")
    assert [key for key, value in said.items() if value is not None] == ["timestamp"]


@pytest.mark.parametrize("user", ["joe", "a b", "DOM\\\\joe", '\\"'])
def test_users(user: str) -> None:
    """A user's name may hold blanks and what the server escapes."""
    said = one(COMMON.replace(b"joe", user.encode()), format="apache_common")
    assert said["user"] == user.replace("\\\\", "\\").replace('\\"', '"')


def test_lines_of_a_server() -> None:
    """Of a server's lines each is what an independent reading says; one that was cut off is refused."""
    lines = [line if line.endswith(b"\n") else line + b"\n" for line in islice(access_lines(Random(7)), 500)]
    lines[123] = lines[123][:-10] + b"\n"
    result = outcome(lines, format="apache_combined")
    expected = {n: read for n, line in enumerate(lines) if (read := independently(line.decode())) is not None}
    assert len(lines) - len(expected) == 1
    records = [json.loads(record) for record in result.rows.column("record").to_pylist()]
    assert dict(zip(result.rows.column("row").to_pylist(), records, strict=True)) == expected


def independently(line: str) -> dict[str, Any] | None:
    """Reads a line by hand: cuts it at blanks and quotes, as far as real lines need."""
    before, request, numbers, referer, _, agent, end = [*line.split('"'), *[""] * 7][:7]
    if end != "\n":
        return None
    host, _, user, day, offset = before.split()
    when = datetime.strptime(f"{day} {offset}", "[%d/%b/%Y:%H:%M:%S %z]")
    method, path, protocol = request.split(" ")
    status, size = numbers.split()
    return {
        "host": host,
        "ident": None,
        "user": user,
        "timestamp": when.astimezone(UTC).isoformat(),
        "method": method,
        "path": path,
        "protocol": protocol,
        "request": None,
        "status": int(status),
        "bytes": None if size == "-" else int(size),
        "referer": None if referer == "-" else referer,
        "user_agent": None if agent == "-" else agent,
    }


# Syslog


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (b"<34>Oct 11 22:14:15 host su[12]: a: b", ("auth", "crit", "host", "su", "12", "a: b")),
        (b"<13>Feb  5 17:32:18 10.0.0.99 Use the BFG!", ("user", "notice", "10.0.0.99", None, None, "Use the BFG!")),
        (b"<0>Oct 11 22:14:15 host kernel: [1.5] x", ("kern", "emerg", "host", "kernel", None, "[1.5] x")),
        (b"<191>Oct 11 22:14:15 ::1 a/b: -", ("local7", "debug", "::1", "a/b", None, "-")),
        (b"Oct 11 22:14:15 host cron[1]: x", (None, None, "host", "cron", "1", "x")),
        (b"<34>Oct 11 22:14:15 su[12]: x", ("auth", "crit", None, "su", "12", "x")),
        (b"<34>Oct 11 22:14:15 su: x", ("auth", "crit", None, "su", None, "x")),
        (b"<34>Oct 11 22:14:15 host su:", ("auth", "crit", "host", "su", None, None)),
        (b"<34>Oct 11 22:14:15 host a: b\nc", ("auth", "crit", "host", "a", None, "b\nc")),
        (b'<34>Oct 11 22:14:15 host a: "\\"\xc3\xa4', ("auth", "crit", "host", "a", None, '"\\"ä')),
    ],
)
def test_rfc3164(line: bytes, expected: tuple[str | None, ...]) -> None:
    """BSD syslog, as it is met: with and without priority, host, tag and process."""
    said = one(line, format="syslog_rfc3164")
    keys = ("facility", "severity", "hostname", "appname", "procid", "message")
    assert tuple(said[key] for key in keys) == expected


@pytest.mark.parametrize(
    ("line", "when"),
    [
        (b"Mar  1 12:00:00 h a: x", "2026-03-01T12:00:00+00:00"),
        (b"Dec 31 23:59:59 h a: x", "2025-12-31T23:59:59+00:00"),
        (b"Aug 31 00:00:00 h a: x", "2025-08-31T00:00:00+00:00"),
        (b"Aug 30 00:00:00 h a: x", "2026-08-30T00:00:00+00:00"),
        (b"Aug 1 00:00:00.25 h a: x", "2026-08-01T00:00:00.25+00:00"),
        (b"2024-02-29T12:00:00.123456+02:00 h a: x", "2024-02-29T12:00:00.123456+02:00"),
    ],
)
def test_rfc3164_times(line: bytes, when: str) -> None:
    """A time without a year is of the one that puts it nearest to the arrival, 2026-03-01; a full one is as it is."""
    assert (NOON.year, NOON.month, NOON.day) == (2026, 3, 1)
    assert one(line, format="syslog_rfc3164")["timestamp"] == when


def test_rfc3164_time_zone() -> None:
    """A time without an offset is one of the zone that the stream names, in summer and in winter."""
    lines = [b"Mar  1 12:00:00 h a: x", b"Jul  1 12:00:00 h a: x"]
    said = made(lines, format="syslog_rfc3164", time_zone="Europe/Berlin")
    assert [one["timestamp"] for one in said] == ["2026-03-01T12:00:00+01:00", "2026-07-01T12:00:00+02:00"]


def test_rfc3164_that_is_none() -> None:
    """A day that no year near has, and a priority that there is not, are refused in words."""
    lines = [b"Feb 29 12:00:00 h a: x", b"<192>Mar  1 12:00:00 h a: x", b"<034>Mar  1 12:00:00 h a: x"]
    assert refusals(lines, format="syslog_rfc3164") == [
        (0, "Log.WrongType", "timestamp is not a time of a known form; types: {timestamp: text} takes it as it is"),
        (1, "Log.WrongType", "facility is not of a priority from 0 to 191; correct whoever writes such lines"),
        (2, "Log.WrongType", "facility is not of a priority from 0 to 191; correct whoever writes such lines"),
    ]


def test_rfc5424() -> None:
    """The RFC's own example, with its structured data as an object and its byte order mark gone."""
    line = (
        b'<165>1 2003-10-11T22:14:15.003Z mymachine.example.com evntslog - ID47 [exampleSDID@32473 iut="3"'
        b' eventSource="Application" eventID="1011"][examplePriority@32473 class="high"] \xef\xbb\xbfAn event...'
    )
    assert one(line, format="syslog_rfc5424") == {
        "facility": "local4",
        "severity": "notice",
        "version": 1,
        "timestamp": "2003-10-11T22:14:15.003Z",
        "hostname": "mymachine.example.com",
        "appname": "evntslog",
        "procid": None,
        "msgid": "ID47",
        "structured_data": {
            "exampleSDID@32473": {"iut": "3", "eventSource": "Application", "eventID": "1011"},
            "examplePriority@32473": {"class": "high"},
        },
        "message": "An event...",
    }


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"-", None),
        (b"[a]", {"a": {}}),
        (b'[a b="c"]', {"a": {"b": "c"}}),
        (rb'[a b="\"\\\]"]', {"a": {"b": '"\\]'}}),
        (rb'[a b="C:\dir\n"]', {"a": {"b": r"C:\dir\n"}}),
        (b'[a b="] [x"]', {"a": {"b": "] [x"}}),
        (b'[origin ip="1" ip="2"]', {"origin": {"ip": ["1", "2"]}}),
        (b'[origin ip="1" ip="1" ip="1" ip=""]', {"origin": {"ip": ["1", "1", "1", ""]}}),
        (b'[origin ip="1"][origin ip="2"]', {"origin": {"ip": ["1", "2"]}}),
        (b'[a b=""][c d="\xc3\xa4"]', {"a": {"b": ""}, "c": {"d": "ä"}}),
        (b'[a b="x\ny"]', {"a": {"b": "x\ny"}}),
    ],
)
def test_structured_data(data: bytes, expected: Any) -> None:
    """Structured data becomes an object of objects; its escapes are undone, and only its own."""
    said = one(b"<34>1 - - - - - " + data + b" [no data] -", format="syslog_rfc5424")
    assert said["structured_data"] == expected
    assert said["message"] == "[no data] -"


def test_rfc5424_of_nothing() -> None:
    """A message with nothing but a priority is one; without a version it is none."""
    said = one(b"<34>1 - - - - - -", format="syslog_rfc5424")
    assert {key for key, value in said.items() if value is not None} == {"facility", "severity", "version"}
    assert [code for _, code, _ in refusals([b"<34>Oct 11 22:14:15 h a: x"], format="syslog_rfc5424")] == [
        "Log.NotParsed"
    ]


# Patterns


def test_custom() -> None:
    """A pattern's groups become the object, found anywhere in the line, typed as the user says."""
    said = custom(r"(?P<level>[A-Z]+) took=(?P<took>\S+)", b"x INFO took=1.50 y", types={"took": "float"})
    assert said == {"level": "INFO", "took": 1.5}


def test_groups_that_match_nothing() -> None:
    """A group that took no part is null, whatever its type."""
    said = custom(r"^(?P<a>x)?(?P<n>\d+)?(?P<t>T\d)?(?P<b>.*)$", b"y", types={"n": "int", "t": "timestamp"})
    assert said == {"a": None, "n": None, "t": None, "b": "y"}


@pytest.mark.parametrize(
    ("type", "written", "json_text"),
    [
        ("int", "12", "12"),
        ("int", "-0", "-0"),
        ("int", "007", "7"),
        ("int", "000", "0"),
        ("int", "+5", "5"),
        ("int", "-012", "-12"),
        ("int", "123456789012345678901234567890", "123456789012345678901234567890"),
        ("int", "-", "null"),
        ("int", "1.0", None),
        ("int", "0x1f", None),
        ("int", "1_000", None),
        ("int", "٣", None),
        ("float", "1.0", "1.0"),
        ("float", "1e400", "1e400"),
        ("float", "0.10000000000000000001", "0.10000000000000000001"),
        ("float", ".5", "0.5"),
        ("float", "-.5", "-0.5"),
        ("float", "+01.50", "1.50"),
        ("float", "5", "5"),
        ("float", "5.", None),
        ("float", "nan", None),
        ("float", "1,5", None),
        ("float", "+-1", None),
        ("text", "12", '"12"'),
        ("text", 'a"\\\t\x01\u2028😀', '"a\\"\\\\\\t\\u0001\u2028😀"'),
        ("timestamp", "2015-05-17 10:05:03,25", '"2015-05-17T10:05:03.25+00:00"'),
        ("timestamp", "2015-05-17T10:05:03.123456789+0200", '"2015-05-17T10:05:03.123456789+02:00"'),
        ("timestamp", "17/May/2015:10:05:03 +0000", '"2015-05-17T10:05:03+00:00"'),
        ("timestamp", "17/Mai/2015:10:05:03 +0000", None),
        ("timestamp", "31/Apr/2015:10:05:03 +0000", None),
        ("timestamp", "2015-05-17T25:05:03Z", None),
        ("timestamp", "2015-05-17", None),
        ("timestamp", "1431857103", None),
    ],
)
def test_types(type: str, written: str, json_text: str | None) -> None:
    """A value becomes JSON digit for digit, or its line is refused."""
    options = {"format": "custom", "pattern": "(?s)^(?P<v>.*)$", "types": {"v": type}}
    result = outcome([written.encode()], **options)
    expected = [] if json_text is None else [f'{{"v":{json_text}}}'.encode()]
    assert result.rows.column("record").to_pylist() == expected
    assert len(result.refused) == 1 - len(expected)


def test_types_of_known_formats_may_be_changed() -> None:
    """A status may be wanted as text."""
    assert one(COMMON, format="apache_common", types={"status": "text"})["status"] == "200"


# Records


@pytest.mark.parametrize("ending", [b"", b"\n", b"\r\n"])
def test_endings_stay(ending: bytes) -> None:
    """The newline that a line came with follows its object."""
    (record,) = outcome([COMMON + ending], format="apache_common").rows.column("record").to_pylist()
    assert record == record.rstrip() + ending


def test_keep_line() -> None:
    """The line itself can be kept, without its newline."""
    assert one(COMBINED + b"\n", format="apache_combined", keep_line=True)["line"] == COMBINED.decode()


def test_not_utf8() -> None:
    """A line that is not UTF-8 is refused, unless it may be mended."""
    lines = [COMBINED.replace(b"Agent", b"\xff"), COMBINED]
    assert [said[:2] for said in refusals(lines, format="apache_combined")] == [(0, "Log.NotUtf8")]
    mended, _ = made(lines, format="apache_combined", errors="replace")
    assert mended["user_agent"] == "\ufffd/1 (x; y)"


def test_several_lines_are_none() -> None:
    """A record of two lines is refused: nobody may take it for one."""
    assert [said[:2] for said in refusals([COMBINED + b"\n" + COMBINED], format="apache_combined")] == [
        (0, "Log.NotParsed")
    ]


def test_each_for_its_own_reason() -> None:
    """In one slice, good lines go on, and each bad one is told what is wrong with it, in order."""
    pattern = {"format": "custom", "pattern": r"^(?P<k>\w) (?P<n>\S+)$", "types": {"n": "int"}}
    lines = [b"a x", b"", b"a 1", b"a \xff", b"b 2", b"a b c"]
    assert [said[:2] for said in refusals(lines, **pattern)] == [
        (0, "Log.WrongType"),
        (1, "Log.NotParsed"),
        (3, "Log.NotUtf8"),
        (5, "Log.NotParsed"),
    ]
    assert outcome(lines, **pattern).rows.column("row").to_pylist() == [2, 4]


def test_a_long_line() -> None:
    """A line of 4 MB of escapes costs no more than its length."""
    said = one(COMBINED.replace(b"Agent/1", rb"\"\x41" * 700_000), format="apache_combined")
    assert said["user_agent"] == '"A' * 700_000 + " (x; y)"


@given(st.lists(st.binary(max_size=40) | st.sampled_from([COMBINED, COMMON]), max_size=4), st.data())
def test_any_bytes(lines: list[bytes], data: st.DataObject) -> None:
    """Whatever comes, nothing is raised, every row ends once, and what is delivered is JSON."""
    formats = ["apache", "nginx", "syslog_rfc3164", "syslog_rfc5424"]
    result = outcome(lines, format=data.draw(st.sampled_from(formats)), keep_line=True)
    for record in result.rows.column("record").to_pylist():
        json.loads(record)
    ends = result.rows.column("row").to_pylist() + result.refused.table.column("row").to_pylist()
    assert sorted(ends) == list(range(len(lines)))


@given(st.text())
def test_any_text_survives(text: str) -> None:
    """A message is what was written, whatever it is written with."""
    written = text.rstrip("\r\n")
    said = custom("(?s)^x(?P<message>.*)$", b"x" + written.encode())
    assert said["message"] == (written if written not in ("", "-") else None)


# Options


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ("{type: log_to_json}", r"format: is missing"),
        ("{format: iis}", r"format: input should be 'apache', 'apache_common'"),
        ("{format: custom}", r"has no pattern; give one, such as pattern: '\^\(\?P<level>"),
        ("{format: nginx, pattern: x}", r"pattern: is only for format: custom"),
        ("{format: custom, pattern: '(?P<a>x'}", r"RE2\): missing \) at character 1: '\(\?P<a>x'"),
        ("{format: custom, pattern: '(?P<a>x)[z-a]'}", r"invalid character class range at character 10: 'z-a\]'"),
        ("{format: custom, pattern: '(?P<a>x)(?=y)'}", r"invalid perl operator at character 9: '\(\?=y\)'"),
        ("{format: custom, pattern: '[(]\\((?P<a>x)(y)'}", r"group without a name at character 14: '\(y\)'"),
        ("{format: custom, pattern: 'x'}", r"has no named group"),
        ("{format: custom, pattern: '(?P<a>x)(?P<a>y)'}", r"two groups named 'a', the second at character 12"),
        ("{format: nginx, types: {stauts: int}}", r"types has 'stauts', .*did you mean 'status'"),
        ("{format: nginx, types: {status: number}}", r"types.status: input should be 'text', 'int'"),
        ("{format: nginx, time_zone: Mars}", r"time_zone: .*Mars"),
        ("{format: custom, pattern: '(?P<line>x)', keep_line: true}", r"call its group something else"),
    ],
)
def test_mistakes(options: str, problem: str) -> None:
    """What is wrong with a block is told with its place and the way out."""
    typed = options if "type: " in options else options.replace("{", "{type: log_to_json, ", 1)
    with pytest.raises(ConfigError) as caught:
        parse("f.yaml", f"delivery_streams: {{s: {{destination: {{type: folder, path: o}}, transforms: [{typed}]}}}}")
    assert re.search(problem, str(caught.value)), str(caught.value)
