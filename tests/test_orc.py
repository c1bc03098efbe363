"""The keys of an ORC block do what they say."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest
from columns import GOOD, Steered, events, orc_file, orc_format, table_of, written
from pydantic import ValidationError

from firehose.orc import OrcOptions, column_numbers
from firehose.table_schema import TableSchema


@pytest.mark.parametrize("said", ["none", "snappy", "zlib", "zstd", "lz4"])
def test_compression(said: str) -> None:
    """Every codec is written and read back, and makes the file smaller."""
    content, _ = written(orc_format(compression=said), events(5000))
    assert orc_file(content).compression == {"none": "UNCOMPRESSED"}.get(said, said.upper())
    assert table_of(content).column("n").to_pylist() == list(range(5000))
    if said != "none":
        assert len(content) < 0.8 * len(written(orc_format(compression="none"), events(5000))[0])


def test_stripes() -> None:
    """A stripe is written out at about its size."""
    keys: dict[str, Any] = {"stripe_size_mib": 1, "compression": "none"}
    assert orc_file(written(orc_format(**keys), events(100_000))[0]).nstripes > 3
    assert orc_file(written(orc_format(), events(1000))[0]).nstripes == 1


def test_settings_are_in_the_file() -> None:
    """Stride and version are what the block says."""
    file = orc_file(written(orc_format(row_index_stride=2000, format_version="V0_11"), GOOD)[0])
    assert (file.row_index_stride, file.file_version) == (2000, "0.11")


def test_dictionaries() -> None:
    """With a threshold, what repeats is written as a dictionary."""
    records = [b'{"n":1,"word":"%s"}' % (b"%d" % (n % 3) * 50) for n in range(20_000)]
    one, other = (
        written(orc_format(compression="none", dictionary_key_threshold=part), records)[0] for part in (0, 0.8)
    )
    assert len(other) < len(one) / 5


def test_bloom_filters() -> None:
    """A column that is named gets a filter; a name that the schema lacks, perhaps until it grows, is passed over."""
    without = written(orc_format(), events(5000))[0]
    with_filter = written(orc_format(bloom_filter_columns=["word", "later"]), events(5000))[0]
    assert b"\x08\x07" not in without or len(with_filter) > len(without) + 1000


def test_columns_are_counted_with_those_inside() -> None:
    """ORC's number of a column counts the ones inside the columns before it."""
    types = {"a": "bigint", "s": "struct<x:bigint,y:array<string>>", "m": "map<string,int>", "z": "string"}
    assert list(column_numbers(TableSchema.parsed(types).arrow)) == [1, 2, 6, 9]
    content, _ = written(orc_format(Steered(types), bloom_filter_columns=["z"]), [b'{"z":"a"}'])
    assert table_of(content).column("z").to_pylist() == ["a"]
    assert list(column_numbers(pa.schema([("only", pa.int64())]))) == [1]


@pytest.mark.parametrize(
    "keys",
    [
        {"stripe_size_mib": 0},
        {"row_index_stride": 999},
        {"padding_tolerance": 1.1},
        {"bloom_filter_false_positive_probability": 0},
        {"compression": "gzip"},
        {"format_version": "V1"},
        {"stripes": 1},
    ],
)
def test_what_is_wrong_is_told(keys: dict[str, Any]) -> None:
    """Values beyond AWS's bounds, and keys that there are not, are refused."""
    with pytest.raises(ValidationError):
        OrcOptions.model_validate({"schema": {"columns": {"n": "bigint"}}, **keys})
