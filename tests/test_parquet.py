"""The keys of a Parquet block do what they say."""

from __future__ import annotations

import io
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from columns import GOOD, Steered, events, parquet, parquet_file, table_of, written
from pydantic import ValidationError

from firehose.hive_type import DEPTH_LIMIT
from firehose.parquet import ParquetOptions, repetitive

SCHEMA = {"schema": {"columns": {"n": "bigint"}}}


@pytest.mark.parametrize(
    ("said", "stored"),
    [("none", "UNCOMPRESSED"), ("snappy", "SNAPPY"), ("gzip", "GZIP"), ("zstd", "ZSTD"), ("lz4", "LZ4")],
)
@pytest.mark.parametrize("pages", ["V1", "V2"])
def test_compression(said: str, stored: str, pages: str) -> None:
    """Every codec, with pages of either version, is written and read back."""
    content, _ = written(parquet(compression=said, data_page_version=pages), GOOD)
    assert parquet_file(content).metadata.row_group(0).column(0).compression == stored
    assert table_of(content).column("n").to_pylist() == [1, 2, 3]


@pytest.mark.parametrize(("codec", "high"), [("gzip", 9), ("zstd", 19)])
def test_levels(codec: str, high: int) -> None:
    """A higher level makes a smaller file; left out, it is the fast one."""

    def size(**keys: Any) -> int:
        return len(written(parquet(compression=codec, **keys), events(20_000))[0])

    assert size(compression_level=high) < size(compression_level=1) == size()


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"compression": "snappy", "compression_level": 1}, "compression_level is for gzip and zstd; snappy has no"),
        ({"compression": "gzip", "compression_level": 10}, "compression_level of gzip is a number from 1 to 9"),
        ({"row_group_mib": 0}, "greater than 0"),
        ({"page_size_kib": 0}, "greater than or equal to 1"),
        ({"data_page_version": "V3"}, "Input should be 'V1' or 'V2'"),
        ({"block_size": 1}, "Extra inputs"),
    ],
)
def test_what_is_wrong_is_told(keys: dict[str, Any], message: str) -> None:
    """What no file can be written with is refused with the reason."""
    with pytest.raises(ValidationError, match=message):
        ParquetOptions.model_validate({**SCHEMA, **keys})


def test_row_groups() -> None:
    """A row group has about as many bytes, and at most as many rows, as was asked for."""
    by_bytes = parquet_file(written(parquet(row_group_mib=1), events(100_000))[0]).metadata
    assert 5 <= by_bytes.num_row_groups <= 12
    by_rows = parquet_file(written(parquet(row_group_rows=1000), events(2500))[0]).metadata
    assert [by_rows.row_group(n).num_rows for n in range(by_rows.num_row_groups)] == [1000, 1000, 500]


def test_page_size() -> None:
    """Smaller pages make a file of more pages."""
    small, large = (
        written(parquet(page_size_kib=size, dictionary=False, compression="none"), events(20_000))[0]
        for size in (8, 1024)
    )
    assert len(small) > len(large)


def test_dictionaries() -> None:
    """By default the columns whose values repeat have a dictionary; on demand all, none, or those that are named."""
    records = [b'{"n":%d,"word":"%s"}' % (n, b"ab"[n % 2 : n % 2 + 1]) for n in range(1000)]
    assert with_dictionary(records) == ["word"]
    assert with_dictionary(records, dictionary=True) == ["n", "word"]
    assert with_dictionary(records, dictionary=False) == []
    assert with_dictionary(records, dictionary=["n"]) == ["n"]


def with_dictionary(records: list[bytes], **keys: Any) -> list[str]:
    group = parquet_file(written(parquet(**keys), records)[0]).metadata.row_group(0)
    columns = [group.column(n) for n in range(group.num_columns)]
    return [column.path_in_schema for column in columns if column.has_dictionary_page]


def test_dictionaries_of_what_lies_inside() -> None:
    """Values inside structs, lists and maps are judged, too, by the paths that Parquet has for them."""
    same, all_differ = ["x"] * 100, [str(n) for n in range(100)]
    table = pa.table(
        {
            "s": pa.StructArray.from_arrays([pa.array(same), pa.array(all_differ)], ["same", "differ"]),
            "l": pa.array([[one] for one in same]),
            "m": pa.array([[(key, 1)] for key in all_differ], pa.map_(pa.string(), pa.int64())),
            "b": pa.array([True] * 100),
        }
    ).cast(pa.schema([pa.field("s", pa.struct([("same", pa.string()), ("differ", pa.string())])), *LISTS]))
    paths = repetitive(table)
    sink = io.BytesIO()
    pq.write_table(table, sink, use_dictionary=paths)
    group = parquet_file(sink.getvalue()).metadata.row_group(0)
    found = [group.column(n).path_in_schema for n in range(group.num_columns) if group.column(n).has_dictionary_page]
    assert found == paths == ["s.same", "l.list.element", "m.key_value.value"]


LISTS = [
    pa.field("l", pa.list_(pa.field("element", pa.string()))),
    pa.field("m", pa.map_(pa.string(), pa.int64())),
    pa.field("b", pa.bool_()),
]


def test_statistics() -> None:
    """Statistics are there for readers to skip by; on demand there are none."""
    column = parquet_file(written(parquet(), GOOD)[0]).metadata.row_group(0).column(0)
    assert (column.statistics.min, column.statistics.max) == (1, 3)
    assert parquet_file(written(parquet(statistics=False), GOOD)[0]).metadata.row_group(0).column(0).statistics is None


def test_duckdb_reads_it(tmp_path: Any) -> None:
    """Another engine reads the rows, and the metadata that leads back to the log."""
    path = tmp_path / "a.parquet"
    path.write_bytes(written(parquet(compression="zstd", data_page_version="V2"), GOOD)[0])
    with duckdb.connect() as database:
        assert database.execute("select sum(n), count(word) from read_parquet(?)", [str(path)]).fetchone() == (6, 2)
        said = "select decode(value) from parquet_kv_metadata(?) where decode(key) = 'firehose.stream'"
        assert database.execute(said, [str(path)]).fetchone() == ("app",)


def test_types_as_deep_as_they_may_be() -> None:
    """Readers that bound how deep a file's schema is read the deepest type that there may be."""
    deepest = "array<" * DEPTH_LIMIT + "int" + ">" * DEPTH_LIMIT
    content, _ = written(parquet(Steered({"n": deepest})), [b'{"n":' + b"[" * DEPTH_LIMIT + b"]" * DEPTH_LIMIT + b"}"])
    assert table_of(content).num_rows == 1
