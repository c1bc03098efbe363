"""What a file of cases may say, what it comes to, and what people are told about one that is wrong."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml

from firehose import config
from firehose.cli import cases
from firehose.cli.cases import NOTHING, Case, Given, Wanted, between_slashes
from firehose.yaml_file import ConfigError

CONFIG = """\
delivery_streams:
  app: {destination: {type: folder, path: out}}
  bare: {delimiter: none, destination: {type: folder, path: out}}
"""


def read(folder: Path, text: str) -> list[Case]:
    path = folder / "firehose.tests.yaml"
    path.write_text(text)
    return cases.load(str(path), config.parse("firehose.yaml", CONFIG))


def one(folder: Path, stream: str = "app", **said: Any) -> Case:
    """The only case of a file, which says this."""
    (case,) = read(
        folder,
        yaml.safe_dump({"delivery_streams": {stream: [{"name": "case", "input": "x", **said}]}}, sort_keys=False),
    )
    return case


def complaints(folder: Path, text: str) -> list[str]:
    with pytest.raises(ConfigError) as error:
        read(folder, text)
    return [str(problem) for problem in error.value.problems]


def complaint(folder: Path, case: str) -> str:
    """What is said of a file whose only case is this one, on line 3."""
    (only,) = complaints(folder, f"delivery_streams:\n  app:\n  - {case}\n")
    return only


@pytest.mark.parametrize(
    ("said", "records"),
    [
        ("GET /", [b"GET /"]),
        ("", [b""]),
        (["a\n", "b"], [b"a\n", b"b"]),
        ({"text": "naïve"}, ["naïve".encode()]),
        ({"base64": "AP8="}, [b"\x00\xff"]),
        ({"base64": " AP\n8= "}, [b"\x00\xff"]),
        ({"json": {"b": [1, None], "a": "ü"}}, ['{"b":[1,null],"a":"ü"}\n'.encode()]),
        ({"json": None}, [b"null\n"]),
        ({"lines": "one\n\n  two\r\nthree"}, [b"one\n", b"  two\n", b"three\n"]),
        ([{"json": 1}, "2"], [b"1\n", b"2"]),
    ],
)
def test_input(said: Any, records: list[bytes], tmp_path: Path) -> None:
    """Text and base64 are records byte for byte; JSON and lines are as `/ingest` would have stored them."""
    assert [given.record for given in one(tmp_path, input=said).given] == records


def test_delimiter_is_the_streams(tmp_path: Path) -> None:
    """What is posted to a stream without a delimiter gets none."""
    case = one(tmp_path, "bare", input=[{"json": 1}, {"lines": "a\nb\n"}])
    assert [given.record for given in case.given] == [b"1", b"a", b"b"]


def test_file_beside_the_cases(tmp_path: Path) -> None:
    """A file's path begins where the cases are; each of its lines is a record, whatever bytes are in it."""
    (tmp_path / "samples").mkdir()
    (tmp_path / "samples/a.log").write_bytes(b"one\n\xfftwo\n")
    case = one(tmp_path, input={"file": "samples/a.log"}, output=[{"file": "samples/a.log"}])
    assert [given.record for given in case.given] == [b"one\n", b"\xfftwo\n"]
    assert [wanted.record for wanted in case.output] == [b"one\n", b"\xfftwo\n"]


def test_meta_is_what_a_source_says(tmp_path: Path) -> None:
    """A record may have the meta that its source would write."""
    case = one(tmp_path, input=[{"text": "x", "meta": {"shardId": "shard-0"}}, "y"])
    assert case.given == (Given(b"x", '{"shardId":"shard-0"}'), Given(b"y"))


@pytest.mark.parametrize(
    ("said", "wanted"),
    [
        ([], ()),
        (2, (Wanted(), Wanted())),
        ([{}], (Wanted(),)),
        ("x\n", (Wanted(b"x\n"),)),
        ([{"json": {"a": 1}}], (Wanted(value={"a": 1}),)),
        ([{"json": None}], (Wanted(value=None),)),
        ([{"text": "x", "partition_keys": {"a": 1, "b": True}}], (Wanted(b"x", keys={"a": "1", "b": "true"}),)),
        ([{"partition_keys": {}}], (Wanted(keys={}),)),
    ],
)
def test_output(said: Any, wanted: tuple[Wanted, ...], tmp_path: Path) -> None:
    """Records are expected by their bytes, by their value as JSON, or only by their number."""
    assert one(tmp_path, output=said).output == wanted


def test_what_is_not_said_is_none(tmp_path: Path) -> None:
    """A case that names only its input expects that nothing comes of it."""
    case = one(tmp_path)
    assert (case.output, case.dropped, case.refused) == ((), 0, ())
    assert case.arrival_ms == int(datetime(2026, 1, 1, tzinfo=UTC).timestamp() * 1000)


@pytest.mark.parametrize(
    "said", ["2026-03-01T12:00:00Z", "2026-03-01T13:00:00+01:00", "'2026-03-01 12:00:00'", "2026-03-01 12:00:00"]
)
def test_arrival(said: str, tmp_path: Path) -> None:
    """The records' arrival is an instant; without a zone it is in UTC."""
    (case,) = read(tmp_path, f"delivery_streams: {{app: [{{name: a, input: x, arrival: {said}}}]}}")
    assert case.arrival_ms == int(datetime(2026, 3, 1, 12, tzinfo=UTC).timestamp() * 1000)


@pytest.mark.parametrize(("said", "dropped"), [(2, 2), ([3, 1], (1, 3)), ([], ())])
def test_dropped(said: Any, dropped: int | tuple[int, ...], tmp_path: Path) -> None:
    """What is dropped is a count, or the records' numbers in any order."""
    assert one(tmp_path, dropped=said).dropped == dropped


def test_refused_in_the_order_of_records(tmp_path: Path) -> None:
    """Refusals may be written in any order where each names its record; a number stands for any so many."""
    case = one(tmp_path, refused=[{"record": 2}, {"record": 0, "code": "C"}])
    assert [refusal.record for refusal in case.refused] == [0, 2]
    assert [refusal.record for refusal in one(tmp_path, refused=2).refused] == [None, None]


def test_all_that_is_wrong_is_told(tmp_path: Path) -> None:
    """Every problem of a file is told at once, with line, path and the nearest key."""
    text = """\
delivery_streams:
  ap:
    - {name: a, input: x}
  app:
    - {name: a, inputs: x}
    - name: b
      input: [{bse64: eA==}, 3]
      refused: [{kode: x}]
    - {name: b, input: x}
"""
    assert complaints(tmp_path, text) == [
        "line 2: delivery_streams.ap: firehose.yaml has no such delivery stream; did you mean 'app'?",
        "line 5: delivery_streams.app[0].input: is missing; give it a value",
        "line 5: delivery_streams.app[0].inputs: unknown key; did you mean 'input'?",
        "line 7: delivery_streams.app[1].input[0].bse64: unknown key; did you mean 'base64'?",
        "line 7: delivery_streams.app[1].input[1]: must be text (put it in quotes), or a mapping with one of:"
        " base64, file, json, lines, text (is 3)",
        "line 8: delivery_streams.app[1].refused[0].kode: unknown key; did you mean 'code'?",
    ]


@pytest.mark.parametrize(
    ("case", "message"),
    [
        ("{name: a, input: []}", "input: holds no record"),
        ("{name: a, input: {}}", "input[0]: holds no record; give one of: base64, file, json, lines, text"),
        ("{name: a, input: {lines: ' '}}", "input: holds no record"),
        ("{name: a, input: {text: }}", "input[0]: text says nothing; put the text in quotes, even where it is empty"),
        ("{name: a, input: {text: x, json: 1}}", "input[0]: says json and text: keep one"),
        ("{name: a, input: {base64: 'e'}}", "input[0].base64: "),
        ("{name: a, input: {file: none.log}}", "none.log cannot be read: No such file or directory"),
        ("{name: a, input: {json: 2026-03-01}}", "input[0].json: cannot be written as JSON"),
        ("{name: a, input: {json: .nan}}", "input[0].json: out of range float values"),
        ("{name: a, input: x, dropped: some}", "dropped: must be how many records, or a list of their numbers"),
        ("{name: a, input: x, dropped: [-1]}", "dropped: must be how many records, or a list of their numbers"),
        ("{name: a, input: x, output: -1}", "output: a count is between 0 and 100000"),
        ("{name: a, input: x, output: 100001}", "output: a count is between 0 and 100000"),
        ("{name: a, input: x, refused: [{record: -1}]}", "refused[0].record: "),
        ("{name: a, input: x, refused: [{message: '/(/'}]}", "refused[0].message: is no regular expression"),
        ("{name: a, input: x, arrival: noon}", "arrival: "),
        ("{name: a, input: x, output: [{partition_keys: [a]}]}", "output[0].partition_keys: must be a mapping"),
        ("{input: x}", "name: is missing"),
        ("just text", "[0]: must be a mapping of keys to values (is 'just text')"),
    ],
)
def test_what_is_wrong_is_told(case: str, message: str, tmp_path: Path) -> None:
    """A mistake is told with the place where it stands and the way out."""
    said = complaint(tmp_path, case)
    assert said.startswith("line 3: delivery_streams.app[0]")
    assert message in said


def test_names_are_told_apart(tmp_path: Path) -> None:
    """Two cases of one stream cannot be called alike; those of two streams can."""
    text = "delivery_streams: {app: [{name: a, input: x}, {name: a, input: y}], bare: [{name: a, input: x}]}"
    (said,) = complaints(tmp_path, text)
    assert "delivery_streams.app[1].name: two cases are called 'a'" in said


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("- a", "must be a mapping of keys to values"),
        ("streams: {}", "unknown key; did you mean 'delivery_streams'?"),
        ("delivery_streams: {app: {name: a}}", "delivery_streams.app: "),
        ("a: [", "not valid YAML"),
    ],
)
def test_what_is_no_file_of_cases(text: str, message: str, tmp_path: Path) -> None:
    """A file of another shape is refused in words."""
    assert any(message in said for said in complaints(tmp_path, text))


def test_unreadable_files(tmp_path: Path) -> None:
    """A file that is not there, or no text, is named with the reason."""
    (tmp_path / "binary").write_bytes(b"\xff")
    for name, reason in (("nowhere", "No such file"), ("binary", "can't decode")):
        with pytest.raises(ConfigError, match=reason):
            cases.load(str(tmp_path / name), config.parse("firehose.yaml", CONFIG))


def test_references_are_plain_text(tmp_path: Path) -> None:
    """What looks like a reference in a sample is part of the sample."""
    assert one(tmp_path, input="${HOME}").given == (Given(b"${HOME}"),)


def test_beside() -> None:
    """The cases are beside the configuration, under its own name."""
    assert cases.beside("config/firehose.yaml") == "config/firehose.tests.yaml"
    assert cases.beside("a.b.yml") == "a.b.tests.yaml"


def test_between_slashes() -> None:
    """A message between slashes is a regular expression; a slash alone is text."""
    assert [between_slashes(text) for text in ("/a.*b/", "/", "//", "a/b", "/a")] == ["a.*b", None, None, None, None]


def test_no_value_is_null(tmp_path: Path) -> None:
    """An output without json expects no value, which is something else than null."""
    assert one(tmp_path, output=["x"]).output[0].value is NOTHING
