"""How a stream's destinations look in the shapes of the Firehose API: the members of a DestinationDescription.

Source: firehose.md sections 2.3 and 3.2. Defaults are echoed as AWS does, because Terraform and its like compare them
with what was configured. It must never give a secret back, not even Splunk's token, which AWS would.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

from firehose.catalogue import BACKUP
from firehose.stream_config import DestinationBlock, StreamConfig

Shape = dict[str, Any]
Shapes = dict[str, Shape]
COMPRESSION: Mapping[str, str] = {
    "none": "UNCOMPRESSED",
    "gzip": "GZIP",
    "zip": "ZIP",
    "snappy": "Snappy",
    "hadoop_snappy": "HADOOP_SNAPPY",
    "zstd": "ZSTD",  # ours alone: a name that AWS lacks misleads no one, another's would
}
ROTATION: Mapping[str, str] = {
    "none": "NoRotation",
    "hour": "OneHour",
    "day": "OneDay",
    "week": "OneWeek",
    "month": "OneMonth",
}


@dataclass(frozen=True, slots=True)
class Described:
    """What is described: one destination of a stream."""

    stream: StreamConfig
    name: str
    role_arn: str

    @property
    def block(self) -> DestinationBlock:
        return self.stream.destinations[self.name]

    @property
    def backup(self) -> DestinationBlock | None:
        """Where every record goes as it came, which is no destination of its own to AWS."""
        backup = self.stream.destinations.get(BACKUP)
        return backup if self.block is not backup else None

    @property
    def hints(self) -> Shape:
        return {
            "SizeInMBs": math.ceil(self.stream.size_mib),  # AWS has whole numbers only
            "IntervalInSeconds": math.ceil(self.stream.interval_seconds),
        }

    @property
    def place(self) -> str:
        """Of the far side, without what may be secret in it."""
        place = self.block.place()
        assert place is not None, "a far side has a place"
        return place[1]

    def option(self, key: str) -> Any:
        return getattr(self.block, key)


def shapes(stream: StreamConfig, name: str, role_arn: str) -> Shapes:
    """None for a destination that AWS does not have."""
    of = Described(stream, name, role_arn)
    describe = DESCRIPTIONS.get(of.block.type)
    return describe(of) if describe is not None else {}


def _objects(of: Described) -> Shapes:
    """Both forms, the deprecated one and its heir, as AWS gives them for either."""
    plain = _store(of, of.block)
    own = _given(of.block, FileExtension="file_extension", CustomTimeZone="time_zone")
    whole = {**plain, **_source_backup(of), **own}
    return {"S3DestinationDescription": plain, "ExtendedS3DestinationDescription": whole}


def _redshift(of: Described) -> Shapes:
    columns = {"DataTableColumns": ",".join(of.option("columns"))} if of.option("columns") else {}
    seconds = of.stream.retry(of.name).deadline_seconds
    shape = {
        "RoleARN": of.role_arn,
        "ClusterJDBCURL": of.option("jdbc_url"),
        "CopyCommand": {**_given(of.block, DataTableName="table", CopyOptions="copy_options"), **columns},
        **_given(of.block, Username="user"),
        **({"RetryOptions": {"DurationInSeconds": math.ceil(seconds)}} if seconds is not None else {}),
        "S3DestinationDescription": _store(of, of.option("staging")),
        "CloudWatchLoggingOptions": {"Enabled": False},
        **_source_backup(of),
    }
    return {"RedshiftDestinationDescription": shape}


def _source_backup(of: Described) -> Shape:
    if of.backup is None:
        return {"S3BackupMode": "Disabled"}
    described = {"S3BackupDescription": _store(of, of.backup)} if of.backup.type in BUCKETS else {}
    return {"S3BackupMode": "Enabled", **described}


def _opensearch(of: Described) -> Shapes:
    shape = {
        "RoleARN": of.role_arn,
        "IndexName": of.option("index"),
        **_with_backup(of, "FailedDocumentsOnly", "AllDocuments"),
    }
    if of.option("serverless"):
        return {"AmazonOpenSearchServerlessDestinationDescription": {**shape, "CollectionEndpoint": of.place}}
    id_format = {"record": "FIREHOSE_DEFAULT", "none": "NO_DOCUMENT_ID"}[of.option("document_id")]
    shape |= {
        "ClusterEndpoint": of.place,
        "IndexRotationPeriod": ROTATION[of.option("rotation")],
        "DocumentIdOptions": {"DefaultDocumentIdFormat": id_format},
        **_given(of.block, TypeName="type_name"),
    }
    return {"AmazonopensearchserviceDestinationDescription": shape}


def _http(of: Described) -> Shapes:
    attributes = [{"AttributeName": n, "AttributeValue": value} for n, value in of.option("attributes").items()]
    request = {
        "ContentEncoding": of.option("content_encoding").upper(),
        **({"CommonAttributes": attributes} if attributes else {}),
    }
    shape = {
        "EndpointConfiguration": {"Url": of.place, "Name": of.name},
        "RequestConfiguration": request,
        "RoleARN": of.role_arn,
        **_with_backup(of, "FailedDataOnly", "AllData"),
    }
    return {"HttpEndpointDestinationDescription": shape}


def _splunk(of: Described) -> Shapes:
    shape = {
        "HECEndpoint": of.place,
        "HECEndpointType": of.option("hec_endpoint_type").capitalize(),
        "HECAcknowledgmentTimeoutInSeconds": math.ceil(of.option("ack_timeout_seconds")),
        **_with_backup(of, "FailedEventsOnly", "AllEvents"),
    }
    return {"SplunkDestinationDescription": shape}


def _with_backup(of: Described, failed: str, everything: str) -> Shape:
    """What all destinations have that are no stores of objects: AWS wants one beside them, for what failed at least."""
    seconds = of.stream.retry(of.name).deadline_seconds
    shape: Shape = {
        "BufferingHints": of.hints,
        "CloudWatchLoggingOptions": {"Enabled": False},
        "S3BackupMode": everything if of.backup is not None else failed,
    }
    if seconds is not None:
        shape["RetryOptions"] = {"DurationInSeconds": math.ceil(seconds)}
    store = of.backup or of.stream.own_errors.get(of.name) or of.stream.errors
    if store is not None and store.type in BUCKETS:
        shape["S3DestinationDescription"] = _store(of, store)
    return shape


def _store(of: Described, block: DestinationBlock) -> Shape:
    compression = str(getattr(block, "compression", "none"))
    prefix = _given(block, Prefix="prefix") if not of.stream.is_errors(block) else {}
    return {
        "RoleARN": of.role_arn,
        "BucketARN": f"arn:aws:s3:::{BUCKETS[block.type](block)}",
        "BufferingHints": of.hints,
        "CompressionFormat": COMPRESSION.get(compression, compression.upper()),
        "EncryptionConfiguration": {"NoEncryptionConfig": "NoEncryption"},
        "CloudWatchLoggingOptions": {"Enabled": False},
        **prefix,
        **_error_prefix(of.stream, block),
    }


def _bucket(block: DestinationBlock) -> str:
    return str(getattr(block, "bucket", ""))


def _folder(block: DestinationBlock) -> str:
    """As S3, since clients expect one of AWS's shapes: the folder's own name stands for the bucket's."""
    name = PurePath(str(getattr(block, "path", ""))).name or "folder"
    return re.sub(r"[^\w.-]", "-", name)


def _given(block: DestinationBlock, **keys: str) -> Shape:
    """Only what the definition says: an empty prefix that was given stays distinct from none."""
    said = {theirs: getattr(block, ours) for theirs, ours in keys.items() if ours in block.model_fields_set}
    return {name: value for name, value in said.items() if value is not None}


def _error_prefix(stream: StreamConfig, block: DestinationBlock) -> Shape:
    """AWS knows error output in the destination's own bucket only, and has no word for errors elsewhere."""
    own = (own for name, own in stream.own_errors.items() if stream.destinations[name] is block)
    errors = next(own, stream.errors)
    if errors is None or errors.type != block.type:
        return {}
    place = "bucket" if block.type == "s3" else "path"
    same = getattr(errors, place, None) == getattr(block, place, None)
    return _given(errors, ErrorOutputPrefix="prefix") if same else {}


BUCKETS: Mapping[str, Callable[[DestinationBlock], str]] = {"s3": _bucket, "folder": _folder}
DESCRIPTIONS: Mapping[str, Callable[[Described], Shapes]] = {
    "s3": _objects,
    "folder": _objects,
    "opensearch": _opensearch,
    "http": _http,
    "splunk": _splunk,
    "redshift": _redshift,
}
