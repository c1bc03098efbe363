"""Event stream frames against AWS's own, and as botocore reads them."""

from __future__ import annotations

import base64
from typing import Any

from botocore.eventstream import EventStreamBuffer
from hypothesis import given
from hypothesis import strategies as st

from firehose.datastream import event_stream

FIRST = (
    "00000068000000564e6817240b3a6576656e742d74797065070010696e697469616c2d726573706f6e73650d3a636f6e7465"
    "6e742d747970650700106170706c69636174696f6e2f6a736f6e0d3a6d6573736167652d747970650700056576656e747b7dd591c62b"
)
NUMBER = "49588630796424512596616347529113745994736297474709782530"
CAPTURED = (
    f'{{"ContinuationSequenceNumber":"{NUMBER}","MillisBehindLatest":0,"Records":[{{"ApproximateArrivalTimestamp":'
    '1.538160219636E9,"Data":"V2VzbGV5","EncryptionType":null,"PartitionKey":"10dcc902-c89c-4067-b436-05f88c0fb5ef",'
    f'"SequenceNumber":"{NUMBER}"}}]}}'
)


def test_the_first_frame_is_the_one_that_clients_know() -> None:
    """Byte for byte."""
    assert event_stream.initial_response().hex() == FIRST


def test_a_frame_that_aws_sent_is_built_again() -> None:
    """Lengths and both checksums are those that were captured."""
    made = event_stream.event("SubscribeToShardEvent", CAPTURED.encode())
    assert (len(made), made[4:8].hex()) == (450, f"{91:08x}")
    assert (made[8:12].hex(), made[-4:].hex()) == ("c1123f0b", "d84c02f3")
    assert base64.b64decode("V2VzbGV5") == b"Wesley"


@given(st.lists(st.binary(max_size=5000), min_size=1, max_size=5), st.integers(1, 700))
def test_frames_are_read_by_the_sdk(payloads: list[bytes], cut: int) -> None:
    """However they are cut into pieces on the way, and ended by an error."""
    sent = b"".join(event_stream.event("SubscribeToShardEvent", payload) for payload in payloads)
    sent += event_stream.exception("ResourceInUseException", 'a "message"')
    buffer = EventStreamBuffer()
    found: list[Any] = []
    for begin in range(0, len(sent), cut):
        buffer.add_data(sent[begin : begin + cut])
        found += list(buffer)
    assert [one.payload for one in found[:-1]] == payloads
    assert {one.headers[":event-type"] for one in found[:-1]} == {"SubscribeToShardEvent"}
    assert found[-1].headers[":message-type"] == "exception"
    assert found[-1].headers[":exception-type"] == "ResourceInUseException"
    assert found[-1].payload == b'{"message":"a \\"message\\""}'
