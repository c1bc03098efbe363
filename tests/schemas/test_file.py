"""A schema in a file: what it is shows in its content, and what is wrong is told with its file and place."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyarrow import orc

from firehose.buffer.disk import LocalDisk
from firehose.schemas import file

ARROW = pa.schema([("id", pa.int64()), ("tags", pa.list_(pa.string())), ("at", pa.timestamp("us", "UTC"))])
TYPES = {"id": "bigint", "tags": "array<string>", "at": "timestamp"}
ROWS = pa.table({"id": [1], "tags": [["a"]], "at": [0]}, schema=ARROW)


def read(path: Path, content: str | bytes | None = None) -> dict[str, str]:
    if content is not None:
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    return file.read(LocalDisk(), str(path)).types()


def test_text(tmp_path: Path) -> None:
    """DDL, Avro and JSON Schema are told apart by their content, whatever the file is called."""
    path = tmp_path / "schema.txt"
    assert read(path, "\ufeffCREATE TABLE t (a int)") == {"a": "int"}
    assert read(path, '{"type":"record","name":"R","fields":[{"name":"a","type":"long"}]}') == {"a": "bigint"}
    assert read(path, ' {"properties":{"a":{"type":"string"}}}') == {"a": "string"}


def test_a_version_beside_the_data(tmp_path: Path) -> None:
    """What is kept beside the data of a stream may be another stream's schema."""
    said = {"stream": "app", "version": 2, "columns": {"a": "int", "b": "array<date>"}}
    assert read(tmp_path / "app-v0002.json", json.dumps(said)) == said["columns"]


def test_files_that_have_columns(tmp_path: Path) -> None:
    """A file of Arrow, Parquet or ORC gives its columns, with rows or without."""
    path = tmp_path / "sample"
    pq.write_table(ROWS, path)
    assert read(path) == TYPES
    orc.write_table(ROWS, str(path))
    assert read(path) == TYPES
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, ARROW):
        pass
    assert read(path) == TYPES
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_stream(sink, ARROW) as writer:
        writer.write_table(ROWS)
    assert read(path) == TYPES
    assert read(path, ARROW.serialize().to_pybytes()) == TYPES


def test_no_hive_type(tmp_path: Path) -> None:
    """A column whose Arrow type Hive has no word for is refused by name."""
    path = tmp_path / "sample"
    pq.write_table(pa.table({"a": [1], "t": pa.array([1], pa.time64("us"))}), path)
    with pytest.raises(ValueError, match=r"sample: column 't': there is no Hive type"):
        read(path)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("", "no CREATE TABLE"),
        (b"\x00\xff\x00", "is none of Hive DDL"),
        (b"PAR1 and no more", "cannot be read as Arrow"),
        (b"ARROW1 and no more", "cannot be read as Arrow"),
        (b"ORC and no more", "cannot be read as Arrow"),
        (b"\xff\xff\xff\xff\x08", "cannot be read as Arrow"),
        ('{\n "type": "record",}', "line 2, column"),
        ('{"properties": {"a": {"type": "string"}, "a": {"type": "number"}}}', "'a' occurs twice"),
        ("[" * 100_000, "nested too deeply"),
        ('{"properties": {"": {"type": "string"}}}', "a column has a name"),
        ('{"properties": {"s": {"properties": {"x": {"type": "string"}, "X": {"type": "string"}}}}}', "two fields 'X'"),
        ('{"columns": {"a": "text"}}', "column 'a'"),
        ("CREATE TABLE t (\n a text)", "line 2: column 'a'"),
    ],
)
def test_refused(tmp_path: Path, content: str | bytes, says: str) -> None:
    """What is wrong with a file is told with its name and the place."""
    path = tmp_path / "schema.json"
    with pytest.raises(ValueError) as refused:
        read(path, content)
    assert str(refused.value).startswith(str(path))
    assert says in str(refused.value)


def test_unreadable(tmp_path: Path) -> None:
    """A file that is not there, or is none, is told with its name."""
    for path in (tmp_path / "nowhere.sql", tmp_path):
        with pytest.raises(ValueError, match=f"{path} cannot be read: "):
            read(path)


def test_text_is_bounded(tmp_path: Path) -> None:
    """A file of text that is far too large for a schema is not taken into memory."""
    path = tmp_path / "huge.json"
    with path.open("wb") as huge:
        huge.truncate(file.TEXT_LIMIT_BYTES + 1)
    with pytest.raises(ValueError, match="is larger than"):
        read(path)
