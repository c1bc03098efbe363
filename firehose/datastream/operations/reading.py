"""GetShardIterator and GetRecords: records out of shards, from any position.

Source: data-streams.md section 2.4. What has expired is not shown, whether or not it is still there. A shard that was
closed ends, for a reader who has had all of it, with the shards to go on with, and no iterator: always both or neither.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from firehose.datastream import shapes
from firehose.datastream.arns import Account
from firehose.datastream.contracts import DataStream, DataStreams
from firehose.datastream.encoding import children, encoding
from firehose.datastream.iterators import Iterators, Place
from firehose.datastream.limits import ReadLimits
from firehose.datastream.pages import Pages, Wanted
from firehose.datastream.positions import Start, shard_named, shard_of
from firehose.datastream.refusals import check_dry_run, invalid
from firehose.http.codec import Codec, CodedOperation, JsonCodec
from firehose.http.shared import Pieces
from firehose.runtime import Runtime

MOST_RECORDS = 10_000
MOST_BYTES = 10 * 1024 * 1024
TOKEN_CHARACTERS = 512


class GetRecords(msgspec.Struct, rename="pascal"):
    shard_iterator: str
    limit: int | None = None
    stream_arn: str | None = msgspec.field(name="StreamARN", default=None)
    dry_run: bool | None = None


class Reading:
    """The two operations. `secret` gives the durable key of the iterators."""

    def __init__(
        self,
        streams: DataStreams,
        runtime: Runtime,
        region: str,
        account_id: str,
        *,
        secret: Callable[[], bytes],
        pages: Pages | None = None,
    ) -> None:
        self._streams = streams
        self._runtime = runtime
        self._account = Account(region, account_id)
        self._iterators = Iterators(secret, runtime)
        self._pages = pages or Pages()
        self._limits = ReadLimits(runtime.monotonic)
        self._request = msgspec.json.Decoder(GetRecords)

    def operations(self) -> dict[str, CodedOperation]:
        return {"GetShardIterator": self.get_shard_iterator, "GetRecords": self.get_records}

    async def get_shard_iterator(self, body: bytes, codec: Codec) -> bytes:
        request = codec.read(body, shapes.request("GetShardIterator"))
        name = self._account.stream_named(request)
        number = shard_named(request["ShardId"], name, self._account)
        start = Start(
            request["ShardIteratorType"],
            request.get("StartingSequenceNumber"),
            request.get("Timestamp"),
            "GetShardIterator",
        )
        start.check(self._runtime.now_ms())
        stream = self._stream(name)
        shard, log = shard_of(stream, number, self._account)
        position = start.position(stream, shard, log, self._account)
        if stream.definition.limits == "aws" and not self._limits.iterator((stream.definition.id, number)):
            raise self._account.too_fast(stream.definition.name, shard.id)
        check_dry_run(request.get("DryRun"))
        return codec.write({"ShardIterator": self._iterators.issue(stream.definition, number, position)})

    async def get_records(self, body: bytes, codec: Codec) -> Pieces:
        request = self._read(body, codec)
        place = self._iterators.read(request.shard_iterator)
        stream = self._placed(place, request.stream_arn)
        shard, log = shard_of(stream, place.shard, self._account)
        limited, key = stream.definition.limits == "aws", (stream.definition.id, place.shard)
        if limited and not self._limits.call(key):
            raise self._account.too_fast(stream.definition.name, shard.id)
        check_dry_run(request.dry_run)
        position = max(place.position, log.since(stream.horizon_ms()))
        wanted, form = Wanted(position, request.limit or MOST_RECORDS, MOST_BYTES), encoding(codec)
        page, pieces = await self._pages.find(stream.definition, shard, log, wanted, form)
        if limited:
            self._limits.gave(key, page.size_bytes)
        rest = codec.write(self._rest(stream, place.shard, max(page.next, position), page.waiting_ms))
        return form.answer(pieces, rest)

    def _read(self, body: bytes, codec: Codec) -> GetRecords:
        if isinstance(codec, JsonCodec):
            try:
                said = self._request.decode(body)
                in_order = said.limit is None or 1 <= said.limit <= MOST_RECORDS
                if in_order and 1 <= len(said.shard_iterator) <= TOKEN_CHARACTERS and said.stream_arn is None:
                    return said
            except (ValueError, RecursionError):
                pass  # a closer look says what is wrong
        request = codec.read(body, shapes.request("GetRecords"))
        arn, dry_run = request.get("StreamARN"), request.get("DryRun")
        return GetRecords(request["ShardIterator"], request.get("Limit"), arn, dry_run)

    def _stream(self, name: str) -> DataStream:
        stream = self._streams.named.get(name)
        if stream is None or stream.definition.status not in ("ACTIVE", "UPDATING"):
            raise self._account.no_stream(name)
        return stream

    def _placed(self, place: Place, arn: str | None) -> DataStream:
        """The stream that the iterator reads. One that was made anew under its name is another."""
        if arn is not None and self._account.stream_of(arn) != place.stream:
            raise invalid(f"StreamARN {arn} does not name the stream of the ShardIterator.")
        stream = self._stream(place.stream)
        if not place.within(stream.definition):
            raise self._account.no_stream(place.stream)
        return stream

    def _rest(self, stream: DataStream, number: int, position: int, waiting_ms: int | None) -> dict[str, Any]:
        """What the answer says beside the records, of the shard as it stands after them."""
        now = self._runtime.now_ms()
        shard, log = shard_of(stream, number, self._account)
        if shard.closed_ms is not None and position >= log.tip:
            behind = max(0, now - shard.closed_ms)
            return {"MillisBehindLatest": behind, "ChildShards": children(stream.definition, shard)}
        behind = 0 if waiting_ms is None else max(1, now - waiting_ms)
        token = self._iterators.issue(stream.definition, number, position)
        return {"NextShardIterator": token, "MillisBehindLatest": behind}
