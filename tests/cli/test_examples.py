"""The examples do what they say: each shipped transform's is tried on the cases beside it, as people would."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from cli.running import firehose
from house_rules import ROOT
from lambda_server import LambdaServer, running

import transforms

EXAMPLES = ROOT / "config/examples"


@pytest.fixture
def lambdas() -> Iterator[LambdaServer]:
    yield from running()


def tried(config: Path, *arguments: str) -> None:
    result = firehose("test", "-c", str(config), *arguments)
    assert result.exit_code == 0, result.output
    assert "warning" not in result.stderr


@pytest.mark.parametrize("name", sorted({*transforms.TABLE} - {"lambda"}))
def test_example(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every stream of the example has cases, and they pass."""
    monkeypatch.chdir(EXAMPLES)
    monkeypatch.delenv("REDACT_SALT", raising=False)
    tried(Path(f"transform-{name}.yaml"))


def test_example_of_a_lambda(tmp_path: Path, lambdas: LambdaServer) -> None:
    """The function is called where the configuration says, which is here in place of the example's port."""
    text = (EXAMPLES / "transform-lambda.yaml").read_text()
    path = tmp_path / "firehose.yaml"
    path.write_text(re.sub(r"(endpoint_url:) \S+", rf"\1 {lambdas.url}", text, count=1))
    tried(path, "--cases", str(EXAMPLES / "transform-lambda.tests.yaml"))
    assert len(lambdas.invocations) == 1
