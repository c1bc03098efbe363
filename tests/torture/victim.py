"""One service on one data folder: killed, stopped, fooled and started again, and at the end held to account."""

from __future__ import annotations

import gzip
import http.client
import json
import os
import random
import re
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from glob import glob
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))

from leftovers import leave
from posting import Client
from programs import PATIENCE_SECONDS, free_port, wait_for
from verdict import Verdict

from firehose.allocator import told
from firehose.config import own_environment

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
CONFIG = """
service: {{listen: "127.0.0.1:{port}", data_dir: {folder}/data, reserve_mib: 1, drain_seconds: 60, log_format: json}}
delivery: {{backoff_seconds: 0.2, backoff_limit_seconds: 8, probe_seconds: 1}}
delivery_streams:
  app:
    buffering: {{size_mib: {size_mib}, interval_seconds: 0.5}}
    destination: {{type: folder, path: {folder}/out, compression: gzip}}
  quiet:
    buffering: {{size_mib: 64, interval_seconds: 2}}
    destination: {{type: folder, path: {folder}/quiet}}
  poison:
    destination: {{type: moody, path: {folder}/poison}}
"""


class Victim:
    """`up` before it is struck; `judge` at the end. Every wait is for something to happen, and has an end."""

    def __init__(
        self, folder: Path, seed: int, verdict: Verdict, stop_seconds: float = 1.0, size_mib: float = 0.05
    ) -> None:
        self.folder = folder
        self.stop_seconds = stop_seconds
        self.dice = random.Random(seed)
        self.verdict = verdict
        self.port = free_port()
        self.client = Client(self.port, random.Random(self.dice.random()))
        self.log = folder / "log"
        self._left: set[str] = set()  # records beside the client's own, all of them acknowledged
        self._process: subprocess.Popen[bytes] | None = None
        folder.mkdir(parents=True)
        (folder / "config.yaml").write_text(CONFIG.format(port=self.port, folder=folder, size_mib=size_mib))
        self.set_clock(0)

    # Its life.

    def start(self) -> None:
        if self._process is not None and self._process.poll() is None:
            return
        paths = (HERE / "shim", HERE.parent / "support", ROOT)
        environment = {
            **own_environment(told()),  # the command tells itself too late: by then the shim has loaded Arrow
            "PYTHONPATH": os.pathsep.join(map(str, paths)),
            "TORTURE_CLOCK": str(self.folder / "clock"),
        }
        command = [sys.executable, "-m", "firehose.cli", "serve", "-c", str(self.folder / "config.yaml")]
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, env=environment)

    def up(self) -> float:
        """Starts it where it is down; returns when it takes records, with the seconds that this took."""
        began = time.monotonic()
        self.start()
        self.wait_for(self._ready, "it to be ready")
        return time.monotonic() - began

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def delivery_pids(self) -> list[int]:
        """Of its delivery process; none while there is none."""
        try:
            return [int(pid) for pid in Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()]
        except OSError:
            return []

    def delivery_pid(self) -> int:
        """Of a delivery process at work: stopped before that it would keep its parent waiting, and hold no lock yet."""
        self.standing("app")
        (pid,) = self.delivery_pids
        return pid

    def kill_service(self) -> None:
        send(self.pid, signal.SIGKILL)
        assert self._process is not None
        self._process.wait()

    def kill_delivery(self) -> None:
        for pid in self.delivery_pids:
            send(pid, signal.SIGKILL)

    def set_clock(self, ahead_ms: int) -> None:
        """Moves the wall clock of all its processes."""
        self.ahead_ms = ahead_ms
        beside = self.folder / "clock.new"
        beside.write_text(str(ahead_ms))
        beside.rename(self.folder / "clock")

    def leave_lanes(self, lanes: int) -> None:
        """What a crash of a service with many lanes would have left, while this one is down."""
        self._left.update(leave(self.folder / "data", "app", lanes, self.dice))

    def open_files(self) -> set[Path]:
        """The open files in its buffer: a recovery seals them one by one."""
        return set(self._buffered("app/*/*.open"))

    # What it says.

    def wait_for(self, condition: Callable[[], bool], what: str) -> None:
        wait_for(condition, what, PATIENCE_SECONDS, lambda: self.log.read_text()[-4000:])

    def wait_for_acknowledgements(self) -> None:
        before = len(self.client.acknowledged)
        self.wait_for(lambda: len(self.client.acknowledged) > before, "records to be taken")

    def wait_for_delivery(self, stream: str = "app") -> None:
        """Until as many records are delivered as were taken by now: nothing may be stuck."""
        goal = int(self.stream(stream)["accepted"])
        self.wait_for(lambda: self.place(stream).get("delivered", 0) >= goal, f"{goal} records to be delivered")

    def held(self, stream: str) -> int:
        return int(self.standing(stream)["held"])

    def standing(self, stream: str) -> dict[str, Any]:
        """The same as `place`, however long the delivery half takes to answer: it may be starting, or be slow."""
        said: dict[str, Any] = {}

        def told() -> bool:
            said.update(self.place(stream))
            return bool(said)

        self.wait_for(told, f"the delivery half to tell of {stream}")
        return said

    def place(self, stream: str) -> dict[str, Any]:
        """The stream at its only destination; nothing while the delivery half does not answer."""
        places: list[dict[str, Any]] = self.stream(stream)["destinations"]
        return places[0] if places else {}

    def stream(self, name: str) -> dict[str, Any]:
        status, said = self.ask("GET", "/v1/streams")
        assert status == 200, said
        found: dict[str, Any] = next(one for one in said if one["name"] == name)
        return found

    def ask(self, method: str, path: str, body: bytes = b"") -> tuple[int, Any]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE_SECONDS)
        try:
            connection.request(method, path, body)
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read())
        finally:
            connection.close()

    def post_quiet(self) -> None:
        """One record that nothing but the end of its interval gets delivered."""
        self._post("quiet", "quiet")

    def post_deadly(self) -> None:
        """One record that ends the delivery process, sealed as a segment of its own."""
        self._post("poison", "deadly")
        self.ask("POST", "/v1/streams/poison/flush")

    def _post(self, stream: str, kind: str) -> None:
        one = f"{kind}-{len(self._left)}"
        status, said = self.ask("POST", f"/ingest/{stream}", json.dumps({"id": one}).encode())
        assert status == 200, said
        self._left.add(one)

    def _ready(self) -> bool:
        try:
            return self.ask("GET", "/readyz")[0] == 200
        except (OSError, http.client.HTTPException):
            assert self._process is not None
            assert self._process.poll() is None, f"it ended by itself: {self.log.read_text()[-4000:]}"
            return False

    # Its end.

    def close(self) -> None:
        """Nothing of it runs on, whatever has happened."""
        if self.client.is_alive():
            self.client.stop()
        if self._process is not None and self._process.poll() is None:
            for pid in [*self.delivery_pids, self.pid]:
                send(pid, signal.SIGCONT)
                send(pid, signal.SIGKILL)
            self._process.wait()

    def judge(self) -> None:
        """Lets it deliver all that it has, and counts."""
        self.up()
        self.wait_for_acknowledgements()
        self.client.stop()
        self.wait_for_delivery()
        if self.held("app"):
            self.verdict.complain(f"{self.folder}: innocent records are held: {self.place('app')}")
        (self.folder / "poison.mood").write_text("tame")  # what killed is harmless from now on
        self.end()
        if "Traceback" in self.log.read_text():
            self.verdict.complain(f"{self.folder}: something went wrong unforeseen: see its log")
        if set(self.client.answers) - {200, 503}:
            self.verdict.complain(f"{self.folder}: answers by status: {dict(self.client.answers)}")
        self.verdict.counted(self.client.sent | self._left, self.client.acknowledged | self._left, self._found())

    def end(self) -> None:
        """Everything is delivered, the books balance, and SIGTERM ends it in peace."""
        for stream in ("app", "quiet", "poison"):
            self._drain(stream)
        send(self.pid, signal.SIGTERM)
        assert self._process is not None
        if self._process.wait(timeout=PATIENCE_SECONDS):
            self.verdict.complain(f"{self.folder}: SIGTERM ended it with {self._process.returncode}")

    def _drain(self, stream: str) -> None:
        self.wait_for(lambda: self._delivered(stream), f"all of {stream} to be delivered")
        place = self.standing(stream)
        if place["imbalance"] or place["held"] or place["dead"]:
            self.verdict.complain(f"{self.folder}: the sum of {stream} is wrong: {place}")

    def _delivered(self, stream: str) -> bool:
        """Has what is held tried again, as often as it takes: the half that is asked may not be able to answer."""
        for path in self._buffered(f"{stream}/*/*.sealed") if self.held(stream) else ():
            self.ask("POST", f"/v1/segments/release?segment={stream}/{path.parts[-2]}/{path.stem}")
        _, said = self.ask("POST", f"/v1/streams/{stream}/flush?wait_seconds=2")
        return bool(said["delivered"])

    def _buffered(self, pattern: str) -> list[Path]:
        """Files of its buffer. Lanes may go away while we look, which pathlib's own search does not forgive."""
        return [
            self.folder / "data/buffer" / path for path in sorted(glob(pattern, root_dir=self.folder / "data/buffer"))
        ]

    def _found(self) -> Counter[str]:
        found = Counter[str]()
        for path in sorted(path for place in ("out", "quiet", "poison") for path in (self.folder / place).rglob("*")):
            if path.is_file() and ".partial" not in path.parts:
                content = path.read_bytes()
                text = gzip.decompress(content) if path.suffix == ".gz" else content
                found.update(re.findall(r'"id": ?"([^"]+)"', text.decode()))
        return found


def send(pid: int, number: signal.Signals) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        pass


def ended(pid: int) -> bool:
    """Whether the process is gone, though perhaps nobody has asked for its exit code yet."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def pause(seconds: float) -> None:
    """The moment of the next blow is part of the experiment, not a wait for a result."""
    threading.Event().wait(seconds)
