"""syslog-ng's http() destination with its disk buffer, against the whole service and a real S3 server."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from oracle import access_log, count
from programs import PATIENCE_SECONDS, Program, Programs
from stores import Store
from whole_service import WholeService

pytestmark = pytest.mark.live
BATCH = 100
CONFIG = """
@version: current
options {{ stats-freq(0); time-reopen(1); log-fifo-size(20000); }};
source s_log {{ file("{log}" follow-freq(0.1) flags(no-parse) log-fetch-limit(1000) log-iw-size(2000)); }};
destination d_firehose {{
    http(
        url("{url}/ingest/app") method("POST") headers("Content-Type: application/x-ndjson")
        body("$(format-json --key MESSAGE)") delimiter("\\n") body-suffix("\\n")
        batch-lines({batch}) batch-bytes(256Kb) batch-timeout(100)
        workers(1) timeout({patience}) persist-name("firehose")
        disk-buffer(disk-buf-size(16777216) mem-buf-size(1048576) reliable(yes) dir("{folder}"))
    );
}};
log {{ source(s_log); destination(d_firehose); flags(flow-control); }};
"""


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "app.log"
    path.touch()
    return path


@pytest.fixture
def agent(programs: Programs, syslog_ng: str, service: WholeService, log: Path, tmp_path: Path) -> Iterator[Program]:
    """Follows `log` and posts what is written there, as its own manual tells to."""
    config = tmp_path / "syslog-ng.conf"
    config.write_text(CONFIG.format(log=log, url=service.url, batch=BATCH, folder=tmp_path, patience=PATIENCE_SECONDS))
    own = ("-R", tmp_path / "persist", "-p", tmp_path / "pid", "-c", tmp_path / "control")
    program = programs.new("syslog-ng", [syslog_ng, "-F", "--no-caps", "-f", config, *own])
    program.start()
    yield program
    program.kill()


def append(log: Path, lines: list[str]) -> None:
    with log.open("a") as file:
        file.writelines(f"{line}\n" for line in lines)


def messages(s3_server: Store, bucket: str) -> list[str]:
    return [json.loads(line)["MESSAGE"] for line in s3_server.lines(bucket)]


def test_every_line_once(service: WholeService, agent: Program, log: Path, s3_server: Store, bucket: str) -> None:
    """While all goes well each line of the log is delivered once."""
    lines = access_log(2550)
    append(log, lines)
    agent.wait_until(lambda: service.stream("app")["accepted"] >= len(lines), "to post all lines")
    service.deliver_all("app")
    counted = count(lines, messages(s3_server, bucket))
    assert counted.exact, str(counted)


def test_service_killed_in_the_middle(
    service: WholeService, agent: Program, log: Path, s3_server: Store, bucket: str
) -> None:
    """The service is killed and comes back: no line is missing; only the batch under way may have been sent twice."""
    lines = access_log(9000)
    append(log, lines[:4000])
    agent.wait_until(lambda: service.stream("app")["accepted"] >= BATCH, "to post its first batches")
    service.kill()
    append(log, lines[4000:])
    service.start()
    agent.wait_until(lambda: service.stream("app")["accepted"] >= len(lines), "to post all lines")
    service.deliver_all("app")
    counted = count(lines, messages(s3_server, bucket))
    assert not counted.missing, str(counted)
    assert not counted.strange, str(counted)
    assert counted.repeated.total() <= BATCH, str(counted)
