"""Schemas that others write, followed by a whole service: through changes, losses and kills."""

from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import glue_server
import httpx
import pyarrow.parquet as pq
import pytest
from glue_server import GlueServer
from programs import PATIENCE_SECONDS
from running import NEVER, imbalances, places_told, running, started, to_folder
from structlog.testing import capture_logs

NARROW, WIDE = {"id": "bigint"}, {"id": "bigint", "more": "int"}


@pytest.fixture
def glue() -> Iterator[GlueServer]:
    yield from glue_server.running()


def streams(root: Path, schema: object) -> dict[str, Any]:
    made = {"type": "parquet", "schema": schema}
    return {"app": {"buffering": NEVER, "destination": to_folder(root, format=made)}}


def tables(root: Path) -> list[tuple[tuple[str, ...], list[dict[str, Any]]]]:
    """Columns and rows of each object, in order of their records."""
    files = sorted((root / "out").rglob("app-*.parquet"), key=_first)
    read = (pq.ParquetFile(file).read() for file in files)
    return [(tuple(table.column_names), table.to_pylist()) for table in read]


def _first(file: Path) -> int:
    return int(json.loads(pq.read_metadata(file).metadata[b"firehose.records"])[0]["first"])


async def told(client: httpx.AsyncClient, of: Callable[[dict[str, Any]], object]) -> None:
    """Waits until that is told of the stream's destination."""
    while True:
        (stream,) = (await client.get("/v1/streams")).json()
        if any(of(place) for place in stream["destinations"]):  # none, while the delivery half does not answer
            return
        await asyncio.sleep(0.02)


async def flush(client: httpx.AsyncClient, wait_seconds: float = PATIENCE_SECONDS) -> bool:
    answer = await client.post("/v1/streams/app/flush", params={"wait_seconds": wait_seconds})
    return bool(answer.json()["delivered"])


async def test_a_table_that_changes_and_vanishes(tmp_path: Path, glue: GlueServer) -> None:
    """Each object has the columns that the table had as its batch began; while the table is gone the stream waits and
    says so, through a kill -9 too, and loses nothing; a record that does not fit names the table.
    """
    schema = {"glue": glue.keys(refresh_seconds=0.001)}
    glue.add(NARROW)
    async with started(tmp_path, streams(tmp_path, schema)) as one, one.client() as client:
        await client.post("/ingest/app", content=b'{"id":1,"more":2}\n{"id":"x"}')
        assert await flush(client)
        glue.add(WIDE)
        await client.post("/ingest/app", content=b'{"id":3,"more":4}')
        assert await flush(client)
        gone = glue.versions[:]
        glue.versions.clear()
        await client.post("/ingest/app", content=b'{"id":5}')
        assert not await flush(client, 0.01)
        await told(client, lambda place: "Glue table db.t" in place["last_error"])
        one.signal(signal.SIGKILL)
        await one.ended()
    glue.versions.extend(gone)
    async with started(tmp_path, streams(tmp_path, schema)) as two, two.client() as client:
        assert await flush(client)
        assert set(imbalances(await places_told(client)).values()) == {0}
    assert tables(tmp_path) == [
        (("id",), [{"id": 1}]),
        (("id", "more"), [{"id": 3, "more": 4}]),
        (("id", "more"), [{"id": 5, "more": None}]),
    ]
    (letter,) = [file for file in (tmp_path / "data" / "errors").rglob("app-*") if file.is_file()]
    assert json.loads(letter.read_text())["dataCatalogTable"]["tableName"] == "t"


async def test_a_file_that_changes(tmp_path: Path) -> None:
    """A schema's file is taken up at a reload; one that is wrong then changes nothing, and is told with its line."""
    path = tmp_path / "schema.sql"
    path.write_text("CREATE TABLE t (id bigint)")
    said = streams(tmp_path, {"file": str(path)})
    async with running(tmp_path, said) as one:
        await one.post("app", b'{"id":1,"more":2}')
        await one.flush("app")
        path.write_text("CREATE TABLE t (id bigint, more int)")
        await one.post("app", b'{"id":3,"more":4}')
        await one.flush("app")
        await one.reload(said)
        await one.post("app", b'{"id":5,"more":6}')
        await one.flush("app")
        path.write_text("CREATE TABLE t (id bigint,\n more number)")
        with capture_logs() as logs:
            await one.reload(said)
        (problem,) = next(log["problems"] for log in logs if log["event"] == "config.invalid")
        assert "schema.sql: line 2: column 'more': invalid type 'number'" in problem
        await one.post("app", b'{"id":7,"more":8}')
        await one.flush("app")
    wide = [(("id", "more"), [{"id": n, "more": n + 1}]) for n in (5, 7)]
    assert tables(tmp_path) == [(("id",), [{"id": 1}]), (("id",), [{"id": 3}]), *wide]
