"""`firehose query`: what was delivered is asked about by its streams' names; what goes wrong is told in words."""

from __future__ import annotations

import csv
import io
import json
import subprocess
import sys
from pathlib import Path

import lake
import pytest
from cli.running import failing, firehose, good

from firehose import config as configuration

CONFIG = """\
service: {{data_dir: "{folder}/data"}}
delivery_streams:
  app-logs:
    buffering: {{size_mib: 2, interval_seconds: 60}}
    destinations:
      - {{type: folder, path: "{folder}/out", prefix: "dt=!{{timestamp:yyyy-MM-dd}}/", compression: gzip}}
      - {{type: folder, name: second, path: "{folder}/second"}}
  web.x: {{destination: {{type: folder, path: "{folder}/out"}}}}
  Web.X: {{destination: {{type: folder, path: "{folder}/out"}}}}
  quiet: {{destination: {{type: folder, path: "{folder}/out"}}}}
"""


@pytest.fixture
def config(tmp_path: Path) -> str:
    """A stream with two objects at one destination and one at another, two whose names differ in case, and one that
    has none.
    """
    path = tmp_path / "firehose.yaml"
    path.write_text(CONFIG.format(folder=tmp_path))
    read = configuration.load(str(path))
    for first in range(2):
        content = lake.packed([b'{"status":%d,"x":"\\u001b[2J,\\"","l":[1,{"a":null}]}\n' % (200 + first)], "gzip")
        lake.write(tmp_path / "out" / lake.name(read, "app-logs", first), content)
    lake.write(tmp_path / "second" / lake.name(read, "app-logs", destination="second"), b'{"status":500}\n')
    lake.write(tmp_path / "out" / lake.name(read, "web.x"), b'{"a":1}\n')
    lake.write(tmp_path / "out" / lake.name(read, "Web.X"), b'{"a":2}\n')
    return str(path)


@pytest.mark.parametrize("table", ["app_logs", '"app-logs"', "APP_LOGS", "main.app_logs"])
def test_a_table(config: str, table: str) -> None:
    """A stream is a table under its name, and under that with words of SQL; only terminals' text is printed."""
    printed = good("query", f"select status, x, dt from {table} order by 1", "-c", config)
    assert [line.split() for line in printed.splitlines()[2:]] == [
        [status, '\\x1b[2J,"', "2026-03-01"] for status in ("200", "201")
    ]
    assert "\x1b" not in printed


def test_two_names_at_once(config: str) -> None:
    """A stream may have both its names in a query, and meet other streams."""
    query = 'select count(*) n from app_logs a, "app-logs" b, "web.x" c'
    assert json.loads(good("query", query, "-c", config, "--json")) == [{"n": 4}]


def test_json_and_csv(config: str) -> None:
    """Rows come as JSON or as CSV; nested values are JSON in both."""
    query = "select status, x, l from app_logs order by 1 limit 1"
    assert json.loads(good("query", query, "-c", config, "--json")) == [
        {"status": 200, "x": '\x1b[2J,"', "l": ["1", '{"a":null}']}
    ]
    (header, row) = csv.reader(io.StringIO(good("query", query, "-c", config, "--csv")))
    assert (header, row) == (["status", "x", "l"], ["200", '\x1b[2J,"', '["1", "{\\"a\\":null}"]'])


def test_booleans(config: str) -> None:
    """They are no numbers in a table."""
    printed = good("query", "select status = 200 as ok, true as all_of_them from app_logs order by 1", "-c", config)
    assert [line.split() for line in printed.splitlines()[2:]] == [["false", "true"], ["true", "true"]]


def test_columns_of_one_name(config: str) -> None:
    """Each has its place in JSON, where an object would keep but one of them."""
    query = "select a.status, b.status, 5 as status_1 from app_logs a join app_logs b on a.status < b.status"
    assert json.loads(good("query", query, "-c", config, "--json")) == [
        {"status": 200, "status_1": 201, "status_1_1": 5}
    ]


def test_limit(config: str) -> None:
    """More rows than the limit are not printed, and it is said that there are more."""
    result = firehose("query", "select status from app_logs", "-c", config, "--limit", "1", "--csv")
    assert (result.exit_code, len(result.stdout.splitlines())) == (0, 2)
    assert "only the first 1 rows" in result.stderr
    assert firehose("query", "select status from app_logs", "-c", config, "--limit", "2").stderr == ""


def test_another_destination(config: str) -> None:
    """Of several destinations the first is read, or the one that is named."""
    query = "select sum(status) s from app_logs"
    assert json.loads(good("query", query, "-c", config, "--json")) == [{"s": 401}]
    chosen = ("--stream", "app-logs", "--destination", "second")
    assert json.loads(good("query", query, "-c", config, "--json", *chosen)) == [{"s": 500}]
    assert "did you mean 'second'" in failing("query", query, "-c", config, *chosen[:3], "secnd")


def test_listing(config: str) -> None:
    """Without SQL it lists the tables with their objects, bytes and columns."""
    printed = good("query", "-c", config)
    assert "status BIGINT, x VARCHAR, l JSON[], dt DATE" in printed
    first, *_, last = json.loads(good("query", "-c", config, "--json"))
    assert (first["stream"], first["table"], first["destination"], first["objects"]) == (
        "app-logs",
        "app_logs",
        "folder",
        2,
    )
    assert list(first["columns"]) == ["status", "x", "l", "dt"]
    assert (last["stream"], last["objects"], last["bytes"], last["columns"]) == ("quiet", 0, 0, {})
    assert len(json.loads(good("query", "-c", config, "--json", "--stream", "quiet"))) == 1
    assert good("query", "-c", config, "--csv").startswith("stream,table,destination,objects,bytes,columns\n")


def test_no_objects_yet(config: str) -> None:
    """A stream without objects says when they come, and how to have them now."""
    said = failing("query", "select * from quiet", "-c", config)
    assert "no objects in" in said
    assert "5 MiB" in said
    assert "firehose flush quiet" in said


MISTAKES = {
    "select * from app_log": "did you mean 'app_logs'?",
    "select * from web_x": "any of the streams web.x, Web.X",
    'select * from "web.x" a, "Web.X" b': "cannot tell",
    "select nope from app_logs": 'column "nope" not found',
    "select from where": "at line 1",
    "select 1; select 2": "give one SELECT",
    "copy app_logs to 'x'": "give one SELECT",
    "select * from read_text('/etc/passwd')": "disabled by configuration",
    "select * from '/etc/passwd'": "no delivery stream '/etc/passwd'",
}


@pytest.mark.parametrize("query", MISTAKES)
def test_mistakes(config: str, query: str) -> None:
    """What cannot be asked is told in words, with the way out."""
    assert MISTAKES[query] in failing("query", query, "-c", config)


@pytest.mark.parametrize(
    "options", [["--json", "--csv"], ["--destination", "x"], ["--limit", "0"], ["--memory-mib", "1"]]
)
def test_usage(config: str, options: list[str]) -> None:
    """Options that mean nothing together are a mistake of usage."""
    failing("query", "select 1", "-c", config, *options, status=2)
    failing("query", "select 1", status=2)


def test_damage(config: str, tmp_path: Path) -> None:
    """A damaged object is named, with the way out, which reads the others and says what it left out."""
    damaged = max((tmp_path / "out/dt=2026-03-01").iterdir())
    damaged.write_bytes(damaged.read_bytes()[:30])
    said = failing("query", "select count(*) from app_logs", "-c", config)
    assert damaged.name in said
    assert "--skip-damaged" in said
    result = firehose("query", "select count(*) n from app_logs", "-c", config, "--skip-damaged", "--json")
    assert (result.exit_code, json.loads(result.stdout)) == (0, [{"n": 1}])
    assert f"left out: {damaged}" in result.stderr


def test_a_store_out_of_reach(tmp_path: Path) -> None:
    """It is told of as what it is."""
    path = tmp_path / "firehose.yaml"
    block = "{type: s3, bucket: lake, endpoint_url: 'http://127.0.0.1:9', access_key_id: a, secret_access_key: b}"
    path.write_text(f"delivery_streams: {{app: {{destination: {block}}}}}")
    assert "s3://lake/" in failing("query", "select * from app", "-c", str(path))


def test_the_command_line_stays_light(config: str) -> None:
    """What only queries need is not loaded by a service that starts."""
    code = "import sys, firehose.cli; sys.exit('duckdb' in sys.modules or 'fsspec' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
