"""The bench itself: its check can fail, its goals are judged as they are written, and every family of works runs."""

from __future__ import annotations

import gzip
import json
import math
import os
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import pytest
from bench import checking, corpus, load
from bench.checking import Sent, Wrong, check
from bench.work import Goal, medians

ROOT = Path(__file__).parents[2]
SHAPE = corpus.SHAPES["ingest-100"]
FATES = bytes([load.ACCEPTED, load.REFUSED, load.ACCEPTED, load.UNKNOWN])
ONE_OF_EACH_FAMILY = (
    "ingest-100",
    "p99-1",
    "memory-128mib",
    "streams-1000",
    "backlog",
    "slow-fsync",
    "refusals",
    "transforms",
    "hook-batch",
    "http-ndjson",
    "splunk-raw",
    "memory-opensearch",
    "partition-column",
    "shardlog-append",
    "shardlog-read",
    "shardlog-idle",
    "kinesis-put-records",
    "kinesis-get-records",
    "kinesis-fanout-latency",
)


def lines(number: int) -> list[bytes]:
    first, *others = corpus.records(SHAPE, number % corpus.BODIES)
    return [first.replace(corpus.NUMBER % 0, corpus.NUMBER % number, 1), *others]


def deliver(folder: Path, *objects: Iterable[bytes]) -> None:
    for index, records in enumerate(objects):
        (folder / str(index)).write_bytes(gzip.compress(b"".join(records)))


SENT = Sent(SHAPE, 100, FATES)


@pytest.mark.parametrize("objects", [(100, 102), (102, 103, 100)])
def test_what_was_acknowledged_once_is_right(tmp_path: Path, objects: tuple[int, ...]) -> None:
    """The acknowledged requests are there once; one that was never answered may be there too."""
    deliver(tmp_path, *map(lines, objects))
    check(tmp_path, [SENT])


@pytest.mark.parametrize(
    "objects",
    [
        pytest.param([lines(100)], id="a request is missing"),
        pytest.param([lines(100), lines(102), lines(102)], id="a request is doubled"),
        pytest.param([lines(100), lines(101), lines(102)], id="a refused request is there"),
        pytest.param([lines(100), lines(102), lines(103), lines(103)], id="an unanswered request is doubled"),
        pytest.param([lines(100), lines(102), lines(104)], id="a request that was never sent"),
        pytest.param([lines(100), lines(102)[:-1]], id="a record is missing"),
        pytest.param([lines(100), [*lines(102), lines(102)[5]]], id="a record is doubled"),
        pytest.param([lines(100), [*lines(102)[:-1], lines(102)[5]]], id="a record stands for another"),
    ],
)
def test_what_is_wrong_is_found(tmp_path: Path, objects: list[list[bytes]]) -> None:
    """Whatever is missing, doubled or invented, down to a single record, fails the run."""
    deliver(tmp_path, *objects)
    with pytest.raises(Wrong):
        check(tmp_path, [SENT])


def test_lines_are_never_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However the objects are read piece by piece, each record is seen whole."""
    monkeypatch.setattr(checking, "READ_BYTES", 100)
    deliver(tmp_path, lines(100) + lines(102))
    check(tmp_path, [SENT])


@pytest.mark.parametrize("shape", corpus.SHAPES.values(), ids=corpus.SHAPES)
def test_records_have_their_size(shape: corpus.Shape) -> None:
    """Every record is as large as its shape says, for figures are counted by it."""
    sizes = {len(record) for body in range(corpus.BODIES) for record in corpus.records(shape, body)}
    assert sizes == {shape.record_bytes}


@pytest.mark.parametrize(
    ("value", "ceiling", "verdict"), [(9, 99, "missed"), (10, 99, "met"), (9, 9.5, "not allowed here"), (10, 1, "met")]
)
def test_a_goal_is_judged_by_what_was_possible(value: float, ceiling: float, verdict: str) -> None:
    """A rate that the disk would not have allowed is not held against the service."""
    goal = Goal("rate", "1/s", ">=", 10, ceiling="most")
    assert goal.verdict({"rate": value, "most": ceiling}) == verdict


def test_one_odd_run_changes_no_figure() -> None:
    """Figures are medians."""
    assert medians([{"ms": 1.0}, {"ms": 900.0}, {"ms": 2.0}]) == {"ms": 2.0}


@pytest.mark.kill
@pytest.mark.timeout(3600)
def test_every_family_of_works_runs(tmp_path: Path) -> None:
    """A quick run of one work of each family finds every record, and says a figure for each of its goals."""
    works = [word for name in ONE_OF_EACH_FAMILY for word in ("--work", name)]
    command = [sys.executable, "-m", "bench", "--quick", "--runs", "1", "--json", str(tmp_path / "json"), *works]
    environment = {**os.environ, "PYTHONPATH": f"{ROOT / 'tests'}:{ROOT / 'tests' / 'support'}"}
    done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, timeout=3000, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    said = json.loads((tmp_path / "json").read_text())["works"]
    assert set(said) == set(ONE_OF_EACH_FAMILY)
    values = [figure for work in said.values() for figure in work["median"].values()]
    assert all(math.isfinite(value) for value in values)
