"""What PutRecord and PutRecords ask for: the requests, read, and found to break no rule.

Source: data-streams.md sections 1.4 and 2.3. A fast way takes requests that are in order; it only ever says "in
order" or "look closer", and whoever looks closer has AWS's exact words. A rule that one record breaks refuses all.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Generic, Protocol, TypeVar

import msgspec
from pybase64 import b64decode

from firehose.datastream import shapes
from firehose.datastream.arns import Account
from firehose.datastream.contracts import DataStreams
from firehose.datastream.model import Definition
from firehose.datastream.refusals import broken, invalid
from firehose.datastream.sequence import KEY_SPACE
from firehose.http import cbor
from firehose.http.aws_json import ApiError
from firehose.http.codec import Codec, JsonCodec

RECORDS = 500
KEY_CHARACTERS = 256
CALL_BYTES = 10 * 1024 * 1024
_HASH_KEY = re.compile(r"0|[1-9][0-9]{0,38}")


@dataclass(frozen=True, slots=True)
class Put:
    """Records that are to be stored. A request of `came_in_bytes` has no larger record, nor more of them."""

    stream: str
    data: list[bytes]
    keys: list[str | None]
    hashed: list[bytes]  # the keys in UTF-8
    hash_keys: Mapping[int, int]  # of rows that gave one
    single: bool  # of PutRecord
    ordering: str | None
    dry_run: bool
    came_in_bytes: int = field(compare=False)

    def sizes(self) -> list[int]:
        return [len(data) + len(key) for data, key in zip(self.data, self.hashed, strict=True)]


Blob = TypeVar("Blob", str, bytes)  # base64 in JSON, the bytes themselves in CBOR


Form = TypeVar("Form")
Key = Annotated[str, msgspec.Meta(min_length=1, max_length=KEY_CHARACTERS)]


class Entry(Protocol):
    """One record as it stands in a request."""

    data: Any
    partition_key: str | None
    explicit_hash_key: str | None


class Record(msgspec.Struct, Generic[Blob], rename="pascal", gc=False):
    data: Blob
    partition_key: Key | None = None
    explicit_hash_key: str | None = None


class PutRecord(msgspec.Struct, Generic[Blob], rename="pascal"):
    data: Blob
    partition_key: Key | None = None
    explicit_hash_key: str | None = None
    sequence_number_for_ordering: str | None = None
    stream_name: str | None = None
    stream_arn: str | None = msgspec.field(name="StreamARN", default=None)
    dry_run: bool | None = None


class PutRecords(msgspec.Struct, Generic[Blob], rename="pascal"):
    records: list[Record[Blob]]
    stream_name: str | None = None
    stream_arn: str | None = msgspec.field(name="StreamARN", default=None)
    dry_run: bool | None = None


class PutRequests:
    """Reads requests."""

    def __init__(self, streams: DataStreams, account: Account) -> None:
        self._streams = streams
        self._account = account
        self._one = msgspec.json.Decoder(PutRecord[str])
        self._many = msgspec.json.Decoder(PutRecords[str])

    def put_record(self, body: bytes, codec: Codec) -> Put:
        try:
            said = self._one.decode(body) if isinstance(codec, JsonCodec) else _in_cbor(body, PutRecord[bytes])
            if said.sequence_number_for_ordering is None:
                return self._in_order(said, (said,), len(body))
        except (ValueError, RecursionError, ApiError):
            pass  # whoever looks closer says what is wrong
        request = codec.read(body, shapes.request("PutRecord"))
        return self._looked_at(request, [request], len(body), single=True)

    def put_records(self, body: bytes, codec: Codec) -> Put:
        try:
            said = self._many.decode(body) if isinstance(codec, JsonCodec) else _in_cbor(body, PutRecords[bytes])
            return self._in_order(said, said.records, len(body))
        except (ValueError, RecursionError, ApiError):
            pass
        request = codec.read(body, shapes.request("PutRecords"))
        return self._looked_at(request, request["Records"], len(body), single=False)

    def _in_order(self, said: PutRecord[Any] | PutRecords[Any], entries: Sequence[Entry], size_bytes: int) -> Put:
        """Raises ValueError, or `ApiError`, where a closer look is needed."""
        if not 1 <= len(entries) <= RECORDS:
            raise ValueError
        names = {"StreamName": said.stream_name, "StreamARN": said.stream_arn}
        stream = self._account.stream_named(names)
        if stream not in self._streams.named:
            raise ValueError
        keys = [entry.partition_key for entry in entries]
        data = [entry.data for entry in entries]
        if isinstance(data[0], str):
            data = [b64decode(text, None, True) for text in data]
        if size_bytes > CALL_BYTES and max(map(len, data)) > CALL_BYTES:
            raise ValueError
        hash_keys = [entry.explicit_hash_key for entry in entries]
        single = isinstance(said, PutRecord)
        return _put(stream, data, keys, hash_keys, size_bytes, single, dry_run=said.dry_run is True)

    def _looked_at(
        self, request: Mapping[str, Any], entries: list[Mapping[str, Any]], size_bytes: int, single: bool
    ) -> Put:
        """Of a request whose constraints hold."""
        return _put(
            self._account.stream_named(request),
            [entry["Data"] for entry in entries],
            [entry.get("PartitionKey") for entry in entries],
            [entry.get("ExplicitHashKey") for entry in entries],
            size_bytes,
            single,
            request.get("SequenceNumberForOrdering"),
            request.get("DryRun") is True,
        )


def _in_cbor(body: bytes, form: type[Form]) -> Form:
    return msgspec.convert(cbor.loads(body), form, builtin_types=(bytes,))


def _put(
    stream: str,
    data: list[bytes],
    keys: list[str | None],
    hash_keys: list[str | None],
    size_bytes: int,
    single: bool,
    ordering: str | None = None,
    dry_run: bool = False,
) -> Put:
    numbers: dict[int, int] = {}
    if hash_keys.count(None) < len(hash_keys):  # few give any
        numbers = {row: _hash_key(text) for row, text in enumerate(hash_keys) if text is not None}
    hashed = [b"" if key is None else key.encode() for key in keys]
    return Put(stream, data, keys, hashed, numbers, single, ordering, dry_run, size_bytes)


def _hash_key(text: str) -> int:
    if not _HASH_KEY.fullmatch(text):
        raise ValueError(text)
    if (found := int(text)) < KEY_SPACE:
        return found
    raise invalid(
        f"Invalid ExplicitHashKey. ExplicitHashKey must be in the range: [0, 2^128-1]. Specified value was {text}"
    )


def check(put: Put, definition: Definition) -> None:
    """Raises `ApiError` where the records are not for this stream: one without a key, too large, or all together."""
    if None in put.keys and definition.distribution != "AUTO":
        raise _broken("Value null", put, put.keys.index(None), "partitionKey", "not be null")
    limit, largest_key = definition.max_record_kib * 1024, 4 * KEY_CHARACTERS
    if put.came_in_bytes > limit and max(map(len, put.data)) > limit - largest_key:
        large = next((row for row, size in enumerate(put.sizes()) if size > limit), None)
        if large is not None:
            raise _broken("Value", put, large, "data", f"have length less than or equal to {limit}")
    if put.came_in_bytes > CALL_BYTES and not put.single and sum(put.sizes()) > CALL_BYTES:
        raise invalid("Records size exceeds 10 MB limit")


def _broken(value: str, put: Put, row: int, member: str, rule: str) -> ApiError:
    return broken(value, member if put.single else f"records.{row + 1}.member.{member}", rule)
