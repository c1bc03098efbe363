"""A data folder with an ingest half that seals what it is told to, and delivery halves over it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import moody
import pyarrow as pa
import yaml
from virtual_time import VirtualRuntime

from firehose import config
from firehose.buffer import layout
from firehose.buffer.disk import LocalDisk
from firehose.catalogue import Catalogue
from firehose.config import DeliveryOptions, ServiceOptions
from firehose.delivery_half import DeliveryHalf, Message
from firehose.model import INTAKE_SCHEMA
from firehose.streams import Streams

Block = Mapping[str, Any]


class DataFolder:
    """Its one stream, `app`, goes to a moody folder beside it unless the test says otherwise."""

    def __init__(self, root: Path, **streams: Block) -> None:
        self.root = root
        self.data = str(root / "data")
        self.runtime = VirtualRuntime()
        self.disk = LocalDisk()
        self.disk.make_folder(layout.buffer_folder(self.data))
        self.said: list[Message] = []
        self._streams = Streams(self.data, self.disk, self.runtime, ServiceOptions(), Catalogue(self.disk, self.data))
        self._streams.recover()
        self.send: list[Message] = []
        self._streams.send = self.send.append
        self.follow(**(streams or {"app": {"destination": moody.block(root)}}))

    def follow(self, **streams: Block) -> None:
        self._streams.follow(config.parse("test", yaml.safe_dump({"delivery_streams": streams})))

    async def seal(self, *records: str, stream: str = "app", refused: str | None = None) -> Message:
        """A sealed segment; what is said of it."""
        lines = [record.encode() + b"\n" for record in records]
        columns: dict[str, pa.Array] = {"record": pa.array(lines, pa.binary())}
        if refused is not None:
            columns["refused"] = pa.array([refused] * len(lines), pa.string())
        fields = [INTAKE_SCHEMA.field(name) for name in columns]
        await self._streams.intakes[stream].appender.append(pa.record_batch(list(columns.values()), pa.schema(fields)))
        await self._streams.seal(stream)
        return self.send[-1]

    def half(self, **options: Any) -> DeliveryHalf:
        chosen = DeliveryOptions.model_validate({"workers": 2, "segments_per_stream": 2, **options})
        return DeliveryHalf(self.data, "us-east-1", chosen, self.disk, self.runtime, self.said.append)

    @asynccontextmanager
    async def delivering(self, died: bool = False, **options: Any) -> AsyncIterator[DeliveryHalf]:
        half = self.half(**options)
        await half.start(died)
        try:
            yield half
        finally:
            await half.close()
            others = asyncio.all_tasks() - {asyncio.current_task()}
            assert not others, f"left under way: {others}"

    def heard(self, kind: str) -> list[Message]:
        return [message for message in self.said if message["say"] == kind]

    def sealed_files(self) -> list[str]:
        return sorted(path.name for path in (self.root / "data/buffer").rglob("*.sealed"))
