"""boto3, unmodified but for its endpoint, against the whole service and a real S3 server."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
from botocore.exceptions import ClientError
from oracle import access_log, assert_each_once
from programs import wait_for
from stores import Store
from whole_service import StartService, WholeService

pytestmark = pytest.mark.live
NewClient = Callable[..., Any]
ROUNDS, CLIENTS, PUTS_BETWEEN_KILLS = 4, 3, 60


def entries(lines: list[str]) -> list[dict[str, bytes]]:
    return [{"Data": line.encode() + b"\n"} for line in lines]


def test_put_record(service: WholeService, firehose_client: NewClient, s3_server: Store, bucket: str) -> None:
    """A record of any bytes is delivered byte for byte, with nothing added."""
    answer = firehose_client(service).put_record(DeliveryStreamName="app", Record={"Data": b"\x00\xff\n not text"})
    assert answer["RecordId"]
    service.deliver_all("app")
    assert [*s3_server.contents(bucket)] == [b"\x00\xff\n not text"]


def test_put_record_batch(service: WholeService, firehose_client: NewClient, s3_server: Store, bucket: str) -> None:
    """The largest batch, 500 records, is taken whole; each record has an id of its own and is delivered once."""
    lines = access_log(500)
    answer = firehose_client(service).put_record_batch(DeliveryStreamName="app", Records=entries(lines))
    assert answer["FailedPutCount"] == 0
    assert len({response["RecordId"] for response in answer["RequestResponses"]}) == 500
    service.deliver_all("app")
    assert_each_once(lines, s3_server.lines(bucket))


def test_errors(service: WholeService, firehose_client: NewClient) -> None:
    """What AWS refuses is refused as AWS does, so that client.exceptions work; and none of it is taken."""
    client = firehose_client(service)
    with pytest.raises(client.exceptions.ResourceNotFoundException, match="nowhere"):
        client.put_record(DeliveryStreamName="nowhere", Record={"Data": b"x"})
    with pytest.raises(client.exceptions.ResourceNotFoundException):
        client.describe_delivery_stream(DeliveryStreamName="nowhere")
    with pytest.raises(ClientError) as too_large:
        client.put_record(DeliveryStreamName="app", Record={"Data": bytes(1000 * 1024 + 1)})
    assert too_large.value.response["Error"]["Code"] == "ValidationException"
    with pytest.raises(ClientError) as too_many:
        client.put_record_batch(DeliveryStreamName="app", Records=entries(["x"] * 501))
    assert too_many.value.response["ResponseMetadata"]["HTTPStatusCode"] == 400
    assert service.stream("app")["accepted"] == 0


def test_describe_and_list(start_service: StartService, firehose_client: NewClient, s3_server: Store) -> None:
    """Tools that look before they put find every stream of the configuration, page by page."""
    names = [f"stream-{number}" for number in range(5)]
    service = start_service({name: {"destination": s3_server.destination("lake")} for name in names})
    client = firehose_client(service)
    first = client.list_delivery_streams(Limit=3)
    assert first["DeliveryStreamNames"] == names[:3]
    assert first["HasMoreDeliveryStreams"] is True
    rest = client.list_delivery_streams(Limit=3, ExclusiveStartDeliveryStreamName=names[2])
    assert (rest["DeliveryStreamNames"], rest["HasMoreDeliveryStreams"]) == (names[3:], False)
    described = client.describe_delivery_stream(DeliveryStreamName=names[0])["DeliveryStreamDescription"]
    assert described["DeliveryStreamStatus"] == "ACTIVE"
    assert described["DeliveryStreamARN"].endswith(":deliverystream/stream-0")
    bucket = described["Destinations"][0]["ExtendedS3DestinationDescription"]["BucketARN"]
    assert bucket == "arn:aws:s3:::lake"


def test_retries_while_the_buffer_is_full(
    start_service: StartService, firehose_client: NewClient, s3_server: Store
) -> None:
    """A full buffer answers 503, which boto3 tries again by itself; once there is room the put goes through."""
    stream = {"limit_gib": 0.002, "buffering": {"size_mib": 0.5}, "destination": s3_server.destination("lake-to-come")}
    service = start_service({"app": stream})
    impatient, patient = firehose_client(service, attempts=1), firehose_client(service, attempts=40)
    sent = 0

    def put_until_refused() -> None:
        nonlocal sent
        for sent in range(100):
            impatient.put_record(DeliveryStreamName="app", Record={"Data": b"%0100000d\n" % sent})

    with pytest.raises(impatient.exceptions.ServiceUnavailableException):
        put_until_refused()
    assert sent > 5
    refused: list[int] = []

    def make_room(response: Any, **_: Any) -> None:
        """Runs when boto3 has an answer: the first refusal brings the bucket that deliveries wait for."""
        if response is not None and response[0].status_code == 503:
            if not refused:
                s3_server.client.create_bucket(Bucket="lake-to-come")
            refused.append(503)

    patient.meta.events.register("needs-retry.firehose.PutRecord", make_room)
    patient.put_record(DeliveryStreamName="app", Record={"Data": b"%0100000d\n" % sent})
    assert refused
    service.deliver_all("app")
    assert_each_once([f"{number:0100000d}" for number in range(sent + 1)], s3_server.lines("lake-to-come"))


def test_kill_in_the_middle_of_puts(
    start_service: StartService, firehose_client: NewClient, s3_server: Store, bucket: str
) -> None:
    """Kill -9 of both halves under load, again and again: every acknowledged record arrives, and only once."""
    stream = {"buffering": {"size_mib": 0.2, "interval_seconds": 1}, "destination": s3_server.destination(bucket)}
    service = start_service({"app": stream})
    acknowledged: list[str] = []
    attempted: list[str] = []
    over = threading.Event()

    def put(number: int) -> None:
        client = firehose_client(service, attempts=1)
        for turn, line in enumerate(access_log(100_000, seed=number)):
            if over.is_set():
                return
            batch = [f"{line} {turn} {part}" for part in range(20)]
            attempted.extend(batch)
            try:
                client.put_record_batch(DeliveryStreamName="app", Records=entries(batch))
            except Exception:  # killed under it: no promise was made, and these lines are never sent again
                over.wait(0.02)
            else:
                acknowledged.extend(batch)

    threads = [threading.Thread(target=put, args=(number,)) for number in range(CLIENTS)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(ROUNDS):
            goal = len(acknowledged) + 20 * PUTS_BETWEEN_KILLS
            wait_for(lambda goal=goal: len(acknowledged) >= goal, "puts to be acknowledged")  # type: ignore[misc]
            service.kill()
            service.start()
    finally:
        over.set()
        for thread in threads:
            thread.join()
    service.deliver_all("app")
    found = s3_server.lines(bucket)
    unsure = set(attempted) - set(acknowledged)
    assert_each_once(acknowledged, [line for line in found if line not in unsure])
    assert set(found) <= set(attempted)
    assert len(found) == len(set(found)), "what was not acknowledged is stored once or not at all"
