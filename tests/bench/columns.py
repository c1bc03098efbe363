"""Columns and partitions: JSON to Parquet beside a bare program that does it, what inferring, one bad row and
partitioning cost on top, and the memory that large segments and many partitions take.
"""

from __future__ import annotations

import asyncio
import os
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import key_steps
from batches import rows
from bench import corpus, measuring
from bench.corpus import SHAPES
from bench.footprint import MB
from bench.load import Plan
from bench.rig import rig
from bench.throughput import full_load
from bench.work import Figures, Goal, Scale, Work

from firehose.partitioning.step import GATHERED_BYTES, AskingPartition

SHAPE = SHAPES["ingest-100"]
LARGE = {"size_mib": 64, "interval_seconds": 900}
GIVEN = {"format": {"type": "parquet", "schema": {"columns": corpus.COLUMNS}}}
INFERRED = {"format": {"type": "parquet", "schema": "infer"}}
LINES = {"compression": "gzip", "format": {"type": "json_lines"}}
GATHERED = GATHERED_BYTES // SHAPE.record_bytes
SERVICE = ".service"
# No two records are alike in what these look at.
UNIQUE = {
    "": '.trace[0:1] + "-" + .level',
    "date_": r'.timestamp | sub("\\..*"; "Z") | fromdate | strftime("%Y-%m-%d")',
    "asked_": '[.trace[0:1], .level] | join("-")',  # jq alone can tell
}
MANY = r'"\(.id[3:4] | tonumber % 5)-\(.id[7:9])"'  # 500 values


def by_query(query: str) -> Mapping[str, Any]:
    """A rig's options for partitions by one jq key."""
    prefix = "data/!{partitionKeyFromQuery:key}/"
    return {
        "buffering": LARGE,
        "destination_options": {**LINES, "prefix": prefix},
        "stream_options": {"dynamic_partitioning": {"queries": {"key": query}}},
    }


def cpu_of(scale: Scale, **options: Any) -> float:
    """CPU seconds of the service for a GB of events, until all is delivered."""
    with rig(**options) as one:
        one.start()
        plan = Plan(one.service.port, "ingest-100", 16, requests=scale.of(8000, 300))
        one.warm_up(plan)
        before = one.cpu()
        said = one.load(plan)
        one.deliver_all()
        cpu = one.cpu() - before
        one.check()
        assert said["accepted"] == said["sent"], said
        return float(cpu / said["bytes"] * 1e9)


def inferred(scale: Scale) -> Figures:
    """The same load with the schema given and with one that is inferred."""
    given = cpu_of(scale, buffering=LARGE, destination_options=GIVEN)
    found = cpu_of(scale, buffering=LARGE, destination_options=INFERRED)
    return {"cpu_s_per_gb": found, "given_cpu_s_per_gb": given, "ratio": found / given}


def by_column(scale: Scale) -> Figures:
    """Parquet as it comes, and partitioned by a column."""
    whole = cpu_of(scale, buffering=LARGE, destination_options=GIVEN)
    partitioned = {"dynamic_partitioning": {"columns": ["service"]}}
    parted = cpu_of(scale, buffering=LARGE, destination_options=GIVEN, stream_options=partitioned)
    return {"cpu_s_per_gb": parted, "whole_cpu_s_per_gb": whole, "ratio": parted / whole}


def by_jq(scale: Scale) -> Figures:
    """JSON lines partitioned by one jq key, and jq alone that prints the key of the same lines."""
    whole = cpu_of(scale, buffering=LARGE, destination_options=LINES)
    plain = cpu_of(scale, **by_query(SERVICE))
    computed = cpu_of(scale, **by_query(f"{SERVICE} | ascii_downcase"))
    bare = jq_alone(SERVICE, b"".join(corpus.records(SHAPE, 0)) * scale.of(2000, 20))
    return {
        "added_cpu_s_per_gb": plain - whole,
        "added_computed_cpu_s_per_gb": computed - whole,
        "whole_cpu_s_per_gb": whole,
        "jq_cpu_s_per_gb": bare,
    }


def by_unique_jq(scale: Scale) -> Figures:
    """The step alone with keys of which no two records need have the same, and jq alone that prints them."""
    lines = [line for body in range(scale.of(400, 2)) for line in corpus.records(SHAPE, body)]
    size_bytes = sum(map(len, lines))
    figures: dict[str, float] = {}
    for name, query in UNIQUE.items():
        figures[f"{name}cpu_s_per_gb"] = asyncio.run(stepping(query, lines)) / size_bytes * 1e9
        figures[f"{name}jq_cpu_s_per_gb"] = jq_alone(query, b"".join(lines))
    return figures


async def stepping(query: str, lines: Sequence[bytes]) -> float:
    """CPU seconds of this process and of the worker, which has been started before."""
    step = key_steps.working(queries={"key": query})
    assert isinstance(step, AskingPartition)
    slices = [rows(lines[start : start + GATHERED]) for start in range(0, len(lines), GATHERED)]
    try:
        await step.outcome(slices[0])
        before = measuring.cpu_seconds(os.getpid())
        outcomes = [await step.outcome(one) for one in slices]
        cpu = measuring.cpu_seconds(os.getpid()) - before
    finally:
        await step.close()
    assert not any(one.refused for one in outcomes), outcomes[0].refused.table.slice(0, 1).to_pylist()
    return cpu


def jq_alone(query: str, lines: bytes) -> float:
    """CPU seconds for a GB of lines, of jq's own process; where there is no jq, of one that runs its library alone."""
    program = f"import sys, jq\nfor _ in jq.compile({query!r}).input_text(sys.stdin.read()): pass"
    command = ["jq", "-r", query] if shutil.which("jq") else [sys.executable, "-c", program]
    before = _children_seconds()
    subprocess.run(command, input=lines, stdout=subprocess.DEVNULL, check=True)
    return (_children_seconds() - before) / len(lines) * 1e9


def _children_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def memory(scale: Scale, *, megabytes: int, segment_mib: int) -> Figures:
    """Sampled from the first request until all is delivered, over both processes."""
    buffering = {"size_mib": scale.of(segment_mib, 8), "interval_seconds": 900}
    with rig(buffering=buffering, destination_options=GIVEN) as one:
        one.start()
        idle = measuring.memory(one.pid)
        plan = Plan(one.service.port, "ingest-100", 16, requests=scale.of(megabytes, 20) * MB // SHAPE.size_bytes)
        with measuring.Watch(one.pid) as watch:
            said = one.load(plan)
            one.deliver_all()
        assert said["accepted"] == said["sent"], said
        one.check()
        return {"above_idle_mb": watch.peak - idle.own, "idle_mb": idle.own}


def many_partitions(scale: Scale) -> Figures:
    """A steady load on 500 partitions: nothing is put before an interval is over."""
    interval = scale.of(60, 4)
    options = {**by_query(MANY), "buffering": {"size_mib": 64, "interval_seconds": interval}}
    with rig(**options) as one:
        one.start()
        rate = scale.of(40, 10)
        plan = Plan(one.service.port, "ingest-100", 64, seconds=interval * 2.5, rate=rate)
        loading = one.prepare(plan)
        with measuring.Watch(one.pid) as watch:
            began = time.time()
            loading.begin()
            said = loading.ended()
            one.sent.append(loading.sent)
            early = [at for at in _put_at(one.objects) if at < began + interval]
            one.deliver_all()
        one.check()
        assert said["accepted"] == said["sent"], said
        return {"peak_mb": watch.peak, "early_objects": float(len(early)), "objects": float(len(_put_at(one.objects)))}


def _put_at(objects: Path) -> list[float]:
    return [file.stat().st_mtime for file in objects.iterdir() if not file.name.startswith(".")]


WORKS = (
    Work(
        "parquet",
        "JSON to Parquet (snappy), schema given, 100 events a request, 16 connections",
        (Goal("cpu_s_per_gb", "CPU s/GB", "<=", 13, "floor_cpu_s_per_gb"),),
        partial(
            full_load,
            shape="ingest-100",
            connections=16,
            requests=8000,
            quick=300,
            floor="parquet",
            buffering=LARGE,
            destination_options=GIVEN,
        ),
    ),
    Work(
        "parquet-inferred",
        "the same with an inferred schema, against the one given",
        (Goal("ratio", "of the CPU with the schema given", "<=", 1.2),),
        inferred,
    ),
    *(
        Work(
            f"parquet-memory-{mib}mib",
            f"JSON to Parquet in segments of {mib} MiB",
            (Goal("above_idle_mb", "MB above the idle service", "<=", 160),),
            partial(memory, megabytes=megabytes, segment_mib=mib),
        )
        for mib, megabytes in ((128, 600), (512, 1200))
    ),
    Work(
        "partition-column",
        "Parquet partitioned by a column, against unpartitioned",
        (Goal("ratio", "of the CPU unpartitioned", "<=", 1.3),),
        by_column,
    ),
    Work(
        "partition-jq",
        "JSON lines partitioned by one jq key: what that adds, beside jq alone",
        (
            Goal("added_cpu_s_per_gb", "CPU s/GB for a path", "<=", 60, "jq_cpu_s_per_gb"),
            Goal("added_computed_cpu_s_per_gb", "CPU s/GB for a computed key", "<=", 60, "jq_cpu_s_per_gb"),
        ),
        by_jq,
    ),
    Work(
        "partition-jq-unique",
        "Partitions by a jq key that is made of other values in each record: the step, beside jq alone",
        (
            Goal("cpu_s_per_gb", "CPU s/GB for texts put together", "<=", 60, "jq_cpu_s_per_gb"),
            Goal("date_cpu_s_per_gb", "CPU s/GB for a date", "<=", 60, "date_jq_cpu_s_per_gb"),
            Goal("asked_cpu_s_per_gb", "CPU s/GB for what jq alone can tell", "<=", 60, "asked_jq_cpu_s_per_gb"),
        ),
        by_unique_jq,
    ),
    Work(
        "partitions-500",
        "500 active partitions at a steady 2 MB/s, intervals of 60 s",
        (
            Goal("peak_mb", "MB of all processes", "<=", 300),
            Goal("early_objects", "objects before the first interval was over", "<=", 0),
        ),
        many_partitions,
    ),
)
