"""ORC: the keys of its block, and how its files are written.

The keys are those of AWS's OrcSerDe where they mean something without HDFS (firehose.md section 7). pyarrow writes no
key-value metadata into ORC files: which records a file holds is told by its name alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import accumulate
from typing import Annotated, ClassVar, Literal

import pyarrow as pa
from pydantic import Field

from firehose.column_options import ColumnarOptions
from firehose.columnar import FileWriter
from firehose.compression import Written

MIB = 1 << 20
WRITE_BYTES = 4 * MIB
FORMAT_VERSIONS = {"V0_11": "0.11", "V0_12": "0.12"}
Fraction = Annotated[float, Field(ge=0, le=1)]


class OrcOptions(ColumnarOptions):
    """`type: orc`."""

    extension: ClassVar[str] = ".orc"
    group_bytes: ClassVar[int] = WRITE_BYTES

    type: Literal["orc"] = "orc"
    compression: Literal["none", "zlib", "snappy", "zstd", "lz4"] = "snappy"
    stripe_size_mib: Annotated[float, Field(ge=1, le=1024)] = 16  # AWS has 64; as many bytes lie in memory
    row_index_stride: Annotated[int, Field(ge=1000, le=MIB)] = 10000
    padding_tolerance: Fraction = 0.05
    dictionary_key_threshold: Fraction = 0
    bloom_filter_columns: tuple[str, ...] = ()
    bloom_filter_false_positive_probability: Annotated[float, Field(gt=0, lt=1)] = 0.05
    format_version: Literal["V0_11", "V0_12"] = "V0_12"

    def begun(self, sink: Written, first: pa.Table, notes: Mapping[str, str]) -> FileWriter:
        from pyarrow import orc  # with Arrow's file systems, of which none is used

        numbers = dict(zip(first.schema.names, column_numbers(first.schema), strict=True))
        writer: FileWriter = orc.ORCWriter(
            pa.PythonFile(sink, mode="w"),
            file_version=FORMAT_VERSIONS[self.format_version],
            stripe_size=int(self.stripe_size_mib * MIB),
            compression="uncompressed" if self.compression == "none" else self.compression,
            # With the strategy that is the default, lz4 makes nothing smaller.
            compression_strategy="compression" if self.compression == "lz4" else "speed",
            row_index_stride=self.row_index_stride,
            padding_tolerance=self.padding_tolerance,
            dictionary_key_size_threshold=self.dictionary_key_threshold,
            bloom_filter_columns=[numbers[name] for name in self.bloom_filter_columns if name in numbers],
            bloom_filter_fpp=self.bloom_filter_false_positive_probability,
        )
        return writer


def column_numbers(schema: pa.Schema) -> Iterator[int]:
    """ORC counts columns from 1, the ones inside others too."""
    return accumulate((_columns(field.type) for field in list(schema)[:-1]), initial=1)


def _columns(kind: pa.DataType) -> int:
    """How many columns one of this type is."""
    if pa.types.is_map(kind):
        return 1 + _columns(kind.key_type) + _columns(kind.item_type)
    inner = kind.num_fields if pa.types.is_nested(kind) else 0
    return 1 + sum(_columns(kind.field(number).type) for number in range(inner))
