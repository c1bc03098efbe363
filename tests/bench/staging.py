"""What delivering to Redshift costs beside delivering the same bytes to S3: a manifest and a session for each batch."""

from __future__ import annotations

from bench.columns import LARGE, LINES
from bench.load import Plan
from bench.receivers import RECEIVERS, check, rig_to
from bench.rig import Rig, rig
from bench.work import Figures, Goal, Scale, Work


def cpu_of(scale: Scale, one: Rig) -> float:
    """CPU seconds of the service for a GB of events, until all is delivered."""
    one.start()
    plan = Plan(one.service.port, "ingest-100", 16, requests=scale.of(8000, 300))
    one.warm_up(plan)
    before = one.cpu()
    said = one.load(plan)
    one.deliver_all()
    cpu = one.cpu() - before
    check(one)
    assert said["accepted"] == said["sent"], said
    return float(cpu / said["bytes"] * 1e9)


def beside_s3(scale: Scale) -> Figures:
    with rig(buffering=LARGE, destination_options=LINES) as one:
        plain = cpu_of(scale, one)
    with rig_to(RECEIVERS["redshift"], buffering=LARGE, destination_options=LINES) as (one, _):
        staged = cpu_of(scale, one)
    return {"cpu_s_per_gb": staged, "s3_cpu_s_per_gb": plain, "ratio": staged / plain}


WORKS = (
    Work(
        "redshift-staging",
        "JSON lines staged and loaded by a cluster that does nothing, beside the same to S3",
        (Goal("ratio", "times the CPU of S3", "<=", 1.15),),
        beside_s3,
    ),
)
