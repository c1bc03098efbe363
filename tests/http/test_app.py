"""The control plane over whatever can be asked: what each page answers, and to whom."""

from __future__ import annotations

from collections.abc import AsyncIterator

import httpx
import pytest
from orders import STREAM, Told

from firehose.http.app import api
from firehose.http.auth import Keys


@pytest.fixture
def told() -> Told:
    return Told()


@pytest.fixture
async def client(told: Told) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(api(told, Keys([])))
    async with httpx.AsyncClient(transport=transport, base_url="http://x") as client:
        yield client


async def test_ready(client: httpx.AsyncClient, told: Told) -> None:
    """Ready is 200 as long as every check starts with ok, whatever it goes on to say; else 503 with the reasons."""
    told.checks = {"disk": "ok", "delivery": "ok, but it does not run"}
    answer = await client.get("/readyz")
    assert (answer.status_code, answer.json()) == (200, {"status": "ok", "checks": told.checks})
    told.checks = {"disk": "full"}
    answer = await client.get("/readyz")
    assert (answer.status_code, answer.json()) == (503, {"status": "failing", "checks": told.checks})


@pytest.mark.parametrize("path", ["/", "/livez", "/readyz", "/metrics"])
async def test_probes_by_head(client: httpx.AsyncClient, path: str) -> None:
    """Load balancers that probe with HEAD are answered as by GET."""
    assert (await client.head(path)).status_code == 200


async def test_streams(client: httpx.AsyncClient) -> None:
    """A stream is told as it stands, nothing left out."""
    assert (await client.get("/v1/streams")).json() == [STREAM]


async def test_flush(client: httpx.AsyncClient, told: Told) -> None:
    """A flush waits as long as it was asked to, and a wait without end is refused."""
    assert (await client.post("/v1/streams/app/flush")).json() == {"stream": "app", "records": 3, "delivered": None}
    assert (await client.post("/v1/streams/app/flush?wait_seconds=2.5")).json()["delivered"] is True
    assert told.orders == [("app", 0), ("app", 2.5)]
    for wait in ("-1", "3601", "nan", "inf", "x"):
        assert (await client.post(f"/v1/streams/app/flush?wait_seconds={wait}")).status_code == 422
    assert (await client.post("/v1/streams/none/flush")).status_code == 404


async def test_release(client: httpx.AsyncClient) -> None:
    """A held segment is released by name; one that is not held is a 400 that says so."""
    answer = await client.post("/v1/segments/release?segment=app/lane/1")
    assert answer.json() == {"segment": "app/lane/1", "destinations": ["lake"]}
    wrong = await client.post("/v1/segments/release?segment=app/lane/2")
    assert (wrong.status_code, wrong.json()) == (400, {"detail": "that segment is not held"})


async def test_metrics(client: httpx.AsyncClient) -> None:
    """The metrics page has Prometheus' content type."""
    answer = await client.get("/metrics")
    assert (answer.text, answer.headers["content-type"]) == (
        "firehose_up 1\n",
        "text/plain; version=0.0.4; charset=utf-8",
    )


async def test_no_redirect(client: httpx.AsyncClient) -> None:
    """A slash too many is 404: a redirected POST loses its body, or its sender."""
    assert (await client.get("/v1/streams/")).status_code == 404
    assert (await client.post("/v1/streams/app/flush/")).status_code == 404
