"""Every control operation against the service model: whatever a request holds, it is answered or refused."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from live_streams import (
    VALIDATION,
    reshaped,
)
from stream_calls import SERVICE, stream_arn
from virtual_time import passed, run

from firehose.http.aws_json import ApiError

CONTROL = sorted(
    name
    for name in SERVICE.operation_names
    if not any(word in name for word in ("Queue", "Channel", "Records", "ShardIterator", "SubscribeToShard"))
    and name != "PutRecord"
)


def required_members(operation: str) -> list[str]:
    shape = SERVICE.operation_model(operation).input_shape
    return list(shape.required_members) if shape is not None else []


def good(shape: Any, name: str = "") -> Any:
    """A value that satisfies the model's constraints."""
    known: dict[str, Any] = {
        "StreamName": "clicks",
        "StreamARN": stream_arn("clicks"),
        "ResourceARN": stream_arn("clicks"),
        "ConsumerARN": f"{stream_arn('clicks')}/consumer/app:5",
        "StreamId": "a" * 20 + "-aaa",
        "ShardId": "shardId-000000000000",
        "NewStartingHashKey": "5",
        "Policy": "{}",
    }
    if name in known:
        return known[name]
    if shape.type_name == "structure":
        return {member: good(inner, member) for member, inner in shape.members.items()}
    if shape.type_name == "list":
        return [good(shape.member)]
    if shape.type_name == "map":
        return {good(shape.key): good(shape.value)}
    if shape.type_name == "string":
        return shape.enum[0] if shape.enum else "a" * max(1, shape.metadata.get("min", 1))
    return {"boolean": True, "timestamp": 5}.get(shape.type_name, shape.metadata.get("min", 30))


def bad_values(shape: Any) -> list[Any]:
    """Null, wrong types, and what lies at and past each limit."""
    values: list[Any] = [None, "", "x", 0, -1, 1.5, True, [], {}, [[]], [None], {"x": None}, 1 << 70, "\x00\ud7ff"]
    said = shape.metadata
    for limit in (said.get("min"), said.get("max")):
        if limit is None:
            continue
        for near in (limit - 1, limit, limit + 1):
            if shape.type_name == "string" and near <= 5000:
                values.append("a" * max(0, near))
            elif shape.type_name == "integer":
                values.append(near)
            elif shape.type_name == "list" and near <= 300:
                values.append([good(shape.member)] * max(0, near))
            elif shape.type_name == "map" and near <= 300:
                values.append({f"k{number}": "v" for number in range(max(0, near))})
    return values


@pytest.mark.parametrize("operation", CONTROL)
def test_every_member(operation: str) -> None:
    """Each member missing, null, of another type, at and past each of its limits, beside members nobody knows: the call
    is done or refused with a 400, and never fails."""
    shape = SERVICE.operation_model(operation).input_shape
    members = shape.members if shape is not None else {}
    whole_request = good(shape) if shape is not None else {}

    async def main() -> None:
        site = await reshaped()
        requests: list[Any] = [{}, {**whole_request, "Unknown": [1]}, whole_request, [], "x", 5, None]
        for name, inner in members.items():
            requests.append({key: value for key, value in whole_request.items() if key != name})
            requests += [{**whole_request, name: value} for value in bad_values(inner)]
            only = {key: value for key, value in whole_request.items() if key in required_members(operation)}
            requests += [{**only, name: value} for value in bad_values(inner)]
        for request in requests:
            try:
                await site.raw(operation, msgspec.json.encode(request))
            except ApiError as error:
                if error.status != 400 or not error.message:
                    raise AssertionError(request) from error
            if "clicks" not in site.streams.named or site.streams.named["clicks"].definition.status != "ACTIVE":
                await passed(1)

    run(main())


@pytest.mark.parametrize("operation", [name for name in CONTROL if required_members(name)])
def test_what_is_required_is_told(operation: str) -> None:
    """An empty request is refused for each required member at once."""

    async def main() -> None:
        site = await reshaped()
        error = await site.refused(operation)
        assert error.code == VALIDATION
        for member in required_members(operation):
            assert f"Value null at '{member[0].lower()}{member[1:]}' failed to satisfy constraint" in error.message

    run(main())
