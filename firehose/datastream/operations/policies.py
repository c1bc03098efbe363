"""Resource policies: stored and returned, as JSON texts, and never asked. Source: data-streams.md section 2.6."""

from __future__ import annotations

import json
from functools import partial

from firehose.datastream.model import Definition
from firehose.datastream.operations.control import Answer, Control, Request
from firehose.datastream.operations.resources import Resource, Resources
from firehose.datastream.refusals import in_use, invalid, not_found
from firehose.http.codec import CodedOperation

POLICY_BYTES = 20_480


class Policies:
    """Of streams and of consumers."""

    def __init__(self, control: Control, resources: Resources) -> None:
        self._control = control
        self._resources = resources

    def operations(self) -> dict[str, CodedOperation]:
        return self._control.coded(
            {"PutResourcePolicy": self.put, "GetResourcePolicy": self.get, "DeleteResourcePolicy": self.delete}
        )

    async def put(self, request: Request) -> None:
        policy = request["Policy"]
        if not _is_object(policy):
            raise invalid("The policy is not a JSON object.")
        if len(policy.encode()) > POLICY_BYTES:
            raise invalid(f"The policy is larger than {POLICY_BYTES} bytes.")
        await self._write(self._resources.named(request["ResourceARN"]), policy)

    async def get(self, request: Request) -> Answer:
        return {"Policy": self._resources.named(request["ResourceARN"]).now.policy or "{}"}

    async def delete(self, request: Request) -> None:
        resource = self._resources.named(request["ResourceARN"])
        if resource.now.policy is None:
            raise not_found(f"No resource policy found for resource ARN {resource.arn}.")
        await self._write(resource, None)

    async def _write(self, resource: Resource, policy: str | None) -> None:
        if resource.consumer is not None and getattr(resource.now, "status", "") != "ACTIVE":
            raise in_use(f"Consumer {resource.consumer.consumer} is not in ACTIVE status.")
        await resource.stream.change(partial(resource.changed, self._allow, lambda one: {"policy": policy}))

    def _allow(self, definition: Definition, of_consumer: bool) -> None:
        self._control.there(definition)


def _is_object(text: str) -> bool:
    try:
        return isinstance(json.loads(text), dict)
    except (ValueError, RecursionError):
        return False
