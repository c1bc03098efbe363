"""A real service in a process of its own, and the command line in this one."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from queue import Queue
from threading import Thread

import structlog
from programs import PATIENCE_SECONDS
from typer.testing import CliRunner, Result

from firehose.cli.commands import app

SERVICE = """\
service: {{listen: "127.0.0.1:{port}", data_dir: "{folder}/data", reserve_mib: 1, log_format: json, api_keys: [sesame]}}
data_streams: {{clicks: {{shards: 2}}}}
delivery_streams:
{streams}
"""
STREAM = """\
  {name}:
    buffering: {{size_mib: 1, interval_seconds: 900}}
    destination: {{type: folder, path: "{folder}/out/{name}"}}
"""
LAST_RESORT = logging.lastResort


@dataclass(frozen=True, slots=True)
class Running:
    """A service that is ready. `config` names its true port."""

    url: str
    config: str
    folder: Path

    def delivered(self, stream: str) -> bytes:
        """All that its objects hold, in the order of their names."""
        files = sorted((self.folder / "out" / stream).rglob("*"))
        return b"".join(path.read_bytes() for path in files if path.is_file())


def write_config(folder: Path, streams: Sequence[str], port: int = 0) -> str:
    blocks = "".join(STREAM.format(name=name, folder=folder) for name in streams)
    path = folder / f"firehose-{port}.yaml"
    path.write_text(SERVICE.format(port=port, folder=folder, streams=blocks))
    return str(path)


@contextmanager
def running(folder: Path, streams: Sequence[str]) -> Iterator[Running]:
    """Starts `firehose serve` on a free port; ends it by SIGTERM and wants status 0."""
    command = [sys.executable, "-m", "firehose.cli", "serve", "-c", write_config(folder, streams)]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL)
    assert process.stderr is not None
    log, ready = list[str](), Queue[int]()
    reading = Thread(target=_read, args=(process.stderr, log, ready))
    reading.start()
    try:
        port = ready.get(timeout=PATIENCE_SECONDS)
        yield Running(f"http://127.0.0.1:{port}", write_config(folder, streams, port), folder)
        process.terminate()
        assert process.wait(timeout=PATIENCE_SECONDS) == 0
    finally:
        process.kill()
        process.wait()
        reading.join()
        process.stderr.close()
        print("".join(log))  # shown where a test fails


def _read(lines: Iterable[bytes], log: list[str], ready: Queue[int]) -> None:
    """Keeps the log and finds the port in it. Reads to the end: a full pipe would stop the service."""
    for line in lines:
        log.append(line.decode())
        if b'"service.ready"' in line:
            ready.put(json.loads(line)["port"])


def firehose(*arguments: str, stdin: bytes | None = None) -> Result:
    """Runs a command of the command line in this process. How it logs stays with it: `serve` sets that up."""
    try:
        return CliRunner().invoke(app, list(arguments), input=stdin)
    finally:
        structlog.reset_defaults()
        logging.lastResort = LAST_RESORT


def good(*arguments: str, stdin: bytes | None = None) -> str:
    """The output of a command that succeeds."""
    result = firehose(*arguments, stdin=stdin)
    assert result.exit_code == 0, result.output
    return result.stdout


def failing(*arguments: str, status: int = 1) -> str:
    """What a command says on standard error when it fails, as people want it: in words."""
    result = firehose(*arguments)
    assert result.exit_code == status, result.output
    assert "Traceback" not in result.output
    return result.stderr
