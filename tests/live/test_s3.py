"""Delivery to a real S3 server that is away, knows no such bucket, refuses the keys, or is asked for more than small
gzipped objects. Nothing may be lost, and nothing may be there twice.
"""

from __future__ import annotations

import base64
import random
from collections.abc import Callable
from typing import Any

import pytest
from oracle import access_log, assert_each_once
from programs import wait_for
from stores import READERS, Store
from whole_service import StartService, WholeService

pytestmark = pytest.mark.live
MIB = 1024 * 1024


def post(service: WholeService, lines: list[str], stream: str = "app") -> None:
    answer = service.post(f"/ingest/{stream}", "".join(f"{line}\n" for line in lines).encode())
    assert (answer.status_code, answer.json()["accepted"]) == (200, len(lines)), answer.text


def small_objects(destination: dict[str, Any]) -> dict[str, Any]:
    """A stream that seals a segment about every 300 lines."""
    return {"app": {"buffering": {"size_mib": 0.05, "interval_seconds": 1}, "destination": destination}}


def test_server_killed_while_delivering(start_service: StartService, new_store: Callable[[], Store]) -> None:
    """The S3 server is killed under load and comes back: what was under way is sent again, to the same names."""
    store = new_store()
    bucket = store.new_bucket()
    service = start_service(small_objects(store.destination(bucket)))
    lines = access_log(30_000)
    for start in range(0, 12_000, 1000):
        post(service, lines[start : start + 1000])
    wait_for(lambda: len(store.names(bucket)) >= 5, "deliveries to be under way")
    store.program.kill()
    for start in range(12_000, 30_000, 1000):
        post(service, lines[start : start + 1000])
    wait_for(lambda: store.url in service.last_error("app"), "the failure to be told")
    store.start()
    service.deliver_all("app")
    assert_each_once(lines, store.lines(bucket))


def test_delivery_half_killed_while_delivering(start_service: StartService, s3_server: Store, bucket: str) -> None:
    """Kill -9 of the delivery half alone: intake does not notice, and no object is doubled."""
    service = start_service(small_objects(s3_server.destination(bucket)))
    lines = access_log(20_000)
    for start in range(0, 20_000, 1000):
        post(service, lines[start : start + 1000])
        if start in (5000, 12_000):
            service.kill_delivery()
    service.deliver_all("app")
    assert_each_once(lines, s3_server.lines(bucket))


def test_bucket_created_later(start_service: StartService, s3_server: Store) -> None:
    """A bucket that is not there yet stops nothing: records wait for it, and the error says how to create it."""
    service = start_service(small_objects(s3_server.destination("made-later")))
    lines = access_log(2000)
    post(service, lines)
    wait_for(lambda: "NoSuchBucket" in service.last_error("app"), "the failure to be told")
    assert f"aws s3 mb s3://made-later --endpoint-url {s3_server.url}" in service.last_error("app")
    s3_server.client.create_bucket(Bucket="made-later")
    service.deliver_all("app")
    assert_each_once(lines, s3_server.lines("made-later"))


def test_keys_corrected_by_a_reload(start_service: StartService, s3_server: Store, bucket: str) -> None:
    """Wrong keys are told without being shown; SIGHUP with the right ones delivers all that has waited."""
    wrong = s3_server.destination(bucket, secret_access_key="hush-hush-wrong")
    service = start_service(small_objects(wrong))
    lines = access_log(2000)
    post(service, lines)
    wait_for(lambda: "SignatureDoesNotMatch" in service.last_error("app"), "the failure to be told")
    assert "hush-hush" not in service.last_error("app") + service.program.tail()
    service.reload(small_objects(s3_server.destination(bucket)))
    service.deliver_all("app")
    assert_each_once(lines, s3_server.lines(bucket))


def test_multipart(start_service: StartService, s3_server: Store, bucket: str) -> None:
    """An object past the threshold goes in parts, reads back whole, and leaves no upload behind."""
    parts = {"multipart_threshold_mib": 5, "part_size_mib": 5, "compression": "none"}
    stream = {"buffering": {"size_mib": 64}, "destination": s3_server.destination(bucket, **parts)}
    service = start_service({"app": stream})
    dice = random.Random(5)
    lines = [base64.b64encode(dice.randbytes(48 * 1024)).decode() for _ in range(192)]
    for start in range(0, len(lines), 48):
        post(service, lines[start : start + 48])
    service.deliver_all("app")
    (name,) = s3_server.names(bucket)
    stored = s3_server.client.head_object(Bucket=bucket, Key=name)
    assert stored["ContentLength"] > 2 * 5 * MIB
    assert stored["ETag"].strip('"').endswith("-3")
    assert_each_once(lines, s3_server.lines(bucket, "none"))
    assert not s3_server.client.list_multipart_uploads(Bucket=bucket).get("Uploads")


def test_every_compression(start_service: StartService, s3_server: Store) -> None:
    """Whatever the compression, the objects in the bucket read back line by line."""
    buckets = {compression: s3_server.new_bucket() for compression in READERS}
    streams = {
        compression: {"destination": s3_server.destination(bucket, compression=compression)}
        for compression, bucket in buckets.items()
    }
    service = start_service(streams)
    lines = access_log(3000)
    for compression, bucket in buckets.items():
        post(service, lines, compression)
        service.deliver_all(compression)
        assert_each_once(lines, s3_server.lines(bucket, compression))


def test_drains_when_told_to_stop(start_service: StartService, s3_server: Store, bucket: str) -> None:
    """SIGTERM delivers what is buffered, however long its interval, and ends with 0."""
    service = start_service({"app": {"destination": s3_server.destination(bucket)}})
    lines = access_log(1000)
    post(service, lines)
    assert service.stop() == 0
    assert_each_once(lines, s3_server.lines(bucket))
