"""What an answer takes at half load, beside the bare echo under the same open loop.

k6 makes the load, for its clock and its schedule are nobody's here; where it is not installed our own generator does.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from bench import corpus
from bench.checking import Sent
from bench.load import ACCEPTED, Plan
from bench.rig import Rig, rig
from bench.work import Figures, Goal, Scale, Work

SCRIPT = Path(__file__).with_name("open_loop.js")
K6 = shutil.which("k6", path=".tools/bin") or shutil.which("k6")
HALF = 0.5


@dataclass(frozen=True, slots=True)
class Answers:
    """Milliseconds, and what share of the requests that were due really left."""

    p50: float
    p99: float
    left_percent: float


def half_load(scale: Scale, *, shape: str) -> Figures:
    """The rate of a closed loop first, then half of it as an open loop: the service, then the echo."""
    with rig() as one:
        one.start()
        peak = one.load(Plan(one.service.port, shape, 64, seconds=scale.of(5, 1)))
        one.deliver_all()
        rate, seconds = max(1, int(peak["accepted"] / peak["seconds"] * HALF)), scale.of(20, 2)
        ours = _answers(one, Plan(one.service.port, shape, 256, seconds=seconds, rate=rate, first=peak["sent"]))
        one.deliver_all()
        one.check()
        server, port = one.bare("bare_http", peak["answer_bytes"])
        echo = _answers(one, Plan(port, shape, 256, seconds=seconds, rate=rate))
        server.kill()
        return {
            "requests_per_s": float(rate),
            "p50_ms": ours.p50,
            "p99_ms": ours.p99,
            "echo_p50_ms": echo.p50,
            "echo_p99_ms": echo.p99,
            "p99_added_ms": ours.p99 - echo.p99,
            "left_percent": ours.left_percent,
            "echo_left_percent": echo.left_percent,
            "with_k6": float(K6 is not None),
        }


def _answers(one: Rig, plan: Plan) -> Answers:
    if K6 is not None:
        return _with_k6(one, plan, Path(K6))
    said = one.load(plan)
    assert said["accepted"] == said["sent"], said
    left = said["sent"] / (said["sent"] + said["late"]) * 100
    return Answers(said["accepted_ms"]["p50"], said["accepted_ms"]["p99"], left)


def _with_k6(one: Rig, plan: Plan, k6: Path) -> Answers:
    shape = corpus.SHAPES[plan.shape]
    before, _, after = b"".join(corpus.records(shape, 0)).partition(corpus.NUMBER % 0)
    (one.folder / "before").write_bytes(before)
    (one.folder / "after").write_bytes(after)
    environment = {
        "PATH": "/usr/bin:/bin",
        "HOME": str(one.folder),
        "K6_NO_USAGE_REPORT": "true",
        "BEFORE": str(one.folder / "before"),
        "AFTER": str(one.folder / "after"),
        "FIRST": str(plan.first),
        "RATE": str(int(plan.rate)),
        "DURATION": f"{plan.seconds:g}s",
        "URL": f"http://127.0.0.1:{plan.port}/ingest/{corpus.STREAM}",
        "SUMMARY": str(one.folder / "summary"),
    }
    command = [str(k6.absolute()), "run", "--quiet", "--address", "127.0.0.1:0", str(SCRIPT)]
    subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    said = json.loads((one.folder / "summary").read_text())
    answered = int(said["http_reqs"]["values"]["count"])
    assert said["http_req_failed"]["values"]["rate"] == 0, said["http_req_failed"]
    if plan.port == one.service.port:
        one.sent.append(Sent(shape, plan.first, bytes([ACCEPTED]) * answered, bodies=1))
    took = said["http_req_duration"]["values"]
    return Answers(took["p(50)"], took["p(99)"], min(100.0, answered / (plan.rate * plan.seconds) * 100))


def _work(name: str, about: str, shape: str) -> Work:
    goals = (Goal("p99_added_ms", "ms p99 above the bare echo", "<=", 5),)
    return Work(name, about, goals, partial(half_load, shape=shape))


WORKS = (
    _work("p99-1", "the answer at half load, one event a request", "ingest-1"),
    _work("p99-100", "the answer at half load, 100 events a request", "ingest-100"),
)
