"""What the control operations have in common: which stream is meant, whether it may be changed now, and how fast.

The order is AWS's (data-streams.md section 1.4): the request's own constraints, the rate, the stream, then its state.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from typing import Any

from firehose import observe
from firehose.datastream import sequence, shapes
from firehose.datastream.arns import Account
from firehose.datastream.definitions import Kept
from firehose.datastream.live import Gone, LiveStream
from firehose.datastream.model import Definition
from firehose.datastream.operations.pace import Pace
from firehose.datastream.refusals import in_use, invalid, over_limit
from firehose.datastream.streams import LiveStreams
from firehose.http.aws_json import ApiError, slow_down
from firehose.http.codec import Codec, CodedOperation
from firehose.runtime import Runtime

Request = Mapping[str, Any]
Answer = Mapping[str, Any]
Handle = Callable[[Request], Awaitable[Answer | None]]  # None: the answer is an empty body
RETRY_SECONDS = 5.0  # told to a client whose change met a disk that fails
_NAMED = re.compile(r":stream/([^/]+)")


class Control:
    """One for all control operations of a service."""

    def __init__(self, streams: LiveStreams, runtime: Runtime, region: str, account_id: str) -> None:
        self.streams = streams
        self.runtime = runtime
        self.account = Account(region, account_id)
        self._pace = Pace(runtime)

    def coded(self, handles: Mapping[str, Handle]) -> dict[str, CodedOperation]:
        """The operations as the wire carries them."""
        return {name: self._coded(name, handle) for name, handle in handles.items()}

    def stream(self, request: Request) -> LiveStream:
        """The stream that StreamName and StreamARN name. Raises `ApiError`."""
        return self.named(self.account.stream_named(request))

    def named(self, name: str) -> LiveStream:
        stream = self.streams.named.get(name)
        if stream is None:
            raise self.account.no_stream(name)
        return stream

    def active(self, definition: Definition) -> None:
        """Raises `ApiError` unless the stream is ACTIVE."""
        if definition.status != "ACTIVE":
            name, account = definition.name, self.account.account_id
            raise in_use(f"Stream {name} under account {account} not ACTIVE, instead in state {definition.status}")

    def there(self, definition: Definition) -> None:
        """Raises `ApiError` while it is not there yet, or not any more."""
        if definition.status in ("CREATING", "DELETING"):
            self.active(definition)

    def free(self, definition: Definition) -> None:
        """Raises `ApiError` where the stream is the configuration file's, or not ACTIVE."""
        if definition.declared:
            name, account = definition.name, self.account.account_id
            raise in_use(
                f"Stream {name} under account {account} is in the configuration file: "
                f"change data_streams.{name} there, and reload"
            )
        self.active(definition)

    def provisioned(self, definition: Definition) -> None:
        """Raises `ApiError` where shards are not the user's business."""
        if definition.mode == "ON_DEMAND":
            name, account = definition.name, self.account.account_id
            message = f"Request is invalid. Stream {name} under account {account} is in On-Demand mode."
            raise ApiError("ValidationException", message)

    def room_for(self, shards: int) -> None:
        """Raises `ApiError` where so many shards more are too many for the account."""
        limit, now = self.streams.defaults.shard_limit, self.streams.shards_to_come
        if now + shards > limit:
            raise over_limit(
                f"This request would exceed the shard limit for the account {self.account.account_id} in "
                f"{self.account.region}. Current shard count for the account: {now}. Limit: {limit}. Number of "
                f"additional shards that would have resulted from this request: {shards}. Refer to the AWS Service "
                "Limits page (https://docs.aws.amazon.com/general/latest/gr/aws_service_limits.html) for current "
                "limits and how to request higher limits."
            )

    def room_on_demand(self) -> None:
        """Raises `ApiError` where the account has as many streams on demand as it may have."""
        found, limit = self.streams.named.values(), self.streams.defaults.on_demand_limit
        if sum(one.definition.mode == "ON_DEMAND" for one in found) >= limit:
            account = self.account.account_id
            raise over_limit(f"Account {account} has {limit} streams in ON_DEMAND mode already, the most there may be.")

    def seldom(self, operation: str, definition: Definition, most: int) -> None:
        """Raises `ApiError` at one call too many in a stream's 24 hours, where AWS's limits are asked for."""
        if definition.limits == "aws" and not self._pace.day(operation, definition.id, most):
            name, account = definition.name, self.account.account_id
            raise over_limit(
                f"{operation} was called {most} times in 24 hours for stream {name} under account {account}."
            )

    def _coded(self, name: str, handle: Handle) -> CodedOperation:
        async def operation(body: bytes, codec: Codec) -> bytes:
            request = codec.read(body, shapes.request(name))
            self._paced(name, request)
            try:
                answer = await handle(request)
            except Gone as gone:
                raise self.account.no_stream(str(gone)) from None
            except OSError as error:
                observe.disk_failed(f"data streams, {name}: {error}")
                raise slow_down(RETRY_SECONDS) from None
            return b"" if answer is None else codec.write(answer)

        return operation

    def _paced(self, operation: str, request: Request) -> None:
        """Raises `ApiError` where AWS's limits are asked for and calls come too fast."""
        stream = _stream_of(request)
        found = self.streams.named.get(stream)
        limits = found.definition.limits if found else self.streams.defaults.limits
        if limits == "aws" and not self._pace.second(operation, stream):
            whose = f"stream {stream} under account" if stream else "account"
            raise over_limit(f"Rate exceeded for {whose} {self.account.account_id}.")


def _stream_of(request: Request) -> str:
    """The stream that a request seems to be for."""
    if name := request.get("StreamName"):
        return str(name)
    arn = next((request[key] for key in ("StreamARN", "ConsumerARN", "ResourceARN") if request.get(key)), "")
    found = _NAMED.search(arn)
    return found[1] if found else ""


def updated(kept: Kept, **members: Any) -> Kept:
    """The same with other members of its definition."""
    return replace(kept, definition=replace(kept.definition, **members))


def shard_number(text: str) -> int:
    """The number in the id of the shard behind which a listing begins. Raises `ApiError`."""
    number = sequence.shard_number(text)
    if number is None:
        raise invalid(f"'{text}' is not the id of a shard.")
    return number
