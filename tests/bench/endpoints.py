"""HTTP and Splunk: how fast a backlog of one stream goes to a receiver on this machine; of HTTP, beside a bare client's
posts.

The receiver is away while the records come, so that intake takes nothing of what is measured.
"""

from __future__ import annotations

import http.client
import time
from functools import partial
from pathlib import Path

from bench import measuring
from bench.load import Plan
from bench.receivers import RECEIVERS, Receiver, rig_to
from bench.work import Figures, Goal, Scale, Work
from programs import PATIENCE_SECONDS

SEGMENT_MIB = 64
MB = 1_000_000


def backlog(scale: Scale, *, receiver: Receiver, again: bool = False) -> Figures:
    """`again`: the bodies are posted once more, by a bare client."""
    buffering = {"size_mib": scale.of(SEGMENT_MIB, 1), "interval_seconds": 900}
    with rig_to(receiver, away=True, buffering=buffering) as (one, port):
        one.start()
        said = one.load(Plan(one.service.port, "ingest-100", 16, requests=scale.of(20_000, 300)))
        assert said["accepted"] == said["sent"], said
        idle = measuring.memory(one.pid).own
        with measuring.Watch(one.pid) as watch:
            receiver.start(one, port)
            cpu, began = one.cpu(), time.perf_counter()
            one.deliver_all()
            seconds, cpu = time.perf_counter() - began, one.cpu() - cpu
        one.check()
        megabytes = said["bytes"] / MB
        figures = {
            "mb_per_s": megabytes / seconds,
            "cpu_s_per_gb": cpu / megabytes * 1e3,
            "above_idle_mb": watch.peak - idle,
        }
        return {**figures, "bare_mb_per_s": megabytes / post_again(port, one.objects)} if again else figures


def post_again(port: int, bodies: Path) -> float:
    """The same bodies by Python's own client, over one connection; seconds."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE_SECONDS)
    files = sorted(bodies.iterdir())
    began = time.perf_counter()
    for file in files:
        connection.request("POST", "/", file.read_bytes(), {"idempotency-key": file.stem})
        answer = connection.getresponse()
        assert (answer.status, answer.read()) == (200, b"")
    seconds = time.perf_counter() - began
    connection.close()
    return seconds


ABOVE_IDLE = Goal("above_idle_mb", "MB above the idle service", "<=", 100)
WORKS = (
    Work(
        "http-ndjson",
        "a backlog of 1 GB of one stream to an HTTP endpoint on this machine, as NDJSON",
        (Goal("mb_per_s", "MB/s", ">=", 100, "bare_mb_per_s"), ABOVE_IDLE),
        partial(backlog, receiver=RECEIVERS["http"], again=True),
    ),
    Work(
        "splunk-raw",
        "a backlog of 1 GB of one stream to a Splunk collector that indexes at once, on this machine",
        (Goal("mb_per_s", "MB/s", ">=", 100), ABOVE_IDLE),
        partial(backlog, receiver=RECEIVERS["splunk"]),
    ),
)
