"""How a format's block reaches Glue, told apart from what it says of objects.

A segment follows its own version of the format, so that a repeat makes the same objects. How Glue is reached, and as
whom, says nothing about objects: that follows the newest definition, and its secrets are resolved when it is put to
work and never kept.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from firehose import aws

KEYS = tuple(aws.AwsOptions.model_fields)


def connected_as(format: Any, other: Any) -> Any:
    """A format's block, as written, that reaches Glue as another one does. As it is where either has no table there."""
    mine, others = _glue(format), _glue(other)
    if mine is None or others is None:
        return format
    table = {key: said for key, said in mine.items() if key not in KEYS}
    connection = {key: others[key] for key in KEYS if key in others}
    return {**format, "schema": {**format["schema"], "glue": {**table, **connection}}}


def _glue(format: Any) -> Mapping[str, Any] | None:
    for key in ("schema", "glue"):
        format = format.get(key) if isinstance(format, Mapping) else None
    return format if isinstance(format, Mapping) else None
