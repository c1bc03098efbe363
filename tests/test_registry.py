"""Plug-ins by name: our own tables, and other packages' entry points."""

from __future__ import annotations

import pytest

from firehose import registry


class Point:
    """An entry point of another package."""

    name = "theirs"

    def load(self) -> str:
        return "their class"


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Other packages offer the destination `theirs`; each look through them is noted."""
    looks: list[str] = []

    def entry_points(group: str, name: str = "theirs") -> list[Point]:
        looks.append(group)
        return [Point()] if (group, name) == ("firehose.destinations", "theirs") else []

    monkeypatch.setattr(registry, "entry_points", entry_points)
    return looks


def test_tables_load() -> None:
    """Every line of the tables leads to a class with options of its own type."""
    for kind, table in registry.TABLES.items():
        for name in table:
            assert registry.options(kind, name).model_fields["type"].default == name


def test_third_parties(looks: list[str]) -> None:
    """Another package's plug-in is known by its entry point's name, beside ours."""
    assert "theirs" in registry.names("destinations")
    assert "theirs" not in registry.names("transforms")
    assert registry.has("destinations", "theirs")
    assert not registry.has("destinations", "nobody's")
    assert registry.plugin("destinations", "theirs") == "their class"


def test_ours_cost_nothing(looks: list[str]) -> None:
    """Packages are looked through only for what our tables do not have: definitions are read often."""
    assert registry.has("destinations", "folder")
    assert looks == []
