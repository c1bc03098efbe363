"""CreateStream, DeleteStream, and what the API tells of streams. Source: data-streams.md section 2.1."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from firehose.datastream import tokens
from firehose.datastream.definitions import Kept
from firehose.datastream.model import Definition, Mode
from firehose.datastream.operations import describing
from firehose.datastream.operations.control import Answer, Control, Request, shard_number, updated
from firehose.datastream.operations.tags import checked
from firehose.datastream.refusals import broken, in_use, invalid, over_limit
from firehose.datastream.streams import ON_DEMAND_SHARDS
from firehose.http.codec import CodedOperation

SHARDS_LIMIT = 100_000  # that a request may ask for at all
CREATING_LIMIT = 5  # streams at a time, where AWS's limits are asked for
SHARDS_PAGE = 100
STREAMS_PAGE = 100
MODE, WARM, DISTRIBUTION = "StreamModeDetails", "WarmThroughputMiBps", "RecordDistributionStrategy"


class Lifecycle:
    """Operations on streams as a whole."""

    def __init__(self, control: Control) -> None:
        self._control = control
        self._streams = control.streams
        self._account = control.account

    def operations(self) -> dict[str, CodedOperation]:
        return self._control.coded(
            {
                "CreateStream": self.create,
                "DeleteStream": self.delete,
                "DescribeStream": self.describe,
                "DescribeStreamSummary": self.summarize,
                "ListStreams": self.list_streams,
            }
        )

    async def create(self, request: Request) -> None:
        count = request.get("ShardCount")
        default = "ON_DEMAND" if count is None else "PROVISIONED"
        mode: Mode = request.get(MODE, {}).get("StreamMode", default)
        if count is not None and count > SHARDS_LIMIT:
            raise broken(f"Value '{count}'", "shardCount", f"have value less than or equal to {SHARDS_LIMIT}")
        if mode == "PROVISIONED" and count is None:
            raise invalid("ShardCount must be given for a stream in PROVISIONED mode.")
        if mode == "ON_DEMAND" and count is not None:
            raise invalid("ShardCount must not be given for a stream in ON_DEMAND mode.")
        if mode == "PROVISIONED" and (WARM in request or request.get(DISTRIBUTION) == "AUTO"):
            raise invalid(f"{WARM} and {DISTRIBUTION} AUTO are for streams in ON_DEMAND mode.")
        tags = checked({}, request.get("Tags", {}), ":")
        shards = count or ON_DEMAND_SHARDS

        def new(id: str, now_ms: int) -> Definition:
            self._allow(request["StreamName"], mode, shards)
            return Definition(
                request["StreamName"],
                id,
                now_ms,
                "CREATING",
                mode,
                retention_hours=self._streams.defaults.retention_hours,
                limits=self._streams.defaults.limits,
                max_record_kib=request.get("MaxRecordSizeInKiB", 1024),
                warm_mib_per_second=request.get(WARM, 0),
                distribution=request.get(DISTRIBUTION, "USER_PARTITION_KEY"),
                tags=tags,
            )

        await self._streams.create(new, shards)

    def _allow(self, name: str, mode: str, shards: int) -> None:
        """Raises `ApiError` where there must not be such a stream now."""
        account = self._account.account_id
        if name in self._streams.named:
            raise in_use(f"Stream {name} under account {account} already exists.")
        creating = sum(one.definition.status == "CREATING" for one in self._streams.named.values())
        if self._streams.defaults.limits == "aws" and creating >= CREATING_LIMIT:
            raise over_limit(f"Account {account} has {creating} streams in CREATING already, the most there may be.")
        if mode == "ON_DEMAND":
            self._control.room_on_demand()
        self._control.room_for(shards)

    async def delete(self, request: Request) -> None:
        stream = self._control.stream(request)
        await stream.change(partial(self._deleting, bool(request.get("EnforceConsumerDeletion"))))

    def _deleting(self, enforced: bool, kept: Kept) -> Kept:
        definition = kept.definition
        if definition.status == "DELETING":
            self._control.active(definition)
        if definition.declared:
            self._control.free(definition)
        if definition.consumers and not enforced:
            account, name = self._account.account_id, definition.name
            raise in_use(
                f"DeleteStream can't delete {account}:{name} because there are consumers associated with this data "
                f"stream. To delete {name} anyway, set the EnforceConsumerDeletion parameter to true in your request."
            )
        return replace(updated(kept, status="DELETING", consumers=()), steps=())

    async def describe(self, request: Request) -> Answer:
        stream = self._control.stream(request)
        shards = describing.listed(stream)
        after = request.get("ExclusiveStartShardId")
        if after is not None:
            shards = [one for one in shards if one.number > shard_number(after)]
        limit = min(request.get("Limit", SHARDS_PAGE), SHARDS_PAGE)
        return {
            "StreamDescription": {
                **describing.description(stream.definition, self._account),
                "Shards": [describing.shard(one) for one in shards[:limit]],
                "HasMoreShards": len(shards) > limit,
            }
        }

    async def summarize(self, request: Request) -> Answer:
        """Without a StreamId: the SDKs send a request that names one to AWS, whatever endpoint they were given."""
        definition = self._control.stream(request).definition
        on_demand = definition.mode == "ON_DEMAND"
        return {
            "StreamDescriptionSummary": {
                **describing.description(definition, self._account),
                "OpenShardCount": describing.open_shards(definition.shards),
                "ConsumerCount": len(definition.consumers),
                "WarmThroughput": describing.warm_throughput(definition) if on_demand else None,
                "MaxRecordSizeInKiB": definition.max_record_kib,
                "ChannelCount": 0,
                "QueueCount": 0,
                "RecordDistributionStrategy": definition.distribution if on_demand else None,
            }
        }

    async def list_streams(self, request: Request) -> Answer:
        now_ms = self._control.runtime.now_ms()
        after = request.get("ExclusiveStartStreamName", "")
        if "NextToken" in request:
            after = tokens.told("ListStreams", request["NextToken"], now_ms)["after"]
        names = sorted(name for name in self._streams.named if name > after)
        page = names[: min(request.get("Limit", STREAMS_PAGE), STREAMS_PAGE)]
        more = len(names) > len(page)
        found = [self._streams.named[name].definition for name in page]
        return {
            "StreamNames": page,
            "HasMoreStreams": more,
            "NextToken": tokens.token("ListStreams", now_ms, after=page[-1]) if more else None,
            "StreamSummaries": [describing.summary(one, self._account) for one in found],
        }
