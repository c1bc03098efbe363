"""What an outage leaves behind: a backlog that is drained beside intake, and a start with a full buffer."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from bench import corpus
from bench.checking import Sent
from bench.corpus import SHAPES
from bench.load import ACCEPTED, Plan
from bench.rig import Rig, metrics, ready_seconds, rig, wait_until
from bench.work import Figures, Goal, Scale, Work

SHAPE = SHAPES["ingest-100"]
LAST_SECONDS = 2  # of intake: what is left in the buffer when a backlog is drained
INTAKE_SHARE = 0.25
MB = 1_000_000


def drain(scale: Scale) -> Figures:
    """The destination is down while the backlog grows at full speed, comes back, and intake goes on at a quarter."""
    requests = scale.of(5000, 120) * MB // SHAPE.size_bytes
    with rig(options={"drain_seconds": 1}) as one:
        one.service.start()
        peak = one.load(Plan(one.service.port, "ingest-100", 16, requests=requests))
        assert peak["accepted"] == requests, peak
        rate = peak["accepted"] / peak["seconds"] * INTAKE_SHARE
        before = one.load(_intake(one, rate, requests, scale.of(20, 2)))
        during = one.begin(_intake(one, rate, requests * 2, 0))
        one.start_store()
        began = time.perf_counter()
        left = rate * SHAPE.records * LAST_SECONDS
        wait_until(lambda: one.undelivered() < left, "the backlog to drain", 1200)
        seconds, delivered = time.perf_counter() - began, metrics(one.service.port)["firehose_delivered_records_total"]
        said = one.end(during)
        one.deliver_all()
        one.check()
        return {
            "peak_records_per_s": peak["records"] / peak["seconds"],
            "intake_records_per_s": said["records"] / said["seconds"],
            "drained_records_per_s": delivered / seconds,
            "drain_to_intake": delivered / seconds / (said["records"] / said["seconds"]),
            "drain_seconds": seconds,
            "p99_before_ms": before["accepted_ms"]["p99"],
            "p99_during_ms": said["accepted_ms"]["p99"],
            "p99_to_before": said["accepted_ms"]["p99"] / before["accepted_ms"]["p99"],
            "refused": float(said["refused"] + said["late"]),
        }


def _intake(one: Rig, rate: float, first: int, seconds: float) -> Plan:
    return Plan(one.service.port, "ingest-100", 256, seconds=seconds, rate=rate, first=first)


def start_empty(scale: Scale) -> Figures:
    """From the command to the first answer of /readyz that says yes."""
    with rig() as one:
        return {"ready_seconds": ready_seconds(one.service)}


def start_full(scale: Scale) -> Figures:
    """A thousand segments of 10 MB wait for a destination that is down; then it comes back, and all is delivered."""
    segments, size = scale.of(1000, 10), scale.of(10, 1) * MB
    with rig(buffering={"size_mib": 1024, "interval_seconds": 900}, options={"drain_seconds": 1}) as one:
        one.service.start()
        for number in range(segments):
            one.sent.append(_segment(one, number * (size // SHAPE.size_bytes), size // SHAPE.size_bytes))
        assert one.service.stop() == 0
        found = {"ready_seconds": ready_seconds(one.service), "segments": float(segments)}
        one.start_store()
        one.deliver_all()
        one.check()
        return found


def _segment(one: Rig, first: int, requests: int) -> Sent:
    """One body as large as so many requests, then the order to seal it."""
    numbers = range(first, first + requests)
    body = b"".join(
        record if row else record.replace(corpus.NUMBER % 0, corpus.NUMBER % number, 1)
        for number in numbers
        for row, record in enumerate(corpus.records(SHAPE, number % corpus.BODIES))
    )
    answer: Mapping[str, Any] = one.service.post(f"/ingest/{corpus.STREAM}", body).json()
    assert answer == {"accepted": requests * SHAPE.records, "rejected": 0}, answer
    assert one.service.post(f"/v1/streams/{corpus.STREAM}/flush", b"").status_code == 200
    return Sent(SHAPE, first, bytes([ACCEPTED]) * requests)


WORKS = (
    Work(
        "backlog",
        "a backlog of 5 GB, intake at 25 % of its peak",
        (
            Goal("drain_to_intake", "x the intake, delivered", ">=", 2),
            Goal("p99_to_before", "x intake's p99 without the drain", "<=", 2),
        ),
        drain,
    ),
    Work(
        "start-empty",
        "start to ready with an empty buffer",
        (Goal("ready_seconds", "s to ready", "<=", 1),),
        start_empty,
    ),
    Work(
        "start-10gb",
        "start to ready with 10 GB buffered in 1,000 segments",
        (Goal("ready_seconds", "s to ready", "<=", 3),),
        start_full,
    ),
)
