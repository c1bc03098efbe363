"""The store that fails deliveries is an honest one while it is calm: else it would prove nothing."""

from __future__ import annotations

import gc
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError, ConnectionError
from hostile_s3 import BEFITTING, HostileS3
from programs import PATIENCE_SECONDS, wait_for

NAME = "a/b=1/ü.gz"


@pytest.fixture
def store(tmp_path: Path) -> Iterator[HostileS3]:
    with HostileS3(tmp_path / "objects", seed=1) as one:
        yield one


@pytest.fixture
def client(store: HostileS3) -> Iterator[Any]:
    config = Config(
        s3={"addressing_style": "path"},
        retries={"total_max_attempts": 1, "mode": "standard"},
        read_timeout=PATIENCE_SECONDS,
    )
    one = boto3.Session("a", "b").client("s3", endpoint_url=store.url, region_name="us-east-1", config=config)
    yield one
    one.close()


def begun(client: Any, *parts: bytes) -> dict[str, Any]:
    """An upload of these parts: all that its completion takes."""
    upload = {"Bucket": "lake", "Key": NAME, "UploadId": ""}
    upload["UploadId"] = client.create_multipart_upload(Bucket="lake", Key=NAME)["UploadId"]
    tags = [client.upload_part(**upload, PartNumber=n, Body=part)["ETag"] for n, part in enumerate(parts, 1)]
    numbered = [{"PartNumber": number, "ETag": tag} for number, tag in enumerate(tags, 1)]
    return {**upload, "MultipartUpload": {"Parts": numbered}}


def test_a_name_is_given_once(store: HostileS3, client: Any) -> None:
    """An object is kept under its name; under the condition that it is free, a taken name is refused."""
    client.put_object(Bucket="lake", Key=NAME, Body=b"one", IfNoneMatch="*")
    with pytest.raises(ClientError, match="PreconditionFailed"):
        client.put_object(Bucket="lake", Key=NAME, Body=b"two", IfNoneMatch="*")
    assert list(store.shelf.objects()) == [(NAME, b"one")]
    assert store.shelf.rewritten == []
    client.put_object(Bucket="lake", Key=NAME, Body=b"two")
    assert store.shelf.rewritten == [NAME]


def test_who_comes_as_it_ends_is_hung_up_on(tmp_path: Path) -> None:
    """Connections that were accepted a moment ago are closed with the rest: one left open fails whatever test runs."""
    for _ in range(20):
        with HostileS3(tmp_path / "objects", seed=1) as store:
            clients = [socket.create_connection(("127.0.0.1", store.port)) for _ in range(3)]
        for one in clients:
            one.close()
        del store
        gc.collect()


def test_uploads(store: HostileS3, client: Any) -> None:
    """Parts become an object when they are completed; what is begun is listed until it is completed or aborted."""
    whole, left = begun(client, b"one", b"two"), begun(client)
    client.complete_multipart_upload(**whole, IfNoneMatch="*")
    assert list(store.shelf.objects()) == [(NAME, b"onetwo")]
    listed = client.list_multipart_uploads(Bucket="lake", Prefix=NAME)["Uploads"]
    assert [(one["Key"], one["UploadId"]) for one in listed] == [(NAME, left["UploadId"])]
    client.abort_multipart_upload(Bucket="lake", Key=NAME, UploadId=left["UploadId"])
    assert store.shelf.uploads == {}


def test_an_upload_that_nobody_waits_for(store: HostileS3, client: Any) -> None:
    """An upload that is begun by a client which has hung up by the time that it is read is never there: it might be
    carried out behind the back of whoever has looked for what the client left.
    """
    goes_on = threading.Event()
    store._loop.call_soon_threadsafe(goes_on.wait)
    with socket.create_connection(("127.0.0.1", store.port)) as hasty:
        hasty.sendall(b"POST /lake/one?uploads HTTP/1.1\r\nContent-Length: 0\r\n\r\n")
    goes_on.set()
    wait_for(lambda: store.requests == 1, "the request to be read")
    kept = begun(client)["UploadId"]
    assert store.shelf.uploads.keys() == {kept}


def test_a_lost_part(store: HostileS3, client: Any) -> None:
    """An upload that misses a part is not completed."""
    whole = begun(client, b"one", b"two")
    store.shelf.uploads[whole["UploadId"]][1].pop(2)
    with pytest.raises(ClientError, match="InvalidPart"):
        client.complete_multipart_upload(**whole)
    assert list(store.shelf.objects()) == []


def test_away_and_back(store: HostileS3, client: Any) -> None:
    """While the store is away nobody answers; then it is back at the same address, with what it had."""
    client.put_object(Bucket="lake", Key=NAME, Body=b"one")
    store.away()
    with pytest.raises(ConnectionError):
        client.put_object(Bucket="lake", Key=NAME, Body=b"two")
    store.back()
    assert list(store.shelf.objects()) == [(NAME, b"one")]
    client.put_object(Bucket="lake", Key="other", Body=b"two")


def test_every_fault_comes_to_pass(store: HostileS3, client: Any) -> None:
    """A hostile store inflicts every fault that befits an operation, those met least so far first."""
    store.hostile(1)
    fitting = {name for name, operations in BEFITTING.items() if "abort" in operations and "silence" not in name}
    store.inflicted.update({name: 1 for name in BEFITTING if name not in fitting})
    while set(store.inflicted) != set(BEFITTING):
        with pytest.raises(Exception, match=r"\w"):
            client.abort_multipart_upload(Bucket="lake", Key=NAME, UploadId="one")
    assert store.inflicted.total() <= len(BEFITTING) + 8  # times of 403 count each of their answers
