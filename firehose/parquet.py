"""Parquet: the keys of its block, and how its files are written.

The keys are those of AWS's ParquetSerDe where they mean something without HDFS (firehose.md section 7), and what else
pyarrow's writer knows that changes what readers or bills see.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self

import pyarrow as pa
import pyarrow.compute as pc
from pydantic import BeforeValidator, Field, model_validator

from firehose.column_options import ColumnarOptions
from firehose.columnar import FileWriter
from firehose.compression import Written

if TYPE_CHECKING:
    import pyarrow.parquet as pq

MIB = 1 << 20
LEVELS: Mapping[str, tuple[int, int, int]] = {"gzip": (1, 9, 1), "zstd": (1, 22, 1)}  # least, most, ours
PAGE_VERSIONS = {"V1": "1.0", "V2": "2.0"}
LOOKED_AT = 8192  # rows, by which columns are chosen for a dictionary


def _one_of(*words: str) -> BeforeValidator:
    """Says in one sentence what may stand there."""

    def checked(given: Any) -> Any:
        named = isinstance(given, list | tuple) and all(isinstance(one, str) for one in given)
        if named or isinstance(given, bool) or given in words:
            return given
        raise ValueError(f"must be {', '.join([*words, 'true', 'false'])} or a list of columns")

    return BeforeValidator(checked)


class ParquetOptions(ColumnarOptions):
    """`type: parquet`."""

    extension: ClassVar[str] = ".parquet"

    type: Literal["parquet"] = "parquet"
    compression: Literal["none", "snappy", "gzip", "zstd", "lz4"] = "snappy"
    compression_level: int | None = None  # of gzip and zstd; 1, since pyarrow's own for gzip is ten times slower
    data_page_version: Literal["V1", "V2"] = "V1"  # AWS's WriterVersion
    row_group_mib: Annotated[float, Field(gt=0, le=1024)] = 16  # in memory: a file has a third of it or less
    row_group_rows: Annotated[int, Field(ge=1, le=64 * MIB)] = MIB
    page_size_kib: Annotated[float, Field(ge=1, le=64 * 1024)] = 1024
    dictionary: Annotated[Literal["auto"] | bool | tuple[str, ...], _one_of("auto")] = "auto"  # or its columns
    statistics: Annotated[bool | tuple[str, ...], _one_of()] = True

    @model_validator(mode="after")
    def _level(self) -> Self:
        if self.compression_level is not None:
            least, most, _ = LEVELS.get(self.compression, (0, 0, 0))
            if not most:
                raise ValueError(f"compression_level is for {' and '.join(LEVELS)}; {self.compression} has no levels")
            if not least <= self.compression_level <= most:
                raise ValueError(f"compression_level of {self.compression} is a number from {least} to {most}")
        return self

    @property
    def group_bytes(self) -> int:
        return int(self.row_group_mib * MIB)

    def begun(self, sink: Written, first: pa.Table, notes: Mapping[str, str]) -> FileWriter:
        import pyarrow.parquet as pq  # with Arrow's file systems: 3 MB that most streams have no use for

        writer = pq.ParquetWriter(pa.PythonFile(sink, mode="w"), first.schema, **self._settings(first))
        writer.add_key_value_metadata(dict(notes))
        return ParquetFile(writer, self.row_group_rows)

    def _settings(self, first: pa.Table) -> dict[str, Any]:
        return {
            "compression": self.compression,
            "compression_level": self.compression_level or LEVELS.get(self.compression, (0, 0, None))[2],
            "data_page_version": PAGE_VERSIONS[self.data_page_version],
            "data_page_size": int(self.page_size_kib * 1024),
            "use_dictionary": repetitive(first) if self.dictionary == "auto" else _listed(self.dictionary),
            "write_statistics": _listed(self.statistics),
        }


class ParquetFile:
    """A file of which each write is a row group, or several where that has more rows than one may have."""

    def __init__(self, writer: pq.ParquetWriter, rows: int) -> None:
        self._writer = writer
        self._rows = rows

    def write(self, table: pa.Table) -> None:
        self._writer.write_table(table, row_group_size=self._rows)

    def close(self) -> None:
        self._writer.close()


def _listed(columns: bool | str | tuple[str, ...]) -> bool | list[str]:
    return columns if isinstance(columns, bool) else list(columns)


def repetitive(table: pa.Table) -> list[str]:
    """The columns whose values repeat, by the first rows: a dictionary of others makes a file larger, and is slow."""
    head = table.slice(0, LOOKED_AT).combine_chunks()
    return [path for name in table.schema.names for path in _repetitive(name, head.column(name).combine_chunks())]


def _repetitive(path: str, values: pa.Array) -> Iterator[str]:
    """By the paths that Parquet gives to what lies inside."""
    if pa.types.is_struct(values.type):
        for number, inner in enumerate(values.flatten()):
            yield from _repetitive(f"{path}.{values.type.field(number).name}", inner)
    elif pa.types.is_map(values.type):
        yield from _repetitive(f"{path}.key_value.key", values.keys)
        yield from _repetitive(f"{path}.key_value.value", values.items)
    elif pa.types.is_list(values.type):
        yield from _repetitive(f"{path}.list.element", values.flatten())
    elif not pa.types.is_boolean(values.type) and 2 * pc.count_distinct(values, mode="all").as_py() <= len(values):
        yield path
