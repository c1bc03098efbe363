"""Registered consumers, of enhanced fan-out. Source: data-streams.md section 2.5."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from firehose.datastream import tokens
from firehose.datastream.arns import consumer_arn
from firehose.datastream.definitions import Kept
from firehose.datastream.live import LiveStream
from firehose.datastream.model import Consumer, Definition
from firehose.datastream.operations import describing
from firehose.datastream.operations.control import Answer, Control, Request, updated
from firehose.datastream.operations.resources import consumer_in
from firehose.datastream.operations.tags import checked
from firehose.datastream.refusals import in_use, invalid, no_consumer, over_limit
from firehose.http.codec import CodedOperation

CONSUMERS_LIMIT = 20  # of one stream
CREATING_LIMIT = 5  # of one stream at a time, where AWS's limits are asked for
LIST_PAGE = 100


class Consumers:
    """Operations on a stream's consumers. A stream of the configuration file has them as any other."""

    def __init__(self, control: Control) -> None:
        self._control = control
        self._account = control.account

    def operations(self) -> dict[str, CodedOperation]:
        return self._control.coded(
            {
                "RegisterStreamConsumer": self.register,
                "DeregisterStreamConsumer": self.deregister,
                "DescribeStreamConsumer": self.describe,
                "ListStreamConsumers": self.list_consumers,
            }
        )

    async def register(self, request: Request) -> Answer:
        stream, name = self._control.stream(request), request["ConsumerName"]
        consumer = Consumer(name, self._control.runtime.now_ms(), tags=checked({}, request.get("Tags", {}), ":"))
        await stream.change(partial(self._registered, consumer))
        return {"Consumer": describing.consumer(consumer, stream.definition.name, self._account)}

    def _registered(self, consumer: Consumer, kept: Kept) -> Kept:
        definition = kept.definition
        self._control.there(definition)
        name, account, found = definition.name, self._account.account_id, definition.consumers
        if any(one.name == consumer.name for one in found):
            raise in_use(f"Consumer {consumer.name} under stream {name} already exists.")
        if len(found) >= CONSUMERS_LIMIT:
            raise over_limit(f"Stream {name} under account {account} has {len(found)} consumers, the most it may have.")
        creating = sum(one.status == "CREATING" for one in found)
        if definition.limits == "aws" and creating >= CREATING_LIMIT:
            raise over_limit(f"Stream {name} under account {account} has {creating} consumers in CREATING already.")
        return updated(kept, consumers=(*found, consumer))

    async def deregister(self, request: Request) -> None:
        stream, consumer = self._found(request)
        await stream.change(partial(_leaving, consumer))

    async def describe(self, request: Request) -> Answer:
        stream, consumer = self._found(request)
        name = stream.definition.name
        said = describing.consumer(consumer, name, self._account)
        return {"ConsumerDescription": {**said, "StreamARN": str(self._account.stream_arn(name))}}

    def _found(self, request: Request) -> tuple[LiveStream, Consumer]:
        """The consumer that the request names, in either way or in both. Raises `ApiError`."""
        by_name = "StreamARN" in request or "ConsumerName" in request
        if (by_name and not ("StreamARN" in request and "ConsumerName" in request)) or not (
            by_name or "ConsumerARN" in request
        ):
            raise invalid("Either ConsumerARN, or both StreamARN and ConsumerName should be provided.")
        named = self._named(request["StreamARN"], request["ConsumerName"]) if by_name else None
        of_arn = self._of_arn(request["ConsumerARN"]) if "ConsumerARN" in request else None
        if named is not None and of_arn is not None and named != of_arn:
            raise invalid("ConsumerARN, StreamARN and ConsumerName do not name the same consumer.")
        found = named or of_arn
        assert found is not None
        return found

    def _named(self, stream_arn: str, name: str) -> tuple[LiveStream, Consumer]:
        stream = self._control.named(self._account.stream_of(stream_arn))
        for consumer in stream.definition.consumers:
            if consumer.name == name:
                return stream, consumer
        raise no_consumer(name, stream.definition.name)

    def _of_arn(self, text: str) -> tuple[LiveStream, Consumer]:
        arn = consumer_arn(text)
        if arn is None:
            raise invalid(f"ConsumerARN {text} is not the ARN of a consumer.")
        self._account.own(arn.stream)
        stream = self._control.named(arn.stream.stream)
        return stream, consumer_in(stream.definition, arn)

    async def list_consumers(self, request: Request) -> Answer:
        now_ms = self._control.runtime.now_ms()
        stream = self._control.stream(request)
        after = self._after(request, stream.definition, now_ms)
        found = sorted((one for one in stream.definition.consumers if one.name > after), key=lambda one: one.name)
        page = found[: min(request.get("MaxResults", LIST_PAGE), LIST_PAGE)]
        name = stream.definition.name
        goes_on = {"stream": name, "after": page[-1].name} if len(found) > len(page) else None
        return {
            "Consumers": [describing.consumer(one, name, self._account) for one in page],
            "NextToken": tokens.token("ListStreamConsumers", now_ms, **goes_on) if goes_on else None,
        }

    def _after(self, request: Request, definition: Definition, now_ms: int) -> str:
        """The name behind which the page begins. Raises `ApiError`."""
        made_ms = request.get("StreamCreationTimestamp")
        if "NextToken" not in request:
            if made_ms is not None and made_ms // 1000 != definition.created_ms // 1000:
                raise self._account.no_stream(definition.name)
            return ""
        if made_ms is not None:
            raise invalid("NextToken and StreamCreationTimestamp cannot be provided together.")
        said = tokens.told("ListStreamConsumers", request["NextToken"], now_ms)
        if said["stream"] != definition.name:
            raise invalid("Invalid NextToken.")
        return str(said["after"])


def _leaving(consumer: Consumer, kept: Kept) -> Kept:
    left = (
        replace(one, status="DELETING") if (one.name, one.created_ms) == (consumer.name, consumer.created_ms) else one
        for one in kept.definition.consumers
    )
    return updated(kept, consumers=tuple(left))
