"""How a place within a schema is called, for people: `order.items[].price`, `labels{}`."""

from __future__ import annotations

import re

Path = tuple[str, ...]  # names of columns and fields, and the two signs
ITEM, VALUE = "[]", "{}"  # of an array, of a map


def shown(path: Path) -> str:
    """The path as text; a name that is no plain word stands in backticks."""
    text = ""
    for step in path:
        if step in (ITEM, VALUE):
            text += step
        else:
            name = step if re.fullmatch(r"[\w$@-]+", step) else f"`{step.replace('`', '``')}`"
            text += f".{name}" if text else name
    return text


def wrong(path: Path, what: str) -> ValueError:
    """What is said of a schema's place; of the whole where the path is empty."""
    return ValueError(f"column {shown(path)}: {what}" if path else what)
