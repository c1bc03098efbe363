"""A shard's records as a delivery stream takes them: packed ones unpacked, each with the place that it came from.

The usual record is neither copied nor looked at one by one: a column tells at a glance whether any may be packed. The
place (`meta`) is for user code, which gets it as `kinesisRecordMetadata`; where a stream has none, it is left out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import msgspec
import pyarrow as pa
import pyarrow.compute as pc

from firehose.datastream.sequence import KEY_SPACE
from firehose.ingest.aggregated import MAGIC, unpacked
from firehose.ingest.sources.shards import Found
from firehose.model import INTAKE_SCHEMA

PLAIN = pa.schema([INTAKE_SCHEMA.field("record"), INTAKE_SCHEMA.field("arrival_ms")])
PLACED = pa.schema([*PLAIN, INTAKE_SCHEMA.field("meta")])


@dataclass(frozen=True, slots=True)
class Rows:
    """Makes rows of one shard's records. `placed`: whether anybody asks where they come from."""

    shard: Found
    stream_arn: str
    placed: bool

    @property
    def schema(self) -> pa.Schema:
        return PLACED if self.placed else PLAIN

    def of_any_key(self) -> Rows:
        """The same where records are dealt to shards whatever their keys (`AUTO`): none is in a wrong one."""
        return replace(self, shard=replace(self.shard, start=0, end=KEY_SPACE - 1))

    def of(self, records: pa.RecordBatch, number: Callable[[int], str]) -> pa.RecordBatch:
        """Of records with `record`, `arrival_ms`, and `meta` for the partition key; `number` says each one's sequence
        number.
        """
        packed = pc.starts_with(records.column("record"), pattern=MAGIC)
        if packed.true_count:
            return self._unpacked(records, number)
        columns = [records.column("record"), records.column("arrival_ms")]
        if self.placed:
            keys = records.column("meta").to_pylist()
            columns.append(pa.array([self._place(key, number(row)) for row, key in enumerate(keys)], pa.string()))
        return pa.RecordBatch.from_arrays(columns, schema=self.schema)

    def _unpacked(self, records: pa.RecordBatch, number: Callable[[int], str]) -> pa.RecordBatch:
        rows = list(self._each(records, number))
        columns = [pa.array([row[index] for row in rows], field.type) for index, field in enumerate(self.schema)]
        return pa.RecordBatch.from_arrays(columns, schema=self.schema)

    def _each(self, records: pa.RecordBatch, number: Callable[[int], str]) -> Iterator[tuple[bytes, int, str | None]]:
        columns = (records.column(name).to_pylist() for name in ("record", "arrival_ms", "meta"))
        for row, (record, arrival, key) in enumerate(zip(*columns, strict=True)):
            inner = unpacked(record)
            if inner is None:
                yield record, arrival, self._place(key, number(row)) if self.placed else None
            elif all(one.belongs(self.shard.start, self.shard.end) for one in inner):
                for place, one in enumerate(inner):
                    said = self._place(one.partition_key, number(row), place) if self.placed else None
                    yield one.data, arrival, said

    def _place(self, partition_key: str | None, sequence_number: str, within: int | None = None) -> str:
        """Where the record has no key that of its place is empty, as none that is given can be."""
        said = {
            "streamArn": self.stream_arn,
            "shardId": self.shard.id,
            "partitionKey": partition_key or "",
            "sequenceNumber": sequence_number,
        }
        if within is not None:
            said["subsequenceNumber"] = within  # type: ignore[assignment]
        return msgspec.json.encode(said).decode()
