"""A library that others are kept from loading."""

from __future__ import annotations

import importlib.util
import sys

import pytest

from firehose.absent import absent


def test_absent_meanwhile_and_only_then(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is not found while that lasts, everything else is; afterwards it is found as ever."""
    for name in ("this", "colorsys"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    with absent("this"):
        with pytest.raises(ModuleNotFoundError):
            importlib.import_module("this")
        importlib.import_module("colorsys")
    assert importlib.util.find_spec("this") is not None


def test_what_is_loaded_stays() -> None:
    """Whoever has imported it already has it."""
    with absent("json"):
        assert importlib.import_module("json") is sys.modules["json"]
