"""`firehose check`: destinations are reached, hooks are loaded, and what is wrong is said where people look."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from cli.running import firehose, good
from lambda_server import LambdaServer, refusal
from lambda_server import running as lambda_running

from firehose.hooks import process

TWO = """\
service: {{data_dir: {folder}/data}}
delivery_streams:
  good: {{destination: {{type: folder, path: {folder}/good}}, errors: {{type: folder, path: {folder}/bad}}}}
  {name}: {{destination: {{type: folder, path: {place}}}}}
"""


def written(folder: Path, name: str, place: Path) -> str:
    path = folder / "firehose.yaml"
    path.write_text(TWO.format(folder=folder, name=name, place=place))
    return str(path)


def test_check_reaches_every_destination(tmp_path: Path) -> None:
    """A configuration whose destinations can all be written to passes, error outputs included."""
    path = written(tmp_path, "also", tmp_path / "also")
    verdicts = json.loads(good("check", "-c", path, "--json"))
    assert [(one["stream"], one["purpose"], one["ok"]) for one in verdicts] == [
        ("good", "data", True),
        ("good", "errors", True),
        ("also", "data", True),
    ]


def test_check_fails_with_the_reason(tmp_path: Path) -> None:
    """One destination that cannot be written to fails the check, and the table says why, beside those that work."""
    (tmp_path / "file").touch()
    result = firehose("check", "-c", written(tmp_path, "broken", tmp_path / "file" / "out"))
    assert result.exit_code == 1
    rows = {line.split()[0]: line for line in result.stdout.splitlines() if line.strip()}
    assert rows["good"].rstrip().endswith("ok")
    assert f"{tmp_path}/file: File exists" in rows["broken"]
    assert "1 of 3 destinations" in result.stderr


def test_check_warns_of_a_shared_place(tmp_path: Path) -> None:
    """Two streams that write to one place are a warning, not a failure."""
    result = firehose("check", "-c", written(tmp_path, "twin", tmp_path / "good"))
    assert result.exit_code == 0
    assert "'good' and 'twin' write to one place" in result.stderr


@pytest.fixture
def lambdas() -> Iterator[LambdaServer]:
    yield from lambda_running()


HOOKS = {
    "right": "def clean(record: bytes) -> bytes: return record\n",
    "broken": "print('so far')\nimport nothing_of_this_name\n",
    "three": "def clean(a, b, c): ...\n",
    "slow": "import time\nwhile True: time.sleep(0.1)\n",
    "leaves": "import os\nos._exit(4)\n",
}


def with_transforms(folder: Path, *transforms: dict[str, Any]) -> str:
    """A configuration whose stream runs these."""
    for name, text in HOOKS.items():
        (folder / f"{name}.py").write_text(text)
    place = {"type": "folder", "path": str(folder / "out")}
    path = folder / "firehose.yaml"
    path.write_text(yaml.safe_dump({"delivery_streams": {"app": {"transforms": transforms, "destination": place}}}))
    return str(path)


def hook(folder: Path, module: str, function: str = "clean", **more: Any) -> dict[str, Any]:
    return {"type": "python", "handler": f"{module}:{function}", "path": str(folder), **more}


def test_hooks_are_loaded(tmp_path: Path, lambdas: LambdaServer) -> None:
    """A function that loads and a Lambda that may be called pass, beside a transform of ours; none of them is run."""
    ours = {"type": "append_delimiter"}
    path = with_transforms(tmp_path, hook(tmp_path, "right"), lambdas.keys(qualifier="live"), ours)
    verdicts = json.loads(good("check", "-c", path, "--json"))
    assert [(one.get("transform"), one["purpose"], one["place"], one["ok"]) for one in verdicts] == [
        ("python", "transform", f"right:clean in {tmp_path}", True),
        ("lambda", "transform", "clean:live", True),
        ("append_delimiter", "transform", "", True),
        (None, "data", f"folder {tmp_path}/out", True),
    ]
    assert (lambdas.dry_runs, lambdas.invocations) == ([("clean", "live")], [])
    assert "transforms that are ready: 3 of 3" in firehose("check", "-c", path).stderr


@pytest.mark.parametrize(
    ("module", "function", "reason"),
    [
        ("broken", "clean", "ModuleNotFoundError: No module named 'nothing_of_this_name'"),
        ("absent", "clean", "there is no module absent; is its folder the path?"),
        ("right", "cleam", "the module right has no function cleam"),
        ("three", "clean", "three:clean takes 3 arguments; give it (event, context), (record: bytes)"),
        ("leaves", "clean", "its process ended: exit status 4"),
    ],
)
def test_hook_that_does_not_load(
    module: str, function: str, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What keeps a function from being loaded is said with its stream and transform, and fails the check."""
    monkeypatch.setattr(process, "PARTING_SECONDS", 60.0)  # who has ended is not taken for one that hung up
    result = firehose("check", "-c", with_transforms(tmp_path, hook(tmp_path, module, function)))
    assert result.exit_code == 1
    assert "1 of 1 transforms cannot be used" in result.stderr
    (line,) = [line for line in result.stdout.splitlines() if "transform" in line]
    assert line.split()[:2] == ["app", "python"]
    assert reason in line


def test_what_a_hook_prints_is_shown(tmp_path: Path) -> None:
    """Where loading fails, what the module printed and its traceback are on standard error; JSON stays JSON."""
    path = with_transforms(tmp_path, hook(tmp_path, "broken"))
    result = firehose("check", "-c", path, "--json")
    assert [one["ok"] for one in json.loads(result.stdout)] == [False, True]
    assert "app: broken:clean: so far\n" in result.stderr
    assert "app: broken:clean: ModuleNotFoundError" in result.stderr


def test_hook_that_takes_too_long_to_load(tmp_path: Path) -> None:
    """A module that never comes back is ended in time, and the check goes on."""
    path = with_transforms(tmp_path, hook(tmp_path, "slow"))
    result = firehose("check", "-c", path, "--timeout-seconds", "1.5")
    assert result.exit_code == 1
    assert "does not answer within 1.5 seconds" in result.stdout


def test_lambda_that_may_not_be_called(tmp_path: Path, lambdas: LambdaServer) -> None:
    """What Lambda says of a call that would be refused is told with the way out."""
    lambdas.verdict = refusal(403, "AccessDeniedException", "not you")
    result = firehose("check", "-c", with_transforms(tmp_path, lambdas.keys()))
    assert result.exit_code == 1
    assert "clean: AccessDeniedException: not you; grant lambda:InvokeFunction on clean" in result.stdout
