"""What every work is made with: a service as people run it, an S3 server, loads, floors, all on one folder.

The service is started by its command line and looked at through HTTP and /proc alone.
"""

from __future__ import annotations

import http.client
import json
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO, Any

from bench import checking, corpus, measuring
from bench.checking import Sent
from bench.load import Plan
from programs import Program, Programs, free_port, wait_for
from whole_service import WholeService

TESTS = Path(__file__).parents[1]
OURS = {"PYTHONPATH": f"{TESTS}:{TESTS / 'support'}"}
DELIVERED_SECONDS = 600


@dataclass(slots=True)
class Loading:
    """A load under way."""

    plan: Plan
    flags: Path
    process: subprocess.Popen[bytes]

    def begin(self) -> None:
        self._input.write(b"go\n")
        self._input.flush()

    def stop(self) -> None:
        """It sends nothing more, and ends when the last answer is in."""
        self._input.close()

    def ended(self) -> dict[str, Any]:
        """Waits for its end; its tally."""
        output = self.process.stdout
        assert output is not None
        said: dict[str, Any] = json.loads(output.readline())
        self._input.close()
        assert self.process.wait(60) == 0
        return said

    @property
    def sent(self) -> Sent:
        return Sent(corpus.SHAPES[self.plan.shape], self.plan.first, self.flags.read_bytes())

    @property
    def _input(self) -> IO[bytes]:
        assert self.process.stdin is not None
        return self.process.stdin


@dataclass(slots=True)
class Rig:
    """The service, its far side, and who else runs beside them. `options` are those of `service`."""

    folder: Path
    programs: Programs
    streams: int = 1
    buffering: Mapping[str, float] = field(default_factory=lambda: {"size_mib": 5, "interval_seconds": 5})
    stream_options: Mapping[str, Any] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)
    sent: list[Sent] = field(default_factory=list)
    store: Program = field(init=False)
    service: WholeService = field(init=False)
    _store_port: int = field(init=False)
    _loads: int = 0

    def __post_init__(self) -> None:
        self.objects.mkdir()
        self._store_port = free_port()
        self.store = self.programs.new(
            "s3", [sys.executable, "-m", "bench.s3_stub", str(self._store_port), self.objects], **OURS
        )
        streams = {name: self._stream(name) for name in corpus.stream_names(self.streams)}
        options = {"log_level": "warning", "reserve_mib": 64, **self.options}
        self.service = WholeService(self.programs, self.folder / "service", streams, **options)

    @property
    def objects(self) -> Path:
        return self.folder / "objects"

    @property
    def data(self) -> Path:
        return self.folder / "service" / "data"

    @property
    def pid(self) -> int:
        return self.service.program.pid

    def _stream(self, name: str) -> dict[str, Any]:
        return {
            "buffering": dict(self.buffering),
            "destination": {
                "type": "s3",
                "bucket": "lake",
                "endpoint_url": f"http://127.0.0.1:{self._store_port}",
                "access_key_id": "bench",
                "secret_access_key": "bench",
                "prefix": f"{name}/!{{timestamp:yyyy/MM/dd}}/",
                "compression": "gzip",
            },
            **self.stream_options,
        }

    def start_store(self) -> None:
        self.store.start()
        self.store.wait_until(lambda: _listens(self._store_port))

    def start(self) -> None:
        self.start_store()
        self.service.start()

    def bare(self, module: str, *arguments: str | int | Path) -> tuple[Program, int]:
        """A floor's server, started; its port."""
        port = free_port()
        command = [sys.executable, "-m", f"bench.{module}", str(port), *map(str, arguments)]
        program = self.programs.new(module, command, **OURS)
        program.start()
        program.wait_until(lambda: _listens(port))
        return program, port

    def bare_pipeline(self, answer_bytes: int) -> tuple[Program, int]:
        """It puts into the same store, below names that no check looks at, for these are taken away at once."""
        own = self.folder / f"floor-{self._loads}"
        own.mkdir()
        return self.bare("bare_pipeline", self._store_port, own, answer_bytes)

    def prepare(self, plan: Plan) -> Loading:
        """A load that is ready to begin."""
        flags = self.folder / f"flags-{self._loads}"
        self._loads += 1
        plan = plan if plan.port else replace(plan, port=self.service.port)
        command = [sys.executable, "-m", "bench.load", plan.to_json(), str(flags)]
        environment = {"PATH": "/usr/bin:/bin", **OURS}
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment)
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        return Loading(plan, flags, process)

    def load(self, plan: Plan) -> dict[str, Any]:
        """Runs a load to its end. One that went to the service counts in the check."""
        loading = self.prepare(plan)
        loading.begin()
        said = loading.ended()
        if loading.plan.port == self.service.port:
            self.sent.append(loading.sent)
        return said

    def deliver_all(self) -> None:
        """Returns when all that was accepted is delivered, and the books balance."""
        for name in corpus.stream_names(self.streams):
            self.service.post(f"/v1/streams/{name}/flush", b"")
        wait_for(self._is_delivered, "all to be delivered", DELIVERED_SECONDS)

    def _is_delivered(self) -> bool:
        """By the totals: while the delivery half does not answer, what it alone knows is missing and reads as 0."""
        metric = self.service.metric
        return metric("firehose_delivered_records_total") == metric("firehose_accepted_records_total")

    def check(self) -> None:
        """Raises unless every acknowledged record is in the objects, once."""
        assert self.service.metric("firehose_imbalance_records") == 0
        checking.check(self.objects, self.sent)

    def cpu(self) -> float:
        return measuring.cpu_seconds(self.pid)


@contextmanager
def rig(**options: Any) -> Iterator[Rig]:
    """A rig on a folder of its own; all that it started is killed at the end."""
    folder = Path(tempfile.mkdtemp(prefix="bench-"))
    programs = Programs(folder)
    try:
        yield Rig(folder, programs, **options)
    finally:
        programs.kill_all()
        shutil.rmtree(folder, ignore_errors=True)


def ready_seconds(service: WholeService) -> float:
    """Starts it; how long until it takes records."""
    began = time.perf_counter()
    service.program.start()
    while not _is_ready(service.port):
        assert service.program.alive, service.program.tail()
        time.sleep(0.005)
    return time.perf_counter() - began


def _is_ready(port: int) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    try:
        connection.request("GET", "/readyz")
        return connection.getresponse().status == 200
    except OSError:
        return False
    finally:
        connection.close()


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
