"""Kill -9 at random moments under load, with an oracle of acknowledged ids.

Several services run side by side, each on a data folder of its own. A client posts records with ids that never
repeat and remembers which were acknowledged. Again and again the service, its delivery half, or both are killed, at
a moment drawn from the seed: during start-up, recovery, load or delivery. At the end each service drains, and the
objects are counted: every acknowledged id is there, none is there twice, and nothing is there that was never sent.

    python tests/torture/kills.py --kills 2000 --seed 7
"""

from __future__ import annotations

import argparse
import gzip
import http.client
import json
import os
import random
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

CONFIG = """
service: {{listen: "127.0.0.1:{port}", data_dir: {folder}/data, reserve_mib: 1, drain_seconds: 60, log_format: json}}
delivery_streams:
  app:
    buffering: {{size_mib: 0.05, interval_seconds: 0.5}}
    destination: {{type: folder, path: {folder}/out, compression: gzip}}
"""
READY_SECONDS = 60


@dataclass(slots=True)
class Verdict:
    """What the oracle found. `missing` and `doubled` must be empty."""

    kills: int = 0
    acknowledged: int = 0
    delivered: int = 0
    missing: list[str] = field(default_factory=list)
    doubled: list[str] = field(default_factory=list)
    invented: list[str] = field(default_factory=list)
    trouble: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        return (
            f"{self.kills} kills, {self.acknowledged} records acknowledged, {self.delivered} delivered: "
            f"missing {len(self.missing)}, doubled {len(self.doubled)}, invented {len(self.invented)}"
            + "".join(f"\n  {line}" for line in self.trouble)
        )

    @property
    def clean(self) -> bool:
        return not (self.missing or self.doubled or self.invented or self.trouble)

    def add(self, other: Verdict) -> None:
        self.kills += other.kills
        self.acknowledged += other.acknowledged
        self.delivered += other.delivered
        self.missing += other.missing
        self.doubled += other.doubled
        self.invented += other.invented
        self.trouble += other.trouble


class Client(threading.Thread):
    """Posts records until told to stop. An id whose answer was lost is neither acknowledged nor repeated."""

    def __init__(self, port: int, dice: random.Random) -> None:
        super().__init__(daemon=True)
        self.sent: set[str] = set()
        self.acknowledged: set[str] = set()
        self.refused: Counter[int] = Counter()
        self._port = port
        self._dice = dice
        self._ended = threading.Event()
        self._number = 0

    def run(self) -> None:
        while not self._ended.is_set():
            connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=30)
            try:
                while not self._ended.is_set():
                    self._post(connection)
            except (OSError, http.client.HTTPException):
                self._ended.wait(0.02)
            finally:
                connection.close()

    def stop(self) -> None:
        self._ended.set()
        self.join()

    def _post(self, connection: http.client.HTTPConnection) -> None:
        ids = [f"{self._number + i:09d}" for i in range(self._dice.randint(1, 40))]
        self._number += len(ids)
        self.sent.update(ids)
        body = "".join(json.dumps({"id": one, "pad": "x" * self._dice.randint(0, 200)}) + "\n" for one in ids)
        connection.request("POST", "/ingest/app", body.encode())
        answer = connection.getresponse()
        said = answer.read()
        if answer.status == 200:
            assert json.loads(said) == {"accepted": len(ids), "rejected": 0}, said
            self.acknowledged.update(ids)
        else:
            self.refused[answer.status] += 1


class Victim:
    """One service on one data folder, killed and started again."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.folder = folder
        self.dice = random.Random(seed)
        self.port = _free_port()
        self.verdict = Verdict()
        self.log = folder / "log"
        self._process: subprocess.Popen[bytes] | None = None
        (folder / "config.yaml").write_text(CONFIG.format(port=self.port, folder=folder))

    def torment(self, kills: int) -> None:
        client = Client(self.port, random.Random(self.dice.random()))
        client.start()
        try:
            while self.verdict.kills < kills:
                self._start()
                self._kill_once_or_more(kills)
            self._start()
            self._wait_until_ready()
        finally:
            client.stop()
        self._drain()
        self._judge(client)

    def _start(self) -> None:
        if self._process is None or self._process.poll() is not None:
            with self.log.open("ab") as log:
                command = [sys.executable, "-m", "firehose.cli", "serve", "-c", str(self.folder / "config.yaml")]
                self._process = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL)

    def _kill_once_or_more(self, kills: int) -> None:
        """Kills the delivery half a few times perhaps, and then the whole service."""
        assert self._process is not None
        while self.verdict.kills < kills:
            if self.dice.random() < 0.75:
                self._wait_until_ready()
            _pause(1.5 * self.dice.random())
            victim = self.dice.choice(["service", "delivery", "both", "service then delivery"])
            children = _children(self._process.pid)
            if victim != "service":
                self._kill(children)
            self.verdict.kills += 1
            if victim != "delivery":
                self._kill([self._process.pid])
                self._process.wait()
                return

    def _kill(self, pids: list[int]) -> None:
        for pid in pids:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass

    def _wait_until_ready(self) -> None:
        deadline = time.monotonic() + READY_SECONDS
        while time.monotonic() < deadline:
            try:
                if _get(self.port, "/readyz") == 200:
                    return
            except (OSError, http.client.HTTPException):
                assert self._process is not None
                assert self._process.poll() is None, self.log.read_text()[-4000:]
            _pause(0.05)
        raise AssertionError(f"not ready after {READY_SECONDS} s: {self.log.read_text()[-4000:]}")

    def _drain(self) -> None:
        assert self._process is not None
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=120)
        connection.request("POST", "/v1/streams/app/flush?wait_seconds=60")
        flushed = json.loads(connection.getresponse().read())
        if flushed.get("delivered") is not True:
            self.verdict.trouble.append(f"{self.folder}: not all was delivered: {flushed}")
        connection.request("GET", "/v1/streams")
        for place in json.loads(connection.getresponse().read())[0]["destinations"]:
            if place["imbalance"] or place["held"] or place["dead"]:
                self.verdict.trouble.append(f"{self.folder}: the sum is wrong: {place}")
        connection.close()
        self._process.send_signal(signal.SIGTERM)
        self._process.wait(timeout=120)

    def _judge(self, client: Client) -> None:
        found = Counter[str]()
        for path in sorted((self.folder / "out").rglob("*.gz")):
            if ".partial" not in path.parts:
                found.update(re.findall(r'"id": ?"(\d+)"', gzip.decompress(path.read_bytes()).decode()))
        verdict = self.verdict
        verdict.acknowledged, verdict.delivered = len(client.acknowledged), found.total()
        verdict.missing = sorted(client.acknowledged - set(found))
        verdict.doubled = sorted(one for one, times in found.items() if times > 1)
        verdict.invented = sorted(set(found) - client.sent)
        if set(client.refused) - {503}:
            verdict.trouble.append(f"{self.folder}: answers other than 200 and 503: {client.refused}")
        if not client.acknowledged:
            verdict.trouble.append(f"{self.folder}: nothing was acknowledged: {self.log.read_text()[-2000:]}")


def torment(folder: Path, kills: int, seed: int, side_by_side: int) -> Verdict:
    """Shares the kills among several victims; the sum of what was found."""
    victims = []
    for index in range(side_by_side):
        own = folder / f"victim-{index}"
        own.mkdir(parents=True)
        victims.append(Victim(own, seed * 1000 + index))
    threads = [
        threading.Thread(target=_tormented, args=(victim, kills // side_by_side + (i < kills % side_by_side)))
        for i, victim in enumerate(victims)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    whole = Verdict()
    for victim in victims:
        whole.add(victim.verdict)
    return whole


def _tormented(victim: Victim, kills: int) -> None:
    try:
        victim.torment(kills)
    except Exception as error:
        victim.verdict.trouble.append(f"{victim.folder}: {type(error).__name__}: {error}")


def _children(pid: int) -> list[int]:
    try:
        text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    except OSError:
        return []
    return [int(child) for child in text.split()]


def _get(port: int, path: str) -> int:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", path)
        return connection.getresponse().status
    finally:
        connection.close()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _pause(seconds: float) -> None:
    """The moment of the next kill is part of the experiment, not a wait for a result."""
    threading.Event().wait(seconds)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--side-by-side", type=int, default=4)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="kills-") as folder:
        began = time.monotonic()
        verdict = torment(Path(folder), options.kills, options.seed, options.side_by_side)
        print(f"seed {options.seed}: {verdict} ({time.monotonic() - began:.0f} s)")
    return 0 if verdict.clean else 1


if __name__ == "__main__":
    sys.exit(main())
