"""PutRecord and PutRecordBatch of the Firehose API: the hot path of the AWS dialect.

Source: firehose.md sections 2.6, 2.7 and 14, ingest-clients.md 1 and 4.3, DESIGN 4. A fast way takes the
requests that are in order; it only ever says "in order" or "look closer", and whoever looks closer has
AWS's exact words. Records are stored byte for byte. A request must never be stored in part, nor answered
before it is durable.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from hashlib import blake2b

import msgspec
from pybase64 import b64decode

from firehose.contracts import Unavailable
from firehose.http.aws_json import (
    ApiError,
    Operation,
    Shape,
    blob,
    list_of,
    read,
    required,
    slow_down,
    structure,
    text,
)
from firehose.ingest.gathering import batch_of
from firehose.ingest.intake import Intake, Intakes
from firehose.model import Position

TARGET = "Firehose_20150804."
RECORD_LIMIT_BYTES = 1_024_000
BATCH_LIMIT_RECORDS = 500
BATCH_LIMIT_BYTES = 4 * 1024 * 1024
BATCH_REPLY = '{"FailedPutCount":0,"Encrypted":false,"RequestResponses":'

STREAM_TYPES: Mapping[str, str] = {
    "direct_put": "DirectPut",
    "data_stream": "KinesisStreamAsSource",
    "kinesis": "KinesisStreamAsSource",
    "kafka": "MSKAsSource",
}
STREAM_NAME = required(text(1, 64, "[a-zA-Z0-9_.-]+"))
RECORD = structure(Data=required(blob(0, RECORD_LIMIT_BYTES)))
PUT_RECORD = structure(DeliveryStreamName=STREAM_NAME, Record=required(RECORD))
PUT_RECORD_BATCH = structure(DeliveryStreamName=STREAM_NAME, Records=required(list_of(RECORD, 1, BATCH_LIMIT_RECORDS)))


class Record(msgspec.Struct, rename="pascal", gc=False):
    data: str


class PutRecord(msgspec.Struct, rename="pascal"):
    delivery_stream_name: str
    record: Record

    def each(self) -> Sequence[Record]:
        return (self.record,)


class PutRecordBatch(msgspec.Struct, rename="pascal"):
    delivery_stream_name: str
    records: list[Record]

    def each(self) -> Sequence[Record]:
        return self.records


Put = PutRecord | PutRecordBatch


class FirehosePuts:
    """The two operations, over whatever streams there are at the moment."""

    def __init__(self, intakes: Intakes, account_id: str) -> None:
        self._intakes = intakes
        self._account_id = account_id
        self._record: msgspec.json.Decoder[Put] = msgspec.json.Decoder(PutRecord)
        self._batch: msgspec.json.Decoder[Put] = msgspec.json.Decoder(PutRecordBatch)

    def operations(self) -> dict[str, Operation]:
        return {TARGET + "PutRecord": self.put_record, TARGET + "PutRecordBatch": self.put_record_batch}

    async def put_record(self, body: bytes) -> bytes:
        position = await self._store(*self._request(body, self._record, PUT_RECORD))
        return f'{{"RecordId":"{_record_ids(position)}","Encrypted":false}}'.encode()

    async def put_record_batch(self, body: bytes) -> bytes:
        position = await self._store(*self._request(body, self._batch, PUT_RECORD_BATCH))
        entries = _record_ids(position, between='"},{"RecordId":"')
        # Compact: agents look for the literal text "FailedPutCount":0 and take anything else for a failure.
        return f'{BATCH_REPLY}[{{"RecordId":"{entries}"}}]}}'.encode()

    def _request(self, body: bytes, decoder: msgspec.json.Decoder[Put], shape: Shape) -> tuple[str, list[bytes]]:
        """The stream's name and the records, of a request that breaks no constraint. Raises `ApiError`."""
        try:
            put = decoder.decode(body)
            data = _decode_each(put.each())
        except (ValueError, RecursionError):
            return _look_closer(body, shape)
        in_order = put.delivery_stream_name in self._intakes and 1 <= len(data) <= BATCH_LIMIT_RECORDS
        if in_order and max(map(len, data)) <= RECORD_LIMIT_BYTES:
            return put.delivery_stream_name, data
        return _look_closer(body, shape)

    async def _store(self, stream: str, data: list[bytes]) -> Position:
        intake = self._intake(stream)
        if sum(map(len, data)) > BATCH_LIMIT_BYTES:
            raise ApiError("InvalidArgumentException", "Records size exceeds 4 MB limit")
        try:
            if len(data) == 1:
                position = await intake.singles.append(data[0])
            else:
                position = await intake.appender.append(batch_of(data))
        except Unavailable as unavailable:
            raise slow_down(unavailable.after_seconds) from unavailable
        assert position.count == len(data), "a request is stored whole"
        return position

    def _intake(self, stream: str) -> Intake:
        intake = self._intakes.get(stream)
        if intake is None:
            raise not_found(stream, self._account_id)
        if intake.source != "direct_put":
            message = f"This operation is not permitted on {stream_type(intake.source)} delivery stream type."
            raise ApiError("InvalidArgumentException", message)
        return intake


def stream_type(source: str) -> str:
    """The API's word for a source; a third party's has none but its own."""
    return STREAM_TYPES.get(source, source)


def not_found(stream: str, account_id: str) -> ApiError:
    return ApiError("ResourceNotFoundException", f"Firehose {stream} under account {account_id} not found.")


def _decode_each(records: Sequence[Record]) -> list[bytes]:
    return [b64decode(record.data, None, True) for record in records]


def _look_closer(body: bytes, shape: Shape) -> tuple[str, list[bytes]]:
    """Each member examined: slow, and the judge of every request that the fast way does not take."""
    request = read(body, shape)
    records = request["Records"] if "Records" in shape.members else [request["Record"]]
    return request["DeliveryStreamName"], [record["Data"] for record in records]


def _record_ids(position: Position, between: str = "") -> str:
    """A hash of the lane, and the sequence number: unique for all time, as lanes are.

    Not the lane itself: every checksum of its frames starts from its name, and a sender who knew it could send records
    that look like frames of that lane, should the ones around them ever be damaged. The leading one of 10^18 gives
    every number the same width without formatting each.
    """
    lane = blake2b(position.lane.encode(), digest_size=16).hexdigest()
    first = 10**18 + position.first
    return lane + f"{between}{lane}".join(map(str, range(first, first + position.count)))
