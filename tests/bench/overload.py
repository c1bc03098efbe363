"""More than it can take: what is still accepted, what an answer takes, what a refusal costs, and who suffers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from bench import floors, measuring
from bench.load import Plan
from bench.rig import rig
from bench.work import Figures, Goal, Scale, Work

OFFERED = 3
TURNS_AWAY: Mapping[str, float] = {"queue_seconds": 1}  # as every service does by default
QUIET_STREAMS = 99
QUIET_PER_SECOND = 2  # requests of each quiet stream
NOISY_CONNECTIONS = 64


def thrice(scale: Scale) -> Figures:
    """The peak of a closed loop, then three times as many requests as that, on as many connections as it takes."""
    with rig(options=TURNS_AWAY) as one:
        one.start()
        port, seconds = one.service.port, scale.of(10, 1)
        cpu = one.cpu()
        peak = one.load(Plan(port, "ingest-100", 64, seconds=seconds))
        one.deliver_all()
        cpu_peak = one.cpu() - cpu
        rate = peak["accepted"] / peak["seconds"]
        plan = Plan(port, "ingest-100", 2000, seconds=seconds, rate=rate * OFFERED, first=peak["sent"])
        with measuring.Watch(one.pid) as watch:
            cpu = one.cpu()
            said = one.load(plan)
            one.deliver_all()
        cpu_all = one.cpu() - cpu
        one.check()
        refusals = cpu_all - said["accepted"] * cpu_peak / peak["accepted"]
        return {
            "peak_requests_per_s": rate,
            "offered_share": (said["sent"] + said["late"]) / seconds / rate,
            "sent_share": said["sent"] / seconds / rate,
            "accepted_percent": said["accepted"] / said["seconds"] / rate * 100,
            "refused": float(said["refused"]),
            "unsent": float(said["late"]),
            "unanswered": float(sum(said["other"].values())),
            "accepted_p99_ms": said["accepted_ms"]["p99"],
            "accepted_max_ms": said["accepted_ms"]["max"],
            "refused_p99_ms": said["refused_ms"]["p99"],
            "refusal_cpu_us": max(0.0, refusals) / said["refused"] * 1e6 if said["refused"] else 0.0,
            "peak_mb": watch.peak,
        }


def refusals(scale: Scale) -> Figures:
    """A buffer at its limit refuses everything: CPU of a refusal, beside that of the bare echo."""
    options = {"limit_gib": 0.0001}
    with rig(stream_options=options, buffering={"size_mib": 64, "interval_seconds": 900}) as one:
        one.service.start()
        first = one.load(Plan(one.service.port, "ingest-100", 1, requests=50))
        plan = Plan(one.service.port, "ingest-100", 16, requests=scale.of(20_000, 500), first=first["sent"])
        cpu = one.cpu()
        said = one.load(plan)
        cpu = one.cpu() - cpu
        assert said["refused"] == said["sent"], said
        one.start_store()
        one.deliver_all()
        one.check()
        echo = floors.echo(one, replace(plan, first=0), 100)
        return {
            "refusal_cpu_us": cpu / said["refused"] * 1e6,
            "floor_cpu_us": echo.cpu_seconds / echo.requests * 1e6,
            "refused_per_s": said["refused"] / said["seconds"],
        }


def noisy(scale: Scale) -> Figures:
    """99 quiet streams alone, then beside one that sends all it can, then beside the same noise to another program,
    which writes, syncs, compresses and sends as much: what is left is what sharing one service costs.
    """
    streams = QUIET_STREAMS + 1
    with rig(streams=streams, options=TURNS_AWAY) as one:
        one.start()
        port, seconds = one.service.port, scale.of(10, 1)
        quiet = Plan(
            port,
            "ingest-1",
            512,
            seconds=seconds,
            rate=QUIET_STREAMS * QUIET_PER_SECOND,
            streams=QUIET_STREAMS,
            first_stream=1,
        )
        noise = Plan(port, "ingest-100", NOISY_CONNECTIONS, first=10**9)
        one.load(replace(quiet, seconds=min(2, seconds), first=3 * 10**9))  # every stream has a lane then
        alone = one.load(quiet)
        noisy = one.begin(noise)
        beside = one.load(replace(quiet, first=10**8))
        made = one.end(noisy)
        one.deliver_all()
        one.check()
        server, other = one.bare_pipeline(made["answer_bytes"], "gzip")
        neighbour = one.begin(replace(noise, port=other))
        elsewhere = one.load(replace(quiet, first=2 * 10**8))
        one.end(neighbour)
        server.kill()
        return {
            "alone_p99_ms": alone["accepted_ms"]["p99"],
            "beside_p99_ms": beside["accepted_ms"]["p99"],
            "elsewhere_p99_ms": elsewhere["accepted_ms"]["p99"],
            "times_alone": beside["accepted_ms"]["p99"] / alone["accepted_ms"]["p99"],
            "floor_times_alone": elsewhere["accepted_ms"]["p99"] / alone["accepted_ms"]["p99"],
            "quiet_refused": float(beside["refused"] + beside["late"] + sum(beside["other"].values())),
            "noisy_records_per_s": made["records"] / made["seconds"],
        }


WORKS = (
    Work(
        "overload",
        "three times the peak is offered, 100 events a request",
        (
            Goal("accepted_percent", "% of the peak accepted", ">=", 90),
            Goal("accepted_p99_ms", "ms p99 of what is accepted", "<=", 1000),
            Goal("peak_mb", "MB of all processes", "<=", 512),
            Goal("unanswered", "requests neither accepted nor refused", "<=", 0),
        ),
        thrice,
    ),
    Work(
        "refusals",
        "a full buffer refuses everything, 100 events a request",
        (Goal("refusal_cpu_us", "CPU us/refusal", "<=", 100, "floor_cpu_us"),),
        refusals,
    ),
    Work(
        "noisy",
        "one noisy stream beside 99 quiet ones",
        (
            Goal("times_alone", "x the quiet p99 alone", "<=", 2, "floor_times_alone"),
            Goal("quiet_refused", "quiet requests not accepted", "<=", 0),
        ),
        noisy,
    ),
)
