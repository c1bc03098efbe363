"""A thousand delivery streams with a record a second each: what idleness costs, and whether any is forgotten."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from typing import Any

from bench import checking, floors, measuring
from bench.load import Plan
from bench.rig import Rig, rig
from bench.work import Figures, Goal, Scale, Work
from isal import isal_zlib

SLACK_SECONDS = 5.0  # a thousand intervals end within the same second, and each has an object to be put
_NUMBER = re.compile(rb'"number": "(\d{12})"')


def run(scale: Scale) -> Figures:
    """Two and a half intervals of 60 s; then the same on a bare program, with as many syncs and objects."""
    streams, interval = scale.of(1000, 50), scale.of(60, 2)
    with rig(streams=streams, buffering={"size_mib": 5, "interval_seconds": interval}) as one:
        one.start()
        plan = Plan(one.service.port, "ingest-1", 256, seconds=interval * 2.5, rate=streams, streams=streams)
        loading = one.prepare(plan)
        with measuring.Watch(one.pid) as watch:
            cpu, began = one.cpu(), time.perf_counter()
            loading.begin()
            said = loading.ended()
            share = (one.cpu() - cpu) / (time.perf_counter() - began)
        one.sent.append(loading.sent)
        one.deliver_all()
        late = lateness(one, said, plan.rate, interval)
        bare = floors.streams(one, plan, said["answer_bytes"], interval)
        one.check()
        assert said["accepted"] == said["sent"], said
        assert scale.quick or not said["late"], "the generator did not keep its schedule, by which lateness is measured"
        return {
            "peak_mb": watch.peak,
            "core_percent": share * 100,
            "floor_core_percent": bare.cpu_seconds / bare.seconds * 100,
            "missed_intervals": float(sum(seconds > SLACK_SECONDS for seconds in late)),
            "latest_seconds": max(late),
            "objects": float(len(late)),
            "p99_ms": said["accepted_ms"]["p99"],
            "floor_p99_ms": bare.p99_ms,
        }


def lateness(one: Rig, said: Mapping[str, Any], rate: float, interval: float) -> list[float]:
    """For each object, how long after the end of its oldest record's interval it was put."""
    late = []
    for file in one.objects.iterdir():
        oldest = min(map(int, _NUMBER.findall(isal_zlib.decompress(file.read_bytes(), checking.GZIP))))
        late.append(file.stat().st_mtime - (said["began"] + oldest / rate) - interval)
    return late


WORKS = (
    Work(
        "streams-1000",
        "1,000 delivery streams, one record a second each, intervals of 60 s",
        (
            Goal("peak_mb", "MB of all processes", "<=", 250),
            Goal("core_percent", "% of a core", "<=", 40, "floor_core_percent"),
            Goal("missed_intervals", f"intervals missed by {SLACK_SECONDS:g} s", "<=", 0),
        ),
        run,
    ),
)
