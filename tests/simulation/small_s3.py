"""The S3 destination with parts so small that a simulated segment has several, told to the witness as it is used."""

from __future__ import annotations

from typing import Annotated, ClassVar
from zlib import crc32

from pydantic import Field
from simulation.world import running

from destinations.s3 import S3, S3Options
from firehose.contracts import Memo
from firehose.model import Batch, Receipt
from firehose.stream_config import DestinationBlock

SmallMib = Annotated[float, Field(gt=0)]


class SmallS3Options(S3Options):
    """S3 itself takes no part below 5 MiB; the store of the simulation does."""

    multipart_threshold_mib: SmallMib = 16
    part_size_mib: SmallMib = 16


class SmallS3(S3):
    Options: ClassVar[type[DestinationBlock]] = SmallS3Options

    async def deliver(self, batch: Batch, memo: Memo) -> Receipt:
        checksum = 0
        for rows in batch.slices():
            checksum = crc32(b"\0".join(rows.column("record").to_pylist()), checksum)
        running().process.world.offered(str(batch.segment), f"{batch.segment!r} {checksum:08x}", self._options.bucket)
        return await super().deliver(batch, memo)
