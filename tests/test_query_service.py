"""`firehose query` over what a whole service delivered in partitions: nothing missing, doubled, or of somebody else."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import s3_server
from cli.running import failing, good
from running import NEVER, running, to_folder
from s3_server import KEYS, S3Server

COUNTRIES = ("DE", "a/b", "Ö %=", None)
RECORDS: list[dict[str, Any]] = [
    {"id": n, "ts": f"2026-03-0{1 + n % 2}T12:00:00Z", "country": COUNTRIES[n % 4], "status": (200, 404, 500)[n % 3]}
    for n in range(60)
]
LATER = [
    {"id": 60, "ts": "2026-03-03T00:00:00Z", "country": "DE", "status": 200, "more": {"deep": [1.5]}},
    {"id": "sixty-one", "ts": "2026-03-03T00:00:00Z", "country": "DE", "status": 404},
]
BAD = b"no JSON\n"
BY_COLUMN = {"columns": ["day(ts)", "country"]}
BY_QUERY = {"queries": {"land": '.country // "none"', "status": ".status"}}
KEYS_IN_FRONT = "!{partitionKeyFromQuery:land}/status=!{partitionKeyFromQuery:status}/"
PARQUET, LINES = {"type": "parquet"}, {"type": "json_lines"}
STREAMS: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    "by-column": (PARQUET, BY_COLUMN, "by-column/"),
    "by-column.lines": (LINES, BY_COLUMN, "by-column/"),
    "by-query": (PARQUET, BY_QUERY, KEYS_IN_FRONT),
    "by-query.lines": (LINES, BY_QUERY, KEYS_IN_FRONT),
}


@pytest.fixture(scope="module")
def server() -> Iterator[S3Server]:
    yield from s3_server.running()


@dataclass(frozen=True, slots=True)
class Place:
    """One and the same for these streams, their error documents and backups: everything lies in it that may."""

    block: dict[str, Any]
    streams: Sequence[str]

    def config(self) -> dict[str, Any]:
        return {name: self._stream(*STREAMS[name]) for name in self.streams}

    def _stream(self, format: dict[str, Any], partitioning: dict[str, Any], prefix: str) -> dict[str, Any]:
        return {
            "buffering": NEVER,
            "dynamic_partitioning": partitioning,
            "destination": {**self.block, "prefix": prefix, "format": format},
            "backup": {**self.block, "mode": "all", "prefix": "source/status=8/"},
            "errors": {**self.block, "prefix": "bad/status=9/!{firehose:error-output-type}/"},
        }


@pytest.fixture
def folder(tmp_path: Path) -> Place:
    return Place(to_folder(tmp_path), list(STREAMS))


@pytest.fixture(params=["folder", "s3"])
def place(request: pytest.FixtureRequest, folder: Place) -> Place:
    if request.param == "folder":
        return folder
    server: S3Server = request.getfixturevalue("server")
    block = {"type": "s3", "bucket": server.new_bucket(), "endpoint_url": server.url, **KEYS}
    return Place(block, ["by-column", "by-query.lines"])


def lines(records: list[dict[str, Any]]) -> bytes:
    return b"".join(json.dumps(record).encode() + b"\n" for record in records)


async def delivered(root: Path, place: Place, *bodies: bytes) -> str:
    """Takes each body into all streams and sees it delivered; the configuration that was run."""
    async with running(root, place.config()) as one:
        for body in bodies:
            for name in place.streams:
                assert (await one.post(name, body)).status_code == 200
            await asyncio.gather(*map(one.flush, place.streams))
        return str(one.files.config)


def asked(config: str, query: str) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = json.loads(good("query", query, "-c", config, "--json"))
    return rows


def test_partitions_read_back(tmp_path: Path, place: Place) -> None:
    """Of each stream every record is a row, once, with its partition's keys as columns, as the records have them; what
    refused records became, backups and other streams' objects lie in the same place and are no rows.
    """
    config = asyncio.run(delivered(tmp_path, place, lines(RECORDS), lines(RECORDS[:1]), BAD))
    expected = Counter((r["ts"][:10], r["country"], r["status"]) for r in [*RECORDS, RECORDS[0]])
    for name in place.streams:
        day = "cast(ts as date)" if "query" in name else "ts_day"
        query = (
            f'select {day} as day, country, status, count(*) as n, count(distinct id) as ids from "{name}" group by all'
        )
        rows = asked(config, query)
        assert {(row["day"], row["country"], row["status"]): row["n"] for row in rows} == expected, name
        assert sum(row["ids"] for row in rows) == len(RECORDS), name
    assert good("dead-letters", "ls", "-c", config, "--json").count("Non JSON record provided") == len(place.streams)


def test_a_schema_that_drifts(tmp_path: Path, folder: Place) -> None:
    """Objects of before and after a new field and a changed type are one table: Parquet keeps the type, and what does
    not fit is rescued; JSON lines have one that holds both. The versions' documents are no rows.
    """
    config = asyncio.run(delivered(tmp_path, folder, lines(RECORDS), lines(LATER)))
    for name in folder.streams:
        parquet = STREAMS[name][0] == PARQUET
        rescued = "_rescued" if parquet else "null"
        query = f'select count(*) n, max(more.deep[1]) deep, count(id) ids, max({rescued}) rescued from "{name}"'
        (row,) = asked(config, query)
        ids, told = (61, '{"id":"sixty-one"}') if parquet else (62, None)
        assert row == {"n": 62, "deep": 1.5, "ids": ids, "rescued": told}, name


def test_before_the_first_object(tmp_path: Path, folder: Place) -> None:
    """Where there are only error documents yet, it says that there are no objects, and when partitions come."""
    config = asyncio.run(delivered(tmp_path, folder, BAD))
    for name in STREAMS:
        said = failing("query", f'select * from "{name}"', "-c", config)
        assert f"{name} has no objects in" in said
        assert "once a partition has 64 MiB or is 3600 seconds old" in said
