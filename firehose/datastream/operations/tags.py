"""Tags, of streams and of consumers. Source: data-streams.md section 2.6."""

from __future__ import annotations

import re
from collections.abc import Container, Mapping
from functools import partial

from firehose.datastream.definitions import Kept
from firehose.datastream.model import Definition
from firehose.datastream.operations.control import Answer, Control, Request, updated
from firehose.datastream.operations.resources import Resources
from firehose.datastream.refusals import invalid
from firehose.http.codec import CodedOperation

TAGS_LIMIT = 50  # of one stream or consumer
VALID = "Unicode letters, digits, white space, _ . / = + - % @."  # in AWS's words; it refuses %


class Tags:
    """AddTagsToStream and its like are of old, TagResource and its like the same for anything that has an ARN."""

    def __init__(self, control: Control, resources: Resources) -> None:
        self._control = control
        self._resources = resources

    def operations(self) -> dict[str, CodedOperation]:
        return self._control.coded(
            {
                "AddTagsToStream": self.add,
                "RemoveTagsFromStream": self.remove,
                "ListTagsForStream": self.list_of_stream,
                "TagResource": self.tag,
                "UntagResource": self.untag,
                "ListTagsForResource": self.list_of_resource,
            }
        )

    async def add(self, request: Request) -> None:
        await self._control.stream(request).change(partial(self._added, request["Tags"]))

    def _added(self, tags: Mapping[str, str], kept: Kept) -> Kept:
        self._control.free(kept.definition)
        return updated(kept, tags=checked(kept.definition.tags, tags))

    async def remove(self, request: Request) -> None:
        await self._control.stream(request).change(partial(self._removed, request["TagKeys"]))

    def _removed(self, keys: Container[str], kept: Kept) -> Kept:
        self._control.free(kept.definition)
        return updated(kept, tags=_without(kept.definition.tags, keys))

    async def list_of_stream(self, request: Request) -> Answer:
        definition = self._control.stream(request).definition
        after = request.get("ExclusiveStartTagKey", "")
        keys = [key for key in sorted(definition.tags) if key > after]
        limit = request.get("Limit", TAGS_LIMIT)
        tags = [{"Key": key, "Value": definition.tags[key]} for key in keys[:limit]]
        return {"Tags": tags, "HasMoreTags": len(keys) > limit}

    async def tag(self, request: Request) -> None:
        resource = self._resources.named(request["ResourceARN"])
        await resource.stream.change(
            partial(resource.changed, self._changeable, lambda one: {"tags": checked(one.tags, request["Tags"], ":")})
        )

    async def untag(self, request: Request) -> None:
        resource = self._resources.named(request["ResourceARN"])
        await resource.stream.change(
            partial(resource.changed, self._changeable, lambda one: {"tags": _without(one.tags, request["TagKeys"])})
        )

    def _changeable(self, definition: Definition, of_consumer: bool) -> None:
        """The file says a stream's tags, and nothing of its consumers."""
        if of_consumer:
            self._control.there(definition)
        else:
            self._control.free(definition)

    async def list_of_resource(self, request: Request) -> Answer:
        tags = self._resources.named(request["ResourceARN"]).now.tags
        return {"Tags": [{"Key": key, "Value": tags[key]} for key in sorted(tags)]}


def checked(old: Mapping[str, str], new: Mapping[str, str], also: str = "") -> dict[str, str]:
    """The tags together. Raises `ApiError`; `also` are further characters that may stand in them."""
    valid = re.compile(rf"[\w\s./=+@{also}-]*")
    if not all(valid.fullmatch(text or "") for pair in new.items() for text in pair):
        raise invalid(f"Some tags contain invalid characters. Valid characters: {VALID}")
    together = {**old, **new}
    if len(together) > TAGS_LIMIT:
        raise invalid(f"Failed to add tags: a stream or consumer has at most {TAGS_LIMIT} tags.")
    return together


def _without(tags: Mapping[str, str], keys: Container[str]) -> dict[str, str]:
    return {key: value for key, value in tags.items() if key not in keys}
