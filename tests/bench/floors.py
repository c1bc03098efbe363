"""The floors that figures stand beside, measured in the same run: a bare disk, a bare echo, a bare pipeline."""

from __future__ import annotations

import http.client
import os
import statistics
import time
from dataclasses import dataclass, replace

from bench import measuring
from bench.load import Plan
from bench.rig import Rig
from programs import Program

SYNCS = 2000  # of which one in a hundred is longer than the p99
FIRST = 10**11  # number of the bare pipeline's first request; the service's own come before


@dataclass(frozen=True, slots=True)
class Floor:
    """A bare server under a load."""

    cpu_seconds: float
    seconds: float
    requests: int
    p99_ms: float


def disk_seconds(rig: Rig, size_bytes: int, group_bytes: int) -> float:
    """Writing as many bytes in groups of this size, an fdatasync after each."""
    group_bytes = min(group_bytes, size_bytes)
    return sum(_synced(rig, max(1, size_bytes // group_bytes), group_bytes))


def disk_p99_ms(rig: Rig, group_bytes: int) -> float:
    """What a write of that size with its fdatasync takes."""
    return statistics.quantiles(_synced(rig, SYNCS, group_bytes), n=100)[98] * 1000


def _synced(rig: Rig, groups: int, group_bytes: int) -> list[float]:
    """Seconds of each group."""
    block = os.urandom(group_bytes)
    path = rig.folder / "bare-disk"
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT)
    seconds = []
    for _ in range(groups):
        began = time.perf_counter()
        os.write(descriptor, block)
        os.fdatasync(descriptor)
        seconds.append(time.perf_counter() - began)
    os.close(descriptor)
    path.unlink()
    return seconds


def echo(rig: Rig, plan: Plan, answer_bytes: int) -> Floor:
    """The same load on a server that only answers."""
    server, port = rig.bare("bare_http", answer_bytes)
    try:
        before = measuring.cpu_seconds(server.pid)
        said = rig.load(replace(plan, port=port))
        assert said["accepted"] == said["sent"], said
        cpu = measuring.cpu_seconds(server.pid) - before
        return Floor(cpu, said["seconds"], said["accepted"], said["accepted_ms"]["p99"])
    finally:
        server.kill()


def pipeline(rig: Rig, plan: Plan, answer_bytes: int, sort: str = "gzip") -> Floor:
    """The same load on the least that any service must do, until its last object (`gzip` or `parquet`) is put. Its
    records count in the check too, so that the floor leaves nothing out.
    """
    return _delivering(rig, plan, *rig.bare_pipeline(answer_bytes, sort))


def streams(rig: Rig, plan: Plan, answer_bytes: int, interval_seconds: float) -> Floor:
    """The same for many streams, each with a file and objects of its own."""
    return _delivering(rig, plan, *rig.bare_streams(answer_bytes, plan.streams, interval_seconds))


def _delivering(rig: Rig, plan: Plan, server: Program, port: int) -> Floor:
    try:
        before = measuring.cpu_seconds(server.pid)
        loading = rig.prepare(replace(plan, port=port, first=FIRST))
        began = time.perf_counter()
        loading.begin()
        said = loading.ended()
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
        connection.request("POST", "/", b"end")
        connection.getresponse().read()
        connection.close()
        rig.sent.append(loading.sent)
        assert said["accepted"] == said["sent"], said
        cpu = measuring.cpu_seconds(server.pid) - before
        return Floor(cpu, time.perf_counter() - began, said["accepted"], said["accepted_ms"]["p99"])
    finally:
        server.kill()
