"""Which stream, and which consumer, a request means: their ARNs and their names.

Source: data-streams.md sections 2 and 2.5. AWS finds the account and the region of an ARN in the host name; behind an
endpoint of our own both must be looked at here, and what is another's does not exist.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from firehose.datastream.model import Consumer
from firehose.datastream.refusals import invalid, no_stream
from firehose.http.aws_json import ApiError

_STREAM = re.compile(r"arn:aws[^:]*:kinesis:([^:]*):(\d{12}):stream/([a-zA-Z0-9_.-]{1,128})")
_CONSUMER = re.compile(_STREAM.pattern + r"/consumer/([a-zA-Z0-9_.-]{1,128}):(\d{1,15})")


@dataclass(frozen=True, slots=True)
class StreamArn:
    region: str
    account_id: str
    stream: str

    def __str__(self) -> str:
        return f"arn:aws:kinesis:{self.region}:{self.account_id}:stream/{self.stream}"


@dataclass(frozen=True, slots=True)
class ConsumerArn:
    """A consumer of one registration: one that registers again under its name has another ARN."""

    stream: StreamArn
    consumer: str
    created_s: int

    def __str__(self) -> str:
        return f"{self.stream}/consumer/{self.consumer}:{self.created_s}"

    def names(self, consumer: Consumer) -> bool:
        return (self.consumer, self.created_s) == (consumer.name, consumer.created_ms // 1000)


def stream_arn(text: str) -> StreamArn | None:
    """None where it is not the ARN of a stream."""
    found = _STREAM.fullmatch(text)
    return StreamArn(*found.groups()) if found else None


def consumer_arn(text: str) -> ConsumerArn | None:
    """None where it is not the ARN of a consumer."""
    found = _CONSUMER.fullmatch(text)
    return ConsumerArn(StreamArn(found[1], found[2], found[3]), found[4], int(found[5])) if found else None


@dataclass(frozen=True, slots=True)
class Account:
    """Whose streams these are."""

    region: str
    account_id: str

    def stream_arn(self, stream: str) -> StreamArn:
        return StreamArn(self.region, self.account_id, stream)

    def consumer_arn(self, stream: str, consumer: Consumer) -> ConsumerArn:
        return ConsumerArn(self.stream_arn(stream), consumer.name, consumer.created_ms // 1000)

    def stream_named(self, request: Mapping[str, Any]) -> str:
        """The name that the request's StreamName, its StreamARN, or both give. Raises `ApiError`."""
        name, arn = request.get("StreamName"), request.get("StreamARN")
        if arn is None and name is None:
            raise invalid("Either StreamName or StreamARN should be provided.")
        if arn is None:
            return str(name)
        found = self.stream_of(arn)
        if name is not None and name != found:
            raise invalid(f"StreamARN {arn} and StreamName {name} do not name the same stream.")
        return found

    def stream_of(self, arn: str) -> str:
        """The name in a stream's ARN. Raises `ApiError`."""
        found = stream_arn(arn)
        if found is None:
            raise invalid(f"StreamARN {arn} is not the ARN of a stream.")
        self.own(found)
        return found.stream

    def own(self, arn: StreamArn) -> None:
        """Raises `ApiError` where the stream is another account's or another region's."""
        if (arn.region, arn.account_id) != (self.region, self.account_id):
            raise no_stream(arn.stream, arn.account_id)

    def no_stream(self, stream: str) -> ApiError:
        return no_stream(stream, self.account_id)

    def too_fast(self, stream: str, shard: str) -> ApiError:
        message = f"Rate exceeded for shard {shard} in stream {stream} under account {self.account_id}."
        return ApiError("ProvisionedThroughputExceededException", message)
