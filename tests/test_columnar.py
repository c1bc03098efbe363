"""Files of columns: all that a batch holds is in the file or refused, whatever grows meanwhile, in bounded memory."""

from __future__ import annotations

import gc
import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import columns
import pyarrow as pa
import pytest
from batches import LANE, Notes, batch, segment
from columns import BAD, GOOD, Steered, events, orc_format, parquet, parquet_file, settled, table_of, written
from hypothesis import given
from hypothesis import strategies as st

from firehose.buffer.disk import LocalDisk
from firehose.columnar import Columnar, blocks
from firehose.deserializers.deserializer import Deserializer
from firehose.deserializers.openx import OpenX
from firehose.deserializers.plain import Plain
from firehose.formats import Anew
from firehose.model import ROW_SCHEMA, Batch, Range
from firehose.partitions import FROM_COLUMN, encode
from firehose.set_aside import Scratch
from firehose.table_schema import RESCUED, TableSchema

Kind = Callable[..., Columnar]
KINDS = pytest.mark.parametrize("kind", [parquet, orc_format], ids=["parquet", "orc"])
ROWS = [{"n": 1, "word": "one"}, {"n": 2, "word": "two"}, {"n": 3, "word": None}]
WIDE = {"n": "bigint", "word": "string", "more": "bigint"}


@KINDS
def test_records_become_rows(kind: Kind) -> None:
    """Each record is a row, in order, under the schema's columns; a key that a record lacks is null."""
    content, refused = written(kind(), GOOD)
    assert table_of(content).to_pylist() == ROWS
    assert len(refused) == 0


@KINDS
@given(good=st.lists(st.booleans(), min_size=1, max_size=40), rows_per_slice=st.integers(1, 7))
def test_every_record_is_a_row_or_refused(kind: Kind, good: list[bool], rows_per_slice: int) -> None:
    """What cannot be converted is refused, each for itself; all the rest is in the file."""
    records = [b'{"n":%d}' % n if one else BAD for n, one in enumerate(good)]
    content, refused = written(kind(), batch(records, rows_per_slice=rows_per_slice))
    found = table_of(content).column("n").to_pylist() if content else []
    assert found == [n for n, one in enumerate(good) if one]
    assert refused.table.column("row").to_pylist() == [n for n, one in enumerate(good) if not one]


@KINDS
def test_no_row_no_file(kind: Kind) -> None:
    """Where every record is refused there is not one byte: no empty file confuses a reader."""
    content, refused = written(kind(), [BAD, BAD])
    assert (content, len(refused)) == (b"", 2)


def test_what_is_refused_says_whose_schema_it_is() -> None:
    """The table of a catalogue goes into the letters of its failed records, and into no others."""
    table = {"databaseName": "db", "tableName": "t"}
    _, refused = written(parquet(Steered(catalog=table)), [*GOOD, BAD])
    (extra,) = refused.table.column("extra").to_pylist()
    assert json.loads(extra) == {"dataCatalogTable": table}
    assert written(parquet(), [BAD])[1].table.column("extra").to_pylist() == [None]


EVERY_TYPE = {
    "flag": ("boolean", True),
    "tiny": ("tinyint", 1),
    "whole": ("int", 2),
    "real": ("double", 1.5),
    "money": ("decimal(10,2)", None),
    "day": ("date", date(2026, 3, 1)),
    "at": ("timestamp", datetime(2026, 3, 1, 12, 0, 7, tzinfo=UTC)),
    "tags": ("array<string>", ["a", "b"]),
    "names": ("map<string,bigint>", [("a", 1)]),
    "inner": ("struct<x:bigint,y:array<struct<z:string>>>", {"x": 1, "y": [{"z": "deep"}]}),
}


@KINDS
def test_every_type_can_be_written(kind: Kind) -> None:
    """Nested columns and those of every plain type are in the file as they are in the record."""
    said: dict[str, Any] = {"flag": True, "tiny": 1, "whole": 2, "real": 1.5, "money": None, "day": "2026-03-01"}
    said |= {"at": "2026-03-01T12:00:07Z", "tags": ["a", "b"], "names": {"a": 1}, "inner": EVERY_TYPE["inner"][1]}
    schema = Steered({name: type_ for name, (type_, _) in EVERY_TYPE.items()})
    content, refused = written(kind(schema), [json.dumps(said).encode()])
    assert len(refused) == 0
    (row,) = table_of(content).to_pylist()
    assert row == {name: value for name, (_, value) in EVERY_TYPE.items()}


def test_a_file_says_where_its_records_lie_in_the_log() -> None:
    """Stream, segment, record range and schema version stand in a Parquet file's own metadata."""
    content, _ = written(parquet(), batch(GOOD, first=40))
    metadata = parquet_file(content).metadata.metadata
    told = {key.decode(): value.decode() for key, value in metadata.items() if key.startswith(b"firehose.")}
    assert json.loads(told.pop("firehose.records")) == [{"lane": LANE, "first": 40, "last": 42}]
    segment = f"{LANE}/00000000000000000040"
    assert told == {"firehose.stream": "app", "firehose.segment": segment, "firehose.schema_version": "1"}


def test_a_file_of_several_segments_names_them_all() -> None:
    """Where a batch was gathered from runs of several lanes, each of them is named."""
    ranges = (Range("one", 0, 5), Range("two", 7, 8))
    content, _ = written(parquet(), replace(batch(GOOD), ranges=ranges))
    told = json.loads(parquet_file(content).metadata.metadata[b"firehose.records"])
    assert told == [{"lane": "one", "first": 0, "last": 4}, {"lane": "two", "first": 7, "last": 7}]


ANY_CASE = OpenX()
MAPPED = OpenX(OpenX.Options(column_to_json_key_mappings={"word": "said"}))


@pytest.mark.parametrize(
    ("key", "deserializer", "left"),
    [
        ("n", Plain(), ["word"]),
        ("day", Plain(), ["n", "word"]),
        ("Word", Plain(), ["n", "word"]),
        ("Word", ANY_CASE, ["n"]),
        ("word", MAPPED, ["n", "word"]),
    ],
)
def test_columns_that_the_path_tells_are_left_out(key: str, deserializer: Deserializer, left: list[str]) -> None:
    """A column that stands in an object's folders is not in the file: readers put it back from there. It stays where it
    is read from another key than the folder was made of, which has another value.
    """
    partition = encode([(FROM_COLUMN, key, "x")])
    kind = replace(parquet(), deserializer=deserializer)
    assert table_of(written(kind, batch(GOOD, partition=partition))[0]).schema.names == left


def test_what_is_rescued_is_never_left_out() -> None:
    """A folder of that name tells a field of the records."""
    kind = replace(parquet(), schema=Steered({"n": "bigint"}, grows=True))
    content, _ = written(kind, batch([b'{"n":"x","_rescued":1}'], partition=encode([(FROM_COLUMN, RESCUED, "1")])))
    assert RESCUED in table_of(content).schema.names


def test_a_field_that_is_called_like_a_folder_stays() -> None:
    """What a folder tells of another field leaves the column of its own name in the file."""
    partition = encode([(FROM_COLUMN, "n", "2026-11-22", "day(ts)")])
    assert table_of(written(parquet(), batch(GOOD, partition=partition))[0]).schema.names == ["n", "word"]


def test_a_file_has_a_column_at_least() -> None:
    """Where the path tells all columns the file has them nonetheless: without one it would have no rows."""
    keys = encode([(FROM_COLUMN, "n", "1"), (FROM_COLUMN, "word", "x")])
    assert table_of(written(parquet(), batch(GOOD, partition=keys))[0]).num_rows == 3


def test_a_schema_that_grows_is_noted_and_the_batch_begun_again() -> None:
    """A column that nobody knew makes a wider version, which the whole batch follows then, also after a restart."""
    schema, memo = Steered(columns.COLUMNS, WIDE, grows=True), Notes()
    records = [*GOOD, b'{"n":4,"more":5}']
    with pytest.raises(Anew):
        written(parquet(schema), records, memo)
    content, _ = written(parquet(schema), records, memo)
    found = table_of(content)
    assert found.column("more").to_pylist() == [None, None, None, 5]
    assert found.schema.names == [*WIDE, RESCUED]
    assert [json.loads(note) for note in memo.written] == [{"schema": 1}, {"schema": 2}]
    assert parquet_file(content).metadata.metadata[b"firehose.schema_version"] == b"2"
    restarted = Steered(columns.COLUMNS, WIDE, grows=True)
    assert table_of(written(parquet(restarted), records, memo)[0]) == found


@KINDS
def test_each_version_has_a_document_beside_the_data(kind: Kind) -> None:
    """What is stored beside the data is named for stream and version, and is that of the version that was followed."""
    schema, memo = Steered(columns.COLUMNS, WIDE, grows=True), Notes()
    settled(kind(schema), [b'{"more":5}'], memo)
    companions = kind(schema).encoded(batch([b'{"more":5}']), memo).companions
    assert companions == {"app-v0002.json": b'{"version": 2}'}
    assert kind().encoded(batch(GOOD), Notes()).companions == {}


@KINDS
def test_memory_does_not_grow_with_the_batch(kind: Kind) -> None:
    """However long the batch, what lies in memory at once is the same."""
    format = kind(**({"row_group_mib": 1} if kind is parquet else {"stripe_size_mib": 1}))

    def peak(slices: int) -> int:
        part = batch(list(events(10_000)), rows_per_slice=10_000)
        before, most = pa.total_allocated_bytes(), 0

        def read() -> Iterator[pa.RecordBatch]:
            nonlocal most
            for _ in range(slices):
                yield from part.slices()
                most = max(most, pa.total_allocated_bytes() - before)

        for _ in format.encoded(Batch(segment([b"x"] * 10_000 * slices), read), Notes()).chunks:
            most = max(most, pa.total_allocated_bytes() - before)
        return most

    assert peak(36) < 1.1 * peak(12)


@KINDS
def test_memory_does_not_grow_with_what_is_refused(kind: Kind, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A batch of which nothing can be converted has its rows on the disk, until they are written as letters."""
    monkeypatch.setattr("firehose.set_aside.HELD_BYTES", 1 << 20)
    format = replace(kind(), scratch=Scratch(LocalDisk(), str(tmp_path), "lake"))
    bad = [b"no JSON" + bytes(1000)] * 20_000
    given = batch(bad, rows_per_slice=1000)
    before = pa.total_allocated_bytes()
    conversion = format.encoded(given, Notes())
    assert not list(conversion.chunks)
    assert conversion.refused.table.nbytes > 20 << 20
    gc.collect()  # flaws are exceptions, and know where they were raised
    assert pa.total_allocated_bytes() - before < 4 << 20


def test_bytes_leave_as_row_groups_are_done() -> None:
    """A far side gets the file while the batch is still being read."""
    format = parquet(row_group_mib=1)
    parts = 0
    whole = batch(list(events(100_000)), rows_per_slice=1000)

    def read() -> Iterator[pa.RecordBatch]:
        nonlocal parts
        for rows in whole.slices():
            parts += 1
            yield rows

    seen = [parts for _ in format.encoded(Batch(whole.segment, read), Notes()).chunks]
    assert seen[0] < 60
    assert len(set(seen)) > 2


def test_blocks_hold_each_row_once() -> None:
    """Slices are gathered to what the JSON reader likes best; columns that only some of them have are left out."""
    slices = [*batch(GOOD, rows_per_slice=1).slices()]
    slices[1] = slices[1].append_column("meta", pa.array(["x"], pa.string()))
    (one,) = blocks(iter(slices), 1 << 20)
    assert one.schema == ROW_SCHEMA
    assert one.column("record").to_pylist() == GOOD
    assert [rows.num_rows for rows in blocks(iter(slices), 1)] == [1, 1, 1]


def test_a_slice_as_large_as_a_block_is_not_copied() -> None:
    """What lies together as it was read is one block, in the same memory; only smaller slices are joined."""
    slices = [*batch(GOOD, rows_per_slice=len(GOOD)).slices()]
    size_bytes = slices[0].nbytes
    (one,) = blocks(iter(slices), size_bytes)
    assert one.column("record").buffers()[2].address == slices[0].column("record").buffers()[2].address
    assert [rows.num_rows for rows in blocks(iter(slices * 2), 2 * size_bytes - 1)] == [len(GOOD), len(GOOD)]
    assert [rows.num_rows for rows in blocks(iter(slices * 2), 2 * size_bytes)] == [2 * len(GOOD)]


def test_a_check_asks_the_schema() -> None:
    """What the columns come from is reached before a record needs it."""
    schema = Steered()
    parquet(schema).check()
    assert schema.checked == 1


def test_steered_schemas_are_schemas() -> None:
    """The schema that these tests steer is read as any other."""
    assert Steered(WIDE).versions[0].schema == TableSchema.parsed(WIDE)
