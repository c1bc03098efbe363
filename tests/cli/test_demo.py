"""The demo is what a newcomer runs first: it must work from an empty folder."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from firehose.cli.show import Failure
from firehose.demo import Landed, make_sure

ROOT = Path(__file__).parents[2]
# What one post brings fills a partition, which 400 events at a time do only where ten of them come within four seconds.
DEMO = "from firehose import demo; demo.POSTS, demo.EVENTS_PER_POST = 6, 4000; raise SystemExit(demo.main())"


def run(folder: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **variables}
    command = [sys.executable, "-c", DEMO]
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=1500, check=False
    )


def test_the_demo_delivers_everything(tmp_path: Path) -> None:
    """It exits 0, both thresholds trip, everything adds up, and the objects are where it says: by day and service."""
    result = run(tmp_path)
    assert result.returncode == 0, result.stdout + result.stderr
    for said in (
        "0.5 MiB of a partition is full",
        "a partition is 4 s old",
        "24,500 delivered",
        "imbalance 0",
        "every one of the 24,500 accepted records is in them, once",
        "firehose query",
        "timestamp_day=2026-01-01/\n",
        "service=checkout/",
    ):
        assert said in result.stdout
    assert "nowhere" not in result.stdout
    folders = {path.parent.relative_to(path.parents[2]) for path in tmp_path.glob(".demo/*/objects/app/*/*/*.parquet")}
    services = ("accounts", "catalog", "checkout", "gateway", "search")
    days = ("2025-12-31", "2026-01-01")
    assert folders == {Path(f"timestamp_day={day}/service={name}") for day in days for name in services}


@pytest.mark.parametrize(("records", "different"), [((3, 1), 4), ((3, 3), 5), ((3, 2), 4)])
def test_what_is_missing_or_doubled_is_a_failure(records: tuple[int, int], different: int) -> None:
    """Objects with fewer records than were accepted, with more, or with as many but one of them twice, fail it."""
    objects = [Landed(f"{count}.parquet", 1, count, "") for count in records]
    with pytest.raises(Failure, match="5 were accepted"):
        make_sure(objects, [{"status": 200, "events": different}], 5)


def test_a_demo_that_fails_says_so(tmp_path: Path) -> None:
    """Where the service cannot start, the status is not 0 and the log's end is shown."""
    (tmp_path / "firehose").mkdir()
    (tmp_path / "firehose" / "__init__.py").write_text("raise SystemExit('no service today')")
    shadow = f"import sys; sys.path.insert(0, {str(ROOT)!r}); from firehose import demo; sys.exit(demo.main())"
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    result = subprocess.run(
        [sys.executable, "-c", shadow],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 1
    assert "the service ended before it was ready" in result.stdout
    assert "no service today" in result.stdout
