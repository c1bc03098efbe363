"""What belongs to no stream: limits and settings of the account. Source: data-streams.md section 2.1."""

from __future__ import annotations

from typing import Any

from firehose.datastream.operations.control import Answer, Control, Request
from firehose.datastream.refusals import invalid
from firehose.http.codec import CodedOperation, Millis

COMMITMENT, STATUS = "MinimumThroughputBillingCommitment", "Status"
DAY_MS = 86_400_000
INSTANTS = ("StartedAt", "EndedAt", "EarliestAllowedEndAt")


class AccountSettings:
    """Operations on the account."""

    def __init__(self, control: Control) -> None:
        self._control = control
        self._streams = control.streams

    def operations(self) -> dict[str, CodedOperation]:
        return self._control.coded(
            {
                "DescribeLimits": self.limits,
                "DescribeAccountSettings": self.describe,
                "UpdateAccountSettings": self.update,
            }
        )

    async def limits(self, request: Request) -> Answer:
        found = [stream.definition for stream in self._streams.named.values()]
        defaults = self._streams.defaults
        return {
            "ShardLimit": defaults.shard_limit,
            "OpenShardCount": sum(shard.open for one in found for shard in one.shards),
            "OnDemandStreamCount": sum(one.mode == "ON_DEMAND" for one in found),
            "OnDemandStreamCountLimit": defaults.on_demand_limit,
            "ChannelCount": 0,
            "ChannelCountLimit": 0,
        }

    async def describe(self, request: Request) -> Answer:
        return {COMMITMENT: _told(self._streams.account)}

    async def update(self, request: Request) -> Answer:
        """Once enabled it stays so for a day, as AWS has it."""
        wanted, now_ms, old = request[COMMITMENT][STATUS], self._control.runtime.now_ms(), self._streams.account
        if wanted == "DISABLED" and now_ms < old.get("EarliestAllowedEndAt", 0):
            raise invalid(f"{COMMITMENT} can be DISABLED 24 hours after it was ENABLED, and not before.")
        if wanted != old.get(STATUS, "DISABLED"):
            await self._streams.set_account(_changed(old, wanted, now_ms))
        return {COMMITMENT: _told(self._streams.account)}


def _changed(old: dict[str, Any], wanted: str, now_ms: int) -> dict[str, Any]:
    if wanted == "ENABLED":
        kept = {name: value for name, value in old.items() if name != "EndedAt"}
        return {**kept, STATUS: wanted, "StartedAt": now_ms, "EarliestAllowedEndAt": now_ms + DAY_MS}
    kept = {name: value for name, value in old.items() if name != "EarliestAllowedEndAt"}
    return {**kept, STATUS: wanted, "EndedAt": now_ms}


def _told(settings: dict[str, Any]) -> dict[str, Any]:
    instants = {name: Millis(settings[name]) for name in INSTANTS if settings.get(name) is not None}
    return {STATUS: settings.get(STATUS, "DISABLED"), **instants}
