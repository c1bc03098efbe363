"""How Glue is reached follows the newest definition and is kept without secrets; what shapes objects stays."""

from __future__ import annotations

import json
from typing import Any, ClassVar

import pytest

import destinations
from firehose import config
from firehose.catalogue import Entry
from firehose.delivery.workshop import merged_definition
from firehose.schemas.connection import connected_as
from firehose.stream_config import DestinationBlock


class ConvertingOptions(DestinationBlock):
    """A destination whose format may be anything."""

    format: dict[str, Any]


class Converting:
    Options: ClassVar[type[DestinationBlock]] = ConvertingOptions


OLD = {"database": "old", "table": "${TABLE}", "endpoint_url": "http://old", "secret_access_key": "${SECRET}"}
NEW = {"database": "new", "table": "t", "endpoint_url": "http://new", "secret_access_key": "${OTHER}", "region": "x"}
VALUES = {"TABLE": "orders", "SECRET": "hush-hush", "OTHER": "hush-too"}


def formatted(glue: object) -> dict[str, Any]:
    return {"type": "parquet", "schema": {"glue": glue}}


@pytest.fixture
def _converting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(destinations.TABLE, "converting", f"{__name__}:Converting")


def definition(glue: dict[str, Any]) -> dict[str, Any]:
    """As the catalogue keeps it."""
    text = {"delivery_streams": {"app": {"destination": {"type": "converting", "format": formatted(glue)}}}}
    return config.parse("x.yaml", json.dumps(text), VALUES.get).definitions["app"]


@pytest.mark.usefixtures("_converting")
def test_no_secret_is_kept() -> None:
    """Which table it is stands resolved in the definition that is kept; as whom it is asked for stands as written."""
    kept = definition(OLD)
    assert "hush" not in json.dumps(kept)
    assert kept["destination"]["format"]["schema"]["glue"] == {**OLD, "table": "orders"}


@pytest.mark.usefixtures("_converting")
def test_the_newest_connection() -> None:
    """A segment asks for its own version's table where the newest definition says, as whom that says."""
    entry = Entry("app", "yaml", "ACTIVE", 0, 2, {1: definition(OLD), 2: definition(NEW)})
    glue = merged_definition(entry, 1, "converting")["destination"]["format"]["schema"]["glue"]
    assert glue == {**NEW, "database": "old", "table": "orders"}


@pytest.mark.parametrize(
    "other",
    [None, "raw", {"type": "raw"}, {"schema": "infer"}, {"schema": {"columns": {"a": "int"}}}, {"schema": {"glue": 1}}],
    ids=str,
)
def test_nothing_to_take(other: object) -> None:
    """A format is left as it is where it, or the other, has no table in Glue."""
    assert connected_as(formatted(OLD), other) == formatted(OLD)
    assert connected_as(other, formatted(OLD)) == other
