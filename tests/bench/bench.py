"""CPU and throughput of the whole service, each run checked record by record. `make bench`.

    python tests/bench/bench.py [--work ingest-100] [--runs 5] [--megabytes 300]

A run starts the service (delivery in a process of its own, gzip to S3, fdatasync before each answer), loads it over
16 connections, waits until everything is delivered, and counts every id in the objects. CPU is that of both halves,
from /proc, from the first request until the last object; bytes are those of the records. A bare loop of write and
fdatasync of the same frames runs beside it, for rates depend on the disk.
"""

from __future__ import annotations

import argparse
import gzip
import http.client
import json
import os
import re
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
CONFIG = """
service: {{listen: "127.0.0.1:{port}", data_dir: {folder}/data, reserve_mib: 64, log_level: warning}}
delivery_streams:
  app:
    buffering: {{size_mib: 5, interval_seconds: 5}}
    destination:
      type: s3
      bucket: lake
      endpoint_url: http://127.0.0.1:{s3_port}
      access_key_id: test
      secret_access_key: test
      region: us-east-1
      prefix: "app/!{{timestamp:yyyy/MM/dd}}/"
      compression: gzip
"""
WORKS = {"ingest-100": 51200, "put-record-batch": 512000, "ingest-1": 512}
TICK = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Result:
    """One run. CPU seconds are those of both halves together."""

    cpu_seconds: float
    seconds: float
    end_to_end_seconds: float
    requests: int
    records: int
    size_bytes: int
    memory_mib: float
    disk_seconds: float

    def line(self) -> str:
        return (
            f"  {self.cpu_seconds / self.size_bytes * 1e9:6.2f} CPU s/GB  "
            f"{self.cpu_seconds / self.requests * 1e6:7.1f} CPU us/request  "
            f"{self.cpu_seconds / self.records * 1e6:6.2f} CPU us/record  "
            f"{self.records / self.seconds:9.0f} records/s accepted  "
            f"{self.records / self.end_to_end_seconds:9.0f} end to end  "
            f"{self.memory_mib:5.0f} MiB  (bare disk: {self.size_bytes / self.disk_seconds / 1e6:.0f} MB/s)"
        )


def run(work: str, megabytes: int, connections: int) -> Result:
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        folder = Path(name)
        (folder / "objects").mkdir()
        port, s3_port = _free_port(), _free_port()
        (folder / "config.yaml").write_text(CONFIG.format(port=port, s3_port=s3_port, folder=folder))
        stub = subprocess.Popen(
            [sys.executable, HERE / "s3_stub.py", str(s3_port), folder / "objects"], stdout=subprocess.PIPE
        )
        service = subprocess.Popen([sys.executable, "-m", "firehose.cli", "serve", "-c", folder / "config.yaml"])
        try:
            _wait_until_ready(port)
            return _measure(work, max(64, megabytes * 1_000_000 // WORKS[work]), connections, port, service.pid, folder)
        finally:
            service.send_signal(signal.SIGTERM)
            service.wait(60)
            stub.kill()
            stub.wait()


def _measure(work: str, requests: int, connections: int, port: int, pid: int, folder: Path) -> Result:
    before, began = _cpu_seconds(pid), time.perf_counter()
    command = [sys.executable, str(HERE / "load.py"), str(port), work, str(connections), str(requests)]
    said = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
    memory = _memory_mib(pid)
    assert set(said["statuses"]) == {"200"}, said["statuses"]
    assert _post(port, "/v1/streams/app/flush?wait_seconds=120")["delivered"] is True
    end_to_end, cpu = time.perf_counter() - began, _cpu_seconds(pid) - before
    _check_objects(folder / "objects", said)
    generating = end_to_end - said["seconds"]
    disk = _bare_disk_seconds(folder / "bare", said["bytes"], said["bytes"] // max(1, said["requests"]) * connections)
    return Result(
        cpu,
        said["seconds"],
        said["seconds"] + max(0.0, generating - _startup_seconds(command)),
        said["requests"],
        said["records"],
        said["bytes"],
        memory,
        disk,
    )


def _startup_seconds(command: list[str]) -> float:
    """What the load generator takes to prepare its bodies."""
    began = time.perf_counter()
    subprocess.run([*command[:-1], "0"], check=False, capture_output=True)
    return time.perf_counter() - began


def _check_objects(folder: Path, said: dict[str, Any]) -> None:
    """Every record of every acknowledged request is in the objects, exactly as often as it was acknowledged."""
    found: Counter[bytes] = Counter()
    for path in folder.iterdir():
        found.update(re.findall(rb'"id": "(\d{4})-\d{4}"', gzip.decompress(path.read_bytes())))
    per_body = {int(body): count for body, count in found.items()}
    records = said["records"] // said["requests"]
    expected = {int(body): count * records for body, count in said["acknowledged"].items()}
    assert per_body == expected, "records are missing or doubled"


def _bare_disk_seconds(path: Path, size_bytes: int, step_bytes: int) -> float:
    """Writing as many bytes in groups as large as they could be, an fdatasync after each."""
    block = os.urandom(step_bytes)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT)
    began = time.perf_counter()
    for _ in range(max(1, size_bytes // step_bytes)):
        os.write(descriptor, block)
        os.fdatasync(descriptor)
    os.close(descriptor)
    return time.perf_counter() - began


def _cpu_seconds(pid: int) -> float:
    """User and system time of the process and its children, threads included."""
    total = 0.0
    for one in (pid, *_children(pid)):
        fields = Path(f"/proc/{one}/stat").read_text().rpartition(")")[2].split()
        total += (int(fields[11]) + int(fields[12])) / TICK
    return total


def _memory_mib(pid: int) -> float:
    """Pss_Anon + Pss_Shmem of the process and its children."""
    total = 0
    for one in (pid, *_children(pid)):
        text = Path(f"/proc/{one}/smaps_rollup").read_text()
        total += sum(int(size) for size in re.findall(r"Pss_(?:Anon|Shmem): +(\d+)", text))
    return total / 1024


def _children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def _post(port: int, path: str) -> dict[str, object]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=150)
    connection.request("POST", path)
    said: dict[str, object] = json.loads(connection.getresponse().read())
    return said


def _wait_until_ready(port: int) -> None:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        try:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
            connection.request("GET", "/readyz")
            if connection.getresponse().status == 200:
                return
        except OSError:
            time.sleep(0.05)
    raise SystemExit("the service did not become ready")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", choices=WORKS, action="append")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--megabytes", type=int, default=300)
    parser.add_argument("--connections", type=int, default=16)
    options = parser.parse_args()
    for work in options.work or ["ingest-100", "put-record-batch"]:
        print(f"{work}, {options.connections} connections, {options.megabytes} MB a run, all records arrived once:")
        results = []
        for _ in range(options.runs):
            results.append(run(work, options.megabytes, options.connections))
            print(results[-1].line(), flush=True)
        print(f"  median {statistics.median(one.cpu_seconds / one.size_bytes * 1e9 for one in results):.2f} CPU s/GB")


if __name__ == "__main__":
    main()
