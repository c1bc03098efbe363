"""The data streams of a service put together: logs, streams, operations, and what is told of them.

The service opens it before its port, has it follow the configuration, and closes it once nobody is answered any more.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from firehose import observe
from firehose.blocks import MIB
from firehose.config import ServiceOptions
from firehose.contracts import Disk
from firehose.data_stream_config import DataStreamConfig
from firehose.datastream.live import LiveStream
from firehose.datastream.log import LogOptions, ShardLogs, Told
from firehose.datastream.operations.every import control_operations
from firehose.datastream.operations.reading import Reading
from firehose.datastream.operations.subscribing import Subscribing
from firehose.datastream.operations.writing import Writing
from firehose.datastream.pages import Pages
from firehose.datastream.streams import LiveStreams
from firehose.http.aws_json import BODY_LIMIT_BYTES
from firehose.http.kinesis import KinesisApi
from firehose.runtime import Runtime

READ_THREADS = 4


class DataStreamService:
    """`streams` are those that exist."""

    def __init__(self, data_dir: str, disk: Disk, runtime: Runtime, options: ServiceOptions) -> None:
        self._options = options
        self._runtime = runtime
        self._committing = runtime.line("data-stream-commit", options.sync_threads)
        self._syncing = runtime.threads("data-stream-sync", options.sync_threads)
        self._reading = runtime.threads("data-stream-read", READ_THREADS)
        bounds = LogOptions(int(options.reserve_mib * MIB), commit_seconds=options.commit_seconds)
        told = Told(observe.disk_failed, observe.damaged, observe.torn)
        logs = ShardLogs(disk, runtime, self._committing, self._reading, bounds, told)
        defaults = options.data_stream_defaults
        self.streams = LiveStreams(data_dir, disk, self._syncing, runtime, logs.open, defaults)

    async def open(self, configs: Mapping[str, DataStreamConfig]) -> None:
        """Every stream as it was, and those of the configuration. Raises `NewerFormat`, OSError."""
        await self.streams.open()
        await self.streams.follow(configs)

    async def close(self) -> None:
        await self.streams.close()
        self._committing.close()
        self._syncing.close()
        self._reading.close()

    def api(self) -> KinesisApi:
        """The API of Kinesis Data Streams over them."""
        region, account_id = self._options.region, self._options.account_id
        common = self.streams, self._runtime, region, account_id
        pages = Pages()  # one for all who read: what a hundred of them read is written once
        operations = {
            **control_operations(*common),
            **Writing(*common).operations(),
            **Reading(*common, secret=self.streams.secret, pages=pages).operations(),
        }
        seconds = self._options.data_stream_defaults.subscription_seconds
        subscribing = Subscribing(*common, pages=pages, subscription_seconds=seconds)
        return KinesisApi(operations, subscribing.streaming(), self._runtime.request_id, BODY_LIMIT_BYTES)

    def views(self) -> list[dict[str, Any]]:
        """Every stream, for people and their tools."""
        return [_view(name, self.streams.named[name]) for name in sorted(self.streams.named)]

    def samples(self) -> Iterator[observe.Sample]:
        """Every stream, for Prometheus."""
        for name, stream in sorted(self.streams.named.items()):
            yield "firehose_data_stream_shards", (name,), sum(one.open for one in stream.definition.shards)
            yield "firehose_data_stream_incoming_records", (name,), stream.incoming_records
            yield "firehose_data_stream_incoming_bytes", (name,), stream.incoming_bytes
            yield "firehose_data_stream_stored_bytes", (name,), stream.stored_bytes
            yield "firehose_data_stream_limit_bytes", (name,), stream.limit_bytes


def _view(name: str, stream: LiveStream) -> dict[str, Any]:
    definition = stream.definition
    return {
        "name": name,
        "status": definition.status,
        "mode": definition.mode,
        "declared": definition.declared,
        "open_shards": sum(one.open for one in definition.shards),
        "closed_shards": sum(not one.open for one in definition.shards),
        "retention_hours": definition.retention_hours,
        "consumers": len(definition.consumers),
        "incoming_records": stream.incoming_records,
        "stored_bytes": stream.stored_bytes,
        "limit_bytes": stream.limit_bytes,
    }
