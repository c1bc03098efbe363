"""The commands that talk to a running service, with a real one behind them."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cli.running import Running, failing, firehose, good, running
from programs import PATIENCE_SECONDS


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with running(tmp_path_factory.mktemp("service"), ["put", "pipe", "from", "sample", "open", "other", "stop"]) as one:
        yield one


def standing(service: Running, stream: str) -> Any:
    """As it is printed once the delivery half tells of it, which it does not while it starts or is slow."""
    while True:
        found = json.loads(good("streams", "-c", service.config, "--json"))
        one = next(one for one in found if one["name"] == stream)
        if one["destinations"]:
            return one


def test_put_delivers_a_file_once(service: Running, tmp_path: Path) -> None:
    """Every line of a file that takes many bodies is accepted and delivered once, in order."""
    content = b"".join(b'{"n":%d}\n' % n for n in range(3000))
    (tmp_path / "lines").write_bytes(content)
    said = good("put", "put", str(tmp_path / "lines"), "-c", service.config, "--body-kib", "4")
    assert said == "3000 records accepted, 0 rejected\n"
    assert "all delivered" in good("flush", "put", "--wait", "-c", service.config)
    assert service.delivered("put") == content
    (place,) = standing(service, "put")["destinations"]
    assert (place["delivered"], place["buffered"], place["imbalance"]) == (3000, 0, 0)


def test_put_reads_a_pipe(service: Running) -> None:
    """Without a file, and with `-`, lines come from standard input."""
    for arguments in (["put", "pipe"], ["put", "pipe", "-"]):
        assert "2 records accepted" in good(*arguments, "-c", service.config, stdin=b"one\ntwo\n")


@pytest.mark.parametrize("piped", [False, True])
def test_put_goes_on_where_it_is_told(service: Running, tmp_path: Path, piped: bool) -> None:
    """`--from` passes over what was acknowledged before, of a file and of a pipe."""
    content = b"first\nsecond\nthird\n"
    (tmp_path / "lines").write_bytes(content)
    file, stdin = ("-", content) if piped else (str(tmp_path / "lines"), None)
    before = standing(service, "from")["accepted"]
    good("put", "from", file, "--from", "6", "-c", service.config, stdin=stdin)
    assert standing(service, "from")["accepted"] - before == 2


@pytest.mark.parametrize(("start", "status"), [(6, 0), (7, 2)])
def test_put_from_behind_the_end(service: Running, tmp_path: Path, start: int, status: int) -> None:
    """An offset behind the end of a file is a mistake, and told; the end itself is where a finished put stands."""
    (tmp_path / "lines").write_bytes(b"first\n")
    said = firehose("put", "from", str(tmp_path / "lines"), "--from", str(start), "-c", service.config)
    assert said.exit_code == status
    assert ("behind the end" in said.stderr) is bool(status)


def test_put_tells_how_far_it_is(service: Running, tmp_path: Path) -> None:
    """A large file's progress is told in lines where no terminal shows a bar; a small file's is not."""
    line = b"x" * 1023 + b"\n"
    for count, lines in ((40 * 1024, 2), (1024, 0)):
        (tmp_path / "lines").write_bytes(line * count)
        said = firehose("put", "pipe", str(tmp_path / "lines"), "-c", service.config)
        assert said.exit_code == 0
        assert said.stderr.count("records acknowledged, and the input's bytes before ") == lines


def test_put_that_is_interrupted(service: Running) -> None:
    """Ctrl-C ends a put that waits for its input, in words: what was acknowledged, and how to go on."""
    command = [sys.executable, "-m", "firehose.cli", "put", "stop", "-c", service.config]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdin is not None
        process.stdin.write(b"one\n")
        process.stdin.flush()
        while not standing(service, "stop")["accepted"]:
            assert process.poll() is None
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=PATIENCE_SECONDS)
    assert process.returncode == 1
    assert b"Traceback" not in said
    assert b"stopped" in said
    assert b"--from" in said


def test_sample_fills_a_stream(service: Running) -> None:
    """Sample records can be posted, at a rate; each line is a record."""
    said = good("sample", "--count", "30", "--rate", "5000", "--stream", "sample", "-c", service.config)
    assert said == "30 records accepted, 0 rejected\n"
    assert standing(service, "sample")["accepted"] == 30


def test_streams_is_a_table(service: Running) -> None:
    """People get one line for each stream and destination, and a table of the data streams below."""
    deliveries, data = good("streams", "-c", service.config).split("\n\n")
    lines = deliveries.splitlines()
    assert lines[0].split()[:3] == ["stream", "destination", "accepted"]
    names = {"put", "pipe", "from", "sample", "open", "other", "stop"}
    assert {line.split()[0] for line in lines[2:] if line.strip()} == names
    (clicks,) = data.splitlines()[2:]
    assert clicks.split()[:5] == ["clicks", "ACTIVE", "provisioned,", "of", "the"]


def test_data_streams_alone(service: Running) -> None:
    """`--data` leaves out the delivery streams; as JSON it is what the control plane says."""
    assert good("streams", "--data", "-c", service.config).startswith("data stream ")
    (clicks,) = json.loads(good("streams", "--data", "--json", "-c", service.config))
    assert (clicks["name"], clicks["open_shards"], clicks["declared"]) == ("clicks", 2, True)


def test_flush_without_waiting(service: Running) -> None:
    """A flush that does not wait says how many records it sealed."""
    good("put", "other", "-c", service.config, stdin=b"one\n")
    assert good("flush", "other", "-c", service.config) == "1 records sealed\n"


def test_the_buffer_of_a_running_service(service: Running) -> None:
    """An open segment is listed, read byte for byte and verified beside the service that writes it."""
    good("put", "open", "-c", service.config, stdin=b"one\ntwo\n")
    listed = json.loads(good("buffer", "ls", "-c", service.config, "--json"))
    (segment,) = [one for one in listed if one["stream"] == "open"]
    assert (segment["state"], segment["count"], segment["size_bytes"]) == ("open", 2, 8)
    assert good("buffer", "cat", segment["segment"], "-c", service.config) == "one\ntwo\n"
    good("buffer", "verify", "-c", service.config)


def test_release_asks_the_service(service: Running) -> None:
    """With a service running, it is the service that releases, and says when nothing is held."""
    assert service.url in failing("buffer", "release", "open/lane/0", "-c", service.config)


def test_unknown_stream(service: Running) -> None:
    """A stream that does not exist is a failure in the service's words."""
    assert "no delivery stream 'nope'" in failing("flush", "nope", "-c", service.config)
    said = firehose("put", "nope", "-c", service.config, stdin=b"one\n")
    assert said.exit_code == 1
    assert "no delivery stream 'nope'" in said.stderr
    assert "go on with --from 0" in said.stderr


def test_the_api_key_is_asked_for(service: Running) -> None:
    """A URL alone does not open a service that has keys; the right key does."""
    assert "401" in failing("streams", "--url", service.url)
    good("streams", "--url", service.url, "--api-key", "sesame")


def test_start_errors_are_told(service: Running) -> None:
    """A port that is taken ends `serve` with one line that says so."""
    assert failing("serve", "-c", service.config).startswith("service.listen: cannot listen on 127.0.0.1:")
