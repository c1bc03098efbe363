"""Delivery to a real OpenSearch node: killed in the middle, with mappings of its own, rotating, as a data stream."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
import pytest
from batches import Notes, batch
from oracle import access_log, assert_each_once
from programs import wait_for
from search_server import SearchServer
from sites import site
from whole_service import StartService, WholeService

from destinations.opensearch import OpenSearch, OpenSearchOptions
from firehose.contracts import Retry
from firehose.model import Batch
from firehose.runtime import Runtime

pytestmark = pytest.mark.live
Make = Callable[..., OpenSearch]


@pytest.fixture
async def make(search_server: SearchServer) -> AsyncIterator[Make]:
    """Makes destinations over the node."""
    threads, made = Runtime().threads("test", 2), list[OpenSearch]()

    def make(index: str, **options: Any) -> OpenSearch:
        block = search_server.destination(index, **options)
        made.append(OpenSearch(OpenSearchOptions.model_validate(block), site(threads)))
        return made[-1]

    yield make
    for one in made:
        await one.close()
    threads.close()


def stream(destination: dict[str, Any]) -> dict[str, Any]:
    """One that seals a segment about every 300 lines."""
    return {"app": {"buffering": {"size_mib": 0.05, "interval_seconds": 1}, "destination": destination}}


def post(service: WholeService, lines: list[str]) -> None:
    body = "".join(json.dumps({"line": line}) + "\n" for line in lines).encode()
    answer = service.post("/ingest/app", body)
    assert (answer.status_code, answer.json()["accepted"]) == (200, len(lines)), answer.text


def test_killed_while_delivering(start_service: StartService, search_server: SearchServer) -> None:
    """Node, service and delivery half are killed under load and come back: every line is one document."""
    service = start_service(stream(search_server.destination("killed")))
    lines = access_log(12_000)
    for start in range(0, 6000, 1000):
        post(service, lines[start : start + 1000])
    wait_for(lambda: service.metric("firehose_delivered_records_total") > 0, "deliveries to be under way")
    search_server.program.kill()
    for start in range(6000, 12_000, 1000):
        post(service, lines[start : start + 1000])
    wait_for(lambda: "check the key endpoint" in service.last_error("app"), "the failure to be told")
    service.kill()
    search_server.start()
    service.start()
    service.kill_delivery()
    service.deliver_all("app")
    assert service.place("app")["dead"] == 0
    assert search_server.count("killed") == len(lines)
    assert_each_once(lines, (one["line"] for one in search_server.documents("killed")))


@pytest.mark.parametrize("data_stream", [False, True])
async def test_twice_is_once(search_server: SearchServer, make: Make, data_stream: bool) -> None:
    """The same batch delivered twice, by instances that know nothing of each other, is there once."""
    index = f"twice-{data_stream}".lower()
    if data_stream:
        template = {"index_patterns": [index], "data_stream": {}}
        search_server.client.indices.put_index_template(name=index, body=template)
    records = [b'{"@timestamp":"2026-03-01T12:00:00Z","n":%d}' % n for n in range(3000)]
    for _ in range(2):
        destination = make(index, data_stream=data_stream, bulk_records=1000)
        await destination.check()
        assert not len((await destination.deliver(batch(records), Notes())).refused)
        await destination.check()
    assert sorted(one["n"] for one in search_server.documents(index)) == list(range(3000))
    assert data_stream == bool(search_server.indices(f".ds-{index}*"))


async def test_alias(search_server: SearchServer, make: Make) -> None:
    """An alias is written to through the index that it stands for."""
    search_server.client.indices.create(index="behind", body={"aliases": {"before": {}}})
    destination = make("before")
    await destination.check()
    await destination.deliver(batch([b'{"n":1}']), Notes())
    assert search_server.documents("behind") == [{"n": 1}]


async def test_every_kind_of_refusal(search_server: SearchServer, make: Make) -> None:
    """What the node will not take is refused by itself, with the node's own words; everything else is there."""
    settings = {"index.mapping.total_fields.limit": 4}
    mappings = {"properties": {"n": {"type": "long"}}}
    search_server.client.indices.create(index="strict", body={"settings": settings, "mappings": mappings})
    records = [
        b'{"n":0}',
        b'{"n":"many"}',
        b'{"a":1,"b":2,"c":3,"d":4}',
        b'{"n" 1}',
        b'{"n":1}{"n":2}',
        b'{"n":"\xff"}',
        b'{"delete":{"_index":"strict","_id":"1"}}\n{"n":7}',
        b'{\n"n":\n8}',
        b"plain",
        b'{"n":9}',
    ]
    receipt = await make("strict").deliver(batch(records), Notes())
    said = {one["row"]: (one["code"], one["message"]) for one in receipt.refused.table.to_pylist()}
    assert {row: code for row, (code, _) in said.items()} == {
        **dict.fromkeys((1, 2, 3, 4, 5), "400"),
        **dict.fromkeys((6, 8), "OS.MalformedData"),
    }
    assert "failed to parse field [n] of type [long]" in said[1][1]
    assert "Limit of total fields [4] has been exceeded" in said[2][1]
    assert sorted(one["n"] for one in search_server.documents("strict")) == [0, 8, 9]


async def test_what_is_the_clusters_fault(search_server: SearchServer, make: Make) -> None:
    """A closed index, an alias of two, a shard too many: the node says 400, and all arrives once that is mended."""
    client, document = search_server.client, batch([b'{"n":1}'])
    for index in ("closed", "one-of-two", "two-of-two"):
        client.indices.create(index=index, body={"settings": {"number_of_replicas": 0}})
    client.indices.close(index="closed")
    two = [{"add": {"index": index, "alias": "both"}} for index in ("one-of-two", "two-of-two")]
    client.indices.update_aliases(body={"actions": two})
    client.cluster.put_settings(body={"transient": {"cluster.max_shards_per_node": 1}})
    try:
        said = {}
        for index in ("closed", "both", "one-too-many"):
            with pytest.raises(Retry) as told:
                await make(index).deliver(document, Notes())
            said[index] = told.value.reason
    finally:
        client.cluster.put_settings(body={"transient": {"cluster.max_shards_per_node": None}})
    assert all("1 of 1 documents are not taken: 400" in reason for reason in said.values()), said
    client.indices.open(index="closed")
    client.indices.put_alias(index="two-of-two", name="both", body={"is_write_index": True})
    for index in said:
        await make(index).deliver(document, Notes())
        assert search_server.count(index) == 1


async def test_rotation(search_server: SearchServer, make: Make) -> None:
    """Records of one batch go each to the index of its own day, and to the same ones when it is repeated."""
    of = batch([b'{"n":1}', b'{"n":2}', b'{"n":3}'])
    days = [datetime(2026, 2, 28, 23, 59, 59, tzinfo=UTC), datetime(2026, 3, 1, tzinfo=UTC)]
    arrivals = pa.array([round(days[n].timestamp() * 1000) for n in (0, 1, 1)], pa.int64())
    rows = next(of.slices()).set_column(3, "arrival_ms", arrivals)
    turning: Batch = replace(of, read=lambda: iter([rows]))
    for _ in range(2):
        await make("turning", index_rotation="day").deliver(turning, Notes())
    assert search_server.indices("turning*") == ["turning-2026-02-28", "turning-2026-03-01"]
    assert [one["n"] for one in search_server.documents("turning-2026-02-28")] == [1]
    assert sorted(one["n"] for one in search_server.documents("turning*")) == [1, 2, 3]


async def test_no_index_and_none_is_made(search_server: SearchServer, make: Make) -> None:
    """Where the node makes no index by itself, check and delivery say so, and both succeed once there is one."""
    search_server.client.cluster.put_settings(body={"transient": {"action.auto_create_index": "-late*,+*"}})
    try:
        destination = make("late")
        for attempt in (destination.check(), destination.deliver(batch([b'{"n":1}']), Notes())):
            with pytest.raises(Retry, match=re.escape("action.auto_create_index")):
                await attempt
        search_server.client.indices.create(index="late")
        await destination.check()
        await destination.deliver(batch([b'{"n":1}']), Notes())
        assert search_server.documents("late") == [{"n": 1}]
    finally:
        search_server.client.cluster.put_settings(body={"transient": {"action.auto_create_index": None}})


async def test_blocked_index(search_server: SearchServer, make: Make) -> None:
    """An index that takes no writes, as on a full disk, is waited for: none of its documents is refused."""
    block = {"index.blocks.read_only_allow_delete": True}
    search_server.client.indices.create(index="blocked", body={"settings": block})
    destination = make("blocked")
    with pytest.raises(Retry, match="cluster_block_exception"):
        await destination.deliver(batch([b'{"n":1}']), Notes())
    search_server.client.indices.put_settings(index="blocked", body={"index.blocks.read_only_allow_delete": None})
    await destination.deliver(batch([b'{"n":1}']), Notes())
    assert search_server.documents("blocked") == [{"n": 1}]
