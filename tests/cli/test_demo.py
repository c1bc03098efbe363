"""The demo is what a newcomer runs first: it must work from an empty folder."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def run(folder: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **variables}
    command = [sys.executable, "-m", "firehose.demo"]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=90, check=False)


def test_the_demo_delivers_everything(tmp_path: Path) -> None:
    """It exits 0, both thresholds trip, everything adds up, and the objects are where it says."""
    result = run(tmp_path)
    assert result.returncode == 0, result.stdout + result.stderr
    for said in (
        "1 MiB is full",
        "2 s are over",
        "24,500 delivered",
        "imbalance 0",
        "24,500 records in",
        "firehose query",
        "checkout",
    ):
        assert said in result.stdout
    assert len(list(tmp_path.glob(".demo/*/objects/app/dt=*/*.parquet"))) > 1


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
        timeout=90,
        check=False,
    )
    assert result.returncode == 1
    assert "the service ended before it was ready" in result.stdout
    assert "no service today" in result.stdout
