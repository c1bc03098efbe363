"""What the scripts take for a number, and that each says no to what would be no proof, or none that ends."""

from __future__ import annotations

import argparse
import sys
from importlib import import_module

import pytest
from at_least import at_least


@pytest.mark.parametrize("text", ["", "x", "-1", "0", "1.5", "nan"])
def test_no_such_number(text: str) -> None:
    """What is no number, not whole, or below the bound is told with the bound."""
    with pytest.raises(argparse.ArgumentTypeError, match=f"a whole number from 1 on, not '{text}'"):
        at_least(1)(text)


def test_numbers() -> None:
    """The bound says of which kind a number is; it is within itself."""
    assert (at_least(1)("1"), at_least(0)("17"), at_least(0.5)("0.5")) == (1, 17, 0.5)
    with pytest.raises(argparse.ArgumentTypeError, match=r"a number from 0\.5 on"):
        at_least(0.5)("nan")


@pytest.mark.parametrize(
    ("script", "arguments", "said"),
    [
        ("kills", "--kills -5", "--kills: a whole number from 0 on, not '-5'"),
        ("plug", "--megabytes 9", "--megabytes: 10 at least for 4 pulls"),
        ("plug", "--megabytes 13 --pulls 6", "--megabytes: 14 at least for 6 pulls"),
        ("soak", "--minutes -1", "--minutes: a number from 1.0 on, not '-1'"),
        ("simulation.simulate", "--seeds 0", "--seeds: a whole number from 1 on, not '0'"),
        ("bench.__main__", "--runs 0", "--runs: a whole number from 1 on, not '0'"),
        ("bench.__main__", "--json no/such.json", "--json: there is no folder no"),
    ],
)
def test_an_argument_that_proves_nothing(
    script: str, arguments: str, said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Told in a line, before anything is begun."""
    monkeypatch.setattr(sys, "argv", [script, *arguments.split()])
    with pytest.raises(SystemExit, match="2"):
        import_module(script).main()
    assert capsys.readouterr().err.splitlines()[-1].endswith(f": error: argument {said}")
