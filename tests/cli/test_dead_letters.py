"""`firehose dead-letters`: letters are counted, printed and asked about; damage is told, and the rest shown."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest
from cli.running import failing, firehose, good

ARRIVED_MS = 1_772_366_400_000  # 2026-03-01T12:00:00Z
OBJECT = "app-1-2026-03-01-12-30-00-0e3f2a61-4b1c-5d6b-8f10-8b8d4fd3c3d5"
CONFIG = """\
service: {{data_dir: "{folder}/data"}}
delivery_streams:
  app: {{destination: {{type: folder, path: "{folder}/out"}}}}
  web: {{destination: {{type: folder, path: "{folder}/out"}}}}
"""


def document(data: bytes, code: str = "E.One", **more: Any) -> bytes:
    members = {"rawData": base64.b64encode(data).decode(), "errorCode": code, "errorMessage": f"said {code}", **more}
    return json.dumps({"attemptsMade": 4, "arrivalTimestamp": ARRIVED_MS, **members}).encode()


@pytest.fixture
def config(tmp_path: Path) -> str:
    """Two streams; the first has five letters and one that is damaged, in two objects."""
    path = tmp_path / "firehose.yaml"
    path.write_text(CONFIG.format(folder=tmp_path))
    lines = [document(b"one\n"), document(b"two", arrivalTimestamp=ARRIVED_MS + 5000), b'{"rawD', document(b"\xff\x00")]
    write(tmp_path, f"processing-failed/2026/03/01/12/{OBJECT}", lines)
    write(
        tmp_path,
        f"ingest-failed/2026/03/01/12/{OBJECT}",
        [document(b"\x1b[2Jred", "E.Two\x1b[31m"), document(b"", "E.Two")],
    )
    return str(path)


def write(folder: Path, name: str, lines: list[bytes]) -> None:
    path = folder / "data/errors/app" / name
    path.parent.mkdir(parents=True)
    path.write_bytes(b"\n".join(lines))


def test_ls(config: str) -> None:
    """Letters are counted by stream, error type and reason; one that is damaged is told, and makes it fail."""
    result = firehose("dead-letters", "ls", "-c", config, "--json")
    assert result.exit_code == 1
    assert f"{OBJECT}, document 3, from byte" in result.stderr
    assert json.loads(result.stdout)[-1] == {
        "stream": "app",
        "error_type": "processing-failed",
        "reason": "E.One",
        "example": "said E.One",
        "letters": 3,
        "size_bytes": 9,
        "oldest_ms": ARRIVED_MS,
        "newest_ms": ARRIVED_MS + 5000,
    }
    table = firehose("dead-letters", "ls", "-c", config).stdout
    assert "2026-03-01 12:00:05Z" in table
    assert "\x1b" not in table


def test_a_stream_without_letters(config: str) -> None:
    """It has none, and that is no failure."""
    result = firehose("dead-letters", "ls", "-c", config, "--stream", "web")
    assert (result.exit_code, result.stdout) == (0, "")
    assert "no dead letters" in result.stderr
    assert json.loads(good("dead-letters", "ls", "-c", config, "--stream", "web", "--json")) == []


def test_show(config: str, tmp_path: Path) -> None:
    """All that a letter says is printed, records as text or as hexadecimal digits, and nothing reaches the terminal as
    more than text.
    """
    shown = firehose("dead-letters", "show", "-c", config).stdout
    assert shown.count("  stream     app\n") == 5
    assert "    one\n" in shown
    assert "    ff 00 " in shown
    assert "\x1b" not in shown
    assert r"\x1b[2Jred" in shown


def test_show_one(config: str) -> None:
    """A letter is named by object and line, as it is printed; others, damaged ones too, are not looked at."""
    name = f"processing-failed/2026/03/01/12/{OBJECT}"
    assert good("dead-letters", "show", f"{name}:2", "-c", config, "--raw") == "two"
    assert good("dead-letters", "show", "ingest-failed/", "-c", config, "--raw", "--limit", "1") == "\x1b[2Jred"
    assert good("dead-letters", "show", f"{name}:9", "-c", config) == ""
    (found,) = json.loads(good("dead-letters", "show", f"{name}:4", "-c", config, "--json"))
    assert (found["line"], found["reason"], found["data"]) == (4, "E.One", "ff00")


def test_show_where(config: str) -> None:
    """Only those that a condition is true of are printed."""
    assert (
        good("dead-letters", "show", "ingest-failed", "-c", config, "--raw", "--where", "size_bytes > 0")
        == "\x1b[2Jred"
    )
    assert "reson" in failing("dead-letters", "show", "-c", config, "--where", "reson = 'E.One'")


def test_show_long_records(tmp_path: Path) -> None:
    """Of a long record the beginning is printed, and how much there is more."""
    (tmp_path / "one").write_bytes(document(b"x" * 5000) + document(bytes(5000)))
    shown = good("dead-letters", "show", "--from", str(tmp_path))
    assert "... 1,000 characters more; --raw prints all" in shown
    assert "... 4,488 bytes more; --raw prints all" in shown
    assert len(good("dead-letters", "show", "--from", str(tmp_path), "--raw")) == 10_000


def test_sql(config: str) -> None:
    """A query's rows are printed as a table or as JSON."""
    query = "select reason, count(*) n, min(arrived_at) first, max(data) last from letters group by 1 order by 1"
    result = firehose("dead-letters", "sql", query, "-c", config, "--json")
    assert (result.exit_code, "document 3" in result.stderr) == (1, True)
    assert json.loads(result.stdout)[0] == {
        "reason": "E.One",
        "n": 3,
        "first": "2026-03-01T12:00:00",
        "last": "ff00",
    }
    table = firehose("dead-letters", "sql", query, "-c", config)
    assert "2026-03-01T12:00:00" in table.stdout
    assert "\x1b" not in table.stdout
    cut = firehose("dead-letters", "sql", "select line from letters", "-c", config, "--limit", "2")
    assert "only the first 2 rows" in cut.stderr


def test_bad_sql(config: str) -> None:
    """What cannot be run is told before letters are read, in DuckDB's words."""
    said = failing("dead-letters", "sql", "select reson from letters", "-c", config)
    assert 'column "reson" not found' in said
    assert "document 3" not in said


@pytest.mark.parametrize(
    "arguments",
    [
        ("ls",),
        ("ls", "-c", "x.yaml", "--from", "y"),
        ("ls", "-c", "x.yaml", "--region", "y"),
        ("ls", "--from", "s3://x", "--endpoint-url", "here"),
        ("sql",),
        ("show", "--from", "x", "--limit", "0"),
    ],
)
def test_usage(arguments: tuple[str, ...]) -> None:
    """A command that does not say what to read, or twice, is a mistake of its own."""
    failing("dead-letters", *arguments, status=2)


def test_places_that_are_not_there(config: str, tmp_path: Path) -> None:
    """They are told, never taken for empty."""
    assert "no such folder" in failing("dead-letters", "ls", "--from", str(tmp_path / "typo"))
    assert "no delivery stream 'wbe'" in failing("dead-letters", "ls", "-c", config, "--stream", "wbe")


def test_much_damage(tmp_path: Path) -> None:
    """Of many damaged places a few are told, and how many there are more; a truncated gzip is one."""
    (tmp_path / "one").write_bytes(b"\n".join([b"{"] * 30))
    (tmp_path / "two").write_bytes(b"\x1f\x8b\x08")
    said = failing("dead-letters", "ls", "--from", str(tmp_path))
    assert "damaged: 31" in said
    assert "and 21 more" in said
