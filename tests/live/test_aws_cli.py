"""The AWS CLI, unmodified but for --endpoint-url, against the whole service and a real S3 server."""

from __future__ import annotations

import json

import pytest
from oracle import access_log, assert_each_once
from programs import Command
from stores import Store
from whole_service import WholeService

pytestmark = pytest.mark.live
FAILED = 255  # what the CLI ends with where a call failed


def test_put_record_batch(service: WholeService, aws_cli: Command, s3_server: Store, bucket: str) -> None:
    """A batch given on the command line is taken, answered in JSON, and delivered record by record."""
    lines = access_log(100)
    records = json.dumps([{"Data": f"{line}\n"} for line in lines])
    url = ("--endpoint-url", service.url)
    done = aws_cli("firehose", "put-record-batch", *url, "--delivery-stream-name", "app", "--records", records)
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert (answer["FailedPutCount"], len(answer["RequestResponses"])) == (0, 100)
    service.deliver_all("app")
    assert_each_once(lines, s3_server.lines(bucket))


def test_put_record(service: WholeService, aws_cli: Command, s3_server: Store, bucket: str) -> None:
    """One record is taken and its id printed."""
    url = ("--endpoint-url", service.url)
    stream = ("--delivery-stream-name", "app")
    done = aws_cli("firehose", "put-record", *url, *stream, "--record", '{"Data":"hello, ☂\\n"}')
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["RecordId"]
    service.deliver_all("app")
    assert s3_server.lines(bucket) == ["hello, ☂"]


def test_describe_and_list(service: WholeService, aws_cli: Command) -> None:
    """The CLI shows which streams there are, and where they deliver."""
    url = ("--endpoint-url", service.url)
    listed = json.loads(aws_cli("firehose", "list-delivery-streams", *url).stdout)
    assert listed == {"DeliveryStreamNames": ["app"], "HasMoreDeliveryStreams": False}
    done = aws_cli("firehose", "describe-delivery-stream", *url, "--delivery-stream-name", "app")
    described = json.loads(done.stdout)["DeliveryStreamDescription"]
    assert (described["DeliveryStreamName"], described["DeliveryStreamStatus"]) == ("app", "ACTIVE")
    assert described["Destinations"][0]["S3DestinationDescription"]["CompressionFormat"] == "GZIP"


def test_errors(service: WholeService, aws_cli: Command) -> None:
    """A failed call ends with the CLI's own exit code and says AWS's error, so that scripts notice."""
    stream = ("--delivery-stream-name", "nowhere")
    done = aws_cli("firehose", "describe-delivery-stream", "--endpoint-url", service.url, *stream)
    assert done.returncode == FAILED
    assert "(ResourceNotFoundException)" in done.stderr
    assert "nowhere" in done.stderr
