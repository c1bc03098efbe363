"""Memory: what a run needs above the idle service, however much is sent and however large the segments are."""

from __future__ import annotations

from functools import partial

from bench import measuring, receivers
from bench.corpus import SHAPES
from bench.load import Plan
from bench.receivers import RECEIVERS, Receiver, rig_to
from bench.rig import Rig, rig
from bench.work import Figures, Goal, Scale, Work

SHAPE = SHAPES["ingest-100"]
MB = 1_000_000
LARGEST_MIB = 512


def run(scale: Scale, *, megabytes: int, quick: int, segment_mib: int, quick_mib: int) -> Figures:
    """To S3."""
    with rig(buffering=segments_of(scale.of(segment_mib, quick_mib))) as one:
        return watched(one, scale.of(megabytes, quick))


def run_to(scale: Scale, *, receiver: Receiver, megabytes: int, segment_mib: int) -> Figures:
    with rig_to(receiver, buffering=segments_of(scale.of(segment_mib, 2))) as (one, _):
        return watched(one, scale.of(megabytes, 4))


def segments_of(mib: int) -> dict[str, float]:
    return {"size_mib": mib, "interval_seconds": 900}


def watched(one: Rig, megabytes: int) -> Figures:
    """Sampled from the first request until all is delivered, over both processes."""
    one.start()
    idle = measuring.memory(one.pid)
    plan = Plan(one.service.port, "ingest-100", 16, requests=megabytes * MB // SHAPE.size_bytes)
    with measuring.Watch(one.pid) as watch:
        said = one.load(plan)
        one.deliver_all()
    assert said["accepted"] == said["sent"], said
    receivers.check(one)
    return {
        "idle_mb": idle.own,
        "idle_pss_mb": idle.pss,
        "peak_mb": watch.peak,
        "above_idle_mb": watch.peak - idle.own,
        "accepted_records_per_s": said["records"] / said["seconds"],
    }


GOALS = (
    Goal("above_idle_mb", "MB above the idle service", "<=", 100),
    Goal("idle_pss_mb", "MB PSS when idle", "<=", 130),
)


def _work(name: str, what: str, *, megabytes: int, quick: int, segment_mib: int, quick_mib: int) -> Work:
    sized = partial(run, megabytes=megabytes, quick=quick, segment_mib=segment_mib, quick_mib=quick_mib)
    return Work(name, what, GOALS, sized)


WORKS = (
    _work("memory-600mb", "600 MB through segments of 5 MiB", megabytes=600, quick=10, segment_mib=5, quick_mib=1),
    _work("memory-6gb", "6 GB through segments of 5 MiB", megabytes=6000, quick=20, segment_mib=5, quick_mib=1),
    _work("memory-128mib", "600 MB in segments of 128 MiB", megabytes=600, quick=20, segment_mib=128, quick_mib=8),
    _work("memory-512mib", "1.2 GB in segments of 512 MiB", megabytes=1200, quick=20, segment_mib=512, quick_mib=16),
    *(
        Work(
            f"memory-{kind}",
            f"600 MB to {kind} in segments of {LARGEST_MIB} MiB",
            GOALS[:1],
            partial(run_to, receiver=receiver, megabytes=600, segment_mib=LARGEST_MIB),
        )
        for kind, receiver in RECEIVERS.items()
    ),
)
