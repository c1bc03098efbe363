"""Numbers on the command lines of the torture, the simulation and the bench."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import TypeVar

Number = TypeVar("Number", int, float)


def at_least(least: Number) -> Callable[[str], Number]:
    """An argument's type: a number of the bound's own type that is not below it."""
    kind = type(least)

    def read(text: str) -> Number:
        try:
            if (number := kind(text)) >= least:
                return number
        except ValueError:
            pass
        raise argparse.ArgumentTypeError(f"{'a whole' if kind is int else 'a'} number from {least} on, not {text!r}")

    return read
