"""Hooks in the whole service, as processes: kills, reloads, a hook that never says the same twice, one that hangs."""

from __future__ import annotations

import json
import os
import random
import signal
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from programs import Programs, wait_for
from running import to_folder
from whole_service import WholeService

QUICK = {"size_mib": 1, "interval_seconds": 0.2}
DICE = """
import os, secrets
def clean(record: bytes):
    with open({pids!r}, "a") as pids:
        print(os.getpid(), file=pids)
    return record.rstrip() + b" " + secrets.token_hex(8).encode() + b"\\n"
"""
HANGS = """
import time
def clean(record: bytes):
    if record.startswith(b"hang"):
        time.sleep(3600)
    return b"old " + record
"""
NEW = """
def clean(record: bytes):
    return b"new " + record
"""
RAISES = """
def clean(record: bytes):
    raise ValueError("broken in the middle")
"""


@pytest.fixture
def programs(tmp_path: Path) -> Iterator[Programs]:
    with Programs(tmp_path) as running:
        yield running


def stream(root: Path, code: str, **keys: Any) -> dict[str, Any]:
    """A stream whose hook is this code."""
    write(root, code)
    hook = {"type": "python", "handler": "hooks:clean", "path": str(root), "timeout_seconds": 600}
    ends = {"destination": to_folder(root), "errors": to_folder(root, "errors")}
    return {"buffering": QUICK, "transforms": [hook], **ends, **keys}


def write(root: Path, code: str) -> None:
    """Whole at once: a worker may start at any moment."""
    (root / "hooks.new").write_text(code)
    (root / "hooks.new").rename(root / "hooks.py")


def lines(folder: Path) -> list[str]:
    files = sorted(one for one in folder.rglob("*") if one.is_file() and ".partial" not in str(one))
    return [line for file in files for line in file.read_text().splitlines()]


def test_an_outcome_is_never_computed_again(programs: Programs, tmp_path: Path) -> None:
    """A hook that answers differently each time: through kills of either process, two destinations, one of which is
    blocked all the while, get the same answer for each record, once.
    """
    pids, blocked = tmp_path / "pids", tmp_path / "blocked"
    blocked.write_text("a file where a folder should be")
    ends = {"destinations": [{**to_folder(tmp_path), "name": "a"}, {**to_folder(tmp_path, "blocked/x"), "name": "b"}]}
    app = {**stream(tmp_path, DICE.format(pids=str(pids))), **ends}
    del app["destination"]
    service = WholeService(programs, tmp_path / "service", {"app": app})
    service.start()
    dice, sent = random.Random(5), 0
    for kill in (service.kill_delivery, service.kill, service.kill_delivery, service.kill):
        some = len(lines(tmp_path / "out"))
        for _ in range(20):
            body = b"".join(b"%06d\n" % (sent + n) for n in range(dice.randrange(1, 40)))
            assert service.post("/ingest/app", body).status_code == 200
            sent += body.count(b"\n")
        wait_for(partial(more_than, some, tmp_path / "out"), "something to be delivered")
        kill()
        if not service.program.alive:
            service.start()
    blocked.unlink()
    service.deliver_all("app")
    got, other = lines(tmp_path / "out"), lines(tmp_path / "blocked/x")
    assert sorted(line.split()[0] for line in got) == [f"{n:06d}" for n in range(sent)]
    assert sorted(got) == sorted(other)
    assert service.stop() == 0
    workers = {int(pid) for pid in pids.read_text().split()}
    wait_for(lambda: not any(alive(pid) for pid in workers), "the workers to end with their service")


def more_than(count: int, folder: Path) -> bool:
    return len(lines(folder)) > count


def waiting(service: WholeService, count: int) -> bool:
    return service.metric("firehose_buffered_records", stream="app") == count


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"


def test_a_reload_brings_the_newest_code(programs: Programs, tmp_path: Path) -> None:
    """What has an outcome keeps it; a segment at which the old code hangs meets the new code at once."""
    service = WholeService(programs, tmp_path / "service", {"app": stream(tmp_path, HANGS)})
    service.start()
    service.post("/ingest/app", b"first\n")
    wait_for(lambda: lines(tmp_path / "out") == ["old first"], "the old code's answer")
    service.post("/ingest/app", b"hang\n")
    wait_for(lambda: service.place("app")["buffered"] == 1, "the segment")
    service.post("/ingest/app", b"second\n")
    write(tmp_path, NEW)
    service.program.signal(signal.SIGHUP)
    service.deliver_all("app")
    assert {"new hang", "old first"} < set(lines(tmp_path / "out"))
    assert len(lines(tmp_path / "out")) == 3
    assert not (tmp_path / "errors").exists()


def test_a_hook_that_hangs_leaves_other_streams_alone(programs: Programs, tmp_path: Path) -> None:
    """While one stream's hook hangs on several segments, another stream delivers as ever."""
    other = {"buffering": QUICK, "destination": to_folder(tmp_path, "other")}
    service = WholeService(programs, tmp_path / "service", {"app": stream(tmp_path, HANGS), "other": other})
    service.start()
    for number in range(1, 8):
        service.post("/ingest/app", b"hang %d\n" % number)
        wait_for(partial(waiting, service, number), "the segment to be sealed")
        service.post("/ingest/other", b"%d\n" % number)
        service.deliver_all("other")
    assert sorted(lines(tmp_path / "other")) == [str(n) for n in range(1, 8)]
    assert lines(tmp_path / "out") == []


def test_when_the_error_output_fails_too_the_stream_pauses(programs: Programs, tmp_path: Path) -> None:
    """What can neither be delivered nor set down waits: /readyz, metrics and log say so, and nothing is lost."""
    (tmp_path / "errors").write_text("a file where a folder should be")
    service = WholeService(programs, tmp_path / "service", {"app": stream(tmp_path, RAISES)})
    service.start()
    service.post("/ingest/app", b"a\nb\n")
    wait_for(lambda: service.metric("firehose_delivery_paused", stream="app") == 1, "the pause")
    wait_for(lambda: "paused: the error output fails" in service.check("stream app to folder"), "it to be said")
    assert service.ready
    wait_for(lambda: "the error output fails" in service.last_error("app"), "the error to be told")
    assert any("the error output fails" in line for line in service.program.log.read_text().splitlines())
    (tmp_path / "errors").unlink()
    service.program.signal(signal.SIGHUP)
    service.deliver_all("app")
    letters = [json.loads(line) for line in lines(tmp_path / "errors")]
    assert [letter["errorMessage"] for letter in letters] == ["ValueError: broken in the middle"] * 2


def test_a_hook_that_is_too_slow_fills_its_buffer_and_nothing_else(programs: Programs, tmp_path: Path) -> None:
    """Behind a hook that never gets done intake goes on up to the stream's bound, is refused from there on, and other
    streams notice nothing.
    """
    other = {"buffering": QUICK, "destination": to_folder(tmp_path, "other")}
    slow = stream(tmp_path, HANGS, limit_gib=0.01)
    service = WholeService(programs, tmp_path / "service", {"app": slow, "other": other})
    service.start()
    body, accepted = b"hang " + b"x" * 500_000 + b"\n", 0
    while (answer := service.post("/ingest/app", body)).status_code == 200:
        accepted += 1
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
    assert "limit_gib" in answer.text
    assert 0.9 < accepted * len(body) / (0.01 * 2**30) <= 1.0
    assert service.metric("firehose_buffered_bytes", stream="app") <= 0.01 * 2**30
    assert service.post("/ingest/other", b"a\n").status_code == 200
    service.deliver_all("other")
    write(tmp_path, NEW)
    service.program.signal(signal.SIGHUP)
    service.deliver_all("app")
    assert len(lines(tmp_path / "out")) == accepted
