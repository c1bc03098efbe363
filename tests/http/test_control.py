"""DescribeDeliveryStream and ListDeliveryStreams, as botocore tells their answers to its user."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from botocore.parsers import create_parser
from botocore.session import Session
from hypothesis import given
from hypothesis import strategies as st

from destinations.http import HttpOptions
from destinations.opensearch import OpenSearchOptions
from destinations.redshift import RedshiftOptions
from destinations.splunk import SplunkOptions
from firehose.catalogue import BACKUP, Entry, State
from firehose.http.aws_json import AwsJson
from firehose.http.control import Control
from firehose.http.wire import Head
from firehose.ingest.dialects.firehose_api import TARGET
from firehose.stream_config import BufferingOptions, DestinationBlock, SourceBlock, Stream, StreamConfig

ACCOUNT = "123456789012"
SERVICE = Session().get_service_model("firehose")
CREATED_MS = 1_700_000_000_123


class Bucket(DestinationBlock):
    """Stands in for the options of the s3 destination."""

    type: str = "s3"
    bucket: str = "lake"
    prefix: str | None = None
    time_zone: str = "UTC"
    file_extension: str = ""
    compression: str = "none"
    secret_access_key: str = "hidden"


class Folder(DestinationBlock):
    """Stands in for the options of the folder destination."""

    type: str = "folder"
    path: str


def stream(
    *blocks: DestinationBlock,
    errors: DestinationBlock | None = None,
    buffering: BufferingOptions | None = None,
) -> StreamConfig:
    options = Stream(buffering=buffering or BufferingOptions())
    return StreamConfig("logs", options, {str(n): block for n, block in enumerate(blocks)}, errors)


class Clicks(SourceBlock):
    """Stands in for the options of a source that reads a data stream."""

    type: str = "kinesis"
    stream: str = "clicks"


def entry(name: str = "logs", version: int = 1, state: State = "ACTIVE", updated_ms: int | None = None) -> Entry:
    return Entry(name, "yaml", state, CREATED_MS, version, {}, updated_ms)


async def call(control: Control, name: str, **parameters: Any) -> Any:
    """What botocore would return for the call, or its error's members."""
    route = AwsJson(control.operations(), lambda: "request-1").route()
    head = Head("POST", "/", b"", {b"x-amz-target": (TARGET + name).encode()})
    assert route.begin(head) is None
    reply = await route.finish(head, json.dumps(parameters).encode())
    headers = {key.decode(): value.decode() for key, value in reply.headers}
    shape = SERVICE.operation_model(name).output_shape
    assert shape is not None
    response = {"status_code": reply.status, "headers": headers, "body": reply.body}
    parsed = create_parser("json").parse(response, shape)
    assert parsed.pop("ResponseMetadata")["HTTPStatusCode"] == reply.status
    return parsed


def control(streams: Mapping[str, StreamConfig], *entries: Entry) -> Control:
    return Control({e.name: e for e in entries}, streams, region="eu-west-1", account_id=ACCOUNT)


async def describe(config: StreamConfig | None, **fields: Any) -> Any:
    streams = {} if config is None else {"logs": config}
    answer = await call(control(streams, entry(**fields)), "DescribeDeliveryStream", DeliveryStreamName="logs")
    return answer["DeliveryStreamDescription"]


async def extended(config: StreamConfig) -> Any:
    (destination,) = (await describe(config))["Destinations"]
    return destination["ExtendedS3DestinationDescription"]


def names(count: int) -> list[str]:
    return [f"s{number:02d}" for number in range(count)]


async def list_streams(existing: list[str], **parameters: Any) -> tuple[list[str], bool]:
    answer = await call(control({}, *(entry(name) for name in existing)), "ListDeliveryStreams", **parameters)
    return answer["DeliveryStreamNames"], answer["HasMoreDeliveryStreams"]


async def test_a_stream_as_it_was_defined() -> None:
    """A plain stream is described with everything that AWS gives, and no member that AWS would leave out."""
    plain = {
        "RoleARN": f"arn:aws:iam::{ACCOUNT}:role/firehose",
        "BucketARN": "arn:aws:s3:::lake",
        "BufferingHints": {"SizeInMBs": 5, "IntervalInSeconds": 300},
        "CompressionFormat": "UNCOMPRESSED",
        "EncryptionConfiguration": {"NoEncryptionConfig": "NoEncryption"},
        "CloudWatchLoggingOptions": {"Enabled": False},
    }
    described = await describe(stream(Bucket()))
    assert described.pop("CreateTimestamp").astimezone(UTC) == datetime(2023, 11, 14, 22, 13, 20, 123_000, UTC)
    assert described == {
        "DeliveryStreamName": "logs",
        "DeliveryStreamARN": f"arn:aws:firehose:eu-west-1:{ACCOUNT}:deliverystream/logs",
        "DeliveryStreamStatus": "ACTIVE",
        "DeliveryStreamEncryptionConfiguration": {"Status": "DISABLED"},
        "DeliveryStreamType": "DirectPut",
        "VersionId": "1",
        "Destinations": [
            {
                "DestinationId": "destinationId-000000000001",
                "S3DestinationDescription": plain,
                "ExtendedS3DestinationDescription": {**plain, "S3BackupMode": "Disabled"},
            }
        ],
        "HasMoreDestinations": False,
    }


async def test_a_stream_that_changed() -> None:
    """A later version is told with the time of its change, and the catalogue's state as it is."""
    described = await describe(stream(Bucket()), version=12, updated_ms=CREATED_MS + 1, state="DELETING")
    assert (described["VersionId"], described["DeliveryStreamStatus"]) == ("12", "DELETING")
    assert described["LastUpdateTimestamp"] > described["CreateTimestamp"]


async def test_what_was_given_is_echoed() -> None:
    """Prefix, extension and time zone are echoed as given, an empty prefix too."""
    given_keys = Bucket(prefix="a/!{timestamp:yyyy}/", file_extension=".json", time_zone="Europe/Berlin")
    described = await extended(stream(given_keys))
    assert described["Prefix"] == "a/!{timestamp:yyyy}/"
    assert (described["FileExtension"], described["CustomTimeZone"]) == (".json", "Europe/Berlin")
    assert (await extended(stream(Bucket(prefix=""))))["Prefix"] == ""
    assert "Prefix" not in await extended(stream(Bucket(prefix=None)))


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ("none", "UNCOMPRESSED"),
        ("gzip", "GZIP"),
        ("zip", "ZIP"),
        ("snappy", "Snappy"),
        ("hadoop_snappy", "HADOOP_SNAPPY"),
        ("zstd", "ZSTD"),
    ],
)
async def test_compression(ours: str, theirs: str) -> None:
    """A compression is told by AWS's name for it."""
    assert (await extended(stream(Bucket(compression=ours))))["CompressionFormat"] == theirs


async def test_hints_are_whole_numbers() -> None:
    """Thresholds between AWS's whole numbers are rounded up, and zero seconds stay zero."""
    fractional = BufferingOptions(size_mib=0.25, interval_seconds=0.5)
    assert (await extended(stream(Bucket(), buffering=fractional)))["BufferingHints"] == {
        "SizeInMBs": 1,
        "IntervalInSeconds": 1,
    }
    at_once = BufferingOptions(size_mib=1, interval_seconds=0)
    described = await extended(stream(Bucket(), buffering=at_once))
    assert described["BufferingHints"]["IntervalInSeconds"] == 0


@pytest.mark.parametrize(
    ("errors", "prefix"),
    [
        (Bucket(prefix="errors/"), "errors/"),
        (Bucket(bucket="other", prefix="errors/"), None),
        (Folder(path="lake"), None),
        (Bucket(), None),
        (None, None),
    ],
)
async def test_error_output_prefix(errors: DestinationBlock | None, prefix: str | None) -> None:
    """Error output in the same bucket is told by its prefix; elsewhere, AWS has no word for it."""
    assert (await extended(stream(Bucket(), errors=errors))).get("ErrorOutputPrefix") == prefix


@pytest.mark.parametrize(
    ("path", "bucket"),
    [("out", "out"), ("/srv/lake/", "lake"), (".", "folder"), ("/", "folder"), ("my logs", "my-logs")],
)
async def test_folder(path: str, bucket: str) -> None:
    """A folder is described as a bucket of its own name, in AWS's alphabet."""
    assert (await extended(stream(Folder(path=path))))["BucketARN"] == f"arn:aws:s3:::{bucket}"


async def test_redshift() -> None:
    """A Redshift destination has AWS's shape, its staging in it, and no password."""
    block = RedshiftOptions.model_validate(
        {
            "host": "far.example",
            "database": "dev",
            "user": "firehose",
            "password": "hush-hush",
            "table": "events",
            "columns": ["id", "name"],
            "copy_options": "GZIP",
            "staging": {"bucket": "lake", "prefix": "stage/", "compression": "gzip"},
        }
    )
    told = await describe(stream(block))
    (destination,) = told["Destinations"]
    described = destination["RedshiftDestinationDescription"]
    staging = described.pop("S3DestinationDescription")
    assert described == {
        "RoleARN": f"arn:aws:iam::{ACCOUNT}:role/firehose",
        "ClusterJDBCURL": "jdbc:redshift://far.example:5439/dev",
        "CopyCommand": {"DataTableName": "events", "DataTableColumns": "id,name", "CopyOptions": "GZIP"},
        "Username": "firehose",
        "RetryOptions": {"DurationInSeconds": 3600},
        "S3BackupMode": "Disabled",
        "CloudWatchLoggingOptions": {"Enabled": False},
    }
    assert staging["RoleARN"] == described["RoleARN"]
    assert (staging["BucketARN"], staging["Prefix"]) == ("arn:aws:s3:::lake", "stage/")
    assert staging["CompressionFormat"] == "GZIP"
    assert "hush" not in str(told)


async def test_several_destinations() -> None:
    """Each destination has an id of its own, and one that AWS does not have nothing but its id."""
    described = await describe(stream(Bucket(), DestinationBlock(type="carrier_pigeon")))
    first, second = described["Destinations"]
    assert first["DestinationId"] == "destinationId-000000000001"
    assert second == {"DestinationId": "destinationId-000000000002"}


OPENSEARCH = {"endpoint": "https://search.example:9200", "index": "logs"}
HTTP = {"url": "https://hub.example/in?key=s3cr3t", "access_key": "s3cr3t"}
SPLUNK = {"hec_endpoint": "https://splunk.example:8088", "hec_token": "s3cr3t"}
AOSS = {"type": "sigv4", "service": "aoss", "secret_access_key": "s3cr3t", "access_key_id": "AKID"}
COMMON = {
    "BufferingHints": {"SizeInMBs": 5, "IntervalInSeconds": 300},
    "CloudWatchLoggingOptions": {"Enabled": False},
    "RetryOptions": {"DurationInSeconds": 300},
}
ROLE = {"RoleARN": f"arn:aws:iam::{ACCOUNT}:role/firehose"}
FAR_SIDES: dict[str, tuple[DestinationBlock, str, dict[str, Any]]] = {
    "opensearch": (
        OpenSearchOptions.model_validate(OPENSEARCH),
        "AmazonopensearchserviceDestinationDescription",
        {
            "ClusterEndpoint": "https://search.example:9200",
            "IndexName": "logs",
            "IndexRotationPeriod": "OneDay",
            "DocumentIdOptions": {"DefaultDocumentIdFormat": "FIREHOSE_DEFAULT"},
            "S3BackupMode": "FailedDocumentsOnly",
            **ROLE,
        },
    ),
    "opensearch with options": (
        OpenSearchOptions.model_validate(
            {
                **OPENSEARCH,
                "index_rotation": "week",
                "document_id": "none",
                "type_name": "t",
                "retry": {"deadline_seconds": 9.5},
            }
        ),
        "AmazonopensearchserviceDestinationDescription",
        {
            "ClusterEndpoint": "https://search.example:9200",
            "IndexName": "logs",
            "TypeName": "t",
            "IndexRotationPeriod": "OneWeek",
            "DocumentIdOptions": {"DefaultDocumentIdFormat": "NO_DOCUMENT_ID"},
            "S3BackupMode": "FailedDocumentsOnly",
            "RetryOptions": {"DurationInSeconds": 10},
            **ROLE,
        },
    ),
    "serverless": (
        OpenSearchOptions.model_validate({**OPENSEARCH, "auth": AOSS}),
        "AmazonOpenSearchServerlessDestinationDescription",
        {
            "CollectionEndpoint": "https://search.example:9200",
            "IndexName": "logs",
            "S3BackupMode": "FailedDocumentsOnly",
            **ROLE,
        },
    ),
    "http": (
        HttpOptions.model_validate({**HTTP, "content_encoding": "gzip", "attributes": {"a": "b"}}),
        "HttpEndpointDestinationDescription",
        {
            "EndpointConfiguration": {"Url": "https://hub.example/in", "Name": "0"},
            "RequestConfiguration": {
                "ContentEncoding": "GZIP",
                "CommonAttributes": [{"AttributeName": "a", "AttributeValue": "b"}],
            },
            "S3BackupMode": "FailedDataOnly",
            **ROLE,
        },
    ),
    "splunk": (
        SplunkOptions.model_validate(SPLUNK),
        "SplunkDestinationDescription",
        {
            "HECEndpoint": "https://splunk.example:8088",
            "HECEndpointType": "Raw",
            "HECAcknowledgmentTimeoutInSeconds": 180,
            "S3BackupMode": "FailedEventsOnly",
            "BufferingHints": {"SizeInMBs": 5, "IntervalInSeconds": 60},
        },
    ),
}


@pytest.mark.parametrize(("block", "name", "members"), FAR_SIDES.values(), ids=FAR_SIDES)
async def test_far_sides(block: DestinationBlock, name: str, members: dict[str, Any]) -> None:
    """Each is described in AWS's shape, with AWS's defaults, and where its dead letters go; no secret comes back."""
    described = await describe(stream(block, errors=Bucket(prefix="failed/")))
    (destination,) = described["Destinations"]
    assert set(destination) == {"DestinationId", name}
    store = destination[name].pop("S3DestinationDescription")
    assert destination[name] == COMMON | members
    assert (store["BucketARN"], store["ErrorOutputPrefix"], "Prefix" in store) == (
        "arn:aws:s3:::lake",
        "failed/",
        False,
    )
    assert "s3cr3t" not in str(described)


@pytest.mark.parametrize(
    ("block", "mode"),
    [
        (OpenSearchOptions.model_validate(OPENSEARCH), "AllDocuments"),
        (HttpOptions.model_validate(HTTP), "AllData"),
        (SplunkOptions.model_validate(SPLUNK), "AllEvents"),
    ],
)
async def test_backup_of_everything(block: DestinationBlock, mode: str) -> None:
    """A backup of every record is told by AWS's word for it, and where it is."""
    kept = Bucket(bucket="kept", prefix="all/")
    config = StreamConfig("logs", Stream(backup={"type": "s3"}), {"far": block, BACKUP: kept}, Bucket())
    (destination,) = (await describe(config))["Destinations"]
    del destination["DestinationId"]
    (shape,) = destination.values()
    store = shape["S3DestinationDescription"]
    assert (shape["S3BackupMode"], store["BucketARN"], store["Prefix"]) == (mode, "arn:aws:s3:::kept", "all/")


async def test_letters_in_the_data_folder() -> None:
    """Where dead letters go to no store of the user's, none is described."""
    (destination,) = (await describe(stream(SplunkOptions.model_validate(SPLUNK))))["Destinations"]
    assert "S3DestinationDescription" not in destination["SplunkDestinationDescription"]


async def test_a_stream_without_definition() -> None:
    """A stream that no definition describes any more is still there, without destinations."""
    assert (await describe(None))["Destinations"] == []


async def test_no_secrets() -> None:
    """Keys to a destination never come back."""
    one = control({"logs": stream(Bucket(secret_access_key="s3cr3t"))}, entry())
    answer = await one.describe(b'{"DeliveryStreamName":"logs"}')
    assert b"lake" in answer
    assert b"s3cr3t" not in answer


async def test_unknown_stream() -> None:
    """A stream that is not in the catalogue is not found, in AWS's words."""
    answer = await call(control({}), "DescribeDeliveryStream", DeliveryStreamName="logs")
    message = f"Firehose logs under account {ACCOUNT} not found."
    assert answer["Error"] == {"Code": "ResourceNotFoundException", "Message": message}


@pytest.mark.parametrize(
    ("operation", "parameters", "count"),
    [
        ("DescribeDeliveryStream", {}, 1),
        (
            "DescribeDeliveryStream",
            {"DeliveryStreamName": "a b", "Limit": 0, "ExclusiveStartDestinationId": "_"},
            3,
        ),
        ("ListDeliveryStreams", {"Limit": 10_001, "DeliveryStreamType": "directput"}, 2),
        ("ListDeliveryStreams", {"ExclusiveStartDeliveryStreamName": ""}, 2),
    ],
)
async def test_constraints(operation: str, parameters: Mapping[str, Any], count: int) -> None:
    """Members that break the model's constraints are all named in one ValidationException."""
    error = (await call(control({}), operation, **parameters))["Error"]
    assert error["Code"] == "ValidationException"
    assert error["Message"].count("failed to satisfy constraint") == count


async def test_paging_of_destinations_is_ignored() -> None:
    """Whatever cursor is given, the destination comes back: there is no second page."""
    one = control({"logs": stream(Bucket())}, entry())
    parameters = {"DeliveryStreamName": "logs", "ExclusiveStartDestinationId": "destinationId-000000000001"}
    answer = await call(one, "DescribeDeliveryStream", **parameters)
    assert len(answer["DeliveryStreamDescription"]["Destinations"]) == 1


async def test_list() -> None:
    """Names come in order, ten at a time unless a limit is given, and say whether there are more."""
    assert await list_streams([]) == ([], False)
    assert await list_streams(["b", "a", "B"]) == (["B", "a", "b"], False)
    assert await list_streams(names(11)) == (names(10), True)
    assert await list_streams(names(11), Limit=11) == (names(11), False)


async def test_list_after() -> None:
    """The cursor is exclusive and need not exist."""
    assert await list_streams(["a", "c"], ExclusiveStartDeliveryStreamName="a") == (["c"], False)
    assert await list_streams(["a", "c"], ExclusiveStartDeliveryStreamName="b") == (["c"], False)


async def test_list_by_type() -> None:
    """A type lists the streams of that type alone."""
    assert await list_streams(["a"], DeliveryStreamType="DirectPut") == (["a"], False)
    assert await list_streams(["a"], DeliveryStreamType="MSKAsSource") == ([], False)


@given(st.sets(st.from_regex(r"[a-zA-Z0-9_.-]{1,8}", fullmatch=True)), st.integers(1, 5))
async def test_pages_add_up(existing: set[str], limit: int) -> None:
    """A client that pages through sees every stream once."""
    seen: list[str] = []
    more = True
    while more:
        cursor = {"ExclusiveStartDeliveryStreamName": seen[-1]} if seen else {}
        page, more = await list_streams(list(existing), Limit=limit, **cursor)
        assert len(page) == limit or not more
        seen += page
    assert seen == sorted(existing)


async def test_the_catalogue_is_followed() -> None:
    """A stream that joins or leaves after the start is seen at the next call."""
    entries = {"a": entry("a")}
    one = Control(entries, {}, region="eu-west-1", account_id=ACCOUNT)
    entries["b"] = entry("b")
    assert (await call(one, "ListDeliveryStreams"))["DeliveryStreamNames"] == ["a", "b"]
    del entries["a"]
    assert (await call(one, "ListDeliveryStreams"))["DeliveryStreamNames"] == ["b"]


@pytest.mark.parametrize(
    ("given", "arn"),
    [
        ("clicks", f"arn:aws:kinesis:eu-west-1:{ACCOUNT}:stream/clicks"),
        ("arn:aws:kinesis:us-east-1:1:stream/theirs", "arn:aws:kinesis:us-east-1:1:stream/theirs"),
    ],
)
async def test_describe_tells_the_source(given: str, arn: str) -> None:
    """A delivery stream that reads a data stream says which, and since when; encryption is the source's affair."""
    reading = replace(stream(Folder(path="out")), source=Clicks(stream=given))
    answer = await call(control({"logs": reading}, entry()), "DescribeDeliveryStream", DeliveryStreamName="logs")
    description = answer["DeliveryStreamDescription"]
    assert description["DeliveryStreamType"] == "KinesisStreamAsSource"
    assert "DeliveryStreamEncryptionConfiguration" not in description
    source = description["Source"]["KinesisStreamSourceDescription"]
    assert source["KinesisStreamARN"] == arn
    assert source["DeliveryStartTimestamp"] == description["CreateTimestamp"]
