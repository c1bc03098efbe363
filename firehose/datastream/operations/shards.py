"""ListShards, SplitShard, MergeShards, UpdateShardCount. Source: data-streams.md section 2.2."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from firehose.data_stream_config import STREAM_SHARDS
from firehose.datastream import lineage, sequence, tokens
from firehose.datastream.definitions import Kept
from firehose.datastream.lineage import Step
from firehose.datastream.live import LiveStream
from firehose.datastream.model import Definition, Shard
from firehose.datastream.operations import describing
from firehose.datastream.operations.control import Answer, Control, Request, shard_number, updated
from firehose.datastream.refusals import invalid, not_found, over_limit
from firehose.http.codec import CodedOperation

LIST_PAGE = 1000
COUNTS_PER_DAY = 10
TYPE, TIME = "Type", "Timestamp"


class Shards:
    """Operations on a stream's shards."""

    def __init__(self, control: Control) -> None:
        self._control = control
        self._account = control.account

    def operations(self) -> dict[str, CodedOperation]:
        return self._control.coded(
            {
                "ListShards": self.list_shards,
                "SplitShard": self.split,
                "MergeShards": self.merge,
                "UpdateShardCount": self.update_count,
            }
        )

    async def list_shards(self, request: Request) -> Answer:
        now_ms = self._control.runtime.now_ms()
        asked = self._asked(request, now_ms)
        stream = self._control.named(asked["stream"])
        definition = stream.definition
        made_ms = asked.get("created")
        if made_ms is not None and made_ms // 1000 != definition.created_ms // 1000:
            raise self._account.no_stream(definition.name)
        self._control.there(definition)
        found = [one for one in _filtered(stream, asked) if one.number > asked["after"]]
        page = found[: min(request.get("MaxResults", LIST_PAGE), LIST_PAGE)]
        more = {**asked, "created": definition.created_ms, "after": page[-1].number} if len(found) > len(page) else None
        return {
            "Shards": [describing.shard(one) for one in page],
            "NextToken": tokens.token("ListShards", now_ms, **more) if more else None,
        }

    def _asked(self, request: Request, now_ms: int) -> dict[str, Any]:
        """What the listing is of, as its token says it too. Raises `ApiError`."""
        given = "StreamName" in request or "StreamARN" in request
        if "NextToken" in request:
            others = ("ExclusiveStartShardId", "StreamCreationTimestamp", "ShardFilter")
            if given:
                raise invalid("NextToken and StreamName cannot be provided together.")
            if named := [one for one in others if one in request]:
                raise invalid(f"NextToken and {named[0]} cannot be provided together.")
            return dict(tokens.told("ListShards", request["NextToken"], now_ms))
        if not given:
            raise invalid("Either NextToken or StreamName should be provided.")
        chosen, after = request.get("ShardFilter", {TYPE: "FROM_TRIM_HORIZON"}), request.get("ExclusiveStartShardId")
        return {
            "stream": self._account.stream_named(request),
            "created": request.get("StreamCreationTimestamp"),
            "type": chosen[TYPE],
            "ms": _time(chosen),
            "after": max(_after(chosen), -1 if after is None else shard_number(after)),
        }

    async def split(self, request: Request) -> None:
        stream = self._control.stream(request)
        await stream.change(partial(self._split, request["ShardToSplit"], int(request["NewStartingHashKey"])))

    def _split(self, text: str, at: int, kept: Kept) -> Kept:
        definition = kept.definition
        self._reshapable(definition)
        shard = self._open_shard(definition, text)
        name, account = definition.name, self._account.account_id
        if not shard.start + 1 < at < shard.end:
            raise invalid(
                f"NewStartingHashKey {at} used in SplitShard() on shard {shard.id} in stream {name} under account "
                f"{account} is not both greater than one plus the shard's StartingHashKey {shard.start} and less than "
                f"the shard's EndingHashKey {shard.end}."
            )
        self._control.room_for(1)
        return _resharding(kept, [lineage.split(shard, at)])

    async def merge(self, request: Request) -> None:
        stream = self._control.stream(request)
        await stream.change(partial(self._merge, request["ShardToMerge"], request["AdjacentShardToMerge"]))

    def _merge(self, text: str, neighbour_text: str, kept: Kept) -> Kept:
        definition = kept.definition
        self._reshapable(definition)
        shard, neighbour = self._open_shard(definition, text), self._open_shard(definition, neighbour_text)
        if not lineage.adjacent(shard, neighbour):
            raise invalid(
                f"Shards {shard.id} and {neighbour.id} in stream {definition.name} under account "
                f"{self._account.account_id} are not an adjacent pair of shards eligible for merging"
            )
        return _resharding(kept, [lineage.merge(shard, neighbour)])

    async def update_count(self, request: Request) -> Answer:
        stream, target = self._control.stream(request), request["TargetShardCount"]
        counts: list[int] = []

        def change(kept: Kept) -> Kept:
            counts.append(describing.open_shards(kept.definition.shards))
            return self._counting(target, counts[0], kept)

        await stream.change(change)
        return {
            **describing.names(stream.definition.name, self._account),
            "CurrentShardCount": counts[0],
            "TargetShardCount": target,
        }

    def _counting(self, target: int, current: int, kept: Kept) -> Kept:
        self._reshapable(kept.definition)
        counts = f"Current open shard count: {current}, Target shard count: {target}"
        if target > 2 * current:
            raise over_limit(f"UpdateShardCount cannot scale up over double your current open shard count. {counts}")
        if 2 * target < current:
            raise over_limit(f"UpdateShardCount cannot scale down below half your current open shard count. {counts}")
        limit = min(STREAM_SHARDS, self._control.streams.defaults.shard_limit)
        if target > limit:
            message = f"Target shard count or number of open shards cannot be greater than {limit}. {counts}"
            raise over_limit(message)
        self._control.seldom("UpdateShardCount", kept.definition, COUNTS_PER_DAY)
        if target == current:
            return kept
        self._control.room_for(target - current)
        return _resharding(kept, lineage.resharding(kept.definition, target))

    def _reshapable(self, definition: Definition) -> None:
        """Raises `ApiError` where the stream's shards must not be changed now."""
        self._control.free(definition)
        self._control.provisioned(definition)

    def _open_shard(self, definition: Definition, text: str) -> Shard:
        """The open shard that an id names. Raises `ApiError`."""
        where = f"in stream {definition.name} under account {self._account.account_id}"
        number = sequence.shard_number(text)
        shard = next((one for one in definition.shards if one.number == number), None)
        if shard is None:
            said = text if number is None else sequence.shard_id(number)
            raise not_found(f"Could not find shard {said} {where}.")
        if not shard.open:
            raise invalid(
                f"Shard {shard.id} {where} has already been merged or split, and thus is not eligible for merging or "
                "splitting."
            )
        return shard


def _resharding(kept: Kept, steps: Sequence[Step]) -> Kept:
    return replace(updated(kept, status="UPDATING"), steps=tuple(steps))


def _time(chosen: Request) -> int | None:
    """The instant of a filter. Raises `ApiError` where one is missing."""
    if not chosen[TYPE].endswith("_TIMESTAMP"):
        return None
    if TIME not in chosen:
        raise invalid(f"Must specify Timestamp in ShardFilter of type {chosen[TYPE]}.")
    return int(chosen[TIME])


def _after(chosen: Request) -> int:
    """The shard behind which the filter begins. Raises `ApiError` where it is missing."""
    if chosen[TYPE] != "AFTER_SHARD_ID":
        return -1
    if "ShardId" not in chosen:
        raise invalid("Must specify ShardId in ShardFilter of type AFTER_SHARD_ID.")
    return shard_number(chosen["ShardId"])


def _filtered(stream: LiveStream, asked: Request) -> list[Shard]:
    """The shards that the filter lets through. Those open at one instant are the whole key space, without overlap: a
    shard is open from the instant on at which its parents are closed.
    """
    listed, kind = describing.listed(stream), asked["type"]
    horizon_ms = max(stream.horizon_ms(), stream.definition.created_ms)
    at_ms = horizon_ms if kind == "AT_TRIM_HORIZON" else max(asked["ms"] or 0, horizon_ms)
    if kind in ("AT_TRIM_HORIZON", "AT_TIMESTAMP"):
        return [one for one in listed if one.opened_ms <= at_ms and (one.closed_ms is None or one.closed_ms > at_ms)]
    if kind == "AT_LATEST":
        return [one for one in listed if one.open]
    if kind == "FROM_TIMESTAMP":
        return [one for one in listed if one.closed_ms is None or one.closed_ms >= at_ms]
    return listed
