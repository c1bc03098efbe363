"""The hook of transform-python.yaml: orders leave without their card numbers, and test orders not at all."""

import json
from typing import Any


def clean(record: bytes) -> bytes | None:
    """Called for each record: returns what to deliver, or None to drop it."""
    order: dict[str, Any] = json.loads(record)
    if order.get("test"):
        return None
    order["card"] = "*" * 12 + order["card"][-4:]
    return json.dumps(order).encode() + b"\n"
