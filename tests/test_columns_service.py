"""JSON in, columns out: what a whole delivery half makes of records, and of those that are none."""

from __future__ import annotations

import json
from base64 import b64decode
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from data_folder import DataFolder
from pyarrow import orc
from virtual_time import passed, run

FORMAT = {"type": "parquet", "schema": {"columns": {"n": "bigint", "word": "string"}}}


def streams(root: Path, format: dict[str, Any] = FORMAT, **more: Any) -> dict[str, dict[str, Any]]:
    destination = {"type": "folder", "path": str(root / "out"), "prefix": "app/", "format": format}
    return {"app": {"destination": destination, "errors": {"type": "folder", "path": str(root / "bad")}, **more}}


def letters(root: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for file in files(root / "bad") for line in file.read_text().splitlines()]


def files(folder: Path, pattern: str = "*") -> Iterator[Path]:
    return (path for path in sorted(folder.rglob(pattern)) if path.is_file())


def test_every_record_is_a_row_or_a_letter(tmp_path: Path) -> None:
    """What converts is in the object, whose metadata leads back to the log; every other record is a letter as it came,
    whatever transforms made of it, with its number in the lane.
    """
    transforms = [{"type": "redact", "fields": {"secret": "mask"}}]

    async def scene() -> None:
        house = DataFolder(tmp_path, **streams(tmp_path, transforms=transforms))
        await house.seal('{"n":1,"word":"a","secret":"x"}', '{"n":"oops","secret":"y"}', '{"n":2}')
        await house.seal('{"n":3}')
        async with house.delivering():
            await passed(1)
        assert house.sealed_files() == []

    run(scene())
    first, second = files(tmp_path / "out", "*.parquet")
    assert pq.read_table(first).to_pylist() == [{"n": 1, "word": "a"}, {"n": 2, "word": None}]
    told = {key.decode(): value.decode() for key, value in pq.read_metadata(second).metadata.items()}
    (lane,) = (tmp_path / "data/buffer/app").iterdir()
    assert json.loads(told["firehose.records"]) == [{"lane": lane.name, "first": 3, "last": 3}]
    (letter,) = letters(tmp_path)
    assert b64decode(letter["rawData"]) == b'{"n":"oops","secret":"y"}\n'
    assert (letter["lastErrorCode"], letter["sequenceNumber"]) == ("DataFormatConversion.MalformedData", "1")


def test_nothing_that_converts_is_no_object(tmp_path: Path) -> None:
    """A segment of which no record converts leaves its letters, no object, and finds its end."""

    async def scene() -> None:
        house = DataFolder(tmp_path, **streams(tmp_path))
        await house.seal("no", "JSON")
        async with house.delivering():
            await passed(1)
        assert house.sealed_files() == []

    run(scene())
    assert list(files(tmp_path / "out")) == []
    assert [b64decode(one["rawData"]) for one in letters(tmp_path)] == [b"no\n", b"JSON\n"]


def test_an_error_output_that_fails_pauses_the_stream(tmp_path: Path) -> None:
    """While the letters of what does not convert cannot be set down nothing has ended, and the stream says why; when
    they can, each record has ended exactly once.
    """
    (tmp_path / "bad").write_text("a file where the folder should be")

    async def scene() -> None:
        house = DataFolder(tmp_path, **streams(tmp_path))
        await house.seal('{"n":1}', "no JSON")
        async with house.delivering() as half:
            await passed(60)
            assert "the error output fails" in json.dumps(half.stats())
            assert len(house.sealed_files()) == 1
            (tmp_path / "bad").unlink()
            await passed(600)
        assert house.sealed_files() == []

    run(scene())
    (file,) = files(tmp_path / "out")
    assert pq.read_table(file).column("n").to_pylist() == [1]
    assert [b64decode(one["rawData"]) for one in letters(tmp_path)] == [b"no JSON\n"]


@pytest.mark.parametrize("kind", ["parquet", "orc"])
def test_a_schema_is_inferred_and_grows(tmp_path: Path, kind: str) -> None:
    """Without a schema the columns are those of the records; a later one's new column is in its file, and its version
    beside the data, also after a restart.
    """

    async def scene() -> None:
        house = DataFolder(tmp_path, **streams(tmp_path, {"type": kind}))
        for records in (['{"n":1}'], ['{"n":2,"word":"b"}']):
            await house.seal(*records)
            async with house.delivering():
                await passed(1)

    run(scene())
    read = {"parquet": pq.read_table, "orc": orc.read_table}[kind]
    found = [read(file).to_pylist() for file in files(tmp_path / "out", f"*.{kind}")]
    assert found == [[{"n": 1, "_rescued": None}], [{"n": 2, "word": "b", "_rescued": None}]]
    documents = [file.name for file in files(tmp_path / "out/app/_schemas")]
    assert documents == ["app-v0001.json", "app-v0002.json"]
