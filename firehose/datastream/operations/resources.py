"""What an ARN of the API names: a stream, or a consumer of one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from firehose.datastream.arns import Account, ConsumerArn, consumer_arn, stream_arn
from firehose.datastream.definitions import Kept
from firehose.datastream.live import LiveStream
from firehose.datastream.model import Consumer, Definition
from firehose.datastream.operations.control import Control, updated
from firehose.datastream.refusals import no_consumer, not_found

Allow = Callable[[Definition, bool], None]  # whether the stream, or (True) a consumer of it, may be changed; or raises


@dataclass(frozen=True, slots=True)
class Resource:
    """A stream, or the consumer of it that `consumer` names."""

    arn: str
    stream: LiveStream
    consumer: ConsumerArn | None

    @property
    def now(self) -> Definition | Consumer:
        """Raises `ApiError` where the consumer is gone."""
        definition = self.stream.definition
        return definition if self.consumer is None else consumer_in(definition, self.consumer)

    def changed(self, allow: Allow, members: Callable[[Definition | Consumer], Mapping[str, Any]], kept: Kept) -> Kept:
        """What is kept, with other `members` of this. Raises `ApiError`."""
        allow(kept.definition, self.consumer is not None)
        if self.consumer is None:
            return updated(kept, **members(kept.definition))
        old = consumer_in(kept.definition, self.consumer)
        new = replace(old, **members(old))
        return updated(kept, consumers=tuple(new if one is old else one for one in kept.definition.consumers))


class Resources:
    """Finds them."""

    def __init__(self, control: Control) -> None:
        self._control = control
        self._account: Account = control.account

    def named(self, arn: str) -> Resource:
        """Raises `ApiError`, also for what only AWS has: channels and queues."""
        consumer = consumer_arn(arn)
        stream = consumer.stream if consumer else stream_arn(arn)
        if stream is None:
            raise not_found(f"Resource {arn} not found.")
        self._account.own(stream)
        found = Resource(arn, self._control.named(stream.stream), consumer)
        assert found.now is not None
        return found


def consumer_in(definition: Definition, arn: ConsumerArn) -> Consumer:
    """The consumer of that registration. Raises `ApiError`."""
    for consumer in definition.consumers:
        if arn.names(consumer):
            return consumer
    raise no_consumer(arn.consumer, definition.name)
