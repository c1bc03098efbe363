"""All control operations together."""

from __future__ import annotations

from firehose.datastream.operations.account import AccountSettings
from firehose.datastream.operations.consumers import Consumers
from firehose.datastream.operations.control import Control
from firehose.datastream.operations.lifecycle import Lifecycle
from firehose.datastream.operations.policies import Policies
from firehose.datastream.operations.resources import Resources
from firehose.datastream.operations.settings import Settings
from firehose.datastream.operations.shards import Shards
from firehose.datastream.operations.tags import Tags
from firehose.datastream.streams import LiveStreams
from firehose.http.codec import CodedOperation
from firehose.runtime import Runtime


def control_operations(
    streams: LiveStreams, runtime: Runtime, region: str, account_id: str
) -> dict[str, CodedOperation]:
    control = Control(streams, runtime, region, account_id)
    resources = Resources(control)
    groups = (
        Lifecycle(control),
        Settings(control),
        Shards(control),
        Consumers(control),
        Tags(control, resources),
        Policies(control, resources),
        AccountSettings(control),
    )
    return {name: operation for group in groups for name, operation in group.operations().items()}
