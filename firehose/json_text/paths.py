"""Paths to values within JSON objects, such as `user.email` or `items[].card`, and the tree that several of them make.

A list is gone through wherever it is met, so `[]` is for whoever reads the path: a value cannot hide in a list of one.
A name with dots or brackets stands in quotes, as JSON writes it: `zones."trac.example.org".sent`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Generic, TypeVar

import msgspec

T = TypeVar("T")
STEP = re.compile(r'("[^"\\]*+(?:\\.[^"\\]*+)*+"|[^.\[\]"]+)(?:\[\])*+(?:\.(?=.)|$)')


@dataclass(frozen=True, slots=True)
class Tree(Generic[T]):
    """What is to be done with the value that is here, or else with what lies below."""

    leaf: T | None = None
    below: dict[str, Tree[T]] = field(default_factory=dict)


def names(path: str) -> tuple[str, ...]:
    """The names that lead to a value. Raises ValueError where the path is none."""
    found: list[str] = []
    at = 0
    while at < len(path) or not found:
        step = STEP.match(path, at)
        if step is None:
            raise ValueError(
                f"'{path}' is no path: character {at + 1} begins no name; write names with dots between them and [] "
                'behind lists, such as items[].card, and names with dots in quotes, such as hosts."a.b".user'
            )
        found.append(_name(step[1]))
        at = step.end()
    return tuple(found)


def _name(written: str) -> str:
    if not written.startswith('"'):
        return written
    try:
        return msgspec.json.decode(written, type=str)
    except msgspec.DecodeError as error:
        raise ValueError(f"the name {written} is no JSON string: {error}") from None


def tree(leaves: Mapping[str, T]) -> Tree[T]:
    """The tree of paths and what each leads to. Raises ValueError where one is none, or lies within another."""
    root: Tree[T] = Tree()
    paths = {names(path): (path, leaf) for path, leaf in leaves.items()}
    if len(paths) < len(leaves):
        raise ValueError("two paths lead to the same value; keep one of them")
    for steps, (path, leaf) in paths.items():
        for end in range(1, len(steps)):
            if steps[:end] in paths:
                raise ValueError(f"'{path}' lies within '{paths[steps[:end]][0]}'; keep one of them")
        node = root
        for step in steps[:-1]:
            node = node.below.setdefault(step, Tree())
        node.below[steps[-1]] = Tree(leaf)
    return root
