"""What is written about the project is true: examples load, rows are there, names that papers use exist."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import pytest
import typer
from house_rules import ROOT

import destinations
import transforms
from firehose import __version__, config, observe
from firehose.blocks import Block
from firehose.cli.commands import app
from firehose.ingest import sources
from firehose.objects import ObjectOptions
from firehose.orc import OrcOptions
from firehose.parquet import ParquetOptions
from firehose.stream_config import Stream

TABLES = {"destination": destinations.TABLE, "transform": transforms.TABLE, "source": sources.TABLE}
SLOTS = [(slot, name) for slot, table in TABLES.items() for name in table]
FORMATS: Mapping[str, type[Block]] = {"parquet": ParquetOptions, "orc": OrcOptions}
README = ROOT / "README.md"
CHANGELOG = ROOT / "CHANGELOG.md"


def paper(path: Path) -> str:
    assert path.exists(), f"{path.name} is not written yet"
    return path.read_text()


def unknown_metrics(text: str) -> set[str]:
    """Names in the text that look like metrics of ours and are none."""
    return (
        set(re.findall(r"\bfirehose_[a-z_]+[a-z]\b", text))
        - {observe.exposed(name) for name in observe.METRICS}
        - MODULES
    )


MODULES = {"firehose_api", "firehose_server"}


def unknown_commands(text: str) -> set[str]:
    """Words behind `firehose` in code that are no command."""
    return set(re.findall(r"(?:^|`)(?:\$ )?firehose ([a-z-]+)", text, re.MULTILINE)) - set(commands())


def commands() -> list[str]:
    return list(typer.main.get_group(app).commands)


def misshapen(text: str) -> list[str]:
    """Headings that a changelog does not have: it holds a title, releases with dates, and kinds of change."""
    release = r"## \[(Unreleased|\d+\.\d+\.\d+\] - (unreleased|\d{4}-\d{2}-\d{2}))\]?"
    shapes = rf"# Changelog|{release}|### (Added|Changed|Deprecated|Removed|Fixed|Security)|[^#].*|"
    return [line for line in text.splitlines() if not re.fullmatch(shapes, line)]


@pytest.mark.parametrize(("slot", "name"), SLOTS)
def test_example(slot: str, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every plug-in has an example that loads as it stands and uses it."""
    path = ROOT / "config/examples" / f"{slot}-{name}.yaml"
    assert path.exists(), f"write config/examples/{path.name}"
    monkeypatch.setattr("os.environ", {})
    streams = config.load(str(path)).streams.values()
    types = [block.type for stream in streams for block in stream.destinations.values()]
    types += [block.type for stream in streams for block in stream.transforms]
    types += [stream.source.type for stream in streams]
    assert name in types


def test_examples_are_named_for_their_slot() -> None:
    """An example's name says which plug-in it shows, or has cases for; one shows the service itself."""
    known = {f"{slot}-{name}" for slot, name in SLOTS} | {"service", "dynamic-partitioning", "data-streams", "fan-out"}
    known |= {f"transform-{name}.tests" for name in transforms.TABLE}
    known |= {f"format-{name}" for name in FORMATS}
    assert {path.stem for path in (ROOT / "config/examples").glob("*.yaml")} - known == set()


def test_example_of_partitions(monkeypatch: pytest.MonkeyPatch) -> None:
    """It loads as it stands, and each of its streams has partitions."""
    monkeypatch.setattr("os.environ", {})
    streams = config.load(str(ROOT / "config/examples/dynamic-partitioning.yaml")).streams.values()
    assert all(stream.partitions(block) for stream in streams for block in stream.destinations.values())


def test_example_of_several_destinations(monkeypatch: pytest.MonkeyPatch) -> None:
    """It loads as it stands, and shows conditions of both kinds and an error output of a destination's own."""
    monkeypatch.setattr("os.environ", {})
    (stream,) = config.load(str(ROOT / "config/examples/fan-out.yaml")).streams.values()
    wheres = [block.where for block in stream.destinations.values() if block.where is not None]
    assert {key for where in wheres for key in where.model_dump(exclude_none=True)} == {"jq", "sql"}
    assert list(stream.own_errors) == ["alarms"]


def test_example_of_the_service(monkeypatch: pytest.MonkeyPatch) -> None:
    """It shows every key of the service, the delivery half and a stream, with its default."""
    monkeypatch.setattr("os.environ", {})
    path = ROOT / "config/examples/service.yaml"
    shown = config.load(str(path))
    (stream,) = shown.streams.values()
    assert shown.service == config.ServiceOptions()
    assert shown.delivery == config.DeliveryOptions()
    assert stream.options == Stream(destination=stream.options.destination)
    for block in (config.ServiceOptions, config.DeliveryOptions, Stream):
        keys = {field.alias or name for name, field in block.model_fields.items()}
        assert [key for key in keys if not re.search(rf"\b{key}:", path.read_text())] == []


@pytest.mark.parametrize("name", FORMATS)
def test_example_of_a_format(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every format of columns has an example that shows each of its keys, and its row in the README."""
    monkeypatch.setattr("os.environ", {})
    path = ROOT / "config/examples" / f"format-{name}.yaml"
    (stream,) = config.load(str(path)).streams.values()
    (block,) = stream.destinations.values()
    assert isinstance(block, ObjectOptions)
    assert block.format.type == name
    keys = {field.alias or key for key, field in FORMATS[name].model_fields.items()}
    assert [key for key in keys if not re.search(rf"^ {{8}}{key}:", path.read_text(), re.MULTILINE)] == []
    assert re.search(rf"^\|.*`{name}`.*\|", paper(README), re.MULTILINE)


@pytest.mark.parametrize("name", transforms.TABLE)
def test_cases(name: str) -> None:
    """Every transform's example has cases beside it, which `firehose test` runs."""
    path = ROOT / "config/examples" / f"transform-{name}.tests.yaml"
    assert path.exists(), f"write config/examples/{path.name}"


@pytest.mark.parametrize(("slot", "name"), SLOTS)
def test_conformance(slot: str, name: str) -> None:
    """Every plug-in runs the conformance suite of its door: its class stands in the suite's file."""
    tests = (ROOT / f"tests/conformance/test_{slot}s.py").read_text()
    module, _, attribute = TABLES[slot][name].partition(":")
    imported = rf"^from {re.escape(module)} import .*\b{attribute}\b"
    assert re.search(imported, tests, re.MULTILINE), f"give {name} a harness in tests/conformance/test_{slot}s.py"


@pytest.mark.parametrize(("slot", "name"), SLOTS)
def test_readme_row(slot: str, name: str) -> None:
    """Every plug-in has its row in the README."""
    assert re.search(rf"^\|.*`{name}`.*\|", paper(README), re.MULTILINE), (
        f"the README has no row for the {slot} `{name}`"
    )


def test_readme_names() -> None:
    """Metrics and commands that the README speaks of exist."""
    assert unknown_metrics(paper(README)) == set()
    assert unknown_commands(paper(README)) == set()


def test_changelog() -> None:
    """The changelog has a title, and releases with their dates and kinds of change; its newest is ours."""
    text = paper(CHANGELOG)
    assert text.startswith("# Changelog\n")
    assert misshapen(text) == []
    assert re.findall(r"^## \[(\d.*?)\]", text, re.MULTILINE)[0] == __version__


def test_metrics_page() -> None:
    """docs/metrics.md says what the code says; write it anew with `observe.metrics_page()` where it does not."""
    assert paper(ROOT / "docs/metrics.md") == observe.metrics_page()


def test_metrics_are_named_alike() -> None:
    """Every metric has our prefix, ends in its unit, says what it is, and nothing has two names."""
    units = (
        "records",
        "rows",
        "bytes",
        "seconds",
        "objects",
        "requests",
        "connections",
        "failures",
        "restarts",
        "files",
        "partitions",
        "cuts",
        "shards",
    )
    for name, one in observe.METRICS.items():
        assert name.startswith("firehose_")
        assert name.endswith((*units, "_up", "_paused")), name
        assert one.says[0].islower() or one.says[0].isdigit() or one.says.startswith(("HTTP", "DataFreshness")), name
    assert len({one.says for one in observe.METRICS.values()}) == len(observe.METRICS)


def test_canaries() -> None:
    """A metric or a command that is none, and a changelog in disorder, are found."""
    assert unknown_metrics("see `firehose_accepted_records_total` and firehose_lost_records") == {
        "firehose_lost_records"
    }
    assert unknown_commands("run `firehose serve -c x` or\n    $ firehose explode\n`firehose fly`") == {"fly"}
    assert misshapen("# Changelog\n\n## 1.0\n### News\n- a") == ["## 1.0", "### News"]
