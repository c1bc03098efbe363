"""The JSON Schema says what the configuration's own reader says, as far as a schema can."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from cli.running import good
from jsonschema import Draft202012Validator  # type: ignore[import-untyped]

from firehose import config, config_schema
from firehose.registry import TABLES
from firehose.yaml_file import ConfigError

ROOT = Path(__file__).parents[2]
SHOWN = [path for path in sorted(ROOT.glob("config/examples/*.yaml")) if not path.stem.endswith(".tests")]
EXAMPLES = [ROOT / "config/firehose.yaml", *SHOWN]
FOLDER = {"type": "folder", "path": "out"}


@cache
def shipped() -> Any:
    """With our own plug-ins alone: whatever else is installed here does not count."""
    return config_schema.schema(lambda kind: TABLES[kind])


def valid(document: Any) -> bool:
    return bool(Draft202012Validator(shipped()).is_valid(document))


def read(document: Any) -> bool:
    """Whether the configuration's own reader takes it."""
    try:
        config.parse("test", yaml.safe_dump(document), {"HINT": "3", "NAME": "lake"}.get)
    except ConfigError:
        return False
    return True


def test_the_file_is_not_stale() -> None:
    """config/schema.json is what `firehose config schema` prints: where it is not, print it there again."""
    assert json.loads((ROOT / "config/schema.json").read_text()) == shipped()


def test_it_is_a_schema() -> None:
    """It is valid under its own draft, and the command prints it."""
    Draft202012Validator.check_schema(shipped())
    assert json.loads(good("config", "schema"))["$schema"] == config_schema.DRAFT


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_examples_are_valid(path: Path) -> None:
    """Every example of the repository is valid."""
    assert valid(yaml.safe_load(path.read_text()))


def stream(**keys: Any) -> dict[str, Any]:
    return {"delivery_streams": {"app": {"destination": FOLDER, **keys}}}


@pytest.mark.parametrize(
    ("document", "expected"),
    [
        (stream(), True),
        (stream(buffering={"size_mib": 2.5, "interval_seconds": 0}), True),
        (stream(buffering={"size_mib": "${HINT}"}), True),
        (stream(destination={"type": "s3", "bucket": "${NAME}"}), True),
        (stream(validate=True, errors={"type": "folder", "path": "bad"}), True),
        ({"service": {"api_keys": ["sesame"]}}, True),
        ({"servce": {}}, False),
        (stream(bufering={}), False),
        (stream(buffering={"size_mib": 0}), False),
        (stream(buffering={"size_mib": "many"}), False),
        (stream(destination={"path": "out"}), False),
        (stream(destination={"type": "flder", "path": "out"}), False),
        (stream(destination={**FOLDER, "pth": "x"}), False),
        (stream(destination={"type": "s3", "path": "out"}), False),
        (stream(destination={**FOLDER, "compression": "gz"}), False),
        ({"delivery_streams": {"a/b": {"destination": FOLDER}}}, False),
    ],
)
def test_it_agrees_with_the_reader(document: Any, expected: bool) -> None:
    """What the reader takes is valid, references included; a wrong key, type or value is neither."""
    assert (valid(document), read(document)) == (expected, expected)
