"""What the delivery half writes to an error output is what is read from it."""

from __future__ import annotations

import json
from pathlib import Path

import moody
import pytest
import yaml
from data_folder import DataFolder
from virtual_time import START_MS, passed, run

import destinations
from firehose import config
from firehose.aws import Clients
from firehose.buffer.disk import LocalDisk
from firehose.compression import CODECS
from firehose.delivery.dead_letters import CONVERSION, INTAKE
from firehose.letters import places
from firehose.letters.letter import Letter


@pytest.mark.parametrize("compression", CODECS)
def test_round_trip(tmp_path: Path, compression: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every record comes back byte for byte and in order, with its reason, its times and its stream, however the error
    output is compressed and named.
    """
    monkeypatch.setitem(destinations.TABLE, "moody", moody.TABLE["moody"])
    records = ["one", "", "zwei ä \x00 }{", "x" * 100_000, *map(str, range(3000))]
    errors = {"type": "folder", "path": str(tmp_path / "bad"), "compression": compression, "time_zone": "Europe/Berlin"}
    prefix = "!{firehose:random-string}/!{firehose:error-output-type}/!{timestamp:yyyy-MM-dd}/"
    streams = {"app": {"destination": moody.block(tmp_path), "errors": {**errors, "prefix": prefix}}}

    async def scene() -> None:
        house = DataFolder(tmp_path, **streams)
        await house.seal(*records, refused="Broken: no JSON")
        async with house.delivering():
            await passed(1)

    run(scene())
    configured = config.parse("x.yaml", yaml.safe_dump({"delivery_streams": streams}))
    (place,) = places.of_config(configured, None, LocalDisk(), Clients())
    (item,) = place.items()
    letters = [one for one in place.letters(item.name) if isinstance(one, Letter)]
    assert [one.data for one in letters] == [record.encode() + b"\n" for record in records]
    assert [one.line for one in letters] == list(range(1, len(records) + 1))
    (told,) = {(one.stream, one.error_type, one.code, one.message, one.attempts, one.function) for one in letters}
    assert told == ("app", INTAKE, "Ingest.Broken", "no JSON", 1, None)
    times = {time for one in letters for time in (one.arrived_ms, one.ended_ms)}
    assert all(time is not None and START_MS <= time <= START_MS + 5000 for time in times)


def test_failed_conversions_come_back(tmp_path: Path) -> None:
    """Of a record that does not convert the letter has its reason, its bytes, and what AWS tells of it beside."""
    shape = {"type": "parquet", "schema": {"columns": {"n": "bigint"}}}
    streams = {"app": {"destination": {"type": "folder", "path": str(tmp_path / "out"), "format": shape}}}
    streams["app"]["errors"] = {"type": "folder", "path": str(tmp_path / "bad"), "compression": "gzip"}

    async def scene() -> None:
        house = DataFolder(tmp_path, **streams)
        await house.seal('{"n":1}', "no JSON", '{"n":"oops"}')
        async with house.delivering():
            await passed(1)

    run(scene())
    configured = config.parse("x.yaml", yaml.safe_dump({"delivery_streams": streams}))
    (place,) = places.of_config(configured, None, LocalDisk(), Clients())
    (item,) = place.items()
    assert item.name.endswith(".gz")
    first, second = (one for one in place.letters(item.name) if isinstance(one, Letter))
    assert (first.error_type, first.code, first.data) == (CONVERSION, "DataFormatConversion.ParseError", b"no JSON\n")
    assert (second.code, second.message) == (
        "DataFormatConversion.MalformedData",
        'Data does not match the schema. For input string: "oops"',
    )
    assert json.loads(second.details or "") == {"sequenceNumber": "2", "subSequenceNumber": 0}
    assert (second.attempts, second.arrived_ms is not None, second.ended_ms is not None) == (1, True, True)
