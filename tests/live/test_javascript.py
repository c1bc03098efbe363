"""The AWS SDK for JavaScript v3, unmodified but for its endpoint, against the whole service and a real S3 server."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from oracle import access_log, assert_each_once
from programs import Command
from stores import Store
from whole_service import WholeService

pytestmark = pytest.mark.live
SCRIPT = Path(__file__).with_name("puts.cjs")


def test_javascript(service: WholeService, node: Command, tmp_path: Path, s3_server: Store, bucket: str) -> None:
    """PutRecord, PutRecordBatch, DescribeDeliveryStream and a typed error, as the SDK understands them."""
    lines = access_log(1201)
    file = tmp_path / "lines"
    file.write_text("\n".join(lines))
    done = node(SCRIPT, service.url, "app", file)
    assert done.returncode == 0, done.stderr
    said = {"failed": 0, "ids": 1201, "status": "ACTIVE", "created": True, "refusal": "ResourceNotFoundException"}
    assert json.loads(done.stdout) == said
    service.deliver_all("app")
    assert_each_once(lines, s3_server.lines(bucket))
