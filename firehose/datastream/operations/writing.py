"""PutRecord and PutRecords: records into shards.

Source: data-streams.md section 2.3. The records of one request are cut by shard, each shard's appended together and in
their order, the shards side by side. A number is told only of what is durable; a record that was not stored says so
by itself, and those beside it stay stored. Where a shard is split meanwhile, its records go to its children.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import chain

import msgspec
import pyarrow as pa

from firehose.contracts import Unavailable
from firehose.datastream import sequence
from firehose.datastream.arns import Account
from firehose.datastream.contracts import DataStream, DataStreams, Moved
from firehose.datastream.gathering import SINGLE_BYTES, Gathering, batch_of
from firehose.datastream.limits import WriteLimits
from firehose.datastream.model import Placed, Shard
from firehose.datastream.operations.puts import Put, PutRequests, check
from firehose.datastream.refusals import check_dry_run, invalid
from firehose.datastream.routing import Groups, Router, Rows
from firehose.http.aws_json import ApiError, slow_down
from firehose.http.codec import Codec, CodedOperation, JsonCodec
from firehose.runtime import Runtime


@dataclass(slots=True)
class Answers:
    """What became of each record of a request; grows while its shards answer."""

    numbers: list[str]  # sequence numbers; empty while there is none
    shards: list[str]
    failures: dict[int, tuple[str, str]] = field(default_factory=dict)  # code and message
    unavailable: dict[int, float] = field(default_factory=dict)  # seconds after which it is worth another try

    def placed(self, rows: Rows, shard: Shard, placed: Placed) -> None:
        name = shard.id
        numbers = sequence.numbers(shard.base, placed.first, len(rows), placed.arrival_ms // 1000)
        for row, number in zip(rows, numbers, strict=True):
            self.numbers[row] = number
            self.shards[row] = name

    def unstored(self, rows: Rows, after_seconds: float) -> None:
        for row in rows:
            self.failures[row] = "InternalFailure", "Internal Service Failure"
            self.unavailable[row] = after_seconds

    def each(self) -> list[dict[str, str]]:
        said = [
            {"SequenceNumber": number, "ShardId": shard}
            for number, shard in zip(self.numbers, self.shards, strict=True)
        ]
        for row, (code, message) in self.failures.items():
            said[row] = {"ErrorCode": code, "ErrorMessage": message}
        return said

    def each_as_json(self) -> str:
        said = [
            f'{{"SequenceNumber":"{number}","ShardId":"{shard}"}}'
            for number, shard in zip(self.numbers, self.shards, strict=True)
        ]
        for row, (code, message) in self.failures.items():
            said[row] = msgspec.json.encode({"ErrorCode": code, "ErrorMessage": message}).decode()
        return ",".join(said)


class Writing:
    """The two operations, over whatever streams there are at the moment."""

    def __init__(self, streams: DataStreams, runtime: Runtime, region: str, account_id: str) -> None:
        self._streams = streams
        self._account = Account(region, account_id)
        self._requests = PutRequests(streams, self._account)
        self._gathering = Gathering()
        self._router = Router()
        self._limits = WriteLimits(runtime.monotonic)

    def operations(self) -> dict[str, CodedOperation]:
        return {"PutRecord": self.put_record, "PutRecords": self.put_records}

    async def put_record(self, body: bytes, codec: Codec) -> bytes:
        put = self._requests.put_record(body, codec)
        stream = self._stream(put)
        answers = await self._stored(stream, put)
        if answers.failures:
            raise ApiError(*answers.failures[0])
        said = {"ShardId": answers.shards[0], "SequenceNumber": answers.numbers[0]}
        return codec.write(said | _encryption(stream))

    async def put_records(self, body: bytes, codec: Codec) -> bytes:
        put = self._requests.put_records(body, codec)
        stream = self._stream(put)
        answers = await self._stored(stream, put)
        failed, encryption = len(answers.failures), _encryption(stream)
        if not isinstance(codec, JsonCodec):
            return codec.write({"FailedRecordCount": failed, "Records": answers.each()} | encryption)
        kind = f',"EncryptionType":"{encryption["EncryptionType"]}"' if encryption else ""
        return f'{{"FailedRecordCount":{failed},"Records":[{answers.each_as_json()}]{kind}}}'.encode()

    def _stream(self, put: Put) -> DataStream:
        """Where the records go, if nothing speaks against them."""
        stream = self._streams.named.get(put.stream)
        if stream is None or stream.definition.status not in ("ACTIVE", "UPDATING"):
            raise self._account.no_stream(put.stream)
        check(put, stream.definition)
        if put.ordering is not None:
            self._check_ordering(put, put.ordering, stream)
        check_dry_run(put.dry_run)
        return stream

    def _check_ordering(self, put: Put, text: str, stream: DataStream) -> None:
        """A number that its own shard has not given out yet cannot be exceeded for certain."""
        number = sequence.parse(text)
        if number is not None:
            try:
                unknown = number.counter >= stream.log(number.shard).tip
            except KeyError:
                unknown = number.shard >= stream.definition.next_shard  # it may have expired
            if not unknown:
                return
        raise invalid(
            f"ExclusiveMinimumSequenceNumber {text} used in PutRecord on stream {put.stream} "
            f"under account {self._account.account_id} is invalid."
        )

    async def _stored(self, stream: DataStream, put: Put) -> Answers:
        """Stores what can be stored. Raises `ApiError` where that is nothing, for want of room or a disk."""
        count = len(put.data)
        answers, waiting = Answers([""] * count, [""] * count), list(range(count))
        while waiting:
            definition = stream.definition
            groups = self._router.routes(definition).groups(waiting, put.hashed, put.hash_keys)
            if definition.limits == "aws":
                groups = self._admitted(stream, groups, put, answers)
            waiting = await self._appended(stream, groups, put, answers)
            if waiting:
                await stream.changed(definition)
        if len(answers.unavailable) == count:
            raise slow_down(max(answers.unavailable.values()))
        return answers

    async def _appended(self, stream: DataStream, groups: Groups, put: Put, answers: Answers) -> Rows:
        """The rows that belong to another shard by now; of all others the answers tell."""
        if not groups:  # nothing is admitted
            return []
        gathering = self._gathering
        if put.single and len(put.data[0]) <= SINGLE_BYTES:
            appends = [gathering.append_single(stream, shard.number, put.data[0], put.keys[0]) for shard, _ in groups]
        else:
            appends = gathering.append(stream, _cut(put, groups), put.came_in_bytes)
        await asyncio.wait(appends)
        moved: Rows = []
        failures = [one.exception() for one in appends]
        for (shard, rows), append, failure in zip(groups, appends, failures, strict=True):
            if failure is None:
                answers.placed(rows, shard, append.result())
            elif isinstance(failure, Unavailable):
                answers.unstored(rows, failure.after_seconds)
            elif isinstance(failure, Moved):
                moved += rows
            elif isinstance(failure, KeyError):
                raise self._account.no_stream(put.stream)
            else:
                raise failure
        return sorted(moved)

    def _admitted(self, stream: DataStream, groups: Groups, put: Put, answers: Answers) -> Groups:
        """The rows within their shards' limits."""
        return [
            (shard, admitted)
            for shard, rows in groups
            if (admitted := self._within_limits(stream, shard, rows, put, answers))
        ]

    def _within_limits(self, stream: DataStream, shard: Shard, rows: Rows, put: Put, answers: Answers) -> Rows:
        sizes = [len(put.data[row]) + len(put.hashed[row]) for row in rows]
        fits = self._limits.admitted((stream.definition.id, shard.number), sizes)
        refusal = self._account.too_fast(put.stream, shard.id)
        for row, admitted in zip(rows, fits, strict=True):
            if not admitted:
                answers.failures[row] = refusal.code, refusal.message
        return [row for row, admitted in zip(rows, fits, strict=True) if admitted]


def _cut(put: Put, groups: Groups) -> Iterator[tuple[int, pa.RecordBatch]]:
    """Each shard's number and records: slices of one batch, made while what was decoded lies in the core's cache."""
    order = list(chain.from_iterable(rows for _, rows in groups))
    records = batch_of([put.data[row] for row in order], [put.keys[row] for row in order])
    start = 0
    for shard, rows in groups:
        yield shard.number, records.slice(start, len(rows))
        start += len(rows)


def _encryption(stream: DataStream) -> dict[str, str]:
    """Left out of answers of streams that are not encrypted."""
    return {"EncryptionType": "KMS"} if stream.definition.key_id is not None else {}
