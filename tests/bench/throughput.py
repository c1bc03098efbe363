"""CPU and rates of intake and delivery at full load, beside a bare pipeline, a bare echo and a bare disk."""

from __future__ import annotations

import time
from functools import partial
from typing import Any

from bench import floors, measuring
from bench.corpus import SHAPES
from bench.load import Plan
from bench.rig import rig
from bench.work import Figures, Goal, Scale, Work

ALLOWED = 0.6  # of the lower ceiling: what an end-to-end rate must reach where it has to


def full_load(
    scale: Scale, *, shape: str, connections: int, requests: int, quick: int, floor: str = "gzip", **options: Any
) -> Figures:
    """One run: the load until all is delivered, then the same load on each floor. `options` are the rig's."""
    sort = SHAPES[shape]
    with rig(**options) as one:
        one.start()
        plan = Plan(one.service.port, shape, connections, requests=scale.of(requests, quick))
        one.warm_up(plan)
        loading = one.prepare(plan)
        cpu, store_cpu, began = one.cpu(), measuring.cpu_seconds(one.store.pid), time.perf_counter()
        loading.begin()
        said = loading.ended()
        one.deliver_all()
        seconds, cpu = time.perf_counter() - began, one.cpu() - cpu
        store_cpu = measuring.cpu_seconds(one.store.pid) - store_cpu
        assert said["accepted"] == said["sent"], said
        one.sent.append(loading.sent)
        bare = floors.pipeline(one, plan, said["answer_bytes"], floor)
        one.check()
        echo = floors.echo(one, plan, said["answer_bytes"])
        disk = floors.disk_seconds(one, said["bytes"], sort.size_bytes * connections)
        ceiling = min(said["records"] / disk, said["records"] / echo.seconds)
        return {
            "cpu_s_per_gb": cpu / said["bytes"] * 1e9,
            "floor_cpu_s_per_gb": bare.cpu_seconds / said["bytes"] * 1e9,
            "cpu_us_per_record": cpu / said["records"] * 1e6,
            "floor_cpu_us_per_record": bare.cpu_seconds / said["records"] * 1e6,
            "cpu_us_per_request": cpu / said["sent"] * 1e6,
            "floor_cpu_us_per_request": bare.cpu_seconds / said["sent"] * 1e6,
            "echo_cpu_us_per_request": echo.cpu_seconds / said["sent"] * 1e6,
            "accepted_records_per_s": said["records"] / said["seconds"],
            "accepted_requests_per_s": said["sent"] / said["seconds"],
            "stored_records_per_s": said["records"] / seconds,
            "floor_stored_records_per_s": said["records"] / bare.seconds,
            "disk_records_per_s": said["records"] / disk,
            "echo_records_per_s": said["records"] / echo.seconds,
            "ceiling_percent": said["records"] / seconds / ceiling * 100,
            "allowed_records_per_s": ceiling * ALLOWED,
            "p99_ms": said["accepted_ms"]["p99"],
            "echo_p99_ms": echo.p99_ms,
            "load_cpu_us_per_request": said["cpu_seconds"] / said["sent"] * 1e6,
            "store_cpu_s_per_gb": store_cpu / said["bytes"] * 1e9,
        }


def _stored(bound: float) -> Goal:
    return Goal("stored_records_per_s", "records/s end to end", ">=", bound, "floor_stored_records_per_s", ALLOWS)


def _per_request(rate: float) -> tuple[Goal, ...]:
    return (
        Goal("cpu_us_per_request", "CPU us/request", "<=", 33, "floor_cpu_us_per_request"),
        Goal("accepted_requests_per_s", "requests/s", ">=", rate, "echo_records_per_s", ALLOWS),
    )


ALLOWS = "allowed_records_per_s"
WORKS = (
    Work(
        "ingest-100",
        "pass-through gzip, 100 events a request, 16 connections",
        (
            Goal("cpu_s_per_gb", "CPU s/GB", "<=", 5, "floor_cpu_s_per_gb"),
            Goal("ceiling_percent", "% of the lower ceiling, end to end", ">=", ALLOWED * 100),
            _stored(200_000),
        ),
        partial(full_load, shape="ingest-100", connections=16, requests=8000, quick=300),
    ),
    Work(
        "put-record-batch",
        "PutRecordBatch of 500 records of 1 KB, 16 connections",
        (Goal("cpu_us_per_record", "CPU us/record", "<=", 5.5, "floor_cpu_us_per_record"), _stored(200_000)),
        partial(full_load, shape="put-record-batch", connections=16, requests=1000, quick=64),
    ),
    Work(
        "ingest-1-64",
        "one event a request, 64 connections",
        _per_request(50_000),
        partial(full_load, shape="ingest-1", connections=64, requests=100_000, quick=4000),
    ),
    Work(
        "ingest-1-16",
        "one event a request, 16 connections",
        _per_request(40_000),
        partial(full_load, shape="ingest-1", connections=16, requests=100_000, quick=4000),
    ),
)
