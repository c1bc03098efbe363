"""One stream into several kinds of far side at once, with real input: all of them, and the service, are killed."""

from __future__ import annotations

import asyncio
import csv
import io
import json
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml
from endpoint import Endpoint, listening
from hec_server import TOKEN, Hec
from oracle import assert_each_once
from postgres import Postgres, running
from programs import PATIENCE_SECONDS, Programs, free_port, wait_for
from redshift_copy import Bucket
from redshift_proxy import RedshiftProxy
from search_server import SearchServer
from stores import Store
from warehouse import Warehouse
from whole_service import StartService, WholeService

from firehose.runtime import Runtime

pytestmark = [
    pytest.mark.live,
    pytest.mark.filterwarnings("ignore:ssl.:DeprecationWarning"),  # of the Redshift driver's TLS context
]
EVENTS, POSTED_AT_ONCE = 8000, 500
INDEX = "fan-out"
DESTINATIONS = ("lake", "search", "warehouse")
COLUMNS = {
    '"timestamp"': "timestamp",
    "service": "varchar(32)",
    "span_id": "varchar(16)",
    "status": "int",
    "latency_ms": "float8",
    "path": "varchar(256)",
}
Group = tuple[str, int]  # a service, and a status
Line = str


@pytest.fixture
def cluster(programs: Programs) -> Iterator[Postgres]:
    yield from running(programs)


@pytest.fixture
async def warehouse(cluster: Postgres, new_store: Callable[[], Store]) -> AsyncIterator[Warehouse]:
    """An empty table `log` beside an S3 server of its own, which may be killed."""
    store, threads = new_store(), Runtime().threads("test", 1)
    with RedshiftProxy(cluster.port, Bucket(store.url)) as proxy:
        one = Warehouse(cluster, proxy, store, threads)
        one.query(f"CREATE TABLE log ({', '.join(f'{name} {type}' for name, type in COLUMNS.items())})")
        yield one
        await one.close()
    proxy.bucket.close()
    threads.close()


def sample() -> list[Line]:
    """What `firehose sample` makes."""
    command = [sys.executable, "-m", "firehose.cli", "sample", "--count", str(EVENTS)]
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=PATIENCE_SECONDS)
    return done.stdout.splitlines()


def stream(lake: str, warehouse: Warehouse, search: SearchServer) -> dict[str, Any]:
    """Segments of about 500 events."""
    load = {"table": "log", "columns": list(COLUMNS), "copy_options": "JSON 'auto' TIMEFORMAT 'auto' GZIP"}
    destinations = [
        {"name": "lake", **warehouse.store.destination(lake)},
        {"name": "search", **search.destination(INDEX)},
        {"name": "warehouse", **warehouse.block(**load)},
    ]
    return {"app": {"buffering": {"size_mib": 0.25, "interval_seconds": 1}, "destinations": destinations}}


class Producer:
    """Posts the events in turn, and goes on where it was."""

    def __init__(self, service: WholeService, lines: Sequence[Line]) -> None:
        self._service = service
        self._lines = lines
        self._at = 0

    def post(self, count: int) -> None:
        for _ in range(0, count, POSTED_AT_ONCE):
            some = self._lines[self._at : self._at + POSTED_AT_ONCE]
            answer = self._service.post("/ingest/app", "".join(f"{line}\n" for line in some).encode())
            assert (answer.status_code, answer.json()) == (200, {"accepted": len(some), "rejected": 0})
            self._at += len(some)


def reached(service: WholeService, name: str, records: int) -> None:
    """Waits until so many have been delivered there."""
    wait_for(lambda: service.destination("app", name)["delivered"] >= records, f"{records} in {name}")


def failed(service: WholeService, name: str) -> None:
    """Waits until it is told what goes wrong there."""
    wait_for(lambda: bool(service.destination("app", name)["last_error"]), f"the error of {name}")


def checked(file: Path) -> dict[str, bool]:
    """What `firehose check` says of each destination in this configuration."""
    command = [sys.executable, "-m", "firehose.cli", "check", "-c", str(file), "--json", "--timeout-seconds", "200"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_SECONDS, check=False)
    told = {one["destination"]: one["ok"] for one in json.loads(done.stdout) if one["purpose"] == "data"}
    assert done.returncode == (0 if all(told.values()) else 1)
    return told


def in_lake(service: WholeService) -> Counter[Group]:
    query = "SELECT service, status, count(*) AS n FROM app GROUP BY ALL"
    command = [sys.executable, "-m", "firehose.cli", "query", "-c", str(service.file), "--csv", query]
    said = subprocess.run(command, check=True, capture_output=True, text=True, timeout=PATIENCE_SECONDS).stdout
    return Counter({(row["service"], int(row["status"])): int(row["n"]) for row in csv.DictReader(io.StringIO(said))})


def in_search(search: SearchServer) -> Counter[Group]:
    sources = [{"service": {"terms": {"field": "service.keyword"}}}, {"status": {"terms": {"field": "status"}}}]
    search.client.indices.refresh(index=INDEX)
    groups = {"groups": {"composite": {"size": 1000, "sources": sources}}}
    found = search.client.search(index=INDEX, body={"size": 0, "aggs": groups})["aggregations"]["groups"]["buckets"]
    return Counter({(one["key"]["service"], one["key"]["status"]): one["doc_count"] for one in found})


def in_warehouse(warehouse: Warehouse) -> Counter[Group]:
    rows = warehouse.query("SELECT service, status, count(*) FROM log GROUP BY 1, 2")
    return Counter({(service, int(status)): int(count) for service, status, count in rows})


def span(line: Line) -> str:
    return str(json.loads(line)["span_id"])


def test_killed_in_turn(
    start_service: StartService, search_server: SearchServer, warehouse: Warehouse, cluster: Postgres
) -> None:
    """The three servers, the service and its delivery half are killed under load: each has every event once."""
    lines, lake, store = sample(), warehouse.store.new_bucket(), warehouse.store
    service = start_service(stream(lake, warehouse, search_server))
    assert checked(service.file) == dict.fromkeys(DESTINATIONS, True)
    events = Producer(service, lines)
    events.post(1500)
    for name in DESTINATIONS:
        reached(service, name, 1)

    search_server.program.kill()
    events.post(1500)
    for name in ("lake", "warehouse"):  # which wait for nobody
        reached(service, name, 3000)
    cluster.program.kill()
    events.post(1500)
    reached(service, "lake", 4500)
    store.program.kill()
    events.post(1500)
    for name in DESTINATIONS:
        failed(service, name)
    assert checked(service.file) == dict.fromkeys(DESTINATIONS, False)

    service.kill()
    store.start()
    service.start()
    events.post(1000)
    cluster.start()
    service.kill_delivery()
    search_server.start()
    events.post(1000)
    service.deliver_all("app")

    counted = Counter((one["service"], one["status"]) for one in map(json.loads, lines))
    assert in_lake(service) == counted
    assert in_search(search_server) == counted
    assert in_warehouse(warehouse) == counted
    assert_each_once(lines, store.lines(lake))
    assert_each_once([span(line) for line in lines], (one["span_id"] for one in search_server.documents(INDEX)))
    assert_each_once([span(line) for line in lines], (row[0] for row in warehouse.query("SELECT span_id FROM log")))


async def test_check_reaches_all_six(tmp_path: Path, search_server: SearchServer, warehouse: Warehouse) -> None:
    """One file with a destination of each type: all are found well, and once their servers are gone none but the
    folder.
    """
    streams = stream(warehouse.store.new_bucket(), warehouse, search_server)
    file = tmp_path / "firehose.yaml"
    async with listening(Endpoint()) as endpoint, listening(Hec()) as collector:
        streams["app"]["destinations"] += [
            {"name": "files", "type": "folder", "path": str(tmp_path / "out")},
            {"name": "hook", "type": "http", "url": endpoint.url},
            {"name": "logs", "type": "splunk", "hec_endpoint": collector.url, "hec_token": TOKEN},
        ]
        file.write_text(yaml.safe_dump({"delivery_streams": streams}))
        names = (*DESTINATIONS, "files", "hook", "logs")
        assert await asyncio.to_thread(checked, file) == dict.fromkeys(names, True)
    for one in streams["app"]["destinations"]:
        one |= {key: f"http://127.0.0.1:{free_port()}" for key in ("endpoint", "endpoint_url") if key in one}
        one |= {"port": free_port()} if "port" in one else {}
    file.write_text(yaml.safe_dump({"delivery_streams": streams}))
    assert await asyncio.to_thread(checked, file) == dict.fromkeys(names, False) | {"files": True}
