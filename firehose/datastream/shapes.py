"""The constraints of every request, from the service model that the AWS SDK for Python carries.

Source: data-streams.md sections 1.4 and 2. AWS generates its clients and its checks from that model; so do we, and a
member that AWS adds is understood with the next SDK. Read once, at the first request.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from firehose import aws
from firehose.http.aws_json import Kind, Shape

KINDS: dict[str, Kind] = {
    "string": "string",
    "blob": "blob",
    "integer": "integer",
    "long": "integer",
    "timestamp": "timestamp",
    "boolean": "boolean",
    "list": "list",
    "map": "map",
    "structure": "structure",
}


@cache
def request(operation: str) -> Shape:
    """The shape of the operation's request. Raises KeyError where the model has no such operation."""
    model = _model()
    if operation not in model.operation_names:
        raise KeyError(operation)
    members = model.operation_model(operation).input_shape
    return Shape("structure") if members is None else _shape(members, required=False)


@cache
def _model() -> Any:
    return aws.service_model("kinesis")


def _shape(model: Any, required: bool) -> Shape:
    said = model.metadata
    members = getattr(model, "members", {}) if model.type_name == "structure" else {}
    return Shape(
        KINDS[model.type_name],
        said.get("min"),
        said.get("max"),
        said.get("pattern", ""),
        tuple(said.get("enum", ())),
        _shape(model.member if model.type_name == "list" else model.value, False)
        if model.type_name in ("list", "map")
        else None,
        _shape(model.key, False) if model.type_name == "map" else None,
        {name: _shape(member, name in model.required_members) for name, member in members.items()},
        required,
    )
