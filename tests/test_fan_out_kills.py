"""Two folders and a bucket that is away, under kill -9: what the ledger calls delivered is never delivered again."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from oracle import access_log, assert_each_once
from programs import PATIENCE_SECONDS, free_port
from running import NEVER, Started, imbalances, places_told, started, to_folder
from s3_server import S3Server

from destinations.folder import FolderOptions
from firehose.buffer.disk import LocalDisk
from firehose.buffer.ledger import read_book
from firehose.buffer.recovery import segments

LIVES, POSTS, LINES = 4, 6, 40
FOLDERS = ("a", "b")
KEYS = {"access_key_id": "k", "secret_access_key": "s", "addressing_style": "path", "bucket": "lake"}
Inodes = Mapping[str, int]


def streams(root: Path, url: str, **keys: str) -> dict[str, Any]:
    folders = [to_folder(root, name, name=name, prefix="data/") for name in FOLDERS]
    bucket = {"type": "s3", "name": "lake", "endpoint_url": url, "timeout_seconds": 5, **KEYS, **keys}
    return {"app": {"buffering": NEVER, "destinations": [*folders, bucket]}}


def delivered(root: Path) -> Iterator[str]:
    """Names of the folders' objects that the ledger calls delivered: the bucket holds all of their segments."""
    disk = LocalDisk()
    book, _ = read_book(disk, str(root / "data" / "ledger"))
    names = FolderOptions(type="folder", path="x", prefix="data/").names()
    for segment in segments(disk, str(root / "data"), "app", print):
        for folder in book.delivered.get(segment.key, ()):
            yield f"{folder}/{names.data(segment)}"


def inodes(root: Path) -> Inodes:
    """Of every object: one that is written anew has another."""
    files = [file for folder in FOLDERS for file in (root / folder / "data").rglob("*") if file.is_file()]
    return {str(file.relative_to(root)): file.stat().st_ino for file in files}


async def lived(one: Started, lines: list[str], wait_for: int) -> None:
    """Takes the lines in several segments, and is killed once so many objects more are there."""
    before = len(inodes(one.files.root))
    async with one.client() as client:
        for start in range(0, len(lines), LINES):
            answer = await client.post("/ingest/app", content="\n".join(lines[start : start + LINES]).encode())
            assert answer.status_code == 200
            await client.post("/v1/streams/app/flush")
    async with asyncio.timeout(PATIENCE_SECONDS):
        while len(inodes(one.files.root)) < before + wait_for:  # noqa: ASYNC110  # nobody tells of a file
            await asyncio.sleep(0.005)
    one.signal(signal.SIGKILL)
    await one.ended()


async def test_killed_again_and_again(tmp_path: Path) -> None:
    """Every line is in each folder once and was written once where the ledger knew of it; the bucket gets each once."""
    sent = access_log(LIVES * POSTS * LINES)
    known: dict[str, int] = {}
    away = f"http://127.0.0.1:{free_port()}"
    for life in range(LIVES):
        async with started(tmp_path, streams(tmp_path, away)) as one:
            lines = sent[life * POSTS * LINES : (life + 1) * POSTS * LINES]
            await lived(one, lines, wait_for=life * 2)
        now = inodes(tmp_path)
        assert {name: now[name] for name in known} == known
        known |= {name: now[name] for name in delivered(tmp_path)}
    assert known
    with S3Server() as store:
        bucket = store.new_bucket()
        async with started(tmp_path, streams(tmp_path, store.url, bucket=bucket)) as one:
            async with one.client() as client:
                answer = await client.post("/v1/streams/app/flush", params={"wait_seconds": PATIENCE_SECONDS})
                assert answer.json()["delivered"], answer.text
                assert set(imbalances(await places_told(client)).values()) == {0}
        now = inodes(tmp_path)
        assert {name: now[name] for name in known} == known
        for folder in FOLDERS:
            assert_each_once(sent, one.files.records(folder))
        assert_each_once(sent, b"".join(store.objects(bucket).values()).decode().splitlines())
    assert not list((tmp_path / "data" / "buffer").rglob("*.sealed"))
