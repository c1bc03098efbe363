"""DescribeDeliveryStream and ListDeliveryStreams: which streams there are, as the Firehose API tells it.

Source: firehose.md sections 2.3 and 2.4. It follows the catalogue and changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from firehose.catalogue import BACKUP, Entry
from firehose.http.aws_json import Operation, choice, integer, read, structure, text
from firehose.http.descriptions import shapes
from firehose.ingest.dialects.firehose_api import STREAM_NAME, TARGET, not_found, stream_type
from firehose.stream_config import StreamConfig

LIST_DEFAULT = 10
DESCRIBE = structure(
    DeliveryStreamName=STREAM_NAME,
    Limit=integer(1, 10_000),
    ExclusiveStartDestinationId=text(1, 100, "[a-zA-Z0-9-]+"),
)
LIST = structure(
    Limit=integer(1, 10_000),
    DeliveryStreamType=choice("DirectPut", "KinesisStreamAsSource", "MSKAsSource", "DatabaseAsSource"),
    ExclusiveStartDeliveryStreamName=text(1, 64, "[a-zA-Z0-9_.-]+"),
)


class Control:
    """`entries` say which streams exist, `streams` how each is defined now. Each call looks at both anew."""

    def __init__(
        self,
        entries: Mapping[str, Entry],
        streams: Mapping[str, StreamConfig],
        *,
        region: str,
        account_id: str,
    ) -> None:
        self._entries = entries
        self._streams = streams
        self._region = region
        self._account_id = account_id

    def operations(self) -> dict[str, Operation]:
        return {
            TARGET + "DescribeDeliveryStream": self.describe,
            TARGET + "ListDeliveryStreams": self.list_names,
        }

    async def describe(self, body: bytes) -> bytes:
        name = read(body, DESCRIBE)["DeliveryStreamName"]
        entry = self._entries.get(name)
        if entry is None:
            raise not_found(name, self._account_id)
        return msgspec.json.encode({"DeliveryStreamDescription": self._description(entry)})

    async def list_names(self, body: bytes) -> bytes:
        request = read(body, LIST)
        kind = request.get("DeliveryStreamType")
        after = request.get("ExclusiveStartDeliveryStreamName", "")
        names = sorted(n for n in self._entries if n > after and kind in (None, self._type(n)))
        limit = request.get("Limit", LIST_DEFAULT)
        answer = {"DeliveryStreamNames": names[:limit], "HasMoreDeliveryStreams": len(names) > limit}
        return msgspec.json.encode(answer)

    def _type(self, name: str) -> str:
        stream = self._streams.get(name)
        return stream_type(stream.source.type if stream else "direct_put")

    def _arn(self, name: str) -> str:
        return f"arn:aws:firehose:{self._region}:{self._account_id}:deliverystream/{name}"

    def _description(self, entry: Entry) -> dict[str, Any]:
        description = {
            "DeliveryStreamName": entry.name,
            "DeliveryStreamARN": self._arn(entry.name),
            "DeliveryStreamStatus": entry.state,
            "DeliveryStreamType": self._type(entry.name),
            "VersionId": str(entry.version),
            "CreateTimestamp": entry.created_ms / 1000,
            "Destinations": list(self._destinations(entry.name)),
            "HasMoreDestinations": False,
        }
        if description["DeliveryStreamType"] == "DirectPut":  # only these can have it on
            description["DeliveryStreamEncryptionConfiguration"] = {"Status": "DISABLED"}
        if description["DeliveryStreamType"] == "KinesisStreamAsSource":
            description["Source"] = {"KinesisStreamSourceDescription": self._source(entry)}
        if entry.updated_ms is not None:
            description["LastUpdateTimestamp"] = entry.updated_ms / 1000
        return description

    def _source(self, entry: Entry) -> dict[str, Any]:
        """The stream it reads. When that began is known to the source alone: the stream's creation stands for it."""
        stream = str(getattr(self._streams[entry.name].source, "stream", ""))
        own = f"arn:aws:kinesis:{self._region}:{self._account_id}:stream/{stream}"
        return {
            "KinesisStreamARN": stream if stream.startswith("arn:") else own,
            "RoleARN": f"arn:aws:iam::{self._account_id}:role/firehose",
            "DeliveryStartTimestamp": entry.created_ms / 1000,
        }

    def _destinations(self, name: str) -> Iterator[dict[str, Any]]:
        """All of them, whatever page was asked for. A stream that has no definition any more has none."""
        stream = self._streams.get(name)
        if stream is None:
            return
        role_arn = f"arn:aws:iam::{self._account_id}:role/firehose"
        for number, name in enumerate((name for name in stream.destinations if name != BACKUP), 1):
            yield {"DestinationId": f"destinationId-{number:012d}", **shapes(stream, name, role_arn)}
