"""A disk that takes 10 ms for each sync: group commit must hide it, and no stream may wait for another's."""

from __future__ import annotations

import sys
from functools import partial

from bench.load import Plan
from bench.rig import OURS, Rig, rig
from bench.work import Figures, Goal, Scale, Work

SYNC_MS = 10


def run(scale: Scale, *, streams: int, quick: int, connections: int) -> Figures:
    """The same load on the fast disk and on the slow one."""
    streams = scale.of(streams, quick)
    fast, slow = (_rates(scale, streams, max(connections, streams), milliseconds) for milliseconds in (0, SYNC_MS))
    return {
        "share_percent": sum(slow) / sum(fast) * 100,
        "fast_records_per_s": sum(fast),
        "slow_records_per_s": sum(slow),
        "least_percent_of_mean": min(slow) / (sum(slow) / len(slow)) * 100,
        "fast_least_percent_of_mean": min(fast) / (sum(fast) / len(fast)) * 100,
    }


def _rates(scale: Scale, streams: int, connections: int, milliseconds: int) -> list[float]:
    """Records a second of each stream."""
    with rig(streams=streams) as one:
        slowed(one, milliseconds)
        one.start()
        plan = Plan(one.service.port, "ingest-100", connections, seconds=scale.of(5, 1), streams=streams)
        said = one.load(plan)
        assert said["accepted"] == said["sent"], said
        one.deliver_all()
        one.check()
        return [accepted * 100 / said["seconds"] for accepted in said["by_stream"]]


def slowed(one: Rig, milliseconds: int) -> None:
    """Has the service start with a disk that takes so long for each sync."""
    command = [sys.executable, "-m", "bench.slow_disk", str(one.service.file), str(milliseconds)]
    one.service.program = one.programs.new("slow-disk", command, **OURS)


WORKS = (
    Work(
        "slow-fsync",
        "10 ms for each fsync, 64 connections, 100 events a request, against the fast disk",
        (Goal("share_percent", "% of the fast disk's rate", ">=", 80),),
        partial(run, streams=1, quick=1, connections=64),
    ),
    Work(
        "slow-fsync-100",
        "10 ms for each fsync, 100 streams with a connection each, against the fast disk",
        (
            Goal("share_percent", "% of the fast disk's rate", ">=", 80),
            Goal("least_percent_of_mean", "% of the mean has the slowest stream", ">=", 50),
        ),
        partial(run, streams=100, quick=10, connections=100),
    ),
)
