"""What an answer takes at half load, beside the bare echo under the same open loop.

Our own generator makes the load, and k6 where it is installed: its clock and its schedule are nobody's here, but on
few cores it takes more of them than the service.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from bench import corpus, floors
from bench.checking import Sent
from bench.load import ACCEPTED, Plan
from bench.rig import Rig, metrics, rig, wait_until
from bench.work import Figures, Goal, Scale, Work
from hooking import HANDLERS

SCRIPT = Path(__file__).with_name("open_loop.js")
K6 = shutil.which("k6", path=".tools/bin") or shutil.which("k6")
HALF = 0.5
GROUP_REQUESTS = 8  # that are synced together at half load, more or less
HOOK_REQUESTS = 150  # a second, of 100 events
HOOK_ASKED = 500


@dataclass(frozen=True, slots=True)
class Answers:
    """Milliseconds, and what share of the requests that were due really left."""

    p50: float
    p99: float
    left_percent: float


def half_load(scale: Scale, *, shape: str) -> Figures:
    """The rate of a closed loop first, then half of it as an open loop: the service, the echo, a bare disk."""
    with rig() as one:
        one.start()
        peak = one.load(Plan(one.service.port, shape, 64, seconds=scale.of(5, 1)))
        rate, seconds = max(1, int(peak["accepted"] / peak["seconds"] * HALF)), scale.of(20, 2)
        plan = Plan(one.service.port, shape, 256, seconds=seconds, rate=rate, first=peak["sent"])
        one.deliver_all()
        ours = _with_ours(one, plan)
        one.deliver_all()
        k6 = _with_k6(one, replace(plan, first=plan.first + rate * seconds * 2)) if K6 else ours
        one.deliver_all()
        one.check()
        server, port = one.bare("bare_http", peak["answer_bytes"])
        echo = _with_ours(one, replace(plan, port=port))
        k6_echo = _with_k6(one, replace(plan, port=port)) if K6 else echo
        server.kill()
        disk = floors.disk_p99_ms(one, corpus.SHAPES[shape].size_bytes * GROUP_REQUESTS)
        return {
            "requests_per_s": float(rate),
            "p50_ms": ours.p50,
            "p99_ms": ours.p99,
            "echo_p99_ms": echo.p99,
            "p99_added_ms": ours.p99 - echo.p99,
            "disk_p99_ms": disk,
            "left_percent": ours.left_percent,
            "k6_p50_ms": k6.p50,
            "k6_p99_ms": k6.p99,
            "k6_echo_p99_ms": k6_echo.p99,
            "k6_p99_added_ms": k6.p99 - k6_echo.p99,
            "k6_left_percent": k6.left_percent,
            "with_k6": float(K6 is not None),
        }


def beside_a_hook(scale: Scale) -> Figures:
    """One stream is asked now and then, while another takes and delivers what keeps half a core busy with user code;
    then the same with no such code.
    """
    hook = {"type": "python", "handler": "handlers:busy_record", "path": str(HANDLERS)}
    with_hook, without = (_beside(scale, transforms) for transforms in ([hook], []))
    return {
        "p50_ms": with_hook.p50,
        "p99_ms": with_hook.p99,
        "plain_p99_ms": without.p99,
        "times_plain": with_hook.p99 / without.p99,
    }


def _beside(scale: Scale, transforms: list[dict[str, str]]) -> Answers:
    with rig(streams=2, first_options={"transforms": transforms}) as one:
        one.start()
        asked = Plan(
            one.service.port, "ingest-1", 64, seconds=scale.of(20, 2), rate=HOOK_ASKED, first_stream=1, first=10**9
        )
        one.load(replace(asked, seconds=min(1, asked.seconds), first=2 * 10**9))
        busy = one.begin(Plan(one.service.port, "ingest-100", 16, rate=HOOK_REQUESTS))
        wait_until(lambda: metrics(one.service.port)["firehose_delivered_records_total"] > 10_000, "deliveries")
        answers = _with_ours(one, asked)
        one.end(busy)
        one.deliver_all()
        one.check()
        return answers


def _with_ours(one: Rig, plan: Plan) -> Answers:
    said = one.load(plan)
    assert said["accepted"] == said["sent"], said
    left = said["sent"] / (said["sent"] + said["late"]) * 100
    return Answers(said["accepted_ms"]["p50"], said["accepted_ms"]["p99"], left)


def _with_k6(one: Rig, plan: Plan) -> Answers:
    shape = corpus.SHAPES[plan.shape]
    body = b"".join(corpus.records(shape, 0))
    (one.folder / "body").write_bytes(body)
    environment = {
        "PATH": "/usr/bin:/bin",
        "HOME": str(one.folder),
        "K6_NO_USAGE_REPORT": "true",
        "BODY": str(one.folder / "body"),
        "PLACE": str(body.index(corpus.NUMBER % 0)),
        "FIRST": str(plan.first),
        "RATE": str(int(plan.rate)),
        "DURATION": f"{plan.seconds:g}s",
        "URL": f"http://127.0.0.1:{plan.port}/ingest/{corpus.STREAM}",
        "SUMMARY": str(one.folder / "summary"),
    }
    command = [str(Path(K6 or "k6").absolute()), "run", "--quiet", "--address", "127.0.0.1:0", str(SCRIPT)]
    subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    said = json.loads((one.folder / "summary").read_text())
    answered = int(said["http_reqs"]["values"]["count"])
    assert said["http_req_failed"]["values"]["rate"] == 0, said["http_req_failed"]
    if plan.port == one.service.port:
        one.sent.append(Sent(shape, plan.first, bytes([ACCEPTED]) * answered, bodies=1))
    took = said["http_req_duration"]["values"]
    return Answers(took["p(50)"], took["p(99)"], min(100.0, answered / (plan.rate * plan.seconds) * 100))


def _work(name: str, about: str, shape: str) -> Work:
    ours = Goal("p99_added_ms", "ms p99 above the bare echo", "<=", 5, "disk_p99_ms")
    by_k6 = Goal("k6_p99_added_ms", "ms p99 above the bare echo, by k6", "<=", 5, "disk_p99_ms")
    return Work(name, about, (ours, by_k6) if K6 else (ours,), partial(half_load, shape=shape))


WORKS = (
    _work("p99-1", "the answer at half load, one event a request", "ingest-1"),
    _work("p99-100", "the answer at half load, 100 events a request", "ingest-100"),
    Work(
        "hook-p99",
        "the answer while a hook is at work",
        (Goal("times_plain", "x the p99 of the same without a hook", "<=", 1.5),),
        beside_a_hook,
    ),
)
