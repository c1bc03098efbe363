"""Batches of JSON becoming files of columns, read back: a schema that tests steer, and what lies in the files."""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from batches import Notes, batch
from pyarrow import orc

from firehose import deserializers
from firehose.columnar import Columnar
from firehose.contracts import Memo
from firehose.deserializers.plain import Plain
from firehose.formats import Anew
from firehose.model import Batch, Rejections
from firehose.orc import OrcOptions
from firehose.parquet import ParquetOptions
from firehose.schemas.source import SchemaVersion
from firehose.table_schema import TableSchema

COLUMNS = {"n": "bigint", "word": "string"}
GOOD = [b'{"n":1,"word":"one"}', b'{"n":2,"word":"two"}', b'{"n":3}']
BAD = b"no JSON"


class Steered:
    """A schema that goes through `versions`, one further each time it has to be widened."""

    def __init__(self, *versions: Mapping[str, str], grows: bool = False, catalog: Mapping[str, str] | None = None):
        self.versions = [SchemaVersion(n, TableSchema.parsed(one)) for n, one in enumerate(versions or (COLUMNS,), 1)]
        self.versions[-1] = replace(self.versions[-1], whole=grows)
        self.grows = grows
        self.catalog_table = catalog
        self.newest = 0
        self.checked = self.closed = 0

    def of(self, batch: Batch, memo: Memo) -> SchemaVersion:
        noted = [json.loads(note)["schema"] for note in memo.read() if "schema" in json.loads(note)]
        return self.versions[(noted[-1] - 1) if noted else self._note(memo)]

    def widened(self, batch: Batch, memo: Memo) -> SchemaVersion:
        """Not `whole` before the last: as if the batch held still more each time."""
        self.newest = min(self.newest + 1, len(self.versions) - 1)
        return self.versions[self._note(memo)]

    def _note(self, memo: Memo) -> int:
        memo.write(json.dumps({"schema": self.newest + 1}))
        return self.newest

    def document(self, version: SchemaVersion) -> bytes | None:
        return json.dumps({"version": version.number}).encode() if self.grows else None

    def check(self) -> None:
        self.checked += 1

    def close(self) -> None:
        self.closed += 1


def parquet(schema: Steered | None = None, **keys: Any) -> Columnar:
    options = ParquetOptions.model_validate({"type": "parquet", "schema": {"columns": COLUMNS}, **keys})
    return Columnar(options, schema or Steered(), plain())


def orc_format(schema: Steered | None = None, **keys: Any) -> Columnar:
    options = OrcOptions.model_validate({"type": "orc", "schema": {"columns": COLUMNS}, **keys})
    return Columnar(options, schema or Steered(), plain())


def plain() -> Plain:
    made = deserializers.made(Plain.Options())
    assert isinstance(made, Plain)
    return made


def written(format: Columnar, records: Iterable[bytes] | Batch, memo: Memo | None = None) -> tuple[bytes, Rejections]:
    """The file, and which rows are not in it."""
    given = records if isinstance(records, Batch) else batch(list(records))
    encoded = format.encoded(given, memo or Notes())
    return b"".join(bytes(chunk) for chunk in encoded.chunks), encoded.refused


def settled(format: Columnar, records: Iterable[bytes] | Batch, memo: Memo) -> tuple[bytes, Rejections]:
    """The same, begun again as often as the schema grows."""
    while True:
        try:
            return written(format, records, memo)
        except Anew:
            continue


def parquet_file(content: bytes) -> pq.ParquetFile:
    return pq.ParquetFile(io.BytesIO(content))


def orc_file(content: bytes) -> orc.ORCFile:
    return orc.ORCFile(io.BytesIO(content))


def events(count: int) -> Iterator[bytes]:
    """Records of about 100 bytes."""
    return (b'{"n":%d,"word":"%s"}' % (n, (b"%08d" % (n * 7919 % 10**8)) * 10) for n in range(count))


def table_of(content: bytes) -> pa.Table:
    return parquet_file(content).read() if content.startswith(b"PAR1") else orc_file(content).read()
