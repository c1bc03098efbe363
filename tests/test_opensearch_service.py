"""OpenSearch behind a whole service: every document once, through kills and splits; letters and backups as AWS's."""

from __future__ import annotations

import asyncio
import json
import signal
from base64 import b64decode
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import small_opensearch
from endpoint import Exchange, listening, says
from programs import PATIENCE_SECONDS
from running import NEVER, imbalances, running, started, to_folder
from small_opensearch import SmallOpenSearch

LINES = b"".join(b'{"n":%d}\n' % number for number in range(500))


@pytest.fixture
async def far() -> AsyncIterator[SmallOpenSearch]:
    async with listening(SmallOpenSearch()) as one:
        assert isinstance(one, SmallOpenSearch)
        yield one


def stream(root: Path, far: SmallOpenSearch, *, transforms: list[Any] | None = None, **keys: Any) -> dict[str, Any]:
    to = {"type": "opensearch", "endpoint": far.url, "index": "app", **keys}
    errors = to_folder(root, "errors", prefix="!{firehose:error-output-type}/")
    return {"app": {"buffering": NEVER, "destination": to, "errors": errors, "transforms": transforms or []}}


async def test_delivered(far: SmallOpenSearch, tmp_path: Path) -> None:
    """What a log agent posts is in the index, once, and the books balance."""
    async with running(tmp_path, stream(tmp_path, far, bulk_records=100)) as one:
        assert (await one.post("app", LINES)).status_code == 200
        await one.flush("app")
        place = (await one.streams())["app"]["destinations"]["opensearch"]
        assert (place["delivered"], place["dead"]) == (500, 0)
        assert set(imbalances(await one.metrics()).values()) == {0.0}
    assert len(far.asked) == 5
    assert [one["n"] for one in far.sources()] == list(range(500))


async def test_records_that_are_taken_apart(far: SmallOpenSearch, tmp_path: Path) -> None:
    """Of a record that holds several documents each survives, under an id of its own, however often it is sent."""
    apart = {"type": "deaggregate", "sub_record_type": "json"}
    far.script = [small_opensearch.lose_reply]
    streams = stream(tmp_path, far, transforms=[apart], retry={"deadline_seconds": 600})
    async with running(tmp_path, streams) as one:
        await one.client.post("/ingest/app", content=b'{"n":0}', headers={"Content-Type": "text/plain"})
        records = [{"Data": "eyJuIjoxfXsibiI6Mn17Im4iOjN9"}, {"Data": "eyJuIjo0fQ=="}]  # three objects, and one
        body = json.dumps({"DeliveryStreamName": "app", "Records": records})
        target = {"X-Amz-Target": "Firehose_20150804.PutRecordBatch", "Content-Type": "application/x-amz-json-1.1"}
        assert (await one.client.post("/", content=body, headers=target)).status_code == 200
        await one.flush("app")
        assert set(imbalances(await one.metrics()).values()) == {0.0}
    assert [one["n"] for one in far.sources()] == [0, 1, 2, 3, 4]
    assert sorted(id[-3:] for _, id in far.documents) == ["0.0", "1.0", "1.1", "1.2", "2.0"]


@pytest.mark.parametrize("document_id", ["record", "none"])
async def test_past_the_deadline(far: SmallOpenSearch, tmp_path: Path, document_id: str) -> None:
    """What is not taken in time is letters as AWS writes them, of the documents that have not arrived alone."""
    far.judge = lambda document: (429, "rejected execution") if document["n"] in (1, 3) else None
    streams = stream(tmp_path, far, retry={"deadline_seconds": 0}, type_name="doc", document_id=document_id)
    async with running(tmp_path, streams) as one:
        await one.post("app", b'{"n":0}\n{"n":1}\n{"n":2}\n{"n":3}\n')
        await one.flush("app")
        assert set(imbalances(await one.metrics()).values()) == {0.0}
        place = (await one.streams())["app"]["destinations"]["opensearch"]
        assert (place["delivered"], place["dead"]) == (2, 2)
        letters = [json.loads(text) for text in one.files.records("errors")]
    assert [b64decode(letter["rawData"]) for letter in letters] == [b'{"n":1}\n', b'{"n":3}\n']
    names = [action["index"] for action in far.actions]
    for letter, name in zip(letters, (names[1], names[3]), strict=True):
        told = {"esDocumentId": name.get("_id", ""), "esIndexName": name["_index"], "esTypeName": "doc"}
        assert {member: letter[member] for member in told} == told
        assert (letter["errorCode"], letter["attemptsMade"]) == ("429", 1)
        assert "rejected execution" in letter["errorMessage"]
        assert set(letter) - set(told) == {
            "rawData", "errorCode", "errorMessage", "attemptsMade", "arrivalTimestamp", "attemptEndingTimestamp",
        }  # fmt: skip
    assert list((tmp_path / "errors/AmazonOpenSearchService-failed").iterdir())


async def test_backup_of_all_documents(far: SmallOpenSearch, tmp_path: Path) -> None:
    """With `backup: {mode: all}` every record is in the backup too, those that the server refused among them."""
    far.judge = lambda document: (400, "mapping") if document["n"] == 1 else None
    streams = stream(tmp_path, far)
    streams["app"]["backup"] = to_folder(tmp_path, "backup", mode="all")
    async with running(tmp_path, streams) as one:
        await one.post("app", b'{"n":0}\n{"n":1}\n')
        await one.flush("app")
        assert one.files.records("backup") == ['{"n":0}', '{"n":1}']
        assert len(one.files.records("errors")) == 1
    assert far.sources() == [{"n": 0}]


async def test_backup_of_failed_documents_that_fails_too(far: SmallOpenSearch, tmp_path: Path) -> None:
    """Where the backup of what failed cannot be written either, nothing is skipped: all is there once it can."""
    far.judge = lambda document: (400, "mapping") if document["n"] == 1 else None
    streams = stream(tmp_path, far)
    del streams["app"]["errors"]
    streams["app"]["backup"] = to_folder(tmp_path, "backup/x", mode="failed")
    (tmp_path / "backup").write_text("a file where a folder should be")
    async with running(tmp_path, streams) as one:
        await one.post("app", b'{"n":0}\n{"n":1}\n')
        await one.client.post("/v1/streams/app/flush", params={"wait_seconds": 1})
        place = (await one.streams())["app"]["destinations"]["opensearch"]
        assert (place["delivered"], place["dead"]) == (0, 0)
        (tmp_path / "backup").unlink()
        await one.flush("app")
        assert [json.loads(text)["errorCode"] for text in one.files.records("backup")] == ["400"]
    assert far.sources() == [{"n": 0}]


async def test_killed_in_the_middle(far: SmallOpenSearch, tmp_path: Path) -> None:
    """Killed between a request and its answer, and started again, the service has each document there once."""
    stored = asyncio.Event()

    async def store_in_silence(at: Exchange) -> None:
        far.store(at)
        stored.set()
        await asyncio.Event().wait()

    far.script = [small_opensearch.take, *[store_in_silence] * 4]
    streams = stream(tmp_path, far, bulk_records=100)
    async with (
        started(tmp_path, streams, drain_seconds=1) as one,
        one.client() as client,
    ):
        await client.post("/ingest/app", content=LINES)
        await client.post("/v1/streams/app/flush")
        await asyncio.wait_for(stored.wait(), PATIENCE_SECONDS)
        one.signal(signal.SIGKILL)
        await one.ended()
    far.script = [says("503 Busy")]
    async with started(tmp_path, streams) as one, one.client() as client:
        answer = await client.post("/v1/streams/app/flush", params={"wait_seconds": PATIENCE_SECONDS})
        assert answer.json()["delivered"], answer.text
    assert [one["n"] for one in far.sources()] == list(range(500))
