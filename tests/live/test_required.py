"""The rule that keeps the live tests alive: where they are required, one that was skipped is a failure."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from programs import PATIENCE_SECONDS

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("variables", "code", "said"),
    [
        ({}, 0, "1 skipped"),
        ({"CI": "true"}, 1, "live tests are required here, so a skip is a failure"),
        ({"LIVE_REQUIRED": "1"}, 1, "live tests are required here, so a skip is a failure"),
    ],
    ids=["developer", "ci", "required"],
)
def test_a_skip_is_a_failure_where_live_tests_are_required(
    variables: dict[str, str], code: int, said: str, tmp_path: Path
) -> None:
    """In a folder without .tools the JavaScript test cannot run: skipped for a developer, failed in CI."""
    surroundings = {name: value for name, value in os.environ.items() if name not in ("CI", "LIVE_REQUIRED")}
    words: list[str | Path] = ["-c", ROOT / "pyproject.toml", "--rootdir", ROOT, "-p", "no:cacheprovider", "-m", "live"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *words, ROOT / "tests/live/test_javascript.py"],
        cwd=tmp_path,
        env={**surroundings, **variables},
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
        check=False,
    )
    assert done.returncode == code, done.stdout + done.stderr
    assert said in done.stdout
