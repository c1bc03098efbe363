"""DescribeDeliveryStream and ListDeliveryStreams: which streams there are, as the Firehose API tells it.

Source: firehose.md sections 2.3, 2.4 and 3.2. It follows the catalogue and changes nothing. Defaults are
echoed as AWS does, because Terraform and its like compare them with what was configured. It must never give
a secret back.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import PurePath
from typing import Any

import msgspec

from firehose.catalogue import BACKUP, Entry
from firehose.http.aws_json import Operation, choice, integer, read, structure, text
from firehose.ingest.dialects.firehose_api import STREAM_NAME, TARGET, not_found, stream_type
from firehose.stream_config import DestinationBlock, StreamConfig

LIST_DEFAULT = 10
DESCRIBE = structure(
    DeliveryStreamName=STREAM_NAME,
    Limit=integer(1, 10_000),
    ExclusiveStartDestinationId=text(1, 100, "[a-zA-Z0-9-]+"),
)
LIST = structure(
    Limit=integer(1, 10_000),
    DeliveryStreamType=choice("DirectPut", "KinesisStreamAsSource", "MSKAsSource", "DatabaseAsSource"),
    ExclusiveStartDeliveryStreamName=text(1, 64, "[a-zA-Z0-9_.-]+"),
)
COMPRESSION: Mapping[str, str] = {
    "none": "UNCOMPRESSED",
    "gzip": "GZIP",
    "zip": "ZIP",
    "snappy": "Snappy",
    "hadoop_snappy": "HADOOP_SNAPPY",
    "zstd": "ZSTD",  # ours alone: a name that AWS lacks misleads no one, another's would
}


class Control:
    """`entries` say which streams exist, `streams` how each is defined now. Each call looks at both anew."""

    def __init__(
        self,
        entries: Mapping[str, Entry],
        streams: Mapping[str, StreamConfig],
        *,
        region: str,
        account_id: str,
    ) -> None:
        self._entries = entries
        self._streams = streams
        self._region = region
        self._account_id = account_id

    def operations(self) -> dict[str, Operation]:
        return {
            TARGET + "DescribeDeliveryStream": self.describe,
            TARGET + "ListDeliveryStreams": self.list_names,
        }

    async def describe(self, body: bytes) -> bytes:
        name = read(body, DESCRIBE)["DeliveryStreamName"]
        entry = self._entries.get(name)
        if entry is None:
            raise not_found(name, self._account_id)
        return msgspec.json.encode({"DeliveryStreamDescription": self._description(entry)})

    async def list_names(self, body: bytes) -> bytes:
        request = read(body, LIST)
        kind = request.get("DeliveryStreamType")
        after = request.get("ExclusiveStartDeliveryStreamName", "")
        names = sorted(n for n in self._entries if n > after and kind in (None, self._type(n)))
        limit = request.get("Limit", LIST_DEFAULT)
        answer = {"DeliveryStreamNames": names[:limit], "HasMoreDeliveryStreams": len(names) > limit}
        return msgspec.json.encode(answer)

    def _type(self, name: str) -> str:
        stream = self._streams.get(name)
        return stream_type(stream.options.source.type if stream else "direct_put")

    def _arn(self, name: str) -> str:
        return f"arn:aws:firehose:{self._region}:{self._account_id}:deliverystream/{name}"

    def _description(self, entry: Entry) -> dict[str, Any]:
        description = {
            "DeliveryStreamName": entry.name,
            "DeliveryStreamARN": self._arn(entry.name),
            "DeliveryStreamStatus": entry.state,
            "DeliveryStreamType": self._type(entry.name),
            "VersionId": str(entry.version),
            "CreateTimestamp": entry.created_ms / 1000,
            "Destinations": list(self._destinations(entry.name)),
            "HasMoreDestinations": False,
        }
        if description["DeliveryStreamType"] == "DirectPut":  # only these can have it on
            description["DeliveryStreamEncryptionConfiguration"] = {"Status": "DISABLED"}
        if entry.updated_ms is not None:
            description["LastUpdateTimestamp"] = entry.updated_ms / 1000
        return description

    def _destinations(self, name: str) -> Iterator[dict[str, Any]]:
        """All of them, whatever page was asked for. A stream that has no definition any more has none."""
        stream = self._streams.get(name)
        if stream is None:
            return
        blocks = [block for name, block in stream.destinations.items() if name != BACKUP]
        for number, block in enumerate(blocks, 1):
            shapes = DESCRIPTIONS.get(block.type, _no_shapes)(stream, block)
            for shape in shapes.values():
                shape["RoleARN"] = f"arn:aws:iam::{self._account_id}:role/firehose"
            yield {"DestinationId": f"destinationId-{number:012d}", **shapes}


Shapes = dict[str, dict[str, Any]]  # the members of a DestinationDescription beside its id


def _no_shapes(stream: StreamConfig, block: DestinationBlock) -> Shapes:
    """A destination that AWS does not have."""
    return {}


def _s3(stream: StreamConfig, block: DestinationBlock) -> Shapes:
    return _object_store(stream, block, str(getattr(block, "bucket", "")))


def _folder(stream: StreamConfig, block: DestinationBlock) -> Shapes:
    """As S3, since clients expect one of AWS's shapes: the folder's own name stands for the bucket's."""
    name = PurePath(str(getattr(block, "path", ""))).name or "folder"
    return _object_store(stream, block, re.sub(r"[^\w.-]", "-", name))


def _object_store(stream: StreamConfig, block: DestinationBlock, bucket: str) -> Shapes:
    """Both forms, the deprecated one and its heir, as AWS gives them for either."""
    compression = str(getattr(block, "compression", "none"))
    plain = {
        "BucketARN": f"arn:aws:s3:::{bucket}",
        "BufferingHints": {
            "SizeInMBs": math.ceil(stream.size_mib),  # AWS has whole numbers only
            "IntervalInSeconds": math.ceil(stream.interval_seconds),
        },
        "CompressionFormat": COMPRESSION.get(compression, compression.upper()),
        "EncryptionConfiguration": {"NoEncryptionConfig": "NoEncryption"},
        "CloudWatchLoggingOptions": {"Enabled": False},
        **_given(block, Prefix="prefix"),
        **_error_prefix(stream, block),
    }
    own = _given(block, FileExtension="file_extension", CustomTimeZone="time_zone")
    return {
        "S3DestinationDescription": plain,
        "ExtendedS3DestinationDescription": {**plain, **_backup(stream, block), **own},
    }


def _backup(stream: StreamConfig, block: DestinationBlock) -> dict[str, Any]:
    """The backup of source records, which is no destination of its own to AWS."""
    backup = stream.destinations.get(BACKUP)
    if backup is None or backup is block:
        return {"S3BackupMode": "Disabled"}
    shapes = DESCRIPTIONS.get(backup.type, _no_shapes)(stream, backup)
    described = {"S3BackupDescription": shapes["S3DestinationDescription"]} if shapes else {}
    return {"S3BackupMode": "Enabled", **described}


def _given(block: DestinationBlock, **keys: str) -> dict[str, Any]:
    """Only what the definition says: an empty prefix that was given stays distinct from none."""
    said = {theirs: getattr(block, ours) for theirs, ours in keys.items() if ours in block.model_fields_set}
    return {name: value for name, value in said.items() if value is not None}


def _error_prefix(stream: StreamConfig, block: DestinationBlock) -> dict[str, Any]:
    """AWS knows error output in the destination's own bucket only, and has no word for errors elsewhere."""
    errors = stream.errors
    if errors is None or errors.type != block.type:
        return {}
    place = "bucket" if block.type == "s3" else "path"
    same = getattr(errors, place, None) == getattr(block, place, None)
    return _given(errors, ErrorOutputPrefix="prefix") if same else {}


DESCRIPTIONS: Mapping[str, Callable[[StreamConfig, DestinationBlock], Shapes]] = {
    "s3": _s3,
    "folder": _folder,
}
