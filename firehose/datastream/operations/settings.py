"""What can be set of a stream that exists: mode, sizes, retention, encryption, monitoring.

Source: data-streams.md section 2.1. Encryption is a flag that is stored and told: records are as safe as the disk is.
"""

from __future__ import annotations

import re
from dataclasses import replace
from functools import partial
from typing import Any

from firehose.datastream.definitions import Kept
from firehose.datastream.model import Definition
from firehose.datastream.operations import describing
from firehose.datastream.operations.account import STATUS
from firehose.datastream.operations.control import Answer, Control, Request, updated
from firehose.datastream.refusals import invalid
from firehose.datastream.streams import retained
from firehose.http.aws_json import ApiError
from firehose.http.codec import CodedOperation

LEAST_HOURS, MOST_HOURS = 24, 8760
MOST_WARM_MIB = 10_240
MODES_PER_DAY, ENCRYPTIONS_PER_DAY = 2, 25
KEY_ID = re.compile(
    r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}|mrk-[0-9a-f]{32}|alias/[a-zA-Z0-9/_-]+"
    r"|arn:aws[^:]*:kms:[^:]*:\d{12}:(key/(mrk-)?[0-9a-f-]+|alias/[a-zA-Z0-9/_-]+)"
)
METRICS = (
    "IncomingBytes",
    "IncomingRecords",
    "OutgoingBytes",
    "OutgoingRecords",
    "WriteProvisionedThroughputExceeded",
    "ReadProvisionedThroughputExceeded",
    "IteratorAgeMilliseconds",
)


class Settings:
    """Operations on one stream's definition."""

    def __init__(self, control: Control) -> None:
        self._control = control
        self._account = control.account

    def operations(self) -> dict[str, CodedOperation]:
        return self._control.coded(
            {
                "UpdateStreamMode": self.update_mode,
                "UpdateMaxRecordSize": self.update_max_record_size,
                "UpdateStreamWarmThroughput": self.update_warm_throughput,
                "UpdateStreamRecordDistributionStrategy": self.update_distribution,
                "IncreaseStreamRetentionPeriod": partial(self.retain, True),
                "DecreaseStreamRetentionPeriod": partial(self.retain, False),
                "StartStreamEncryption": self.start_encryption,
                "StopStreamEncryption": self.stop_encryption,
                "EnableEnhancedMonitoring": partial(self.monitor, True),
                "DisableEnhancedMonitoring": partial(self.monitor, False),
            }
        )

    async def update_mode(self, request: Request) -> None:
        mode, warm = request["StreamModeDetails"]["StreamMode"], request.get("WarmThroughputMiBps")
        if warm is not None and mode != "ON_DEMAND":
            raise invalid("WarmThroughputMiBps is for streams in ON_DEMAND mode.")
        await self._control.stream(request).change(partial(self._in_mode, mode, warm))

    def _in_mode(self, mode: str, warm: int | None, kept: Kept) -> Kept:
        definition = kept.definition
        self._control.free(definition)
        if definition.mode == mode:
            return kept
        if definition.distribution == "AUTO":
            raise invalid(f"Stream {definition.name} distributes its records by itself, which needs ON_DEMAND mode.")
        if mode == "ON_DEMAND":
            self._control.room_on_demand()
        self._control.seldom("UpdateStreamMode", definition, MODES_PER_DAY)
        return updated(kept, status="UPDATING", mode=mode, warm_mib_per_second=warm or 0)

    async def update_max_record_size(self, request: Request) -> None:
        await self._control.stream(request).change(partial(self._set, max_record_kib=request["MaxRecordSizeInKiB"]))

    async def update_warm_throughput(self, request: Request) -> Answer:
        warm, stream = request["WarmThroughputMiBps"], self._control.stream(request)
        await stream.change(partial(self._warm, warm))
        return {
            **describing.names(stream.definition.name, self._account),
            "WarmThroughput": describing.warm_throughput(stream.definition),
        }

    def _warm(self, warm: int, kept: Kept) -> Kept:
        self._control.active(kept.definition)
        if kept.definition.mode != "ON_DEMAND":
            name, account = kept.definition.name, self._account.account_id
            message = f"Request is invalid. Stream {name} under account {account} is in Provisioned mode."
            raise ApiError("ValidationException", message)
        if self._control.streams.account.get(STATUS) != "ENABLED":
            raise invalid("Warm throughput needs the account's MinimumThroughputBillingCommitment to be ENABLED.")
        if warm > MOST_WARM_MIB:
            raise invalid(f"WarmThroughputMiBps must not be above {MOST_WARM_MIB}, and is {warm}.")
        return updated(kept, status="UPDATING", warm_mib_per_second=warm)

    async def update_distribution(self, request: Request) -> None:
        distribution = request["RecordDistributionStrategy"]
        await self._control.stream(request).change(partial(self._distribute, distribution))

    def _distribute(self, distribution: str, kept: Kept) -> Kept:
        if distribution == "AUTO" and kept.definition.mode != "ON_DEMAND":
            raise invalid("RecordDistributionStrategy AUTO is for streams in ON_DEMAND mode.")
        self._control.active(kept.definition)
        return updated(kept, status="UPDATING", distribution=distribution)

    async def retain(self, longer: bool, request: Request) -> None:
        hours, stream = request["RetentionPeriodHours"], self._control.stream(request)
        asked = f"Requested retention period ({hours} hours)"
        if hours < LEAST_HOURS:
            raise invalid(f"Minimum allowed retention period is {LEAST_HOURS} hours. {asked} is too short.")
        if hours > MOST_HOURS:
            raise invalid(f"Maximum allowed retention period is {MOST_HOURS} hours. {asked} is too long.")
        await stream.change(partial(self._retaining, longer, hours))

    def _retaining(self, longer: bool, hours: int, kept: Kept) -> Kept:
        """The same again is taken, even of a stream of the file: Terraform says it of each stream that it has made."""
        existing, name = kept.definition.retention_hours, kept.definition.name
        asked = f"Requested retention period ({hours} hours) for stream {name} can not be"
        than = f"than existing retention period ({existing} hours)"
        self._control.active(kept.definition)
        if longer and hours < existing:
            raise invalid(f"{asked} shorter {than}. Use DecreaseRetentionPeriod API.")
        if not longer and hours > existing:
            raise invalid(f"{asked} longer {than}. Use IncreaseRetentionPeriod API.")
        if hours == existing:
            return kept
        self._control.free(kept.definition)
        return retained(kept, hours, self._control.runtime.now_ms())

    async def start_encryption(self, request: Request) -> None:
        key_id = _key_id(request)
        await self._control.stream(request).change(partial(self._encrypted, key_id))

    async def stop_encryption(self, request: Request) -> None:
        _key_id(request)
        await self._control.stream(request).change(partial(self._encrypted, None))

    def _encrypted(self, key_id: str | None, kept: Kept) -> Kept:
        self._control.active(kept.definition)
        if kept.definition.key_id == key_id:
            return kept
        if key_id is not None:
            self._control.seldom("StartStreamEncryption", kept.definition, ENCRYPTIONS_PER_DAY)
        return updated(kept, status="UPDATING", key_id=key_id)

    async def monitor(self, more: bool, request: Request) -> Answer:
        stream, asked = self._control.stream(request), set(request["ShardLevelMetrics"])
        asked = set(METRICS) if "ALL" in asked else asked
        before: list[Definition] = []

        def change(kept: Kept) -> Kept:
            self._control.active(kept.definition)
            before.append(kept.definition)
            wanted = asked | set(kept.definition.metrics) if more else set(kept.definition.metrics) - asked
            return updated(kept, metrics=tuple(metric for metric in METRICS if metric in wanted))

        await stream.change(change)
        return {
            **describing.names(stream.definition.name, self._account),
            "CurrentShardLevelMetrics": list(before[0].metrics),
            "DesiredShardLevelMetrics": list(stream.definition.metrics),
        }

    def _set(self, kept: Kept, **members: Any) -> Kept:
        self._control.free(kept.definition)
        same = replace(kept.definition, **members) == kept.definition
        return kept if same else updated(kept, status="UPDATING", **members)


def _key_id(request: Request) -> str:
    """The key that the request names. Raises `ApiError`."""
    if request["EncryptionType"] != "KMS":
        raise invalid("EncryptionType must be KMS.")
    key_id: str = request["KeyId"]
    if not KEY_ID.fullmatch(key_id):
        raise ApiError("KMSNotFoundException", f"Invalid keyId '{key_id[:256]}'")
    return key_id
