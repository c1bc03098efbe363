"""curl, in the ways that people and scripts use it, against the whole service and a real S3 server."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest
from oracle import access_log, assert_each_once
from programs import Command
from stores import Store
from whole_service import WholeService

pytestmark = pytest.mark.live


def ndjson(lines: list[str]) -> list[str]:
    return [json.dumps({"number": number, "message": line}) for number, line in enumerate(lines)]


def accepted(answered: str) -> int:
    """How many records the answer says were taken; it must be a plain success."""
    body, _, status = answered.rpartition("\n")
    assert status == "200", answered
    answer: dict[str, int] = json.loads(body)
    assert answer["rejected"] == 0
    return answer["accepted"]


@pytest.fixture
def url(service: WholeService) -> str:
    return f"{service.url}/ingest/app"


@pytest.fixture
def events() -> list[str]:
    return ndjson(access_log(2000))


@pytest.fixture
def file(tmp_path: Path, events: list[str]) -> Path:
    path = tmp_path / "events.ndjson"
    path.write_text("".join(f"{event}\n" for event in events))
    return path


def test_binary_data(
    service: WholeService, curl: Command, url: str, file: Path, events: list[str], s3_server: Store, bucket: str
) -> None:
    """A file of JSON lines posted as it is: a record a line, delivered as it was written."""
    assert accepted(curl("--data-binary", f"@{file}", url).stdout) == len(events)
    service.deliver_all("app")
    assert_each_once(events, s3_server.lines(bucket))


def test_plain_lines(
    service: WholeService, curl: Command, url: str, tmp_path: Path, s3_server: Store, bucket: str
) -> None:
    """A web server's access log is no JSON: a record a line, stored as it is."""
    lines = access_log(3000)
    log = tmp_path / "access.log"
    log.write_text("".join(f"{line}\n" for line in lines))
    assert accepted(curl("--data-binary", f"@{log}", url).stdout) == len(lines)
    service.deliver_all("app")
    assert_each_once(lines, s3_server.lines(bucket))


def test_gzip(
    service: WholeService, curl: Command, url: str, file: Path, events: list[str], s3_server: Store, bucket: str
) -> None:
    """A gzipped body is taken for what is in it."""
    packed = file.with_suffix(".gz")
    packed.write_bytes(gzip.compress(file.read_bytes()))
    done = curl("--header", "Content-Encoding: gzip", "--data-binary", f"@{packed}", url)
    assert accepted(done.stdout) == len(events)
    service.deliver_all("app")
    assert_each_once(events, s3_server.lines(bucket))


def test_chunked_from_a_pipe(
    service: WholeService, curl: Command, url: str, file: Path, events: list[str], s3_server: Store, bucket: str
) -> None:
    """`... | curl -T -` sends chunks by PUT, without saying how much is to come."""
    done = curl("--upload-file", "-", url, stdin=file.read_bytes())
    assert accepted(done.stdout) == len(events)
    service.deliver_all("app")
    assert_each_once(events, s3_server.lines(bucket))


def test_expect_100_continue(
    service: WholeService, curl: Command, url: str, tmp_path: Path, s3_server: Store, bucket: str
) -> None:
    """For large bodies curl asks first, and is told to go on at once: it would wait a minute otherwise."""
    lines = access_log(12_000)
    log = tmp_path / "large.log"
    log.write_text("".join(f"{line}\n" for line in lines))
    assert log.stat().st_size > 1024 * 1024
    asks = ("--verbose", "--expect100-timeout", "60", "--header", "Expect: 100-continue")
    done = curl(*asks, "--data-binary", f"@{log}", url)
    assert "> Expect: 100-continue" in done.stderr
    assert "< HTTP/1.1 100 Continue" in done.stderr
    assert accepted(done.stdout) == len(lines)
    service.deliver_all("app")
    assert_each_once(lines, s3_server.lines(bucket))


def test_form_encoded_json(service: WholeService, curl: Command, url: str, s3_server: Store, bucket: str) -> None:
    """`curl -d '{...}'` calls its JSON a form; the body is looked at, the Content-Type not believed."""
    done = curl("--data", '{"message": "a+b=c&d", "number": 1}', url)
    assert accepted(done.stdout) == 1
    service.deliver_all("app")
    assert s3_server.lines(bucket) == ['{"message": "a+b=c&d", "number": 1}']


def test_unknown_stream(service: WholeService, curl: Command) -> None:
    """`curl --fail` ends with an error where nothing was taken."""
    done = curl("--fail", "--data", "{}", f"{service.url}/ingest/nowhere")
    assert done.returncode == 22
    assert done.stdout.endswith("404")
