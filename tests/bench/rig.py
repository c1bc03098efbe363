"""What every work is made with: a service as people run it, an S3 server, loads, floors.

The service is started by its command line and looked at through HTTP and /proc alone.
"""

from __future__ import annotations

import http.client
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO, Any

from bench import checking, corpus, measuring
from bench.checking import Sent
from bench.load import Plan
from programs import PATIENCE_SECONDS, Program, Programs, free_port
from whole_service import WholeService

TESTS = Path(__file__).parents[1]
OURS = {"PYTHONPATH": f"{TESTS}:{TESTS / 'support'}"}
DELIVERED_SECONDS = 600
QUEUE_SECONDS = PATIENCE_SECONDS  # who has waited for long on a busy machine is in the figures, not turned away
IN_MEMORY = "/dev/shm"
OBJECTS_BYTES = 3 * 10**9  # the most that a work delivers, compressed
WARM_UP = 2 * 10**11  # number of its first request; those of the work and of its floors come before
WARM_UP_REQUESTS = 200


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
        line = output.readline()
        assert line, "the load has ended by itself"
        said: dict[str, Any] = json.loads(line)
        self._input.close()
        assert self.process.wait(PATIENCE_SECONDS) == 0
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
    objects: Path
    programs: Programs
    streams: int = 1
    folders: int = 0  # that each stream is delivered to in place of the S3 server, every record to every one
    buffering: Mapping[str, float] = field(default_factory=lambda: {"size_mib": 5, "interval_seconds": 5})
    stream_options: Mapping[str, Any] = field(default_factory=dict)
    destination_options: Mapping[str, Any] = field(default_factory=dict)
    around: Callable[[dict[str, Any]], dict[str, Any]] = dict  # makes the destination's block of the one for S3
    first_options: Mapping[str, Any] = field(default_factory=dict)  # of the first stream alone
    options: Mapping[str, Any] = field(default_factory=dict)
    sent: list[Sent] = field(default_factory=list)
    store: Program = field(init=False)
    service: WholeService = field(init=False)
    _store_port: int = field(init=False)
    _loads: int = 0

    def __post_init__(self) -> None:
        self._store_port = free_port()
        self.store = self.programs.new(
            "s3", [sys.executable, "-m", "bench.s3_stub", str(self._store_port), self.objects], **OURS
        )
        streams = {name: self._stream(name) for name in corpus.stream_names(self.streams)}
        streams[next(iter(streams))].update(self.first_options)
        options = {"log_level": "warning", "reserve_mib": 64, "queue_seconds": QUEUE_SECONDS, **self.options}
        self.service = WholeService(self.programs, self.folder / "service", streams, **options)

    @property
    def data(self) -> Path:
        return self.folder / "service" / "data"

    @property
    def pid(self) -> int:
        return self.service.program.pid

    def _stream(self, name: str) -> dict[str, Any]:
        options = self.destination_options or {"compression": "gzip"}
        bucket = {
            "type": "s3",
            "bucket": "lake",
            "endpoint_url": f"http://127.0.0.1:{self._store_port}",
            "access_key_id": "bench",
            "secret_access_key": "bench",
            "prefix": f"{name}/!{{timestamp:yyyy/MM/dd}}/",
        }
        folders = [
            {"type": "folder", "name": one.parent.name, "path": str(one.parent), "prefix": "data/!{timestamp:yyyy}-"}
            for one in self._folders()
        ]
        to = {"destinations": [self.around({**one, **options}) for one in folders or [bucket]]}
        return {"buffering": dict(self.buffering), **to, **self.stream_options}

    def _folders(self) -> list[Path]:
        return [self.objects / f"folder-{number}" / "data" for number in range(self.folders)]

    def start_store(self) -> None:
        self.store.start()
        self.store.wait_until(lambda: _listens(self._store_port))

    def start(self) -> None:
        """Both halves are at work then: it takes records a moment before it delivers any."""
        self.start_store()
        self.service.start()
        wait_until(
            lambda: metrics(self.service.port)["firehose_delivery_up"] == 1, "the delivery half", PATIENCE_SECONDS
        )

    def bare(self, module: str, *arguments: str | int | Path, at: int = 0) -> tuple[Program, int]:
        """A floor's server, started; its port."""
        port = at or free_port()
        command = [sys.executable, "-m", f"bench.{module}", str(port), *map(str, arguments)]
        program = self.programs.new(module, command, **OURS)
        program.start()
        program.wait_until(lambda: _listens(port))
        return program, port

    def bare_pipeline(self, answer_bytes: int, sort: str) -> tuple[Program, int]:
        """It puts its objects, of that sort, into the same store."""
        return self.bare("bare_pipeline", self._store_port, self._floor_folder(), answer_bytes, sort)

    def bare_streams(self, answer_bytes: int, streams: int, interval_seconds: float) -> tuple[Program, int]:
        """The same for so many streams."""
        own = self._floor_folder()
        return self.bare("bare_streams", self._store_port, own, answer_bytes, streams, str(interval_seconds))

    def _floor_folder(self) -> Path:
        own = self.folder / f"floor-{self._loads}"
        own.mkdir()
        return own

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

    def begin(self, plan: Plan) -> Loading:
        """A load that runs beside whatever comes next, until `end`."""
        loading = self.prepare(plan)
        loading.begin()
        return loading

    def end(self, loading: Loading) -> dict[str, Any]:
        loading.stop()
        return self._tally(loading)

    def load(self, plan: Plan) -> dict[str, Any]:
        """Runs a load to its end."""
        return self._tally(self.begin(plan))

    def _tally(self, loading: Loading) -> dict[str, Any]:
        """One that went to the service counts in the check."""
        said = loading.ended()
        if loading.plan.port == self.service.port:
            self.sent.append(loading.sent)
        return said

    def warm_up(self, plan: Plan) -> None:
        """A little of the same load, delivered: what is loaded and connected once belongs to no gigabyte."""
        self.load(replace(plan, requests=WARM_UP_REQUESTS, first=WARM_UP))
        self.deliver_all()

    def deliver_all(self) -> None:
        """Returns when all that was accepted is delivered."""
        for name in corpus.stream_names(self.streams):
            said = ask(self.service.port, "POST", f"/v1/streams/{name}/flush")
            assert said.startswith(b"{"), said
        wait_until(lambda: self.undelivered() == 0, "all to be delivered", DELIVERED_SECONDS)

    def undelivered(self) -> float:
        """Records accepted and not yet delivered. While the delivery half does not answer, all of them."""
        totals = metrics(self.service.port)
        wanted = totals["firehose_accepted_records_total"] * max(1, self.folders)
        return wanted - totals["firehose_delivered_records_total"]

    def check(self) -> None:
        """Raises unless every acknowledged record is in the objects, once; in those of each folder."""
        totals = metrics(self.service.port)
        assert totals["firehose_imbalance_records"] == totals["firehose_buffered_records"] == 0, totals
        for objects in self._folders() or [self.objects]:
            checking.check(objects, self.sent)

    def cpu(self) -> float:
        return measuring.cpu_seconds(self.pid)


@contextmanager
def rig(**options: Any) -> Iterator[Rig]:
    """A rig on folders of its own; all that it started is killed at the end."""
    with (
        tempfile.TemporaryDirectory(prefix="bench-", ignore_cleanup_errors=True) as folder,
        tempfile.TemporaryDirectory(prefix="bench-", dir=_elsewhere(), ignore_cleanup_errors=True) as objects,
        Programs(Path(folder)) as programs,
    ):
        yield Rig(Path(folder), Path(objects), programs, **options)


def _elsewhere() -> str | None:
    """A store does not share the service's disk: in memory, where there is enough of it."""
    return IN_MEMORY if os.path.isdir(IN_MEMORY) and shutil.disk_usage(IN_MEMORY).free > OBJECTS_BYTES else None


def ask(port: int, method: str, path: str) -> bytes:
    """The answer's body; empty unless it is a 200. Costs the two processes little: they are being measured."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE_SECONDS)
    try:
        connection.request(method, path)
        answer = connection.getresponse()
        body = answer.read()
        return body if answer.status == 200 else b""
    except ConnectionError:
        return b""
    finally:
        connection.close()


def metrics(port: int) -> Mapping[str, float]:
    """Each metric summed over streams and destinations."""
    totals = defaultdict[str, float](float)
    for line in ask(port, "GET", "/metrics").decode().splitlines():
        if line.startswith("firehose_"):
            totals[line.partition("{")[0].partition(" ")[0]] += float(line.rpartition(" ")[2])
    return totals


def wait_until(condition: Callable[[], bool], what: str, seconds: float = PATIENCE_SECONDS) -> None:
    """Looks rarely where a look is dear, for what is waited for is being measured."""
    deadline = time.monotonic() + seconds
    while True:
        began = time.monotonic()
        if condition():
            return
        assert time.monotonic() < deadline, f"waited {seconds:g} s for {what}"
        time.sleep(max(0.05, 5 * (time.monotonic() - began)))


def ready_seconds(service: WholeService) -> float:
    """Starts it; how long until it takes records."""
    began = time.perf_counter()
    service.program.start()
    while not ask(service.port, "GET", "/readyz"):
        assert service.program.alive, service.program.tail()
        time.sleep(0.005)
    return time.perf_counter() - began


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
