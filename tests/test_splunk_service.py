"""Splunk behind a whole service: what a kill leaves open is not sent twice, and what it never takes is set down."""

from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from endpoint import Exchange, listening
from hec_server import TOKEN, Hec, take, tell_indexed, tells
from programs import PATIENCE_SECONDS
from running import NEVER, imbalances, running, started, to_folder

LINES = "".join(f"{number:06d}\n" for number in range(500))


@pytest.fixture
async def far() -> AsyncIterator[Hec]:
    async with listening(Hec()) as one:
        assert isinstance(one, Hec)
        yield one


def stream(root: Path, far: Hec, **keys: Any) -> dict[str, Any]:
    to = {"type": "splunk", "hec_endpoint": far.url, "hec_token": TOKEN, "ack_poll_seconds": 0.1, **keys}
    errors = to_folder(root, "errors", prefix="!{firehose:error-output-type}/")
    return {"app": {"buffering": NEVER, "destination": to, "errors": errors}}


async def test_delivered(far: Hec, tmp_path: Path) -> None:
    """What a log agent posts is in Splunk, once, and the books balance."""
    async with running(tmp_path, stream(tmp_path, far, request_mib=0.001)) as one:
        assert (await one.post("app", LINES.encode())).status_code == 200
        await one.flush("app")
        place = (await one.streams())["app"]["destinations"]["splunk"]
        assert (place["delivered"], place["dead"]) == (500, 0)
        assert set(imbalances(await one.metrics()).values()) == {0.0}
    assert len(far.indexed) > 1
    assert sorted(b"".join(far.bodies).decode().splitlines(True)) == LINES.splitlines(True)


async def test_past_the_deadline(far: Hec, tmp_path: Path) -> None:
    """What Splunk does not take in time is dead letters as AWS writes them, of the rows that have not arrived alone."""
    far.script = [take, *[tells(9)] * 100]
    async with running(tmp_path, stream(tmp_path, far, retry={"deadline_seconds": 0}, request_mib=0.00001)) as one:
        await one.post("app", b"arrives\nfails\nfails\n")
        await one.flush("app")
        assert set(imbalances(await one.metrics()).values()) == {0.0}
        place = (await one.streams())["app"]["destinations"]["splunk"]
        assert (place["delivered"], place["dead"]) == (1, 2)
        letters = [json.loads(text) for text in one.files.records("errors")]
    assert [letter["errorCode"] for letter in letters] == ["Splunk.IndexerBusy"] * 2
    assert all("Server is busy" in letter["errorMessage"] and TOKEN not in str(letter) for letter in letters)
    assert len({letter["EventId"] for letter in letters}) == 2
    assert all(len(letter["EventId"]) == 58 for letter in letters)
    assert list((tmp_path / "errors/splunk-failed").iterdir())


async def test_killed_while_it_waits(far: Hec, tmp_path: Path) -> None:
    """Killed while Splunk indexes, and started again, the service asks for what it had sent and sends it no more."""
    asked_for = asyncio.Event()

    async def ask(at: Exchange) -> None:
        if far.asked:
            asked_for.set()
        await tell_indexed(at)

    far.index_after = 1e9
    far.ack_script = [ask] * 10_000
    streams = stream(tmp_path, far)
    begun = started(tmp_path, streams, drain_seconds=1)
    async with begun as one, one.client() as client:
        await client.post("/ingest/app", content=LINES)
        await client.post("/v1/streams/app/flush")
        await asyncio.wait_for(asked_for.wait(), PATIENCE_SECONDS)
        one.signal(signal.SIGKILL)
        await one.ended()
    far.index_after = 0
    async with started(tmp_path, streams) as one, one.client() as client:
        answer = await client.post("/v1/streams/app/flush", params={"wait_seconds": PATIENCE_SECONDS})
        assert answer.json()["delivered"], answer.text
    assert far.bodies == [LINES.encode()]
